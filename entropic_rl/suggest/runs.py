"""Gradients of on-policy agents: rollouts of a trained policy, in minibatches as it trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from entropic_rl.agents.config import A2CConfig, PPOConfig, action_head
from entropic_rl.cell import Cell
from entropic_rl.collector import Collector
from entropic_rl.entropy_term import EntropyTerm
from entropic_rl.environments import import_gym_packages, make_vector_env
from entropic_rl.errors import ConfigError
from entropic_rl.losses import policy_gradient_loss
from entropic_rl.normalization import RewardNormalizer
from entropic_rl.on_policy import Samples, minibatches, normalize_advantage, prepare
from entropic_rl.policies import ActorCritic
from entropic_rl.policy_files import load_policy
from entropic_rl.reductions import masked_mean
from entropic_rl.schedules import Schedule
from entropic_rl.spaces import observation_spec
from entropic_rl.streams import Stream
from entropic_rl.suggest.evidence import GradientNorms, Norms, gathered, norms_of
from entropic_rl.vector import EnvBatch

__all__ = ["measure_policy", "norms_of_run"]


def norms_of_run(cell: Cell, n_rollouts: int, seed: int) -> GradientNorms:
    """Norms of both gradients of the policy in a run directory.

    Args:
        cell: a finished run of PPO or A2C with the entropy in its loss.
        n_rollouts: that are measured, as runs of one batch.
        seed: of the first of them.

    Raises:
        UserError: it is of another agent, has its entropy in the reward, or its policy cannot be read.
    """
    run, config = cell.run, cell.config
    if not isinstance(config, PPOConfig | A2CConfig):
        raise ConfigError(
            f"source: expected a run of ppo or a2c, got {cell.agent}; let its coefficient steer itself: --ent-coef auto"
        )
    if config.entropy_in != "loss":
        raise ConfigError(
            f"source: expected entropy in the loss, got entropy_in {config.entropy_in}, where it is a part of the "
            "advantages; compare a grid"
        )
    import_gym_packages(run.gym_packages)
    env = make_vector_env(run.env, n_rollouts * run.n_envs, run.env_kwargs, backend=run.env_backend,
                          wrappers=run.env_wrappers)  # fmt: skip
    try:
        observation = observation_spec(env.single_observation_space).stacked(run.frame_stack)
        action = action_head(config, env.single_action_space)
        policy = load_policy(cell.directory, observation, action)
        policy = policy.take(torch.zeros(n_rollouts, dtype=torch.int64))
        envs = EnvBatch(env, n_rollouts, observation=observation, action=action)
        return measure_policy(policy, config, envs, range(seed, seed + n_rollouts))
    finally:
        env.close()


def measure_policy(
    policy: ActorCritic, config: PPOConfig | A2CConfig, envs: EnvBatch, seeds: Sequence[int]
) -> GradientNorms:
    """Norms of both gradients of R policies, a rollout of each after one that is thrown away.

    Args:
        policy: of R runs, one group each; its observation statistics go on.
        config: how it is trained.
        envs: of R runs.
        seeds: R.
    """
    n_runs, n_envs = len(seeds), envs.n_envs
    unit_coefficient = replace(config, ent_coef=1.0)
    term = EntropyTerm([unit_coefficient] * n_runs, policy.action)
    term.coefficient.at(0.0)
    gamma, gae_lambda = (torch.full((n_runs,), _number(value)) for value in (config.gamma, config.gae_lambda))
    normalizer = RewardNormalizer(n_runs, n_envs, gamma) if config.normalize_reward else None
    collector = Collector(policy, config.n_steps, n_envs, seeds, normalizer, sequence_length=config.sequence_length)
    obs = envs.reset(Stream(seeds, "environment").seeds(n_envs))
    for passed in (False, True):
        for _ in range(config.n_steps):
            transition = envs.step(collector.act(obs, envs.mask))
            collector.observe(transition)
            obs = transition.next_obs
        if not passed:
            collector.rollout.clear()
    with torch.no_grad():
        samples = prepare(collector, term, gamma=gamma, gae_lambda=gae_lambda)
    batch_size = getattr(config, "batch_size", config.n_steps * n_envs)
    parts = [
        _batch_norms(policy, batch, term, normalized=config.normalize_advantage)
        for batch in minibatches(samples, batch_size, Stream(seeds, "minibatch"))
    ]
    level = float(samples.entropy[:, 0].mean())
    return gathered(parts, np.tile(np.arange(n_runs), len(parts)), level=level, highest=policy.action.max_entropy)


def _batch_norms(policy: ActorCritic, batch: Samples, term: EntropyTerm, *, normalized: bool) -> Norms:
    """Of R runs, of the policy's loss and of its entropy."""
    distribution, _ = policy.evaluate(batch.obs, batch.mask, batch.sequences)
    advantage, unit = batch.advantage, batch.reward_scale
    if normalized:
        advantage, std = normalize_advantage(advantage, batch.valid)
        unit = unit * std
    task = masked_mean(policy_gradient_loss(distribution.log_prob(batch.action), advantage), batch.valid)
    entropy = term.loss_coef(unit) * masked_mean(term.bonus(distribution), batch.valid)
    named = {name: policy.params[name] for name in policy.params.named() if not name.startswith("critic.")}
    gradients = [
        torch.autograd.grad(part.sum(), list(named.values()), retain_graph=True, allow_unused=True,
                            materialize_grads=True)
        for part in (task, entropy)
    ]  # fmt: skip
    layers = [name.rpartition(".")[0] or name for name in named]
    return norms_of(layers, *([g.flatten(1).to(torch.float64) for g in own] for own in gradients))


def _number(value: Any) -> float:
    """What a setting begins with, where it is a schedule."""
    return float(value) if isinstance(value, int | float) else float(Schedule.parse(value).at(0.0))
