"""PPO in one file of plain PyTorch, the way people write it who want to read it from top to bottom.

The details are those of CleanRL's ``ppo.py`` (Huang et al. 2022, https://github.com/vwxyzjn/cleanrl): Gymnasium's
copies one by one, orthogonal weights, Adam with eps 1e-5, learning rate stepped per update, minibatches of a shuffled
rollout, advantages normalised within each, half the squared error of values, cut-off episodes counted as ended,
diagnostics read at every minibatch. What is left out is writing them anywhere.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import pairwise

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.distributions import Categorical

from entropic_rl.agents.config import PPOConfig
from entropic_rl.benchmarks.peers.clock import Clock
from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.schedules import Schedule

__all__ = ["train"]


class Agent(nn.Module):
    """Two perceptrons, an actor's and a critic's, for flat observations and Discrete actions."""

    def __init__(self, n_inputs: int, n_actions: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.actor = _perceptron((n_inputs, *widths, n_actions), last_gain=0.01)
        self.critic = _perceptron((n_inputs, *widths, 1), last_gain=1.0)

    def get_action_and_value(self, obs: Tensor, action: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Action, its log-probability, entropy and value, ``[B]`` each, of ``obs [B, D]``."""
        policy = Categorical(logits=self.actor(obs))
        action = policy.sample() if action is None else action
        return action, policy.log_prob(action), policy.entropy(), self.critic(obs).flatten()


def train(job: Job, clock: Clock) -> tuple[int, list[float]]:
    """Train one run; the env steps that it made, and the mean return of its last 100 training episodes."""
    run, config = job.run, job.config
    np.random.seed(run.seed)
    torch.manual_seed(run.seed)
    envs = SyncVectorEnv([lambda: gym.make(run.env)] * run.n_envs, autoreset_mode=AutoresetMode.SAME_STEP)
    shape, n_actions = envs.single_observation_space.shape, envs.single_action_space.n  # type: ignore[attr-defined]
    model = Agent(int(np.prod(shape or ())), int(n_actions), config.net_arch)
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, eps=1e-5)
    learning_rate, clip_range = Schedule.parse(config.learning_rate), Schedule.parse(config.clip_range)

    T, E = config.n_steps, run.n_envs
    obs = torch.zeros(T, E, *(shape or ()))
    actions, log_probs, rewards, dones, values = (torch.zeros(T, E) for _ in range(5))
    next_obs = torch.as_tensor(envs.reset(seed=run.seed)[0])
    next_done, returns = torch.zeros(E), np.zeros(E)
    finished: deque[float] = deque(maxlen=100)
    n_updates = -(-run.total_timesteps // (T * E))

    for update in range(n_updates):
        optimizer.param_groups[0]["lr"] = learning_rate.at(update / n_updates)
        for t in range(T):
            obs[t], dones[t] = next_obs, next_done
            with torch.no_grad():
                actions[t], log_probs[t], _, values[t] = model.get_action_and_value(next_obs)
            seen, reward, terminated, truncated, _ = envs.step(actions[t].long().numpy())
            done = np.logical_or(terminated, truncated)
            rewards[t] = torch.as_tensor(reward)
            next_obs, next_done = torch.as_tensor(seen), torch.as_tensor(done, dtype=torch.float32)
            returns += reward
            finished.extend(returns[done].tolist())
            returns[done] = 0.0

        with torch.no_grad():
            next_value = model.critic(next_obs).flatten()
            advantages, trace = torch.zeros(T, E), torch.zeros(E)
            for t in reversed(range(T)):
                goes_on = 1.0 - (next_done if t == T - 1 else dones[t + 1])
                following = next_value if t == T - 1 else values[t + 1]
                delta = rewards[t] + config.gamma * following * goes_on - values[t]
                advantages[t] = trace = delta + config.gamma * config.gae_lambda * goes_on * trace

        _learn(
            model,
            optimizer,
            (obs.flatten(0, 1), actions.flatten(), log_probs.flatten(), advantages.flatten(), values.flatten()),
            config,
            clip_range.at(update / n_updates),
        )
        clock.learning((update + 1) * T * E)
    clock.stop()
    envs.close()
    return n_updates * T * E, [float(np.mean(finished)) if finished else math.nan]


def _learn(
    model: Agent, optimizer: torch.optim.Adam, rollout: tuple[Tensor, ...], config: PPOConfig, clip_range: float
) -> None:
    """All epochs over a rollout ``[T E, ...]`` of observations, actions, log-probabilities, advantages and values."""
    obs, actions, old_log_probs, advantages, old_values = rollout
    value_targets = advantages + old_values
    indices, clip_fractions = np.arange(len(obs)), []
    for _ in range(config.n_epochs):
        np.random.shuffle(indices)
        for start in range(0, len(obs), config.batch_size):
            chosen = indices[start : start + config.batch_size]
            _, log_prob, entropy, value = model.get_action_and_value(obs[chosen], actions[chosen].long())
            log_ratio = log_prob - old_log_probs[chosen]
            ratio = log_ratio.exp()
            with torch.no_grad():
                approx_kl = ((ratio - 1.0) - log_ratio).mean()
                clip_fractions.append(((ratio - 1.0).abs() > clip_range).float().mean().item())

            advantage = advantages[chosen]
            if config.normalize_advantage:
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            policy_loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(1.0 - clip_range, 1.0 + clip_range))
            error = (value - value_targets[chosen]) ** 2
            if config.clip_range_vf is not None:
                old_value = old_values[chosen]
                moved = old_value + (value - old_value).clamp(-config.clip_range_vf, config.clip_range_vf)
                error = torch.max(error, (moved - value_targets[chosen]) ** 2)
            loss = policy_loss.mean() - float(config.ent_coef) * entropy.mean() + config.vf_coef * 0.5 * error.mean()

            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
        if config.target_kl is not None and approx_kl > config.target_kl:
            break


def _perceptron(sizes: tuple[int, ...], *, last_gain: float) -> nn.Sequential:
    """Linear layers with tanh between them; orthogonal weights, gain sqrt(2) but in the last, biases of 0."""
    layers: list[nn.Module] = []
    for i, (n_in, n_out) in enumerate(pairwise(sizes)):
        linear = nn.Linear(n_in, n_out)
        nn.init.orthogonal_(linear.weight, last_gain if i == len(sizes) - 2 else 2.0**0.5)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
