"""What a rollout means to the policy that acted, as machine code: values, log-probabilities, advantages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from entropic_rl.fused.compilation import Booleans, Floats, Integers, compiled, put
from entropic_rl.fused.heads import choose, draw
from entropic_rl.fused.layers import forward
from entropic_rl.fused.plan import TILE, Plan, Scratch, make_scratch

__all__ = ["Recalled", "Rolled", "recall_runs"]


class Rolled(NamedTuple):
    """A rollout, time by time; see :class:`entropic_rl.buffers.Rollout`.

    Attributes:
        obs: ``[T + 1, R, E, D]``.
        choices: ``[T, R, E, C]``.
        numbers: ``[T, R, E, D]``.
        mask: ``[T + 1, R, E, A]``; without entries if all is allowed.
        reward, terminated, truncated: ``[T, R, E]``.
        cut_times: ``[K]``, steps in which episodes ended.
        cut_obs: ``[K, R, E, D]``, what they ended in.
        gamma, gae_lambda, bonus_coef: ``[R]``, the last of the bonus in rewards.
    """

    obs: Floats
    choices: Integers
    numbers: Floats
    mask: Booleans
    reward: Floats
    terminated: Booleans
    truncated: Booleans
    cut_times: Integers
    cut_obs: Floats
    gamma: Floats
    gae_lambda: Floats
    bonus_coef: Floats


class Recalled(NamedTuple):
    """The same run by run, N = T E, with what follows from it: see :class:`entropic_rl.on_policy.Samples`.

    Attributes:
        obs: ``[R, N, D]``.
        choices: ``[R, N, C]``.
        numbers: ``[R, N, D]``.
        mask: ``[R, N, A]``; without entries if all is allowed.
        log_prob, value, advantage, target, entropy: ``[R, N]``.
    """

    obs: Floats
    choices: Integers
    numbers: Floats
    mask: Booleans
    log_prob: Floats
    value: Floats
    advantage: Floats
    target: Floats
    entropy: Floats


@compiled
def recall_runs(plan: Plan, params: Floats, rolled: Rolled, recalled: Recalled, start: int, stop: int) -> None:
    """Fill what is ``recalled`` of runs ``start`` to ``stop``."""
    n_steps, _, n_envs = rolled.reward.shape
    scratch = make_scratch(plan, params.shape[1], TILE)
    bonus, next_value = np.empty((n_steps, n_envs), np.float32), np.empty((n_steps, n_envs), np.float32)
    for run in range(start, stop):
        _by_run(rolled, recalled, run)
        _judge(plan, params[run], recalled, run, scratch, bonus.reshape(-1))
        _next_values(plan, params[run], rolled, recalled, run, scratch, next_value)
        gamma, gae_lambda = rolled.gamma[run], rolled.gae_lambda[run]
        for e in range(n_envs):
            trace = np.float32(0.0)
            for t in range(n_steps - 1, -1, -1):
                i = t * n_envs + e
                ended = rolled.terminated[t, run, e] or rolled.truncated[t, run, e]
                reward = rolled.reward[t, run, e] + rolled.bonus_coef[run] * bonus[t, e]
                following = np.float32(0.0) if rolled.terminated[t, run, e] else next_value[t, e]
                carried = np.float32(0.0) if ended else gamma * gae_lambda * trace
                trace = reward + gamma * following - recalled.value[run, i] + carried
                recalled.advantage[run, i] = trace
                recalled.target[run, i] = trace + recalled.value[run, i]


@compiled
def _by_run(rolled: Rolled, recalled: Recalled, run: int) -> None:
    n_steps, _, n_envs = rolled.reward.shape
    for t in range(n_steps):
        for e in range(n_envs):
            i = t * n_envs + e
            put(recalled.obs[run, i], rolled.obs[t, run, e])
            put(recalled.choices[run, i], rolled.choices[t, run, e])
            put(recalled.numbers[run, i], rolled.numbers[t, run, e])
            if recalled.mask.shape[1] > 0:
                put(recalled.mask[run, i], rolled.mask[t, run, e])


@compiled
def _judge(plan: Plan, params: Floats, recalled: Recalled, run: int, scratch: Scratch, bonus: Floats) -> None:
    """Values, log-probabilities, entropies and bonuses of all samples of a run, tile by tile."""
    n, head, first = recalled.obs.shape[1], scratch.head, plan.outputs
    order = np.arange(n)
    for start in range(0, n, TILE):
        samples = order[start : start + TILE]
        units = _units(plan, params, recalled.obs[run, start : start + TILE], scratch)
        outputs = units[first : first + plan.n_outputs]
        if plan.is_gaussian:
            log_stds = params[plan.head.log_std : plan.head.log_std + plan.n_outputs]
            draw(plan.head, outputs, samples, log_stds, recalled.numbers[run], head)
        else:
            choose(plan.head, outputs, samples, recalled.mask[run], recalled.choices[run], head)
        for b in range(len(samples)):
            recalled.value[run, start + b] = units[plan.value, b]
            recalled.log_prob[run, start + b] = head.log_prob[b]
            recalled.entropy[run, start + b] = head.entropy[b]
            bonus[start + b] = head.bonus[b]


@compiled
def _next_values(
    plan: Plan, params: Floats, rolled: Rolled, recalled: Recalled, run: int, scratch: Scratch, next_value: Floats
) -> None:
    """Values ``[T, E]`` of what each step led to: where an episode ended, of what it ended in."""
    n_steps, n_envs = next_value.shape
    for t in range(n_steps - 1):
        for e in range(n_envs):
            next_value[t, e] = recalled.value[run, (t + 1) * n_envs + e]
    for start in range(0, n_envs, TILE):
        units = _units(plan, params, rolled.obs[n_steps, run, start : start + TILE], scratch)
        put(next_value[n_steps - 1, start:], units[plan.value])
    place, ends = np.empty((TILE, 2), np.int64), np.empty((TILE, rolled.obs.shape[3]), np.float32)
    n_ends, last = 0, len(rolled.cut_times) - 1
    for k in range(last + 1):
        t = rolled.cut_times[k]
        for e in range(n_envs):
            if rolled.terminated[t, run, e] or rolled.truncated[t, run, e]:
                place[n_ends, 0], place[n_ends, 1] = t, e
                put(ends[n_ends], rolled.cut_obs[k, run, e])
                n_ends += 1
            if n_ends == TILE or (k == last and e == n_envs - 1 and n_ends > 0):
                units = _units(plan, params, ends[:n_ends], scratch)
                for b in range(n_ends):
                    next_value[place[b, 0], place[b, 1]] = units[plan.value, b]
                n_ends = 0


@compiled
def _units(plan: Plan, params: Floats, obs: Floats, scratch: Scratch) -> Floats:
    """All layers' outputs ``[U, B]`` on ``obs [B, D]``."""
    shape, size = (plan.n_units, len(obs)), plan.n_units * len(obs)
    units, slopes = scratch.units[:size].reshape(shape), scratch.slopes[:size].reshape(shape)
    for b in range(len(obs)):
        for d in range(obs.shape[1]):
            units[d, b] = obs[b, d]
    forward(plan.layers, params, units, slopes)
    return units
