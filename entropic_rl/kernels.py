"""What computes acting and learning: machine code made for perceptrons on the CPU, or torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from entropic_rl.config import FUSED_FROM, RunConfig
from entropic_rl.errors import ConfigError
from entropic_rl.fused import fused_evaluation
from entropic_rl.fused.threads import torch_on_one_thread
from entropic_rl.vector import EnvBatch

__all__ = ["Kernel", "evaluated_by", "note_compilation", "threads_for", "use_bf16", "use_kernel"]

Kernel = Literal["fused", "autograd"]


def use_kernel(agent: Any, envs: EnvBatch, run: RunConfig) -> Kernel:
    """Let the agent act and learn by what ``run.kernel`` asks for; returns what that is, ``fused`` or ``autograd``.

    With ``auto`` that is machine code where there is any for this agent and the run is long enough. It depends on
    nothing that differs between runs of a batch, so that a run has the same bits alone and in company.

    Raises:
        ConfigError: ``fused`` is not possible; saying why.
    """
    if run.kernel == "autograd" or (run.kernel == "auto" and run.total_timesteps < FUSED_FROM):
        return "autograd"
    try:
        _use_fused(agent, envs, run)
    except (ConfigError, ImportError):  # of a Numba that does not fit to what is installed
        if run.kernel == "fused":
            raise
        return "autograd"
    return "fused"


def threads_for(kernel: Kernel) -> AbstractContextManager[None]:
    """Within it, threads belong to whatever acts and learns."""
    return torch_on_one_thread() if kernel == "fused" else nullcontext()


def evaluated_by(kernel: Kernel, policy: Any) -> dict[str, Any]:
    """What computes evaluations of a policy, as :func:`entropic_rl.evaluation.evaluate` takes it."""
    return fused_evaluation(policy) if kernel == "fused" else {}


def note_compilation(agent: Any, note: Callable[[str], None]) -> None:
    """Say so, if the agent's first update will take as long as compiling it does."""
    from entropic_rl.fused.compilation import is_compiled

    if not is_compiled(agent.MACHINE_CODE):
        note("making machine code, once, for about a minute")


def use_bf16(agent: Any, run: RunConfig) -> None:
    """Let the agent compute products between hidden layers in bfloat16, if ``run.bf16`` asks for it.

    Raises:
        ConfigError: it has another kind of networks, or its layers are to be watched.
    """
    if not run.bf16:
        return
    if not hasattr(agent, "learn"):
        raise ConfigError("bf16 serves ppo and a2c; leave --bf16 out")
    if run.diagnose:
        raise ConfigError("bf16: --diagnose watches layers in float32; leave one of them out")
    agent.policy.params.inner_dtype = torch.bfloat16


def _use_fused(agent: Any, envs: EnvBatch, run: RunConfig) -> None:
    if run.bf16:
        raise ConfigError("kernel: fused computes in float32; leave --bf16 out, or use --kernel autograd")
    if run.diagnose:
        raise ConfigError("kernel: fused shows no gradient steps, which --diagnose watches; use --kernel autograd")
    if not hasattr(agent, "use_fused_kernel"):
        raise ConfigError("kernel: fused serves ppo, a2c and sac; use --kernel autograd")
    agent.use_fused_kernel(envs)
