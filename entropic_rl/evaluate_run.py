"""Evaluating a policy from its run directory: numbers, a window, or videos."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import AutoresetMode

from entropic_rl.agents.config import action_head
from entropic_rl.cell import read_cell
from entropic_rl.environments import Backend, copies_at_once, import_gym_packages, make_env, make_vector_env
from entropic_rl.errors import ConfigError
from entropic_rl.spaces import observation_spec

__all__ = ["evaluate_directory"]


def evaluate_directory(
    directory: Path,
    *,
    episodes: int,
    deterministic: bool = True,
    seed: int = 20_000,
    env: str | None = None,
    max_steps: int = 10_000,
    device: str = "cpu",
    render: bool = False,
    video: Path | None = None,
    gym_packages: Sequence[str] = (),
) -> dict[str, Any]:
    """Evaluate the policy in a run directory; the result is ready for JSON.

    Args:
        directory: of a finished training.
        episodes: how many to run.
        deterministic: take the likeliest action instead of a sample.
        seed: of the episodes' starts and of the sampling noise.
        env: another environment than the training's, with the same spaces once the training's wrappers are around it.
        max_steps: episodes are cut off there.
        device: where the policy runs.
        render: show the episodes in a window.
        video: directory for one mp4 per episode.
        gym_packages: packages to import first instead of the training's.

    Raises:
        UserError: the directory holds no policy, or the policy does not fit the environment.
    """
    cell = read_cell(directory)
    run, config = cell.run, cell.config
    import_gym_packages(gym_packages or run.gym_packages)
    env_id = env or run.env
    kwargs = run.env_kwargs if env is None else {}
    watched = render or video is not None
    if watched:
        kwargs = {**kwargs, "render_mode": "human" if render else "rgb_array"}
    backend: Backend = "sync" if watched else run.env_backend if env is None else "auto"
    probe = make_env(env_id, kwargs, wrappers=run.env_wrappers)
    observation = observation_spec(probe.observation_space).stacked(run.frame_stack)
    action = action_head(config, probe.action_space)
    probe.close()
    wrap = None if video is None else partial(_record, directory=video)
    if video is not None and find_spec("moviepy") is None:
        raise ConfigError('--video needs moviepy, which is not installed; run: pip install "entropic-rl[video]"')

    from entropic_rl.devices import load_device
    from entropic_rl.evaluation import evaluate
    from entropic_rl.policy_files import load_policy

    policy = load_policy(directory, observation, action, device=load_device(device))
    [result] = evaluate(
        policy,
        partial(
            make_vector_env,
            env_id,
            kwargs=kwargs,
            backend=backend,
            wrappers=run.env_wrappers,
            wrap=wrap,
            autoreset_mode=AutoresetMode.DISABLED,
        ),
        observation,
        episodes=episodes,
        deterministic=deterministic,
        seed=seed,
        max_steps=max_steps,
        n_envs=1 if watched else copies_at_once(backend),
    )
    return {
        "env": env_id,
        "run_dir": str(directory),
        "episodes": episodes,
        "deterministic": deterministic,
        "seed": seed,
        "mean_reward": result.mean,
        "std_reward": result.std,
        "returns": list(result.returns),
        "interval": list(result.interval()),
        "mean_ep_length": sum(result.lengths) / episodes,
    }


def _record(env: gym.Env[Any, Any], *, directory: Path) -> gym.Env[Any, Any]:
    return gym.wrappers.RecordVideo(env, str(directory), episode_trigger=lambda _: True)
