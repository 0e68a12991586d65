"""Studies: runs together are the runs alone, choices are made where they may be, and the words fit the numbers."""

import csv
import json

import numpy as np
import pytest
import torch

from entropic_rl.cli import main
from entropic_rl.studies.analysis import analyse, caveats, sentence
from entropic_rl.studies.catalogue import STUDIES
from entropic_rl.studies.config import StudyConfig
from entropic_rl.studies.experiment import Job, Record, batches_of, problem_of, train
from entropic_rl.studies.growing_rate import sweep
from entropic_rl.supervised.config import FitConfig

FIT = FitConfig(net_arch=(8,), n_epochs=3, optimizer="sgd", dtype="float64")
WINE = StudyConfig(data="wine")


def settings(**changes):
    return FitConfig(**{"net_arch": (8,), "n_epochs": 3, "optimizer": "sgd", "dtype": "float64", **changes})


def run(out, *flags, study="learning-rate", data="wine"):
    small = ["--data", data, "--n-epochs", "3", "--net-arch", "8", "--seeds", "2", "--no-progress"]
    return main([study, *small, "--out", str(out), *flags], verb="study")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    assert run(out, "--values", "0.01", "0.1", "1e30") == 0
    return out


def test_everything_is_on_the_page_and_in_files(done):
    page, numbers = (done / "report.html").read_text(), json.loads((done / "study.json").read_text())
    assert numbers["sentence"].split("[")[0] in page
    assert page.count("<figure") == 1
    assert [path.name for path in (done / "figures").iterdir()] == ["learning-rate.svg"]
    assert "python scripts/study.py learning-rate --data wine" in page
    with (done / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["value"], row["seed"]) for row in rows] == [(v, s) for v in ("0.01", "0.1", "1e30") for s in "01"]
    assert [row["diverged"] for row in rows] == ["0"] * 4 + ["1"] * 2
    first = numbers["values"][0]["measures"]["test_accuracy"]
    assert first["scores"] == [float(row["test_accuracy"]) for row in rows[:2]]
    assert first["mean"] == pytest.approx(np.mean(first["scores"]))
    assert "1e30 diverged in every seed" in numbers["sentence"]
    assert numbers["values"][2]["measures"]["test_loss"]["mean"] is None
    with (done / "table.csv").open() as file:
        assert [row["learning rate"] for row in csv.DictReader(file)] == ["0.01", "0.1", "1e30"]


def test_same_command_gives_the_same_numbers(done, tmp_path):
    assert run(tmp_path / "again", "--values", "0.01", "0.1", "1e30") == 0
    assert (tmp_path / "again" / "runs.csv").read_bytes() == (done / "runs.csv").read_bytes()


def test_a_run_is_the_same_whatever_it_is_compared_with():
    problem = problem_of(WINE, range(2))
    fits = [settings(learning_rate=0.1), settings(learning_rate=1e30), settings(batch_size=16), settings(l2=0.1)]
    jobs = [Job(str(i), fit, seed) for i, fit in enumerate(fits) for seed in range(2)]
    assert sorted(map(len, batches_of(jobs, problem))) == [2, 6]
    together = train(jobs, problem)
    assert [record.job for record in together] == jobs
    alone_problem = problem_of(WINE, [1])
    for record in together:
        if record.job.seed == 1:
            [alone] = train([record.job], alone_problem)
            np.testing.assert_allclose(alone.curve, record.curve, rtol=1e-9)
            assert alone.measures == pytest.approx(record.measures, abs=1e-9, nan_ok=True)
            assert alone.diverged is record.diverged is (record.job.value == "1")


def test_sides_do_not_meet_and_the_scale_is_that_of_training_rows():
    problem = problem_of(WINE, range(2))
    n = len(problem.table.x) // 2
    for seed, sides in problem.sides.items():
        assert sorted(np.concatenate(sides)) == list(range(seed * n, (seed + 1) * n))
        rows = problem.table.x[sides.train]
        torch.testing.assert_close(rows.mean(0), torch.zeros(13, dtype=torch.float64), rtol=0.0, atol=1e-9)
        torch.testing.assert_close(rows.std(0, correction=0), torch.ones(13, dtype=torch.float64))


def record(value, seed, test, validation=None, *, rate=0.1, diverged=False):
    measures = {"test_loss": test, "validation_loss": test if validation is None else validation, "train_loss": 0.0}
    accuracies = dict.fromkeys(("test_accuracy", "validation_accuracy", "train_accuracy"), 0.9)
    fit = settings(learning_rate=rate)
    return Record(Job(value, fit, seed), measures | accuracies, np.ones(3), 9, diverged)


