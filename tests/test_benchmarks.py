"""The measurements run, and count by their rules."""

import json

import numpy as np
import pytest
import torch

from entropic_rl.agents import PPO, PPOConfig
from entropic_rl.benchmarks import classifiers, few_labels, few_shot, gpu, guards, side_by_side, tracking
from entropic_rl.benchmarks.cli import main
from entropic_rl.benchmarks.deep_sea import MAX_EPISODES, first_successes, play, score_table, solved_in_time
from entropic_rl.benchmarks.environments import measure, speed_table
from entropic_rl.benchmarks.labelling import play as label
from entropic_rl.config import RunConfig


def result(size, solved_at, ent_coef=0.0):
    return {"size": size, "ent_coef": ent_coef, "seed": 0, "solved_at": solved_at, "first_success": solved_at}


@pytest.mark.parametrize(("solved_at", "counts"), [(None, False), (1, True), (2**6 + 99, True), (2**6 + 100, False)])
def test_size_counts_if_it_is_solved_before_chance_would_and_a_hundred_episodes(solved_at, counts):
    assert solved_in_time(result(6, solved_at)) is counts


def test_score_is_the_share_of_sizes_solved_in_time():
    table = score_table([result(6, 10), result(8, None), result(10, 500), result(6, None, 0.1), result(8, None, 0.1)])
    rows = [line for line in table.splitlines() if line.startswith(("| 0.0 ", "| 0.1 "))]
    assert "**0.67**" in rows[0]
    assert "**0.00**" in rows[1]


def test_uniform_policy_needs_two_to_the_size_episodes():
    firsts = first_successes(5, 4000)
    mean = sum(firsts) / len(firsts)
    assert abs(mean - 32) < 4 * 32 / len(firsts) ** 0.5  # a geometric number's deviation is about its mean
    assert min(firsts) >= 1


def test_play_keeps_within_the_episodes_and_stops_when_all_are_solved():
    config = PPOConfig(n_steps=16, batch_size=128, n_epochs=2, learning_rate=3e-3, net_arch=(16,))
    results = play(PPO, RunConfig(env="-", n_envs=8), [config], 3, 2)
    assert [r["seed"] for r in results] == [0, 1]
    assert all(r["episodes"] < MAX_EPISODES / 10 for r in results)  # size 3 is found at once
    assert all(r["solved_at"] <= r["episodes"] and r["first_success"] % 8 == 0 for r in results)


def test_speed_is_measured_for_every_peer_and_compared_round_by_round():
    results = {2: measure("CartPole-v1", 2, ["batched", "Gymnasium sync"], rounds=2, seconds=0.001)}
    assert all(len(peer["rates"]) == 2 and peer["median"] > 0 for peer in results[2].values())
    table = speed_table("CartPole-v1", results)
    assert table.splitlines()[0] == "| CartPole-v1, copies | batched | Gymnasium sync |"
    assert "x** (" in table


def test_studies_are_timed_together_and_one_by_one(capsys):
    threads = torch.get_num_threads()
    try:
        assert main(["studies", "--seeds", "1", "--epochs", "1", "--rounds", "2", "--threads", "1"]) == 0
    finally:
        torch.set_num_threads(threads)
    header, rule, *rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[:4] for row in rows] == [["| 64", "32", "1", "6"], ["| 128", "64", "1", "6"]]
    assert {line.count("|") for line in (header, rule, *rows)} == {8}


def test_errors_of_calibration_are_printed_beside_the_truth(capsys):
    arguments = ["--gaps", "5", "--rows", "100", "--trials", "4", "--resamples", "20"]
    assert main(["calibration-metrics", *arguments]) == 0
    header, rule, row = capsys.readouterr().out.splitlines()
    assert row.startswith("| 5 | 100 | ")
    assert header.count("|") == rule.count("|") == row.count("|")


