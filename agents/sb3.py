"""The bridge for people who train with Stable-Baselines3: entropy coefficients that move, exact entropies, exploration
meters as callbacks of its agents, and policies from there to here and back.

Needs ``pip install "entropic-rl[sb3]"``. See docs/stable-baselines3.md.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("stable_baselines3") is None:
    raise ImportError(
        'entropic_rl.agents.sb3 needs Stable-Baselines3, which is not installed; run: pip install "entropic-rl[sb3]"'
    )

from entropic_rl.sb3.convert import to_sb3
from entropic_rl.sb3.entropy import EntropyCallback, use_exact_entropy
from entropic_rl.sb3.explore import ExplorationCallback
from entropic_rl.sb3.read import from_sb3

__all__ = ["EntropyCallback", "ExplorationCallback", "from_sb3", "to_sb3", "use_exact_entropy"]
