"""The environments of one run, stepped by several processes: each its own, and all of them see what came of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from entropic_rl.episodes import Episodes
from entropic_rl.errors import ConfigError, UserError
from entropic_rl.health import Evidence
from entropic_rl.ranks import Ranks
from entropic_rl.vector import EnvBatch, Transition

__all__ = ["SharedEnvs", "share"]

_OPTIONAL = ("final_obs", "next_mask", "final_mask", "valid", "next_valid", "starts")
_STOP, _FAILED, _BROKEN = (1 << (len(_OPTIONAL) + i) for i in range(3))


def share(local: EnvBatch, agent: Any, ranks: Ranks, *, success_return: float | None) -> EnvBatch:
    """The environments of all processes, from which the agent learns its part; alone, those that are there.

    Args:
        local: this process's.
        agent: learns with the others from now on.
        ranks: the processes.
        success_return: return from which an episode counts as a success; None if none does.

    Raises:
        ConfigError: the agent cannot.
    """
    if ranks.size == 1:
        return local
    if not hasattr(agent, "ranks"):
        raise ConfigError("torchrun serves ppo, a2c and sac; train other agents in one process")
    agent.ranks = ranks
    n_envs = local.n_envs * ranks.size
    episodes = Episodes(local.n_runs, n_envs, success_return=success_return, device=ranks.device)
    return cast(EnvBatch, SharedEnvs(local, ranks, episodes))


class SharedEnvs:
    """As :class:`EnvBatch`, of which every process steps an equal part; what it gives is the same in all of them.

    Args:
        local: this process's environments, ``E / size`` of each run.
        ranks: the processes.
        episodes: counts the episodes of all environments.

    Attributes:
        episodes: the same.
        mask: ``[R, E, A]`` boolean, which actions are allowed now; None if the env forbids none.
        broken: runs whose environments gave numbers that are not finite, and where.
        evidence: empty; the environments of a run lie in several processes.
    """

    NO_STATE = ("_ranks", "_like")

    def __init__(self, local: EnvBatch, ranks: Ranks, episodes: Episodes) -> None:
        self._local, self._ranks, self.episodes = local, ranks, episodes
        self.n_runs, self.n_envs = local.n_runs, local.n_envs * ranks.size
        self.mask: Tensor | None = None
        self.broken: dict[int, str] = {}
        self.evidence: dict[int, Evidence] = {}
        self._mine = slice(*ranks.part(self.n_envs))

    @property
    def env(self) -> VectorEnv[Any, Any, Any]:
        """What this process steps."""
        return self._local.env

    def reset(self, seeds: Sequence[Sequence[int]]) -> Tensor:
        """Begin new episodes, sub-env e of run r from ``seeds[r][e]``; first observations ``[R, E, D]``."""
        obs = self._ranks.agree(lambda: self._local.reset([run[self._mine] for run in seeds]))
        nothing = torch.zeros_like(obs[..., 0])
        done = torch.zeros_like(nothing, dtype=torch.bool)
        self.episodes.restart()
        begun = self._like = Transition(obs, nothing, done, done, None, None, next_mask=self._local.mask)
        first, _ = self._gathered(begun, nothing.double(), torch.zeros(self.n_runs, self.n_envs))
        return first.next_obs

    def step(self, action: Tensor) -> Transition:
        """Act with ``[R, E, *event]``, of which every process has the same.

        Raises:
            UserError: an environment of any process failed, or the processes differ in what they do.
        """
        error = ""
        try:
            transition, reward = self._local.answer(action[:, self._mine].contiguous())
            self._like = transition
        except UserError as caught:
            error, transition = str(caught), self._like
            reward = transition.reward.double()
        transition, reward = self._gathered(transition, reward, action, error)
        ended = transition.terminated | transition.truncated if transition.final_obs is not None else None
        self.episodes.add(reward, ended, transition.valid)
        return transition

    def close(self) -> None:
        """Close the sub-environments of this process."""
        self._local.close()

    def _gathered(self, own: Transition, reward: Tensor, action: Tensor, error: str = "") -> tuple[Transition, Tensor]:
        """The transition of all environments and their raw rewards ``[R, E]``, from this process's."""
        ranks, local = self._ranks, self._local
        flags = sum(1 << i for i, name in enumerate(_OPTIONAL) if getattr(own, name) is not None)
        if ranks.should_stop is not None and ranks.should_stop():
            flags |= _STOP
        flags |= (_FAILED if error else 0) | (_BROKEN if local.broken.keys() - self.broken.keys() else 0)
        head = torch.tensor([flags, _checksum(action)], device=own.reward.device)
        nowhere = torch.zeros_like(own.terminated)
        # What is often there, and short, always travels; what is long only with an episode's end.
        usual = {"valid": ~nowhere, "next_valid": ~nowhere, "starts": nowhere}
        short = [other if (part := getattr(own, name)) is None else part for name, other in usual.items()]
        everybody = ranks.gather(
            [head, own.next_obs, own.reward, reward.double(), own.terminated, own.truncated, *short]
        )
        heads = [part[0].tolist() for part in everybody]
        known = 0
        for flags, _ in heads:
            known |= flags
        self._take_notes(known, error, [checksum for _, checksum in heads])
        parts = [torch.cat(parts, 1) for parts in list(zip(*everybody, strict=True))[1:]]
        next_obs, reward_, raw, terminated, truncated = parts[:5]
        has = {name: bool(known & 1 << i) for i, name in enumerate(_OPTIONAL)}
        optional = {name: part if has[name] else None for name, part in zip(_OPTIONAL[3:], parts[5:], strict=True)}
        long = {name: self._of_all(own, name) if has[name] else None for name in _OPTIONAL[:3]}
        self.mask = long["next_mask"]
        return replace(
            own, next_obs=next_obs, reward=reward_, terminated=terminated, truncated=truncated, **optional, **long
        ), raw

    def _of_all(self, own: Transition, name: str) -> Tensor:
        """A part that at least one process has; what the others give in its place is looked at by nobody."""
        mine = getattr(own, name)
        if mine is None:
            mine = own.next_obs if name == "final_obs" else own.next_mask
        return torch.cat([part for (part,) in self._ranks.gather([mine])], 1)

    def _take_notes(self, known: int, error: str, checksums: Sequence[int]) -> None:
        """What processes have to tell each other that is no number.

        Raises:
            UserError: something failed.
        """
        ranks = self._ranks
        ranks.asked = ranks.asked or bool(known & _STOP)
        if known & _FAILED:
            ranks.raise_first(ranks.texts(error))
        if len({*checksums}) > 1:
            differ = "the processes do not choose the same actions any more: expected equal machines and versions"
            ranks.raise_first([f"{differ}; give all of them the same processors, packages and --num-threads"])
        if known & _BROKEN:
            texts = ranks.texts(self._local.broken.get(0, ""))
            number, why = next((number, text) for number, text in enumerate(texts) if text)
            self.broken[0] = f"process {number} of {ranks.size}, {why}"


def _checksum(action: Tensor) -> int:
    """A number that differs where actions differ, as good as always."""
    words = action.detach().contiguous().view(torch.int32).flatten().to(torch.int64)
    return int((words * (2 * torch.arange(len(words), device=words.device) + 1)).sum())
