"""Exploration meters against single environments stepped one by one, and against numbers counted by hand."""

import math
from collections import Counter
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.agents import A2C, A2CConfig
from entropic_rl.environments import make_env, make_vector_env
from entropic_rl.errors import EnvError
from entropic_rl.exploration import Cells, ExplorationMeter, cells_of, grid, load_cells
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch, Transition

COUNTS = ("visits", "first_visit", "first_reward")
SAME_STEP, NEXT_STEP, DISABLED = AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED


# Cells


def test_discrete_space_is_counted_exactly():
    cells = cells_of(spaces.Discrete(4, start=3))
    assert (cells.n, cells.n_states) == (4, None)
    assert cells.index(torch.eye(4)).tolist() == [0, 1, 2, 3]


def test_one_hot_box_of_a_finite_env_is_counted_exactly_with_the_end_as_a_cell_of_its_own():
    cells = cells_of(spaces.Box(0.0, 1.0, (2, 2)), n_states=4)
    assert (cells.n, cells.n_states) == (5, 4)
    assert cells.index(torch.cat((torch.eye(4), torch.zeros(1, 4)))).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (8, 8, 3), np.uint8),
        spaces.Dict(a=spaces.Discrete(2)),
        spaces.Tuple([spaces.Discrete(2)]),
        spaces.MultiDiscrete([2, 2]),
        spaces.MultiBinary(3),
        spaces.Box(0.0, 1.0, (0,)),
    ],
    ids=lambda space: str(space)[:20],
)
def test_spaces_without_a_natural_grid_have_no_cells(space):
    assert cells_of(space) is None


def test_box_is_a_grid_whose_corners_are_the_first_and_the_last_cell():
    cells = cells_of(spaces.Box(-1.0, 1.0, (1, 2)))
    assert (cells.n, cells.n_states) == (2500, None)
    assert cells.index(torch.tensor([[-1.0, -1.0], [1.0, 1.0]])).tolist() == [0, 2499]


# 50 at most; 10 000^(1/4) = 10; 10 000^(1/6) = 4.64; 2^13 = 8192 is the last power of two below 10 000
@pytest.mark.parametrize(
    ("n_dims", "n"), [(1, 50), (2, 50**2), (3, 21**3), (4, 10**4), (6, 4**6), (13, 2**13), (20, 2**13)]
)
def test_grid_has_as_many_bins_as_keep_it_within_ten_thousand_cells(n_dims, n):
    assert grid(np.full(n_dims, -1.0), np.full(n_dims, 1.0)).n == n


def test_dimensions_beyond_the_thirteenth_are_left_out():
    cells = grid(np.full(20, -1.0), np.full(20, 1.0))
    assert [int(cells.index(row)) for row in 2.0 * torch.eye(20) - 1.0] == [2**i for i in range(13)] + [0] * 7


def test_bins_are_equal_parts_between_the_bounds_and_hold_their_lower_edge():
    cells = grid(np.array([-1.0]), np.array([3.0]), bins=4)
    values = torch.tensor([-1.0, -0.01, 0.0, 0.99, 1.0, 2.0, 2.99])
    assert cells.index(values.unsqueeze(1)).tolist() == [0, 0, 1, 1, 2, 3, 3]


def test_upper_bound_lies_in_the_last_bin():
    assert grid(np.array([-1.0]), np.array([3.0]), bins=4).index(torch.tensor([3.0])).item() == 3


def test_values_outside_the_bounds_lie_in_the_nearest_bin():
    cells = grid(np.array([0.0]), np.array([1.0]), bins=4)
    assert cells.index(torch.tensor([[-0.3], [-7.0], [1.3], [7.0]])).tolist() == [0, 0, 3, 3]


def test_values_far_outside_the_bounds_lie_in_the_nearest_bin():
    cells = grid(np.array([0.0, -np.inf]), np.array([1.0, np.inf]), bins=4)
    far = torch.tensor([[-1e30, -1e30], [-math.inf, -math.inf], [1e30, 1e30], [math.inf, math.inf]])
    assert cells.index(far).tolist() == [0, 0, 15, 15]


