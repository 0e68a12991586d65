"""Environments in processes of their own that die, hang and are asked to stop without taking the training along."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, AutoresetMode

from entropic_rl.env_checks import place
from entropic_rl.errors import EnvError
from entropic_rl.interruption import die_with_parent

__all__ = ["WatchedAsyncVectorEnv", "in_worker"]

_GRACE = 5.0
"""Seconds in which workers may close their environments."""


class WatchedAsyncVectorEnv(AsyncVectorEnv[Any, Any]):
    """Gymnasium's, whose workers may die or hang: that is an :class:`EnvError` in bounded time, and closing ends.

    Args:
        makers: one function per copy.
        autoreset_mode: what happens at the end of an episode.
        timeout: seconds that a copy may take to be made, to reset or to step.
    """

    def __init__(
        self, makers: Sequence[Callable[[], gym.Env[Any, Any]]], *, autoreset_mode: AutoresetMode, timeout: float
    ) -> None:
        self._timeout: float | None = timeout
        self._seeds: list[int | None] = [None] * len(makers)
        self._n_episodes = np.zeros(len(makers), np.int64)
        self._n_steps = np.zeros(len(makers), np.int64)
        self._has_failed = False
        super().__init__([in_worker(maker) for maker in makers], autoreset_mode=autoreset_mode)

    def reset_async(self, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None) -> None:
        """Ask copies to begin episodes."""
        chosen = (options or {}).get("reset_mask", np.ones(self.num_envs, bool))
        seeds = seed if isinstance(seed, list) else [None if seed is None else seed + i for i in range(self.num_envs)]
        for i in np.flatnonzero(chosen):
            self._n_episodes[i] = 0 if seeds[i] is not None else self._n_episodes[i] + 1
            self._seeds[i] = self._seeds[i] if seeds[i] is None else seeds[i]
        self._n_steps[chosen] = 0
        super().reset_async(seed, options)

    def step_wait(self, timeout: float | None = None) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Wait for what the copies answer to their actions."""
        self._n_steps += 1
        answer = super().step_wait(timeout)
        ended = answer[2] | answer[3]
        if self.autoreset_mode is not AutoresetMode.DISABLED and ended.any():
            self._n_episodes[ended] += 1
            self._n_steps[ended] = 0
        return answer

    def set_attr(self, name: str, values: Any) -> None:
        """Set an attribute of the copies; for as long as it takes, since one may play its episode again."""
        limit, self._timeout = self._timeout, None
        try:
            super().set_attr(name, values)
        finally:
            self._timeout = limit

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the workers: after what they are at, or, if one has failed or does not end, at once."""
        deadline = time.monotonic() + (0.0 if terminate or self._has_failed else _GRACE)
        for pipe in self.parent_pipes:
            with suppress(OSError, EnvError):
                pipe.send(("close", None))
        for process in self.processes:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for pipe in self.parent_pipes:
            pipe.close()

    def _check_spaces(self) -> None:
        """The last act of construction: from here on every answer is waited for as long as it may take."""
        pipes: Any = [_Answers(self, i, pipe) for i, pipe in enumerate(self.parent_pipes)]
        self.parent_pipes = pipes
        try:
            super()._check_spaces()  # type: ignore[no-untyped-call]  # Gymnasium's
        except BaseException:
            self.close(terminate=True)
            raise

    def _raise_if_errors(self, successes: Iterable[bool]) -> None:
        """What the first copy that failed has to say."""
        failed = [i for i, success in enumerate(successes) if not success]
        if not failed:
            return
        said: dict[int, BaseException] = {}
        with suppress(queue.Empty):
            for _ in failed:
                index, _, error, _ = self.error_queue.get(timeout=_GRACE)
                said[index] = error
        self._has_failed = True
        index = min(said, default=failed[0])
        error = said.get(index)
        if isinstance(error, EnvError | AttributeError):  # of what it has not, anyone may ask
            raise error
        raise self.failure(index, f"it failed ({type(error).__name__}: {error})")

    def failure(self, index: int, what: str) -> EnvError:
        """What to raise because of a copy."""
        self._has_failed = True
        where = place(index, self._seeds[index], int(self._n_episodes[index]), int(self._n_steps[index]))
        return EnvError(f"{where}: {what}; mend the environment, or go on with --resume")


class _Answers:
    """The pipe to a worker that may be dead or silent."""

    def __init__(self, owner: WatchedAsyncVectorEnv, index: int, pipe: Any) -> None:
        self._owner, self._index, self._pipe = owner, index, pipe
        self.close, self.poll = pipe.close, pipe.poll

    @property
    def closed(self) -> bool:
        return bool(self._pipe.closed)

    def send(self, message: Any) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            raise self._died() from None

    def recv(self) -> Any:
        limit = self._owner._timeout
        try:
            if limit is None or self._pipe.poll(limit):
                return self._pipe.recv()
        except (EOFError, OSError):
            raise self._died() from None
        raise self._owner.failure(
            self._index, f"its process has not answered for {limit:g} s (--env-timeout), and was ended"
        )

    def _died(self) -> EnvError:
        process = self._owner.processes[self._index]
        process.join(_GRACE)
        code = process.exitcode
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        return self._owner.failure(self._index, f"its process died ({how})")


def in_worker(maker: Callable[[], gym.Env[Any, Any]]) -> Callable[[], gym.Env[Any, Any]]:
    """The same maker; in another process that process first becomes one that follows this one."""
    parent = os.getpid()

    def make() -> gym.Env[Any, Any]:
        if os.getpid() != parent:
            _follow(parent)
        return maker()

    return make


def _follow(parent: int) -> None:
    """Let the parent alone decide when to end: it needs the environments for a checkpoint; but die with it."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    die_with_parent(parent)
