"""Iterations as CUDA graphs: the host starts one recording instead of every operation of a rollout and its update.

A graph repeats operations on the very memory that they were recorded with, and nothing that Python did between them.
So whatever an iteration leaves in tensors of its own is copied back to where the next one finds it, and whatever it
leaves in plain values is an error: a recording would forget it.

Source: https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from entropic_rl.config import RunConfig
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.errors import ConfigError
from entropic_rl.snapshots import Snapshot, look, rebind, unlike
from entropic_rl.training import Iteration
from entropic_rl.vector import EnvBatch, Transition

__all__ = ["CudaGraph", "Graphed", "Iterations", "Recording", "check_capturable"]

_WARM_UP = 3  # plain calls, in which libraries take what they need


class Recording(Protocol):
    """What records the operations of a function and repeats them."""

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """Call the function as it is."""

    def record(self, function: Callable[[], Any]) -> Any:
        """Call it without anything being computed; what it returns is right after :meth:`replay`."""

    def replay(self) -> None:
        """Do all that was recorded, on the same memory."""


class CudaGraph:
    """Operations on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self._stream, self._graph = torch.cuda.Stream(device), torch.cuda.CUDAGraph()

    def warm_up(self, function: Callable[[], Any]) -> Any:
        """Call the function on the stream that is recorded later, whose libraries and memory it then finds in place."""
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            result = function()
        torch.cuda.current_stream(self._stream.device).wait_stream(self._stream)
        return result

    def record(self, function: Callable[[], Any]) -> Any:
        """Record the function; what it returns lies in memory of the graph's own.

        Raises:
            ConfigError: it does what cannot be recorded, such as asking for a number.
        """
        try:
            with torch.cuda.graph(self._graph, stream=self._stream):
                return function()
        except RuntimeError as error:
            raise _refusal(f"an operation cannot be recorded ({str(error).partition(chr(10))[0]})") from error

    def replay(self) -> None:
        """Start it; nobody waits for its end."""
        self._graph.replay()


class Graphed:
    """A function whose whole effect is on tensors that objects hold, from the fourth call on by a recording of it.

    Args:
        function: without arguments. What it returns is only good until the next call.
        roots: all that it reads and changes, by names for messages.
        recording: of its operations.
    """

    def __init__(self, function: Callable[[], Any], roots: Mapping[str, Any], recording: Recording) -> None:
        self._function, self._roots, self._recording = function, dict(roots), recording
        self._n_calls = 0
        self._places = Snapshot()  # the tensors that every repetition starts from, and ends in
        self._replaced: list[str] = []  # those that the function leaves others in place of
        self._result: Any = None

    def __call__(self) -> Any:
        """What the function returns.

        Raises:
            ConfigError: it does what a recording would not repeat.
        """
        self._n_calls += 1
        if self._n_calls < _WARM_UP:
            return self._recording.warm_up(self._function)
        if self._n_calls == _WARM_UP:
            return self._recording.warm_up(self._settle)
        if self._n_calls == _WARM_UP + 1:
            self._result = self._recording.record(self._step)
        self._recording.replay()
        return self._result

    def _settle(self) -> Any:
        """Call it and give whatever it leaves in other tensors than it found a place of its own."""
        before = self._look()
        result = self._function()
        after = self._look_again(before)
        self._replaced = _replaced(before, after)
        places = after.tensors | {name: after.tensors[name].clone() for name in self._replaced}
        self._places = Snapshot(after.tree, places)
        rebind(self._places, self._roots)
        return result

    def _step(self) -> Any:
        """Call it and bring all that it left elsewhere back to its places, in which objects find it again."""
        result = self._function()
        after, places = self._look_again(self._places), self._places.tensors
        if (names := _replaced(self._places, after)) != self._replaced:
            raise _refusal(f"{min({*names} ^ {*self._replaced})} is not replaced in every iteration")
        overwritten = {_memory(places[name]) for name in names}
        now = [after.tensors[name] for name in names]
        for name, x in zip(names, [x.clone() if _memory(x) in overwritten else x for x in now], strict=True):
            places[name].copy_(x)
        rebind(self._places, self._roots)
        return result

    def _look(self) -> Snapshot:
        try:
            return look(self._roots)
        except TypeError as error:
            raise _refusal(str(error)) from None

    def _look_again(self, before: Snapshot) -> Snapshot:
        after = self._look()
        if (path := unlike(before, after)) is not None:
            raise _refusal(f"{path} changes with every iteration, but is no number on the device")
        return after


class Iterations:
    """Whole iterations of an agent in environments that are one program of tensors.

    Args:
        agent: that learns by coefficients which are scheduled apart from it.
        envs: of a :class:`~entropic_rl.envs.batched.BatchedEnv`.
        recording: of an iteration's operations.
    """

    NO_STATE = ("_graphed",)

    def __init__(self, agent: Any, envs: EnvBatch, recording: Recording) -> None:
        self._agent, self._envs = agent, envs
        self._obs: Tensor | None = None
        self._graphed = Graphed(self._iterate, {"agent": agent, "envs": envs, "iterations": self}, recording)

    def __call__(self, obs: Tensor, progress: float) -> Iteration:
        """The iteration from ``obs [R, E, D]`` on, at whose end the fraction ``progress`` of the env steps is done."""
        if self._obs is None:
            self._obs = obs.clone()
        elif self._obs is not obs:
            self._obs.copy_(obs)
        self._agent.schedule(progress)
        metrics, steps = self._graphed()
        return Iteration(metrics, steps, self._obs)

    def _iterate(self) -> tuple[dict[str, Tensor], list[tuple[Tensor, Transition]]]:
        env: Any = self._envs.env
        env.draws.restock()
        obs, steps = self._obs, []
        for _ in range(self._agent.steps_per_update):
            action = self._agent.act(obs, self._envs.mask)
            transition = self._envs.step(action)
            self._agent.observe(transition)
            steps.append((action, transition))
            obs = transition.next_obs
        self._obs = obs
        return self._agent.learn(), steps


def check_capturable(agent: Any, envs: EnvBatch, run: RunConfig, device: torch.device) -> None:
    """Refuse to record iterations of what cannot be recorded.

    Raises:
        ConfigError: saying why.
    """
    env: Any = envs.env
    if device.type != "cuda":
        raise _refusal(f"expected a CUDA device, got {device}")
    if not hasattr(agent, "learn"):
        raise _refusal("only ppo and a2c have iterations that are always the same")
    if not isinstance(env, BatchedEnv):
        raise _refusal(f"expected an environment that is stepped by one program of tensors (batched), got {run.env!r}")
    if getattr(agent.config, "target_kl", None) is not None:
        raise _refusal("target_kl asks the device after every epoch")
    if run.diagnose:
        raise _refusal("diagnose looks into gradient steps")


def _refusal(why: str) -> ConfigError:
    return ConfigError(f"cuda_graphs: {why}; leave --cuda-graphs out")


def _replaced(before: Snapshot, after: Snapshot) -> list[str]:
    """Names of tensors where another one is now."""
    return [name for name, x in after.tensors.items() if x is not before.tensors[name]]


def _memory(x: Tensor) -> int:
    return x.untyped_storage().data_ptr()
