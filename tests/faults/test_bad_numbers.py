"""Numbers that are not finite, through the command line."""

import json
import math
from pathlib import Path

import pytest

from entropic_rl.cli import main

A2C = [
    "--env", "CartPole-v1", "--n-steps", "4", "--n-envs", "2", "--total-timesteps", "80", "--net-arch", "4",
    "--eval-episodes", "2", "--coverage", "off", "--no-progress", "--device", "cpu",
]  # fmt: skip


def test_training_that_diverges_ends_with_one_line(tmp_path, monkeypatch, capsys, tally):
    monkeypatch.chdir(tmp_path)
    assert main(["a2c", *A2C, "--learning-rate", "1e38", "--run-dir", "run"], verb="train") == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "update 2 at 16 env steps: expected a finite gradient, got one that is not, with train/" in line
    assert "; lower --learning-rate" in line
    assert json.loads(Path("run/failed.json").read_text())["error"] in line
    assert main(["evaluate", "--replay", "run"]) == 0
    assert "\nthe first that is not finite: policy.params." in capsys.readouterr().out
    assert not Path("run/summary.json").exists()
    tally("learning rate of 1e38", "exit code 2, one line, record and batch kept")


@pytest.mark.faults
def test_comparison_names_the_run_that_broke_and_leaves_it_out(tmp_path, monkeypatch, capsys, tally):
    monkeypatch.chdir(tmp_path)
    asked = ["--learning-rate", "1e-3", "1e38", "--seeds", "2", "--parallel", "batch", "--out", "out"]
    main(["compare", "a2c", *A2C, *asked])
    error = capsys.readouterr().err
    assert "2 runs failed" in error
    assert "expected a finite gradient" in error
    broken = [path.parent for path in Path("out").rglob("failed.json")]
    assert len(broken) == 2
    assert not any((path / "summary.json").exists() for path in broken)
    assert "gradient" in json.loads((broken[0] / "failed.json").read_text())["error"]
    assert len([*Path("out").rglob("summary.json")]) == 2
    assert {path.parent for path in Path("out").rglob("offending_batch.safetensors")} == set(broken)
    rows = [json.loads(line) for path in broken for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert all(value is not None and math.isfinite(value) for row in rows for value in row.values())
    assert "expected a finite gradient" in Path("out/report.html").read_text()
    tally("learning rate of 1e38, in a comparison", "run frozen, named in the report, left out", times=2)
