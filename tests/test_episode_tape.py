"""Episodes played again: any environment that draws from its own generator comes back to where it was."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from entropic_rl.environments import import_gym_packages, make_vector_env
from entropic_rl.episode_tape import EpisodeTape
from entropic_rl.extras import missing_package

# Box2D, MuJoCo and others warn of themselves when they are imported and made.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
KINDS = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}
WRAPPERS = (
    "gymnasium.wrappers:TimeLimit(max_episode_steps=40)",
    "gymnasium.wrappers:DelayObservation(delay=3)",
    "gymnasium.wrappers:StickyAction(repeat_action_probability=0.5)",
    "gymnasium.wrappers:TimeAwareObservation",
)


def equal(one, other):
    """Bit for bit, through containers."""
    if isinstance(one, dict):
        return set(one) == set(other) and all(equal(one[name], other[name]) for name in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if not isinstance(one, np.ndarray | np.generic):
        return type(one) is type(other) and one == other
    one, other = np.asarray(one), np.asarray(other)
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def check(env_id, kind, steps, wrappers=()):
    """Two copies after ``steps``, brought back elsewhere, do the same for as many steps more, ends included."""
    with gym.make(env_id) as probe:
        action_space = probe.action_space
    action_space.seed(1)
    make = {"wrap": EpisodeTape, "backend": kind, "wrappers": wrappers, "autoreset_mode": AutoresetMode.SAME_STEP}
    one, other = (make_vector_env(env_id, 2, **make) for _ in range(2))
    try:
        one.reset(seed=[1, 2])
        other.reset(seed=[5, 6])
        actions = [np.stack([action_space.sample() for _ in range(2)]) for _ in range(2 * steps)]
        for action in actions[:steps]:
            one.step(action)
        for action in actions[:7]:
            other.step(action)
        tapes = list(one.get_attr("tape"))
        other.set_attr("tape", tapes)
        assert equal(tapes[0], other.get_attr("tape")[0])
        for i, action in enumerate(actions[steps:]):
            assert equal(one.step(action)[:4], other.step(action)[:4]), f"step {i}"
        return sum(len(tape["actions"]) for tape in tapes)
    finally:
        one.close()
        other.close()


def require(package):
    try:
        import_gym_packages([package])
    except Exception as error:  # whatever others raise
        pytest.skip(missing_package(error.__cause__ or error) or str(error))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Blackjack-v1", "FrozenLake-v1", "CliffWalking-v1"])
def test_classic_control_and_toy_text_come_back(env_id):
    check(env_id, "sync", 60)


def test_environment_in_another_process_comes_back():
    assert check("Acrobot-v1", "async", 60) == 120


@pytest.mark.parametrize("env_id", ["LunarLander-v3", "BipedalWalker-v3"])
def test_box2d_comes_back(env_id):
    check(env_id, "sync", 130)


def test_wrappers_with_state_come_back():
    check("CartPole-v1", "sync", 55, WRAPPERS)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("env_id", "steps"),
    [
        ("CartPole-v1", 400), ("Acrobot-v1", 700), ("MountainCar-v0", 330), ("MountainCarContinuous-v0", 330),
        ("Pendulum-v1", 330), ("Taxi-v4", 330), ("FrozenLake8x8-v1", 330), ("LunarLander-v3", 330),
        ("LunarLanderContinuous-v3", 330), ("BipedalWalker-v3", 500), ("BipedalWalkerHardcore-v3", 200),
        ("CarRacing-v3", 20),
    ],
)  # fmt: skip
def test_every_stock_family_comes_back(env_id, steps, kind):
    if env_id not in gym.registry:
        pytest.skip(f"this Gymnasium has no {env_id}")
    check(env_id, kind, steps)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "env_id", ["Hopper-v5", "HalfCheetah-v5", "Humanoid-v5", "Walker2d-v5", "Reacher-v5", "InvertedDoublePendulum-v5"]
)
def test_mujoco_comes_back(env_id, kind):
    pytest.importorskip("mujoco")
    check(env_id, kind, 130)


@pytest.mark.faults
@pytest.mark.parametrize("env_id", ["MiniGrid-DoorKey-5x5-v0", "MiniGrid-Dynamic-Obstacles-5x5-v0"])
def test_minigrid_comes_back(env_id):
    require("minigrid")
    check(env_id, "sync", 200)


@pytest.mark.faults
def test_atari_comes_back():
    require("ale_py")
    check("ALE/Breakout-v5", "sync", 200)


def test_tape_tells_its_start_and_the_actions_since():
    env = EpisodeTape(gym.make("CartPole-v1"))
    env.reset(seed=3)
    env.step(1)
    env.step(0)
    tape = env.tape
    assert (tape["seed"], tape["options"], tape["actions"].tolist()) == (3, None, [1, 0])
    env.step(1)
    assert tape["actions"].tolist() == [1, 0], "a tape that was read does not go on"


def test_tape_without_actions_is_of_the_same_kind_afterwards():
    one, other = (EpisodeTape(gym.make("CartPole-v1")) for _ in range(2))
    one.reset(seed=3)
    one.step(1)
    one.reset()
    other.reset(seed=9)
    other.tape = one.tape
    assert equal(other.tape, one.tape)


def test_options_of_a_reset_are_given_again():
    one, other = (EpisodeTape(gym.make("CartPole-v1")) for _ in range(2))
    one.reset(seed=3, options={"low": -0.01, "high": 0.02})
    other.reset(seed=9)
    other.tape = one.tape
    assert equal(one.unwrapped.state, other.unwrapped.state)


class Forgetful(gym.Env):
    """What it shows depends on what it has met, which no seed tells."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)

    def __init__(self):
        self.met = []

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.met.append(0)
        return np.array([len(self.met)], np.float32), {}

    def step(self, action):
        return np.array([len(self.met)], np.float32), 0.0, False, False, {}


def test_environment_that_does_not_come_back_is_seen():
    one, other = EpisodeTape(Forgetful()), EpisodeTape(Forgetful())
    one.reset(seed=1)
    one.reset()
    other.reset(seed=2)
    other.tape = one.tape
    assert other.tape["seen"] == one.tape["seen"]
    other.tape = one.tape
    assert other.tape["seen"] != one.tape["seen"]


@pytest.mark.parametrize("wrapper", ["NormalizeObservation", "NormalizeReward"])
def test_wrapper_that_learns_over_episodes_comes_back(wrapper):
    check("Pendulum-v1", "sync", 230, (f"gymnasium.wrappers:{wrapper}",))
