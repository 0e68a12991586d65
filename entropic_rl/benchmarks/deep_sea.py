"""The behaviour suite's DeepSea score, and the law that a uniform policy follows on it.

Rules of the score: an agent plays each size for at most 10,000 episodes. An episode is bad if it does not find the
treasure; a size is solved at the first episode at which the share of bad episodes so far is below 0.9. The score is
the share of sizes solved before episode 2^N + 100, about when chance alone would have found the treasure once.

Source: Osband et al. (2020), https://arxiv.org/abs/1908.03568. Differs: the share is looked at after each update
instead of at chosen episodes, and with several environments the episodes of all of them are counted. The suite's plots
say 0.9, as here; its code has had 0.8 in some versions.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from entropic_rl.config import RunConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

__all__ = ["MAX_EPISODES", "first_successes", "play", "score_table", "uniform_law"]

MAX_EPISODES = 10_000
_BAD_SHARE = 0.9
_FORGIVENESS = 100
_SUCCESS = 0.5  # of the return; the treasure pays 1, everything else at most 0


def play(agent_class: Any, run: RunConfig, configs: Sequence[Any], size: int, n_seeds: int) -> list[dict[str, Any]]:
    """Train configurations x seeds as one batch on one size.

    Returns:
        Per run, configuration by configuration: ``solved_at`` (episode, or None), ``episodes`` played, ``successes``,
        ``first_success`` (env steps, or None).
    """
    seeds = [run.seed + i for _ in configs for i in range(n_seeds)]
    repeated = [config for config in configs for _ in range(n_seeds)]
    env = make_vector_env("entropic_rl/DeepSea-v0", len(seeds) * run.n_envs, {"size": size}, backend="batched")
    observation, action = observation_spec(env.single_observation_space), action_spec(env.single_action_space)
    envs = EnvBatch(env, len(seeds), observation=observation, action=action, success_return=_SUCCESS)
    agent = agent_class(repeated, seeds, observation=observation, action=action, n_envs=run.n_envs)
    solved_at: list[int | None] = [None] * len(seeds)
    rollout = agent.steps_per_update * run.n_envs
    steps = MAX_EPISODES * size // rollout * rollout  # whole rollouts that stay within the episodes allowed
    for _ in train(agent, envs, total_timesteps=steps, seeds=seeds):
        played, found = envs.episodes.n_finished.tolist(), envs.episodes.n_succeeded.tolist()
        for i, (episodes, successes) in enumerate(zip(played, found, strict=True)):
            if solved_at[i] is None and episodes and 1.0 - successes / episodes < _BAD_SHARE:
                solved_at[i] = episodes
        if None not in solved_at:
            break
    firsts = envs.episodes.first_success.tolist()
    return [
        {
            "size": size,
            "ent_coef": config.ent_coef,
            "seed": seed,
            "solved_at": solved,
            "episodes": episodes,
            "successes": successes,
            "first_success": None if first < 0 else first,
        }
        for config, seed, solved, episodes, successes, first in zip(
            repeated, seeds, solved_at, played, found, firsts, strict=True
        )
    ]


def solved_in_time(result: dict[str, Any]) -> bool:
    """Whether a run counts towards the score."""
    return result["solved_at"] is not None and result["solved_at"] < 2 ** result["size"] + _FORGIVENESS


def score_table(results: Sequence[dict[str, Any]]) -> str:
    """Results as a Markdown table: a row per coefficient, a column per size, and the score."""
    sizes = sorted({result["size"] for result in results})
    coefs = list(dict.fromkeys(result["ent_coef"] for result in results))
    lines = [
        "| ent_coef | " + " | ".join(f"N = {size}" for size in sizes) + " | score |",
        "| --- " * (2 + len(sizes)) + "|",
    ]
    for coef in coefs:
        own = [result for result in results if result["ent_coef"] == coef]
        cells = [_cell([result for result in own if result["size"] == size]) for size in sizes]
        score = statistics.fmean(float(solved_in_time(result)) for result in own)
        lines.append(f"| {coef} | " + " | ".join(cells) + f" | **{score:.2f}** |")
    return "\n".join(lines)


def _cell(results: Sequence[dict[str, Any]]) -> str:
    counted = sum(map(solved_in_time, results))
    solved = [result["solved_at"] for result in results if result["solved_at"] is not None]
    found = sum(result["first_success"] is not None for result in results)
    middle = f", episode {statistics.median(solved):,.0f}" if solved else ""
    return f"{counted} of {len(results)}{middle}; found by {found}"


@torch.no_grad()
def first_successes(size: int, n_runs: int, seed: int = 0) -> list[int]:
    """Episodes until the first success of ``n_runs`` uniformly random runs."""
    env = make_vector_env("entropic_rl/DeepSea-v0", n_runs, {"size": size}, backend="batched")
    actions = Stream([seed], "uniform actions")
    env.reset(seed=seed)
    first = torch.zeros(n_runs, dtype=torch.int64)
    episode = 0
    while bool((first == 0).any()):
        episode += 1
        choices = actions.bits(size, n_runs)[0] & 1  # [N, n_runs], the actions of a whole episode
        total = torch.zeros(n_runs)
        for choice in choices:
            _, reward, _, _, _ = env.step(choice)
            total += reward
        first = torch.where((first == 0) & (total > _SUCCESS), episode, first)
    return first.tolist()


def uniform_law(size: int, firsts: Sequence[int]) -> str:
    """What the runs say about the law, in one line."""
    mean, law = statistics.fmean(firsts), 2**size
    error = statistics.stdev(firsts) / len(firsts) ** 0.5
    return (
        f"N = {size}: first success after {mean:,.1f} +- {error:,.1f} episodes (mean, its error, {len(firsts)} runs)"
        f"; 2^N = {law:,}, ratio {mean / law:.3f}; median {statistics.median(firsts):,.0f}, law {0.6931 * law:,.0f}"
    )
