"""Training a plan: what finished stays, what failed is told and tried again, and accounts are kept.

A few lines of Python stand for the worker; ``fates.json`` says what becomes of which cell.
"""

import json
import os
import threading
from pathlib import Path

import pytest

from entropic_rl.compare.execute import Means, execute, pending
from entropic_rl.compare.grid import make_plan
from entropic_rl.compare.jobs import Job
from entropic_rl.compare.pool import run_jobs
from entropic_rl.errors import UserError

WORKER = """
import json, os, signal, sys

fates = json.load(open("fates.json")) if os.path.exists("fates.json") else {}
peak = 1000
for cell in json.load(sys.stdin)["cells"]:
    directory = cell["directory"]
    fate = fates.get(os.path.basename(directory))
    os.makedirs(directory)  # fails if something is there already
    open(directory + "/metrics.jsonl", "w").write("{}\\n")
    print(json.dumps({"rows": [{"global_step": 1.0}]}), flush=True)
    if fate == "breaks":
        raise RuntimeError("it broke")
    if fate == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fate == "refuses":
        print(json.dumps({"error": "no such thing; do that"}), flush=True)
        sys.exit(2)
    if fate != "leaves nothing":
        json.dump(cell["run"], open(directory + "/summary.json", "w"))
    peak += 1
print(json.dumps({"peak": peak}), flush=True)
"""
BASE = {"env": "CartPole-v1", "n_envs": 2, "n_steps": 32, "batch_size": 32, "total_timesteps": 128}
OUT = Path("out")
QUIET = Means(progress=False)
ALONE = Means("process", 2, progress=False)  # every cell in a process of its own


