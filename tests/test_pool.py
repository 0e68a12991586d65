"""Jobs in processes: whatever becomes of one, the others finish, its end is told, and no process is left behind.

A few lines of Python stand for the worker; what one does is said by the directory of its cell.
"""

import json
import os
import signal
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from entropic_rl.agents.config import PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.compare import pool
from entropic_rl.compare.jobs import Job
from entropic_rl.compare.pool import Ended, run_jobs
from entropic_rl.config import RunConfig

WORKER = """
import json, os, signal, sys, time

signal.signal(signal.SIGINT, signal.default_int_handler)  # which whoever runs in the background inherits ignored

def say(event):
    print(json.dumps(event), flush=True)

job = json.load(sys.stdin)
what = job["cells"][0]["directory"]
say({"note": str(os.getpid())})
if what.startswith("trains"):
    time.sleep(0.5 if what == "trains slowly" else 0.0)
    say({"rows": [{"global_step": 8.0}]})
    say({"peak": 7})
elif what == "raises":
    print("a warning", file=sys.stderr)
    raise ValueError("it broke")
elif what == "gives up":
    sys.exit(3)
elif what == "refuses":
    print("a warning", file=sys.stderr)
    say({"error": "no such thing; do that"})
    sys.exit(2)
elif what == "is killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif what == "is ended":
    os.kill(os.getpid(), signal.SIGTERM)
elif what == "is torn":
    sys.stdout.write('{"rows": [{"global_st')
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
elif what == "warns":
    print("a warning", "a warning", "", "another", sep="\\n", file=sys.stderr)
elif what == "waits":
    time.sleep(60)
elif what == "hangs":
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    say({"note": "deaf"})
    time.sleep(60)
"""


def job(what, **run):
    return Job((Cell("ppo", RunConfig(env="x", **run), PPOConfig(), Path(what)),), memory=1)


@pytest.fixture
def processes(stand_in):
    return stand_in(WORKER, "-I", "-S")


LARGE = job("x", env_kwargs={"text": "x" * 2**20})  # more than a pipe holds


def run(*jobs, n_workers=2, tell=lambda job, event: None):
    return run_jobs(jobs, n_workers, job_type="test", tell=tell)


def assert_gone(processes):
    """No process is left, not even a dead one that nobody has buried."""
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


# How jobs end

FINE = Ended(peak=7)
ENDS = {
    "raises": Ended("its process ended with exit code 1: ValueError: it broke"),
    "gives up": Ended("its process ended with exit code 3: it did not say why"),
    "refuses": Ended("no such thing; do that", users=True),
    "is killed": Ended("its process was killed by SIGKILL (out of memory?)"),
    "is ended": Ended("its process was killed by SIGTERM"),
    "is torn": Ended("its process was killed by SIGKILL (out of memory?)"),
}


@pytest.mark.parametrize("what", ENDS)
def test_job_that_fails_is_told_in_one_line_and_the_others_finish(processes, what):
    assert run(job("trains first"), job(what), job("trains then")) == [FINE, ENDS[what], FINE]
    assert_gone(processes)


def test_no_jobs_end_at_once():
    assert run() == []


def test_worker_that_dies_before_it_has_read_its_job_is_told(stand_in):
    stand_in("import sys; sys.exit('too early')", "-I", "-S")
    assert run(LARGE) == [Ended("its process ended with exit code 1: too early")]


def test_ends_are_in_the_order_of_the_jobs_whichever_ends_first(processes):
    told = []
    ends = run(job("trains slowly"), job("refuses"), job("trains"), tell=lambda job, event: told.append(job))
    assert ends == [FINE, ENDS["refuses"], FINE]
    assert told[-1].cells[0].directory == Path("trains slowly")


def test_last_that_is_told_of_a_job_is_whether_it_finished(processes):
    last = {}
    jobs = [job("trains"), *map(job, ENDS)]
    run(*jobs, n_workers=3, tell=lambda job, event: last.update({str(job.cells[0].directory): event}))
    assert last == {"trains": {"note": "finished"}} | {what: {"note": "failed"} for what in ENDS}


def test_warnings_of_a_worker_that_finished_are_passed_on_once_each(processes, capsys):
    assert run(job("warns"), job("trains")) == [Ended(), FINE]
    assert capsys.readouterr() == ("", "a warning\nanother\n")


# What jobs tell


def test_worker_gets_its_cells_and_tells_its_rows(processes):
    first, second = job("trains first", seed=3), job("trains then")
    told = []
    run(first, second, tell=lambda job, event: told.append((job, dict(event))))
    for number, own in enumerate((first, second)):
        events = [event for job, event in told if job is own]
        assert events[0]["note"] in {str(process.pid) for process in processes}
        assert events[1:] == [{"rows": [{"global_step": 8.0}]}, {"note": "finished"}], number


