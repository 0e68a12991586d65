"""What acts for on-policy agents and remembers what happened until the update."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from entropic_rl.buffers import Rollout
from entropic_rl.normalization import RewardNormalizer
from entropic_rl.policies import ActorCritic, draw_noise
from entropic_rl.sequences import Chunks
from entropic_rl.streams import Stream
from entropic_rl.vector import Transition

__all__ = ["Collector"]


class Collector:
    """Acts, and remembers what happened until the update.

    Args:
        policy: the networks that act.
        n_steps: T, rows of a rollout.
        n_envs: E, environments per run.
        seeds: one per run, for the action noise.
        reward_normalizer: rewards are stored normalised by it, if given.
        sequence_length: steps of the sequences that a policy with memory learns from.

    Attributes:
        stream: of the action noise.
        chunks: how rollouts are cut into sequences; None if the policy has no memory.
        actor: acts in place of a policy without memory, if it is set: observations, masks and noise to actions.
    """

    def __init__(
        self,
        policy: ActorCritic,
        n_steps: int,
        n_envs: int,
        seeds: Sequence[int],
        reward_normalizer: RewardNormalizer | None = None,
        *,
        sequence_length: int = 1,
    ) -> None:
        values = policy.params.values
        self.policy, self.reward_normalizer = policy, reward_normalizer
        self._noise_shape = (n_steps, n_envs)
        self._valid: Tensor | None = None  # [R, E], which observations about to be acted on start a real step
        self.stream = Stream(seeds, "action", device=values.device)
        self.rollout = Rollout(
            n_steps,
            len(seeds),
            n_envs,
            policy.observation.size,
            policy.action,
            device=values.device,
            dtype=values.dtype,
        )
        self.chunks = Chunks(n_steps, n_envs, min(sequence_length, n_steps)) if policy.is_recurrent else None
        self._state = policy.initial_state(n_envs)
        self.actor: Callable[[Tensor, Tensor | None, Tensor], Tensor] | None = None

    @property
    def reward_scale(self) -> Tensor:
        """What rewards are divided by, ``[R]``."""
        values = self.policy.params.values
        if self.reward_normalizer is None:
            return values.new_ones(len(values))
        return self.reward_normalizer.scale.to(values)

    @torch.no_grad()
    def act(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Actions ``[R, E, *event]`` for raw observations ``[R, E, D]``, of those that ``mask [R, E, A]`` allows."""
        rollout, t = self.rollout, self.rollout.position
        if t == 0:
            self._noise = self.draw()
            rollout.state = self._state
        rollout.obs[t] = self.policy.normalize(obs, update=True, valid=self._valid)
        rollout.set_mask(t, mask)
        if self._state is not None:
            self._state = self._state.masked_fill(rollout.starts[t].unsqueeze(-1), 0.0)
        if self.actor is not None:
            self._action = self.actor(rollout.obs[t], mask, self._noise[:, t])
            return self._action
        distribution, self._state = self.policy.step(rollout.obs[t], mask, self._state)
        self._action = distribution.sample(self._noise[:, t])
        return self._action

    def draw(self) -> Tensor:
        """Noise for a whole rollout at once, ``[R, T, E, n_outputs]``: one draw instead of T."""
        return draw_noise(self.policy.action, self.stream, *self._noise_shape).to(self.rollout.obs.dtype)

    def filled(self, cut_obs: list[tuple[int, Tensor, Tensor]]) -> None:
        """The rollout was filled elsewhere, with these observations that episodes were cut off at."""
        self.rollout.position, self.rollout.cut_obs = len(self.rollout.reward), cut_obs

    @torch.no_grad()
    def observe(self, transition: Transition) -> None:
        """What the environments answered to the last actions."""
        reward = transition.reward
        self._valid = transition.next_valid
        if self.reward_normalizer is not None:
            ended = transition.terminated | transition.truncated
            reward = self.reward_normalizer(reward, ended, transition.valid)
        final_obs = transition.final_obs
        self.rollout.add(
            self._action, reward, transition, None if final_obs is None else self.policy.normalize(final_obs)
        )
        if self.rollout.position == len(self.rollout.reward):
            self.rollout.obs[-1] = self.policy.normalize(transition.next_obs)
            self.rollout.set_mask(-1, transition.next_mask)
