"""What a gradient step of soft actor-critic is, and what it works on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from entropic_rl.fused.compilation import Booleans, Floats, Floats64, Integers, compiled
from entropic_rl.fused.plan import TILE
from entropic_rl.fused.squashed import Squashed, make_squashed
from entropic_rl.fused.stepping import Rows, Rule

__all__ = [
    "METRICS",
    "NETWORKS",
    "N_PHASES",
    "Numbers",
    "Plan",
    "Scratch",
    "State",
    "Transitions",
    "Work",
    "make_scratch",
    "part_width",
]

METRICS = ("train/critic_loss", "train/actor_loss", "train/entropy")
NETWORKS = ("critics", "policy")
N_PHASES = 5  # gradients of the critics, their step, gradients of the actor, its step, targets
_LEAST = 16  # samples of a part, or a processor's vectors are not filled


class Plan(NamedTuple):
    """What is the same for all runs and steps.

    Attributes:
        actor, critic: ``[L, 8]`` each, rows of :class:`entropic_rl.fused.layers.Layer`.
        actor_units, critic_units: rows that inputs and outputs of all their layers take.
        outputs: the first row of the actor's outputs: means, then log standard deviations.
        value: the row of a critic's.
        n_actions: D, numbers of an action.
        n_critics: K.
        width: samples of a part.
        rule: of both optimizers.
    """

    actor: Integers
    critic: Integers
    actor_units: int
    critic_units: int
    outputs: int
    value: int
    n_actions: int
    n_critics: int
    width: int
    rule: Rule


class State(NamedTuple):
    """What is changed.

    Attributes:
        actor: rows of R.
        critic: rows of R K: critic k of run r is row ``r K + k``.
        target: ``[R K, P]``, of the critics, following.
        frozen: ``[R]``, runs that are not stepped: read, and set where a gradient is not finite.
    """

    actor: Rows
    critic: Rows
    target: Floats
    frozen: Booleans


class Transitions(NamedTuple):
    """B of each of R runs; ``valid`` has no entries if all count.

    Attributes:
        obs, next_obs: ``[R, B, O]``.
        action: ``[R, B, D]``.
        reward, discount: ``[R, B]``.
        terminated, valid: ``[R, B]``.
        noise: ``[R, 2, B, D]``, of the fresh actions at ``obs`` and of those at ``next_obs``.
    """

    obs: Floats
    action: Floats
    reward: Floats
    next_obs: Floats
    terminated: Booleans
    discount: Floats
    valid: Booleans
    noise: Floats


class Numbers(NamedTuple):
    """Of this step, ``[R]`` each.

    Attributes:
        learning_rate, tau: settings.
        actor_coef, critic_coef: weight of the entropy in the actor's loss, and in values.
    """

    learning_rate: Floats
    tau: Floats
    actor_coef: Floats
    critic_coef: Floats


class Work(NamedTuple):
    """What the N parts of each run's batch give.

    Attributes:
        actor: ``[R, N, P]`` gradients.
        critic: ``[R, K, N, P]``.
        totals: ``[R, K, N]``, their sums.
        metrics: ``[R, N, M]``, whose sums over parts are means over the batch.
        broken: ``[R]``, -1, or index into ``NETWORKS`` of what froze the run in this step.
        claimed, done: ``[N_PHASES]``, pieces of work that somebody has begun with, and ended.
    """

    actor: Floats
    critic: Floats
    totals: Floats64
    metrics: Floats64
    broken: Integers
    claimed: Integers
    done: Integers


class Scratch(NamedTuple):
    """Room for what is computed on the way, by a part.

    Attributes:
        actor_units, actor_slopes: as :func:`entropic_rl.fused.layers.forward` uses them.
        critic_units, critic_slopes: the same, ``[K, ...]`` slopes of all critics.
        back: of either network.
        fresh: actions drawn from the policy.
        value: ``[K, B]``, of fresh actions.
        lowest: ``[B]`` of them.
        goal: ``[B]``, what critics are to say.
        weight: ``[B]``, of samples in the mean.
        by_action: ``[D, B]``, slopes of the actor's loss.
    """

    actor_units: Floats
    actor_slopes: Floats
    critic_units: Floats
    critic_slopes: Floats
    back: Floats
    fresh: Squashed
    value: Floats
    lowest: Floats64
    goal: Floats64
    weight: Floats64
    by_action: Floats64


def part_width(batch_size: int) -> int:
    """Samples of the parts that a batch is divided into, whatever the number of threads: a run's bits depend on it."""
    n_parts = max(2, -(-batch_size // TILE))
    return -(-batch_size // (n_parts * _LEAST)) * _LEAST


@compiled
def make_scratch(plan: Plan, width: int) -> Scratch:
    """Room for ``width`` samples."""
    n_units = max(plan.actor_units, plan.critic_units)
    return Scratch(
        np.empty((plan.actor_units, width), np.float32),
        np.empty((plan.actor_units, width), np.float32),
        np.empty((plan.critic_units, width), np.float32),
        np.empty((plan.n_critics, plan.critic_units, width), np.float32),
        np.empty((n_units, width), np.float32),
        make_squashed(plan.n_actions, width),
        np.empty((plan.n_critics, width), np.float32),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
        np.empty(width, np.float64),
        np.empty((plan.n_actions, width), np.float64),
    )
