"""Episode statistics against a loop that adds up one reward at a time, and against numbers added by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl.episodes import Episodes


class Ledger:
    """One run's environments, episode by episode."""

    def __init__(self, n_envs, success_return):
        self.open, self.finished = [[] for _ in range(n_envs)], []
        self.first_success, self.n_succeeded = -1, 0
        self._success_return, self._n_steps = success_return, 0

    def add(self, rewards, ended, valid):
        self._n_steps += len(self.open)
        for e, (reward, end, counts) in enumerate(zip(rewards, ended, valid, strict=True)):
            if counts:
                self.open[e].append(reward)
            if not end:
                continue
            self.finished.append((sum(self.open[e]), len(self.open[e])))
            self.open[e] = []
            succeeded = self._success_return is not None and self.finished[-1][0] >= self._success_return
            self.n_succeeded += succeeded
            if succeeded and self.first_success < 0:
                self.first_success = self._n_steps

    def restart(self):
        self.open = [[] for _ in self.open]

    def recent(self, window):
        latest = self.finished[-window:]
        return [total for total, _ in latest], [length for _, length in latest]


@st.composite
def histories(draw):
    """R, E and steps of ``[R][E]`` rewards, ends and valid flags; a step may be a restart."""
    n_runs, n_envs = draw(st.integers(1, 3)), draw(st.integers(1, 4))

    def table(element):
        return st.lists(st.lists(element, min_size=n_envs, max_size=n_envs), min_size=n_runs, max_size=n_runs)

    # eighths add up exactly; a row in which nothing was done but a reset ends nothing
    step = st.tuples(table(st.integers(-16, 16).map(lambda i: i / 8)), table(st.sampled_from(["go", "end", "reset"])))
    return n_runs, n_envs, draw(st.lists(st.one_of(step, st.none()) if draw(st.booleans()) else step, max_size=25))


@given(histories(), st.integers(1, 5), st.sampled_from([None, -1.0, 0.0, 1.5]))
@settings(max_examples=150)
def test_statistics_are_those_of_a_loop_over_environments(history, window, success_return):
    n_runs, n_envs, steps = history
    episodes = Episodes(n_runs, n_envs, window=window, success_return=success_return)
    ledgers = [Ledger(n_envs, success_return) for _ in range(n_runs)]
    for step in steps:
        if step is None:
            for each in (episodes, *ledgers):
                each.restart()
            continue
        rewards, kinds = step
        ended, valid = ([[test(kind) for kind in row] for row in kinds] for test in ("end".__eq__, "reset".__ne__))
        some_ended, some_invalid = any(map(any, ended)), not all(map(all, valid))
        episodes.add(
            torch.tensor(rewards),
            torch.tensor(ended) if some_ended else None,
            torch.tensor(valid) if some_invalid else None,
        )
        for ledger, *row in zip(ledgers, rewards, ended, valid, strict=True):
            ledger.add(*row)
    assert episodes.recent() == [ledger.recent(window) for ledger in ledgers]
    assert episodes.n_finished.tolist() == [len(ledger.finished) for ledger in ledgers]
    assert episodes.n_succeeded.tolist() == [ledger.n_succeeded for ledger in ledgers]
    assert episodes.first_success.tolist() == [ledger.first_success for ledger in ledgers]


def add(episodes, rewards, ended=None, valid=None):
    """One step of one run's environments."""
    row = lambda values: None if values is None else torch.tensor([values], dtype=torch.bool)  # noqa: E731
    episodes.add(torch.tensor([rewards]), row(ended), row(valid))


def test_nothing_has_finished_at_first():
    episodes = Episodes(2, 3)
    assert episodes.recent() == [([], []), ([], [])]
    assert episodes.n_finished.tolist() == [0, 0]
    assert episodes.first_success.tolist() == [-1, -1]


def test_recent_episodes_stand_in_the_order_of_their_ends_and_of_their_environments():
    episodes = Episodes(1, 3)
    add(episodes, [1.0, 10.0, 100.0], [False, False, True])
    add(episodes, [2.0, 20.0, 200.0], [True, True, False])
    add(episodes, [4.0, 40.0, 400.0], [False, False, True])
    assert episodes.recent() == [([100.0, 3.0, 30.0, 600.0], [1, 2, 2, 2])]


def test_window_keeps_the_latest_when_more_episodes_end_in_one_step_than_it_holds():
    episodes = Episodes(1, 5, window=2)
    add(episodes, [1.0, 2.0, 3.0, 4.0, 5.0], [True, True, True, True, False])
    assert episodes.recent() == [([3.0, 4.0], [1, 1])]
    add(episodes, [6.0, 7.0, 8.0, 9.0, 10.0], [True, False, False, False, True])
    assert episodes.recent() == [([6.0, 15.0], [1, 2])]
    assert episodes.n_finished.tolist() == [6]


def test_rows_that_only_reset_count_neither_reward_nor_step():
    episodes = Episodes(1, 2)
    add(episodes, [1.0, 1.0], [True, False])
    add(episodes, [50.0, 1.0], valid=[False, True])
    add(episodes, [2.0, 1.0], [True, True])
    assert episodes.recent() == [([1.0, 2.0, 3.0], [1, 1, 3])]


def test_restart_forgets_what_had_begun_and_keeps_what_was_finished():
    episodes = Episodes(1, 2, success_return=3.0)
    add(episodes, [3.0, 5.0], [True, False])
    episodes.restart()
    add(episodes, [1.0, 2.0], [True, True])
    assert episodes.recent() == [([3.0, 1.0, 2.0], [1, 1, 1])]
    assert episodes.n_finished.tolist() == [3]
    assert episodes.first_success.tolist() == [2]


def test_first_success_is_the_step_of_all_environments_at_its_end_and_stays():
    episodes = Episodes(1, 4, success_return=2.0)
    add(episodes, [1.0, 1.0, 0.0, 9.0], [False, True, False, False])  # 1 is none, and 9 has not ended
    add(episodes, [1.0, 1.0, 0.0, 0.0], [True, False, False, False])  # 2 is enough
    assert episodes.first_success.tolist() == [8]
    add(episodes, [5.0, 5.0, 5.0, 5.0], [True, True, True, True])
    assert episodes.first_success.tolist() == [8]
    assert episodes.n_succeeded.tolist() == [5]


def test_success_is_that_of_each_run_alone():
    episodes = Episodes(3, 1, success_return=1.0)
    end = torch.ones(3, 1, dtype=torch.bool)
    episodes.add(torch.tensor([[0.0], [1.0], [0.0]]), end, None)
    episodes.add(torch.tensor([[0.0], [1.0], [1.0]]), end, None)
    assert episodes.first_success.tolist() == [-1, 1, 2]


@pytest.mark.parametrize("reward", [0.0, 1e9])
def test_without_a_success_return_nothing_is_a_success(reward):
    episodes = Episodes(1, 1)
    add(episodes, [reward], [True])
    assert episodes.first_success.tolist() == [-1]
    assert episodes.n_succeeded.tolist() == [0]


def test_returns_of_long_episodes_of_small_rewards_are_not_rounded():
    # in float32 adding 0.01 to 100,000 changes nothing
    episodes = Episodes(1, 1)
    add(episodes, [1e5])
    for _ in range(100):
        episodes.add(torch.tensor([[0.01]], dtype=torch.float64), None, None)
    add(episodes, [0.0], [True])
    assert episodes.recent()[0][0] == pytest.approx([100_001.0], abs=1e-6)
