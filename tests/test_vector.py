"""One kind of transition whatever the autoreset mode, on an env whose every number is known."""

from functools import partial
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from entropic_rl.environments import make_vector_env
from entropic_rl.errors import EnvError
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.vector import EnvBatch

MODES = [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED]
every_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


class Counter(gym.Env):
    """Observes (episode, step, env); pays 10 * episode + step + 1; ends after ``limit`` steps, truncated if ``cut``."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(-100.0, 1e3, (3,))

    def __init__(self, number=0, limit=3, cut=False):
        self.number, self.limit, self.cut, self.episode = number, limit, cut, -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.steps = self.episode + 1, 0
        return self.observe(), {"episode": self.episode}

    def step(self, action):
        assert self.steps < self.limit, "stepped after the end"
        self.steps += 1
        ended = self.steps == self.limit
        return self.observe(), 10.0 * self.episode + self.steps, ended and not self.cut, ended and self.cut, {}

    def observe(self):
        return np.array([self.episode, self.steps, self.number], np.float32)


ENTRY, PAIR = spaces.Discrete(10), spaces.Box(-100.0, 1e3, (2,))
COMPOSITES = {
    "dict": (spaces.Dict(b=ENTRY, a=PAIR), lambda entry, pair: {"b": entry, "a": pair}),
    "nested": (spaces.Dict(b=ENTRY, a=spaces.Dict(c=PAIR)), lambda entry, pair: {"b": entry, "a": {"c": pair}}),
    "underscore": (spaces.Dict(_b=ENTRY, a=PAIR), lambda entry, pair: {"_b": entry, "a": pair}),
    "tuple": (spaces.Tuple([ENTRY, PAIR]), lambda entry, pair: (entry, pair)),
    "discrete": (ENTRY, lambda entry, pair: entry),
    "scalar": (spaces.Box(-1.0, 10.0, ()), lambda entry, pair: np.float32(entry)),
}


class Composite(Counter):
    """The same numbers in another observation space."""

    def __init__(self, kind, number=0, limit=3):
        super().__init__(number, limit)
        self.observation_space, self.arrange = COMPOSITES[kind]

    def observe(self):
        return self.arrange(np.int64(self.steps), np.array([self.episode, self.number], np.float32))


def specs_of(env):
    return {
        "observation": observation_spec(env.single_observation_space),
        "action": action_spec(env.single_action_space),
    }


def batch_of(makers, mode, n_runs=1, **options):
    env = SyncVectorEnv(makers, autoreset_mode=mode)
    batch = EnvBatch(env, n_runs, **specs_of(env), **options)
    n_envs = len(makers) // n_runs
    return batch, batch.reset([[100 * r + e for e in range(n_envs)] for r in range(n_runs)])


def two_by_two(mode, **options):
    """Runs of two envs each, limits (3, 2) and (4, 3), the second of each run cut by the clock."""
    makers = [partial(Counter, i, limit, cut=bool(i % 2)) for i, limit in enumerate((3, 2, 4, 3))]
    return batch_of(makers, mode, n_runs=2, **options)


def valid_transitions(batch, obs, n_steps):
    """Per sub-env the sequence (obs, reward, obs reached, terminated, truncated), reset rows left out."""
    seen = [[] for _ in range(batch.n_runs * batch.n_envs)]
    for _ in range(n_steps):
        step = batch.step(torch.zeros(batch.n_runs, batch.n_envs, dtype=torch.int64))
        ended = step.terminated | step.truncated
        reached = (
            step.next_obs if step.final_obs is None else torch.where(ended[..., None], step.final_obs, step.next_obs)
        )
        valid = torch.ones_like(ended) if step.valid is None else step.valid
        parts = [x.flatten(0, 1).tolist() for x in (valid, obs, step.reward, reached, step.terminated, step.truncated)]
        for record, (counts, *transition) in zip(seen, zip(*parts, strict=True), strict=True):
            if counts:
                record.append(transition)
        obs = step.next_obs
    return seen


@every_mode
def test_every_mode_gives_the_transitions_of_the_env_itself(mode):
    batch, obs = two_by_two(mode)
    for number, record in enumerate(valid_transitions(batch, obs, 12)):
        limit = (3, 2, 4, 3)[number]
        assert len(record) >= 8
        for i, transition in enumerate(record):
            episode, t = divmod(i, limit)
            end = t == limit - 1
            expected = [[episode, t, number], 10.0 * episode + t + 1, [episode, t + 1, number]]
            assert transition == [*expected, end and number % 2 == 0, end and number % 2 == 1]


@every_mode
def test_episode_returns_and_lengths_are_exact(mode):
    batch, obs = two_by_two(mode)
    valid_transitions(batch, obs, 12)
    # An episode k of n steps pays 10 k n + n (n + 1) / 2; in 12 steps three fit for n = 3 even with reset rows.
    (run, lengths_of_run), other = batch.episodes.recent()
    assert {6.0, 36.0, 66.0, 3.0, 23.0, 43.0} <= set(run)
    lengths = dict(zip(run, lengths_of_run, strict=True))
    assert [lengths[x] for x in (6.0, 36.0, 66.0, 3.0, 23.0, 43.0)] == [3, 3, 3, 2, 2, 2]
    assert other[0][:2] == [6.0, 10.0]
    assert batch.episodes.n_finished.tolist() == [len(run), len(other[0])]
    assert batch.episodes.n_finished.tolist() == ([7, 5] if mode is AutoresetMode.NEXT_STEP else [10, 7])


@every_mode
def test_window_keeps_the_latest_episodes(mode):
    batch, _ = two_by_two(mode, window=2)
    valid_transitions(batch, _, 6)
    assert [len(returns) for returns, _ in batch.episodes.recent()] == [2, 2]
    assert (batch.episodes.n_finished >= 2).all()


@every_mode
def test_only_next_step_mode_has_invalid_rows_right_after_an_end(mode):
    batch, _ = two_by_two(mode)
    ended = torch.zeros(2, 2, dtype=torch.bool)
    for _ in range(12):
        step = batch.step(torch.zeros(2, 2, dtype=torch.int64))
        if mode is AutoresetMode.NEXT_STEP and ended.any():
            assert torch.equal(step.valid, ~ended)
            assert step.reward[ended].eq(0.0).all()
        else:
            assert step.valid is None
        ended = step.terminated | step.truncated


@every_mode
def test_final_obs_is_given_exactly_when_an_episode_ends(mode):
    batch, _ = two_by_two(mode)
    for _ in range(8):
        step = batch.step(torch.zeros(2, 2, dtype=torch.int64))
        assert (step.final_obs is not None) == bool((step.terminated | step.truncated).any())


@every_mode
def test_stored_transitions_do_not_change_when_the_envs_go_on(mode):
    batch, obs = two_by_two(mode, dtype=torch.float64)
    steps = [batch.step(torch.zeros(2, 2, dtype=torch.int64)) for _ in range(3)]
    kept = [[x.clone() for x in (s.next_obs, s.reward, s.terminated, s.truncated)] for s in steps]
    first = obs.clone()
    valid_transitions(batch, obs, 5)
    assert torch.equal(obs, first)
    assert all(
        torch.equal(old, new)
        for s, old_parts in zip(steps, kept, strict=True)
        for old, new in zip(old_parts, (s.next_obs, s.reward, s.terminated, s.truncated), strict=True)
    )


@every_mode
def test_final_obs_survives_envs_that_reuse_their_buffers(mode):
    env = SyncVectorEnv([partial(Counter, i) for i in range(2)], copy=False, autoreset_mode=mode)
    batch = EnvBatch(env, 1, **specs_of(env))
    batch.reset([[0, 1]])
    final_obs = [batch.step(torch.zeros(1, 2, dtype=torch.int64)).final_obs for _ in range(3)][-1]
    assert final_obs.tolist() == [[[0.0, 3.0, 0.0], [0.0, 3.0, 1.0]]]


@every_mode
@pytest.mark.parametrize("kind", COMPOSITES)
def test_composite_observations_arrive_like_plain_ones(mode, kind):
    limits = (3, 2, 3)
    batch, obs = batch_of([partial(Composite, kind, i, limit) for i, limit in enumerate(limits)], mode)
    plain, plain_obs = batch_of([partial(Counter, i, limit) for i, limit in enumerate(limits)], mode)
    space, arrange = COMPOSITES[kind]

    def flat(numbers):
        episode, step, number = numbers.tolist()
        return spaces.flatten(space, arrange(np.int64(step), np.array([episode, number], np.float32))).tolist()

    for _ in range(7):
        assert obs[0].tolist() == [flat(row) for row in plain_obs[0]]
        step, plain_step = (b.step(torch.zeros(1, 3, dtype=torch.int64)) for b in (batch, plain))
        for i in plain_step.terminated[0].nonzero().flatten().tolist():
            assert step.final_obs[0, i].tolist() == flat(plain_step.final_obs[0, i])
        obs, plain_obs = step.next_obs, plain_step.next_obs


def test_final_obs_given_as_one_batch_is_read_too():
    # Vector envs that are not Gymnasium's may hand over final observations as a batch instead of an array of objects.
    class Batched(SyncVectorEnv):
        def step(self, actions):
            *rest, info = super().step(actions)
            if "final_obs" in info:
                rows = [np.zeros(3, np.float32) if row is None else row for row in info["final_obs"]]
                info["final_obs"] = np.stack(rows)
            return (*rest, info)

    env = Batched([partial(Counter, i) for i in range(2)], autoreset_mode=AutoresetMode.SAME_STEP)
    batch = EnvBatch(env, 1, **specs_of(env))
    batch.reset([[0, 1]])
    steps = [batch.step(torch.zeros(1, 2, dtype=torch.int64)) for _ in range(3)]
    assert steps[-1].final_obs.tolist() == [[[0.0, 3.0, 0.0], [0.0, 3.0, 1.0]]]


@every_mode
def test_reset_begins_anew_and_forgets_half_an_episode(mode):
    batch, obs = two_by_two(mode)
    batch.step(torch.zeros(2, 2, dtype=torch.int64))
    obs = batch.reset([[0, 1], [2, 3]])
    valid_transitions(batch, obs, 3)
    returns, lengths = batch.episodes.recent()[0]
    assert returns[0] == 23.0  # episode 1 of the env with limit 2 pays 11 + 12; the step before is gone
    assert lengths[0] == 2


def test_seeds_reach_their_sub_envs_run_by_run():
    batch, _ = two_by_two(AutoresetMode.SAME_STEP)
    assert [env.unwrapped.np_random_seed for env in batch.env.envs] == [0, 1, 100, 101]


def test_actions_reach_their_sub_envs_run_by_run():
    batch, _ = two_by_two(AutoresetMode.SAME_STEP)
    given = []
    batch.env.step = lambda actions, step=batch.env.step: (given.append(actions), step(actions))[1]
    batch.step(torch.tensor([[0, 1], [1, 1]]))
    assert given[0].tolist() == [0, 1, 1, 1]


def test_tensors_have_run_and_env_axes_and_the_asked_dtype():
    batch, obs = two_by_two(AutoresetMode.SAME_STEP, dtype=torch.float64)
    step = batch.step(torch.zeros(2, 2, dtype=torch.int64))
    assert obs.shape == step.next_obs.shape == (2, 2, 3)
    assert step.reward.shape == step.terminated.shape == (2, 2)
    assert {obs.dtype, step.next_obs.dtype, step.reward.dtype} == {torch.float64}
    assert step.terminated.dtype == step.truncated.dtype == torch.bool
    assert obs[:, :, 2].tolist() == [[0.0, 1.0], [2.0, 3.0]]  # run-major


@pytest.mark.parametrize("mode", [None, "sometimes", 3])
def test_missing_or_unknown_autoreset_mode_is_refused(mode):
    env = SyncVectorEnv([Counter])
    env.metadata = {} if mode is None else {"autoreset_mode": mode}
    with pytest.raises(EnvError, match=rf"metadata\['autoreset_mode'\] must be one of .*AutoresetMode, got {mode!r}"):
        EnvBatch(env, 1, **specs_of(env))


def test_close_closes_the_sub_envs():
    batch, _ = two_by_two(AutoresetMode.SAME_STEP)
    batch.close()
    assert batch.env.closed


def test_final_observation_outlives_the_next_step_of_an_env_that_reuses_its_buffers():
    maker = lambda: gym.make("CartPole-v1")  # noqa: E731 - a vector env wants a function per copy
    env = gym.vector.SyncVectorEnv([maker], copy=False, autoreset_mode=AutoresetMode.NEXT_STEP)
    observation, action = observation_spec(env.single_observation_space), action_spec(env.single_action_space)
    batch = EnvBatch(env, 1, observation=observation, action=action)
    batch.reset([[0]])
    push = torch.ones(1, 1, dtype=torch.int64)
    transition = batch.step(push)
    while transition.final_obs is None:
        transition = batch.step(push)
    before = transition.final_obs.clone()
    batch.step(push)
    assert torch.equal(transition.final_obs, before)


# Environments that speak tensors

BATCHED_MODES = [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED]
every_batched_mode = pytest.mark.parametrize("mode", BATCHED_MODES, ids=lambda mode: mode.name)
WORLDS = {
    "discrete observations": ("entropic_rl/Chain-v0", {}),
    "discrete observations, either end": ("entropic_rl/FourRooms-v0", {"goal": (1, 2), "limit": 9}),
    "box observations, noisy rewards": ("entropic_rl/DeepSea-v0", {"size": 4, "stochastic": True}),
    "box observations of a simulation": ("entropic_rl/MountainCarSparse-v0", {"limit": 30}),
    "box actions": ("entropic_rl/PointMaze-v0", {"limit": 40}),
    "pixels": ("entropic_rl/Catch-v0", {"rows": 5, "columns": 7, "balls": 2}),
}


def registered(env_id, backend, mode=AutoresetMode.SAME_STEP, kwargs=None, *, squash_output=False, **options):
    """Two runs of two environments each, begun."""
    env = make_vector_env(env_id, 4, kwargs, backend=backend, autoreset_mode=mode)
    action = action_spec(env.single_action_space, squash_output=squash_output)
    observation = observation_spec(env.single_observation_space)
    batch = EnvBatch(env, 2, observation=observation, action=action, **options)
    return batch, batch.reset([[10, 11], [20, 21]])


def noise_for(batch, n_steps):
    """Actions ``[T, R, E, *event]`` as an agent at random would give them, beyond the bounds of a Box, too."""
    generator = torch.Generator().manual_seed(5)
    space = batch.env.single_action_space
    if isinstance(space, spaces.Box):
        return 1.5 * torch.randn(n_steps, 2, 2, *space.shape, generator=generator)
    return torch.randint(0, int(space.n), (n_steps, 2, 2), generator=generator)


def assert_same_transition(step, expected):
    for name in ("next_obs", "reward", "terminated", "truncated"):
        value, other = getattr(step, name), getattr(expected, name)
        assert value.dtype == other.dtype, name
        assert torch.equal(value, other), name
    assert step.valid is expected.valid is step.next_valid is expected.next_valid is None
    assert (step.final_obs is None) == (expected.final_obs is None)
    if step.final_obs is not None:
        ended = step.terminated | step.truncated
        assert torch.equal(step.final_obs[ended], expected.final_obs[ended])


@every_batched_mode
@pytest.mark.parametrize("world", WORLDS)
def test_tensors_and_arrays_of_the_same_environment_give_the_same_transitions_bit_for_bit(world, mode):
    env_id, kwargs = WORLDS[world]
    batched, obs = registered(env_id, "batched", mode, kwargs)
    single, expected = registered(env_id, "sync", mode, kwargs)
    assert torch.equal(obs, expected)
    n_ends = 0
    for action in noise_for(batched, 100):
        step, other = batched.step(action), single.step(action)
        assert_same_transition(step, other)
        n_ends += int((step.terminated | step.truncated).sum())
    assert n_ends >= 8
    assert batched.episodes.recent() == single.episodes.recent()
    assert batched.episodes.n_finished.sum() == n_ends


@every_batched_mode
def test_squashed_actions_give_the_same_transitions_bit_for_bit_too(mode):
    batched, _ = registered("entropic_rl/PointMaze-v0", "batched", mode, squash_output=True)
    single, _ = registered("entropic_rl/PointMaze-v0", "sync", mode, squash_output=True)
    for action in noise_for(batched, 60):
        assert_same_transition(batched.step(action), single.step(action))


@pytest.mark.parametrize("squash_output", [False, True])
@pytest.mark.parametrize("env_id", ["Pendulum-v1", "MountainCarContinuous-v0", "entropic_rl/PointMaze-v0"])
def test_box_actions_reach_tensor_envs_in_their_units_as_they_reach_array_envs(env_id, squash_output):
    given, action = [], torch.tensor([-1e9, -1.0, -0.3, 0.0, 0.5, 1.0, 4.0])
    for backend in ("batched", "sync"):
        batch, _ = registered(env_id, backend, squash_output=squash_output)
        batch.env.step = lambda actions, step=batch.env.step: (given.append(np.asarray(actions)), step(actions))[1]
        for number in action:
            batch.step(number.expand(2, 2, *batch.env.single_action_space.shape))
    seen, expected = given[: len(action)], given[len(action) :]
    np.testing.assert_allclose(seen, expected, rtol=1e-6)
    bound = float(batch.env.single_action_space.high[0])
    unit = action.tanh() if squash_output else action.clamp(-1.0, 1.0)
    np.testing.assert_allclose(np.stack(seen)[:, 0, 0], bound * unit, rtol=1e-6)


@pytest.mark.parametrize("squash_output", [False, True])
def test_box_actions_reach_tensor_envs_with_the_bits_that_array_envs_get(squash_output):
    env = make_vector_env("Pendulum-v1", 3000, backend="batched")
    action = action_spec(env.single_action_space, squash_output=squash_output)
    batch = EnvBatch(env, 3, observation=observation_spec(env.single_observation_space), action=action)
    batch.reset([range(1000)] * 3)
    given, step = [], env.step
    env.step = lambda actions: (given.append(actions), step(actions))[1]
    asked = torch.randn(3, 1000, 1, generator=torch.Generator().manual_seed(0))
    batch.step(asked)
    np.testing.assert_array_equal(given[0].numpy(), action.to_env(asked.flatten(0, 1).numpy()))


class Abacus(VectorEnv):
    """Speaks tensors: shows 3 + step, pays the actions' sum, and truncates copy i after 2 + i steps."""

    metadata: ClassVar = {"autoreset_mode": AutoresetMode.DISABLED}
    single_observation_space = spaces.Discrete(7, start=3)
    single_action_space = spaces.Box(0.0, np.array([[10.0, 2.0]], np.float32))

    def __init__(self, num_envs):
        self.num_envs, self.steps, self.given = num_envs, torch.zeros(num_envs, dtype=torch.int64), []

    def reset(self, *, seed=None, options=None):
        self.steps[(options or {}).get("reset_mask", torch.ones(self.num_envs, dtype=torch.bool))] = 0
        return self.steps + 3, {}

    def step(self, actions):
        self.given.append(actions)
        self.steps += 1
        truncated = self.steps == 2 + torch.arange(self.num_envs)
        return self.steps + 3, actions.flatten(1).sum(1), torch.zeros_like(truncated), truncated, {}