def test_observations_that_are_no_number_lie_in_some_cell():
    cells = grid(np.array([0.0, -np.inf]), np.array([1.0, np.inf]), bins=4)
    assert 0 <= int(cells.index(torch.full((2,), math.nan))) < 16


@pytest.mark.parametrize(("low", "high"), [(-math.inf, math.inf), (0.0, math.inf), (-math.inf, 0.0)])
def test_unbounded_dimensions_are_squeezed_into_minus_one_to_one(low, high):
    # x / (1 + |x|) reaches -1/2, 0 and 1/2, the edges of four bins, at -1, 0 and 1
    cells = grid(np.array([low]), np.array([high]), bins=4)
    values = torch.tensor([-1e6, -1.01, -1.0, -0.1, 0.0, 0.99, 1.0, 1e6])
    assert cells.index(values.unsqueeze(1)).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_bounded_and_unbounded_dimensions_stand_side_by_side():
    cells = grid(np.array([0.0, -math.inf]), np.array([100.0, math.inf]), bins=4)
    assert cells.index(torch.tensor([[60.0, -9.0], [60.0, 0.5], [10.0, 9.0]])).tolist() == [2, 2 + 4 * 2, 0 + 4 * 3]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bounds_that_only_mean_any_number_do_not_put_all_numbers_into_one_bin(dtype):
    # Many environments write the largest float instead of infinity.
    largest = np.finfo(dtype).max
    cells = cells_of(spaces.Box(-largest, largest, (1,), dtype))
    assert len(set(cells.index(torch.tensor([[-3.0], [0.5], [3.0]])).tolist())) == 3


@pytest.mark.parametrize("dtype", [np.int8, np.int32])
def test_grid_over_all_integers_of_a_type_goes_from_the_first_to_the_last(dtype):
    bounds = np.iinfo(dtype)
    cells = cells_of(spaces.Box(bounds.min, bounds.max, (1,), dtype))
    assert cells.index(torch.tensor([[bounds.min], [bounds.max]], dtype=torch.float32)).tolist() == [0, 49]


@given(st.integers(1, 4), st.integers(1, 5), st.data())
@settings(max_examples=30)
def test_every_cell_of_a_grid_has_one_number(n_dims, bins, data):
    edges = [data.draw(st.tuples(st.floats(-9, 9, width=32), st.floats(1, 9, width=32))) for _ in range(n_dims)]
    low, width = np.array(edges).T
    middles = [torch.as_tensor(lo + wide * (np.arange(bins) + 0.5) / bins) for lo, wide in edges]
    cells = grid(low, low + width, bins)
    index = cells.index(torch.cartesian_prod(*middles).reshape(-1, n_dims).float())
    assert sorted(index.tolist()) == list(range(cells.n)) == list(range(bins**n_dims))


def test_index_keeps_leading_axes():
    for cells, size in ((cells_of(spaces.Discrete(3)), 3), (cells_of(spaces.Box(0.0, 1.0, (2,))), 2)):
        index = cells.index(torch.rand(4, 5, size))
        assert (index.shape, index.dtype) == ((4, 5), torch.int64)


# A user's own cells


def test_own_cells_come_from_a_module(monkeypatch, tmp_path):
    (tmp_path / "cells_of_mine.py").write_text(
        "from entropic_rl.exploration import Cells\nSIGN = Cells(2, lambda obs: (obs[..., 0] > 0).long())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    cells = load_cells("cells_of_mine:SIGN")
    assert cells.n == 2
    assert cells.index(torch.tensor([[-1.0, 5.0], [1.0, -5.0]])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("no_such_module:CELLS", "cannot be imported .*No module named 'no_such_module'.*expected MODULE:NAME of a Ce"),
        ("math:CELLS", "cannot be imported .*has no attribute 'CELLS'.*expected MODULE:NAME of a Cells"),
        ("math:pi", "expected an entropic_rl.exploration.Cells, got float"),
        ("entropic_rl.exploration:Cells", "expected an entropic_rl.exploration.Cells, got type"),
    ],
)
def test_own_cells_that_cannot_be_had_are_an_error_of_one_line(place, message):
    with pytest.raises(EnvError, match=f"--coverage {place}: {message}") as caught:
        load_cells(place)
    assert "\n" not in str(caught.value)


