"""What the scikit-learn estimators share: settings, training of members as one batch, predictions in blocks."""

from __future__ import annotations

import copy
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight
from torch import Tensor, nn

from entropic_rl.config import build
from entropic_rl.errors import ConfigError
from entropic_rl.progress import EpochProgress
from entropic_rl.streams import Stream
from entropic_rl.supervised.config import FitConfig
from entropic_rl.supervised.fitting import Extra, Fitting, Table
from entropic_rl.supervised.modules import Modules
from entropic_rl.supervised.networks import Network, Perceptrons
from entropic_rl.supervised.tasks import Task
from entropic_rl.watching import UNWATCHED, Watcher

__all__ = ["EntropicEstimator", "check_weights"]

_ROWS = 4096  # that are predicted together


class EntropicEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What classifiers and regressors share: settings, training, members, and predictions in blocks of rows.

    Attributes:
        watcher: is told of every gradient step of :meth:`fit`; a :class:`~entropic_rl.diagnostics.batch_flow.BatchFlow`
            to see gradients in every layer. No setting: copies by scikit-learn do not have it.
    """

    watcher: Watcher = UNWATCHED

    def __init__(
        self,
        ent_coef: float | str = 0.0,
        readout: str = "raw",
        *,
        net_arch: Sequence[int] = (64,),
        activation: str = "relu",
        batch_norm: bool = False,
        layer_norm: bool = False,
        dropout: float = 0.0,
        optimizer: str = "adam",
        learning_rate: float | str = 1e-3,
        momentum: float = 0.9,
        weight_decay: float = 0.01,
        initialisation: str = "orthogonal",
        n_epochs: int = 100,
        batch_size: int | None = 32,
        l1: float = 0.0,
        l2: float = 0.0,
        max_grad_norm: float | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.15,
        n_epochs_no_change: int = 10,
        tol: float = 1e-4,
        n_members: int = 1,
        mc_samples: int = 0,
        module: nn.Module | Callable[[int, int], nn.Module] | None = None,
        dtype: str = "float32",
        device: str = "cpu",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.ent_coef = ent_coef
        self.readout = readout
        self.net_arch = net_arch
        self.activation = activation
        self.batch_norm = batch_norm
        self.layer_norm = layer_norm
        self.dropout = dropout
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.momentum = momentum
        self.weight_decay, self.initialisation = weight_decay, initialisation
        self.n_epochs = n_epochs
        self.batch_size = batch_size
        self.l1 = l1
        self.l2 = l2
        self.max_grad_norm = max_grad_norm
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_epochs_no_change = n_epochs_no_change
        self.tol = tol
        self.n_members = n_members
        self.mc_samples = mc_samples
        self.module = module
        self.dtype = dtype
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def _config(self) -> FitConfig:
        """The settings of the training, checked."""
        for name, least in (("n_members", 1), ("mc_samples", 0)):
            value = getattr(self, name)
            if not isinstance(value, numbers.Integral) or value < least:
                raise ConfigError(f"{name}: expected a whole number from {least} on, got {value!r}")
        share = self.validation_fraction
        if not isinstance(share, numbers.Real) or not 0.0 < share < 1.0:
            raise ConfigError(f"validation_fraction: expected a number between 0 and 1, got {share!r}")
        given = self.get_params(deep=False)
        names = FitConfig.__dataclass_fields__
        values = {name: value for name, value in given.items() if name in names}
        values["net_arch"] = tuple(np.atleast_1d(np.asarray(self.net_arch)).tolist())
        return build(FitConfig, values)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_network")

    def _begin(
        self,
        config: FitConfig,
        task: Task,
        n_outputs: int,
        extra: Callable[[Network, Sequence[int]], Extra] | None = None,
    ) -> Fitting:
        """Networks as they begin, and what will train them; ``extra`` makes a term of the loss beside the data's."""
        seeds = check_random_state(self.random_state).randint(2**31, size=self.n_members).tolist()
        here: dict[str, Any] = {"device": _device(config.device), "dtype": getattr(torch, config.dtype)}
        network: Network
        if self.module is None:
            network = Perceptrons.of(config, self.n_features_in_, n_outputs, seeds, **here)
        else:
            network = Modules(_maker(self.module, self.n_members), self.n_features_in_, n_outputs, seeds, **here)
        self._sampling_seed = seeds[0]
        fitting = Fitting(network, task, config, seeds, extra=None if extra is None else extra(network, seeds))
        fitting.watcher = self.watcher
        return fitting

    def _train(self, fitting: Fitting, table: Table, rows: Tensor, held_out: Tensor | None) -> None:
        """Fit all members on the same ``rows [n]``, with a bar if asked."""
        expand = (self.n_members, -1)
        with EpochProgress(self._config().n_epochs, type(self).__name__, enabled=bool(self.verbose)) as progress:
            fitting.run(
                table, rows.expand(expand), None if held_out is None else held_out.expand(expand), progress.update
            )
        self._keep(fitting)

    def _keep(self, fitting: Fitting) -> None:
        """Remember what training gave."""
        self._fitting, self._network = fitting, fitting.network.double()
        self.n_epochs_ = fitting.n_epochs.tolist()
        self.ent_coef_ = fitting.ent_coef.tolist()
        self.history_ = {name: torch.stack(values).cpu().numpy() for name, values in fitting.history.items()}

    @staticmethod
    def _table(fitting: Fitting, X: NDArray[Any], target: NDArray[Any], weight: NDArray[Any] | None) -> Table:
        """Rows where the networks are, in their type."""
        values = fitting.network.values
        target_type = torch.int64 if np.issubdtype(target.dtype, np.integer) else values.dtype
        return Table(
            _like(values, X),
            _like(values, target, target_type),
            None if weight is None else _like(values, weight),
        )

    @torch.no_grad()
    def _outputs(self, X: NDArray[Any]) -> Tensor:
        """What every member, or every sample of its dropout, gives, float64, ``[M, N, out]``."""
        return self._answers(_like(self._network.values, X)).cpu()

    def _answers(self, x: Tensor) -> Tensor:
        """The same of a tensor where the networks are, differentiable with respect to it."""
        n_members, n_samples = len(self._network.values), int(self.mc_samples)
        blocks = []
        for block in x.split(_ROWS):
            noise = Stream([self._sampling_seed] * n_members, "mc-dropout", device=x.device) if n_samples else None
            rows = block.expand(n_members, -1, -1)
            blocks.append(torch.cat([self._network(rows, noise=noise) for _ in range(max(n_samples, 1))]))
        return torch.cat(blocks, 1)

    @torch.no_grad()
    def _embeddings(self, X: NDArray[Any]) -> Tensor:
        """What the last layer of the first member sees, float64, ``[N, D']``."""
        n_members = len(self._network.values)
        blocks = _like(self._network.values, X).split(_ROWS)
        return torch.cat([self._network.embed(rows.expand(n_members, -1, -1))[0] for rows in blocks]).cpu()

    def _rows(
        self,
        n_rows: int,
        strata: NDArray[Any] | None,
        weight: NDArray[np.float64] | None = None,
        *,
        hold_out: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Which rows are trained on, and which are held out, if any are to be."""
        everything = np.arange(n_rows)
        if not hold_out:
            return torch.from_numpy(everything), None
        try:
            train, held_out = train_test_split(
                everything,
                test_size=self.validation_fraction,
                stratify=strata,
                random_state=check_random_state(self.random_state).randint(2**31),
            )
        except ValueError as error:
            raise ConfigError(
                f"early_stopping and readout='temperature' hold out {self.validation_fraction:.0%} of the rows, every "
                f"class among them, and {n_rows} rows are too few for it ({error}); give more, or use neither"
            ) from None
        if weight is not None and not (weight[train].any() and weight[held_out].any()):
            raise ConfigError(
                "sample_weight: expected rows that count on both sides, where rows are held out, got a side of weight "
                "0; leave rows of weight 0 out"
            )
        return torch.from_numpy(np.sort(train)), torch.from_numpy(np.sort(held_out))


def _like(values: Tensor, array: NDArray[Any], dtype: torch.dtype | None = None) -> Tensor:
    """An array of any strides, which torch does not take backwards, where ``values`` are."""
    return values.new_tensor(np.ascontiguousarray(array), dtype=dtype or values.dtype)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(f"device: {name} is not available here (torch {torch.__version__}); expected cpu or auto")
    return device


def _maker(module: Any, n_members: int) -> Callable[[int, int], nn.Module]:
    """What makes the module of each member."""
    if not isinstance(module, nn.Module):
        return module if callable(module) else lambda *_: module
    if n_members > 1:
        raise ConfigError(
            f"module: {n_members} members would all start from the same one; give a callable "
            "(n_features, n_outputs) -> Module that makes a new one each time"
        )
    return lambda *_: copy.deepcopy(module)


def check_weights(sample_weight: ArrayLike | None, features: NDArray[Any]) -> NDArray[np.float64]:
    """What each row counts, ``[N]``, >= 0; ones if None.

    Raises:
        ValueError: a weight is negative or no number, or there is none for some row.
        ConfigError: all are zero.
    """
    weight: NDArray[np.float64] = _check_sample_weight(
        sample_weight, features, dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=True
    )
    if not weight.sum() > 0.0:
        raise ConfigError("sample_weight: expected at least one row with a weight above zero, got zeros alone")
    return weight
