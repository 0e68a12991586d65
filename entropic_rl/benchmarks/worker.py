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
from pathlib import Path
from typing import Any

from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.allocation import keep_freed_memory
from entropic_rl.cell import settings_class
from entropic_rl.config import RunConfig, build, field_docs, jsonable
from entropic_rl.errors import ConfigError
from entropic_rl.streams import Stream


def main() -> None:
    """Read the task, train, print the result."""
    task = json.load(sys.stdin)
    run = build(RunConfig, task["run"])
    config: Any = build(AGENT_CONFIGS[task["agent"]], task["config"])
    import torch

    keep_freed_memory()
    torch.set_num_threads(run.num_threads)
    train = {"ours": train_ours, "sb3": train_sb3}[sys.argv[1]]
    print(json.dumps(train(task["agent"], run, config)))


def train_ours(agent: str, run: RunConfig, config: Any) -> dict[str, Any]:
    """Train with this toolkit, through the code that ``scripts/train.py`` calls."""
    from entropic_rl.agents import agent_class
    from entropic_rl.cell import Cell
    from entropic_rl.evaluate_run import evaluate_directory
    from entropic_rl.runs import train_cells

    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "run"
        [summary] = train_cells(agent_class(agent), [Cell(agent, run, config, directory)])
        result = evaluate_directory(directory, episodes=run.eval_episodes, seed=run.eval_seed)
    return {
        "fps": summary["time/fps"],
        "seconds": summary["time/time_elapsed"],
        "returns": result["returns"],
    }


def train_sb3(agent: str, run: RunConfig, config: Any) -> dict[str, Any]:
    """Train Stable-Baselines3's agent of the same name with the same settings."""
    from stable_baselines3.common.evaluation import evaluate_policy

    from entropic_rl.sb3.model import make_sb3_envs, make_sb3_model, normalized

    warnings.filterwarnings("ignore", module="stable_baselines3")
    config = of_sb3(agent, config)
    seed = run.seed % 2**31
    env = normalized(make_sb3_envs(run, run.n_envs, seed=seed), config)
    model = make_sb3_model(f"sb3:{agent.upper()}", config, env, seed=seed)
    started = time.perf_counter()
    model.learn(run.total_timesteps)
    seconds = time.perf_counter() - started
    starts = Stream([run.eval_seed], "evaluation environment").seeds(1)[0][0]
    eval_env = make_sb3_envs(run, min(run.eval_episodes, 50), seed=starts)
    if config.normalize_obs:
        eval_env = normalized(eval_env, config)
        eval_env.obs_rms, eval_env.training, eval_env.norm_reward = env.obs_rms, False, False
    returns, _ = evaluate_policy(model, eval_env, run.eval_episodes, return_episode_rewards=True)
    return {"fps": model.num_timesteps / seconds, "seconds": seconds, "returns": list(map(float, returns))}


def of_sb3(agent: str, config: Any) -> Any:
    """Our settings as those of Stable-Baselines3's agent: the same object for PPO and A2C, translated for SAC.

    Raises:
        ConfigError: it has no such agent.
    """
    if agent in ("discrete-sac", "soft-q"):
        raise ConfigError(f"Stable-Baselines3 has no {agent}; use --only ours")
    cls = settings_class(f"sb3:{agent.upper()}")
    if isinstance(config, cls):
        return config
    shared = {name: value for name, value in jsonable(config).items() if name in field_docs(cls)}
    if isinstance(config.ent_coef, str):
        shared["ent_coef"] = config.ent_coef.replace(":", "_")  # auto:0.1 is auto_0.1 there
    return build(cls, shared)


if __name__ == "__main__":
    main()
