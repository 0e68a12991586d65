"""The rules of our own environments: numbers by hand, brute force, frequencies, and what they refuse."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from entropic_rl.envs.bandit import Bandit
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.envs.cartpole import CartPole
from entropic_rl.envs.cartpole_positions import CartPolePositions
from entropic_rl.envs.cartpole_swingup import CartPoleSwingUp
from entropic_rl.envs.catch import Catch
from entropic_rl.envs.chain import Chain
from entropic_rl.envs.deep_sea import DeepSea
from entropic_rl.envs.finite import FiniteDynamics
from entropic_rl.envs.four_rooms import FourRooms
from entropic_rl.envs.mountain_car import MountainCar
from entropic_rl.envs.mountain_car_sparse import MountainCarSparse
from entropic_rl.envs.oracle import bandit_optimum, evaluate_policy, soft_value_iteration
from entropic_rl.envs.point_maze import PointMaze
from entropic_rl.envs.river_swim import RiverSwim
from entropic_rl.envs.single import SingleEnv
from entropic_rl.errors import EnvError
from entropic_rl.exploration import cells_of, grid
from entropic_rl.spaces import observation_spec
from entropic_rl.streams import Stream

FINITE = {
    "bandit": (Bandit, {}),
    "bandit, noisy": (Bandit, {"rewards": (0.5, -1.0, 2.0, 0.0), "noise": 0.7}),
    "chain": (Chain, {}),
    "chain, hard start": (Chain, {"length": 3, "prizes": (-0.1, 2.0), "start": 0}),
    "river swim": (RiverSwim, {}),
    "river swim, short": (RiverSwim, {"length": 2, "small": 0.5}),
    "deep sea": (DeepSea, {"size": 5}),
    "deep sea, stochastic": (DeepSea, {"size": 4, "stochastic": True}),
    "four rooms": (FourRooms, {"start": "uniform"}),
    "four rooms, slippery": (FourRooms, {"start": "uniform", "slip": 1 / 3, "goal": (3, 6)}),
}
every_finite = pytest.mark.parametrize("case", FINITE)
NO_DRAWS = torch.empty(0, 1, dtype=torch.float64)


def finite(case):
    rules, arguments = FINITE[case]
    return rules(**arguments)


def batch(rules, num_envs, seed=0, **arguments):
    env = BatchedEnv(rules, num_envs, autoreset_mode="Disabled", **arguments)
    env.reset(seed=seed)
    return env


def stepped(rules, state, action):
    """State, reward and terminated after one step of one copy without randomness."""
    action = torch.tensor([action])
    state, reward, terminated = rules.step(torch.tensor(state, dtype=torch.float64).unsqueeze(1), action, NO_DRAWS)
    return state[:, 0].tolist(), float(reward), bool(terminated)


def likely(count, n, probability):
    """Whether counts are what n draws of these probabilities may give; exact, one mistake in 10^7."""
    probability = np.minimum(probability, 1.0)  # sums of rounded numbers
    fewer, more = stats.binom.cdf(count, n, probability), stats.binom.sf(np.asarray(count) - 1, n, probability)
    return np.minimum(fewer, more) > 1e-7


# Finite environments and their tables


@functools.cache
def random_walk(case):
    """Counts ``[S, A, S]`` and per pair the number, mean and deviation of rewards of a random policy."""
    rules, arguments = FINITE[case]
    env = batch(rules, 1500, **arguments)
    n_states, n_actions = env.dynamics.n_states, env.dynamics.n_actions
    generator, rows = torch.Generator().manual_seed(0), []
    for _ in range(150):
        state, action = env.state[0], torch.randint(n_actions, (1500,), generator=generator)
        _, reward, terminated, truncated, _ = env.step(action)
        rows.append(torch.stack([state * n_actions + action, env.state[0], reward.double()]))
        env.reset(options={"reset_mask": terminated | truncated})
    pair, successor, reward = torch.cat(rows, 1)
    pair, n_pairs = pair.long(), n_states * n_actions
    counts = torch.zeros(n_pairs, n_states, dtype=torch.float64)
    counts.index_put_((pair, successor.long()), torch.ones_like(reward), accumulate=True)
    n = counts.sum(1)
    mean = torch.zeros(n_pairs, dtype=torch.float64).index_add_(0, pair, reward) / n
    square = torch.zeros(n_pairs, dtype=torch.float64).index_add_(0, pair, (reward - mean[pair]) ** 2) / n
    shape = (n_states, n_actions)
    return counts.view(*shape, n_states), n.view(shape), mean.view(shape), square.sqrt().view(shape)


@every_finite
def test_random_walk_tries_every_action_wherever_it_gets(case):
    mdp = finite(case).mdp
    _, n, _, _ = random_walk(case)
    tried = n[~mdp.terminal]
    assert tried.min() >= 100
    assert n[mdp.terminal].sum() == 0


@every_finite
def test_transitions_have_the_frequencies_of_the_table(case):
    counts, n, _, _ = random_walk(case)
    unlikely = ~likely(counts, n.unsqueeze(2), finite(case).mdp.transition.numpy())
    assert np.argwhere(unlikely).tolist() == []


@every_finite
def test_rewards_have_the_mean_of_the_table(case):
    mdp = finite(case).mdp
    _, n, mean, deviation = random_walk(case)
    error = ((mean - mdp.reward).abs() - 4.5 * deviation / n.sqrt())[~mdp.terminal]
    assert error.max() < 1e-6


@every_finite
def test_starts_have_the_frequencies_of_the_table(case):
    rules, arguments = FINITE[case]
    env, expected = batch(rules, 20_000, **arguments), finite(case).mdp.start
    counts = torch.bincount(env.state[0], minlength=len(expected))
    assert likely(counts.numpy(), 20_000, expected.numpy()).all()


@every_finite
def test_probabilities_sum_to_one(case):
    mdp = finite(case).mdp
    for table in (mdp.transition, mdp.start):
        assert (table >= 0.0).all()
        torch.testing.assert_close(table.sum(-1), torch.ones_like(table.sum(-1)), rtol=0.0, atol=1e-12)


@every_finite
@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_oracle_solves_every_finite_environment(case, temperature):
    mdp = finite(case).mdp
    solution = soft_value_iteration(mdp, temperature, 0.95)
    value = evaluate_policy(mdp, solution.policy, 0.95, temperature=temperature)
    torch.testing.assert_close(value, solution.value, rtol=0.0, atol=1e-9)
    uniform = torch.full_like(mdp.reward, 1.0 / mdp.n_actions)
    assert (solution.value >= evaluate_policy(mdp, uniform, 0.95, temperature=temperature) - 1e-9).all()


def test_noise_of_a_reward_is_independent_of_the_outcome():
    # From state 0 the one action leads to 1 or 2, equally likely; the noise has mean 0 and deviation 1 on either way.
    n = 20_000
    rules = FiniteDynamics(
        np.array([[[1, 2]], [[1, 1]], [[2, 2]]]),
        np.zeros((3, 1, 2)),
        probability=np.full((3, 1, 2), 0.5),
        start=np.array([1.0, 0.0, 0.0]),
        terminal=np.array([False, True, True]),
        reward_std=np.ones((3, 1)),
    )
    u = Stream([0], "step").uniform(2, n)[0]
    state, reward, _ = rules.step(torch.zeros(1, n, dtype=torch.int64), torch.zeros(n, dtype=torch.int64), u)
    for end in (1, 2):
        assert stats.kstest(reward[state[0] == end].numpy(), stats.norm.cdf).pvalue > 1e-3


# DeepSea


def deep_sea_return(mapping, sequence, move_cost):
    """The return of a sequence of actions, by the words of Osband et al."""
    size, column, total = len(mapping), 0, 0.0
    for row, action in enumerate(sequence):
        if action == mapping[row, column]:
            total += float(row == column == size - 1) - move_cost / size
            column = min(column + 1, size - 1)
        else:
            column = max(column - 1, 0)
    return total


@pytest.mark.parametrize("move_cost", [0.01, 0.5])
@pytest.mark.parametrize("seed", [42, 7])
def test_all_sequences_of_a_small_deep_sea_earn_what_brute_force_says(move_cost, seed):
    mapping = np.random.RandomState(seed).binomial(1, 0.5, (4, 4))
    sequences = list(itertools.product((0, 1), repeat=4))
    env = BatchedEnv(DeepSea, 16, size=4, move_cost=move_cost, mapping_seed=seed)
    env.reset(seed=0)
    outcomes = [env.step(action) for action in torch.tensor(sequences).T]
    total = torch.stack([out[1] for out in outcomes]).sum(0)
    expected = [deep_sea_return(mapping, sequence, move_cost) for sequence in sequences]
    assert total.tolist() == pytest.approx(expected, abs=1e-6)
    # One way to the treasure, at the price of all four moves; of the others, n_right moves cost a quarter each.
    assert sorted(total.tolist())[-1] == pytest.approx(1.0 - move_cost, abs=1e-6)
    assert sum(value > 1e-6 for value in total.tolist()) == 1
    assert [out[2].all().item() for out in outcomes] == [False, False, False, True]


@pytest.mark.parametrize(("size", "move_cost"), [(10, 0.01), (2, 0.3), (23, 0.01)])
def test_following_the_mapping_earns_one_less_the_cost(size, move_cost):
    mapping = np.random.RandomState(42).binomial(1, 0.5, (size, size))
    env = SingleEnv(DeepSea, size=size, move_cost=move_cost)
    env.reset(seed=0)
    rewards = [env.step(mapping[i, i])[1] for i in range(size)]
    assert rewards[:-1] == pytest.approx([-move_cost / size] * (size - 1), abs=1e-7)
    assert sum(rewards) == pytest.approx(1.0 - move_cost, abs=1e-6)


def test_which_action_means_right_is_the_draw_of_bsuite():
    # Beginning of RandomState(42).binomial(1, 0.5, (10, 10)), written down: rows 0 to 3, columns up to the diagonal.
    drawn = [[0], [0, 1], [1, 0, 0], [1, 0, 0, 1]]
    mapping = np.random.RandomState(42).binomial(1, 0.5, (10, 10))
    assert [mapping[row, : row + 1].tolist() for row in range(4)] == drawn
    transition = DeepSea().mdp.transition
    for row, column in itertools.combinations_with_replacement(range(9, -1, -1), 2):
        if row == 9:
            continue  # from the last row all leads to the end
        here, below = row * (row + 1) // 2 + column, (row + 1) * (row + 2) // 2
        assert transition[here, mapping[row, column], below + column + 1] == 1.0
        assert transition[here, 1 - mapping[row, column], below + max(column - 1, 0)] == 1.0


def test_without_random_actions_one_is_right_everywhere():
    env = SingleEnv(DeepSea, size=6, randomize_actions=False)
    env.reset(seed=0)
    assert sum(env.step(1)[1] for _ in range(6)) == pytest.approx(0.99, abs=1e-6)


def test_going_left_costs_and_earns_nothing():
    mapping = np.random.RandomState(42).binomial(1, 0.5, (10, 10))
    env = SingleEnv(DeepSea)
    env.reset(seed=0)
    assert [env.step(1 - mapping[row, 0])[1] for row in range(10)] == [0.0] * 10


def test_treasure_is_at_the_bottom_right_only():
    mdp = DeepSea(size=7, move_cost=0.0).mdp
    assert mdp.reward.nonzero().tolist() == [[27, int(np.random.RandomState(42).binomial(1, 0.5, (7, 7))[6, 6])]]


@pytest.mark.parametrize("size", [2, 5, 10, 20])
def test_uniform_policy_succeeds_with_probability_two_to_the_minus_size(size):
    mdp = DeepSea(size=size, move_cost=0.0).mdp
    value = evaluate_policy(mdp, torch.full_like(mdp.reward, 0.5), 1.0)
    assert float(mdp.start @ value) == pytest.approx(2.0**-size, rel=1e-9)


def test_best_policy_of_the_stochastic_deep_sea_is_the_one_that_always_goes_right():
    # All N moves cost 0.01 / N each, and the last pays where none of the N - 1 before it failed: (1 - 1/N)^(N - 1).
    # The failure of the last move does no harm: its treasure is already there.
    solution = soft_value_iteration(DeepSea(size=6, stochastic=True).mdp, 0.0, 1.0)
    assert solution.expected_return == pytest.approx((5 / 6) ** 5 - 0.01, abs=0.01)
    assert solution.expected_return >= (5 / 6) ** 5 - 0.01 - 1e-12


def test_stochastic_moves_to_the_right_fail_one_time_in_size():
    n, size = 40_000, 5
    right = int(np.random.RandomState(42).binomial(1, 0.5, (size, size))[0, 0])
    env = batch(DeepSea, n, size=size, stochastic=True)
    env.step(torch.full((n,), right))
    failed = int((env.state[0] == 1).sum())  # straight down instead of to the right, which is state 2
    assert likely(failed, n, 1 / size)
    assert int((env.state[0] == 2).sum()) == n - failed
    env.reset()
    env.step(torch.full((n,), 1 - right))
    assert bool((env.state[0] == 1).all())


@pytest.mark.parametrize(("row", "column", "noisy"), [(3, 0, True), (3, 3, True), (3, 1, False), (0, 0, False)])
def test_stochastic_rewards_are_noisy_in_the_bottom_corners_only(row, column, noisy):
    n, right = 10_000, int(np.random.RandomState(42).binomial(1, 0.5, (4, 4))[row, column])
    for action in (right, 1 - right):
        env = batch(DeepSea, n, size=4, stochastic=True)
        env.state = torch.full((1, n), row * (row + 1) // 2 + column)
        reward = env.step(torch.full((n,), action))[1].double()
        mean = (float(row == column == 3) - 0.01 / 4) * (action == right)
        if noisy:
            assert float(reward.mean()) == pytest.approx(mean, abs=4 / n**0.5)
            assert float(reward.std()) == pytest.approx(1.0, abs=4 / (2 * n) ** 0.5)
            assert stats.kstest(reward.numpy() - mean, stats.norm.cdf).pvalue > 1e-3
        else:
            assert reward.numpy() == pytest.approx(mean, abs=1e-7)


def test_diver_is_shown_as_a_one_in_its_cell():
    env = SingleEnv(DeepSea, size=3, randomize_actions=False)
    seen = [env.reset(seed=0)[0].tolist(), *(env.step(action)[0].tolist() for action in (1, 0, 0))]
    assert seen == [
        [1, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
    ]


# RiverSwim


def test_river_swim_has_the_probabilities_of_the_figure():
    against = torch.tensor(
        [
            [0.40, 0.60, 0.00, 0.00, 0.00, 0.00],
            [0.05, 0.60, 0.35, 0.00, 0.00, 0.00],
            [0.00, 0.05, 0.60, 0.35, 0.00, 0.00],
            [0.00, 0.00, 0.05, 0.60, 0.35, 0.00],
            [0.00, 0.00, 0.00, 0.05, 0.60, 0.35],
            [0.00, 0.00, 0.00, 0.00, 0.40, 0.60],
        ],
        dtype=torch.float64,
    )
    mdp = RiverSwim().mdp
    torch.testing.assert_close(mdp.transition[:, 1], against, rtol=0.0, atol=1e-12)
    assert mdp.transition[:, 0].argmax(1).tolist() == [0, 0, 1, 2, 3, 4]
    assert (mdp.transition[:, 0].amax(1) == 1.0).all()


def test_river_swim_pays_at_its_ends_only():
    mdp = RiverSwim(small=0.25).mdp
    paid = {(s, a): mdp.reward[s, a].item() for s, a in mdp.reward.nonzero().tolist()}
    assert paid == {(0, 0): 0.25, (5, 1): pytest.approx(1.0)}


def test_river_swim_starts_downstream_and_never_terminates():
    mdp = RiverSwim().mdp
    assert mdp.start.tolist() == [1, 0, 0, 0, 0, 0]
    assert not mdp.terminal.any()
    assert RiverSwim().max_episode_steps == 20


# Chain


def test_chain_pays_its_prizes_at_the_ends_and_moves_one_state_at_a_time():
    mdp = Chain(length=4, prizes=(0.3, 0.4)).mdp
    assert mdp.reward.tolist() == [[0.3, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.4]]
    assert mdp.transition[:, 0].argmax(1).tolist() == [0, 0, 1, 2]
    assert mdp.transition[:, 1].argmax(1).tolist() == [1, 2, 3, 3]
    assert not mdp.terminal.any()


def test_ten_steps_in_the_lap_of_the_near_prize_earn_more_than_leaving_for_the_far_one():
    env = BatchedEnv(Chain, 2, start=0)
    env.reset(seed=0)
    outcomes = [env.step(torch.tensor([0, 1])) for _ in range(10)]
    # 10 * 0.3, and 0.4 for each of the 6 steps after the way of 4
    assert torch.stack([out[1] for out in outcomes]).sum(0).tolist() == pytest.approx([3.0, 2.4], abs=1e-6)
    assert [out[3].all().item() for out in outcomes] == [False] * 9 + [True]


@pytest.mark.parametrize(
    ("gamma", "best"),
    [(0.9, 0.3 / 0.1), (0.99, 0.99**4 * 0.4 / 0.01)],  # .9^4 * .4 / .1 = 2.6 < 3;  .3 / .01 = 30 < 38.4
)
def test_far_prize_is_worth_the_way_to_the_patient_only(gamma, best):
    assert soft_value_iteration(Chain(start=0).mdp, 0.0, gamma).expected_return == pytest.approx(best, rel=1e-9)


def test_chain_starts_anywhere_or_where_told():
    assert Chain(length=4).mdp.start.tolist() == [0.25] * 4
    assert Chain(length=4, start=2).mdp.start.tolist() == [0, 0, 1, 0]


# FourRooms


def place(rules, state):
    """Row and column of the agent in the drawing."""
    rows = rules.text(torch.tensor([state])).splitlines()
    [(row, column)] = [(r, c) for r, line in enumerate(rows) for c, character in enumerate(line) if character == "@"]
    return row, column


@functools.cache
def floor_plan(goal=(11, 11)):
    """Number of the state of each free cell."""
    rules = FourRooms(goal=goal)
    return {place(rules, state): state for state in range(rules.n_states)}


def test_four_rooms_are_joined_by_four_doors():
    # 5 x 5, 6 x 5, 5 x 5 and 4 x 5 cells and four doors: 25 + 30 + 25 + 20 + 4 = 104
    cells = set(floor_plan())
    rooms = [
        set(itertools.product(rows, columns))
        for rows, columns in [
            (range(1, 6), range(1, 6)),
            (range(1, 7), range(7, 12)),
            (range(7, 12), range(1, 6)),
            (range(8, 12), range(7, 12)),
        ]
    ]
    assert len(cells) == 104
    assert set().union(*rooms) <= cells
    assert cells - set().union(*rooms) == {(3, 6), (6, 2), (7, 9), (10, 6)}


def test_moves_go_to_the_neighbouring_cell_or_stay_at_a_wall():
    cells, rules = floor_plan(), FourRooms()
    landing = rules.mdp.transition.argmax(2)
    for (row, column), state in cells.items():
        if state == cells[11, 11]:
            continue
        neighbours = [(row - 1, column), (row, column + 1), (row + 1, column), (row, column - 1)]  # up right down left
        assert landing[state].tolist() == [cells.get(cell, state) for cell in neighbours]


def test_reaching_the_goal_pays_one_and_terminates():
    env = SingleEnv(FourRooms)
    env.reset(seed=0)
    env.state = torch.tensor([[floor_plan()[11, 10]]])
    assert env.step(1)[1:4] == (1.0, True, False)


def test_only_moves_onto_the_goal_pay():
    mdp = FourRooms(goal=(3, 6)).mdp
    goal = floor_plan((3, 6))[3, 6]
    paying = mdp.transition[:, :, goal] > 0
    paying[goal] = False
    assert paying.sum() == 2  # a door is entered from two sides
    assert torch.equal(mdp.reward, paying.double())
    assert mdp.terminal.nonzero().flatten().tolist() == [goal]


def test_shortest_way_to_the_goal_takes_twenty_steps():
    # Ten down and ten right, through (3, 6) and (7, 9): the reward comes with the 20th step.
    solution = soft_value_iteration(FourRooms().mdp, 0.0, 0.99)
    assert solution.expected_return == pytest.approx(0.99**19, rel=1e-9)


def test_four_rooms_start_in_the_corner_or_anywhere_but_at_the_goal():
    corner, anywhere = FourRooms().mdp.start, FourRooms(start="uniform", goal=(8, 8)).mdp.start
    assert corner.tolist() == [1.0] + [0.0] * 103
    goal = floor_plan((8, 8))[8, 8]
    assert anywhere.tolist() == pytest.approx([0.0 if state == goal else 1 / 103 for state in range(104)], abs=1e-12)


def test_slips_go_in_the_other_directions_equally_often():
    n = 40_000
    env = batch(FourRooms, n, slip=0.3)
    env.state = torch.full((1, n), floor_plan()[3, 3])
    env.step(torch.zeros(n, dtype=torch.int64))
    for cell, p in {(2, 3): 0.7, (3, 4): 0.1, (4, 3): 0.1, (3, 2): 0.1}.items():
        assert likely(int((env.state[0] == floor_plan()[cell]).sum()), n, p), cell


def test_certain_slip_never_goes_where_it_should():
    mdp = FourRooms(slip=1.0).mdp
    here, above = floor_plan()[3, 3], floor_plan()[2, 3]
    assert mdp.transition[here, 0, above] == 0.0
    assert mdp.transition[here, 1, above].item() == pytest.approx(1 / 3)


# Bandit


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_bandit_pays_the_mean_of_the_arm_with_noise(noise):
    n, means = 10_000, (0.2, -1.0, 3.0)
    env = batch(Bandit, 3 * n, rewards=means, noise=noise)
    _, reward, terminated, _, _ = env.step(torch.arange(3).repeat_interleave(n))
    assert terminated.all()
    for arm, mean in zip(reward.double().view(3, n), means, strict=True):
        assert float(arm.mean()) == pytest.approx(mean, abs=4 * noise / n**0.5 + 1e-6)
        assert float(arm.std()) == pytest.approx(noise, abs=4 * noise / (2 * n) ** 0.5 + 1e-6)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_optimal_bandit_policy_is_the_softmax_of_rewards(temperature):
    means = (0.2, -1.0, 3.0)
    policy = soft_value_iteration(Bandit(rewards=means, noise=2.0).mdp, temperature, 0.9).policy[0]
    exact = bandit_optimum(torch.tensor(means, dtype=torch.float64), temperature)
    torch.testing.assert_close(policy, exact, rtol=0.0, atol=1e-12)


def test_bandit_shows_zero_before_and_one_after_the_choice():
    env = SingleEnv(Bandit)
    assert env.reset(seed=0)[0] == 0
    obs, reward, terminated, truncated, _ = env.step(1)
    assert (obs, reward, terminated, truncated) == (1, 0.5, True, False)


# MountainCarSparse


def test_sparse_mountain_car_drives_as_the_dense_one_and_pays_at_the_flag_only():
    sparse, dense = MountainCarSparse(), MountainCar()
    rng = np.random.default_rng(0)
    states = torch.from_numpy(rng.uniform([[-1.2], [-0.07]], [[0.6], [0.07]], (2, 500)))
    actions = torch.from_numpy(rng.integers(0, 3, 500))
    state, reward, terminated = sparse.step(states, actions, NO_DRAWS)
    expected, _, expected_end = dense.step(states, actions, NO_DRAWS)
    assert torch.equal(state, expected)
    assert torch.equal(terminated, expected_end)
    assert torch.equal(terminated, (state[0] >= 0.5) & (state[1] >= 0.0))  # not on the way back
    assert 0 < terminated.sum() < 500
    assert torch.equal(reward, terminated.float())


def test_sparse_mountain_car_earns_one_in_all_when_pumped_out_of_the_valley():
    env = SingleEnv(MountainCarSparse)
    obs, _ = env.reset(seed=0)
    rewards, ended = [], False
    while not ended:
        obs, reward, terminated, truncated, _ = env.step(2 if obs[1] >= 0 else 0)
        rewards.append(reward)
        ended = terminated or truncated
    assert terminated
    assert rewards == [0.0] * (len(rewards) - 1) + [1.0]


# CartPoleSwingUp

UP = (0.0, 0.0, 0.0, 0.0)
HANGING = (0.0, 0.0, math.pi, 0.0)


@pytest.mark.parametrize(
    ("state", "action", "reward"),
    [
        (UP, 1, 1.0),
        (UP, 0, 0.9),
        (UP, 2, 0.9),
        (HANGING, 1, 0.0),
        (HANGING, 0, -0.1),
        (HANGING, 2, -0.1),
        ((0.0, 0.0, 1.03, 0.0), 1, 1.0),  # cos(1.03) = 0.515; the pole falls by less than 0.002 in the step
        ((0.0, 0.0, 1.06, 0.0), 1, 0.0),  # cos(1.06) = 0.489
        ((0.0, 0.0, 0.0, 1.1), 1, 0.0),
        ((0.0, 0.0, 0.0, -1.1), 1, 0.0),
        ((0.0, 0.0, 0.0, 0.9), 1, 1.0),
        ((1.01, 0.0, 0.0, 0.0), 1, 0.0),
        ((-1.01, 0.0, 0.0, 0.0), 1, 0.0),
        ((0.99, 0.0, 0.0, 0.0), 1, 1.0),
        ((0.99, 2.0, 0.0, 0.0), 1, 0.0),  # at 1.01 after the step, which is what counts
        ((0.0, 0.0, 2 * math.pi, 0.0), 1, 1.0),  # once around
    ],
)
def test_swing_up_pays_where_the_pole_stands_slowly_in_the_middle_less_the_cost_of_a_push(state, action, reward):
    assert stepped(CartPoleSwingUp(), state, action)[1] == pytest.approx(reward, abs=1e-6)


def test_height_and_move_cost_change_the_reward():
    rules = CartPoleSwingUp(height=0.8, move_cost=0.25)
    assert stepped(rules, (0.0, 0.0, 0.6, 0.0), 1)[1] == 1.0  # cos(0.6) = 0.825
    assert stepped(rules, (0.0, 0.0, 0.7, 0.0), 1)[1] == 0.0  # cos(0.7) = 0.765
    assert stepped(rules, HANGING, 2)[1] == pytest.approx(-0.25)


def test_push_from_the_upright_rest_moves_cart_and_pole_as_derived_by_hand():
    # f = 10 / 1.1 = 9.0909; angular acceleration -f / (2/3 - 0.05 / 1.1) = -9.0909 / 0.621212 = -14.6341; linear
    # acceleration 9.0909 + 0.0454545 * 14.6341 = 9.7561; after 0.01 s velocities of a hundredth of that.
    state, _, _ = stepped(CartPoleSwingUp(), UP, 2)
    assert state == pytest.approx([0.0, 0.097561, 0.0, -0.146341], abs=1e-6)


@pytest.mark.parametrize(("position", "velocity", "end"), [(2.99, 2.0, True), (2.99, 0.5, False), (-2.99, -2.0, True)])
def test_leaving_the_track_terminates(position, velocity, end):
    assert stepped(CartPoleSwingUp(), (position, velocity, math.pi, 0.0), 1)[2] is end


def test_falling_over_does_not_terminate():
    assert stepped(CartPoleSwingUp(), (0.0, 0.0, 1.5, 3.0), 1)[2] is False


def test_swing_up_starts_hanging_near_rest():
    env = batch(CartPoleSwingUp, 20_000)
    for numbers, middle in zip(env.state.numpy(), HANGING, strict=True):
        assert stats.kstest(numbers, stats.uniform(middle - 0.05, 0.1).cdf).pvalue > 1e-3


def test_swing_up_shows_scaled_position_and_velocity_cosine_sine_and_angular_velocity():
    obs = CartPoleSwingUp().observe(torch.tensor([[1.5], [-3.0], [math.pi / 2], [7.0]], dtype=torch.float64))
    assert obs[0].tolist() == pytest.approx([0.5, -1.0, 0.0, 1.0, 7.0], abs=1e-6)


# PointMaze

FREE = {(1, 1), (1, 2), (1, 3), (2, 3), (3, 1), (3, 2), (3, 3)}  # row and column


def cell_of(x, y):
    return math.floor(y), math.floor(x)


@settings(max_examples=60)
@given(
    stride=st.sampled_from([0.001, 0.25, 0.4, 0.9]),
    actions=st.lists(st.tuples(*[st.floats(-3.0, 3.0, width=32)] * 2), min_size=1, max_size=40),
    repeats=st.integers(1, 6),
)
def test_point_is_always_in_a_free_cell_and_crosses_no_wall(stride, actions, repeats):
    rules = PointMaze(stride=stride)
    state = rules.start(torch.tensor([[0.5], [0.5]], dtype=torch.float64))
    for action in np.repeat(np.array(actions, np.float32), repeats, axis=0):
        (x, y), clipped = state[:, 0].tolist(), np.clip(action, -1.0, 1.0)
        state, _, _ = rules.step(state, torch.from_numpy(action).unsqueeze(0), NO_DRAWS)
        new_x, new_y = state[:, 0].tolist()
        # Steps are shorter than a cell, so that whoever is in free cells before, between and after met no wall.
        assert {cell_of(x, y), cell_of(new_x, y), cell_of(new_x, new_y)} <= FREE
        for new, old, part in ((new_x, x, clipped[0]), (new_y, y, clipped[1])):
            assert new == old or new - old == pytest.approx(stride * float(part), abs=1e-6)
        assert rules.observe(state)[0].numpy() in rules.observation_space


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32), stride=st.floats(0.05, 0.9))
def test_way_to_the_goal_leads_through_the_far_corridor(seed, stride):
    env = batch(PointMaze, 50, seed=seed, stride=stride, validate=False)
    generator, passed = torch.Generator().manual_seed(seed), torch.zeros(50, dtype=torch.bool)
    for _ in range(60):
        reached = env.step(2 * torch.rand(50, 2, generator=generator) - torch.tensor([0.7, 0.8]))[2]
        x, y = env.state.floor().long()
        passed |= (y == 2) & (x == 3)
        assert passed[(y == 3) | reached].all()


def test_step_that_is_free_is_made_in_full_and_beyond_the_bounds_clipped():
    env = batch(PointMaze, 3)
    env.state = torch.tensor([[1.5], [1.5]], dtype=torch.float64).expand(2, 3).clone()
    env.step(torch.tensor([[1.0, 0.4], [7.0, 0.4], [-0.5, 0.0]]))
    assert env.state[:, 0].tolist() == pytest.approx([1.75, 1.6], abs=1e-6)
    assert torch.equal(env.state[:, 0], env.state[:, 1])
    assert env.state[:, 2].tolist() == pytest.approx([1.375, 1.5], abs=1e-6)


def test_axis_that_is_blocked_does_not_stop_the_other():
    env = batch(PointMaze, 1)
    env.state = torch.tensor([[1.9], [1.9]], dtype=torch.float64)
    env.step(torch.tensor([[1.0, 1.0]]))  # below (1.9, 1.9) and (2.15, 1.9) is wall
    assert env.state[:, 0].tolist() == pytest.approx([2.15, 1.9], abs=1e-6)


@pytest.mark.parametrize(("x", "reached"), [(1.99, True), (2.01, False), (1.5, True)])
def test_maze_pays_and_terminates_within_half_a_cell_of_the_goal(x, reached):
    env = batch(PointMaze, 1)
    env.state = torch.tensor([[x], [3.5]], dtype=torch.float64)
    _, reward, terminated, _, _ = env.step(torch.zeros(1, 2))
    assert (reward.item(), terminated.item()) == (float(reached), reached)


def test_maze_starts_near_the_middle_of_its_cell():
    env = batch(PointMaze, 20_000)
    for numbers in env.state.numpy():
        assert stats.kstest(numbers, stats.uniform(1.4, 0.2).cdf).pvalue > 1e-3


def test_maze_shows_the_inner_walls_as_one():
    corners = torch.tensor([[1.0, 4.0, 2.5], [4.0, 1.0, 2.5]], dtype=torch.float64)
    assert PointMaze().observe(corners).tolist() == [[-1.0, 1.0], [1.0, -1.0], [0.0, 0.0]]


def test_maze_can_be_solved_within_its_limit():
    env, steps = SingleEnv(PointMaze), 0
    env.reset(seed=0)
    terminated = False
    while not terminated:
        x, y = env.state[:, 0].tolist()
        heading = (1.0, 0.0) if x < 3.4 and y < 2.0 else (0.0, 1.0) if y < 3.4 else (-1.0, 0.0)
        _, _, terminated, truncated, _ = env.step(np.array(heading, np.float32))
        steps += 1
        assert not truncated
    assert steps < 40


# CartPolePositions


def test_cart_pole_without_velocities_is_cart_pole_seen_in_part():
    part, whole = BatchedEnv(CartPolePositions, 8), BatchedEnv(CartPole, 8, max_episode_steps=500)
    obs, expected = part.reset(seed=3)[0], whole.reset(seed=3)[0]
    generator, n_ends = torch.Generator().manual_seed(0), 0
    for _ in range(300):
        assert torch.equal(obs, expected[:, [0, 2]])
        action = torch.randint(2, (8,), generator=generator)
        obs, *outcome, info = part.step(action)
        expected, *expected_outcome, expected_info = whole.step(action)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(outcome, expected_outcome, strict=True))
        if info:
            assert torch.equal(info["final_obs"], expected_info["final_obs"][:, [0, 2]])
            n_ends += 1
    assert n_ends >= 20


def balanced(env, push):
    """Steps until the pole falls, at most 500, where ``push(previous, obs)`` chooses the side."""
    obs, _ = env.reset(seed=0)
    before, steps, ended = obs, 0, False
    while not ended:
        action = int(push(before, obs) > 0.0)
        before, (obs, _, terminated, truncated, _) = obs, env.step(action)
        steps, ended = steps + 1, terminated or truncated
    return steps


def test_pole_is_balanced_with_the_observation_before_and_falls_without():
    env = SingleEnv(CartPolePositions)
    assert balanced(env, lambda before, obs: obs[1] + 20.0 * (obs[1] - before[1])) == 500
    assert balanced(env, lambda before, obs: obs[1]) < 100


# Catch


def test_ball_falls_one_row_per_step_and_drifts_and_bounces():
    # Four columns, drifting right from column 1: to 2, 3, and back from the wall to 2, 1, 0, 1.
    state, seen = [0, 1, 1, 0, 0], []
    rules, no_next = Catch(rows=8, columns=4), torch.full((2, 1), 0.5, dtype=torch.float64)
    for _ in range(6):
        column = torch.tensor(state).unsqueeze(1)
        state = rules.step(column, torch.tensor([1]), no_next)[0][:, 0].tolist()
        seen.append(state[:2])
    assert seen == [[1, 2], [2, 3], [3, 2], [4, 1], [5, 0], [6, 1]]
    assert state[2:] == [1, 0, 0]  # to the right again


@pytest.mark.parametrize(("start", "action", "reached"), [(2, 0, 1), (2, 1, 2), (2, 2, 3), (0, 0, 0), (3, 2, 3)])
def test_paddle_moves_by_one_cell_and_stays_on_the_board(start, action, reached):
    state = torch.tensor([[0], [0], [0], [start], [0]])
    rules = Catch(rows=6, columns=4, drift=False)
    assert rules.step(state, torch.tensor([action]), torch.full((1, 1), 0.5))[0][3].tolist() == [reached]


@pytest.mark.parametrize(
    ("state", "action", "reward", "end"),
    [
        ((8, 4, 0, 4, 0), 1, 1.0, False),
        ((8, 4, 0, 3, 0), 2, 1.0, False),  # the paddle moves in the step in which the ball lands
        ((8, 4, 1, 4, 0), 1, -1.0, False),  # and so does the ball
        ((8, 4, 1, 4, 0), 2, 1.0, False),
        ((8, 9, 1, 7, 0), 2, 1.0, False),  # off the wall
        ((7, 4, 0, 4, 0), 1, 0.0, False),
        ((9, 4, 0, 4, 0), 1, 0.0, False),  # the next one appears
        ((8, 4, 0, 4, 4), 1, 1.0, True),  # the fifth
        ((8, 4, 0, 0, 4), 1, -1.0, True),
        ((7, 4, 0, 4, 4), 1, 0.0, False),
    ],
)
def test_balls_pay_where_they_land_and_the_last_one_ends_the_episode(state, action, reward, end):
    u = torch.full((2, 1), 0.5, dtype=torch.float64)
    _, paid, terminated = Catch().step(torch.tensor(state).unsqueeze(1), torch.tensor([action]), u)
    assert (paid.dtype, paid.item(), terminated.item()) == (torch.float32, reward, end)


@pytest.mark.parametrize(("rows", "balls"), [(10, 5), (2, 1), (7, 3)])
def test_catch_lasts_as_many_steps_as_the_balls_need(rows, balls):
    env, rewards, terminated = SingleEnv(Catch, rows=rows, balls=balls), [], False
    env.reset(seed=1)
    while not terminated:
        _, reward, terminated, truncated, _ = env.step(1)
        assert not truncated
        rewards.append(reward)
    assert len(rewards) == rows * balls - 1
    assert [i for i, reward in enumerate(rewards) if reward] == [rows * k - 2 for k in range(1, balls + 1)]


def test_catch_shows_ball_and_paddle_as_white_pixels_by_row_column_and_channel():
    obs = Catch(rows=3, columns=4).observe(torch.tensor([[1, 2], [3, 2], [0, 0], [0, 2], [0, 0]]))
    assert obs.dtype is torch.uint8
    assert obs[..., 0].tolist() == [
        [[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 0]],
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 255, 0]],  # caught: one pixel
    ]
    assert obs.flatten(1)[0].nonzero().flatten().tolist() == [1 * 4 + 3, 2 * 4 + 0]


@pytest.mark.parametrize("drift", [True, False])
def test_first_and_later_balls_fall_from_anywhere_with_any_drift(drift):
    n = 30_000
    env = batch(Catch, n, rows=2, columns=5, drift=drift)
    first = env.state
    env.step(torch.ones(n, dtype=torch.int64))
    env.step(torch.ones(n, dtype=torch.int64))
    for row, column, drifts, paddle, before in (first, env.state):
        assert not row.any()
        assert (paddle == 2).all()
        assert len(before.unique()) == 1
        for c in range(5):
            for d in (-1, 0, 1):
                share = 1 / 15 if drift else (d == 0) / 5
                assert likely(int(((column == c) & (drifts == d)).sum()), n, share), (c, d)
    columns = torch.stack((first[1], env.state[1])).double()
    assert torch.corrcoef(columns)[0, 1].abs() < 4 / n**0.5  # a ball does not depend on the one before


def folded(x):
    """Column of the default board that is reached by going on to x and back from the walls, 0 and 9."""
    return 9 - abs(x % 18 - 9)


@pytest.mark.parametrize("seed", range(6))
def test_comparing_each_picture_with_the_one_before_is_enough_to_catch_every_ball(seed):
    env, total, ended, before = SingleEnv(Catch), 0.0, False, None
    obs, _ = env.reset(seed=seed)
    while not ended:
        action, [paddle, *_] = 1, np.flatnonzero(obs[-1])
        for row, column, _ in np.argwhere(obs[:-1]):
            drifts = [d for d in (-1, 0, 1) if row == 0 or folded(before + d) == column]
            last = column if row == 0 else before
            steps = 9 - row + (row > 0)  # from there to the bottom
            farthest = max((folded(last + d * steps) - paddle for d in drifts), key=abs)
            action, before = 1 + int(np.sign(farthest)), column
        obs, reward, ended, _, _ = env.step(action)
        total += reward
    assert total == 5.0


def test_catch_is_drawn_with_a_paddle_and_a_ball():
    env = SingleEnv(Catch, render_mode="ansi", rows=3, columns=4)
    env.reset(seed=0)
    env.state = torch.tensor([[1], [3], [0], [0], [0]])
    assert env.render() == "....\n...o\n@...\n"
    env.state = torch.tensor([[2], [1], [0], [1], [0]])
    assert env.render() == "....\n....\n.@..\n"


# Pictures of where training went

PICTURED = {
    "chain": (Chain, {}),
    "river swim": (RiverSwim, {"length": 4}),
    "deep sea": (DeepSea, {"size": 5}),
    "deep sea, stochastic": (DeepSea, {"size": 4, "stochastic": True}),
    "four rooms": (FourRooms, {"goal": (3, 6)}),
}


@pytest.mark.parametrize("case", PICTURED)
def test_every_state_lies_once_where_the_environment_draws_it(case):
    """Under the number that counts its visits; the state after DeepSea's last row has no place."""
    rules, arguments = PICTURED[case]
    dynamics = rules(**arguments)
    cells = cells_of(dynamics.observation_space, dynamics.n_states, dynamics.layout)
    flatten, drawn = observation_spec(dynamics.observation_space).flatten, []
    for state in range(dynamics.n_states):
        obs = torch.from_numpy(flatten(dynamics.observe(torch.tensor([[state]])).numpy()))
        number = int(cells.index(obs))
        places = np.argwhere(dynamics.layout == number).tolist()
        lines = dynamics.text(torch.tensor([state])).splitlines()
        seen = [[r, c] for r, line in enumerate(lines) for c, character in enumerate(line) if character == "@"]
        assert places == seen
        assert dynamics.layout.shape == (len(lines), len(lines[0]))
        drawn += [number] if seen else []
    assert len(set(drawn)) == len(drawn) == dynamics.n_states - (rules is DeepSea)
    assert sorted(dynamics.layout[dynamics.layout >= 0].tolist()) == sorted(drawn)


