"""Settings of a supervised training, the same for estimators and the command line; free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from typing_extensions import Doc

from entropic_rl.config import Coefficient, Count, NonNegative, Positive, PositiveScheduled, settings
from entropic_rl.errors import ConfigError

__all__ = ["PER_RUN", "FitConfig", "common"]

PER_RUN = ("ent_coef", "learning_rate", "momentum", "l1", "l2")
"""Settings in which the runs of a batch may differ."""


def _classifier_coefficient(spec: float | str) -> float | str:
    if isinstance(spec, str) and spec.startswith("auto"):
        raise ValueError(f"expected a number, a schedule or target:NATS; no target is everyone's, got {spec}")
    return spec


@settings
class FitConfig:
    """How networks are fitted: their layers, the entropy term, the optimizer, and what keeps them from overfitting."""

    ent_coef: Annotated[
        Coefficient,
        AfterValidator(_classifier_coefficient),
        Doc(
            "entropy weight, >= 0, nats of loss per nat of entropy; or a schedule such as linear:1:0, or "
            "target:NATS[:START], steered to keep that mean entropy on the training data"
        ),
    ] = 0.0
    net_arch: Annotated[tuple[Count, ...], Doc("hidden layer widths")] = (64,)
    activation: Annotated[
        Literal["tanh", "relu", "leaky_relu", "prelu", "elu", "gelu", "silu", "sigmoid"],
        Doc("between layers; prelu learns its slope below 0"),
    ] = "relu"
    batch_norm: Annotated[bool, Doc("normalise each hidden layer over the minibatch, before its activation")] = False
    layer_norm: Annotated[bool, Doc("normalise each hidden layer over its units, before its activation")] = False
    initialisation: Annotated[
        Literal["orthogonal", "glorot", "he", "uniform", "small", "large", "zeros"],
        Doc("of weights; uniform is that of torch.nn.Linear, small, large and zeros are there to see what goes wrong"),
    ] = "orthogonal"
    dropout: Annotated[float, Field(ge=0, lt=1), Doc("share of hidden units that are dropped in training")] = 0.0
    optimizer: Annotated[
        Literal["adam", "adamw", "rmsprop", "sgd", "lbfgs"],
        Doc("sgd has momentum; lbfgs is one step per epoch, on all rows"),
    ] = "adam"
    learning_rate: Annotated[PositiveScheduled, Doc("step size, > 0, or a schedule such as cosine:0.01:0")] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1), Doc("of sgd")] = 0.9
    weight_decay: Annotated[NonNegative, Doc("of adamw: share of every weight lost per step, times the rate")] = 0.01
    n_epochs: Annotated[Count, Doc("passes over the training data, at most")] = 100
    batch_size: Annotated[Count | None, Doc("rows per minibatch; none = all of them")] = 32
    l1: Annotated[NonNegative, Doc("weight of the sum of |weights|, biases left out")] = 0.0
    l2: Annotated[NonNegative, Doc("weight of half the sum of squared weights, biases left out")] = 0.0
    label_smoothing: Annotated[float, Field(ge=0, le=1), Doc("share of each label that is spread over all")] = 0.0
    max_grad_norm: Annotated[Positive | None, Doc("2-norm at which gradients are clipped; none = never")] = None
    early_stopping: Annotated[
        bool, Doc("stop when the loss of the validation data has not improved, and keep the best weights")
    ] = False
    n_epochs_no_change: Annotated[Count, Doc("epochs without improvement that early stopping waits for")] = 10
    tol: Annotated[NonNegative, Doc("what counts as an improvement to early stopping, nats")] = 1e-4
    dtype: Annotated[Literal["float32", "float64"], Doc("of parameters in training")] = "float32"
    device: Annotated[
        str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$"), Doc("auto, cpu, cuda or cuda:N; auto prefers CUDA")
    ] = "cpu"

    def __post_init__(self) -> None:
        if self.batch_norm and self.batch_size == 1:
            raise ValueError("batch_size: expected at least 2 rows, which batch_norm normalises over, got 1")
        if self.batch_norm and self.layer_norm:
            raise ValueError("layer_norm: expected none beside batch_norm, got both; choose one")
        if self.optimizer == "lbfgs" and self.batch_size is not None:
            raise ValueError(
                f"batch_size: expected none with lbfgs, to which the noise of minibatches is curvature, got "
                f"{self.batch_size}"
            )


def common(configs: Sequence[FitConfig]) -> FitConfig:
    """The settings of a batch: those of its first run, if the others differ in :data:`PER_RUN` alone.

    Raises:
        ConfigError: there are none, or they differ in something else.
    """
    if not configs:
        raise ConfigError("config: expected the settings of at least one run, got none")
    for field in fields(FitConfig):
        values = list(dict.fromkeys(getattr(config, field.name) for config in configs))
        if len(values) > 1 and field.name not in PER_RUN:
            raise ConfigError(
                f"{field.name}: expected one value for all runs of a batch, got {values[0]} and {values[1]}; only "
                f"{', '.join(PER_RUN)} may differ"
            )
    return configs[0]
