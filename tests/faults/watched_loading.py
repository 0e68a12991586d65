"""Reads files as users do, in a process that notes whatever code or connection comes of it.

``python watched_loading.py < CASES.json`` with ``[{"loader": NAME, "path": FILE, "watched": BOOL}, ...]`` writes a JSON
list: for each case how it ended (``read``, ``refused``, or ``broke`` with an error that is none of ours) and which
forbidden events there were. Hooks cannot be taken away again, so this is a process of its own.
"""

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from unittest import mock

# Names of https://docs.python.org/3/library/audit_events.html.
FORBIDDEN = {
    "code.__new__", "compile", "ctypes.dlopen", "exec", "function.__new__", "import", "marshal.loads", "os.exec",
    "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pickle.find_class",
    "pty.spawn", "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "subprocess.Popen",
    "urllib.Request", "webbrowser.open",
}  # fmt: skip
PARSED = "<unknown>"  # what ast.parse calls a text that it takes apart and does not run
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """An audit hook that notes forbidden events while it is on, and files written outside a folder."""

    def __init__(self):
        self.on, self.folder, self.events = False, "", []

    def __call__(self, event, arguments):
        if not self.on:
            return
        if event in FORBIDDEN and not (event == "compile" and arguments[1] == PARSED):
            self.events.append(f"{event} {str(arguments)[:120]}")
        elif event == "open" and not isinstance(arguments[0], int) and arguments[2] & WRITES:
            where = os.path.realpath(os.fsdecode(arguments[0]))
            if not where.startswith((self.folder, "/dev/null")):
                self.events.append(f"open {where} to write")


def evaluate(path):
    from entropic_rl.evaluate_run import evaluate_directory

    evaluate_directory(path, episodes=1, max_steps=5)


def resume(path):
    """``train.py --resume DIR`` up to where it would train."""
    from entropic_rl.interruption import Stopped
    from entropic_rl.training_cli import train

    with suppress(Stopped), mock.patch("entropic_rl.training_cli._train", resumed):
        train("train.py", ["--resume", str(path), "--no-progress"])


def resumed(prog, cell, progress, *, resume):
    from entropic_rl.agents import agent_class
    from entropic_rl.runs import train_cells

    checkpoints = cell.directory / "checkpoints"
    train_cells(agent_class(cell.agent), [cell], checkpoints=checkpoints, resume=True, should_stop=lambda: True)


def replay(path):
    from entropic_rl.replay import replay

    str(replay(path))


def unfinished(path):
    """``calibrate.py --resume DIR`` up to where it would train."""
    from entropic_rl.calibrate.cli import calibrate

    asked = iter([False])  # before the training
    stop = mock.patch("entropic_rl.interruption.Stop.__call__", side_effect=lambda: next(asked, True))
    with stop, mock.patch("entropic_rl.allocation.keep_freed_memory"):  # which calls the C library
        calibrate("calibrate.py", ["--resume", str(path), "--no-progress"])


def suggest(path):
    from entropic_rl.suggest import suggest_ent_coef

    suggest_ent_coef(path, n_batches=2)


def to_sb3(path):
    from entropic_rl.sb3.convert import to_sb3

    to_sb3(path).get_env().close()


def from_sb3(path):
    from entropic_rl.sb3.read import from_sb3

    from_sb3(path, "CartPole-v1")


def cell(path):
    from entropic_rl.cell import read_cell

    read_cell(path)


def diagnosis(path):
    from entropic_rl.diagnosis import sentences

    sentences(path)


def comparison(path):
    """What ``compare.py summary DIR`` reads and writes, without its figures, which take seconds."""
    from entropic_rl.compare import report
    from entropic_rl.compare.grid import read_plan

    with mock.patch.object(report, "pictures", return_value=[]):
        report.write_report(report.read_report(read_plan(path), path), path)


def settings(path):
    from entropic_rl.config import RunConfig, field_docs, load_yaml
    from entropic_rl.resolve import layered

    layered("ppo", {"env": "CartPole-v1"} | load_yaml(path, field_docs(RunConfig)), "none")


def dataset(path):
    from entropic_rl.datasets import load

    load(path, target="y")


def pool(path):
    from entropic_rl.datasets.pools import pool_of, read_table

    pool_of(read_table(path), drop=["y"])


def labels(path):
    """A pool beside its labels, ``labels.csv`` and ``labels.session.json``."""
    from entropic_rl.active.label_book import LabelBook
    from entropic_rl.datasets.pools import pool_of, read_table

    LabelBook(pool_of(read_table(path / "pool.csv")), path / "labels.csv", ["cat", "dog"]).remember("answer", 1)


def answers(path):
    from entropic_rl.active.spreadsheets import read_answers

    read_answers(path, "row")


def curve(path):
    from entropic_rl.active.labelling_curve import read_curve

    read_curve(path)


def learner(path):
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    from entropic_rl.active.learner import ActiveLearner

    ActiveLearner(LogisticRegression(), np.eye(4), classes=["cat", "dog"], directory=path)


LOADERS = {
    function.__name__: function
    for function in (evaluate, resume, replay, unfinished, suggest, to_sb3, from_sb3, cell, diagnosis, comparison,
                     settings, dataset, pool, labels, answers, curve, learner)
}  # fmt: skip


def attempt(watch, case):
    """How one case ended."""
    from entropic_rl.errors import UserError

    path = Path(case["path"])
    watch.folder = str(path.resolve() if path.is_dir() else path.resolve().parent)
    os.chdir(watch.folder)
    kept, watch.events, watch.on = [*sys.path], [], case["watched"]
    try:
        LOADERS[case["loader"]](path)
        outcome, text = "read", ""
    except UserError as error:
        outcome, text = "refused", str(error)
    except BaseException as error:  # whatever else is a flaw, and the other cases are to be tried nevertheless
        outcome, text = "broke", f"{type(error).__name__}: {error}"[:300]
    watch.on, sys.path[:] = False, kept
    return {"outcome": outcome, "text": text, "events": watch.events}


def main():
    cases = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_DATA, (6 * 2**30, resource.RLIM_INFINITY))  # a bomb breaks here, not the machine
    said = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    import torch

    torch.set_num_threads(1)
    watch = Watch()
    sys.addaudithook(watch)
    json.dump([attempt(watch, case) for case in cases], said)
    said.close()


if __name__ == "__main__":
    main()