# Counting, against single environments


def start(env_id, kwargs=None, *, backend="auto", mode=SAME_STEP, n_runs=1, n_envs=1, first=0, cells=None):
    """A batch of R runs whose sub-env seeds are 100 r + e from run ``first`` on, its meter and its observations."""
    env = make_vector_env(env_id, n_runs * n_envs, kwargs, backend=backend, autoreset_mode=mode)
    action = action_spec(env.single_action_space)
    batch = EnvBatch(env, n_runs, observation=observation_spec(env.single_observation_space), action=action)
    cells = cells or cells_of(env.single_observation_space, env.metadata.get("n_states"))
    meter = ExplorationMeter(cells, n_runs, n_envs, action=action)
    obs = batch.reset([[100 * (first + r) + e for e in range(n_envs)] for r in range(n_runs)])
    meter.begin(obs)
    return batch, meter


def walk(batch, meter, actions):
    """Take ``actions [T, R, E, *event]``."""
    for action in actions:
        meter.observe(action, batch.step(action))


def random_actions(batch, n_steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    space = batch.env.single_action_space
    shape = (n_steps, batch.n_runs, batch.n_envs)
    if isinstance(space, spaces.Box):
        return 2.0 * torch.rand(*shape, *space.shape, generator=generator) - 1.0
    return torch.randint(0, int(space.n), shape, generator=generator)


class Tally:
    """What one run meets, by stepping its environments one by one."""

    def __init__(self, make, cell_of, actions, seeds, mode):
        self.visits, self.first_visit, self.first_reward, self._cell_of = Counter(), {}, -1, cell_of
        envs = [make() for _ in seeds]
        for env, seed in zip(envs, seeds, strict=True):
            self._meet(env.reset(seed=seed)[0], 0)
        ended = [False] * len(envs)
        for t, row in enumerate(actions):
            now = (t + 1) * len(envs)
            for e, env in enumerate(envs):
                if ended[e]:  # only in NEXT_STEP mode: nothing is done but the reset
                    ended[e] = False
                    self._meet(env.reset()[0], now)
                    continue
                obs, reward, terminated, truncated, _ = env.step(row[e].numpy() if row[e].ndim else int(row[e]))
                self._meet(obs, now)
                if reward > 0 and self.first_reward < 0:
                    self.first_reward = now
                ended[e] = terminated or truncated
                if ended[e] and mode is not NEXT_STEP:
                    ended[e] = False
                    self._meet(env.reset()[0], now)

    def _meet(self, obs, now):
        cell = int(self._cell_of(obs))
        self.visits[cell] += 1
        self.first_visit.setdefault(cell, now)


def same(value, other):
    """Whether two metrics are the same to the last bit, NaN included."""
    return torch.equal(value.nan_to_num(-1.0), other.nan_to_num(-1.0))


def one_hot_or_end(obs):
    return obs.argmax() if obs.any() else len(obs)


def tenths(obs):
    """Cells of PointMaze: 10 x 10 squares of side 0.2, from the space's bounds of -1 and 1."""
    x, y = np.clip((obs.astype(np.float64) + 1.0) / 2.0 * 10, 0, 9).astype(int)
    return x + 10 * y


SQUARES = grid(np.full(2, -1.0), np.full(2, 1.0), bins=10)
WORLDS = {
    # id, arguments, cells (None for the default), the cell of an observation by itself, steps
    "frozen lake": ("FrozenLake-v1", {"is_slippery": False}, None, int, 250),
    "clock": ("test/Clock-v0", {"limit": 4}, Cells(5, lambda obs: obs.argmax(-1)), np.argmax, 40),
    "lottery": ("test/Lottery-v0", {}, Cells(21, lambda obs: obs[..., 0].long()), lambda obs: obs[0], 80),
    "deep sea": ("entropic_rl/DeepSea-v0", {"size": 4, "stochastic": True}, None, one_hot_or_end, 40),
    "river": ("entropic_rl/RiverSwim-v0", {"limit": 7}, None, int, 60),
    "maze": ("entropic_rl/PointMaze-v0", {"limit": 15, "stride": 0.9}, SQUARES, tenths, 60),
}
CASES = [(world, "sync", mode) for world in WORLDS for mode in AutoresetMode]
CASES += [(world, "batched", mode) for world in ("deep sea", "river", "maze") for mode in (SAME_STEP, DISABLED)]


@pytest.mark.parametrize(("world", "backend", "mode"), CASES, ids=lambda part: getattr(part, "name", part))
def test_counts_are_those_of_single_environments_stepped_one_by_one(world, backend, mode):
    env_id, kwargs, cells, cell_of, n_steps = WORLDS[world]
    batch, meter = start(env_id, kwargs, backend=backend, mode=mode, n_runs=2, n_envs=2, cells=cells)
    actions = random_actions(batch, n_steps)
    walk(batch, meter, actions)
    metrics = meter.read()
    n_rewarded = 0
    for r in range(2):
        seeds = [100 * r + e for e in range(2)]
        tally = Tally(partial(make_env, env_id, kwargs), cell_of, actions[:, r], seeds, mode)
        n = meter.cells.n
        assert meter.visits[r].tolist() == [tally.visits[i] for i in range(n)]
        assert meter.first_visit[r].tolist() == [tally.first_visit.get(i, -1) for i in range(n)]
        assert int(meter.first_reward[r]) == tally.first_reward
        n_rewarded += tally.first_reward >= 0
        shares = [count / tally.visits.total() for count in tally.visits.values()]
        entropy = -sum(share * math.log(share) for share in shares)
        assert metrics["explore/visitation_entropy"][r].item() == pytest.approx(entropy, rel=1e-5)
        assert metrics["explore/n_states"][r].item() == len(tally.visits)
        assert metrics["explore/coverage"][r].item() == pytest.approx(
            len(tally.visits) / (meter.cells.n_states or meter.cells.n)
        )
    assert n_rewarded or world == "maze"  # what is compared does happen


# Counting, by hand


@pytest.mark.parametrize(
    ("mode", "visits"),
    [
        # 0 (reset), then 1 2 3 4+0 | 1 2 3 4+0 | 1 2
        (SAME_STEP, [3, 3, 3, 2, 2]),
        (DISABLED, [3, 3, 3, 2, 2]),
        # 0 (reset), then 1 2 3 4 | 0 1 2 3 4 | 0: in the rows after an end nothing is met but the first state
        (NEXT_STEP, [3, 2, 2, 2, 2]),
    ],
    ids=lambda part: getattr(part, "name", ""),
)
@pytest.mark.parametrize("cut", [True, False], ids=["truncated", "terminated"])
def test_first_and_last_states_of_episodes_are_counted_once_each_and_reset_rows_are_not(mode, visits, cut):
    batch, meter = start("test/Clock-v0", {"limit": 4, "cut": cut}, mode=mode, cells=Cells(5, lambda o: o.argmax(-1)))
    walk(batch, meter, torch.zeros(10, 1, 1, dtype=torch.int64))
    metrics = meter.read()
    assert meter.visits.tolist() == [visits]
    assert meter.first_visit.tolist() == [[0, 1, 2, 3, 4]]
    assert metrics["explore/coverage"].tolist() == [1.0]


def test_all_modes_give_the_same_visits_for_the_same_episodes():
    # Three episodes of four steps: 12 rows, or 15 with the row after each end.
    counted = []
    for mode in AutoresetMode:
        batch, meter = start("test/Clock-v0", {"limit": 4}, mode=mode, n_envs=2, cells=Cells(5, lambda o: o.argmax(-1)))
        walk(batch, meter, torch.zeros(15 if mode is NEXT_STEP else 12, 1, 2, dtype=torch.int64))
        meter.read()
        counted.append(meter.visits.tolist())
    assert counted == [[[8, 6, 6, 6, 6]]] * 3


@pytest.mark.parametrize("backend", ["sync", "batched"])
def test_metrics_of_two_dives_are_those_counted_by_hand(backend):
    # Cells row by row: (0,0) = 0, (0,1) = 1 is above the diagonal, (1,0) = 2, (1,1) = 3, the end = 4. Left, left passes
    # 0 2 4, right, right 0 3 4 and the treasure; then the first state of a third dive.
    kwargs = {"size": 2, "randomize_actions": False}
    batch, meter = start("entropic_rl/DeepSea-v0", kwargs, backend=backend)
    walk(batch, meter, torch.tensor([0, 0, 1, 1]).view(4, 1, 1))
    metrics = meter.read()
    assert meter.visits.tolist() == [[3, 0, 1, 1, 2]]
    assert meter.first_visit.tolist() == [[0, -1, 1, 3, 2]]
    assert metrics["explore/n_states"].tolist() == [4]
    assert metrics["explore/coverage"].tolist() == [1.0]  # of the four states there are
    expected = -(3 * math.log(3 / 7) + 2 * math.log(1 / 7) + 2 * math.log(2 / 7)) / 7
    assert metrics["explore/visitation_entropy"].tolist() == pytest.approx([expected])
    assert metrics["explore/first_reward"].tolist() == [4.0]
    assert metrics["explore/action_entropy"].tolist() == pytest.approx([math.log(2.0)])


def test_first_state_is_counted_before_any_step():
    _, meter = start("test/Clock-v0", n_envs=3, cells=Cells(5, lambda obs: obs.argmax(-1)))
    metrics = meter.read()
    assert meter.visits.tolist() == [[3, 0, 0, 0, 0]]
    assert metrics["explore/coverage"].tolist() == pytest.approx([0.2])
    assert metrics["explore/visitation_entropy"].tolist() == [0.0]
    for _ in range(30):
        meter.begin(torch.eye(5)[torch.zeros(1, 3, dtype=torch.int64)])
        assert meter.read()["explore/visitation_entropy"].tolist() == [0.0]


def test_steps_are_those_of_all_environments_of_a_run():
    batch, meter = start("test/Clock-v0", n_runs=2, n_envs=3, cells=Cells(5, lambda obs: obs.argmax(-1)))
    walk(batch, meter, torch.zeros(4, 2, 3, dtype=torch.int64))
    meter.read()
    assert meter.first_visit.tolist() == [[0, 3, 6, 9, 12]] * 2
    assert meter.first_reward.tolist() == [3, 3]


def test_grid_coverage_is_a_share_of_the_cells():
    batch, meter = start("entropic_rl/PointMaze-v0")
    walk(batch, meter, torch.zeros(5, 1, 1, 2))  # it stays where it is
    assert meter.read()["explore/coverage"].tolist() == [1 / 2500]


def test_without_cells_actions_and_rewards_are_counted_still():
    batch, _ = start("test/Clock-v0")
    meter = ExplorationMeter(None, 1, 1, action=action_spec(spaces.Discrete(2)))
    meter.begin(torch.zeros(1, 1, 5))
    walk(batch, meter, torch.tensor([0, 1]).view(2, 1, 1))
    metrics = {name: value.tolist() for name, value in meter.read().items()}
    assert metrics == {"explore/action_entropy": pytest.approx([math.log(2)]), "explore/first_reward": [1.0]}


def test_final_observations_count_only_where_an_episode_ended():
    # elsewhere a vector env may leave there what it likes, here the cells 2 and 3
    meter = ExplorationMeter(cells_of(spaces.Discrete(4)), 1, 3, action=action_spec(spaces.Discrete(2)))
    first = torch.eye(4)[torch.tensor([[0, 0, 0]])]
    terminated, truncated = torch.tensor([[True, False, False]]), torch.tensor([[False, False, True]])
    final = torch.eye(4)[torch.tensor([[1, 2, 3]])]
    meter.begin(first)
    meter.observe(torch.zeros(1, 3), Transition(first, torch.zeros(1, 3), terminated, truncated, final, None))
    meter.read()
    assert meter.visits.tolist() == [[6, 1, 0, 1]]
    assert meter.first_visit.tolist() == [[0, 3, -1, 3]]


# Reading


def test_reading_twice_adds_nothing():
    batch, meter = start("FrozenLake-v1", n_runs=2, n_envs=2)
    walk(batch, meter, random_actions(batch, 60))
    before = meter.read()
    kept = {name: getattr(meter, name).clone() for name in COUNTS}
    after = meter.read()
    assert all(torch.equal(getattr(meter, name), kept[name]) for name in COUNTS)
    assert set(before) - set(after) == {"explore/action_entropy"}  # there was no action since
    for name, value in after.items():
        assert same(value, before[name]), name


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.name)
def test_how_often_it_is_read_changes_no_count(mode):
    meters = []
    for every in (3, 1000):
        batch, meter = start("FrozenLake-v1", {"is_slippery": False}, mode=mode, n_runs=2, n_envs=2)
        for t, action in enumerate(random_actions(batch, 100), 1):
            meter.observe(action, batch.step(action))
            if t % every == 0:
                meter.read()
        meters.append((meter, meter.read()))
    (often, some), (once, all_in_one) = meters
    assert (once.first_reward > 0).any()
    for name in COUNTS:
        assert torch.equal(getattr(often, name), getattr(once, name)), name
    for name in ("coverage", "n_states", "visitation_entropy", "first_reward"):
        assert same(some[f"explore/{name}"], all_in_one[f"explore/{name}"]), name


