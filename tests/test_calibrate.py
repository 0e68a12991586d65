"""The verb calibrate: what it trains is paired and reproducible, what it says is what the numbers are."""

import csv
import json

import numpy as np
import pytest
import torch

from entropic_rl.calibrate.analysis import analyse, caveats, verdict
from entropic_rl.calibrate.config import CalibrationConfig
from entropic_rl.calibrate.experiment import READOUTS, datasets_of, shares_of, train
from entropic_rl.calibrate.measures import Record, measure
from entropic_rl.calibration.metrics import Meter
from entropic_rl.cli import main
from entropic_rl.supervised.config import FitConfig

FIT = FitConfig(net_arch=(8,), n_epochs=5, learning_rate=0.01)


def trained(coefs, seeds=(0, 1), fit=FIT, **data):
    config = CalibrationConfig(**{"data": "wine", **data})
    datasets = datasets_of(config, seeds)
    shares = [share for seed, dataset in datasets.items() for share in shares_of(config, dataset, seed)]
    return train(config, fit, coefs, datasets, shares), datasets


def run(out, *flags):
    small = ["--data", "blobs", "--n", "300", "--n-epochs", "3", "--net-arch", "8", "--no-progress"]
    return main([*small, "--out", str(out), *flags], verb="calibrate")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("calibrate") / "out"
    assert run(out, "--ent-coef", "0", "0.5", "--seeds", "2") == 0
    return out


