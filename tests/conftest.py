"""Shared by all tests: one torch thread, no tracker account, small environments under ``test/...`` ids, and processes
that stand for a comparison's workers.
"""

import gc
import json
import subprocess
import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import settings

# The same examples every time: whether a change passes is not drawn. ``--hypothesis-profile default`` draws others.
settings.register_profile("entropic_rl", derandomize=True, database=None, deadline=None)
settings.load_profile("entropic_rl")


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Most of what is imported and collected stays: looking for garbage meanwhile takes a third of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def _one_thread():
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_tracker_account(monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", f"{__file__}.no-netrc")  # not there; a tmp_path for each of all tests takes seconds


@pytest.fixture
def stand_in(monkeypatch):
    """Lets ``python FLAGS -c CODE`` stand for the worker; using it gives the processes as they are started."""
    started = []

    def use(code, *flags):
        def popen(command, **options):
            assert command == [sys.executable, "-m", "entropic_rl.compare.worker"]
            started.append(subprocess.Popen([sys.executable, *flags, "-c", code], **options))
            started[-1].complaints = options["stderr"]
            return started[-1]

        monkeypatch.setattr(
            "entropic_rl.compare.pool.subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": popen})
        )
        return started

    yield use
    for process in started:  # what is left of them is a failure of their own test, not of the next
        if process.poll() is None:
            process.kill()
            process.wait()
        for file in (process.stdin, process.complaints):
            with suppress(BrokenPipeError):
                file.close()


@pytest.fixture(scope="session")
def jobs_here():
    """In place of ``pool.run_jobs``: jobs are trained one by one in this process; cells and rows pass through JSON."""
    from entropic_rl.cell import Cell
    from entropic_rl.compare.pool import Ended
    from entropic_rl.compare.worker import peak_memory, train_job
    from entropic_rl.errors import UserError

    def run_jobs(jobs, n_workers, *, job_type, tell):
        ended = []
        for job in jobs:
            report = SimpleNamespace(
                update=lambda step, rows, job=job: tell(job, json.loads(json.dumps({"rows": rows}))),
                note=lambda text, job=job: tell(job, {"note": text}),
            )
            cells = [Cell.from_json(json.loads(json.dumps(cell.to_json()))) for cell in job.cells]
            try:
                train_job(cells, report, job_type=job_type)
                ended.append(Ended(peak=peak_memory()))
            except UserError as error:
                ended.append(Ended(str(error), users=True))
            tell(job, {"note": "failed" if ended[-1].error else "finished"})
        return ended

    return run_jobs


@pytest.fixture
def no_figures(monkeypatch):
    """Trainings draw no curves, which takes half of the time of a short one."""
    monkeypatch.setattr("entropic_rl.plots.RunFigures", lambda _: SimpleNamespace(draw=lambda *_, **__: None))


@pytest.fixture
def trained_here(monkeypatch, jobs_here):
    """Comparisons start no workers, each of which takes seconds to import torch."""
    monkeypatch.setattr("entropic_rl.compare.execute.run_jobs", jobs_here)
    monkeypatch.setattr("entropic_rl.compare.worker.keep_freed_memory", lambda: None)  # it would last


class Bandit(gym.Env):
    """One state, one step, a fixed reward per arm."""

    observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)

    def __init__(self, rewards=(0.0, 0.5, 1.0)):
        self.rewards = rewards
        self.action_space = spaces.Discrete(len(rewards))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.ones(1, np.float32), self.rewards[action], True, False, {}


class Clock(gym.Env):
    """Pays 1 per step and ends after ``limit`` steps, truncated if ``cut`` else terminated; may hide the step."""

    action_space = spaces.Discrete(2)

    def __init__(self, limit=4, cut=True, hidden=False):
        self.limit, self.cut, self.hidden = limit, cut, hidden
        self.observation_space = spaces.Box(0.0, 1.0, (limit + 1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def step(self, action):
        self.steps += 1
        ended = self.steps == self.limit
        return self.observe(), 1.0, ended and not self.cut, ended and self.cut, {}

    def observe(self):
        return np.eye(self.limit + 1, dtype=np.float32)[0 if self.hidden else self.steps]


class Lottery(gym.Env):
    """An episode's length, 1 to 20 steps, is drawn at its start; every step pays 1."""

    action_space = spaces.Discrete(2)
    observation_space = spaces.Box(0.0, 20.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 21))
        return np.array([self.left], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


class Identity(gym.Env):
    """Shows two random bits for 8 steps; an action that repeats them earns 1 per step, half a match half of it."""

    observations: ClassVar[dict[str, Any]] = {
        "box": (spaces.Box(0.0, 1.0, (2,), np.float32), lambda bits: bits.astype(np.float32)),
        "discrete": (spaces.Discrete(4, start=3), lambda bits: 3 + 2 * bits[0] + bits[1]),
        "multi-discrete": (spaces.MultiDiscrete([2, 2]), lambda bits: bits),
        "multi-binary": (spaces.MultiBinary(2), lambda bits: bits.astype(np.int8)),
        "dict": (
            spaces.Dict(first=spaces.Discrete(2), second=spaces.Box(0.0, 1.0, (1,), np.float32)),
            lambda bits: {"first": bits[0], "second": bits[1:].astype(np.float32)},
        ),
    }
    actions: ClassVar[dict[str, Any]] = {
        "discrete": (spaces.Discrete(4, start=3), lambda a, bits: float(a == 3 + 2 * bits[0] + bits[1])),
        "multi-discrete": (spaces.MultiDiscrete([2, 2]), lambda a, bits: float((a == bits).mean())),
        "multi-binary": (spaces.MultiBinary(2), lambda a, bits: float((a == bits).mean())),
        # targets at the middle of either half, a quarter of the range away from the bounds
        "box": (spaces.Box(-2.0, 2.0, (2,), np.float32), lambda a, bits: 1.0 - float(abs(a - (2 * bits - 1)).mean())),
    }

    def __init__(self, observation="box", action="discrete"):
        self.observation_space, self.show = self.observations[observation]
        self.action_space, self.pay = self.actions[action]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps, self.bits = 0, self.np_random.integers(0, 2, 2)
        return self.show(self.bits), {}

    def step(self, action):
        reward = self.pay(action, self.bits)
        self.steps, self.bits = self.steps + 1, self.np_random.integers(0, 2, 2)
        return self.show(self.bits), reward, self.steps == 8, False, {}


class Oddity(Bandit):
    """A bandit whose spaces no agent here can take."""

    def __init__(self, odd="action"):
        super().__init__()
        if odd == "action":
            self.action_space = spaces.Text(3)
        else:
            self.observation_space = spaces.Text(3)


for _cls in (Bandit, Clock, Lottery, Identity, Oddity):
    gym.register(f"test/{_cls.__name__}-v0", _cls)
