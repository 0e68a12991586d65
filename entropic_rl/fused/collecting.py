"""Whole rollouts by machine code: for which agents and environments, and the way from their tensors to it and back."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from entropic_rl.buffers import Rollout
from entropic_rl.collector import Collector
from entropic_rl.envs.batched import BatchedEnv
from entropic_rl.episodes import Episodes
from entropic_rl.fused.acting import act_runs, outputs_of_runs
from entropic_rl.fused.programs import Program, program_of
from entropic_rl.fused.rollout import Counts, Taken, World, roll_runs
from entropic_rl.fused.tables import actor_of, array, unfit
from entropic_rl.fused.threads import on_threads
from entropic_rl.policies import ActorCritic
from entropic_rl.vector import EnvBatch

__all__ = ["FusedActor", "FusedOutputs", "FusedRollout", "fused_rollout"]


class FusedActor:
    """Actions by machine code; every run on its own.

    Args:
        policy: what acts.

    Raises:
        ValueError: there is no machine code for it.
    """

    NO_STATE = ("_policy", "_actor")

    def __init__(self, policy: ActorCritic) -> None:
        if (reason := unfit(policy)) is not None:
            raise ValueError(reason)
        self._policy, self._actor = policy, actor_of(policy)

    def __call__(self, obs: Tensor, mask: Tensor | None, noise: Tensor) -> Tensor:
        """Actions ``[R, E, *event]`` on normalised observations ``[R, E, D]``, with ``noise [R, E, n_outputs]``."""
        n_runs, n_envs, _ = obs.shape
        allowed = np.empty((n_runs, 0, 0), np.bool_) if mask is None else np.ascontiguousarray(mask.numpy())
        choices = np.empty((n_runs, n_envs, len(self._actor.nvec)), np.int64)
        numbers = np.empty((n_runs, n_envs, 0 if len(self._actor.nvec) else self._actor.n_outputs), np.float32)
        params, seen = self._policy.params.values.numpy(), np.ascontiguousarray(obs.numpy())
        drawn = np.ascontiguousarray(noise.numpy())
        act = partial(act_runs, self._actor, params, seen, drawn, allowed, choices, numbers)
        on_threads(act, n_runs)
        action = torch.from_numpy(choices if len(self._actor.nvec) else numbers)
        return action.squeeze(-1) if self._policy.action.kind == "categorical" else action


class FusedOutputs:
    """What the actor of a policy makes of many observations, by machine code; every run on its own.

    Args:
        policy: a perceptron in float32 on the CPU.
    """

    def __init__(self, policy: ActorCritic) -> None:
        self._policy, self._actor = policy, actor_of(policy)

    def __call__(self, obs: Tensor) -> Tensor:
        """Outputs ``[R, B, n_outputs]`` on normalised observations ``[R, B, D]``."""
        outputs = np.empty((*obs.shape[:2], self._actor.n_outputs), np.float32)
        params = self._policy.params.values.numpy()
        on_threads(partial(outputs_of_runs, self._actor, params, array(obs), outputs), len(outputs))
        return torch.from_numpy(outputs)


def fused_rollout(collector: Collector, envs: EnvBatch) -> FusedRollout | None:
    """Rollouts of the collector's policy in these environments by machine code; None if there is none for them."""
    env: Any = envs.env
    policy = collector.policy
    is_own = isinstance(env, BatchedEnv) and env.device.type == "cpu" and envs.mode is AutoresetMode.SAME_STEP
    is_plain = policy.normalizer is None and collector.reward_normalizer is None and policy.observation.frames == 1
    kinds = {spaces.Discrete: "categorical", spaces.Box: "gaussian"}
    fits = kinds.get(type(env.single_action_space)) == policy.action.kind
    if not (is_own and is_plain and fits) or unfit(policy) is not None:
        return None
    program = program_of(env.dynamics)
    return None if program is None else FusedRollout(collector, envs, program)