@pytest.fixture(autouse=True)
def workers(monkeypatch, tmp_path, stand_in):
    """The processes that stand for workers, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    OUT.mkdir()
    return stand_in(WORKER, "-I", "-S")


def plan_of(ent_coef=(0.0, 0.1), n_seeds=2, **chosen):
    return make_plan(["ppo"], {**BASE, "ent_coef": list(ent_coef), **chosen}, n_seeds=n_seeds, preset_choice="none")


def fates(**by_name):
    """What becomes of cells by the end of their names: ``_0__seed_1="breaks"``."""
    Path("fates.json").write_text(json.dumps({f"ent_coef{name}": fate for name, fate in by_name.items()}))


def finished():
    return sorted(path.parent.name.removeprefix("ent_coef") for path in OUT.glob("cells/*/summary.json"))


def contents():
    """Bytes and time of every file of a finished cell."""
    files = [path for summary in OUT.glob("cells/*/summary.json") for path in summary.parent.iterdir()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def error_of(name):
    return json.loads((OUT / "cells" / f"ent_coef{name}" / "failed.json").read_text())["error"]


def sessions():
    return [json.loads(line) for line in (OUT / "sessions.jsonl").read_text().splitlines()]


ALL = ["_0.1__seed_0", "_0.1__seed_1", "_0__seed_0", "_0__seed_1"]


# Finishing


@pytest.mark.parametrize("parallel", ["auto", "batch", "process"])
def test_every_cell_is_trained_once(parallel):
    assert execute(plan_of(), OUT, Means(parallel, 2, progress=False)) == 0
    assert finished() == ALL
    assert {"auto": [2, 2], "batch": [4], "process": [1, 1, 1, 1]}[parallel] == sessions()[0]["batches"]


def test_what_finished_is_not_touched_again(workers):
    execute(plan_of(), OUT, QUIET)
    before, n_started, n_sessions = contents(), len(workers), len(sessions())
    assert execute(plan_of(), OUT, QUIET) == 0
    assert contents() == before
    assert (len(workers), len(sessions())) == (n_started, n_sessions)


def test_half_finished_cell_begins_anew(workers):
    execute(plan_of(), OUT, QUIET)
    half = OUT / "cells/ent_coef_0.1__seed_1"
    (half / "summary.json").unlink()
    (half / "wandb").mkdir()
    (half / "metrics.jsonl").write_text("{torn")
    before, n_started = contents(), len(workers)
    assert [cell.directory for cell in pending(plan_of(), OUT)] == [half]
    assert execute(plan_of(), OUT, QUIET) == 0
    assert len(workers) == n_started + 1
    assert sorted(path.name for path in half.iterdir()) == ["metrics.jsonl", "summary.json"]
    assert contents().items() > before.items()


def test_extension_trains_only_what_is_new():
    plan = plan_of()
    execute(plan, OUT, QUIET)
    before = contents()
    assert execute(plan.extended({"ent_coef": ["1"]}, 1), OUT, QUIET) == 0
    assert contents().items() > before.items()
    assert finished() == sorted(f"_{coef}__seed_{seed}" for coef in ("0", "0.1", "1") for seed in range(3))
    assert sessions()[1]["n_cells"] == 5


# Failing

FATES = {
    "breaks": "its process ended with exit code 1: RuntimeError: it broke",
    "is killed": "its process was killed by SIGKILL (out of memory?)",
    "refuses": "no such thing; do that",
    "leaves nothing": "it left no summary",
}


@pytest.mark.parametrize("fate", FATES)
def test_failed_cell_is_named_and_counted_and_the_others_finish(capsys, fate):
    fates(_0__seed_1=fate)
    assert execute(plan_of(), OUT, ALONE) == 1
    assert finished() == [name for name in ALL if name != "_0__seed_1"]
    assert error_of("_0__seed_1") == FATES[fate]
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "(ent_coef_0__seed_1): " in err


@pytest.mark.parametrize("fate", FATES)
def test_line_about_a_failed_cell_says_why(capsys, fate):
    fates(_0__seed_1=fate)
    execute(plan_of(), OUT, ALONE)
    assert capsys.readouterr().err.rstrip().endswith(f"(ent_coef_0__seed_1): {FATES[fate]}")


def test_batch_that_dies_loses_what_it_had_not_finished_and_nothing_else(capsys):
    fates(**{"_0.1__seed_0": "is killed"})
    assert execute(plan_of(n_seeds=3), OUT, Means("auto", 2, progress=False)) == 2
    # the two batches are 0/0 0/2 0.1/1 and 0/1 0.1/0 0.1/2; the second died at its second cell
    assert finished() == ["_0.1__seed_1", "_0__seed_0", "_0__seed_1", "_0__seed_2"]
    assert error_of("_0.1__seed_0") == error_of("_0.1__seed_2") == FATES["is killed"]
    assert (
        capsys.readouterr().err == f"2 runs failed (ent_coef_0.1__seed_0, ent_coef_0.1__seed_2): {FATES['is killed']}\n"
    )


def test_many_failed_cells_are_not_all_named(capsys):
    fates(_0__seed_0="is killed")
    execute(plan_of(n_seeds=6), OUT, Means("auto", 2, progress=False))
    [line] = capsys.readouterr().err.splitlines()
    assert (line.count("seed_"), line.count("...")) == (4, 1)


def test_failed_cell_is_tried_again_and_nothing_says_that_it_failed():
    fates(_0__seed_1="breaks")
    execute(plan_of(), OUT, ALONE)
    before = contents()
    fates()
    assert execute(plan_of(), OUT, ALONE) == 0
    assert finished() == ALL
    assert not list(OUT.glob("cells/*/failed.json"))
    assert contents().items() > before.items()


def test_comparison_in_which_nothing_finished_is_an_error_with_the_reason():
    fates(**dict.fromkeys(ALL, "refuses"))
    with pytest.raises(UserError, match=r"^no such thing; do that; what is recorded is kept; go on with: resume "):
        execute(plan_of(), OUT, ALONE)
    assert {error_of(name) for name in ALL} == {"no such thing; do that"}
    assert len(sessions()) == 1


def test_comparison_in_which_nothing_was_left_is_an_error():
    fates(**dict.fromkeys(ALL, "leaves nothing"))
    with pytest.raises(UserError, match="it left no summary"):
        execute(plan_of(), OUT, ALONE)


def test_failure_of_all_that_was_missing_is_no_failure_of_the_comparison():
    fates(_0__seed_1="breaks")
    execute(plan_of(), OUT, ALONE)
    assert execute(plan_of(), OUT, ALONE) == 1  # the report goes on to say which is missing and why
    assert finished() == [name for name in ALL if name != "_0__seed_1"]


def test_interrupted_cells_have_not_failed_and_finished_ones_are_kept(monkeypatch):
    updates = []

    def update(self, runs, rows):
        updates.extend(runs)
        if len(updates) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("entropic_rl.compare.execute.GridProgress.update", update)
    with pytest.raises(KeyboardInterrupt):
        execute(plan_of(), OUT, Means("process", 1, progress=False))
    assert not list(OUT.glob("cells/*/failed.json"))
    assert set(ALL) > set(finished()) >= {"_0__seed_0", "_0__seed_1"}


# Accounts


def test_workers_that_are_stopped_while_they_tell_are_heard_to_the_end(stand_in, monkeypatch):
    stand_in("import json, sys\nwhile True: print(json.dumps({'rows': []}))", "-I", "-S")
    heard = []

    def tell(job, event):
        heard.append(event)
        if len(heard) == 3:
            raise KeyboardInterrupt

    before = threading.active_count()
    for _ in range(20):
        heard.clear()
        with pytest.raises(KeyboardInterrupt):
            run_jobs([Job(tuple(plan_of().cells(OUT)), 0)], 1, job_type="train", tell=tell)
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
        thread.join(5)
    assert threading.active_count() <= before  # and none of them failed, which were a warning


def test_session_says_what_was_trained_and_what_it_took():
    execute(plan_of(), OUT, Means("process", 3, progress=False))
    [session] = sessions()
    assert (session["n_cells"], session["env_steps"], session["n_workers"]) == (4, 4 * 128, 3)
    assert session["memory_peak"] == 3 * 1001
    assert session["memory_estimate"] > 3 * 2**27
    assert session["seconds"] > 0
    assert {"started", "command"} <= session.keys()


def test_peak_is_unknown_if_a_worker_did_not_live_to_tell():
    fates(_0__seed_1="is killed")
    execute(plan_of(), OUT, ALONE)
    assert sessions()[0]["memory_peak"] is None


@pytest.mark.parametrize(("own", "group"), [(None, "out"), ("mine", "mine")])
def test_cells_are_grouped_under_the_name_of_the_comparison(own, group):
    execute(plan_of(wandb_group=own), OUT, QUIET)
    assert {json.loads(path.read_text())["wandb_group"] for path in OUT.glob("cells/*/summary.json")} == {group}


def test_comparison_in_this_directory_has_its_name():
    os.chdir(OUT)
    execute(plan_of(), Path("."), QUIET)
    assert {json.loads(path.read_text())["wandb_group"] for path in Path().glob("cells/*/summary.json")} == {"out"}


def test_progress_goes_to_stderr(capsys):
    execute(plan_of(), OUT, Means(progress=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert "ppo CartPole-v1 x 4 runs" in err
    assert "[0.1]" in err


# Means


@pytest.mark.parametrize(("means", "device", "n_workers"), [
    (Means(), "cpu", 3), (Means("process"), "cpu", 3), (Means("batch"), "cpu", 1), (Means(), "cuda:0", 1),
    (Means("process", 2), "cuda", 2), (Means(n_workers=1), "cpu", 1),
])  # fmt: skip
def test_workers_are_one_per_core_and_one_on_a_gpu(monkeypatch, capsys, means, device, n_workers):
    monkeypatch.setattr("entropic_rl.compare.execute.n_cores", lambda: 3)
    execute(plan_of(device=device), OUT, means)
    assert sessions()[0]["n_workers"] == n_workers


def test_cell_that_does_not_fit_into_memory_is_refused_before_anything_is_removed(monkeypatch):
    half = OUT / "cells/ent_coef_0__seed_0"
    half.mkdir(parents=True)
    monkeypatch.setattr("entropic_rl.compare.execute.available_memory", lambda: 2**20)
    with pytest.raises(UserError, match=r"^memory: expected room for at least .*; lower --workers"):
        execute(plan_of(), OUT, QUIET)
    assert [path for path in OUT.rglob("*") if path.is_file()] == []
    assert half.exists()


def test_workers_are_no_more_than_fit_into_memory(monkeypatch):
    monkeypatch.setattr("entropic_rl.compare.execute.n_cores", lambda: 64)
    monkeypatch.setattr("entropic_rl.compare.execute.available_memory", lambda: 2**31)
    assert execute(plan_of(), OUT, QUIET) == 0
    assert sessions()[0]["n_workers"] < 8
