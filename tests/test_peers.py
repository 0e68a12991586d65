"""Peers are given equal settings, take turns, and are counted by their rules; those of our own writing learn."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec

import gymnasium as gym
import numpy as np
import pytest

from entropic_rl.benchmarks import cli_peers, scaling
from entropic_rl.benchmarks.cli import main
from entropic_rl.benchmarks.peers import clock, processes, report, rounds, tasks, toolkits
from entropic_rl.benchmarks.peers.clock import Clock
from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.benchmarks.peers.processes import Measured
from entropic_rl.benchmarks.peers.tasks import COEFFICIENTS, TASKS, choose_peers
from entropic_rl.errors import ConfigError, UserError

needs_jax = pytest.mark.skipif(find_spec("jax") is None or find_spec("optax") is None, reason="of the extra peers")
SMALL = {"total_timesteps": 1024}


def trained(rate, start=2.0, returns=(100.0,)):
    return Measured(rate=rate, start=start, whole=9.0, peak=300.0, returns=returns)


# Clock


def test_clock_counts_from_the_first_update_to_the_last(monkeypatch):
    now = iter([13.0, 21.0])
    monkeypatch.setattr(clock.time, "time", lambda: next(now))
    watch = Clock(10.0)
    watch.learning(256)
    watch.learning(512)  # too late: the first counts
    watch.stop()
    watch.stop()
    read = watch.read(n_runs=4, last_step=1056)
    assert (read["start"], read["whole"]) == (3.0, 11.0)
    assert read["rate"] == 4 * (1056 - 256) / 8.0
    assert 10.0 < read["peak"] < 100_000.0


def test_clock_refuses_a_training_of_one_update():
    watch = Clock(0.0)
    watch.learning(256)
    watch.stop()
    with pytest.raises(ConfigError, match="expected two updates"):
        watch.read(1, 256)


# Tasks


def test_jobs_survive_the_way_to_another_process():
    job = TASKS["ppo-16"].job({"total_timesteps": 2048}, seed=32)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
    assert job.seeds == list(range(32, 48))
    assert job.run.seed == 32


def test_settings_of_tasks_are_the_published_ones():
    zoo, jaxs = TASKS["ppo"].job({}, 0), TASKS["ppo-16"].job({}, 0)
    assert (zoo.run.n_envs, zoo.config.n_steps, zoo.config.batch_size, zoo.config.n_epochs) == (8, 32, 256, 20)
    assert (zoo.config.gamma, zoo.config.gae_lambda, zoo.config.learning_rate) == (0.98, 0.8, "linear:0.001:0")
    assert (jaxs.run.n_envs, jaxs.config.n_steps, jaxs.config.batch_size, jaxs.config.n_epochs) == (4, 128, 128, 4)
    assert (jaxs.config.ent_coef, jaxs.config.gamma, jaxs.config.gae_lambda) == (0.01, 0.99, 0.95)
    sac = TASKS["sac"].job({}, 0).config
    assert (sac.batch_size, sac.net_arch, sac.learning_starts) == (256, (256, 256), 100)


def test_peers_that_are_missing_are_told_in_a_line_unless_they_were_asked_for(monkeypatch):
    monkeypatch.setattr(tasks, "find_spec", lambda name: None if name in ("sbx", "jax") else object())
    present, line = choose_peers(None)
    assert present == ["ours", "sb3", "cleanrl"]
    assert "sbx, jax" in line
    assert "pip install" in line
    assert choose_peers(["cleanrl"]) == (["ours", "cleanrl"], "")
    with pytest.raises(ConfigError, match="--peers: jax is not installed; run: pip install"):
        choose_peers(["jax", "sb3"])


# Rounds


def test_everyone_has_a_turn_in_every_round():
    order = []
    found = rounds.in_turn(["a", "b"], 3, lambda peer, number: order.append((peer, number)) or number)
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]
    assert found == {"a": [0, 1, 2], "b": [0, 1, 2]}


def test_speeds_are_compared_within_a_round(monkeypatch):
    rates = {"ours": [100.0, 300.0, 200.0], "sb3": [50.0, 75.0, 40.0]}  # 2, 4 and 5 times
    asked = []

    def train(peer, job, *, threads):
        asked.append((peer, job.run.kernel, job.run.seed, threads))
        return trained(rates[peer].pop(0), returns=(math.nan,) if peer == "sb3" else (10.0,))

    monkeypatch.setattr(rounds, "train", train)
    table = rounds.training_table("ppo", ["ours", "sb3"], 3, {"kernel": "fused"})
    rows = table.splitlines()[2:]
    assert rows[0].startswith("| entropic_rl | 200 (100 to 300) |  | 2.0 (2.0 to 2.0) | 300 | 10 (10 to 10) |")
    assert rows[1].startswith("| Stable-Baselines3 | 50 (40 to 75) | 4.00 (2.00 to 5.00) |")
    assert rows[1].endswith("| no episode ended |")
    assert {line.count("|") for line in table.splitlines()} == {7}
    assert asked[:2] == [("ours", "fused", 0, 1), ("sb3", "auto", 0, 1)]  # the kernel is ours alone


@pytest.mark.parametrize(("own", "kernel"), [({}, "fused"), ({"kernel": "autograd"}, "autograd")], ids=str)
def test_trainings_that_are_cut_short_have_the_kernel_of_long_ones(monkeypatch, own, kernel):
    kernels = []
    monkeypatch.setattr(tasks, "find_spec", lambda name: object())
    monkeypatch.setattr(rounds, "train", lambda peer, job, *, threads: kernels.append(job.run.kernel) or trained(1.0))
    rounds.training_table("sac", ["ours", "sb3"], 1, own)
    assert kernels == [kernel, "auto"]


def test_every_run_of_a_comparison_is_counted_once(monkeypatch):
    def at_once(peer, jobs):
        runs = [(c.ent_coef, s) for job in jobs for c, s in zip(job.configs, job.seeds, strict=True)]
        if peer == "jax":
            assert sorted(runs) == sorted((c, s) for c in COEFFICIENTS for s in range(4))
            assert [len(job.seeds) for job in jobs] == [16, 16]
            return 50.0, [trained(1.0)] * 2
        assert len(set(runs)) == 2
        return 25.0, [trained(1.0)] * 2

    monkeypatch.setattr(rounds, "train_at_once", at_once)
    monkeypatch.setattr(rounds, "compare", lambda words: (40.0, 600.0) if "--kernel" in words else (80.0, 600.0))
    rows = rounds.comparison_table(["ours", "sb3", "jax"], 2, {"kernel": "fused"}).splitlines()[2:]
    assert rows[0] == "| entropic_rl | 40.0 (40.0 to 40.0) |  | 600 |"
    assert rows[1].startswith("| Stable-Baselines3 (two runs, x 16) | 400.0 (400.0 to 400.0) | 0.10 (0.10 to 0.10) |")
    assert rows[2].endswith("| 50.0 (50.0 to 50.0) | 0.80 (0.80 to 0.80) | 600 |")


# Processes


def test_a_training_in_a_process_of_its_own_is_measured():
    job = TASKS["ppo"].job(SMALL, seed=1)
    found = processes.train("cleanrl", job, threads=1, place=7)
    assert found.rate > 0.0
    assert 0.0 < found.start < found.whole
    assert found.peak > 100.0
    assert len(found.returns) == 1


def test_a_failing_training_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(UserError, match="the training by ours failed"):
        processes.train("ours", TASKS["ppo"].job(SMALL, seed=1), threads=1)


@pytest.mark.parametrize("train", [toolkits.train_ours, toolkits.train_sb3], ids=["ours", "sb3"])
def test_toolkits_tell_the_clock_when_they_learn(train):
    watch, job = Clock(0.0), TASKS["ppo"].job(SMALL, seed=1)
    last_step, returns = train(job, watch)
    assert last_step == 1024
    assert watch._began[1] == 256
    assert watch.read(1, last_step)["rate"] > 0.0
    assert 8.0 < returns[0] < 60.0  # an untrained CartPole falls after about 22 steps


def test_sac_of_one_file_learns_from_the_first_step_after_the_random_ones():
    from entropic_rl.benchmarks.peers import cleanrl_sac

    job = TASKS["sac"].job({"total_timesteps": 210}, seed=0)
    job = replace(job, configs=[replace(job.config, net_arch=(8,), batch_size=4, learning_starts=205)])
    watch = Clock(0.0)
    last_step, returns = cleanrl_sac.train(job, watch)
    assert (watch._began[1], last_step) == (206, 210)
    assert -2000.0 < returns[0] < -500.0  # of a random policy


def test_actions_of_sac_of_one_file_have_the_density_that_they_are_given():
    import torch

    from entropic_rl.benchmarks.peers.cleanrl_sac import Actor

    torch.manual_seed(0)
    actor = Actor(3, np.array([-2.0], np.float32), np.array([2.0], np.float32), (8,))
    with torch.no_grad():
        action, log_prob = actor.get_action(torch.ones(200_000, 3))
    edges = np.quantile(action, np.linspace(0.05, 0.95, 31))
    counts = np.histogram(action, edges)[0]
    said = np.histogram(action, edges, weights=log_prob.exp())[0] / counts
    np.testing.assert_allclose(counts / (len(action) * np.diff(edges)), said, rtol=0.05)


@needs_jax
def test_poles_of_the_jax_program_move_as_gymnasiums():
    import jax

    from entropic_rl.benchmarks.peers.jax_ppo import CartPole, reset, step

    env = gym.make("CartPole-v1").unwrapped
    poles = reset(jax.random.key(0), 1)
    env.reset(seed=0)
    env.state = np.array([float(x[0]) for x in poles[:4]])
    rng = np.random.default_rng(0)
    for length in range(1, 200):
        action = rng.integers(2)
        seen, _, terminated, _, _ = env.step(action)
        poles, done, lengths = step(poles, np.array([action]), jax.random.key(1))
        assert (bool(done[0]), int(lengths[0])) == (terminated, length)
        if terminated:
            break
        np.testing.assert_allclose([float(x[0]) for x in poles[:4]], seen, rtol=1e-3, atol=1e-5)
    assert terminated
    assert int(poles.length[0]) == 0  # begun anew
    standing = CartPole(*(x * 0 for x in poles[:4]), poles.length + 499)
    assert bool(step(standing, np.array([0]), jax.random.key(1))[1][0])  # 500 steps are the most


@needs_jax
def test_advantages_of_the_jax_program_are_ours():
    import torch

    from entropic_rl.benchmarks.peers.jax_ppo import _advantages, _Step
    from entropic_rl.returns import gae

    rng = np.random.default_rng(0)
    reward, value, last = rng.normal(size=(9, 3)), rng.normal(size=(9, 3)), rng.normal(size=3)
    done = rng.random((9, 3)) < 0.3
    rollout = _Step(None, None, None, value, reward, done, None)
    found = _advantages(rollout, last, 0.9, 0.8)
    next_value = np.concatenate([value[1:], last[None]])
    ours = [torch.tensor(x) for x in (reward, value, next_value, done, np.zeros_like(done))]
    np.testing.assert_allclose(found, gae(*ours, gamma=0.9, gae_lambda=0.8), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("peer", ["cleanrl", pytest.param("jax", marks=needs_jax)])
def test_peers_of_our_own_writing_solve_cartpole(peer):
    for seed in range(2):
        found = processes.train(peer, TASKS["ppo"].job({}, seed), threads=1)
        assert np.mean(found.returns) >= 450.0


# Scaling


def test_sizes_are_trained_as_long_as_they_need_and_no_longer():
    def sizes(axis, size):
        made = scaling.job(axis, size, 16, 2, {})
        return len(made.seeds), made.run.n_envs, made.run.total_timesteps, made.config.batch_size, made.config.net_arch

    assert sizes("runs", 1) == (1, 8, 65 * 256, 256, (64, 64))
    assert sizes("runs", 1024) == (1024, 8, 5 * 256, 256, (64, 64))
    assert sizes("widths", 512) == (16, 8, 33 * 256, 256, (512, 512))
    assert sizes("envs", 1) == (16, 1, 65 * 32, 32, (64, 64))
    assert scaling.job("runs", 4, 16, 2, {}).seeds == [8, 9, 10, 11]


def test_kernel_of_trainings_that_are_cut_short_is_that_of_long_ones(monkeypatch):
    assert scaling.job("runs", 4, 16, 0, {"kernel": "autograd"}).run.kernel == "autograd"
    assert scaling.job("runs", 4, 16, 0, {}).run.kernel == "fused"
    monkeypatch.setattr(tasks, "find_spec", lambda name: None)
    assert scaling.job("runs", 4, 16, 0, {"kernel": "auto"}).run.kernel == "autograd"
    assert rounds.make_machine_code({}) == "Ours without machine code."


def test_cost_of_a_run_is_that_of_its_share(monkeypatch, capsys):
    rates = iter([1_000.0, 4_000.0, 2_000.0])
    monkeypatch.setattr(scaling, "train", lambda peer, job, *, threads: trained(next(rates)))
    words = ["--runs", "4", "--widths", "--envs", "--rounds", "3", "--kernel", "autograd"]
    assert main(["scaling", *words]) == 0
    assert capsys.readouterr().out.splitlines()[4] == "| 4 | 2,000 (1,000 to 4,000) | 50.00 | 300 |"


def test_sizes_are_checked(capsys):
    assert main(["scaling", "--runs", "0"]) == 2
    assert "expected at least 1" in capsys.readouterr().err


# Command line


@pytest.mark.slow
def test_start_of_a_comparison_is_measured_to_its_first_row(capsys):
    assert main(["peers", "--tasks", "start", "--rounds", "1", "--total-timesteps", "256", "--kernel", "autograd"]) == 0
    assert "| scripts/compare.py | " in capsys.readouterr().out


def test_what_was_measured_is_said_above_the_tables(monkeypatch, capsys):
    monkeypatch.setattr(report, "make_machine_code", lambda own: "Made.")
    monkeypatch.setattr(report, "training_table", lambda *given: f"{given}")
    text = report.measure(["ppo"], ["ours"], 1, {"total_timesteps": 512})
    assert "cores; 1 round, --total-timesteps 512. Made.\n\n### PPO on CartPole" in text
    assert text.endswith("('ppo', ['ours'], 1, {'total_timesteps': 512})")
    assert "torch 2." in capsys.readouterr().out


def test_tables_take_the_place_of_the_ones_before(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"# Peers\n\n{report.BEGIN}\nold\n{report.END}\n\nend\n")
    report.write(page, "new")
    report.write(page, "newer")
    assert page.read_text() == f"# Peers\n\n{report.BEGIN}\n\nnewer\n\n{report.END}\n\nend\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rounds", "0"], "--rounds: expected at least 1, got 0"),
        (["--tasks", "dqn"], "invalid choice: 'dqn'"),
        (["--total-timesteps", "0"], "total_timesteps: expected"),
        (["--write", "nowhere.md"], "--write: cannot read nowhere.md"),
        (["--write", "README.md"], "--write: expected a page with"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(arguments, words, capsys, monkeypatch):
    monkeypatch.setattr(report, "measure", lambda *_: pytest.fail("measured"))
    assert cli_peers.MEASUREMENTS
    assert main(["peers", *arguments]) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1
