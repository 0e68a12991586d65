"""What a GPU makes of batches of runs, of single ones in the settings of LeanRL, and of the entropy operator."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from entropic_rl.agents import agent_class
from entropic_rl.agents.config import action_head
from entropic_rl.cuda_graphs import CudaGraph, Iterations
from entropic_rl.entropy import log_prob_and_entropy
from entropic_rl.environments import make_vector_env
from entropic_rl.resolve import layered
from entropic_rl.spaces import observation_spec
from entropic_rl.training import Training
from entropic_rl.vector import EnvBatch

__all__ = ["LEANRL", "Learner", "batch_table", "leanrl_table", "operator_table"]

_PUBLISHED = "https://github.com/pytorch-labs/LeanRL"
LEANRL: dict[str, tuple[dict[str, Any], int]] = {
    "ppo": (
        {
            "n_steps": 2048, "batch_size": 64, "n_epochs": 10, "learning_rate": "linear:0.0003:0", "gamma": 0.99,
            "gae_lambda": 0.95, "clip_range": 0.2, "clip_range_vf": 0.2, "ent_coef": 0.0, "vf_coef": 0.5,
            "max_grad_norm": 0.5, "normalize_obs": True, "normalize_reward": True, "net_arch": (64, 64),
        },
        1774,
    ),
    "sac": (
        {
            "batch_size": 256, "buffer_size": 1_000_000, "gamma": 0.99, "tau": 0.005, "learning_rate": 3e-4,
            "ent_coef": "auto", "net_arch": (256, 256), "learning_starts": 1,
        },
        725,
    ),
}  # fmt: skip
"""LeanRL's settings by agent, and the env steps per second that it states for one run on an H100, compiled and by CUDA
graphs, with HalfCheetah-v4 simulated on the CPU; its critics learn at 0.001 and its actor every other step, twice."""


@dataclass
class Learner:
    """A training that is only timed.

    Attributes:
        agent: its name.
        env: its environment.
        settings: of agent and run, above the preset's.
        preset: ``auto`` or ``none``.
        n_runs: R.
        device: where all is.
        recorded: whether iterations are CUDA graphs.
    """

    agent: str
    env: str
    settings: dict[str, Any]
    preset: str
    n_runs: int
    device: torch.device
    recorded: bool = False

    @cached_property
    def training(self) -> Training:
        """The training, which never ends."""
        run, config = layered(self.agent, {"env": self.env, **self.settings}, self.preset)
        cls = agent_class(self.agent)
        env = make_vector_env(self.env, self.n_runs * run.n_envs, backend="batched", device=self.device)
        specs: dict[str, Any] = {"observation": observation_spec(env.single_observation_space), "device": self.device}
        specs["action"] = action_head(config, env.single_action_space)
        envs, seeds = EnvBatch(env, self.n_runs, **specs), list(range(self.n_runs))
        agent = cls([config] * self.n_runs, seeds, n_envs=run.n_envs, **specs)
        training = Training(agent, envs, total_timesteps=2**62, seeds=seeds, log_interval=2**31)
        if self.recorded:
            training.iterations = Iterations(agent, envs, CudaGraph(self.device))
        return training

    def rate(self, updates: int) -> float:
        """Env steps of all runs per second, over so many updates after those that warm up."""
        steps = self.training.global_step
        seconds = self.seconds(updates)
        return (self.training.global_step - steps) * self.n_runs / seconds

    def seconds(self, updates: int) -> float:
        """What they take, from an idle device to an idle device."""
        _wait(self.device)
        started = time.perf_counter()
        for _ in range(updates):
            self.training._update()
        _wait(self.device)
        return time.perf_counter() - started

    def share(self, updates: int) -> float:
        """Of that time, how much kernels (on the CPU: operations) are at work."""
        on_gpu = self.device.type == "cuda"
        kind = torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU
        with torch.profiler.profile(activities=[kind]) as profile:
            seconds = self.seconds(updates)
        place = "CUDA" if on_gpu else "CPU"  # what launched a kernel counts its time, too
        own = [event for event in profile.key_averages() if event.device_type.name == place]
        busy = sum(event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in own)
        return float(busy) * 1e-6 / seconds


def batch_table(runs: Sequence[int], updates: int, device: torch.device, sb3: float | None = None) -> Iterator[str]:
    """Lines of a Markdown table: PPO on CartPole with RL Zoo's settings, plain and, on CUDA, recorded.

    Args:
        runs: R of each pair of lines; the first is what the others are compared with.
        updates: that are timed.
        device: where.
        sb3: env steps per second of Stable-Baselines3 on a core of this machine, if it was measured.
    """
    yield "| runs | iterations | env steps/s of all runs | times the first line | times SB3 | of the time in kernels |"
    yield "| --- | --- | --- | --- | --- | --- |"
    first = None
    for n_runs in runs:
        for recorded in (False, True) if device.type == "cuda" else (False,):
            learner = Learner("ppo", "CartPole-v1", {}, "auto", n_runs, device, recorded)
            learner.seconds(5)
            rate = learner.rate(updates)
            first = first or rate
            beside = "-" if sb3 is None else f"{rate / sb3:,.1f}"
            how = "recorded" if recorded else "plain"
            yield f"| {n_runs:,} | {how} | {rate:,.0f} | {rate / first:,.1f} | {beside} | {learner.share(1):.0%} |"


def leanrl_table(updates: int, device: torch.device) -> Iterator[str]:
    """Lines of a Markdown table: one run of each agent by LeanRL's settings, on Pendulum, beside what LeanRL states."""
    yield f"| agent | iterations | env steps/s, Pendulum-v1 on the device | HalfCheetah-v4 on the CPU ({_PUBLISHED}) |"
    yield "| --- | --- | --- | --- |"
    for agent, (settings, published) in LEANRL.items():
        for recorded in (False, True) if device.type == "cuda" and agent == "ppo" else (False,):
            learner = Learner(agent, "Pendulum-v1", settings, "none", 1, device, recorded)
            n = updates if agent == "ppo" else 100 * updates
            learner.seconds(5)
            yield f"| {agent} | {'recorded' if recorded else 'plain'} | {learner.rate(n):,.0f} | {published:,} |"