class FusedRollout:
    """Rollouts of a policy in environments of this package, without returning in between.

    Args:
        collector: what acts and remembers.
        envs: where.
        program: their rules.
    """

    NO_STATE = ("_collector", "_envs", "_program", "_actor", "_bounds")

    def __init__(self, collector: Collector, envs: EnvBatch, program: Program) -> None:
        self._collector, self._envs, self._program = collector, envs, program
        self._actor = actor_of(collector.policy)
        space: Any = envs.env.single_action_space
        self._bounds = (np.empty(0), np.empty(0))
        if isinstance(space, spaces.Box):
            low, high = space.low.reshape(-1).astype(np.float64), space.high.reshape(-1).astype(np.float64)
            self._bounds = (low + high) / 2, (high - low) / 2

    def __call__(self, obs: Tensor) -> Rollout:
        """Fill the collector's rollout from ``obs [R, E, D]`` on."""
        rollout, n_runs = self._collector.rollout, self._envs.n_runs
        n_steps = len(rollout.reward)
        rollout.obs[0] = obs
        taken, counts = self._taken(self._collector.draw()), self._counts(self._envs.episodes)
        env: Any = self._envs.env
        state = env.state.to(torch.float64).contiguous().numpy().copy()
        params, times, begin = self._collector.policy.params.values.numpy(), np.zeros(n_runs, np.int64), 0
        while begin < n_steps:
            world = self._world(state, env, n_steps)
            stop = min(n_steps, begin + len(world.u))
            roll = partial(
                roll_runs,
                self._program.step,
                self._program.observe,
                self._actor,
                params,
                world,
                taken,
                counts,
                times,
                begin,
                stop,
            )
            on_threads(roll, n_runs)
            env.draws.used(int(times.min()) - begin)
            if times.min() < stop:
                env.draws.refill()
            begin = int(times.min())
        env.moved(torch.from_numpy(state).to(env.state.dtype))
        self._envs.episodes.moved(n_steps)
        self._collector.filled(_final_observations(taken))
        return rollout

    def _world(self, state: NDArray[np.float64], env: Any, n_steps: int) -> World:
        ahead = env.draws.ahead()
        u = ahead.u.numpy() if ahead.u.ndim == 3 else np.empty((n_steps, 0, env.num_envs))
        return World(
            tables=self._program.tables,
            state=state,
            age=env.age.numpy(),
            starts=ahead.starts.to(torch.float64).contiguous().numpy(),
            next=ahead.next.numpy(),
            last=ahead.last.numpy(),
            u=u,
            limit=env.max_episode_steps or 2**62,
            centre=self._bounds[0],
            half=self._bounds[1],
            first_choice=int(getattr(env.single_action_space, "start", 0)),
        )

    def _taken(self, noise: Tensor) -> Taken:
        rollout = self._collector.rollout
        n_steps, n_runs, n_envs = rollout.reward.shape
        is_choice = len(self._actor.nvec) > 0
        action, nothing = rollout.action.view(n_steps, n_runs, n_envs, -1), (n_steps, n_runs, n_envs, 0)
        return Taken(
            noise=np.ascontiguousarray(noise.numpy()),
            obs=rollout.obs.numpy(),
            choices=action.numpy() if is_choice else np.empty(nothing, np.int64),
            numbers=np.empty(nothing, np.float32) if is_choice else action.numpy(),
            reward=rollout.reward.numpy(),
            terminated=rollout.terminated.numpy(),
            truncated=rollout.truncated.numpy(),
            starts=rollout.starts.numpy(),
            final_obs=np.zeros((n_steps, *rollout.obs.shape[1:]), np.float32),
        )

    def _counts(self, episodes: Episodes) -> Counts:
        success = math.nan if episodes.success_return is None else episodes.success_return
        counters: Any = [x.numpy() for x in episodes.counters()]
        return Counts._make([*counters, success, episodes.n_steps])


def _final_observations(taken: Taken) -> list[tuple[int, Tensor, Tensor]]:
    """``(t, ended [R, E], obs [R, E, D])`` for every step in which an episode ended."""
    ended = taken.terminated | taken.truncated
    times = np.flatnonzero(ended.any((1, 2))).tolist()
    return [(t, torch.from_numpy(ended[t]), torch.from_numpy(taken.final_obs[t])) for t in times]
