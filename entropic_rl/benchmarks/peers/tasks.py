"""What is measured, by whom, with which settings; free of torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.errors import ConfigError
from entropic_rl.resolve import layered

__all__ = ["COEFFICIENTS", "PEERS", "TASKS", "Task", "choose_peers", "kernel_of_long_runs", "versions"]

COEFFICIENTS = (0.0, 0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)

# Name -> how tables call it, and the packages it needs.
PEERS: dict[str, tuple[str, tuple[str, ...]]] = {
    "ours": ("entropic_rl", ()),
    "sb3": ("Stable-Baselines3", ("stable_baselines3",)),
    "sbx": ("SBX", ("sbx", "stable_baselines3")),
    "cleanrl": ("one file of PyTorch (CleanRL's form)", ()),
    "jax": ("one JAX program (PureJaxRL's form)", ("jax", "optax")),
}
_INSTALL = 'pip install "entropic-rl[sb3,peers]"'
_PACKAGES = ("torch", "numpy", "gymnasium", "numba", "stable-baselines3", "sbx-rl", "jax", "jaxlib", "flax", "optax")


@dataclass(frozen=True, slots=True)
class Task:
    """Trainings of equal settings.

    Attributes:
        title: as tables say it.
        peers: who can do it.
        agent: its name.
        chosen: settings over those of ``preset``.
        preset: ``auto`` or ``none``.
        n_runs: of ours and of JAX's, as one batch; of the others one is trained.
        threads: of each process, on as many cores.
    """

    title: str
    peers: tuple[str, ...]
    agent: str = "ppo"
    chosen: Mapping[str, Any] = field(default_factory=dict)
    preset: str = "auto"
    n_runs: int = 1
    threads: int = 1

    def job(self, own: Mapping[str, Any], seed: int, cases: Sequence[tuple[float, int]] = ()) -> Job:
        """The runs with ``own`` settings above all: of consecutive seeds, or of coefficients and seeds, the ``cases``.

        Raises:
            ConfigError: a setting is out of range.
        """
        run, config = layered(self.agent, {**self.chosen, **own, "device": "cpu", "eval_episodes": 1}, self.preset)
        return Job.of(self.agent, run, config, cases or [(config.ent_coef, seed + i) for i in range(self.n_runs)])


_OF_LONG_RUNS = 100  # env steps between rows of the record where a run has 50,000
_CARTPOLE = {"env": "CartPole-v1"}
_PUREJAXRL = {
    **_CARTPOLE, "total_timesteps": 500_000, "n_envs": 4, "n_steps": 128, "batch_size": 128, "n_epochs": 4,
    "learning_rate": "linear:0.00025:0", "gamma": 0.99, "gae_lambda": 0.95, "clip_range": 0.2, "clip_range_vf": 0.2,
    "ent_coef": 0.01, "vf_coef": 0.25, "max_grad_norm": 0.5,
}  # fmt: skip

TASKS: dict[str, Task] = {
    "comparison": Task("8 coefficients x 4 seeds of PPO on CartPole", ("ours", "sb3", "jax"), chosen=_CARTPOLE),
    "ppo": Task("PPO on CartPole, RL Zoo's settings, one run", tuple(PEERS), chosen=_CARTPOLE),
    "ppo-16": Task("PPO on CartPole, PureJaxRL's settings, 16 runs", ("ours", "jax"), chosen=_PUREJAXRL,
                   preset="none", n_runs=16, threads=2),
    "sac": Task("SAC on Pendulum, one run", ("ours", "sb3", "sbx", "cleanrl"), agent="sac", preset="none",
                chosen={"env": "Pendulum-v1", "total_timesteps": 3_000, "log_interval": _OF_LONG_RUNS}, threads=2),
    "start": Task("scripts/compare.py, from its start to the first update", ("ours",), chosen=_CARTPOLE),
}  # fmt: skip


def choose_peers(named: Collection[str] | None) -> tuple[list[str], str]:
    """Those that are to be measured, ours first, and a line about those that are not installed (empty if all are).

    Raises:
        ConfigError: one that was named is not installed.
    """
    missing = {name: [p for p in needed if find_spec(p) is None] for name, (_, needed) in PEERS.items()}
    absent = [name for name in PEERS if missing[name] and (named is None or name in named)]
    if absent and named is not None:
        raise ConfigError(f"--peers: {', '.join(absent)} is not installed; run: {_INSTALL}")
    line = f"not installed, and so not measured: {', '.join(absent)}; {_INSTALL}" if absent else ""
    return [name for name in PEERS if name not in absent and (named is None or name in named or name == "ours")], line


def kernel_of_long_runs(own: Mapping[str, Any]) -> str:
    """The kernel that ``own`` settings ask for; for ``auto`` what it is where runs are long."""
    kernel = str(own.get("kernel", "auto"))
    if kernel == "auto":
        kernel = "fused" if find_spec("numba") else "autograd"
    return kernel


def versions() -> str:
    """Names and versions of all packages that matter and are there."""
    found = []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