def test_choice_is_by_validation_and_others_are_told_apart_by_pairs():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=10)
    records = [
        record(value, seed, base + 0.1 * noise[seed] + 0.001 * rng.normal(), validation=10.0 - k)
        for k, (value, base) in enumerate({"far": 2.0, "best": 0.5, "near": 1.0, "mine": 1.0}.items())
        for seed in range(10)
    ] + [record("gone", seed, np.inf, diverged=True) for seed in range(10)]
    results = analyse(records)
    assert results.chosen.value == "mine"  # though best is better on test rows
    verdicts = [g.against and g.against.verdict for g in results.groups]
    assert verdicts == ["worse", "better", "alike", None, None]
    assert results.groups[0].against.p == pytest.approx(3 * 2 / 2**10)  # Holm: times three
    loss = results.chosen.measures["test_loss"]
    assert sentence(results, "thing", "wine") == (
        "On wine validation chooses the thing mine: test accuracy 90.00 [90.00, 90.00] %, test loss "
        f"{loss.value:.4f} [{loss.low:.4f}, {loss.high:.4f}] nats, means of 10 seeds; in test loss best is better, "
        "far is worse and near cannot be told apart from it; gone diverged in every seed."
    )


def test_value_that_diverged_once_is_not_chosen_and_all_may_diverge():
    once = [record("a", 0, 0.1), record("a", 1, np.inf, diverged=True), record("b", 0, 1.0), record("b", 1, 1.0)]
    results = analyse(once)
    assert results.chosen.value == "b"
    assert "a diverged in 1 of 2 seeds" in sentence(results, "thing", "wine")
    never = analyse([record(value, 0, np.inf, diverged=True) for value in "ab"])
    assert never.chosen is None
    said = sentence(never, "thing", "wine")
    assert said == "On wine no thing kept every run finite: a and b diverged in every seed."


def test_learning_rate_of_a_value_is_its_own_choice_by_validation():
    records = [
        record(value, seed, test, validation, rate=rate)
        for value, rate, test, validation in [("a", 0.1, 0.0, 9.0), ("a", 0.5, 2.0, 1.0), ("b", 0.1, 1.0, 0.5)]
        for seed in range(2)
    ]
    results = analyse(records)
    assert [(g.value, g.rate) for g in results.groups] == [("a", "0.5"), ("b", "0.1")]
    assert results.chosen.value == "b"
    assert "(at a learning rate of 0.1)" in sentence(results, "thing", "wine", tuned=True)
    assert any("the learning rate of each value as well" in note for note in caveats(results, 0.4, tuned=True))


def test_too_few_seeds_are_said():
    few = analyse([record(value, seed, seed + 1.0) for value in "ab" for seed in range(3)])
    many = analyse([record(value, seed, seed + 1.0) for value in "ab" for seed in range(10)])
    assert "With 3 seeds and 2 values no difference" in caveats(few, 0.4)[0]
    assert not any("no difference" in note for note in caveats(many, 0.4))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--values", "0.1"], "--values: expected at least two to compare, got 0.1"),
        (["--values", "0.1", "1e-1"], "--values: expected different ones, got 0.1 and 1e-1"),
        (["--values", "0.1", "-1"], "learning_rate: expected > 0, got -1"),
        (["--values", "0.1", "fast"], "learning_rate: expected a number"),
        (["--values", "0.1", "nan"], "learning_rate: "),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--seeds", "0"], "--seeds: expected at least 1, got 0"),
        (["--learning-rate", "0.1"], "unknown argument '--learning-rate'"),
        (["--momentum", "1"], "momentum"),
        (["--n-steps", "0"], "n_steps"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(flags, words, tmp_path, capsys):
    assert run(tmp_path / "out", *flags) == 2
    err = capsys.readouterr().err.splitlines()
    assert words in err[-1]
    assert len([line for line in err if "warning" not in line]) == 1
    assert not (tmp_path / "out").exists()


def test_data_that_is_not_whole_is_refused(tmp_path, capsys):
    (tmp_path / "gaps.csv").write_text("a,b,label\n1,2,x\n3,nan,y\n" * 20)
    assert run(tmp_path / "out", "--target", "label", data=str(tmp_path / "gaps.csv")) == 2
    assert "gaps.csv" in capsys.readouterr().err.splitlines()[-1]


def test_directory_that_cannot_be_written_is_refused(done, tmp_path, capsys):
    assert run(done) == 2
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "out") == 2
    assert all("run directory" in line for line in capsys.readouterr().err.splitlines() if "error" in line)