def test_steps_that_are_counted_early_to_save_memory_change_no_count(monkeypatch):
    meters = []
    for remembered in (10**6, 40):
        monkeypatch.setattr("entropic_rl.exploration._REMEMBERED", remembered)
        batch, meter = start("FrozenLake-v1", mode=NEXT_STEP, n_runs=2, n_envs=2)
        walk(batch, meter, random_actions(batch, 50))
        meters.append((meter, meter.read()))
    (whole, metrics), (parts, same_metrics) = meters
    for name in COUNTS:
        assert torch.equal(getattr(whole, name), getattr(parts, name)), name
    assert all(same(metrics[name], same_metrics[name]) for name in metrics)


def test_observations_that_are_overwritten_later_are_counted_as_they_were():
    # vector envs may write into the same memory at every step
    meter = ExplorationMeter(cells_of(spaces.Discrete(3)), 1, 2, action=action_spec(spaces.Discrete(2)))
    obs, reward = torch.eye(3)[torch.tensor([[0, 0]])], torch.tensor([[0.0, 1.0]])
    never = torch.zeros(1, 2, dtype=torch.bool)
    meter.begin(obs)
    obs.copy_(torch.eye(3)[torch.tensor([[1, 2]])])
    meter.observe(torch.zeros(1, 2), Transition(obs, reward, never, never, None, None))
    obs.zero_(), reward.zero_()
    meter.read()
    assert meter.visits.tolist() == [[2, 1, 1]]
    assert meter.first_reward.tolist() == [2]