def abacus(**options):
    env = Abacus(2)
    batch = EnvBatch(env, 1, **specs_of(env), **options)
    return batch, batch.reset([[0, 1]])


class Slate(Abacus):
    """Shows the steps on one tensor that is wiped each time."""

    single_observation_space = spaces.Box(0.0, 9.0, (1,))

    def __init__(self, num_envs):
        super().__init__(num_envs)
        self.shown = torch.zeros(num_envs, 1)

    def reset(self, **options):
        super().reset(**options)
        return self.shown.copy_(self.steps.unsqueeze(1)), {}

    def step(self, actions):
        _, *rest = super().step(actions)
        return self.shown.copy_(self.steps.unsqueeze(1)), *rest


def test_final_obs_survives_tensor_envs_that_reuse_their_buffers():
    env = Slate(2)
    batch = EnvBatch(env, 1, **specs_of(env))
    batch.reset([[0, 1]])
    steps = [batch.step(torch.zeros(1, 2, 2)) for _ in range(3)]
    # copy 0 ends at its second step, copy 1 at its third
    assert steps[1].final_obs[0, 0].tolist() == [2.0]
    assert steps[2].final_obs[0, 1].tolist() == [3.0]


def test_discrete_tensor_observations_are_one_hot_from_the_start_of_their_space():
    batch, obs = abacus()
    step = batch.step(torch.zeros(1, 2, 2))
    assert obs.tolist() == [[[1.0] + [0.0] * 6] * 2]
    assert step.next_obs.argmax(-1).tolist() == [[1, 1]]
    step = batch.step(torch.zeros(1, 2, 2))
    assert step.final_obs[0, 0].argmax() == 2
    assert step.next_obs.argmax(-1).tolist() == [[0, 2]]


