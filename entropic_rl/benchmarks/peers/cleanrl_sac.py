"""SAC in one file of plain PyTorch.

The details are those of CleanRL's ``sac_continuous_action.py`` (Huang et al. 2022,
https://github.com/vwxyzjn/cleanrl): a Gaussian squashed by tanh whose log standard deviation is itself squashed into
[-5, 2], two critics, the actor stepped twice at every second update, targets that follow at each, a coefficient
learned as a logarithm. Rates and sizes are those of the settings.
"""

from __future__ import annotations

import math
from collections import deque
from itertools import chain, pairwise

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.nn import functional as F

from entropic_rl.agents.config import SACConfig
from entropic_rl.benchmarks.peers.clock import Clock
from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.schedules import Schedule

__all__ = ["train"]

_LOWEST, _HIGHEST = -5.0, 2.0  # of the log standard deviation
_POLICY_FREQUENCY = 2


class Actor(nn.Module):
    """A squashed Gaussian of actions for observations, both flat; ``low, high [A]`` are the actions' bounds."""

    scale: Tensor
    centre: Tensor

    def __init__(self, n_inputs: int, low: np.ndarray, high: np.ndarray, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.body = _body((n_inputs, *widths))
        self.mean, self.log_std = nn.Linear(widths[-1], len(low)), nn.Linear(widths[-1], len(low))
        self.register_buffer("scale", torch.as_tensor((high - low) / 2.0, dtype=torch.float32))
        self.register_buffer("centre", torch.as_tensor((high + low) / 2.0, dtype=torch.float32))

    def get_action(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Actions ``[B, A]`` for ``obs [B, D]``, and their log-probabilities ``[B, 1]``."""
        hidden = self.body(obs)
        log_std = _LOWEST + 0.5 * (_HIGHEST - _LOWEST) * (self.log_std(hidden).tanh() + 1.0)
        normal = torch.distributions.Normal(self.mean(hidden), log_std.exp())
        before = normal.rsample()
        squashed = before.tanh()
        log_prob = normal.log_prob(before) - torch.log(self.scale * (1.0 - squashed**2) + 1e-6)
        return squashed * self.scale + self.centre, log_prob.sum(1, keepdim=True)


class Critic(nn.Module):
    """The value of an action, ``[B, 1]``."""

    def __init__(self, n_inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.body = _body((n_inputs, *widths))
        self.head = nn.Linear(widths[-1], 1)

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        """``obs [B, D]``, ``action [B, A]``."""
        return self.head(self.body(torch.cat([obs, action], 1)))


class Memory:
    """Transitions of one environment, ``[capacity, ...]``."""

    def __init__(self, capacity: int, n_obs: int, n_action: int) -> None:
        sizes = {"obs": n_obs, "next_obs": n_obs, "action": n_action, "reward": 1, "terminated": 1}
        self._columns = {name: np.zeros((capacity, size), np.float32) for name, size in sizes.items()}
        self._capacity, self._n_added = capacity, 0

    def add(self, **columns: np.ndarray) -> None:
        """Keep one transition, in the place of the oldest if there is no other."""
        for name, value in columns.items():
            self._columns[name][self._n_added % self._capacity] = value
        self._n_added += 1

    def sample(self, n: int) -> dict[str, Tensor]:
        """``n`` of them with replacement, ``[n, ...]`` by name."""
        rows = np.random.randint(0, min(self._n_added, self._capacity), n)
        return {name: torch.from_numpy(column[rows]) for name, column in self._columns.items()}


class Learner:
    """Networks, optimizers and the coefficient."""

    def __init__(self, n_obs: int, space: gym.spaces.Box, config: SACConfig) -> None:
        self._config, n_action = config, int(np.prod(space.shape))
        self.actor = Actor(n_obs, space.low, space.high, config.net_arch)
        self._critics = [Critic(n_obs + n_action, config.net_arch) for _ in range(2)]
        self._targets = [Critic(n_obs + n_action, config.net_arch) for _ in range(2)]
        for critic, target in zip(self._critics, self._targets, strict=True):
            target.load_state_dict(critic.state_dict())
        rate = Schedule.parse(config.learning_rate).start
        parameters = chain.from_iterable(critic.parameters() for critic in self._critics)
        self._critic_optimizer = torch.optim.Adam(list(parameters), lr=rate)
        self._actor_optimizer = torch.optim.Adam(list(self.actor.parameters()), lr=rate)
        self._target_entropy, self._log_alpha = -float(n_action), torch.zeros(1, requires_grad=True)
        self._alpha, self._alpha_optimizer = 1.0, torch.optim.Adam([self._log_alpha], lr=rate)

    def learn(self, batch: dict[str, Tensor], step: int) -> None:
        """One step of the critics, and at every second one two of the actor and of the coefficient."""
        obs, action, next_obs = batch["obs"], batch["action"], batch["next_obs"]
        with torch.no_grad():
            next_action, next_log_prob = self.actor.get_action(next_obs)
            next_q = torch.min(*(target(next_obs, next_action) for target in self._targets))
            goes_on = 1.0 - batch["terminated"]
            q_target = batch["reward"] + goes_on * self._config.gamma * (next_q - self._alpha * next_log_prob)
        critic_loss = sum(F.mse_loss(critic(obs, action), q_target) for critic in self._critics)
        self._critic_optimizer.zero_grad()
        critic_loss.backward()  # type: ignore[union-attr]
        self._critic_optimizer.step()

        if step % _POLICY_FREQUENCY == 0:
            for _ in range(_POLICY_FREQUENCY):
                self._learn_to_act(obs)

        for critic, target in zip(self._critics, self._targets, strict=True):
            for own, following in zip(critic.parameters(), target.parameters(), strict=True):
                following.data.copy_(self._config.tau * own.data + (1.0 - self._config.tau) * following.data)

    def _learn_to_act(self, obs: Tensor) -> None:
        action, log_prob = self.actor.get_action(obs)
        q_value = torch.min(*(critic(obs, action) for critic in self._critics))
        actor_loss = (self._alpha * log_prob - q_value).mean()
        self._actor_optimizer.zero_grad()
        actor_loss.backward()
        self._actor_optimizer.step()

        with torch.no_grad():
            _, log_prob = self.actor.get_action(obs)
        alpha_loss = (-self._log_alpha.exp() * (log_prob + self._target_entropy)).mean()
        self._alpha_optimizer.zero_grad()
        alpha_loss.backward()
        self._alpha_optimizer.step()
        self._alpha = self._log_alpha.exp().item()


def train(job: Job, clock: Clock) -> tuple[int, list[float]]:
    """Train one run in one environment; its env steps, and the mean return of its last 100 training episodes."""
    run, config = job.run, job.config
    np.random.seed(run.seed)
    torch.manual_seed(run.seed)
    envs = SyncVectorEnv([lambda: gym.make(run.env)], autoreset_mode=AutoresetMode.SAME_STEP)
    space = envs.single_action_space
    n_obs = int(np.prod(envs.single_observation_space.shape or ()))
    learner = Learner(n_obs, space, config)  # type: ignore[arg-type]
    memory = Memory(min(config.buffer_size, run.total_timesteps), n_obs, int(np.prod(space.shape or ())))
    finished: deque[float] = deque(maxlen=100)
    obs, total = envs.reset(seed=run.seed)[0], 0.0

    for step in range(run.total_timesteps):
        if step < config.learning_starts:
            action = np.array([space.sample()])
        else:
            with torch.no_grad():
                action = learner.actor.get_action(torch.as_tensor(obs))[0].numpy()
        next_obs, reward, terminated, truncated, info = envs.step(action)
        ended = bool(terminated[0] or truncated[0])
        following = info["final_obs"][0] if ended else next_obs[0]
        memory.add(obs=obs[0], next_obs=following, action=action[0], reward=reward, terminated=terminated)
        obs, total = next_obs, total + float(reward[0])
        if ended:
            finished.append(total)
            total = 0.0
        if step >= config.learning_starts:
            learner.learn(memory.sample(config.batch_size), step)
            clock.learning(step + 1)
    clock.stop()
    envs.close()
    return run.total_timesteps, [float(np.mean(finished)) if finished else math.nan]


def _body(sizes: tuple[int, ...]) -> nn.Sequential:
    """Linear layers, each followed by a ReLU."""
    return nn.Sequential(*(layer for n_in, n_out in pairwise(sizes) for layer in (nn.Linear(n_in, n_out), nn.ReLU())))