@pytest.mark.parametrize(
    ("env_id", "backend", "mode"),
    [
        ("FrozenLake-v1", "sync", NEXT_STEP),
        ("entropic_rl/RiverSwim-v0", "batched", SAME_STEP),
        ("entropic_rl/PointMaze-v0", "batched", DISABLED),
    ],
)
def test_metrics_of_a_run_do_not_depend_on_the_runs_beside_it(env_id, backend, mode):
    options = {"backend": backend, "mode": mode, "n_envs": 2}
    batch, together = start(env_id, n_runs=5, **options)
    actions = random_actions(batch, 60)
    walk(batch, together, actions)
    metrics = together.read()
    for run in (0, 3):
        batch, alone = start(env_id, first=run, **options)
        walk(batch, alone, actions[:, run : run + 1])
        for name, value in alone.read().items():
            assert same(value, metrics[name][run : run + 1]), name


# Entropy of actions


def action_entropy(space, actions, valid=None, *, squash_output=False):
    """Of ``actions [T, R, E, *event]`` that met nothing, each step valid or not by ``valid [T, R, E]``."""
    actions = torch.as_tensor(actions)
    _, n_runs, n_envs, *_ = actions.shape
    meter = ExplorationMeter(None, n_runs, n_envs, action=action_spec(space, squash_output=squash_output))
    observe_all(meter, actions, valid)
    return meter.read()["explore/action_entropy"].tolist()


