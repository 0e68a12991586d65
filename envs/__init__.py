"""Environments in which the entropy coefficient matters, registered with Gymnasium under ``entropic_rl/...``.

``import entropic_rl.envs`` is all it takes; torch is imported when the first environment is made. The five ids that
Gymnasium has, too, are its own environments with a vector entry point of ours beside them.
"""

import gymnasium as gym

if __name__ != "entropic_rl.envs":
    raise ImportError(f"import entropic_rl.envs, not {__name__}: the bare name belongs to other packages")

NAMESPACE = "entropic_rl"

# Gymnasium's id -> our module and class.
_CLASSIC = {
    "CartPole-v1": "cartpole:CartPole",
    "Acrobot-v1": "acrobot:Acrobot",
    "MountainCar-v0": "mountain_car:MountainCar",
    "MountainCarContinuous-v0": "mountain_car_continuous:MountainCarContinuous",
    "Pendulum-v1": "pendulum:Pendulum",
}

# Id -> module and class, and the return that counts as a success.
_OWN: dict[str, tuple[str, float | None]] = {
    "Bandit-v0": ("bandit:Bandit", None),
    "Chain-v0": ("chain:Chain", None),
    "RiverSwim-v0": ("river_swim:RiverSwim", 1.0),
    "DeepSea-v0": ("deep_sea:DeepSea", 0.9),
    "FourRooms-v0": ("four_rooms:FourRooms", 0.9),
    "MountainCarSparse-v0": ("mountain_car_sparse:MountainCarSparse", 0.9),
    "CartPoleSwingUp-v0": ("cartpole_swingup:CartPoleSwingUp", 100.0),
    "PointMaze-v0": ("point_maze:PointMaze", 0.9),
    "CartPolePositions-v1": ("cartpole_positions:CartPolePositions", 475.0),
    "Catch-v0": ("catch:Catch", 4.0),
}


def _register() -> None:
    for name, place in _CLASSIC.items():
        spec = gym.spec(name)
        gym.register(
            f"{NAMESPACE}/{name}",
            spec.entry_point,
            vector_entry_point=f"{__name__}.{place}VectorEnv",
            reward_threshold=spec.reward_threshold,
            max_episode_steps=spec.max_episode_steps,
        )
    for name, (place, threshold) in _OWN.items():
        gym.register(
            f"{NAMESPACE}/{name}",
            f"{__name__}.{place}Env",
            vector_entry_point=f"{__name__}.{place}VectorEnv",
            reward_threshold=threshold,
        )


if f"{NAMESPACE}/CartPole-v1" not in gym.registry:
    _register()
