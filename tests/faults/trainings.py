"""Trainings in processes that can be killed anywhere: forks of one that has imported everything already.

Run as a program it reads one JSON object per line, trains in a fork, and answers how that ended; ``Trainer`` is the
other end. Pictures, which take most of the time of a small training, are stood in for by one small file.
"""

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path

_CHANGES = ("mkdir", "replace", "rename", "unlink", "remove", "rmdir", "fsync", "truncate", "ftruncate")
RUN = "run"
_WARM = "ppo --env CartPole-v1 --total-timesteps 16 --n-steps 8 --batch-size 8 --eval-episodes 1 --no-progress"


class Trainer:
    """The process that forks; use it as a context."""

    def __enter__(self):
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def train(self, cwd, *arguments, fault=None, at=None, after=None, number=signal.SIGKILL, limit=None):
        """One training from ``cwd``, and how it ended: ``code`` (minus a signal), ``said``, ``calls``, ``seconds``.

        Args:
            cwd: where it starts; all calls that change the disk below it are counted.
            arguments: of ``train``.
            fault: of call number ``at``: an errno, or "kill" for SIGKILL before it (a write also half through).
            at: counted from 1; None patches nothing and counts nothing.
            after: seconds after which it is sent a signal.
            number: of the signal.
            limit: bytes that a file may have.
        """
        order = {"cwd": str(cwd), "arguments": [str(word) for word in arguments], "fault": fault, "at": at}
        order |= {"after": after, "signal": int(number), "limit": limit}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def go_on(self, cwd, arguments, **fault):
        """What a person does after a fault: resume, or start anew where nothing was begun."""
        if (Path(cwd) / RUN / "config.json").exists():
            return self.train(cwd, "--resume", RUN, "--no-progress", **fault)
        return self.train(cwd, *arguments, **fault)

    def has_ended(self, ended):
        """Whether a training came to its end, now or before."""
        return ended["code"] == 0 or (ended["code"] == 2 and "has finished its" in ended["said"])


def outcome(run_dir):
    """All that a training leaves which has to be the same: policy bytes, and rows without wall-clock columns."""
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((run_dir / "summary.json").read_text())
    kept = [{name: value for name, value in row.items() if not name.startswith("time/")} for row in (*rows, summary)]
    return {"policy": (run_dir / "policy.safetensors").read_bytes(), "rows": kept}


class _Calls:
    """Counts the calls that change the disk, and lets one of them go wrong."""

    def __init__(self, order, place):
        self.n, self._order, self._place = 0, order, place

    def __call__(self, half=None):
        self.n += 1
        if self._order["at"] is not None and self.n == self._order["at"]:
            if self._order["fault"] == "kill":
                if half is not None:
                    half()
                os.kill(os.getpid(), signal.SIGKILL)
            raise OSError(self._order["fault"], os.strerror(self._order["fault"]))

    def concerns(self, path):
        return (
            not isinstance(path, str | bytes | os.PathLike)
            or os.fsdecode(path).startswith(self._place)
            or (not os.path.isabs(path))
        )


def _patch(calls):
    """Count every change of the disk below the place, by whatever way of Python's it is made."""
    for name in _CHANGES:
        setattr(os, name, _counted(getattr(os, name), calls))
    real_open = io.open

    class Raw(io.FileIO):
        def write(self, data):
            data = bytes(data)
            calls()
            if len(data) > 1:
                calls(half=lambda: super(Raw, self).write(data[: len(data) // 2]))
            return super().write(data)

        def truncate(self, size=None):
            calls()
            return super().truncate(size)

    def opened(  # noqa: PLR0917 - as it is
        file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None
    ):
        if not set(mode) & set("wax+") or isinstance(file, int) or not calls.concerns(file):
            return real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        calls()
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        return io.TextIOWrapper(buffered, encoding, errors, newline, line_buffering=buffering == 1)

    io.open = opened
    __builtins__.open = opened


def _counted(real, calls):
    def call(*arguments, **options):
        if calls.concerns(arguments[0]):
            calls()
        return real(*arguments, **options)

    return call


def _train(order, said):
    """In the fork: never returns."""
    code = 70
    try:
        os.chdir(order["cwd"])
        os.dup2(said, 1)
        os.dup2(said, 2)
        calls = _Calls(order, order["cwd"])
        if order["at"] is not None:
            _patch(calls)
        if order["limit"] is not None:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (order["limit"], order["limit"]))
        from entropic_rl.cli import main

        code = main(order["arguments"], verb="train")
        os.write(said, f"\ncalls {calls.n}".encode())
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _draw(figures, rows, directory, **_):
    """In place of pictures."""
    (directory / "entropy.svg").write_text(f"<svg>{len(rows)}</svg>")


def _serve():
    from entropic_rl.cli import main

    with tempfile.TemporaryDirectory() as place, open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        main([*_WARM.split(), "--run-dir", f"{place}/run"], verb="train")  # imports all that a training imports
    from entropic_rl import plots

    plots.RunFigures.draw = _draw
    for line in sys.stdin:
        order = json.loads(line)
        with open(os.path.join(order["cwd"], ".said"), "w+b", buffering=0) as said:
            started = time.perf_counter()
            child = os.fork()
            if child == 0:
                _train(order, said.fileno())
            if order["after"] is not None:
                time.sleep(order["after"])
                os.kill(child, order["signal"])
            _, status = os.waitpid(child, 0)
            said.seek(0)
            text, _, n = said.read().decode().rpartition("\ncalls ")
        ended = {"code": os.WEXITSTATUS(status)} if os.WIFEXITED(status) else {"code": -os.WTERMSIG(status)}
        text = text if n.isdecimal() else text + n
        answer = ended | {"said": text, "calls": int(n) if n.isdecimal() else None}
        print(json.dumps(answer | {"seconds": time.perf_counter() - started}), flush=True)


if __name__ == "__main__":
    _serve()
