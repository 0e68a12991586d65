"""Bad settings of every kind, by flag and by file: exit code 2, one line that names the setting, nothing written.

Values are thrown at every field without knowing its range: what is taken is not counted, what is refused has to be
refused well, and nothing else may happen. ``--show-config`` keeps what is taken from training.
"""

import dataclasses
import math
import os
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from entropic_rl.active.config import ComparisonConfig
from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.calibrate.config import CalibrationConfig
from entropic_rl.cli import main
from entropic_rl.config import RunConfig
from entropic_rl.robustness.config import AttackConfig, RobustnessConfig
from entropic_rl.studies.config import StudyConfig
from entropic_rl.supervised.config import FitConfig

ROOT = Path(__file__).parents[2]
SHOW = ("--show-config",)
ENV = ("--env", "CartPole-v1")
DATA = ("--data", "digits", *SHOW)
VERBS = {  # name -> (verb, words before, words after, settings classes)
    **{agent: ("train", (agent,), (*ENV, *SHOW), (RunConfig, cls)) for agent, cls in AGENT_CONFIGS.items()},
    "compare": ("compare", ("ppo",), (*ENV, "--ent-coef", "0", "0.1", *SHOW), (RunConfig, AGENT_CONFIGS["ppo"])),
    "calibrate": ("calibrate", (), DATA, (CalibrationConfig, FitConfig)),
    "robustness": ("robustness", (), DATA, (RobustnessConfig, AttackConfig, FitConfig)),
    "study": ("study", ("learning-rate",), DATA, (StudyConfig, FitConfig)),
    "active-learning": ("active-learning", (), DATA, (ComparisonConfig, FitConfig)),
}
WORDS = (
    "abc", "nan", "inf", "-inf", "-1", "0", "-0.5", "1.5", "1e400", "9" * 30, "", " ", "None", "null", "true", "[[1]]",
    "{a: 1}", "übel\u202e", "0x10", "1,5", "linear", "linear:1", "linear:nan:0", "target:", "a=b",
    "/no/such/file", "a\nb",
)  # fmt: skip
VALUES = (
    "abc", math.nan, math.inf, -math.inf, -1, 0, -0.5, 1.5, 10**30, 1e308, "", " ", None, True, [], [[1]], [None], {},
    {"a": 1}, {"a": {"b": [1]}}, "übel\u202e", "linear:1", "/no/such/file", "a\nb", [1, "x", None], "1e400",
)  # fmt: skip
FILES = (
    "a: [", "- 1\n- 2", "just text", "a: 1: 2", "\t\tx: 1", "? [1]\n: 2", "{", "a: *b", "!!python/object:os.system {}",
    "seed: !!int x", "1: 2", "null: 1", "[]: 1", "seed: 2020-01-01", "seed: !!binary aGk=", "--- 1\n--- 2", "\x00",
    "\ufeff: 1", "a: &a [*a]",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One command line; ``file`` is the text of its ``--config``; ``name`` is what the message has to speak of."""

    verb: str
    words: tuple[str, ...]
    name: str
    kind: str
    file: str | bytes | None = None


def cases():
    """All of them, in an order that is always the same and mixes kinds."""
    found = []
    for verb, before, after, classes in VERBS.values():
        names = [field.name for cls in classes for field in dataclasses.fields(cls)]
        for name in names:
            flag = f"--{name.replace('_', '-')}"
            found += [Case(verb, (*before, *after, flag, word), name, "value of a flag") for word in WORDS]
            found += [
                Case(verb, (*before, *after), name, "value in a file", yaml.safe_dump({name: value}))
                for value in VALUES
            ]
            wrong = f"{name}x"
            found += [
                Case(verb, (*before, *after, f"{flag}x", "1"), flag, "misspelt flag"),
                Case(verb, (*before, *after), wrong, "misspelt in a file", yaml.safe_dump({wrong: 1})),
                Case(verb, (*before, *after, flag), name, "flag without a value"),
            ]
        found += [Case(verb, (*before, *after), "--config", "no settings in a file", text) for text in FILES]
        found += [Case(verb, (*before, *after), "--config", "no text in a file", b"\xff\xfe\x00" + b"\x80" * 9)]
        found += [Case(verb, (*before, *after, "--config", path), "--config", "no file") for path in ("/no/such", "/")]
    random.Random(0).shuffle(found)
    return found


CASES = cases()


def arguments(case, folder):
    if case.file is None:
        return list(case.words)
    path = folder / "settings.yaml"
    path.write_bytes(case.file if isinstance(case.file, bytes) else case.file.encode())
    return [*case.words, "--config", str(path)]


def flaw(case, code, out, err, left):
    """What is wrong with how it ended; None if nothing is, "taken" if the value was."""
    if code == 0 and not err:
        return "taken"
    lines = err.splitlines()
    said = {case.name, case.name.replace("_", "-"), case.name.replace("-", "_").strip("_")}
    if code != 2:
        return f"exit code {code}"
    if len(lines) != 1 or ": error: " not in lines[0]:
        return f"expected one line, got {lines}"
    if case.file in FILES:
        said.add("seed")
    if not any(name in lines[0] for name in said):
        return f"names no {case.name}"
    if out:
        return "wrote to the screen"
    return f"left {left}" if left else None


def run_here(case, folder, capsys):
    """How a case ends in this process."""
    capsys.readouterr()
    try:
        code = main(arguments(case, folder), verb=case.verb)
    except SystemExit as stop:
        code = stop.code
    except Exception as error:  # every kind is a finding
        code = repr(error)
    out, err = capsys.readouterr()
    return code, out, err


def hold(chosen, tmp_path, monkeypatch, capsys, tally):
    """Try every case; how many were refused."""
    work, files = tmp_path / "work", tmp_path / "files"
    work.mkdir()
    files.mkdir()
    monkeypatch.chdir(work)
    findings, refused = [], 0
    for case in chosen:
        ended = run_here(case, files, capsys)
        found = flaw(case, *ended, [*work.iterdir()])
        if found not in (None, "taken"):
            findings.append((found, case.verb, case.words, case.file, ended[2][-400:]))
        elif found is None:
            refused += 1
            tally(f"bad config: {case.kind}", "exit 2, one line, nothing written")
    assert not findings, f"{len(findings)} findings:\n" + "\n".join(map(str, findings[:40]))
    return refused


def test_some_bad_settings_are_refused_in_one_line(tmp_path, monkeypatch, capsys, tally):
    assert hold(CASES[:40], tmp_path, monkeypatch, capsys, tally) >= 25


@pytest.mark.faults
def test_bad_settings_are_refused_in_one_line(tmp_path, monkeypatch, capsys, tally):
    assert hold(CASES[40:2500], tmp_path, monkeypatch, capsys, tally) >= 1000


TRAIN = ("ppo", "--env", "CartPole-v1")
CHAIN = "entropic_rl/Chain-v0"
COMPARE = (*TRAIN, "--ent-coef", "0", "1", "--out", "new")
CLASSIFY = ("--data", "digits", "--out", "new")
ON_THE_WAY = {  # what only shows beyond the settings themselves: (verb, words, what the message speaks of)
    "env that does not exist": ("train", ("ppo", "--env", "CartPol-v1"), "CartPole-v1"),
    "env of a namespace": ("train", ("ppo", "--env", "nobody/Nothing-v0"), "nobody/Nothing-v0"),
    "env with a path": ("train", ("ppo", "--env", "../../etc/passwd"), "../../etc/passwd"),
    "env without a version": ("train", ("ppo", "--env", "CartPole-v99"), "CartPole-v99"),
    "env of spaces": ("train", ("ppo", "--env", "  "), "env"),
    "env with colons": ("train", ("ppo", "--env", "no_module:CartPole-v1"), "no_module"),
    "env with odd spaces": ("train", ("ppo", "--env", "test/Oddity-v0"), "space"),
    "env kwargs unknown": ("train", (*TRAIN, "--env-kwargs", "nonsense=1"), "nonsense"),
    "env kwargs no pair": ("train", (*TRAIN, "--env-kwargs", "nonsense"), "--env-kwargs"),
    "env kwargs no YAML": ("train", (*TRAIN, "--env-kwargs", "a=["), "--env-kwargs"),
    "env kwargs out of range": ("train", ("ppo", "--env", CHAIN, "--env-kwargs", "n=-1"), "--env-kwargs"),
    "wrapper that is none": ("train", (*TRAIN, "--env-wrappers", "math:pi"), "math:pi"),
    "wrapper of no module": ("train", (*TRAIN, "--env-wrappers", "no_module:X"), "no_module"),
    "wrapper no text": ("train", (*TRAIN, "--env-wrappers", "x"), "env_wrappers"),
    "gym package": ("train", (*TRAIN, "--gym-packages", "no_module"), "no_module"),
    "batched with wrappers": (
        "train", (*TRAIN, "--env-backend", "batched", "--env-wrappers", "gymnasium.wrappers:ClipReward"), "batched"
    ),
    "batched without a version": ("train", ("ppo", "--env", "FrozenLake-v1", "--env-backend", "batched"), "batched"),
    "device that is not there": ("train", (*TRAIN, "--device", "cuda:99"), "--device"),
    "agent for other actions": ("train", ("sac", "--env", "CartPole-v1"), "action"),
    "agent for other actions, too": ("train", ("soft-q", "--env", "Pendulum-v1"), "action"),
    "agent unknown": ("train", ("pppo", "--env", "CartPole-v1"), "pppo"),
    "agent of no module": ("train", ("no_module:X", "--env", "CartPole-v1"), "no_module"),
    "no env": ("train", ("ppo",), "env"),
    "nothing": ("train", (), "AGENT"),
    "preset unknown": ("train", (*TRAIN, "--preset", "nobody"), "--preset"),
    "batch larger than the rollout": ("train", (*TRAIN, "--batch-size", "4096", "--n-steps", "8"), "batch_size"),
    "images for vectors": ("train", (*TRAIN, "--features", "cnn"), "features"),
    "prior of other actions": ("train", (*TRAIN, "--entropy", "kl-to-prior:1,1,1"), "prior"),
    "run dir not empty": ("train", (*TRAIN, "--run-dir", "full"), "full"),
    "run dir a file": ("train", (*TRAIN, "--run-dir", "file"), "file"),
    "run dir in a file": ("train", (*TRAIN, "--run-dir", "file/x/y"), "file"),
    "run dir with a null": ("train", (*TRAIN, "--run-dir", "a\0b"), "run directory"),
    "run dir too long": ("train", (*TRAIN, "--run-dir", "x" * 5000), "run directory"),
    "run dir of two lines": ("train", (*TRAIN, "--run-dir", "file/a\nb"), "run directory"),
    "comparison without values": ("compare", TRAIN, "--ent-coef"),
    "comparison to nowhere": ("compare", (*TRAIN, "--ent-coef", "0", "1"), "--out"),
    "comparison not empty": ("compare", (*TRAIN, "--ent-coef", "0", "1", "--out", "full"), "full"),
    "comparison of twins": ("compare", (*TRAIN, "--ent-coef", "0", "0.0", "--out", "new"), "ent"),
    "comparison without workers": ("compare", (*COMPARE, "--workers", "0"), "--workers"),
    "comparison without seeds": ("compare", (*COMPARE, "--seeds", "0"), "seeds"),
    "comparison of unknown agents": ("compare", ("sb3:QQQ", "--env", "CartPole-v1", "--ent-coef", "0", "1"), "QQQ"),
    "resume of nothing": ("compare", ("resume", "nowhere"), "nowhere"),
    "resume of a file": ("compare", ("resume", "file"), "file"),
    "summary of something else": ("compare", ("summary", "full"), "full"),
    "evaluation of nothing": ("evaluate", ("nowhere",), "nowhere"),
    "evaluation of something else": ("evaluate", ("full",), "config.json"),
    "evaluation without episodes": ("evaluate", ("full", "--episodes", "0"), "--episodes"),
    "evaluation with a bad seed": ("evaluate", ("full", "--seed", "-1"), "--seed"),
    "evaluation with no device": ("evaluate", ("full", "--device", "tpu"), "device"),
    "push of nothing": ("wandb-push", ("nowhere",), "nowhere"),
    "data that is not there": ("calibrate", ("--data", "no.csv", "--out", "new"), "no.csv"),
    "data of another kind": ("calibrate", ("--data", "file", "--out", "new"), "file"),
    "no data": ("calibrate", ("--out", "new"), "--data"),
    "coefficient no number": ("calibrate", (*CLASSIFY, "--ent-coef", "x"), "ent_coef"),
    "coefficients alike": ("calibrate", (*CLASSIFY, "--ent-coef", "0", "0"), "--ent-coef"),
    "no seeds": ("calibrate", (*CLASSIFY, "--seeds", "0"), "--seeds"),
    "classifiers to a file": ("calibrate", ("--data", "digits", "--out", "file"), "file"),
    "radii": ("robustness", (*CLASSIFY, "--eps", "-1"), "eps"),
    "study unknown": ("study", ("learning-rat", *CLASSIFY), "learning-rate"),
    "study of one value": ("study", ("learning-rate", *CLASSIFY, "--values", "1"), "--values"),
    "strategy unknown": ("active-learning", (*CLASSIFY, "--strategies", "nobody"), "nobody"),
    "stopping rule unknown": ("active-learning", (*CLASSIFY, "--stop", "nobody"), "nobody"),
    "pool that is not there": ("active-learning", ("--pool", "no.csv", "--labels", "l.csv"), "no.csv"),
    "pool that is no table": ("active-learning", ("--pool", "file", "--labels", "l.csv"), "file"),
}  # fmt: skip


@pytest.mark.parametrize("what", ON_THE_WAY)
def test_what_shows_later_is_refused_as_well(what, tmp_path, monkeypatch, capsys, tally):
    monkeypatch.chdir(tmp_path)
    Path("full").mkdir()
    Path("full/x").touch()
    Path("file").touch()
    before = sorted(tmp_path.rglob("*"))
    verb, words, name = ON_THE_WAY[what]
    monkeypatch.setattr("entropic_rl.runs.train_cells", pytest.fail)
    case = Case(verb, words, name, "on the way")
    ended = run_here(case, tmp_path, capsys)
    assert flaw(case, *ended, sorted(set(tmp_path.rglob("*")) - set(before))) is None, ended
    tally("bad config: beyond the settings", "exit 2, one line, nothing written")


@pytest.mark.faults
def test_processes_end_as_calls_do(tmp_path, monkeypatch, capsys, tally):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files").mkdir()
    for case in CASES[:30]:
        command = [
            sys.executable,
            ROOT / "scripts" / f"{case.verb.replace('-', '_')}.py",
            *arguments(case, tmp_path / "files"),
        ]
        here = run_here(case, tmp_path / "files", capsys)
        there = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert (there.returncode, there.stderr) == (here[0], here[2]), case
        tally("bad config: in a process of its own", "as in this one")
