"""Entropy-regularised learning: actor-critic agents, calibration and active learning on one entropic loss core.

Importing this package loads nothing heavy; the submodules are imported where they are used::

    from entropic_rl.entropy import categorical_entropy
    from entropic_rl.losses import entropic_loss
    from entropic_rl.agents import PPO, PPOConfig
"""

__version__ = "0.1.0"
