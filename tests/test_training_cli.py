"""``train --resume``: what goes on, what is refused in one line, what is said."""

import json
import signal
import sys
import warnings

import pytest

from entropic_rl import checkpointing, cli, runs
from entropic_rl.agents import A2C
from entropic_rl.interruption import EXIT_CODE

TRAIN = [
    "a2c", "--env", "CartPole-v1", "--n-envs", "2", "--n-steps", "4", "--net-arch", "4", "--eval-episodes", "1",
    "--eval-max-steps", "10", "--coverage", "off", "--no-progress", "--checkpoint-every", "3", "--run-dir", "run",
]  # fmt: skip

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("entropic_rl.training_cli.keep_freed_memory", lambda: None)  # it would last


def train(*words):
    return cli.main([*TRAIN, *map(str, words)], verb="train")


def resume(*words, directory="run"):
    return cli.main(["--resume", str(directory), "--no-progress", *map(str, words)], verb="train")


def rows(tmp_path):
    found = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if not name.startswith("time/")} for row in found]


def weights(tmp_path):
    return (tmp_path / "run/policy.safetensors").read_bytes()


def refused(capsys, code, text):
    said = capsys.readouterr().err
    assert code == 2
    assert said.count("\n") == 1, said
    assert text in said


def test_finished_run_is_refused(capsys):
    assert train("--total-timesteps", 80) == 0
    capsys.readouterr()
    refused(capsys, resume(), "run has finished its 80 env steps: expected a run that has not, or a larger --total-t")
    refused(capsys, resume("--total-timesteps", 80), "has finished its 80")


def test_finished_run_trains_on_to_more_steps(tmp_path):
    assert train("--total-timesteps", 80) == 0
    first = rows(tmp_path)
    assert resume("--total-timesteps", 120) == 0
    both = rows(tmp_path)
    assert both[: len(first)] == first
    assert [row["global_step"] for row in both] == list(range(8, 121, 8))
    assert json.loads((tmp_path / "run/summary.json").read_text())["global_step"] == 120
    assert json.loads((tmp_path / "run/config.json").read_text())["total_timesteps"] == 120


def test_finished_run_without_a_checkpoint_is_refused(capsys):
    assert train("--total-timesteps", 80, "--checkpoint-every", 0, "--checkpoint-seconds", 0) == 0
    capsys.readouterr()
    refused(capsys, resume("--total-timesteps", 120), "holds no checkpoint to go on from")


def stopping_at(monkeypatch, step, number=signal.SIGTERM):
    """A signal comes in the env step of that number."""
    real, n = runs.Training._step, [0]

    def step_and_signal(self):
        real(self)
        n[0] += 1
        if n[0] == step:
            signal.raise_signal(number)

    monkeypatch.setattr(runs.Training, "_step", step_and_signal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signal_ends_with_75_and_the_run_goes_on_with_the_same_bits(tmp_path, monkeypatch, capsys, number):
    assert train("--total-timesteps", 120) == 0
    expected = rows(tmp_path), weights(tmp_path)
    (tmp_path / "run").rename(tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        stopping_at(patched, 30, number)  # within a rollout
        assert train("--total-timesteps", 120) == EXIT_CODE
    assert f"stopped by {number.name}; go on with: train.py --resume run" in capsys.readouterr().err
    assert not (tmp_path / "run/summary.json").exists()
    assert (tmp_path / "run/policy.safetensors").exists()
    assert resume() == 0
    assert (rows(tmp_path), weights(tmp_path)) == expected


def test_signal_before_the_first_checkpoint_leaves_one(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stopping_at(patched, 1)
        assert train("--total-timesteps", 80) == EXIT_CODE
    assert len([*(tmp_path / "run/checkpoints").iterdir()]) == 1


def test_run_without_a_checkpoint_begins_anew(tmp_path, monkeypatch, capsys):
    assert train("--total-timesteps", 80) == 0
    expected = rows(tmp_path), weights(tmp_path)
    (tmp_path / "run").rename(tmp_path / "undisturbed")
    with monkeypatch.context() as patched:
        patched.setattr(runs.Training, "_update", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train("--total-timesteps", 80)
    assert resume() == 0
    assert (rows(tmp_path), weights(tmp_path)) == expected


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"agent": "sarsa"}', '{"agent": "ppo", "env": 3}'])
def test_damaged_config_is_one_line(tmp_path, capsys, content):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(content)
    refused(capsys, resume(), "")


def test_shorter_training_is_refused_and_changes_nothing(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stopping_at(patched, 30)
        assert train("--total-timesteps", 80) == EXIT_CODE
    capsys.readouterr()
    refused(capsys, resume("--total-timesteps", 40), "expected at least the run's 80, got 40")
    assert json.loads((tmp_path / "run/config.json").read_text())["total_timesteps"] == 80


def test_no_run_directory_is_one_line(capsys):
    refused(capsys, resume(), "no run directory run")


@pytest.mark.parametrize("words", [["--ent-coef", "0.1"], ["--seed", "1"], ["--total-timesteps", "-3"], ["ppo"]])
def test_settings_that_cannot_change_are_refused(capsys, words):
    assert train("--total-timesteps", 40) == 0
    capsys.readouterr()
    refused(capsys, resume(*words), "")


def test_other_versions_are_told(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stopping_at(patched, 30)
        assert train("--total-timesteps", 80) == EXIT_CODE
    before = checkpointing.versions()
    monkeypatch.setattr(checkpointing, "versions", lambda: before | {"torch": "1.0"})
    with pytest.warns(UserWarning, match=r"other software, the bits may differ \(torch .+ then, 1\.0 now\)"):
        assert resume() == 0


def test_checkpoint_of_other_settings_is_one_line(tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patched:
        stopping_at(patched, 30)
        assert train("--total-timesteps", 80) == EXIT_CODE
    config = tmp_path / "run/config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"net_arch": [5]}))
    capsys.readouterr()
    refused(capsys, resume(), "the checkpoint is of other settings or another version (net_arch)")


class Secretive(A2C):
    """An agent of a user's that holds what no snapshot can keep."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.secret = iter([1])


def test_agent_that_cannot_be_kept_is_told_once_and_trained(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "secretive", sys.modules[__name__])
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        code = cli.main(["secretive:Secretive", *TRAIN[1:], "--total-timesteps", "80"], verb="train")
    assert code == 0
    told = [str(item.message) for item in said if "no checkpoints are written" in str(item.message)]
    assert len(told) == 1
    assert "agent.secret: a snapshot cannot keep a builtins.list_iterator" in told[0]
    assert not (tmp_path / "run/checkpoints").exists()
    assert (tmp_path / "run/summary.json").exists()
