"""The verb robustness: what it trains is paired, what it says is what the numbers are, and mistakes are one line."""

import csv
import json
import re
from functools import partial

import numpy as np
import pytest
import torch

from entropic_rl.cli import main
from entropic_rl.errors import ConfigError
from entropic_rl.plots import plot_accuracy_curves, plot_attacks
from entropic_rl.robustness.analysis import GroupResult, Results, analyse, caveats, verdict
from entropic_rl.robustness.config import AttackConfig, RobustnessConfig, Settings
from entropic_rl.robustness.experiment import attack, groups_of, sample, train
from entropic_rl.robustness.masking import Flag, MaskingFlags
from entropic_rl.supervised.config import FitConfig

SMALL = [
    "--n-epochs",
    "3",
    "--net-arch",
    "8",
    "--n-steps",
    "3",
    "--n-restarts",
    "1",
    "--n-queries",
    "5",
    "--no-progress",
]
EPS = ["--eps", "0", "0.1", "0.3"]


def run(out, *flags):
    return main([*SMALL, "--data", "digits", "--n", "400", *EPS, "--out", str(out), *flags], verb="robustness")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("robustness") / "out"
    assert run(out, "--ent-coef", "0", "0.5", "--seeds", "2", "--adversarial", "0.1") == 0
    return out


def settings(ent_coefs=(0.0, 0.5), **changes):
    config = RobustnessConfig(**{"data": "digits", "n": 400, "eps": (0.0, 0.1), "severities": (0.0,), **changes})
    how = AttackConfig(n_steps=3, n_restarts=1, n_queries=5)
    fit = FitConfig(n_epochs=3, net_arch=(8,), learning_rate=0.01, batch_norm=True)
    return Settings(config, how, fit, list(ent_coefs), 2, {})


def test_everything_is_on_the_page_and_in_files(done):
    page = (done / "report.html").read_text()
    numbers = json.loads((done / "robustness.json").read_text())
    assert [group["name"] for group in numbers["groups"]] == ["ent_coef 0", "ent_coef 0.5", "adversarial 0.1"]
    assert all(sentence.split("<")[0] in page for sentence in numbers["verdict"] + numbers["caveats"])
    assert page.count("<figure") == len(list((done / "figures").iterdir())) == 3
    assert "A radius of 1 is the width of the box, 16 in the data." in numbers["caveats"]
    with (done / "attacks.csv").open() as file:
        rows = list(csv.DictReader(file))
    own = [row for row in rows if (row["training"], row["attack"]) == ("ent_coef 0.5", "strongest")]
    assert [float(row["accuracy"]) for row in own] == np.ravel(numbers["groups"][1]["accuracy"]["strongest"]).tolist()
    assert len({row["attack"] for row in rows}) == 9
    with (done / "corruptions.csv").open() as file:
        corrupted = list(csv.DictReader(file))
    assert {row["severity"] for row in corrupted} == {"0.0", "0.1", "0.2", "0.3", "0.5"}
    clean = {row["accuracy"] for row in rows if row["training"] == "ent_coef 0" and row["eps"] == "0.0"}
    assert {r["accuracy"] for r in corrupted if r["training"] == "ent_coef 0" and r["severity"] == "0.0"} == clean
    assert "python scripts/robustness.py --n-epochs 3" in page


