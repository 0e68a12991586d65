"""The verb ``compare`` from end to end: a real comparison, one in which a worker is killed, and what is refused."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import pytest
import yaml

from entropic_rl.cli import main
from entropic_rl.compare.grid import read_plan
from entropic_rl.compare.pool import Ended
from entropic_rl.errors import RunDirectoryError
from entropic_rl.run_directory import read_metrics

# Where a file "die" lies beside the command, the first process to step this environment is killed.
POLE = """
import os, signal
import gymnasium as gym
from gymnasium.envs.classic_control import CartPoleEnv

class Pole(CartPoleEnv):
    def step(self, action):
        try:
            os.unlink("die")
            os.kill(os.getpid(), signal.SIGKILL)
        except FileNotFoundError:
            return super().step(action)

gym.register("mine/Pole-v0", Pole, max_episode_steps=20)
"""
SETTINGS = [
    "--env", "mine/Pole-v0", "--gym-packages", "pole", "--preset", "none", "--total-timesteps", "256", "--n-envs", "2",
    "--n-steps", "32", "--batch-size", "32", "--n-epochs", "1", "--net-arch", "8", "--eval-episodes", "2",
]  # fmt: skip
GRID = [
    "compare",
    "ppo",
    *SETTINGS,
    "--ent-coef",
    "0",
    "linear:0.1:0",
    "--seeds",
    "2",
    "--seed",
    "7",
    "--threshold",
    "9",
]
MEANS = ["--workers", "2", "--no-progress"]
ONE = ["--workers", "1", "--no-progress"]  # for what is left over: a process less to start
CELL_FILES = {
    "config.json", "metrics.jsonl", "summary.json", "policy.json", "policy.safetensors", "learning_curve.svg",
    "entropy.svg", "exploration.npz",
}  # fmt: skip
KEPT = ("cells/", "plan.json", "sessions.jsonl")  # what a report is made from; all else in the directory is report
CELLS = [f"ent_coef_{coef}__seed_{seed}" for coef in ("0", "linear-0.1-0") for seed in (7, 8)]


@pytest.fixture(scope="module", autouse=True)
def _beside_the_pole(tmp_path_factory):
    """In a directory of this module's own, in which ``pole.py`` lies."""
    place = tmp_path_factory.mktemp("compare")
    (place / "pole.py").write_text(POLE)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(place)
        monkeypatch.setattr(sys, "path", [*sys.path])
        yield
    gym.registry.pop("mine/Pole-v0", None)
    sys.modules.pop("pole", None)


