"""Actor-critics on the CPU as machine code: all minibatches of a run in one function, and whole rollouts.

Numba, which makes it, is only imported once somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from entropic_rl.errors import ConfigError
from entropic_rl.extras import missing_package

if TYPE_CHECKING:
    from entropic_rl.collector import Collector
    from entropic_rl.fused.collecting import FusedRollout
    from entropic_rl.fused.learner import FusedUpdate
    from entropic_rl.fused.sac_learner import FusedSACStep
    from entropic_rl.policies import ActorCritic
    from entropic_rl.vector import EnvBatch

__all__ = ["fused_evaluation", "fused_rollout", "fused_sac_step", "fused_update"]


def fused_update(*arguments: Any, **settings: Any) -> FusedUpdate:
    """A :class:`~entropic_rl.fused.learner.FusedUpdate`, whose arguments these are.

    Raises:
        ConfigError: Numba is not installed, or there is no such update for this network.
    """
    with _numba():
        from entropic_rl.fused.learner import FusedUpdate
    return FusedUpdate(*arguments, **settings)


def fused_sac_step(*arguments: Any, **settings: Any) -> FusedSACStep:
    """A :class:`~entropic_rl.fused.sac_learner.FusedSACStep`, whose arguments these are.

    Raises:
        ConfigError: Numba is not installed, or there is no such step for this agent.
    """
    with _numba():
        from entropic_rl.fused.sac_learner import FusedSACStep
    return FusedSACStep(*arguments, **settings)


def fused_rollout(collector: Collector, envs: EnvBatch | None) -> FusedRollout | None:
    """Whole rollouts in ``envs`` by machine code, None where there are none; the collector acts by it in any case."""
    from entropic_rl.fused.collecting import FusedActor, fused_rollout
    from entropic_rl.fused.random import draw_words

    collector.actor, collector.stream.generate = FusedActor(collector.policy), draw_words
    return None if envs is None else fused_rollout(collector, envs)


def fused_evaluation(policy: ActorCritic) -> dict[str, Any]:
    """What computes evaluations of a policy that learns by machine code: its outputs, and random words."""
    from entropic_rl.fused.collecting import FusedOutputs
    from entropic_rl.fused.random import draw_words

    return {"outputs": FusedOutputs(policy), "generate": draw_words}


@contextmanager
def _numba() -> Iterator[None]:
    """Where it is imported: says in a line what to install if it is missing."""
    try:
        yield
    except ImportError as error:
        if (package := missing_package(error)) is None:
            raise
        raise ConfigError(f"kernel: fused needs {package}") from None