def test_classifiers_are_measured_beside_cross_entropy(monkeypatch, capsys):
    case = classifiers.Case({"data": "wine", "label_noise": 0.2}, (0.0, 1.0), {"n_epochs": 2, "net_arch": (4,)})
    monkeypatch.setitem(classifiers.CASES, "small", case)
    assert main(["classifiers", "--cases", "small", "--seeds", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line for line in lines if line.startswith(("| 0 ", "| 1 "))]
    assert len(rows) == 2 + 3
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert any("lower in" in line for line in lines)


def test_trainings_in_a_batch_are_timed_beside_single_ones(capsys):
    assert main(["fits", "--runs", "2", "--epochs", "1", "--rounds", "1"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [row.split("|")[1].strip() for row in table[2:]] == ["64", "128"]


def test_scores_of_a_pool_are_timed(capsys):
    assert main(["acquisition", "--rows", "50", "--rounds", "1", "--members", "3"]) == 0
    assert [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines()[2:]][-1] == "BALD"


def test_rows_without_labels_are_measured_beside_supervised_training(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(few_labels._FIT, "n_epochs", 3)
    monkeypatch.delitem(few_labels.METHODS, "self-training of the same network")
    picture = tmp_path / "few.svg"
    assert main(["few-labels", "--labels", "10", "30", "--seeds", "2", "--picture", str(picture)]) == 0
    header, rule, *rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 2 * 5
    assert {row.count("|") for row in (header, rule, *rows)} == {7}
    assert picture.stat().st_size > 1000


def test_shares_of_few_labels_have_no_row_in_common():
    digits = few_labels.shares(40, 3)
    for parts in zip(digits.labelled, digits.unlabelled, digits.test, strict=True):
        assert sorted(np.concatenate(parts).tolist()) == list(range(1797))
        assert np.bincount(digits.y[parts[0]]).tolist() == [4] * 10
    assert digits.test.shape == (3, 540)


def test_digits_from_few_examples_are_measured_beside_the_nearest_mean(monkeypatch, tmp_path, capsys):
    for settings, name, value in ((few_shot._PRETRAINING, "n_epochs", 1), (few_shot._TUNING, "n_epochs", 2)):
        monkeypatch.setitem(settings, name, value)
    kept = ("nearest mean of pixels", "body frozen, ent_coef 0.5", "the same, classes unlike often",
            "body frozen, ent_coef 0.5, entropy minimisation", "LabelSpreading, 7 neighbours")  # fmt: skip
    monkeypatch.setattr(few_shot, "METHODS", {name: few_shot.METHODS[name] for name in kept})
    picture = tmp_path / "shot.svg"
    assert main(["few-shot", "--splits", "2", "--tasks", "2", "--picture", str(picture)]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + len(kept))
    assert {row.count("|") for row in rows} == {6}
    assert picture.stat().st_size > 1000


def test_tasks_of_held_out_digits_share_no_row_and_no_digit_with_what_is_taught():
    case = few_shot.setting(5, 3, 4)
    rows = torch.cat([case.episodes.support, case.episodes.query, case.unlabeled], -1)
    assert rows.shape == (3, 4, 5, 5 + 15 + 30)
    assert int(rows.min()) >= few_shot.HALF
    assert all(len(set(task.flatten().tolist())) == 250 for task in rows.flatten(0, 1))
    for run in range(3):
        assert not set(case.y[rows[run]].flatten().tolist()) & set(case.taught[run].tolist())
    assert int(few_shot.setting(5, 2, 2, half="first").unlabeled.max()) < few_shot.HALF


def test_settings_are_those_of_the_chosen_agent(capsys):
    common = ["sb3", "--env", "Pendulum-v1", "--show-config"]
    assert main([*common, "--agent", "sac", "--gradient-steps", "4"]) == 0
    assert "gradient_steps: 4" in capsys.readouterr().out
    assert main([*common, "--agent=sac", "--n-epochs", "3"]) == 2
    assert "unknown argument '--n-epochs'" in capsys.readouterr().err
    assert main([*common, "--n-epochs", "3"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["deepsea", "--agent", "random", "--sizes", "17"], "expected at most 16"),
        (["deepsea", "--sizes", "1"], "expected at least 2"),
        (["environments", "--envs", "LunarLander-v3"], "has no batched version"),
        (["environments", "--copies", "0"], "expected at least 1"),
        (["calibration-metrics", "--trials", "1"], "--trials: at least 2"),
        (["calibration-metrics", "--gaps", "80"], "expected points from 0 to 50"),
        (["classifiers", "--cases", "digit"], "expected some of 'blobs', 'digits'"),
        (["classifiers", "--seeds", "1"], "--seeds: expected at least 2"),
        (["fits", "--runs", "0"], "expected at least 1"),
        (["few-labels", "--seeds", "1"], "--seeds: expected at least 2"),
        (["few-labels", "--labels", "5"], "--labels: expected 10 to 1000"),
        (["few-shot", "--splits", "1"], "--splits: expected at least 2"),
        (["few-shot", "--shots", "80"], "which class"),
        (["acquisition", "--members", "1"], "--members and --classes: at least 2"),
        (["deepsea", "--env-kwargs", "stochastic=true"], "unknown argument '--env-kwargs'"),
    ],
)
def test_bad_input_is_one_line_with_exit_code_2(arguments, words, capsys):
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err
    assert err.count("\n") == 1


def test_a_session_of_labelling_is_measured_round_by_round():
    session = label("naive-bayes", 0, n_labels=40, batch=20)
    assert [score.n_labels for score in session.scores] == [20, 40]
    assert session.out_of_fold.n_labels == 40
    assert len(session.waits) == 2
    assert session.scores[1].accuracy > 0.3


def test_models_and_numbers_of_labelling_sessions_are_checked(capsys):
    assert main(["labelling", "--models", "svm", "forest"]) == 2
    assert main(["labelling", "--labels", "5"]) == 2
    assert "--models: expected some of entropic" in capsys.readouterr().err


def test_guards_are_timed_beside_none(monkeypatch, capsys):
    small = {"env": "CartPole-v1", "env_backend": "sync", "n_steps": 8, "batch_size": 8, "total_timesteps": 16}
    monkeypatch.setattr(guards, "CASES", {"small": ("ppo", small)})
    honest = guards.Health.active
    assert main(["guards", "--rounds", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| small | 0.")
    assert guards.Health.active is honest
    assert main(["guards", "--rounds", "0"]) == 2


def test_kernel_is_timed_beside_autograd(capsys):
    assert main(["kernel", "--runs", "1", "2", "--threads", "1", "--rounds", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 thread"
    assert [line.split("|")[1].strip() for line in lines[4:6]] == ["1", "2"]
    assert all(float(cell) > 0.0 for line in lines[4:6] for cell in (line.split("|")[i] for i in (2, 3, 5, 6)))
    assert lines[7].startswith("| runs | SAC gradient step")
    assert all(float(cell) > 0.0 for line in lines[9:11] for cell in line.split("|")[2:4])
    assert main(["kernel", "--runs", "0"]) == 2


def test_without_a_gpu_the_measurements_of_one_are_refused_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["gpu"]) == 2
    line = f"benchmark.py: error: gpu: expected a CUDA device, there is none here (torch {torch.__version__})\n"
    assert capsys.readouterr() == ("", line)
    assert main(["gpu", "--runs", "0"]) == 2


def test_measurements_of_a_gpu_count_what_they_say():
    cpu = torch.device("cpu")
    learner = gpu.Learner("ppo", "CartPole-v1", {"n_envs": 2, "n_steps": 4, "batch_size": 8}, "none", 3, cpu)
    learner.seconds = lambda updates: [learner.training._update() for _ in range(updates)] and 2.0
    assert learner.rate(5) == 5 * 4 * 2 * 3 / 2.0
    del learner.seconds
    assert 0.0 < learner.share(1) <= 1.0


def test_tables_of_a_gpu_are_whole_on_the_cpu(monkeypatch):
    cpu = torch.device("cpu")
    for settings, _ in gpu.LEANRL.values():
        small = {"n_steps": 4, "batch_size": 4, "buffer_size": 50}
        monkeypatch.setitem(settings, "batch_size", 4)
        for name in small.keys() & settings.keys():
            monkeypatch.setitem(settings, name, small[name])
    tables = (gpu.batch_table([1, 2], 1, cpu, 1000.0), gpu.leanrl_table(1, cpu), gpu.operator_table([(9, 5)], cpu))
    for table, n_rows in zip(tables, (2, 2, 1), strict=True):
        lines = list(table)
        assert len(lines) == n_rows + 2
        assert {line.count("|") for line in lines} == {lines[0].count("|")}


@pytest.mark.gpu
def test_a_gpu_is_measured(capsys):
    words = ["gpu", "--runs", "1", "2", "--updates", "1", "--classes", "5", "--megabytes", "1"]
    assert main(words) == 0
    assert "recorded" in capsys.readouterr().out


def test_tracking_is_compared_with_the_untracked_training_of_its_round(monkeypatch, capsys):
    seconds = {None: [100.0, 200.0], "offline": [102.0, 202.0], "hangs": [104.0, 240.0]}

    def train_once(case, total_timesteps):
        assert total_timesteps == 64
        wall = seconds[case].pop(0)
        return tracking.Training(wall, wall, 15 if case == "hangs" else 16, int(case == "hangs"), 0)

    monkeypatch.setattr(tracking, "train_once", train_once)
    words = ["--cases", "offline", "hangs", "--rounds", "2", "--total-timesteps", "64"]
    assert main(["tracking", *words]) == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows == [
        "| untracked | 150.0 | | | 16 | 0 | 0 |",
        "| offline | 152.0 | +1.3 % (+1.0 to +2.0) | +1.3 % (+1.0 to +2.0) | 16 (0 missing in all) | 0 | 0 |",
        "| hangs | 172.0 | +14.7 % (+4.0 to +20.0) | +14.7 % (+4.0 to +20.0) | 15 (2 missing in all) | 1 | 0 |",
    ]


def test_peers_train_in_turn_with_the_same_settings(monkeypatch):
    trained = []

    def train_apart(worker, peer, task, *, threads):
        assert (worker, threads) == ("entropic_rl.benchmarks.worker", 1)
        trained.append((peer, task))
        return {"fps": 200.0 if peer == "ours" else 100.0, "returns": [10.0, 30.0]}

    monkeypatch.setattr(side_by_side, "train_apart", train_apart)
    outcome = side_by_side.run_side_by_side("ppo", RunConfig(env="CartPole-v1"), PPOConfig(), [4, 7])
    assert [(peer, task["run"]["seed"]) for peer, task in trained] == [("ours", 4), ("sb3", 4), ("ours", 7), ("sb3", 7)]
    assert trained[2][1] == trained[3][1]
    assert [result["seed"] for result in outcome["results"]["sb3"]] == [4, 7]
    assert "ratio pair by pair: median 2.00" in side_by_side.describe(outcome)


@pytest.mark.parametrize(("words", "said"), [(["--cases", "x"], "--cases"), (["--rounds", "0"], "--rounds")])
def test_cases_of_tracking_are_checked(words, said, capsys):
    assert main(["tracking", *words]) == 2
    assert said in capsys.readouterr().err


# The plan of many runs


@pytest.fixture
def finished(tmp_path):
    """A comparison of two runs by two processes in 1,800 seconds: half a core-hour each, 900 and 1,100 bytes."""
    for name, size in (("a", 894), ("b", 1094)):
        run = tmp_path / "cells" / name
        run.mkdir(parents=True)
        (run / "summary.json").write_text("{}")
        (run / "metrics.jsonl").write_text("{}\n{}")
        (run / "policy").write_bytes(b"x" * (size - 1))
    session = {"n_cells": 2, "seconds": 1800.0, "n_workers": 2, "env_steps": 4000}
    (tmp_path / "sessions.jsonl").write_text(json.dumps(session) + "\n")
    return tmp_path


def test_cost_of_many_runs_is_that_of_one_times_their_number(finished, capsys):
    assert main(["cost", str(finished), "--runs", "4000000"]) == 0
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    table = {name: values for name, *values in rows}
    assert table[""] == ["one run of 2,000 steps", "4,000,000 runs"]
    assert table["core-hours"] == ["0.50000", "2,000,000"]
    assert table["hours on 64 cores"] == ["", "31,250.0"]
    assert table["disk"] == ["1 kB", "4 GB"]
    assert table["files"] == ["3", "12,000,000"]
    assert table["rows of the record, and of Weights & Biases"] == ["2", "8,000,000"]


@pytest.mark.parametrize(
    ("words", "complaint"), [(["nowhere"], "of which runs have finished"), (["x", "--runs", "0"], "at least 1")]
)
def test_cost_of_nothing_is_told_in_one_line(words, complaint, capsys):
    assert main(["cost", *words]) == 2
    assert complaint in capsys.readouterr().err
