"""The measurement of the entropy operator."""

import pytest

from entropic_rl.benchmarks import entropy_operator as measurement
from entropic_rl.benchmarks.cli import main

SMALLEST = ["entropy-operator", "--classes", "64", "--megabytes", "1", "--actions", "3", "--batches", "5",
            "--threads", "1", "--rounds", "1"]  # fmt: skip


def test_the_benchmark_prints_speed_and_errors(monkeypatch, capsys):
    monkeypatch.setattr(measurement, "has_compiler", lambda: False)
    assert main([*SMALLEST, "--no-memory"]) == 0
    printed = capsys.readouterr().out
    assert "torch.compile is left out: there is no C++ compiler" in printed
    rows = {line.split(" | ")[0]: line.split(" | ") for line in printed.splitlines() if line.startswith("| ")}
    assert len(rows["| 5 x 3"]) == len(rows["| 4,096 x 64"]) == 6
    own, customary = (max(map(float, rows["| 3"][i].split(" / "))) for i in (1, 2))
    assert own < 1e-6
    assert customary > 1e-2


@pytest.mark.slow
def test_beyond_the_inputs_it_takes_one_gradient():
    _, _, own, customary, _ = measurement.memory_row((64, 65_536), ["operator", "log_softmax"]).split("|")
    assert float(own) < 1.1
    assert float(customary) > 3.0


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--classes", "0"], ["--threads", "-1"]])
def test_the_benchmark_refuses_nothing_to_measure(words, capsys):
    assert main([*SMALLEST, *words]) == 2
    assert "every number: expected at least 1" in capsys.readouterr().err
