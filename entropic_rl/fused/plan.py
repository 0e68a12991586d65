"""What an update is, and what it works on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from entropic_rl.fused.compilation import Booleans, Floats, Floats64, Integers, compiled
from entropic_rl.fused.heads import Head, Slopes
from entropic_rl.fused.stepping import Rows, Rule

__all__ = ["METRICS", "TILE", "Data", "Numbers", "Plan", "Scratch", "State", "make_scratch"]

METRICS = (
    "train/loss",
    "train/policy_gradient_loss",
    "train/value_loss",
    "train/entropy",
    "train/bonus",
    "train/approx_kl",
    "train/clip_fraction",
    "train/grad_norm",
)
TILE = 128  # samples that go through the network together: what it keeps of them stays in the cache


class Plan(NamedTuple):
    """What is the same for all runs and updates.

    Attributes:
        layers: ``[L, 8]``, rows of :class:`entropic_rl.fused.layers.Layer`.
        n_units: U, rows that inputs and outputs of all layers take.
        outputs: the first row of the actor's outputs.
        value: the row of the critic's.
        n_outputs: of the actor.
        head: the policy head and the entropy bonus.
        is_gaussian: whether it is one of numbers.
        is_clipped: whether the policy loss is PPO's; else A2C's.
        normalize: whether advantages are normalised per minibatch.
        clip_range_vf: how far values may move; infinite for no limit.
        max_kl: divergence above which a run's updates end.
        rule: the optimizer's.
    """

    layers: Integers
    n_units: int
    outputs: int
    value: int
    n_outputs: int
    head: Head
    is_gaussian: bool
    is_clipped: bool
    normalize: bool
    clip_range_vf: float
    max_kl: float
    rule: Rule


class State(NamedTuple):
    """What is changed.

    Attributes:
        rows: the policies.
        frozen: ``[R]``, runs that are not stepped: read, and set where a gradient is not finite.
        broken_at: ``[R]``, number of the minibatch whose gradient was the first that was not, or -1.
    """

    rows: Rows
    frozen: Booleans
    broken_at: Integers


class Data(NamedTuple):
    """N samples of R runs; ``valid`` and ``mask`` have no entries if all count and all is allowed.

    Attributes:
        obs: ``[R, N, D]``.
        choices: ``[R, N, C]`` taken, int64.
        numbers: ``[R, N, D]`` taken, of a Gaussian head.
        log_prob, value, advantage, target: ``[R, N]``.
        valid: ``[R, N]``.
        mask: ``[R, N, A]``.
        orders: ``[R, n_epochs, N]``, in which samples are taken.
    """

    obs: Floats
    choices: Integers
    numbers: Floats
    log_prob: Floats
    value: Floats
    advantage: Floats
    target: Floats
    valid: Booleans
    mask: Booleans
    orders: Integers


class Numbers(NamedTuple):
    """Of this update, ``[R]`` each.

    Attributes:
        learning_rate, clip_range, vf_coef, max_grad_norm: settings.
        ent_coef: weight of the bonus in the loss.
        in_reward_units: whether it is divided by what advantages were.
        reward_scale: what rewards were divided by.
    """

    learning_rate: Floats
    clip_range: Floats
    vf_coef: Floats
    max_grad_norm: Floats
    ent_coef: Floats
    in_reward_units: Booleans
    reward_scale: Floats


class Scratch(NamedTuple):
    """Room for what is computed on the way.

    Attributes:
        units, slopes, back: as :func:`entropic_rl.fused.layers.forward` and ``backward`` use them, for one tile.
        grads: ``[P]`` of the minibatch.
        head: what the head makes of a tile.
        weight: ``[B]``, of samples in the mean.
        slope: ``[B]``, of the policy loss by log-probabilities.
        found: ``[M]``, metrics of the minibatch.
    """

    units: Floats
    slopes: Floats
    back: Floats
    grads: Floats
    head: Slopes
    weight: Floats64
    slope: Floats64
    found: Floats64


@compiled
def make_scratch(plan: Plan, n_params: int, width: int) -> Scratch:
    """Room for tiles of ``width`` samples."""
    size = plan.n_units * width
    return Scratch(
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(size, np.float32),
        np.empty(n_params, np.float32),
        Slopes(
            np.empty(width, np.float64),
            np.empty(width, np.float64),
            np.empty(width, np.float64),
            np.empty((plan.n_outputs, width), np.float64),
            np.empty((plan.n_outputs, width), np.float64),
            np.empty((plan.n_outputs, width), np.float64),
            np.empty((plan.n_outputs, width), np.float64),
            np.empty(width, np.float64),
            np.empty(width, np.float64),
            np.empty(width, np.float64),
            np.empty(width, np.float64),
            np.empty(width, np.float64),
        ),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
        np.empty(len(METRICS), np.float64),
    )