def operator_table(shapes: Sequence[tuple[int, int]], device: torch.device) -> Iterator[str]:
    """Lines of a Markdown table: GB/s of the entropy operator's one pass forward and one back, beside those of a copy.

    Forward reads the logits; backward reads them and writes their gradient.
    """
    yield "| logits | forward, GB/s | of a copy's | forward and backward, GB/s | of a copy's |"
    yield "| --- | --- | --- | --- | --- |"
    for n_rows, n_classes in shapes:
        z = torch.randn(n_rows, n_classes, device=device, requires_grad=True)
        index, given = torch.arange(n_rows, device=device) % n_classes, torch.ones(n_rows, device=device)
        bare, target = z.detach(), torch.empty_like(z)

        def forward(bare: Any = bare, index: Any = index) -> None:
            log_prob_and_entropy(bare, index)

        def both(z: Any = z, index: Any = index, given: Any = given) -> None:
            torch.autograd.grad(log_prob_and_entropy(z, index)[:2], z, (given, given))

        def copy(target: Any = target, bare: Any = bare) -> None:
            target.copy_(bare)

        moved = z.nbytes / 1e9
        copied, *found = (n * moved / _seconds(f, device) for n, f in ((2, copy), (1, forward), (3, both)))
        cells = " | ".join(f"{rate:,.1f} | {rate / copied:.0%}" for rate in found)
        yield f"| {n_rows:,} x {n_classes:,} | {cells} |"


def _seconds(function: Callable[[], None], device: torch.device, calls: int = 20) -> float:
    """Of a call, in a row of them."""
    for _ in range(3):
        function()
    _wait(device)
    started = time.perf_counter()
    for _ in range(calls):
        function()
    _wait(device)
    return (time.perf_counter() - started) / calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
