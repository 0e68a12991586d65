"""The update of actor-critics on the CPU as machine code: one function for all minibatches of a run.

Numba, which makes it, is only imported once somebody asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from entropic_rl.errors import ConfigError
from entropic_rl.extras import missing_package

if TYPE_CHECKING:
    from entropic_rl.fused.learner import FusedUpdate

__all__ = ["fused_update"]


def fused_update(*arguments: Any, **settings: Any) -> FusedUpdate:
    """A :class:`~entropic_rl.fused.learner.FusedUpdate`, whose arguments these are.

    Raises:
        ConfigError: Numba is not installed, or there is no such update for this network.
    """
    try:
        from entropic_rl.fused.learner import FusedUpdate
    except ImportError as error:
        if (package := missing_package(error)) is None:
            raise
        raise ConfigError(f"kernel: fused needs {package}") from None
    return FusedUpdate(*arguments, **settings)