def observe_all(meter, actions, valid=None):
    for t, action in enumerate(actions):
        nothing, never = torch.zeros(action.shape[:2]), torch.zeros(action.shape[:2], dtype=torch.bool)
        counts = None if valid is None else torch.as_tensor(valid[t])
        meter.observe(action, Transition(nothing.unsqueeze(-1), nothing, never, never, None, counts))


def test_uniform_choice_of_two_has_log_2_and_a_constant_one_none():
    uniform, constant = [[0, 1], [1, 0]], [[1, 1], [1, 1]]
    entropy = action_entropy(spaces.Discrete(2), [list(rows) for rows in zip(uniform, constant, strict=True)])
    assert entropy == pytest.approx([math.log(2.0), 0.0])


def test_choices_of_three_to_one_have_their_entropy():
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert action_entropy(spaces.Discrete(5), [[[4, 4, 2, 4]]]) == pytest.approx([expected])


def test_choices_are_counted_from_0_wherever_the_space_starts():
    assert action_entropy(spaces.Discrete(3, start=7), [[[0, 1, 2]]]) == pytest.approx([math.log(3.0)])


def test_components_of_a_multi_discrete_space_are_summed():
    # the first is uniform over 2, the second over 3, and that they go together does not matter
    actions = [[[[i % 2, i % 3]]] for i in range(6)]
    assert action_entropy(spaces.MultiDiscrete([2, 3]), actions) == pytest.approx([math.log(2.0) + math.log(3.0)])
    assert action_entropy(spaces.MultiDiscrete([2, 3]), [[[[i % 2, 2]]] for i in range(6)]) == pytest.approx(
        [math.log(2.0)]
    )