def test_worker_is_sent_the_job_and_its_type(stand_in):
    stand_in("import json, sys; print(json.dumps({'note': sys.stdin.read()}))", "-I", "-S")
    own, told = Job((*job("a", seed=3).cells, *job("b", seed=4).cells), memory=1), []
    run_jobs([own], 1, job_type="of this type", tell=lambda job, event: told.append(event["note"]))
    assert json.loads(told[0]) == {**own.to_json(), "job_type": "of this type"}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_only_so_many_workers_are_there_at_a_time(stand_in, n_workers):
    processes = stand_in("import time; print('{\"note\": 1}', flush=True); time.sleep(0.2)", "-I", "-S")
    at_a_time = []

    def count(job, event):
        at_a_time.append(sum(process.poll() is None for process in processes))

    run(*map(job, "abcd"), n_workers=n_workers, tell=count)
    assert max(at_a_time) == n_workers


def test_worker_has_the_threads_of_its_run_and_the_users_own_environment(stand_in, monkeypatch):
    names = ["OMP_NUM_THREADS", "MKL_NUM_THREADS", "MALLOC_TOP_PAD_", "MALLOC_MMAP_THRESHOLD_"]
    stand_in(f"import json, os; print(json.dumps({{'note': [os.environ[name] for name in {names}]}}))", "-I", "-S")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1")
    told = []
    run(job("x", num_threads=3), tell=lambda job, event: told.append(event["note"]))
    assert told[0] == ["3", "3", "1", str(2**30)]


# When it is interrupted


def interrupting(after):
    """A listener that interrupts once every one of so many jobs has told something."""
    heard = set()

    def tell(job, event):
        heard.add(job.cells[0].run.seed)
        if len(heard) == after:
            raise KeyboardInterrupt

    return tell


def test_interrupt_stops_all_workers_and_starts_no_other(processes):
    with pytest.raises(KeyboardInterrupt):
        run(job("waits", seed=1), job("waits", seed=2), job("trains"), tell=interrupting(after=2))
    assert len(processes) == 2
    assert [process.returncode for process in processes] == [-signal.SIGTERM] * 2
    assert_gone(processes)


def test_mistake_of_whoever_listens_stops_all_workers(processes):
    def broken(job, event):
        raise RuntimeError("the screen is gone")

    with pytest.raises(RuntimeError, match="the screen is gone"):
        run(job("waits", seed=1), job("waits", seed=2), tell=broken)
    assert_gone(processes)


def deaf(job, event):
    if event.get("note") == "deaf":
        raise KeyboardInterrupt


def test_worker_that_does_not_stop_when_asked_is_killed(processes, monkeypatch):
    monkeypatch.setattr(pool, "_PATIENCE_S", 0.2)
    with pytest.raises(KeyboardInterrupt):
        run(job("hangs"), job("waits"), tell=deaf)
    assert processes[0].returncode == -signal.SIGKILL
    assert_gone(processes)


def test_impatient_second_interrupt_leaves_no_process_either(processes):
    second = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))

    def first(job, event):
        if event.get("note") == "deaf":
            second.start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(job("hangs"), tell=first)
    second.join()
    assert_gone(processes)


# What is left open


def assert_closed(processes):
    for process in processes:
        assert [file.closed for file in (process.stdin, process.stdout, process.complaints)] == [True] * 3


def test_files_are_closed(processes):
    run(job("trains"), job("raises"), job("is torn"))
    assert_closed(processes)


def test_files_are_closed_after_an_early_death(stand_in):
    processes = stand_in("import sys; sys.exit('too early')", "-I", "-S")
    run(LARGE)
    assert_closed(processes)


def test_files_are_closed_after_an_interrupt(processes):
    with suppress(KeyboardInterrupt):
        run(job("waits"), tell=interrupting(after=1))
    assert_closed(processes)


# The worker's own side


def test_what_libraries_print_in_a_worker_does_not_get_between_its_lines(stand_in, capsys):
    stand_in(
        "import os, sys\n"
        "import entropic_rl.compare.worker as worker\n"
        "def train_job(cells, report, *, job_type, checkpoints, resume):\n"
        "    print('hello'); sys.stdout.flush(); os.system('echo from a child')\n"
        "    report.note(f'{job_type} {cells[0].directory}')\n"
        "    print('no end of line', end='')\n"
        "    report.update(8, [{'global_step': 8.0}])\n"
        "worker.train_job = train_job\n"
        "sys.exit(worker.main())\n"
    )
    told = []
    [end] = run(job("here"), tell=lambda job, event: told.append(event))
    assert told == [{"note": "test here"}, {"rows": [{"global_step": 8.0}]}, {"note": "finished"}]
    assert (end.error, end.peak > 2**20) == (None, True)
    assert capsys.readouterr().err == "hello\nfrom a child\nno end of line\n"