def test_unknown_study_is_named_with_the_closest(capsys):
    assert main(["learning-rates", "--out", "x"], verb="study") == 2
    assert "got 'learning-rates'; did you mean 'learning-rate'?" in capsys.readouterr().err


def test_settings_are_shown_and_read_back(tmp_path, capsys):
    assert run(tmp_path / "x", "--values", "0.5", "0.25", "--show-config") == 0
    shown = capsys.readouterr().out
    assert "n_epochs: 3" in shown
    assert not (tmp_path / "x").exists()
    (tmp_path / "settings.yaml").write_text(shown)
    again = ["learning-rate", "--config", str(tmp_path / "settings.yaml"), "--show-config"]
    assert main(again, verb="study") == 0
    assert capsys.readouterr().out == shown


def test_same_number_of_steps_for_all(tmp_path):
    assert run(tmp_path / "x", "--values", "0.01", "0.1", "--n-steps", "20") == 0
    numbers = json.loads((tmp_path / "x" / "study.json").read_text())
    assert [value["n_steps"] for value in numbers["values"]] == [20, 20]  # 114 rows in minibatches of 32: 5 epochs


def test_batch_sizes_are_of_equal_epochs_and_steps_are_said(tmp_path):
    assert run(tmp_path / "x", "--values", "16", "64", "200", "none", study="batch-size") == 0
    numbers = json.loads((tmp_path / "x" / "study.json").read_text())
    assert [value["n_steps"] for value in numbers["values"]] == [24, 6, 3, 3]  # of 114 rows, 3 epochs
    assert numbers["caveats"][0] == "A run learns from 114 rows: minibatches of more are all of them (200)."


def test_every_optimizer_and_schedule_has_its_own_rate(tmp_path):
    for study, rates in (("optimizer", ["0.01", "0.1"]), ("schedule", ["0.02", "0.2"])):
        assert run(tmp_path / study, "--rates", *rates, study=study) == 0
        numbers = json.loads((tmp_path / study / "study.json").read_text())
        assert [value["value"] for value in numbers["values"]] == list(STUDIES[study].values)
        assert {value["learning_rate"] for value in numbers["values"]} <= set(rates)
        assert numbers["session"]["n_runs"] == 6 * 2 * 2
        assert "(at a learning rate of " in numbers["sentence"]
    steps = json.loads((tmp_path / "optimizer" / "study.json").read_text())["values"]
    assert [value["n_steps"] for value in steps] == [12] * 5 + [3]  # L-BFGS: one step per epoch


@pytest.mark.parametrize(
    ("study", "flags", "words"),
    [
        ("batch-size", ["--values", "32", "0"], "batch_size: expected"),
        ("batch-size", ["--values", "32", "many"], "batch_size: expected"),
        ("optimizer", ["--values", "adam", "adamm"], "got 'adamm'; did you mean 'adam'?"),
        ("optimizer", ["--rates", "0.1", "0.10"], "--rates: expected different ones, got 0.1 0.10"),
        ("optimizer", ["--rates", "0"], "learning_rate: expected > 0"),
        ("schedule", ["--values", "cosine", "sine"], "got 'sine'"),
        ("schedule", ["--rates", "fast"], "learning_rate: "),
        ("batch-size", ["--rates", "-1"], "learning_rate: expected > 0"),
    ],
)
def test_values_that_a_study_does_not_know_are_refused(study, flags, words, tmp_path, capsys):
    assert run(tmp_path / "out", *flags, study=study) == 2
    assert words in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_range_test_grows_the_rate_in_all_seeds_at_once_and_a_seed_alone_is_the_same(tmp_path):
    together = sweep(settings(), problem_of(WINE, range(2)), 40)
    alone = sweep(settings(), problem_of(WINE, [0]), 40)
    assert together[1].shape == (2, 40)
    np.testing.assert_allclose(together[1][:1], alone[1], rtol=1e-9)
    np.testing.assert_allclose(together[0], 1e-5 * 1e6 ** (np.arange(40) / 40))
    assert run(tmp_path / "x", "--range-test") == 0
    numbers = json.loads((tmp_path / "x" / "study.json").read_text())
    assert "falls fastest at a learning rate of" in numbers["sentence"]
    assert 1e-4 < numbers["steepest"]["mean"] < numbers["lowest"]["mean"]


@pytest.mark.parametrize("study", STUDIES.values(), ids=STUDIES)
def test_every_study_says_what_its_values_are_and_begins_with_ones_that_it_takes(study, capsys):
    with pytest.raises(SystemExit) as end:
        main([study.name, "--help"], verb="study")
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert study.question in shown
    assert f"values to compare [{' '.join(study.values)}" in shown
    assert main([study.name, "--show-config", "--no-progress"], verb="study") == 0
