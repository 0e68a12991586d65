"""Every batched environment, with what makes tests of any of them short."""

import importlib
import math

import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from entropic_rl.envs import _CLASSIC, _OWN
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.single import SingleEnv


def load(place):
    module, name = place.split(":")
    return getattr(importlib.import_module(f"entropic_rl.envs.{module}"), name)


OWN = {name: (load(place), {}) for name, (place, _) in _OWN.items()}
NOISY = {
    "Bandit-v0, noisy": (load("bandit:Bandit"), {"noise": 1.0}),
    "DeepSea-v0, stochastic": (load("deep_sea:DeepSea"), {"size": 4, "stochastic": True}),
    "FourRooms-v0, slippery": (load("four_rooms:FourRooms"), {"slip": 0.3, "start": "uniform"}),
}
DRAWN = [name if name != "DeepSea-v0" else "DeepSea-v0, stochastic" for name in OWN]  # the smaller one
CASES = {name: (load(place), {}) for name, place in _CLASSIC.items()} | OWN | NOISY

# A state whose next step ends the episode: nearly surely, or at least now and then.
BRINKS = {
    "CartPole": (2.39, 3.0, 0.0, 0.0),
    "Acrobot": (math.pi, 0.0, 0.0, 0.0),
    "MountainCar": (0.49, 0.07),
    "MountainCarContinuous": (0.44, 0.07),
    "MountainCarSparse": (0.49, 0.07),
    "CartPoleSwingUp": (2.99, 5.0, math.pi, 0.0),
    "PointMaze": (1.5, 3.5),
    "CartPolePositions": (2.39, 3.0, 0.0, 0.0),
    "Catch": (8, 4, 0, 4, 4),  # the last ball above the last row
    "FourRooms": (102,),  # beside the goal
}
LIMIT = 20

every_case = pytest.mark.parametrize("case", CASES)
every_mode = pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED], ids=lambda m: m.name)
ending_cases = pytest.mark.parametrize("case", [c for c, (rules, _) in CASES.items() if rules.__name__ in BRINKS])


def build(case, num_envs, **options):
    rules, arguments = CASES[case]
    return BatchedEnv(rules, num_envs, **arguments, **options)


def alone(case, seed, limit=None):
    rules, arguments = CASES[case]
    env = SingleEnv(rules, **arguments)
    if limit is not None:
        env.dynamics.max_episode_steps = min(limit, env.dynamics.max_episode_steps or limit)
    return env, env.reset(seed=seed)[0]


def random_actions(case, n_steps, n_copies, seed=0):
    """``[T, N]`` integers or ``[T, N, D]`` numbers, some beyond the bounds."""
    space, generator = build(case, 1).single_action_space, torch.Generator().manual_seed(seed)
    if isinstance(space, spaces.Discrete):
        return torch.randint(int(space.n), (n_steps, n_copies), generator=generator)
    return 1.2 * float(space.high[0]) * (2 * torch.rand(n_steps, n_copies, *space.shape, generator=generator) - 1)


def to_the_brink(case, env, copy=0):
    """Put one copy where the next step may end its episode; where nothing terminates, leave it."""
    if CASES[case][0].__name__ in BRINKS:
        state = env.state.clone()
        state[:, copy] = torch.tensor(BRINKS[CASES[case][0].__name__], dtype=state.dtype)
        env.state = state


def roll(env, actions):
    """Observations, rewards, terminated and truncated, each ``[T, N, ...]``."""
    return [torch.stack(parts) for parts in zip(*[env.step(action)[:4] for action in actions], strict=True)]


def equal(these, those):
    return all(torch.equal(a, b) for a, b in zip(these, those, strict=True))


def one_action(actions, t, copy):
    action = actions[t, copy].numpy()
    return action if action.shape else int(action)