class Palette(Abacus):
    """Shows bytes: all 256 of them as an image of 16 rows, 8 columns and 2 channels, or some as mere numbers."""

    single_action_space = spaces.Discrete(2)

    def __init__(self, num_envs, space, device="cpu"):
        super().__init__(num_envs)
        self.single_observation_space = space
        self.shown = torch.arange(np.prod(space.shape), device=device).to(torch.uint8).view(space.shape)

    def reset(self, **options):
        return self.shown.expand(self.num_envs, *self.shown.shape), {}


IMAGE = spaces.Box(0, 255, (16, 8, 2), np.uint8)


def seen_by_both(space, device="cpu", dtype=torch.float32):
    """What the agent gets of bytes from an environment that speaks tensors, and of the same ones in NumPy."""
    env = Palette(2, space, device)
    obs = EnvBatch(env, 1, **specs_of(env), device=device, dtype=dtype).reset([[0, 1]])
    flat = observation_spec(space).flatten(env.reset()[0].cpu().numpy())
    return obs, torch.as_tensor(flat, dtype=dtype).unflatten(0, (1, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_bytes_of_tensor_images_become_the_numbers_that_numpy_images_become(dtype):
    obs, expected = seen_by_both(IMAGE, dtype=dtype)
    assert obs.dtype is dtype
    assert torch.equal(obs, expected)
    assert obs.unique().numel() == 256
    assert (obs.min(), obs.max()) == (0.0, 1.0)


@pytest.mark.gpu
def test_all_bytes_of_images_on_a_gpu_become_the_numbers_that_numpy_images_become():
    obs, expected = seen_by_both(IMAGE, device="cuda")
    assert torch.equal(obs.cpu(), expected)


def test_tensor_images_are_flattened_by_row_column_and_channel():
    obs, _ = seen_by_both(IMAGE)
    assert (obs[0, 0] * 255).round().view(16, 8, 2)[3, 5, 1] == (3 * 8 + 5) * 2 + 1


def test_tensor_bytes_that_are_no_pixels_are_left_as_they_are():
    obs, expected = seen_by_both(spaces.Box(0, 9, (4,), np.uint8))
    assert obs.dtype is torch.float32
    assert torch.equal(obs, expected)
    assert obs[0, 0].tolist() == [0.0, 1.0, 2.0, 3.0]


def test_box_actions_reach_tensor_envs_between_bounds_of_any_place_and_in_their_shape():
    batch, _ = abacus()
    batch.step(torch.tensor([[[0.0, 0.5], [-7.0, 7.0]]]))
    assert batch.env.given[0].tolist() == [[[5.0, 1.5]], [[0.0, 2.0]]]


def test_tensor_envs_give_the_asked_dtype():
    batch, obs = abacus(dtype=torch.float64)
    step = batch.step(torch.zeros(1, 2, 2))
    step = batch.step(torch.zeros(1, 2, 2))
    assert {obs.dtype, step.next_obs.dtype, step.final_obs.dtype, step.reward.dtype} == {torch.float64}


@every_batched_mode
@pytest.mark.parametrize("env_id", ["entropic_rl/Chain-v0", "CartPole-v1"])
def test_transitions_of_a_tensor_env_do_not_change_when_it_goes_on(mode, env_id):
    kwargs = {"limit": 5} if "Chain" in env_id else {"max_episode_steps": 5}
    batch, obs = registered(env_id, "batched", mode, kwargs)
    actions = noise_for(batch, 12)
    steps = [batch.step(action) for action in actions[:6]]
    names = ("next_obs", "reward", "terminated", "truncated", "final_obs")
    kept = [
        (s, name, getattr(s, name), getattr(s, name).clone())
        for s in steps
        for name in names
        if s.final_obs is not None
    ]
    first = obs.clone()
    for action in actions[6:]:
        batch.step(action)
    assert torch.equal(obs, first)
    assert kept
    assert all(torch.equal(now, before) for _, _, now, before in kept)


def test_tensor_env_begins_anew_and_forgets_half_an_episode():
    batch, obs = registered("entropic_rl/Chain-v0", "batched", kwargs={"limit": 4})
    right = torch.ones(2, 2, dtype=torch.int64)
    batch.step(right)
    assert torch.equal(batch.reset([[10, 11], [20, 21]]), obs)
    for _ in range(4):
        batch.step(right)
    assert [lengths for _, lengths in batch.episodes.recent()] == [[4, 4], [4, 4]]


@pytest.mark.gpu
def test_ends_of_an_env_on_another_device_are_seen_in_disabled_mode():
    env = make_vector_env("entropic_rl/Chain-v0", 2, {"limit": 3}, autoreset_mode=AutoresetMode.DISABLED, device="cuda")
    batch = EnvBatch(env, 1, **specs_of(env), device="cuda")
    batch.reset([[0, 1]])
    for _ in range(7):
        batch.step(torch.zeros(1, 2, dtype=torch.int64, device="cuda"))
    assert batch.episodes.n_finished.tolist() == [4]


@pytest.mark.parametrize("space", [spaces.MultiDiscrete([2, 3]), spaces.Box(-np.inf, np.inf, (1,))], ids=str)
def test_tensor_env_with_actions_that_are_not_served_is_refused(space):
    env = Abacus(2)
    env.single_action_space = space
    batch = EnvBatch(env, 1, observation=observation_spec(env.single_observation_space), action=action_spec(space))
    with pytest.raises(EnvError, match=r"speaks tensors needs .* got Discrete"):
        batch.reset([[0, 1]])
