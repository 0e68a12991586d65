"""Contracts that users can hold their own agents to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from entropic_rl.agents.config import action_head
from entropic_rl.environments import make_vector_env
from entropic_rl.spaces import observation_spec
from entropic_rl.streams import Stream
from entropic_rl.vector import EnvBatch

__all__ = ["ContractError", "check_agent"]


class ContractError(AssertionError):
    """What an agent, as the loop and the comparisons need it, does not keep; all of it, one per line."""


def check_agent(agent_class: Any, config: Any = None, *, env_id: str = "CartPole-v1", n_updates: int = 3) -> None:
    """Train an agent for a few updates in several ways and list everything in which it breaks the contract.

    - it has ``steps_per_update``, ``policy``, ``act``, ``observe``, ``update``, ``inspect`` and a class attribute
      ``Config`` with ``BATCHABLE``;
    - actions are ``[R, E, *event]``, metrics finite ``[R]`` or NaN by name only;
    - the same seeds give the same parameters, other seeds others;
    - an update changes parameters, and only finite ones result;
    - a run alone equals the same run inside a batch of others: same actions, parameters to 1e-9 in float64.

    Args:
        agent_class: of R runs, built as ``agent_class(configs, seeds, observation=, action=, n_envs=, device=,
            dtype=)``.
        config: settings to check it with; None for the defaults of ``agent_class.Config``.
        env_id: an environment it can take.
        n_updates: updates of each training.

    Raises:
        ContractError: naming every violation.
    """
    flaws = [f"the class has no {name}" for name in ("Config", "act", "observe", "update", "inspect")
             if not hasattr(agent_class, name)]  # fmt: skip
    if flaws:
        raise ContractError("\n".join(flaws))
    config = config or agent_class.Config()
    if not hasattr(config, "BATCHABLE"):
        flaws.append("Config has no BATCHABLE: fields in which the runs of one batch may differ (may be empty)")

    def trained(seeds: Sequence[int]) -> _Trained:
        return _train(agent_class, config, seeds, env_id, n_updates)

    together = trained([3, 4, 5])
    flaws += together.flaws
    checks: list[tuple[str, Callable[[], bool]]] = [
        ("equal seeds gave different parameters: draw every random number from entropic_rl.streams",
         lambda: torch.equal(trained([3, 4, 5]).params, together.params)),
        ("different seeds gave equal parameters: give each run's seed to its streams",
         lambda: not torch.equal(together.params[0], together.params[1])),
        ("the updates left the parameters as they were", lambda: not torch.equal(together.params, together.initial)),
        ("parameters became infinite or NaN", lambda: bool(together.params.isfinite().all())),
        ("a run alone took other actions than inside a batch",
         lambda: torch.equal(trained([4]).actions[:, 0], together.actions[:, 1])),
        ("a run alone ended with other parameters than inside a batch: reduce losses to [R], clip and step per run",
         lambda: torch.allclose(trained([4]).params[0], together.params[1], rtol=0.0, atol=1e-9)),
    ]  # fmt: skip
    flaws += [flaw for flaw, holds in checks if not holds()]
    if flaws:
        raise ContractError("\n".join(flaws))


class _Trained:
    """What a short training left: parameters before and after ``[R, P]``, all actions ``[T, R, E, ...]``, flaws."""

    def __init__(self, initial: Tensor, params: Tensor, actions: Tensor, flaws: list[str]) -> None:
        self.initial, self.params, self.actions, self.flaws = initial, params, actions, flaws


def _train(agent_class: Any, config: Any, seeds: Sequence[int], env_id: str, n_updates: int) -> _Trained:
    n_runs, n_envs, dtype = len(seeds), 2, torch.float64
    vector_env = make_vector_env(env_id, n_runs * n_envs)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_head(config, vector_env.single_action_space)
    envs = EnvBatch(vector_env, n_runs, observation=observation, action=action, dtype=dtype)
    agent = agent_class([config] * n_runs, seeds, observation=observation, action=action, n_envs=n_envs, dtype=dtype)
    initial, actions, flaws = agent.policy.params.values.clone(), [], []
    obs = envs.reset(Stream(seeds, "environment").seeds(n_envs))
    shape = (n_runs, n_envs, *action.event_shape)
    for update in range(n_updates):
        for _ in range(agent.steps_per_update):
            taken = agent.act(obs, envs.mask)
            if taken.shape != shape:
                raise ContractError(f"act has to give actions {shape}, gave {tuple(taken.shape)}")
            transition = envs.step(taken)
            agent.observe(transition)
            actions.append(taken.clone())
            obs = transition.next_obs
        metrics = agent.update((update + 1) / n_updates) | agent.inspect()
        flaws += [
            f"metric {name} has to be [R] = ({n_runs},), is {tuple(value.shape)}"
            for name, value in metrics.items()
            if value.shape != (n_runs,) and update == 0
        ]
    envs.close()
    return _Trained(initial, agent.policy.params.values.clone(), torch.stack(actions), flaws)