def test_bits_of_a_multi_binary_space_are_summed():
    actions = [[[[0, 1, 1], [1, 1, 0]]]]
    assert action_entropy(spaces.MultiBinary(3), actions) == pytest.approx([2 * math.log(2.0)])


def middles(n_dims):
    """The middle of each of 32 bins of [-1, 1], in another order in each dimension, ``[32, 1, 1, D]``."""
    middle = (torch.arange(32) + 0.5) / 16.0 - 1.0
    return torch.stack([middle.roll(5 * d) for d in range(n_dims)], -1).view(32, 1, 1, n_dims)


@pytest.mark.parametrize("n_dims", [1, 3])
def test_uniform_actions_in_a_box_have_log_2_per_dimension(n_dims):
    # the density 1/2 over [-1, 1], whatever the bounds are outside
    box = spaces.Box(-5.0, 9.0, (n_dims,))
    assert action_entropy(box, middles(n_dims)) == pytest.approx([n_dims * math.log(2.0)])
    assert action_entropy(box, middles(n_dims).atanh(), squash_output=True) == pytest.approx([n_dims * math.log(2.0)])


@pytest.mark.parametrize("squash_output", [False, True])
def test_constant_actions_in_a_box_have_the_entropy_of_one_bin(squash_output):
    entropy = action_entropy(spaces.Box(-1.0, 1.0, (2,)), torch.full((7, 1, 1, 2), 0.3), squash_output=squash_output)
    assert entropy == pytest.approx([2 * math.log(1 / 16)])


def test_random_uniform_actions_in_a_box_come_close_to_log_2_per_dimension():
    actions = 2.0 * torch.rand(100, 1, 50, 4, generator=torch.Generator().manual_seed(1)) - 1.0
    # the plug-in entropy of 32 bins is low by (32 - 1) / (2 * 5000) on average
    assert action_entropy(spaces.Box(-1.0, 1.0, (4,)), actions) == pytest.approx([4 * math.log(2.0)], abs=0.03)


@pytest.mark.parametrize("squash_output", [False, True])
def test_actions_at_and_beyond_the_bounds_lie_in_the_outer_bins(squash_output):
    # half at either bound: log 2 of the choice between them, log 1/16 of the bin's width
    actions = torch.tensor([30.0, -30.0, 1e30, -1e30]).view(4, 1, 1, 1)
    entropy = action_entropy(spaces.Box(-1.0, 1.0, (1,)), actions, squash_output=squash_output)
    assert entropy == pytest.approx([math.log(2.0) + math.log(1 / 16)])


