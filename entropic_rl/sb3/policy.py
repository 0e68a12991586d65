"""How Stable-Baselines3's policies act and how random they are, in the terms of our records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor

from entropic_rl.config import RunConfig
from entropic_rl.environments import copies_at_once, make_vector_env
from entropic_rl.evaluation import Evaluation, play_episodes
from entropic_rl.spaces import ActionSpec
from entropic_rl.streams import Stream

__all__ = ["evaluate_sb3", "exploration_metrics", "recent_obs", "rollout_obs", "tabular_sb3_policy"]

_QUANTILES = (0.1, 0.5, 0.9)
_RECENT = 1024  # observations over which SAC's entropy is estimated


def evaluate_sb3(model: Any, run: RunConfig, action: ActionSpec, *, deterministic: bool) -> Evaluation:
    """The episodes of :func:`entropic_rl.evaluation.evaluate`: the same starts, in the same environments.

    Observations are normalised by the training's statistics, which stay as they are. Noise is drawn from generators of
    its own: DQN's from the episode's, as one coin per episode and step (SB3 throws one for all environments).

    Args:
        model: of Stable-Baselines3.
        run: what it is trained on; ``auto`` settled.
        action: how the env's actions are given.
        deterministic: take the mode of the policy instead of a sample, and none of DQN's random actions.
    """
    normalizer, greedy = model.get_vec_normalize_env(), deterministic or isinstance(model, DQN)

    def act(obs: Any, seeds: Sequence[int], steps: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
        seen = obs if normalizer is None else normalizer.normalize_obs(obs)
        chosen, _ = model.predict(seen, deterministic=greedy)
        if greedy and not deterministic:
            stream = Stream(seeds, "evaluation action")
            stream.position = torch.from_numpy(steps.copy())
            coin, other = stream.uniform(2).numpy().T
            chosen = np.where(coin < model.exploration_rate, (other * action.n_outputs).astype(chosen.dtype), chosen)
        return action.to_env(chosen.reshape(-1, *action.event_shape))

    make_envs = partial(
        make_vector_env,
        run.env,
        kwargs=run.env_kwargs,
        backend=run.env_backend,
        wrappers=run.env_wrappers,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    with _aside(run.eval_seed, model.device):
        [result] = play_episodes(
            act,
            make_envs,
            action,
            episodes=run.eval_episodes,
            seed=run.eval_seed,
            max_steps=run.eval_max_steps,
            n_envs=copies_at_once(run.env_backend),
        )
    return result


def exploration_metrics(model: Any, config: Any) -> dict[str, float]:
    """How random the policy is at the states it met, and what entropy weighs, as far as the algorithm has such a thing.

    On-policy algorithms: exact, of the policy that acted on the rollout that lies in the buffer; to be asked before
    it is learned from. SAC: its squashed Gaussian's entropy has no closed form, and both ``train/entropy`` and
    ``explore/policy_entropy`` are the mean of -log pi(a|s), with a fresh action for each of the last observations in
    the replay buffer. Other algorithms have deterministic policies and no entropy.
    """
    if isinstance(model, OnPolicyAlgorithm):
        return _on_policy_metrics(model, config)
    return _sac_metrics(model) if isinstance(model, SAC) else {}


@torch.no_grad()
def _on_policy_metrics(model: Any, config: Any) -> dict[str, float]:
    buffer, obs = model.rollout_buffer, rollout_obs(model)
    entropy = model.policy.get_distribution(obs_as_tensor(obs, model.device)).entropy().cpu().numpy()
    quantiles = np.quantile(entropy, _QUANTILES, method="nearest")
    unit = float(buffer.advantages.std()) if config.normalize_advantage else 1.0
    metrics = {
        "train/ent_coef": float(model.ent_coef),
        "train/effective_temperature": float(model.ent_coef) * unit * _reward_scale(model),
        "explore/policy_entropy": float(entropy.mean()),
    }
    names = [f"explore/policy_entropy_q{100 * q:.0f}" for q in _QUANTILES]
    metrics |= dict(zip(names, map(float, quantiles), strict=True))
    if hasattr(model.policy, "log_std"):  # Box actions, in units where the bounds are -1 and 1
        metrics["explore/saturation"] = float((np.abs(buffer.actions) >= 1.0).mean())
    return metrics


@torch.no_grad()
def _sac_metrics(model: Any) -> dict[str, float]:
    coefficient = model.ent_coef_tensor if model.log_ent_coef is None else model.log_ent_coef.exp()
    obs = recent_obs(model, _RECENT)
    with _aside(0, model.device):
        _, log_prob = model.actor.action_log_prob(obs_as_tensor(obs, model.device))
    entropy, ent_coef = -float(log_prob.mean()), float(coefficient)
    return {
        "train/entropy": entropy,
        "train/ent_coef": ent_coef,
        "train/effective_temperature": ent_coef * _reward_scale(model),
        "explore/policy_entropy": entropy,
    }


def rollout_obs(model: Any) -> Any:
    """What an on-policy model acted on, ``[N, ...]`` as its policy sees it, from the full rollout buffer."""
    return _map(lambda x: x.reshape(-1, *x.shape[2:]), model.rollout_buffer.observations)


def recent_obs(model: Any, n: int) -> Any:
    """About the last ``n`` observations in a replay buffer, ``[N, ...]`` as the policy sees them."""
    buffer = model.replay_buffer
    last = (buffer.pos - 1 - np.arange(min(-(-n // model.n_envs), buffer.size()))) % buffer.buffer_size
    obs = _map(lambda x: x[last].reshape(-1, *x.shape[2:]), buffer.observations)
    normalizer = model.get_vec_normalize_env()
    return obs if normalizer is None else normalizer.normalize_obs(obs)


@torch.no_grad()
def tabular_sb3_policy(model: Any, rules: Any) -> Tensor:
    """Probabilities ``[1, S, A]`` of an on-policy model in every state of an environment that is a table, float64."""
    obs = rules.observe(torch.arange(rules.n_states).unsqueeze(0)).numpy()
    if (normalizer := model.get_vec_normalize_env()) is not None:
        obs = normalizer.normalize_obs(obs)
    distribution = model.policy.get_distribution(obs_as_tensor(obs, model.device))
    return distribution.distribution.probs.to(torch.float64).cpu().unsqueeze(0)


def _reward_scale(model: Any) -> float:
    """What rewards are divided by."""
    normalizer = model.get_vec_normalize_env()
    if normalizer is None or not normalizer.norm_reward:
        return 1.0
    return float(np.sqrt(normalizer.ret_rms.var + normalizer.epsilon))


def _map(change: Any, obs: Any) -> Any:
    """The same change to an array or to each of a dict."""
    return {key: change(value) for key, value in obs.items()} if isinstance(obs, dict) else change(obs)


@contextmanager
def _aside(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from torch's generators without moving those that training draws from."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
