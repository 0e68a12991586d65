"""The measurements of curvature, landscapes and suggested coefficients, small."""

import pytest

from entropic_rl.benchmarks import curvature, landscape, suggest
from entropic_rl.benchmarks.cli import main


def table(capsys):
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.slow
def test_curvature_is_measured_at_three_points_of_every_coefficient(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(curvature, "_SIZES", (64, 2, 10))
    monkeypatch.setattr(curvature, "_PROBES", 6)
    monkeypatch.setattr(curvature, "_ROWS", 64)
    picture = tmp_path / "curvature.svg"
    words = ["curvature", "--seeds", "2", "--epochs", "1", "--ent-coef", "0", "0.1", "1", "--picture", str(picture)]
    assert main(words) == 0
    rows = table(capsys)
    assert [row[1] for row in rows] == ["0", "0.1", "1"] * 3
    assert rows[3][2:] == rows[6][2:]  # without entropy both trainings are one
    assert picture.stat().st_size > 1000


@pytest.mark.slow
def test_landscapes_are_measured_before_and_after_training(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(landscape._PPO, "total_timesteps", 512)
    assert main(["landscape", "--cases", "Chain", "--seeds", "4", "--directions", "5", "--ent-coef", "0", "1"]) == 0
    rows = table(capsys)
    assert [row[1:3] for row in rows] == [[p, c] for p in ("before training", "after training") for c in ("0", "1")]
    picture = tmp_path / "plane.svg"
    assert main(["landscape", "--cases", "Chain", "--ent-coef", "0", "1", "--picture", str(picture)]) == 0
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    "words",
    [
        ["curvature", "--seeds", "1"],
        ["curvature", "--ent-coef", "0", "1", "--picture", "x.svg"],
        ["landscape", "--cases", "Nowhere"],
        ["landscape", "--seeds", "5"],
        ["suggest-ent-coef", "--cases", "Nowhere"],
        ["suggest-ent-coef", "--shares", "0"],
    ],
)
def test_measurements_of_nothing_are_refused(words, capsys):
    assert main(words) == 2
    assert "expected" in capsys.readouterr().err


@pytest.mark.slow
def test_suggestions_are_held_to_a_grid(monkeypatch, capsys):
    monkeypatch.setitem(suggest.CASES, "RiverSwim", ("entropic_rl/RiverSwim-v0", 1024))
    monkeypatch.setattr(suggest.agent_rows, "__defaults__", ((0.0, 0.1),))
    monkeypatch.setattr(suggest.classifier_rows, "__defaults__", ((0.0, 0.3),))
    monkeypatch.setattr(suggest, "NOISE", (0.3,))
    monkeypatch.setattr(suggest, "_EPOCHS", 3)
    words = ["suggest-ent-coef", "--cases", "RiverSwim", "digits", "--seeds", "2", "--shares", "0.1", "1"]
    assert main(words) == 0
    rows = table(capsys)
    assert [row[1] for row in rows] == ["0.1", "1"] * 2
    assert all(row[-1].endswith("of 3") for row in rows)