def test_actions_of_invalid_rows_are_not_counted():
    valid = [[[True, False]], [[True, True]], [[False, True]]]
    assert action_entropy(spaces.Discrete(3), [[[1, 0]], [[1, 1]], [[2, 1]]], valid) == [0.0]
    middle = middles(1)
    actions = torch.stack((middle[:, 0, 0], torch.full((32, 1), 0.9)), 1).unsqueeze(1)  # [32, 1, 2, 1]
    first_env = torch.tensor([True, False]).expand(32, 1, 2)
    assert action_entropy(spaces.Box(-1.0, 1.0, (1,)), actions, first_env) == pytest.approx([math.log(2.0)])


def test_action_given_to_a_resetting_environment_is_not_counted():
    batch, meter = start("test/Clock-v0", {"limit": 2}, mode=NEXT_STEP)
    walk(batch, meter, torch.tensor([0, 0, 1, 0, 0, 1, 0]).view(7, 1, 1))  # 1 in the rows after an end
    assert meter.read()["explore/action_entropy"].tolist() == [0.0]


def test_entropy_is_that_of_the_actions_since_the_last_reading():
    meter = ExplorationMeter(None, 1, 2, action=action_spec(spaces.Discrete(2)))
    observe_all(meter, torch.tensor([[[0, 1]]]))
    assert meter.read()["explore/action_entropy"].tolist() == pytest.approx([math.log(2.0)])
    observe_all(meter, torch.tensor([[[1, 1]]]))
    assert meter.read()["explore/action_entropy"].tolist() == [0.0]


# In training


class Late(gym.Env):
    """Pays 1 in the last of ``limit`` steps."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Discrete(9)

    def __init__(self, limit):
        self.limit = limit

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return 0, {}

    def step(self, action):
        self.steps += 1
        return self.steps, float(self.steps == self.limit), self.steps == self.limit, False, {}


def rows_of_training(limits, total_timesteps, *, mode=SAME_STEP, meter=True):
    """Rows of two runs of two environments each, 4 steps between updates."""
    env = SyncVectorEnv([partial(Late, limit) for limit in limits for _ in range(2)], autoreset_mode=mode)
    observation, action = observation_spec(env.single_observation_space), action_spec(env.single_action_space)
    envs = EnvBatch(env, 2, observation=observation, action=action, success_return=1.0)
    config = A2CConfig(n_steps=4, net_arch=(4,))
    agent = A2C([config] * 2, [0, 1], observation=observation, action=action, n_envs=2)
    counted = ExplorationMeter(cells_of(env.single_observation_space), 2, 2, action=action) if meter else None
    return [record.rows for record in train(agent, envs, total_timesteps=total_timesteps, seeds=[0, 1], meter=counted)]


@pytest.mark.parametrize("name", ["explore/first_reward", "explore/first_success"])
def test_what_has_not_happened_yet_is_absent_and_its_step_stays_after(name):
    # run 0 earns at its steps 6, 12, ..., of two envs each; run 1 at 3, 6, ...
    rows = rows_of_training((6, 3), 24)
    assert [row[0].get(name) for row in rows] == [None, 12.0, 12.0]
    assert [row[1].get(name) for row in rows] == [6.0, 6.0, 6.0]


def test_rows_of_training_hold_what_the_meter_counts():
    [first, _] = rows_of_training((8, 8), 16)
    # states 0 to 4 of 9, each met by both environments
    assert first[0]["explore/n_states"] == 5.0
    assert first[0]["explore/coverage"] == pytest.approx(5 / 9)
    assert first[0]["explore/visitation_entropy"] == pytest.approx(math.log(5.0))
    assert 0.0 <= first[0]["explore/action_entropy"] <= math.log(2.0)


def test_training_without_a_meter_has_none_of_its_numbers():
    [row, _] = rows_of_training((3, 3), 8, meter=False)[-1]
    entropy = {f"explore/policy_entropy{which}" for which in ("", "_q10", "_q50", "_q90")}
    assert {name for name in row if name.startswith("explore/")} == entropy | {"explore/first_success"}


def test_meter_changes_nothing_in_training():
    with_it, without = (rows_of_training((6, 3), 24, meter=meter)[-1] for meter in (True, False))
    for row, other in zip(with_it, without, strict=True):
        expected = {name: value for name, value in other.items() if not name.startswith("time/")}
        assert {name: row[name] for name in expected} == expected
