"""The grid and the numbers of a comparison."""

import pytest

from entropic_rl.agents.config import PPOConfig
from entropic_rl.compare.grid import make_cells
from entropic_rl.compare.report import _group_row, steps_to_threshold
from entropic_rl.config import RunConfig


def row(step, mean, n_episodes=100):
    return {"global_step": float(step), "rollout/ep_rew_mean": mean, "rollout/n_episodes": float(n_episodes)}


def ended(steps):
    return {
        "eval/mean_reward": 1.0,
        "eval/stochastic_mean_reward": 1.0,
        "train/entropy": 0.5,
        "steps_to_threshold": steps,
    }


def test_threshold_is_reached_at_the_first_row_whose_mean_is_high_enough():
    assert steps_to_threshold([row(10, 1.0), row(20, 5.0), row(30, 4.0)], 4.5) == 20


def test_threshold_that_is_never_reached_is_none():
    assert steps_to_threshold([row(10, 1.0)], 4.5) is None
    assert steps_to_threshold([row(10, 1.0)], None) is None


def test_few_lucky_episodes_do_not_reach_a_threshold():
    assert steps_to_threshold([row(10, 9.0, 3), row(20, 5.0, 120)], 4.5) == 20


def test_runs_that_never_reached_the_threshold_count_as_later_than_all_others():
    # (100, 200, 300, never): the middle lies between 200 and 300.
    assert _group_row("0", [ended(s) for s in (100, 200, 300, None)])["steps_to_threshold_median"] == 250
    assert _group_row("0", [ended(s) for s in (100, None, None)])["steps_to_threshold_median"] is None


def test_every_coefficient_gets_the_same_seeds_and_a_directory_of_its_own(tmp_path):
    run = RunConfig(env="CartPole-v1", seed=5)
    cells = make_cells(run, [PPOConfig(ent_coef=c) for c in (0.0, 0.1, "linear:0.1:0")], 2, tmp_path)
    assert [(cell.config.ent_coef, cell.run.seed) for cell in cells] == [
        (coef, seed) for coef in (0.0, 0.1, "linear:0.1:0") for seed in (5, 6)
    ]
    assert len({cell.directory for cell in cells}) == 6


@pytest.mark.parametrize("n_seeds", [1, 3])
def test_grid_has_a_cell_per_coefficient_and_seed(tmp_path, n_seeds):
    cells = make_cells(RunConfig(env="CartPole-v1"), [PPOConfig()], n_seeds, tmp_path)
    assert len(cells) == n_seeds