def test_environments_that_are_no_picture_have_no_layout():
    assert finite("bandit").layout is None
    assert PointMaze().layout is None


def test_both_ways_of_stepping_tell_the_layout():
    assert np.array_equal(batch(FourRooms, 2).metadata["layout"], FourRooms().layout)
    assert np.array_equal(SingleEnv(FourRooms).metadata["layout"], FourRooms().layout)


def test_grid_over_two_dimensions_is_drawn_with_the_first_to_the_right_and_the_second_upwards():
    cells = grid(np.array([0.0, -1.0]), np.array([3.0, 1.0]), bins=3)
    layout = cells.layout
    assert sorted(layout.ravel().tolist()) == list(range(9))
    for row, y in enumerate((0.9, 0.0, -0.9)):
        for column, x in enumerate((0.5, 1.5, 2.5)):
            assert layout[row, column] == int(cells.index(torch.tensor([x, y])))


@pytest.mark.parametrize("n_dims", [1, 3])
def test_grid_over_more_or_fewer_dimensions_is_no_picture(n_dims):
    assert grid(np.zeros(n_dims), np.ones(n_dims), bins=2).layout is None


# Arguments


@pytest.mark.parametrize(
    ("rules", "limit"),
    [
        (Chain, 10),
        (RiverSwim, 20),
        (FourRooms, 200),
        (MountainCarSparse, 500),
        (CartPoleSwingUp, 1000),
        (PointMaze, 150),
        (CartPolePositions, 500),
    ],
)
def test_limits_are_those_of_the_docstring_and_can_be_set(rules, limit):
    assert rules().max_episode_steps == limit
    assert rules(limit=7).max_episode_steps == 7
    assert rules().max_episode_steps == limit


