"""Published hyper-parameters per agent and environment: the defaults for these ids.

Source: RL Baselines3 Zoo's tuned settings (2026), https://github.com/DLR-RM/rl-baselines3-zoo, in our names. Where the
Zoo relies on state-dependent exploration (gSDE), which is not implemented here, the settings are our own and a comment
says so; ``docs/benchmarks.md`` has the scores.
"""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS", "preset"]

_NORMALIZED = {"normalize_obs": True, "normalize_reward": True}

# For the toolkit's own small environments; docs/benchmarks.md shows what coefficients do with it.
_SMALL = {"n_envs": 8, "n_steps": 64, "batch_size": 512, "n_epochs": 4, "learning_rate": 1e-3}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo": {
        "CartPole-v1": {
            "n_envs": 8,
            "total_timesteps": 100_000,
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "learning_rate": "linear:0.001:0",
            "clip_range": "linear:0.2:0",
        },
        "Acrobot-v1": {
            **_NORMALIZED,
            "n_envs": 16,
            "total_timesteps": 1_000_000,
            "n_steps": 256,
            "n_epochs": 4,
            "gamma": 0.99,
            "gae_lambda": 0.94,
        },
        "MountainCar-v0": {
            **_NORMALIZED,
            "n_envs": 16,
            "total_timesteps": 1_000_000,
            "n_steps": 16,
            "n_epochs": 4,
            "gamma": 0.99,
            "gae_lambda": 0.98,
        },
        # Ours: the Zoo's (1 env, n_steps 8, gSDE) lean on state-dependent exploration. A standard deviation of e
        # half-ranges makes the first policies push hard either way, and their random walk reaches the flag.
        "MountainCarContinuous-v0": {
            **_NORMALIZED,
            "n_envs": 16,
            "total_timesteps": 100_000,
            "n_steps": 256,
            "batch_size": 256,
            "gamma": 0.999,
            "log_std_init": 1.0,
        },
        # The Zoo's without gSDE, for twice as long.
        "Pendulum-v1": {
            "n_envs": 4,
            "total_timesteps": 200_000,
            "n_steps": 1024,
            "n_epochs": 10,
            "gamma": 0.9,
            "gae_lambda": 0.95,
            "learning_rate": 1e-3,
        },
        "LunarLander-v3": {
            "n_envs": 16,
            "total_timesteps": 1_000_000,
            "n_steps": 1024,
            "batch_size": 64,
            "n_epochs": 4,
            "gamma": 0.999,
            "gae_lambda": 0.98,
            "ent_coef": 0.01,
        },
        "BipedalWalker-v3": {
            **_NORMALIZED,
            "n_envs": 32,
            "total_timesteps": 5_000_000,
            "n_steps": 2048,
            "batch_size": 64,
            "n_epochs": 10,
            "gamma": 0.999,
            "gae_lambda": 0.95,
            "clip_range": 0.18,
        },
        "entropic_rl/Bandit-v0": {**_SMALL, "total_timesteps": 20_000},
        "entropic_rl/Chain-v0": {**_SMALL, "total_timesteps": 60_000},
        "entropic_rl/RiverSwim-v0": {**_SMALL, "total_timesteps": 60_000},
        "entropic_rl/DeepSea-v0": {**_SMALL, "n_steps": 40, "batch_size": 320, "total_timesteps": 100_000},
        "entropic_rl/FourRooms-v0": {**_SMALL, "total_timesteps": 150_000},
        "entropic_rl/MountainCarSparse-v0": {**_SMALL, "total_timesteps": 300_000},
        "entropic_rl/CartPoleSwingUp-v0": {**_SMALL, "total_timesteps": 300_000},
        "entropic_rl/PointMaze-v0": {**_SMALL, "total_timesteps": 150_000},
        # The Zoo's for CartPoleNoVel-v1, with a GRU: one picture of a pole does not tell where it falls to.
        "entropic_rl/CartPolePositions-v1": {
            "n_envs": 8,
            "total_timesteps": 100_000,
            "n_steps": 32,
            "batch_size": 256,
            "n_epochs": 20,
            "gamma": 0.98,
            "gae_lambda": 0.8,
            "learning_rate": "linear:0.001:0",
            "clip_range": "linear:0.2:0",
            "normalize_obs": True,
            "recurrent": "gru",
            "sequence_length": 32,
        },
        "entropic_rl/Catch-v0": {
            "n_envs": 8,
            "total_timesteps": 100_000,
            "frame_stack": 2,
            "n_steps": 64,
            "batch_size": 256,
            "n_epochs": 4,
            "gamma": 0.95,
            "learning_rate": 5e-4,
            "ent_coef": 0.03,
        },
    },
    "a2c": {
        "CartPole-v1": {"n_envs": 8, "total_timesteps": 500_000},
        "Acrobot-v1": {**_NORMALIZED, "n_envs": 16, "total_timesteps": 500_000},
        "MountainCar-v0": {**_NORMALIZED, "n_envs": 16, "total_timesteps": 1_000_000},
        # The Zoo's without gSDE.
        "Pendulum-v1": {
            **_NORMALIZED,
            "n_envs": 8,
            "total_timesteps": 1_000_000,
            "n_steps": 8,
            "gamma": 0.9,
            "gae_lambda": 0.9,
            "vf_coef": 0.4,
            "learning_rate": "linear:0.0007:0",
        },
        "LunarLander-v3": {
            "n_envs": 8,
            "total_timesteps": 200_000,
            "n_steps": 5,
            "gamma": 0.995,
            "learning_rate": "linear:0.00083:0",
            "ent_coef": 1e-5,
        },
    },
    "sac": {
        # Ours: the Zoo's lean on state-dependent exploration. Held pushes reach the flag before learning begins.
        "MountainCarContinuous-v0": {
            "total_timesteps": 50_000,
            "buffer_size": 50_000,
            "batch_size": 512,
            "learning_starts": 5_000,
            "warmup_hold": 20,
            "ent_coef": "auto:0.1",
            "train_freq": 32,
            "gradient_steps": 32,
            "gamma": 0.999,
            "tau": 0.01,
            "net_arch": (64, 64),
        },
        "Pendulum-v1": {"total_timesteps": 20_000, "learning_rate": 1e-3},
        "LunarLanderContinuous-v3": {
            "total_timesteps": 500_000,
            "learning_rate": "linear:0.00073:0",
            "tau": 0.01,
            "learning_starts": 10_000,
            "net_arch": (400, 300),
        },
        "HalfCheetah-v5": {"total_timesteps": 1_000_000, "learning_starts": 10_000},
        "Hopper-v5": {"total_timesteps": 1_000_000, "learning_starts": 10_000},
        "Walker2d-v5": {"total_timesteps": 1_000_000, "learning_starts": 10_000},
    },
    # Ours; the Zoo has none.
    "discrete-sac": {
        "CartPole-v1": {"total_timesteps": 60_000, "learning_rate": 1e-3, "tau": 0.02},
        # Held pushes meet a first success before learning begins; without them some seeds never do.
        "Acrobot-v1": {
            "total_timesteps": 50_000,
            "learning_starts": 5_000,
            "warmup_hold": 10,
            "learning_rate": 1e-3,
            "tau": 0.02,
        },
    },
    "soft-q": {
        "CartPole-v1": {"total_timesteps": 60_000, "learning_rate": 1e-3, "tau": 0.02},
    },
}


def preset(agent: str, env: str) -> dict[str, Any]:
    """The settings for an agent on an environment, under its batched version's id, too; empty if there are none."""
    presets = PRESETS.get(agent, {})
    return dict(presets.get(env) or presets.get(env.removeprefix("entropic_rl/"), {}))
