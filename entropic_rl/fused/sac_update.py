"""A gradient step of soft actor-critic: the critics' gradient, their step, the actor's gradient, its step; one call.

A batch is divided into parts of fixed size. The parts' gradients are computed by whoever is free and added up in order,
so that a run has the same bits on any number of threads, alone and in company.
"""

from __future__ import annotations

import math

import numpy as np

from entropic_rl.fused.compilation import Floats, Floats64, compiled, fetch_add
from entropic_rl.fused.layers import backward, backward_to_inputs, forward
from entropic_rl.fused.sac_plan import (
    METRICS,
    N_PHASES,
    NETWORKS,
    Numbers,
    Plan,
    Scratch,
    State,
    Transitions,
    Work,
    make_scratch,
)
from entropic_rl.fused.squashed import draw_squashed, squashed_slopes
from entropic_rl.fused.stepping import step

__all__ = ["step_networks"]

_CRITIC_LOSS, _ACTOR_LOSS, _ENTROPY = range(len(METRICS))
_CRITICS, _POLICY = range(len(NETWORKS))
_NOW, _NEXT = 0, 1  # of the noise


@compiled
def step_networks(plan: Plan, state: State, batch: Transitions, numbers: Numbers, work: Work) -> None:
    """The gradient step of all runs' critics and actors, or as much of it as nobody else does; then targets follow.

    Whoever calls this at the same time takes the next piece of work, and returns when all of them are done. Targets of
    a run that breaks stay, as evidence.
    """
    n_runs, n_parts, _ = work.actor.shape
    for phase in range(N_PHASES):
        n = (n_runs * n_parts, n_runs * plan.n_critics, n_runs * n_parts, n_runs, n_runs * plan.n_critics)[phase]
        piece = fetch_add(work.claimed, phase, 1)
        while piece < n:
            if phase == 0:
                _critic_gradients(plan, state, batch, numbers, work, piece // n_parts, piece % n_parts)
            elif phase == 1:
                _step_critic(plan, state, numbers, work, piece // plan.n_critics, piece % plan.n_critics)
            elif phase == 2:
                _actor_gradients(plan, state, batch, numbers, work, piece // n_parts, piece % n_parts)
            elif phase == 3:
                _step_actor(plan, state, numbers, work, piece)
            elif work.broken[piece // plan.n_critics] < 0:
                _follow(state.target[piece], state.critic.params[piece], numbers.tau[piece // plan.n_critics])
            fetch_add(work.done, phase, 1)
            piece = fetch_add(work.claimed, phase, 1)
        while fetch_add(work.done, phase, 0) < n:
            pass


@compiled
def _critic_gradients(
    plan: Plan, state: State, batch: Transitions, numbers: Numbers, work: Work, run: int, part: int
) -> None:
    """Gradients of half the squared errors of all critics of a run, of a part of its batch."""
    first, last = part * plan.width, min((part + 1) * plan.width, batch.reward.shape[1])
    scratch = make_scratch(plan, last - first)
    _weigh(batch, run, first, scratch.weight)
    _draw(plan, state, batch.next_obs[run, first:last], batch.noise[run, _NEXT, first:last], run, scratch)
    _aim(plan, state, batch, numbers, run, first, scratch)
    work.metrics[run, part, _CRITIC_LOSS] = 0.0
    for k in range(plan.n_critics):
        row, grads = run * plan.n_critics + k, work.critic[run, k, part]
        units, slopes, params = scratch.critic_units, scratch.critic_slopes[0], state.critic.params[row]
        _fill(units, batch.obs[run, first:last], 0)
        _fill(units, batch.action[run, first:last], batch.obs.shape[2])
        forward(plan.critic, params, units, slopes)
        loss = 0.0
        for b in range(last - first):
            error = units[plan.value, b] - scratch.goal[b]
            loss += 0.5 * scratch.weight[b] * error * error
            scratch.back[plan.value, b] = scratch.weight[b] * error
        work.metrics[run, part, _CRITIC_LOSS] += loss
        grads[:] = np.float32(0.0)
        backward(plan.critic, params, units, slopes, scratch.back, grads)
        work.totals[run, k, part] = _total(grads)


@compiled
def _step_critic(plan: Plan, state: State, numbers: Numbers, work: Work, run: int, k: int) -> None:
    """Step a critic of a run whose gradients are all finite."""
    _check(state, work, run, work.totals[run].sum(), _CRITICS)
    if not state.frozen[run]:
        _add_up(work.critic[run, k])
        step(plan.rule, state.critic, run * plan.n_critics + k, numbers.learning_rate[run], work.critic[run, k, 0])


@compiled
def _actor_gradients(
    plan: Plan, state: State, batch: Transitions, numbers: Numbers, work: Work, run: int, part: int
) -> None:
    """Gradients of minus the lowest value and the weighted entropy of a run, of a part of its batch."""
    first, last = part * plan.width, min((part + 1) * plan.width, batch.reward.shape[1])
    scratch, coef = make_scratch(plan, last - first), float(numbers.actor_coef[run])
    obs = batch.obs[run, first:last]
    _weigh(batch, run, first, scratch.weight)
    _draw(plan, state, obs, batch.noise[run, _NOW, first:last], run, scratch)
    _evaluate(plan, state.critic.params, obs, run, scratch)
    loss, entropy = 0.0, 0.0
    for b in range(last - first):
        loss += (coef * scratch.fresh.log_prob[b] - scratch.lowest[b]) * scratch.weight[b]
        entropy -= scratch.fresh.log_prob[b] * scratch.weight[b]
    work.metrics[run, part, _ACTOR_LOSS], work.metrics[run, part, _ENTROPY] = loss, entropy
    _through_critics(plan, state, run, obs.shape[1], scratch)
    for b in range(last - first):
        scratch.goal[b] = coef * scratch.weight[b]
    outputs = scratch.back[plan.outputs : plan.outputs + 2 * plan.n_actions]
    squashed_slopes(scratch.fresh, scratch.by_action, scratch.goal, outputs)
    grads = work.actor[run, part]
    grads[:] = np.float32(0.0)
    units, slopes = scratch.actor_units, scratch.actor_slopes
    backward(plan.actor, state.actor.params[run], units, slopes, scratch.back, grads)


@compiled
def _step_actor(plan: Plan, state: State, numbers: Numbers, work: Work, run: int) -> None:
    """Step the actor of a run if its gradient is finite."""
    _add_up(work.actor[run])
    _check(state, work, run, _total(work.actor[run, 0]), _POLICY)
    if not state.frozen[run]:
        step(plan.rule, state.actor, run, numbers.learning_rate[run], work.actor[run, 0])


@compiled
def _check(state: State, work: Work, run: int, total: float, network: int) -> None:
    """Freeze a run if the sum of a gradient is not finite, and note of which network."""
    if not (state.frozen[run] or math.isfinite(total)):
        state.frozen[run], work.broken[run] = True, network


@compiled
def _follow(target: Floats, params: Floats, tau: float) -> None:
    """Move a target the share ``tau`` of the way; for 1 exactly there."""
    rest = np.float32(1.0) - tau
    for i in range(len(target)):
        target[i] = params[i] - rest * (params[i] - target[i])


@compiled
def _weigh(batch: Transitions, run: int, first: int, weight: Floats64) -> None:
    """Weights of some samples in the mean of those that count."""
    n, n_valid, all_valid = batch.reward.shape[1], 0, batch.valid.shape[1] == 0
    for i in range(n):
        n_valid += 1 if all_valid or batch.valid[run, i] else 0
    for b in range(len(weight)):
        weight[b] = 1.0 / n_valid if all_valid or batch.valid[run, first + b] else 0.0


@compiled
def _draw(plan: Plan, state: State, obs: Floats, noise: Floats, run: int, scratch: Scratch) -> None:
    """Fresh actions at ``obs [B, O]`` from ``noise [B, D]``."""
    units = scratch.actor_units
    _fill(units, obs, 0)
    forward(plan.actor, state.actor.params[run], units, scratch.actor_slopes)
    draw_squashed(units[plan.outputs : plan.outputs + 2 * plan.n_actions], noise, scratch.fresh)


@compiled
def _aim(
    plan: Plan, state: State, batch: Transitions, numbers: Numbers, run: int, first: int, scratch: Scratch
) -> None:
    """``goal``: rewards, and the soft value of what followed unless the task ended."""
    coef, goal, lowest = float(numbers.critic_coef[run]), scratch.goal, scratch.lowest
    last = first + len(goal)
    _evaluate(plan, state.target, batch.next_obs[run, first:last], run, scratch)
    for b in range(len(goal)):
        i = first + b
        goal[b] = batch.reward[run, i]
        if not batch.terminated[run, i]:
            goal[b] += batch.discount[run, i] * (lowest[b] - coef * scratch.fresh.log_prob[b])


@compiled
def _evaluate(plan: Plan, params: Floats, obs: Floats, run: int, scratch: Scratch) -> None:
    """``value`` of the fresh actions at ``obs [B, O]`` by all critics of a run, and the ``lowest``."""
    units, fresh, (n, size) = scratch.critic_units, scratch.fresh.action, obs.shape
    for k in range(plan.n_critics):
        _fill(units, obs, 0)
        for d in range(plan.n_actions):
            for b in range(n):
                units[size + d, b] = fresh[d, b]
        forward(plan.critic, params[run * plan.n_critics + k], units, scratch.critic_slopes[k])
        for b in range(n):
            value = units[plan.value, b]
            scratch.value[k, b] = value
            if k == 0 or value < scratch.lowest[b] or np.isnan(value):
                scratch.lowest[b] = value


@compiled
def _through_critics(plan: Plan, state: State, run: int, obs_size: int, scratch: Scratch) -> None:
    """``by_action``: the slopes of minus the lowest value, which equally low ones share."""
    scratch.by_action[:] = 0.0
    n = len(scratch.lowest)
    for k in range(plan.n_critics):
        for b in range(n):
            n_lowest = 0.0  # stays 0 where none is a number, so that no slope is
            for other in range(plan.n_critics):
                n_lowest += 1.0 if scratch.value[other, b] == scratch.lowest[b] else 0.0
            is_lowest = 1.0 if scratch.value[k, b] == scratch.lowest[b] else 0.0
            scratch.back[plan.value, b] = -scratch.weight[b] * is_lowest / n_lowest
        params = state.critic.params[run * plan.n_critics + k]
        backward_to_inputs(plan.critic, params, scratch.critic_slopes[k], scratch.back, obs_size)
        for d in range(plan.n_actions):
            for b in range(n):
                scratch.by_action[d, b] += scratch.back[obs_size + d, b]


@compiled
def _fill(units: Floats, columns: Floats, first: int) -> None:
    """Put ``columns [B, D]`` into rows of ``units [U, B]`` from the ``first`` on."""
    for d in range(columns.shape[1]):
        for b in range(len(columns)):
            units[first + d, b] = columns[b, d]


@compiled
def _add_up(grads: Floats) -> None:
    """Add all parts' gradients ``[N, P]`` to the first."""
    first = grads[0]
    for part in range(1, len(grads)):
        other = grads[part]
        for i in range(len(first)):
            first[i] += other[i]


@compiled
def _total(grads: Floats) -> float:
    total = np.float32(0.0)
    for i in range(len(grads)):
        total += grads[i]
    return float(total)
