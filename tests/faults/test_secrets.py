"""Keys and other secrets of the process end up in no file, on no page and in no output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from entropic_rl.cli import main

ROOT = Path(__file__).parents[2]
CANARY = "0canary0"
SECRETS = {
    "WANDB_API_KEY": f"{CANARY}{'0' * 32}",  # of the length that they have
    "AWS_SECRET_ACCESS_KEY": CANARY,
    "HF_TOKEN": CANARY,
    "GITHUB_TOKEN": CANARY,
    "SOMETHING_OF_THE_USERS": CANARY,
}
FIT = ["--n-epochs", "1", "--net-arch", "4", "--seeds", "2", "--no-progress"]
TRAIN = ["--env", "CartPole-v1", "--total-timesteps", "64", "--n-steps", "32", "--batch-size", "32", "--n-envs", "1",
         "--eval-episodes", "2", "--no-progress"]  # fmt: skip
TRACK = ["--track", "--wandb-mode", "offline"]
COMMANDS = {
    "train": ["ppo", *TRAIN, *TRACK, "--tensorboard", "--diagnose", "--run-dir", "out"],
    "compare": ["ppo", *TRAIN, *TRACK, "--ent-coef", "0", "0.1", "--seeds", "1", "--workers", "1", "--out", "out"],
    "calibrate": ["--data", "blobs", "--n", "100", "--ent-coef", "0", *FIT, *TRACK, "--out", "out"],
    "robustness": ["--data", "blobs", "--n", "100", "--ent-coef", "0", "--eps", "0", "0.1", *FIT, *TRACK,
                   "--out", "out"],
    "study": ["learning-rate", "--data", "blobs", "--n", "100", *FIT, "--out", "out"],
    "active-learning": ["--data", "blobs", "--n", "200", "--budget", "40", "--n-epochs", "1", "--net-arch", "4",
                        "--seeds", "2", "--no-progress", "--out", "out"],
}  # fmt: skip


def holding(folder, words):
    """Files that hold the words, as text, in a binary file, or in their name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if words.encode() in path.read_bytes() or words in str(path.relative_to(folder))]


@pytest.fixture
def secrets(tmp_path, monkeypatch):
    """An environment full of secrets, in a repository whose remote holds one."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    git = ["git", "-c", "user.name=x", "-c", f"user.email={CANARY}@x.y"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    subprocess.run([*git, "remote", "add", "origin", f"https://me:{CANARY}@example.com/x.git"], check=True)
    return tmp_path


@pytest.mark.usefixtures("no_figures")
def test_training_that_is_tracked_keeps_no_secret(secrets, capfd, tally):
    assert main(["train", *COMMANDS["train"][:-2], "--no-diagnose", "--run-dir", "out"]) == 0
    assert len(holding(secrets / "out", "CartPole-v1")) >= 4  # the search finds what is there, in W&B's file too
    assert any(path.suffix == ".wandb" for path in holding(secrets / "out", "CartPole-v1"))
    assert holding(secrets / "out", CANARY) == []
    assert CANARY not in "".join(capfd.readouterr())
    tally("secrets in the environment, train", "in no file and no output")


@pytest.mark.faults
@pytest.mark.parametrize("verb", COMMANDS)
def test_command_keeps_no_secret(verb, secrets, tally):
    command = [sys.executable, ROOT / "scripts" / f"{verb.replace('-', '_')}.py", *COMMANDS[verb]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert ended.returncode == 0, ended.stderr
    assert len(list((secrets / "out").rglob("*"))) >= 4
    assert holding(secrets / "out", CANARY) == []
    assert CANARY not in ended.stdout + ended.stderr
    tally(f"secrets in the environment, {verb}", "in no file and no output")


@pytest.mark.faults
def test_unreachable_server_is_told_without_the_key(secrets, tally):
    command = [sys.executable, ROOT / "scripts" / "train.py", "ppo", *TRAIN, "--track", "--run-dir", "out"]
    elsewhere = {**os.environ, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=elsewhere)
    assert ended.returncode == 0, ended.stderr
    assert holding(secrets / "out", CANARY) == []
    assert CANARY not in ended.stdout + ended.stderr
    tally("secrets in the environment, server unreachable", "in no file and no output")


@pytest.mark.usefixtures("no_figures")
def test_arguments_of_an_environment_are_settings_and_kept(secrets):
    flags = [*TRAIN, "--env-kwargs", f"sutton_barto_reward={CANARY}", "--run-dir", "out"]
    assert main(["train", "ppo", *flags]) == 0
    assert secrets / "out" / "config.json" in holding(secrets / "out", CANARY)