def test_everything_is_on_the_page_and_in_files(done):
    page = (done / "report.html").read_text()
    numbers = json.loads((done / "calibration.json").read_text())
    assert all(sentence.split("<")[0] in page for sentence in numbers["caveats"])
    assert page.count("<figure") == 3 + 3  # maps of three read-outs
    assert {path.name for path in (done / "figures").iterdir()} >= {"response.svg", "reliability.svg", "entropies.svg"}
    with (done / "records.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 3
    nll = [float(row["nll"]) for row in rows if (row["ent_coef"], row["readout"]) == ("0.5", "proper")]
    [group] = [g for g in numbers["groups"] if (g["ent_coef"], g["readout"]) == ("0.5", "proper")]
    assert group["measures"]["nll"]["scores"] == nll
    assert group["measures"]["nll"]["mean"] == pytest.approx(np.mean(nll))
    assert numbers["settings"]["ent_coef"] == [0.0, 0.5]
    assert numbers["session"]["command"][:3] == ["calibrate.py", "--data", "blobs"]
    assert "python scripts/calibrate.py --data blobs --n 300" in page


def test_same_command_gives_the_same_numbers(done, tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.calibrate.report.pictures", lambda *_: [])  # drawing takes seconds
    assert run(tmp_path / "again", "--ent-coef", "0", "0.5", "--seeds", "2") == 0
    assert (tmp_path / "again" / "records.csv").read_bytes() == (done / "records.csv").read_bytes()


def test_a_coefficient_gives_the_same_whatever_it_is_compared_with():
    together, _ = trained([0.0, 0.3, "linear:1:0"])
    alone, _ = trained(["linear:1:0"], seeds=(1,))
    other = next(a for a in together if (a.ent_coef, a.seed) == ("linear:1:0", 1))
    np.testing.assert_array_equal(other.rows, alone[0].rows)
    for readout in READOUTS:
        np.testing.assert_allclose(other.proba[readout], alone[0].proba[readout], atol=1e-5)


def test_models_answer_new_points_as_they_answered_the_test_rows():
    answers, datasets = trained([0.5])
    for given in answers:
        X = datasets[given.seed].X[given.rows]
        for readout in READOUTS:
            np.testing.assert_allclose(given.models[0].proba(X, readout), given.proba[readout], atol=1e-12)


def test_folds_measure_every_row_once_and_train_on_none_of_them():
    config = CalibrationConfig(data="wine", folds=3)
    [dataset] = datasets_of(config, [4]).values()
    shares = shares_of(config, dataset, 4)
    assert sorted(np.concatenate([share.test for share in shares])) == list(range(len(dataset)))
    for share in shares:
        sides = [set(side.tolist()) for side in (share.train, share.validation, share.test)]
        assert set.union(*sides) == set(range(len(dataset)))
        assert sum(map(len, sides)) == len(dataset)
    answers, datasets = trained([0.0], folds=3)
    assert all(len(given.rows) == len(datasets[given.seed]) and len(given.models) == 3 for given in answers)


def test_zero_needs_no_closed_form_and_temperature_changes_no_answer():
    answers, _ = trained([0.0, 1.0])
    for given in answers:
        if given.ent_coef == 0.0:
            np.testing.assert_allclose(given.proba["proper"], given.proba["raw"], atol=1e-12)
        np.testing.assert_array_equal(given.proba["temperature"].argmax(1), given.proba["raw"].argmax(1))


def test_distance_and_true_error_are_of_the_posterior():
    answers, datasets = trained([0.0], data="blobs", n=300, label_noise=0.2)
    for given in answers:
        given.proba["raw"] = datasets[given.seed].posterior[given.rows]
    records = [record for record in measure(answers, datasets, 15) if record.readout == "raw"]
    for record in records:
        assert record.values["distance"] == pytest.approx(0.0, abs=1e-12)
        assert record.values["true_error"] == pytest.approx(0.0, abs=1e-12)
        assert record.values["clean_accuracy"] > record.values["accuracy"]


def test_floor_is_that_of_calibrated_worlds():
    p = torch.rand(200, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64).softmax(-1).numpy()
    meter = Meter(p, 15)
    worlds = meter.calibrated(2000, np.random.default_rng(0))["ece"]
    assert meter.ece_floor(2000, np.random.default_rng(1)) == pytest.approx(
        worlds.mean(), abs=4 * worlds.std() / 1000**0.5
    )


def record(coef, seed, readout, nll, validation=1.0, **more):
    values = {"nll": nll, "validation_nll": validation, "accuracy": 0.9, "signed_gap": 0.0, **more}
    return Record(coef, seed, readout, values)


def test_choice_is_by_validation_and_the_reference_is_cross_entropy_with_a_temperature():
    losses = {"0": (0.4, 0.5, 0.30), "0.5": (0.6, 0.5, 0.20)}
    records = [
        record(coef, seed, readout, nll + 0.01 * seed, validation=2.0 - nll if readout == "raw" else nll)
        for coef, own in losses.items()
        for seed in range(8)
        for readout, nll in zip(READOUTS, own, strict=True)
    ]
    results = analyse(records)
    assert results.reference.name == "0, temperature"
    assert results.chosen.name == "0.5, temperature"
    assert results.chosen.against.wins == 8
    assert results.chosen.against.difference.value == pytest.approx(-0.1)
    assert results.chosen.against.p == pytest.approx(2 / 2**8)
    said = " ".join(verdict(results))
    assert "0.1000 nats below (lower in 8 of 8 seeds, p = .008) cross-entropy with a temperature" in said
    assert not any("no paired test" in note for note in caveats(results, folds=0))


def test_cross_entropy_may_win():
    records = [record(coef, seed, readout, nll, validation=nll) for coef, nll in (("0", 0.1), ("1", 0.2))
               for seed in range(2) for readout in READOUTS]  # fmt: skip
    records[2].values["validation_nll"] = records[5].values["validation_nll"] = 0.05
    results = analyse(records)
    assert any("no entropy term did better" in sentence for sentence in verdict(results))
    assert any("2 seeds no paired test" in note for note in caveats(results, folds=0))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "digit"], "did you mean 'digits'"),
        (["--data", "nowhere.csv", "--target", "label"], "nowhere.csv"),
        (["--seeds", "0"], "--seeds: expected at least 1, got 0"),
        (["--ent-coef", "0", "0.0"], "expected different coefficients"),
        (["--ent-coef", "auto"], "no target is everyone's"),
        (["--ent-coef=-1"], "expected >= 0"),
        (["--label-noise", "1"], "label_noise"),
        (["--dropuot", "0.1"], "did you mean '--dropout'"),
        (["--n", "6"], "ask for more rows"),
        (["--learning-rate", "1e30", "--optimizer", "sgd"], "the loss is not finite"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(flags, words, tmp_path, capsys):
    assert run(tmp_path / "out", *flags) == 2
    err = capsys.readouterr().err.splitlines()
    assert words in err[-1]
    assert len([line for line in err if "warning" not in line]) == 1
    assert not (tmp_path / "out").exists()


def test_the_console_command_is_shown_as_it_was_typed(tmp_path):
    flags = ["--data", "wine", "--ent-coef", "0", "--seeds", "1", "--n-epochs", "1", "--no-progress"]
    assert main(["calibrate", *flags, "--out", str(tmp_path / "x")]) == 0
    assert "entropic-rl calibrate --data wine" in (tmp_path / "x" / "report.html").read_text()


def test_directory_with_something_in_it_is_refused(done, capsys):
    assert run(done, "--ent-coef", "0") == 2
    assert "out" in capsys.readouterr().err


def test_settings_are_shown_and_read_back(tmp_path, capsys):
    assert run(tmp_path / "x", "--show-config", "--ent-coef", "0", "target:0.5") == 0
    shown = capsys.readouterr().out
    assert "n_epochs: 3" in shown
    assert "target:0.5" in shown
    assert not (tmp_path / "x").exists()
    (tmp_path / "settings.yaml").write_text(shown)
    again = ["--config", str(tmp_path / "settings.yaml"), "--show-config"]
    assert main(again, verb="calibrate") == 0
    assert capsys.readouterr().out == shown
    assert main([*again, "--ent-coef", "1"], verb="calibrate") == 0
    assert "target" not in capsys.readouterr().out.split("ent_coef")[1]


def test_settings_without_effect_are_refused(tmp_path, capsys):
    (tmp_path / "settings.yaml").write_text("device: cuda")
    assert run(tmp_path / "x", "--config", str(tmp_path / "settings.yaml")) == 2
    assert "unknown key 'device'" in capsys.readouterr().err
