"""What agents learn where the answer is known: optima of both objectives, target entropies, solved tasks."""

import numpy as np
import pytest

from entropic_rl.benchmarks.soft_optimality import CASES
from entropic_rl.benchmarks.trained import train_grid
from entropic_rl.run_directory import read_metrics

pytestmark = pytest.mark.slow
PLACES = [{"ent_coef": 0.2, "entropy_in": place} for place in ("reward", "loss")]


@pytest.mark.parametrize("case", ["ppo, chain", "a2c, chain", "discrete-sac, chain", "soft-q, chain"])
def test_each_place_of_the_entropy_has_its_own_optimum_and_is_led_there(case, tmp_path):
    agent, env, settings = CASES[case]
    shorter = {"total_timesteps": settings["total_timesteps"] // 2, "coverage": "off", "eval_episodes": 1}
    in_reward, in_loss = train_grid(agent, {"env": env, **settings, **shorter}, PLACES, seeds=2, folder=tmp_path)
    assert max(run["optimum/kl"] for run in in_reward) <= 0.005
    assert min(run["optimum/kl"] for run in in_loss) >= 0.02
    assert max(run["optimum/loss_only_kl"] for run in in_loss) <= 0.005


def test_ppo_finds_its_optimum_with_hidden_layers_in_bfloat16_too(tmp_path):
    agent, env, settings = CASES["ppo, chain"]
    wider = {"net_arch": (64, 64), "learning_rate": "linear:0.01:0", "total_timesteps": 50_000, "kernel": "autograd"}
    chosen = {"env": env, **settings, **wider, "coverage": "off", "eval_episodes": 1}
    point = {"ent_coef": 0.2, "entropy_in": "reward"}
    [[exact], [rounded]] = (
        train_grid(agent, {**chosen, "bf16": bf16}, [point], seeds=1, folder=tmp_path / str(bf16))[0]
        for bf16 in (False, True)
    )
    assert exact["optimum/kl"] != rounded["optimum/kl"]
    assert max(exact["optimum/kl"], rounded["optimum/kl"]) <= 0.005


def test_soft_q_learning_finds_the_softmax_of_a_bandit_at_the_lowest_temperature(tmp_path):
    agent, env, settings = CASES["soft-q, bandit"]
    chosen = {"env": env, **settings, "total_timesteps": 20_000, "coverage": "off", "eval_episodes": 1}
    [runs] = train_grid(agent, chosen, [{"ent_coef": 0.05}], seeds=2, folder=tmp_path)
    assert max(run["optimum/kl"] for run in runs) <= 0.001


def test_munchausen_leaves_its_share_of_the_temperature_where_nothing_is_clipped(tmp_path):
    agent, env, settings = CASES["soft-q, chain"]
    chosen = {"env": env, **settings, "total_timesteps": 40_000, "coverage": "off", "eval_episodes": 1}
    point = {"ent_coef": 0.5, "munchausen": 0.9}
    [[free]] = train_grid(agent, {**chosen, "munchausen_clip": 100.0}, [point], seeds=1, folder=tmp_path / "free")
    [[clipped]] = train_grid(agent, chosen, [point], seeds=1, folder=tmp_path / "clipped")
    assert free["train/effective_temperature"] == pytest.approx(0.05)
    assert free["train/munchausen_clipped"] == 0.0
    assert free["optimum/kl"] <= 0.001
    assert clipped["train/munchausen_clipped"] > 0.0
    assert clipped["optimum/kl"] >= 0.1


def test_ppo_keeps_a_target_entropy_from_any_initial_coefficient_and_solves_cartpole(tmp_path):
    points = [{"ent_coef": f"target:0.5:{initial}"} for initial in (1e-4, 1e-1)]
    chosen = {"env": "CartPole-v1", "coverage": "off", "log_interval": 1, "eval_episodes": 20}
    groups = train_grid("ppo", chosen, points, seeds=1, folder=tmp_path, preset="auto")
    for i, [run] in enumerate(groups):
        entropy = [row["train/entropy"] for row in read_metrics(tmp_path / f"{i}_0")]
        assert np.mean(entropy[len(entropy) // 2 :]) == pytest.approx(0.5, rel=0.05)
        assert run["eval/mean_reward"] >= 450


def test_sac_solves_mountain_car_continuous_with_held_warm_up_actions(tmp_path):
    chosen = {"env": "MountainCarContinuous-v0", "coverage": "off", "total_timesteps": 20_000, "eval_episodes": 20}
    [[run]] = train_grid("sac", chosen, [{}], seeds=1, folder=tmp_path, preset="auto")
    assert run["eval/mean_reward"] >= 90


def test_ppo_with_a_gru_balances_a_pole_whose_velocity_is_not_shown(tmp_path):
    chosen = {"env": "entropic_rl/CartPolePositions-v1", "coverage": "off", "eval_episodes": 20}
    [[run]] = train_grid("ppo", chosen, [{}], seeds=1, folder=tmp_path, preset="auto")
    assert run["eval/mean_reward"] >= 450


def test_ppo_with_convolutions_catches_what_it_sees_in_images(tmp_path):
    straight = {"env_kwargs": {"drift": False}, "frame_stack": 1, "total_timesteps": 60_000}
    chosen = {"env": "entropic_rl/Catch-v0", "coverage": "off", "eval_episodes": 40, **straight}
    [[run]] = train_grid("ppo", chosen, [{}], seeds=1, folder=tmp_path, preset="auto")
    assert run["eval/mean_reward"] >= 3.5  # -4 at random, 5 at best