def test_same_command_gives_the_same_numbers(done, tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.robustness.report.pictures", lambda *_: [])
    assert run(tmp_path / "again", "--ent-coef", "0", "0.5", "--seeds", "2", "--adversarial", "0.1") == 0
    for name in ("attacks.csv", "corruptions.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (done / name).read_bytes()


def test_groups_are_paired_and_alone_what_they_are_together():
    both = settings()
    data = sample(both.config, 2)
    together = train(both, groups_of([0.0, 0.5], both.config), data)
    alone = train(both, groups_of([0.5], both.config), data)
    torch.testing.assert_close(together.values[2:], alone.values, atol=1e-4, rtol=0.0)
    same = train(both, groups_of([0.0, "linear:0:0"], both.config), data).values
    torch.testing.assert_close(same[:2], same[2:])
    assert not torch.equal(same[0], same[1])


def test_adversarial_groups_come_last_and_have_no_entropy():
    hardened = settings(adversarial=(0.1, 0.2))
    groups = groups_of([0.5, 1.0], hardened.config)
    assert [group.name for group in groups] == ["ent_coef 0.5", "ent_coef 1", "adversarial 0.1", "adversarial 0.2"]
    assert [group.ent_coef for group in groups[2:]] == [0.0, 0.0]
    data = sample(hardened.config, 2)
    epochs = []
    network = train(hardened, groups, data, on_epoch=lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2, 3, 4, 5, 6]
    found = attack(hardened, groups, data, network)
    assert found.curve.fooled["strongest"].shape[:2] == (2, 8)
    x, y = data.x[:, data.n_train :], data.y[:, data.n_train :]
    clean = (network(x.repeat(4, 1, 1)).argmax(-1) == y.repeat(4, 1)).double().mean(1)
    assert torch.equal(found.curve.accuracy()[0], clean)
    results = analyse(found, (0.0,))
    np.testing.assert_array_equal(results.groups[3].accuracy["strongest"][0], clean[6:])


@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [({}, 0.0, 1.0), ({"scale": "none"}, 0.0, 16.0), ({"scale": "standard"}, -np.inf, np.inf),
     ({"box": (-4.0, 20.0)}, 0.0, 1.0)],
)  # fmt: skip
def test_features_are_scaled_as_asked(changes, low, high):
    data = sample(settings(**changes).config, 1)
    assert data.box == (low, high)
    train_rows = data.x[0, : data.n_train]
    if changes.get("scale") == "standard":
        varying = train_rows.std(0) > 0
        torch.testing.assert_close(train_rows.mean(0), torch.zeros(64), atol=1e-5, rtol=0.0)
        torch.testing.assert_close(train_rows[:, varying].std(0, correction=0), torch.ones(int(varying.sum())))
    elif "box" in changes:
        assert data.x.max() == pytest.approx(20 / 24)
    else:
        assert data.x.max() == high


# What is said


def flags(**measured):
    names = MaskingFlags.__dataclass_fields__
    return MaskingFlags(**{name: Flag(name, measured.get(name, 0.0), 0.05, f"{name}.") for name in names})


def group(name, looks, holds, *, adversarial=0.0, **measured):
    accuracy = {attack: np.array([[0.95] * 8, [value] * 8]) for attack, value in
                {"pgd cross-entropy": looks, "strongest": holds}.items()}  # fmt: skip
    return GroupResult(name, adversarial, accuracy, {}, [flags(**measured)] * 8)


def results_of(*groups):
    return Results(list(groups), (0.0, 0.1), "linf", (), 1)


def test_what_only_looks_robust_is_said_to():
    masked = group("ent_coef 1", 0.6, 0.3, cross_entropy_is_weak=0.3)
    said = verdict(results_of(group("ent_coef 0", 0.5, 0.48), masked))
    assert said[0] == "Right within 0.1 (linf) under all attacks together: ent_coef 0 48.0 % and ent_coef 1 30.0 %."
    assert said[1] == "None there is more robust than ent_coef 0."
    assert said[2] == (
        "Only looks robust: ent_coef 1, which keeps 60.0 % within 0.1 under PGD on the cross-entropy and 30.0 % under "
        "all attacks together; beside ent_coef 0 that would be +10.0 points and is -18.0."
    )
    assert said[3] == "Signs of masked gradients, ent_coef 1: cross_entropy_is_weak (8 of 8 seeds)."
    assert said[4] == "No sign of masked gradients: ent_coef 0."


def test_the_most_robust_is_named_with_its_certainty():
    said = verdict(results_of(group("ent_coef 0", 0.5, 0.48), group("adversarial 0.1", 0.7, 0.68, adversarial=0.1)))
    assert said[1].endswith("is adversarial 0.1, 20.0 points above ent_coef 0 (higher in 8 of 8 seeds, p = .008).")
    assert "within 0.1 leaves 68.0 % at 0.1, the best without it (ent_coef 0) 48.0 %" in said[2]
    assert not any("no paired test" in note for note in caveats(results_of(group("ent_coef 0", 0.5, 0.48))))


def test_pictures_hold_every_group(done):
    for name in ("robustness", "attacks", "corruptions"):
        drawing = (done / "figures" / f"{name}.svg").read_text()
        assert all(f'id="s{i}-' in drawing for i in range(3))


def test_differences_are_paired_and_lie_below(tmp_path):
    values = np.random.default_rng(0).uniform(size=(2, 5))
    panels = {"one": {"a": values, "b": values + 0.1}, "two": {"a": values, "b": values - 0.1}}
    plot_accuracy_curves(tmp_path / "x.svg", [0.0, 0.1], panels, xlabel="radius", beside="a")
    drawing = (tmp_path / "x.svg").read_text()
    assert "points above a" in drawing
    assert len(re.findall(r'id="s0-\d+-\d+-0"', drawing)) == 2  # a series has no difference to itself
    assert len(re.findall(r'id="s1-\d+-\d+-0"', drawing)) == 4


@pytest.mark.parametrize(
    ("draw", "words"),
    [
        (partial(plot_accuracy_curves, x=[0.0], panels={}, xlabel="x"), "at least one"),
        (partial(plot_accuracy_curves, x=[0.0], panels={"a": {"b": [[np.nan]]}}, xlabel="x"), r"accuracies \[1, S\]"),
        (partial(plot_accuracy_curves, x=[0.0], panels={"a": {"b": [[1.0]]}}, xlabel="x", beside="c"), "got 'c'"),
        (partial(plot_attacks, accuracies={}), "at least one series"),
        (partial(plot_attacks, accuracies={"a": {"x": [1.0]}, "b": {"y": [1.0]}}), "the same attacks"),
        (partial(plot_attacks, accuracies={"a": {"x": [[1.0]]}}), r"accuracies \[S\]"),
    ],
)
def test_pictures_of_nothing_are_refused(draw, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        draw(tmp_path / "x.svg")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--eps", "0", "-0.1"], "eps"),
        (["--eps", "nan"], "eps"),
        (["--eps", "0.1", "0.1"], "expected different numbers, got 0.1 0.1"),
        (["--eps"], "expected at least one radius, got none"),
        (["--norm", "l1"], "l1"),
        (["--box", "0", "10"], "expected features from 0 to 10, got 0 to 16"),
        (["--box", "3"], "expected LOW HIGH with LOW < HIGH, got 3"),
        (["--box", "0", "16", "--scale", "standard"], "expected scale box or none"),
        (["--data", "wine", "--scale", "box"], "expected LOW HIGH of the features of wine"),
        (["--data", "digit"], "did you mean 'digits'"),
        (["--seeds", "0"], "--seeds: expected at least 1, got 0"),
        (["--ent-coef", "0", "0.0"], "expected different coefficients"),
        (["--ent-coef", "auto"], "no target is everyone's"),
        (["--n-steps", "0"], "n_steps"),
        (["--adversarial", "0"], "adversarial"),
        (["--epss", "0.1"], "did you mean '--eps'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(flags, words, tmp_path, capsys):
    assert run(tmp_path / "out", *flags) == 2
    err = capsys.readouterr().err.splitlines()
    assert words in err[-1]
    assert len([line for line in err if "warning" not in line]) == 1
    assert not (tmp_path / "out").exists()


def test_settings_are_shown_and_read_back(tmp_path, capsys):
    assert run(tmp_path / "x", "--show-config", "--ent-coef", "0", "target:0.5") == 0
    shown = capsys.readouterr().out
    assert "n_steps: 3" in shown
    assert not (tmp_path / "x").exists()
    (tmp_path / "settings.yaml").write_text(shown)
    assert main(["--config", str(tmp_path / "settings.yaml"), "--show-config"], verb="robustness") == 0
    assert capsys.readouterr().out == shown


def test_a_directory_and_the_console_command(done, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("entropic_rl.robustness.report.pictures", lambda *_: [])  # drawing takes seconds
    assert main(["robustness", *SMALL, "--data", "wine"]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert run(done) == 2
    flags = ["--data", "wine", "--ent-coef", "0", "--seeds", "1", "--norm", "l2", "--eps", "0.5", "--severities", "0"]
    assert main(["robustness", *SMALL, *flags, "--out", str(tmp_path / "x")]) == 0
    assert "entropic-rl robustness" in (tmp_path / "x" / "report.html").read_text()
    assert (
        json.loads((tmp_path / "x" / "robustness.json").read_text())["unit"] == "a standard deviation of each feature"
    )
