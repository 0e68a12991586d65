"""Agents: one file each; their settings, free of torch, in :mod:`entropic_rl.agents.config`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from entropic_rl.user_modules import is_user_agent, load_user_agent

if __name__ != "entropic_rl.agents":
    raise ImportError(f"import entropic_rl.agents, not {__name__}: the bare name belongs to other packages")

if TYPE_CHECKING:
    from entropic_rl.agents.a2c import A2C
    from entropic_rl.agents.config import A2CConfig, DiscreteSACConfig, PPOConfig, SACConfig, SoftQConfig
    from entropic_rl.agents.discrete_sac import DiscreteSAC
    from entropic_rl.agents.ppo import PPO
    from entropic_rl.agents.sac import SAC
    from entropic_rl.agents.soft_q import SoftQ

__all__ = [
    "A2C",
    "PPO",
    "SAC",
    "A2CConfig",
    "DiscreteSAC",
    "DiscreteSACConfig",
    "PPOConfig",
    "SACConfig",
    "SoftQ",
    "SoftQConfig",
    "agent_class",
]

_CLASSES = {"ppo": "PPO", "a2c": "A2C", "sac": "SAC", "discrete-sac": "DiscreteSAC", "soft-q": "SoftQ"}
_HOMES = {
    "A2C": "a2c",
    "PPO": "ppo",
    "SAC": "sac",
    "DiscreteSAC": "discrete_sac",
    "SoftQ": "soft_q",
    "A2CConfig": "config",
    "PPOConfig": "config",
    "SACConfig": "config",
    "DiscreteSACConfig": "config",
    "SoftQConfig": "config",
}


def __getattr__(name: str) -> Any:
    """Load an agent when it is first asked for: importing torch takes seconds."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def agent_class(name: str) -> Any:
    """The agent that is called ``name`` on the command line: one of ours, or a user's own ``MODULE:CLASS``."""
    return load_user_agent(name) if is_user_agent(name) else __getattr__(_CLASSES[name])
