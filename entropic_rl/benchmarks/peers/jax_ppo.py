"""PPO on CartPole as one JAX program: environment, rollouts and updates in a single scan, mapped over runs.

The form is that of PureJaxRL (Lu et al. 2022, https://github.com/luchris429/purejaxrl): nothing returns to Python
between the first env step and the last update, and R runs are one ``vmap``. Episodes that are cut off count as ended,
as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from entropic_rl.agents.config import PPOConfig
from entropic_rl.benchmarks.peers.clock import Clock
from entropic_rl.benchmarks.peers.job import Job
from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError
from entropic_rl.schedules import Schedule

try:
    import jax
    import jax.numpy as jnp
    import optax
except ModuleNotFoundError:  # the extra `peers`; who starts this asks for it first
    jax = jnp = optax = None

__all__ = ["make_program", "reset", "step", "train"]

_WINDOW = 100  # episodes at the end of training, as everyone counts them


class CartPole(NamedTuple):
    """E poles: ``position, velocity, angle, turn [E]``, steps ``length [E]`` of the episodes so far."""

    position: Any
    velocity: Any
    angle: Any
    turn: Any
    length: Any


class _Step(NamedTuple):
    """What a rollout keeps, ``[T, E, ...]``."""

    obs: Any
    action: Any
    log_prob: Any
    value: Any
    reward: Any
    done: Any
    length: Any


def train(job: Job, clock: Clock) -> tuple[int, list[float]]:
    """Train the runs, which may differ in seed and coefficient, as one program; compiling it counts as start-up.

    Returns:
        The env steps that each run made, and the mean return of each one's last 100 training episodes.

    Raises:
        ConfigError: minibatches do not divide a rollout, or it is not CartPole.
    """
    samples = job.run.n_envs * job.config.n_steps
    if samples % job.config.batch_size or job.run.env != "CartPole-v1":
        raise ConfigError("the JAX program expects CartPole-v1 and minibatches that divide a rollout; leave it out")
    keys = jnp.stack([jax.random.key(seed) for seed in job.seeds])
    coefficients = jnp.array([float(config.ent_coef) for config in job.configs])
    program = jax.jit(jax.vmap(make_program(job.run, job.config))).lower(keys, coefficients).compile()
    clock.learning(0)
    lengths = np.asarray(jax.block_until_ready(program(keys, coefficients)))  # [R, updates, T, E]
    clock.stop()
    return lengths[0].size, [_recent(each.ravel()) for each in lengths]


def make_program(run: RunConfig, config: PPOConfig) -> Callable[[Any, Any], Any]:
    """A function of a key and a coefficient that trains one run.

    It returns the lengths of all episodes where they end, ``[updates, T, E]``, 0 elsewhere: the returns of CartPole.
    """
    samples = config.n_steps * run.n_envs
    n_minibatches = samples // config.batch_size
    n_updates = -(-run.total_timesteps // samples)
    learning_rate, clip_range = (_over_training(s, n_updates) for s in (config.learning_rate, config.clip_range))
    steps_per_update = config.n_epochs * n_minibatches
    optimizer = optax.chain(
        optax.clip_by_global_norm(config.max_grad_norm),
        optax.adam(lambda count: learning_rate(count // steps_per_update), eps=1e-5),
    )

    def program(key: Any, ent_coef: Any) -> Any:
        key, net_key, env_key = jax.random.split(key, 3)
        params = _initialise(net_key, config.net_arch)
        envs = reset(env_key, run.n_envs)
        carry = (params, optimizer.init(params), envs, key)
        return jax.lax.scan(lambda carry, i: update(carry, ent_coef, i), carry, jnp.arange(n_updates))[1]

    def update(carry: Any, ent_coef: Any, i: Any) -> Any:
        params, opt_state, envs, key = carry
        (envs, key), rollout = jax.lax.scan(lambda carry, _: act(params, *carry), (envs, key), None, config.n_steps)
        last_value = _value(params, _observe(envs))
        advantage = _advantages(rollout, last_value, config.gamma, config.gae_lambda)
        data = (rollout.obs, rollout.action, rollout.log_prob, rollout.value, advantage, advantage + rollout.value)
        data = jax.tree.map(lambda x: x.reshape(samples, *x.shape[2:]), data)

        def epoch(carry: Any, epoch_key: Any) -> Any:
            shuffled = data
            if n_minibatches > 1:
                order = jax.random.permutation(epoch_key, samples)
                shuffled = jax.tree.map(lambda x: x[order], data)
            minibatches = jax.tree.map(lambda x: x.reshape(n_minibatches, -1, *x.shape[1:]), shuffled)
            return jax.lax.scan(learn, carry, minibatches)

        def learn(carry: Any, minibatch: Any) -> Any:
            params, opt_state = carry
            grads = jax.grad(_loss)(params, minibatch, ent_coef, clip_range(i), config)
            changes, opt_state = optimizer.update(grads, opt_state)
            return (optax.apply_updates(params, changes), opt_state), None

        key, epochs_key = jax.random.split(key)
        (params, opt_state), _ = jax.lax.scan(epoch, (params, opt_state), jax.random.split(epochs_key, config.n_epochs))
        return (params, opt_state, envs, key), rollout.length

    def act(params: Any, envs: CartPole, key: Any) -> Any:
        key, action_key, env_key = jax.random.split(key, 3)
        obs = _observe(envs)
        logits = _mlp(params["actor"], obs)
        action = jax.random.categorical(action_key, logits)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), action[:, None], 1)[:, 0]
        envs, done, length = step(envs, action, env_key)
        kept = _Step(obs, action, log_prob, _value(params, obs), jnp.ones_like(log_prob), done, length * done)
        return (envs, key), kept

    return program


def reset(key: Any, n_envs: int) -> CartPole:
    """New episodes: everything uniform in +-0.05."""
    start = jax.random.uniform(key, (4, n_envs), minval=-0.05, maxval=0.05)
    return CartPole(start[0], start[1], start[2], start[3], jnp.zeros(n_envs, jnp.int32))


def step(envs: CartPole, action: Any, key: Any) -> tuple[CartPole, Any, Any]:
    """Push every cart to the left (0) or right (1) for 0.02 s; episodes that end begin anew.

    The rules are Gymnasium's CartPole-v1: cart 1 kg, pole .1 kg and 1 m, force 10 N, Euler's method, ends beyond 2.4 m,
    12 degrees or after 500 steps; the reward is 1 throughout.

    Returns:
        The poles, which episodes ended ``[E]``, and how long all of them were by then ``[E]``.
    """
    force = jnp.where(action == 1, 10.0, -10.0)
    sine, cosine = jnp.sin(envs.angle), jnp.cos(envs.angle)
    push = (force + 0.05 * envs.turn**2 * sine) / 1.1
    turning = (9.8 * sine - cosine * push) / (0.5 * (4.0 / 3.0 - 0.1 * cosine**2 / 1.1))
    acceleration = push - 0.05 * turning * cosine / 1.1
    moved = CartPole(
        envs.position + 0.02 * envs.velocity,
        envs.velocity + 0.02 * acceleration,
        envs.angle + 0.02 * envs.turn,
        envs.turn + 0.02 * turning,
        envs.length + 1,
    )
    fell = (jnp.abs(moved.position) > 2.4) | (jnp.abs(moved.angle) > 12.0 * np.pi / 180.0)
    done = fell | (moved.length >= 500)
    fresh = reset(key, len(action))
    return jax.tree.map(lambda new, old: jnp.where(done, new, old), fresh, moved), done, moved.length


def _observe(envs: CartPole) -> Any:
    """``[E, 4]``."""
    return jnp.stack(envs[:4], -1)


def _initialise(key: Any, widths: tuple[int, ...]) -> dict[str, Any]:
    """Actor and critic: orthogonal weights, gains of sqrt(2) and, of the heads, .01 and 1; biases of 0."""
    keys = jax.random.split(key, 2)
    return {"actor": _layers(keys[0], (4, *widths, 2), 0.01), "critic": _layers(keys[1], (4, *widths, 1), 1.0)}


def _layers(key: Any, sizes: tuple[int, ...], last_gain: float) -> list[tuple[Any, Any]]:
    gains = [2.0**0.5] * (len(sizes) - 2) + [last_gain]
    keys = jax.random.split(key, len(gains))
    shapes = pairwise(sizes)
    orthogonal = jax.nn.initializers.orthogonal
    return [(orthogonal(g)(k, shape), jnp.zeros(shape[1])) for k, shape, g in zip(keys, shapes, gains, strict=True)]


def _mlp(layers: list[tuple[Any, Any]], x: Any) -> Any:
    for weight, bias in layers[:-1]:
        x = jnp.tanh(x @ weight + bias)
    weight, bias = layers[-1]
    return x @ weight + bias


def _value(params: dict[str, Any], obs: Any) -> Any:
    return _mlp(params["critic"], obs)[..., 0]


def _advantages(rollout: _Step, last_value: Any, gamma: float, gae_lambda: float) -> Any:
    """GAE, ``[T, E]``."""

    def back(carry: Any, now: Any) -> Any:
        following, next_value = carry
        value, reward, done = now
        goes_on = 1.0 - done
        delta = reward + gamma * next_value * goes_on - value
        following = delta + gamma * gae_lambda * goes_on * following
        return (following, value), following

    start = (jnp.zeros_like(last_value), last_value)
    columns = (rollout.value, rollout.reward, rollout.done.astype(last_value.dtype))
    return jax.lax.scan(back, start, columns, reverse=True, unroll=16)[1]


def _loss(params: Any, minibatch: Any, ent_coef: Any, clip_range: Any, config: PPOConfig) -> Any:
    """Clipped surrogate, values and entropy of a minibatch, one number."""
    obs, action, old_log_prob, old_value, advantage, value_target = minibatch
    log_probs = jax.nn.log_softmax(_mlp(params["actor"], obs))
    log_prob = jnp.take_along_axis(log_probs, action[:, None], 1)[:, 0]
    if config.normalize_advantage:
        advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(log_prob - old_log_prob)
    gain = jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip_range, 1.0 + clip_range) * advantage)
    value = _value(params, obs)
    if config.clip_range_vf is not None:
        value = old_value + jnp.clip(value - old_value, -config.clip_range_vf, config.clip_range_vf)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
    return (config.vf_coef * (value - value_target) ** 2 - gain - ent_coef * entropy).mean()


def _over_training(spec: float | str, n_updates: int) -> Callable[[Any], Any]:
    """A schedule as a function of the number of the update."""
    schedule = Schedule.parse(spec)
    values = jnp.array([schedule.at(i / n_updates) for i in range(n_updates)])
    return lambda i: values[i]


def _recent(lengths: np.ndarray) -> float:
    """Mean of the last episodes' lengths, of ``lengths [steps]`` with 0 where none ended."""
    finished = lengths[lengths > 0]
    return float(finished[-_WINDOW:].mean()) if len(finished) else math.nan