def run(*arguments):
    """Exit code, stdout and stderr of a command."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return SimpleNamespace(code=code, out=out.getvalue(), err=err.getvalue())


def files(directory):
    """Bytes and time of every file, by its path in the directory."""
    found = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): (path.read_bytes(), path.stat().st_mtime_ns) for path in found}


def of_cells(files, *names):
    return {path: kept for path, kept in files.items() if path.startswith(tuple(f"cells/{name}/" for name in names))}


def finished(directory):
    return sorted(path.parent.name for path in directory.glob("cells/*/summary.json"))


def record(directory, name):
    """All rows of a cell but for the time they took."""
    rows = read_metrics(directory / "cells" / name)
    return [{key: value for key, value in row.items() if not key.startswith("time/")} for row in rows]


@pytest.fixture(scope="module")
def whole():
    """A comparison of two coefficients with two seeds that nothing disturbed."""
    return SimpleNamespace(path=Path("whole"), **vars(run(*GRID, *MEANS, "--out", "whole")))


@pytest.fixture(scope="module")
def hurt(jobs_here):
    """The same comparison, stage by stage: one of its two workers is killed, it is resumed, it gets a further seed.

    Once a worker has died, the others have shown what they do: what is left and the further seed are trained here.
    """
    path, stages = Path("hurt"), {}
    Path("die").touch()
    commands = {
        "killed": [*GRID, *MEANS, "--out", path],
        "resumed": ["compare", "resume", path, *ONE],
        "extended": ["compare", "add", path, "--add-seeds", "1", *ONE],
    }
    for stage, command in commands.items():
        with pytest.MonkeyPatch.context() as monkeypatch:
            if stage != "killed":
                monkeypatch.setattr("entropic_rl.compare.execute.run_jobs", jobs_here)
            ended = run(*command)
        stages[stage] = SimpleNamespace(files=files(path), finished=finished(path), **vars(ended))
    return SimpleNamespace(path=path, **stages)


@pytest.fixture
def copy(whole, tmp_path):
    """A copy of the comparison that nothing disturbed, to be changed."""
    return Path(shutil.copytree(whole.path, tmp_path / "copy"))


# What a comparison leaves


def test_comparison_leaves_a_run_directory_per_cell_and_a_report(whole):
    assert (whole.code, whole.err) == (0, "")
    assert {path.name for path in whole.path.iterdir()} >= {
        "plan.json",
        "sessions.jsonl",
        "report.html",
        "comparison.json",
    }
    assert sorted(path.name for path in (whole.path / "cells").iterdir()) == CELLS
    for name in CELLS:
        directory = whole.path / "cells" / name
        assert {path.name for path in directory.iterdir()} == CELL_FILES
        stored = json.loads((directory / "config.json").read_text())
        assert f"seed_{stored['seed']}" in name
        assert (stored["agent"], stored["ent_coef"] == 0.0) == ("ppo", "coef_0__" in name)
        assert (stored["wandb_group"], stored["env_backend"]) == ("whole", "sync")


def test_comparison_prints_a_row_per_coefficient_and_where_the_report_is(whole):
    for word in ("ent_coef", "linear:0.1:0", "return", "entropy", "report: whole/report.html"):
        assert word in whole.out


def test_numbers_of_every_run_are_in_the_comparison(whole):
    content = json.loads((whole.path / "comparison.json").read_text())
    assert [run["directory"] for run in content["runs"]] == [f"cells/{name}" for name in CELLS]
    for entry in content["runs"]:
        assert entry["error"] is None
        assert json.loads((whole.path / entry["directory"] / "summary.json").read_text()).items() <= entry.items()
    [section] = content["sections"]
    assert section["threshold"] == 9


def test_cell_can_be_evaluated_by_itself(whole):
    ended = run("evaluate", whole.path / "cells" / CELLS[-1], "--episodes", "2", "--json")
    assert (ended.code, json.loads(ended.out)["episodes"]) == (0, 2)


def test_two_workers_trained_two_batches(whole):
    [session] = map(json.loads, (whole.path / "sessions.jsonl").read_text().splitlines())
    assert (session["batches"], session["n_cells"], session["n_workers"]) == ([2, 2], 4, 2)
    assert 0.3 < session["memory_peak"] / session["memory_estimate"] < 3


# A worker is killed


@pytest.mark.slow  # a worker is killed and the comparison trained three times over
def test_killed_worker_loses_only_its_own_cells_which_are_named_in_one_line(hurt):
    killed = hurt.killed
    assert killed.code == 1
    lost = sorted(set(CELLS) - set(killed.finished))
    assert lost in (CELLS[0::2], CELLS[1::2])  # the cells of one worker
    assert killed.err == f"2 runs failed ({', '.join(lost)}): its process was killed by SIGKILL (out of memory?)\n"
    for name in lost:
        assert f"cells/{name}/failed.json" in killed.files
    assert not [path for path in killed.files if "failed" in path and path.split("/")[1] not in lost]


@pytest.mark.slow  # a worker is killed and the comparison trained three times over
def test_report_names_the_cells_of_a_killed_worker_and_counts_only_the_others(hurt):
    content = json.loads(hurt.killed.files["comparison.json"][0])
    assert {run["directory"][6:]: run["error"] is None for run in content["runs"]} == {
        name: name in hurt.killed.finished for name in CELLS
    }
    assert "SIGKILL" in hurt.killed.files["report.html"][0].decode()


@pytest.mark.slow  # a worker is killed and the comparison trained three times over
def test_resume_trains_what_was_lost_and_touches_nothing_that_finished(hurt):
    assert (hurt.resumed.code, hurt.resumed.err) == (0, "")
    assert hurt.resumed.finished == CELLS
    assert of_cells(hurt.resumed.files, *hurt.killed.finished) == of_cells(hurt.killed.files, *hurt.killed.finished)
    assert not [path for path in hurt.resumed.files if "failed" in path]


@pytest.mark.slow  # a worker is killed and the comparison trained three times over
def test_resumed_comparison_has_the_numbers_of_one_that_nothing_disturbed(hurt, whole):
    for name in CELLS:
        expected, found = record(whole.path, name), record(hurt.path, name)
        assert len(found) == len(expected) == 4
        for row, other in zip(found, expected, strict=True):
            assert row == pytest.approx(other, rel=1e-5, abs=1e-7)


@pytest.mark.slow  # a worker is killed and the comparison trained three times over
def test_further_seed_is_trained_for_every_coefficient_and_nothing_else_is(hurt):
    assert (hurt.extended.code, hurt.extended.err) == (0, "")
    new = ["ent_coef_0__seed_9", "ent_coef_linear-0.1-0__seed_9"]
    assert hurt.extended.finished == sorted([*CELLS, *new])
    assert of_cells(hurt.extended.files, *CELLS) == of_cells(hurt.resumed.files, *CELLS)
    assert read_plan(hurt.path).seeds == (7, 8, 9)
    sessions = [json.loads(line) for line in (hurt.path / "sessions.jsonl").read_text().splitlines()]
    assert [session["n_cells"] for session in sessions] == [4, 2, 2]


# Going on


def changed(before, after):
    return {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)}


def test_summary_changes_nothing_but_the_report(copy):
    before = files(copy)
    ended = run("compare", "summary", copy, "--threshold", "11", "--baseline", "linear:0.1:0")
    after = files(copy)
    assert (ended.code, ended.err) == (0, "")
    assert {"report.html", "comparison.json"} <= changed(before, after)
    assert not [path for path in changed(before, after) if path.startswith(KEPT)]
    [section] = json.loads(after["comparison.json"][0])["sections"]
    assert (section["threshold"], section["baseline"]) == (11, "linear:0.1:0")


def test_resume_of_a_whole_comparison_trains_nothing(copy):
    before = files(copy)
    ended = run("compare", "resume", copy)
    assert (ended.code, ended.err) == (0, "0 of 4 runs are missing\n")
    assert not [path for path in changed(before, files(copy)) if path.startswith(KEPT)]


def test_interrupted_comparison_says_how_to_go_on(stand_in, tmp_path):
    processes = stand_in('import time; print(\'{"rows": [{"global_step": 1.0}]}\', flush=True); time.sleep(60)', "-I")

    def interrupt(self, runs, rows):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("entropic_rl.compare.execute.GridProgress.update", interrupt)
        ended = run(*GRID, *MEANS, "--out", tmp_path / "out")
    assert ended.code == 130
    assert ended.err.splitlines() == [
        f"entropic-rl: what finished is kept; go on with: resume {tmp_path / 'out'}",
        "entropic-rl compare: interrupted",
    ]
    assert all(process.poll() is not None for process in processes)
    assert (tmp_path / "out" / "plan.json").exists()


LEAVING = """
import json, os, signal, sys
for cell in json.load(sys.stdin)["cells"]:
    os.makedirs(cell["directory"], exist_ok=True)
    open(cell["directory"] + "/metrics.jsonl", "w").write("{}")
    if os.path.exists("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    json.dump({}, open(cell["directory"] + "/summary.json", "w"))
"""


def test_comparison_whose_workers_were_all_killed_keeps_what_they_left(stand_in, tmp_path, monkeypatch):
    stand_in(LEAVING, "-I", "-S")
    shutil.copy("pole.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    Path("die").touch()
    ended = run(*GRID, *MEANS, "--out", "out")
    assert ended.code != 0
    assert "SIGKILL" in ended.err
    assert len(list(Path("out").glob("cells/*/metrics.jsonl"))) == 2
    Path("die").unlink()
    run("compare", "resume", "out", *MEANS)
    assert finished(Path("out")) == CELLS


def test_report_that_cannot_be_made_costs_no_run(stand_in, tmp_path, monkeypatch):
    def read_report(plan, out, **_):
        raise RunDirectoryError("cannot read it")

    stand_in(LEAVING, "-I", "-S")
    monkeypatch.setattr("entropic_rl.compare.report.read_report", read_report)
    ended = run(*GRID, *MEANS, "--out", tmp_path / "out")
    assert (ended.code, ended.err) == (2, "entropic-rl compare: error: cannot read it\n")
    assert finished(tmp_path / "out") == CELLS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["summary", "--baseline", "7"], "--baseline: expected one of 0, linear:0.1:0, got '7'"),
        (["summary", "--threshold", "high"], "argument --threshold: invalid float value: 'high'"),
        (["add"], "expected --add-seeds N with N >= 1, or further values such as --ent-coef 0.3; got neither"),
        (["add", "--add-seeds", "-1"], "expected --add-seeds N with N >= 1"),
        (["add", "--ent-coef"], "--ent-coef: expected at least one value, got none"),
        (["add", "--ent-coef", "0.0"], "--ent-coef: expected different values, got 0 more than once"),
        (["add", "--ent-coef", "nan"], "ent_coef: expected a number"),
        (["add", "--ent-coef", "-1"], "ent_coef: expected >= 0, got -1"),
        (["add", "--gamma", "0.5"], "--gamma: expected one of what this comparison sweeps (--ent-coef); start another"),
        (["add", "7"], "unknown argument '7'"),
        (["add", "--add-seeds", "1", "--parallel", "threads"], "argument --parallel: invalid choice: 'threads'"),
        (["resume", "--seeds", "3"], "unknown argument '--seeds'"),
        pytest.param(
            ["add", "--ent-coef=0.0"], "got 0 more than once"
        ),
        *(
            pytest.param(
                [verb, "--workers", n, *further], f"--workers: expected at least 1, got {n}"
            )
            for verb, further in (("resume", []), ("add", ["--add-seeds", "1"]))
            for n in ("0", "-1")
        ),
    ],
)  # fmt: skip
def test_bad_input_for_going_on_is_one_line_and_changes_nothing(copy, stand_in, arguments, words):
    processes = stand_in("")
    verb, *rest = arguments
    before = files(copy)
    ended = run("compare", verb, copy, *rest)
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert words in ended.err
    assert ended.err.startswith(f"entropic-rl compare {verb}: error: ") or ended.err.startswith(
        "entropic-rl compare: error: "
    )
    assert files(copy) == before
    assert processes == []


@pytest.mark.parametrize("verb", ["resume", "add", "summary"])
def test_directory_without_a_comparison_is_told(verb, tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        ended = run("compare", verb, path)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == (
            f"entropic-rl compare: error: no plan.json in {path}: expected the --out of a comparison\n"
        )
    assert not list(tmp_path.iterdir())


# Other agents, other names


@pytest.mark.filterwarnings("ignore:.*Using the latest versioned environment.*:UserWarning")
def test_two_implementations_lie_side_by_side_and_one_seed_is_warned_of(tmp_path, trained_here):
    settings = [*SETTINGS[4:], "--env", "gymnasium.envs.classic_control:CartPole-v1", "--ent-coef", "0.01"]
    ended = run("compare", "ppo", "sb3:PPO", *settings, "--seeds", "1", *MEANS, "--out", tmp_path / "out")
    assert ended.code == 0
    assert ended.err.startswith("entropic-rl compare: warning: one seed shows no spread; give --seeds 4 or more\n")
    assert finished(tmp_path / "out") == ["agent_ppo__ent_coef_0.01__seed_0", "agent_sb3-PPO__ent_coef_0.01__seed_0"]
    assert "sb3:PPO" in ended.out


# Settings from files


def sweep_of(*arguments):
    """The grid that a command describes, as the sweep it would write."""
    ended = run("compare", *arguments, "--emit-wandb-sweep", "sweep.yaml")
    assert (ended.code, ended.err) == (0, "")
    return yaml.safe_load(Path("sweep.yaml").read_text())


def test_list_in_a_file_is_swept_and_a_flag_wins_over_it(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(
        "env: CartPole-v1\nent-coef: [0, 1e-2, 'linear:0.1:0']\ngamma: [0.9, 0.99]\nnet_arch: [8, 8]\nseed: 3\n"
    )
    parameters = sweep_of("ppo", "--config", file)["parameters"]
    assert {name: own["values"] for name, own in parameters.items()} == {
        "ent-coef": [0.0, 0.01, "linear:0.1:0"], "gamma": [0.9, 0.99], "seed": [3, 4, 5, 6],
    }  # fmt: skip
    parameters = sweep_of("ppo", "--config", file, "--gamma", "0.5", "--ent-coef", "1", "2")["parameters"]
    assert {name: own["values"] for name, own in parameters.items()} == {"ent-coef": [1, 2], "seed": [3, 4, 5, 6]}


def shown_config(tmp_path, *arguments):
    """The file that ``--show-config`` prints."""
    ended = run("compare", *arguments, "--show-config")
    assert (ended.code, ended.err) == (0, "")
    file = tmp_path / "shown.yaml"
    file.write_text(ended.out)
    return file


def test_shown_settings_pass_back_as_a_file(tmp_path):
    words = ["ppo", *SETTINGS, "--learning-rate", "1e-05", "--env-kwargs", "x=1", "--wandb-tags", "a", "--seed", "4"]
    file = shown_config(tmp_path, *words, "--ent-coef", "0.1")
    assert sweep_of("ppo", "--config", file) == sweep_of(*words, "--ent-coef", "0.1")
    assert shown_config(tmp_path, "ppo", "--config", file).read_text() == file.read_text()


def test_shown_settings_of_a_grid_pass_back_as_the_grid(tmp_path):
    words = ["ppo", *SETTINGS, "--ent-coef", "0", "linear:0.1:0", "--gamma", "0.9", "0.99"]
    assert sweep_of("ppo", "--config", shown_config(tmp_path, *words)) == sweep_of(*words)


# Bad input

BAD = {
    "no coefficient": ([], "--ent-coef is missing: give the coefficients to compare, such as --ent-coef 0 0.01 0.1"),
    "an empty list": (["--ent-coef"], "argument --ent-coef: expected at least one argument"),
    "a negative one": (["--ent-coef", "0", "-0.1"], "ent_coef: expected >= 0, got -0.1"),
    "no number": (["--ent-coef", "0", "nan"], "ent_coef: expected a number, a schedule such as"),
    "the same twice": (["--ent-coef", "0.1", "1e-1"], "--ent-coef: expected different values, got 0.1 more than once"),
    "a field that cannot be swept": (
        ["--ent-coef", "0", "--total-timesteps", "1", "2"],
        "--total-timesteps: expected one value, got 2; it cannot be swept: it belongs to the whole comparison",
    ),
    "no seeds": (["--ent-coef", "0", "--seeds", "0"], "--seeds: expected at least 1, got 0"),
    "too large a seed": (["--ent-coef", "0", "--seeds", "2", "--seed", str(2**63 - 1)], f"got {2**63}"),
    "uneven lists": (["--ent-coef", "0", "--gamma", "0", "1", "--together"], "--together: expected as many values"),
    "no baseline": (["--ent-coef", "0", "1", "--baseline", "2"], "--baseline: expected one of 0, 1, got '2'"),
    "threshold": (["--ent-coef", "0", "1", "--threshold", "high"], "argument --threshold: invalid float value: 'high'"),
    "a batch too large for one": (["--ent-coef", "0", "--n-steps", "64", "8"], "batch_size: expected at most"),
    "parallel": (["--ent-coef", "0", "1", "--parallel", "no"], "argument --parallel: invalid choice: 'no'"),
    "the same agent twice": (["--agent", "ppo"], "AGENT: expected different agents, got ppo more than once"),
    "no agent": (["--agent"], "--agent: expected at least one agent, got none"),
    "an unknown agent": (
        ["--agent", "poo"],
        "AGENT: expected one of ppo, a2c, sac, discrete-sac, soft-q, sb3:ALGORITHM, MODULE:CLASS, got 'poo'",
    ),
    "one that cannot schedule": (
        ["--agent", "sb3:PPO", "--ent-coef", "linear:0.1:0"], "neither schedules nor steers it",
    ),
    "unknown env": (["--ent-coef", "0", "--env", "CartPole-v1", "CartPoole-v1"], "did you mean 'CartPole-v1'"),
    "no workers": (["--ent-coef", "0", "--workers", "0"], "--workers: expected at least 1, got 0"),
    "fewer than none": (["--ent-coef", "0", "--workers", "-1"], "--workers: expected at least 1, got -1"),
    "threshold that is none": (["--ent-coef", "0", "1", "--threshold", "nan"], "--threshold: expected a "),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(case, stand_in, tmp_path):
    processes = stand_in("")
    flags, words = BAD[case]
    ended = run("compare", "ppo", *SETTINGS, *flags, "--out", tmp_path / "out")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
    assert ended.err.startswith("entropic-rl compare: error: ")
    assert words in ended.err
    assert not list(tmp_path.iterdir())
    assert processes == []


def test_memory_that_is_not_there_is_told_and_leaves_nothing(stand_in, tmp_path, monkeypatch):
    processes = stand_in("")
    monkeypatch.setattr("entropic_rl.compare.execute.available_memory", lambda: 2**20)
    ended = run(*GRID, *MEANS, "--out", tmp_path / "out")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("entropic-rl compare: error: memory: expected room for at least ")
    assert processes == []
    assert not list(tmp_path.iterdir())


def test_what_was_recorded_stays_when_every_job_ends_with_an_error(tmp_path, monkeypatch):
    def run_jobs(jobs, n_workers, *, job_type, tell):
        for job in jobs:
            (job.checkpoints / "000001").mkdir(parents=True)
            (job.checkpoints / "000001/manifest.json").write_text("{}")
            for cell in job.cells:
                cell.directory.mkdir(parents=True, exist_ok=True)
                (cell.directory / "metrics.jsonl").write_text('{"global_step": 1}\n')
        return [Ended("copy 3: its process died; mend the environment", users=True) for _ in jobs]

    monkeypatch.setattr("entropic_rl.compare.execute.run_jobs", run_jobs)
    ended = run(*GRID, *MEANS, "--out", tmp_path / "out")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert ended.err.endswith(f"what is recorded is kept; go on with: resume {tmp_path / 'out'}\n")
    assert len([*(tmp_path / "out").rglob("metrics.jsonl")]) == len([*(tmp_path / "out/cells").iterdir()]) > 0
    assert [*(tmp_path / "out").rglob("manifest.json")]


def test_directory_of_a_comparison_is_refused_with_how_to_go_on(copy):
    before = files(copy)
    ended = run(*GRID, "--out", copy)
    assert (ended.code, ended.err) == (
        2,
        f"entropic-rl compare: error: {copy} holds a comparison already: entropic-rl compare resume {copy} goes on "
        "with it\n",
    )
    assert files(copy) == before


def test_missing_directory_is_told():
    ended = run(*GRID)
    assert (
        ended.err
        == "entropic-rl compare: error: --out is missing: give a new or empty directory, where everything goes\n"
    )


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no directories")
def test_directory_that_the_system_refuses_to_make_is_told_in_one_line(stand_in):
    stand_in("")
    ended = run(*GRID, "--out", "/proc/out")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "/proc/out" in ended.err


def test_missing_agent_is_told_before_its_flags():
    ended = run("compare", *GRID[2:], "--out", "out")
    assert (
        "AGENT is missing: expected one or more of ppo, a2c, sac, discrete-sac, soft-q, sb3:ALGORITHM, MODULE:CLASS"
        in ended.err
    )