WHOLE = r"expected a whole number of at least {}, got {}"
NUMBER = r"expected a finite number from {} to {}, got {}"


@pytest.mark.parametrize(
    ("rules", "arguments", "words"),
    [
        (DeepSea, {"size": 1}, "size: " + WHOLE.format(2, 1)),
        (DeepSea, {"size": 2.5}, "size: " + WHOLE.format(2, 2.5)),
        (DeepSea, {"size": True}, "size: " + WHOLE.format(2, True)),
        (DeepSea, {"size": "10"}, "size: " + WHOLE.format(2, "'10'")),
        (DeepSea, {"move_cost": -0.01}, "move_cost: " + NUMBER.format(0, "inf", -0.01)),
        (DeepSea, {"move_cost": None}, "move_cost: " + NUMBER.format(0, "inf", None)),
        (DeepSea, {"mapping_seed": -1}, "mapping_seed: expected .* at least 0 and at most 4294967295, got -1"),
        (DeepSea, {"mapping_seed": 2**32}, f"mapping_seed: expected .*got {2**32}"),
        (RiverSwim, {"length": 1}, "length: " + WHOLE.format(2, 1)),
        (RiverSwim, {"length": 6.0}, "length: " + WHOLE.format(2, 6.0)),
        (RiverSwim, {"limit": 0}, "limit: " + WHOLE.format(1, 0)),
        (RiverSwim, {"small": -1}, "small: " + NUMBER.format(0, "inf", -1)),
        (RiverSwim, {"small": math.nan}, "small: .*got nan"),
        (Chain, {"length": 1}, "length: " + WHOLE.format(2, 1)),
        (Chain, {"limit": -1}, "limit: " + WHOLE.format(1, -1)),
        (Chain, {"limit": None}, "limit: " + WHOLE.format(1, None)),
        (Chain, {"prizes": (1.0,)}, r"prizes: expected two numbers, near and far, got \(1.0,\)"),
        (Chain, {"prizes": (1.0, 2.0, 3.0)}, r"prizes: expected two numbers, near and far, got \(1.0, 2.0, 3.0\)"),
        (Chain, {"prizes": 0.3}, "prizes: expected two numbers, near and far, got 0.3"),
        (Chain, {"prizes": "ab"}, "prizes: expected two numbers, near and far, got 'ab'"),
        (Chain, {"prizes": (0.3, math.inf)}, "prizes: .*got inf"),
        (Chain, {"prizes": (0.3, "x")}, "prizes: expected a finite number .*got 'x'"),
        (Chain, {"start": "corner"}, "start: expected 'uniform' or a state from 0 to 4, got 'corner'"),
        (Chain, {"start": 5}, "start: expected 'uniform' or a state from 0 to 4, got 5"),
        (Chain, {"start": -1}, "start: expected 'uniform' or a state from 0 to 4, got -1"),
        (Chain, {"start": 1.0}, "start: expected 'uniform' or a state from 0 to 4, got 1.0"),
        (FourRooms, {"slip": 2}, "slip: " + NUMBER.format(0, 1, 2)),
        (FourRooms, {"slip": -0.1}, "slip: " + NUMBER.format(0, 1, -0.1)),
        (FourRooms, {"limit": 0}, "limit: " + WHOLE.format(1, 0)),
        (FourRooms, {"start": "goal"}, "start: expected 'corner' or 'uniform', got 'goal'"),
        (FourRooms, {"goal": (0, 0)}, r"goal: expected row and column of a free cell .*got \(0, 0\)"),
        (FourRooms, {"goal": (1, 6)}, r"goal: expected row and column of a free cell .*got \(1, 6\)"),
        (FourRooms, {"goal": (1, 1)}, r"goal: .* other than the corner \(1, 1\), got \(1, 1\)"),
        (FourRooms, {"goal": (11, 11, 11)}, r"goal: .*got \(11, 11, 11\)"),
        (FourRooms, {"goal": (40, 2)}, r"goal: .*got \(40, 2\)"),
        (FourRooms, {"goal": "G"}, "goal: .*got 'G'"),
        (FourRooms, {"goal": 7}, "goal: expected row and column of a free cell .*got 7"),
        (FourRooms, {"goal": None}, "goal: expected row and column of a free cell .*got None"),
        (Bandit, {"rewards": (1.0,)}, r"rewards: expected at least two numbers, one per arm, got \(1.0,\)"),
        (Bandit, {"rewards": ()}, r"rewards: expected at least two numbers, one per arm, got \(\)"),
        (Bandit, {"rewards": 3}, "rewards: expected at least two numbers, one per arm, got 3"),
        (Bandit, {"rewards": (1.0, None)}, "rewards: expected a finite number .*got None"),
        (Bandit, {"rewards": "12"}, "rewards: expected at least two numbers, one per arm, got '12'"),
        (Bandit, {"noise": -1.0}, "noise: " + NUMBER.format(0, "inf", -1.0)),
        (Bandit, {"noise": math.inf}, "noise: .*got inf"),
        (MountainCarSparse, {"limit": 0}, "limit: " + WHOLE.format(1, 0)),
        (MountainCarSparse, {"limit": 1.5}, "limit: " + WHOLE.format(1, 1.5)),
        (CartPoleSwingUp, {"height": 2}, "height: expected a finite number .*got 2"),
        (CartPoleSwingUp, {"height": -1.1}, "height: expected a finite number .*got -1.1"),
        (
            CartPoleSwingUp,
            {"height": 1.0},
            "height: expected a finite number .*got 1.0",
        ),  # the documented range is [-1, 1)
        (CartPoleSwingUp, {"move_cost": -1}, "move_cost: " + NUMBER.format(0, "inf", -1)),
        (CartPoleSwingUp, {"limit": -5}, "limit: " + WHOLE.format(1, -5)),
        (PointMaze, {"stride": 0}, "stride: expected a finite number .*got 0"),
        (PointMaze, {"stride": -0.1}, "stride: expected a finite number .*got -0.1"),
        (PointMaze, {"stride": 1.5}, "stride: expected a finite number .* to 0.9, got 1.5"),
        (PointMaze, {"limit": 0}, "limit: " + WHOLE.format(1, 0)),
        (CartPolePositions, {"limit": 0}, "limit: " + WHOLE.format(1, 0)),
        (Catch, {"rows": 1}, "rows: " + WHOLE.format(2, 1)),
        (Catch, {"columns": 1}, "columns: " + WHOLE.format(2, 1)),
        (Catch, {"columns": 9.5}, "columns: " + WHOLE.format(2, 9.5)),
        (Catch, {"balls": 0}, "balls: " + WHOLE.format(1, 0)),
        (Catch, {"drift": 1}, "drift: expected True or False, got 1"),
        (Catch, {"drift": "no"}, "drift: expected True or False, got 'no'"),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else str(part) if isinstance(part, dict) else "",
)
def test_impossible_arguments_are_refused_with_the_rule_and_the_value(rules, arguments, words):
    with pytest.raises(EnvError, match=words):
        rules(**arguments)
