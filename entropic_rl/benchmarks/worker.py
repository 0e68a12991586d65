"""One training in a process of its own, ours or Stable-Baselines3's, with the same settings.

``python -m entropic_rl.benchmarks.worker ours|sb3`` reads ``{"agent", "run", "config"}`` as JSON from its input and
prints ``{"fps", "seconds", "returns", "lengths"}``: env steps per second of the whole training (imports and evaluation
left out), and the deterministic evaluation episodes.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.config import RunConfig, build
from entropic_rl.errors import ConfigError
from entropic_rl.schedules import Schedule
from entropic_rl.streams import Stream


def main() -> None:
    """Read the task, train, print the result."""
    task = json.load(sys.stdin)
    run = build(RunConfig, task["run"])
    config: Any = build(AGENT_CONFIGS[task["agent"]], task["config"])
    import torch

    torch.set_num_threads(run.num_threads)
    train = {"ours": train_ours, "sb3": train_sb3}[sys.argv[1]]
    print(json.dumps(train(task["agent"], run, config)))


def train_ours(agent: str, run: RunConfig, config: Any) -> dict[str, Any]:
    """Train with this toolkit, through the code that ``scripts/train.py`` calls."""
    from entropic_rl import agents
    from entropic_rl.evaluate_run import evaluate_directory
    from entropic_rl.runs import Cell, train_cells

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        agent_class = getattr(agents, agent.upper())
        [summary] = train_cells(agent, agent_class, [Cell(run, config, directory)], progress=False)
        result = evaluate_directory(directory, episodes=run.eval_episodes, seed=run.eval_seed)
    return {
        "fps": summary["time/fps"],
        "seconds": summary["time/time_elapsed"],
        "returns": result["returns"],
    }


def train_sb3(agent: str, run: RunConfig, config: Any) -> dict[str, Any]:
    """Train Stable-Baselines3's agent of the same name with the same settings."""
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.vec_env import VecNormalize

    warnings.filterwarnings("ignore", module="stable_baselines3")
    env = _sb3_envs(run, run.n_envs, run.seed)
    if config.normalize_obs or config.normalize_reward:
        env = VecNormalize(env, norm_obs=config.normalize_obs, norm_reward=config.normalize_reward, gamma=config.gamma)
    model = sb3_model(agent, config, env, run.seed)
    started = time.perf_counter()
    model.learn(run.total_timesteps)
    seconds = time.perf_counter() - started
    starts = Stream([run.eval_seed], "evaluation environment").seeds(1)[0][0]
    eval_env = _sb3_envs(run, min(run.eval_episodes, 50), starts)
    if isinstance(env, VecNormalize):
        eval_env = VecNormalize(eval_env, norm_obs=config.normalize_obs, norm_reward=False, training=False)
        eval_env.obs_rms = env.obs_rms
    returns, _ = evaluate_policy(model, eval_env, run.eval_episodes, return_episode_rewards=True)
    return {"fps": model.num_timesteps / seconds, "seconds": seconds, "returns": list(map(float, returns))}


def sb3_model(agent: str, config: Any, env: Any, seed: int) -> Any:
    """An SB3 model with our settings."""
    import stable_baselines3
    from torch import nn

    for name in ("share_features", "squash_output"):
        if getattr(config, name):
            raise ConfigError(f"{name}: Stable-Baselines3 has no counterpart to compare with; leave it off")
    activations = {
        "tanh": nn.Tanh,
        "relu": nn.ReLU,
        "leaky_relu": nn.LeakyReLU,
        "elu": nn.ELU,
        "gelu": nn.GELU,
        "silu": nn.SiLU,
        "sigmoid": nn.Sigmoid,
    }
    widths = list(config.net_arch)
    policy_kwargs: dict[str, Any] = {
        "net_arch": {"pi": widths, "vf": widths},
        "activation_fn": activations[config.activation],
        "log_std_init": config.log_std_init,
    }
    shared = {
        name: getattr(config, name)
        for name in ("n_steps", "gamma", "gae_lambda", "vf_coef", "max_grad_norm", "normalize_advantage")
    }
    shared |= {"learning_rate": _sb3_schedule(config.learning_rate), "ent_coef": float(config.ent_coef)}
    if agent == "ppo":
        shared |= {name: getattr(config, name) for name in ("batch_size", "n_epochs", "target_kl", "clip_range_vf")}
        shared["clip_range"] = _sb3_schedule(config.clip_range)
    model = getattr(stable_baselines3, agent.upper())
    return model("MlpPolicy", env, seed=seed, device="cpu", policy_kwargs=policy_kwargs, **shared)


def _sb3_schedule(spec: float | str) -> float | Callable[[float], float]:
    """SB3's schedules take the progress that remains."""
    schedule = Schedule.parse(spec)
    return schedule.start if schedule.kind == "constant" else lambda remaining: schedule.at(1.0 - remaining)


def _sb3_envs(run: RunConfig, n: int, seed: int) -> Any:
    import gymnasium as gym
    import numpy as np
    from stable_baselines3.common.env_util import make_vec_env

    def rescale(env: gym.Env[Any, Any]) -> gym.Env[Any, Any]:
        """Box actions in units where the bounds are -1 and 1, as our agents take them."""
        if isinstance(env.action_space, gym.spaces.Box):
            return gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
        return env

    return make_vec_env(run.env, n, seed=seed % 2**31, env_kwargs=run.env_kwargs, wrapper_class=rescale)


if __name__ == "__main__":
    main()
