"""Policies with memory: sequences against single steps, rollouts cut and padded, runs alone against runs together."""

from dataclasses import replace

import pytest
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import A2C, PPO, A2CConfig, PPOConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.on_policy import minibatches, prepare
from entropic_rl.sequences import Chunks, Sequences, make_memory
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.testing import check_agent
from entropic_rl.vector import EnvBatch

R, E, T, L = 2, 3, 20, 8  # 20 steps are two sequences of 8 and half a one
ENV = "entropic_rl/CartPolePositions-v1"
kinds = pytest.mark.parametrize("kind", ["gru", "lstm"])
every_mode = pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)


def build(kind="gru", agent_class=PPO, mode=AutoresetMode.SAME_STEP, seeds=(3, 4), **settings):
    config = agent_class.Config(
        n_steps=T, recurrent=kind, recurrent_size=5, sequence_length=L, net_arch=(4,), **settings
    )
    vector_env = make_vector_env(ENV, len(seeds) * E, autoreset_mode=mode)
    observation, action = (
        observation_spec(vector_env.single_observation_space),
        action_spec(vector_env.single_action_space),
    )
    envs = EnvBatch(vector_env, len(seeds), observation=observation, action=action, dtype=torch.float64)
    seeds = list(seeds)
    agent = agent_class(
        [config] * len(seeds), seeds, observation=observation, action=action, n_envs=E, dtype=torch.float64
    )
    return agent, envs


def collect(agent, envs, obs, n_steps=T, log=None):
    for _ in range(n_steps):
        action = agent.act(obs, envs.mask)
        transition = envs.step(action)
        agent.observe(transition)
        if log is not None:
            log.append((obs, action, transition))
        obs = transition.next_obs
    return obs


def filled(n_rollouts=2, **options):
    """An agent whose rollout is full, not its first one, and what happened in it."""
    agent, envs = build(batch_size=L, **options) if options.get("agent_class", PPO) is PPO else build(**options)
    obs = envs.reset(Stream([3, 4], "environment").seeds(E))
    for _ in range(n_rollouts - 1):
        obs = collect(agent, envs, obs)
        agent._collector.rollout.clear()
    log = []
    collect(agent, envs, obs, log=log)
    return agent, log


def prepared(agent):
    rates = torch.full((R,), 0.9, dtype=torch.float64)
    return prepare(agent._collector, agent._entropy, gamma=rates, gae_lambda=0.8 * rates)


def replayed(agent, log):
    """Log-probabilities and values step by step from what the memory held before the rollout, ``[T, R, E]`` each.

    Also the values of the observations that episodes ended in, where they did.
    """
    policy, collector = agent.policy, agent._collector
    state, starts = collector.rollout.state, collector.rollout.starts[0]
    log_probs, values, finals = [], [], []
    for obs, action, transition in log:
        state = state.masked_fill(starts.unsqueeze(-1), 0.0)
        values.append(policy.value(obs, state))
        distribution, state = policy.step(obs, None, state)
        log_probs.append(distribution.log_prob(action))
        nothing = torch.full_like(values[-1], torch.nan)
        finals.append(nothing if transition.final_obs is None else policy.value(transition.final_obs, state))
        starts = torch.zeros_like(starts) if transition.starts is None else transition.starts
    last = policy.value(log[-1][2].next_obs, state.masked_fill(starts.unsqueeze(-1), 0.0))
    return torch.stack(log_probs), torch.stack([*values, last]), torch.stack(finals)


def in_steps(x):
    """Samples in sequences ``[R, L * S, ...]`` as they were made, ``[T, R, E, ...]``."""
    chunks = -(-T // L)
    x = x.unflatten(1, (L, chunks, E)).transpose(1, 2).flatten(1, 2)  # [R, chunks * L, E]
    return x[:, :T].transpose(0, 1)


@every_mode
@kinds
def test_a_rollout_in_sequences_gives_what_its_steps_gave(kind, mode):
    agent, log = filled(kind=kind, mode=mode)
    samples = prepared(agent)
    log_probs, values, _ = replayed(agent, log)
    assert any(transition.starts is not None for _, _, transition in log)
    torch.testing.assert_close(in_steps(samples.log_prob), log_probs, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(in_steps(samples.value), values[:-1], rtol=0.0, atol=1e-12)
    distribution, value = agent.policy.evaluate(samples.obs, samples.mask, samples.sequences)
    counted = samples.valid
    torch.testing.assert_close(value[counted], samples.value[counted], rtol=0.0, atol=1e-12)
    again = distribution.log_prob(samples.action)
    torch.testing.assert_close(again[counted], samples.log_prob[counted], rtol=0.0, atol=1e-12)


@kinds
def test_an_ended_episode_is_worth_what_its_memory_says_of_its_last_observation(kind):
    agent, log = filled(kind=kind)
    samples = prepared(agent)
    _, values, finals = replayed(agent, log)
    gamma, gae_lambda = 0.9, 0.72
    later, advantages = torch.zeros(R, E, dtype=torch.float64), []
    for t in reversed(range(T)):
        transition = log[t][2]
        ended = transition.terminated | transition.truncated
        following = torch.where(ended, finals[t], values[t + 1]).masked_fill(transition.terminated, 0.0)
        delta = transition.reward + gamma * following - values[t]
        later = delta + (gamma * gae_lambda * later).masked_fill(ended, 0.0)
        advantages.append(later)
    torch.testing.assert_close(
        in_steps(samples.advantage), torch.stack(advantages[::-1]).detach(), rtol=0.0, atol=1e-12
    )


def test_a_truncated_episode_is_worth_more_than_nothing_by_its_memory():
    agent, envs = build(batch_size=L)
    obs = envs.reset(Stream([3, 4], "environment").seeds(E))
    log = []
    collect(agent, envs, obs, log=log)
    cut = [
        replace(transition, truncated=transition.terminated, terminated=torch.zeros_like(transition.terminated))
        for _, _, transition in log
    ]
    rollout = agent._collector.rollout
    rollout.truncated.copy_(torch.stack([transition.truncated for transition in cut]))
    rollout.terminated.zero_()
    samples = prepared(agent)
    _, values, finals = replayed(agent, log)
    ended = rollout.truncated
    assert ended.any()
    delta = rollout.reward + 0.9 * finals - values[:-1]  # no trace goes over an end
    torch.testing.assert_close(in_steps(samples.advantage)[ended], delta[ended].detach(), rtol=0.0, atol=1e-12)


def test_what_is_padded_counts_nowhere():
    agent, _ = filled()
    samples = prepared(agent)
    padded = ~samples.valid
    assert int(padded.sum()) == R * E * (3 * L - T)
    assert in_steps(samples.valid).all()
    rates = agent._coefficients.at(0.0)
    parts, metrics = agent._loss(samples, rates)
    agent.policy.params.backward(parts.total)
    gradient = agent.policy.params.grads.clone()
    rubbish = replace(
        samples,
        obs=samples.obs.masked_fill(padded.unsqueeze(-1), 7.0),
        advantage=samples.advantage.masked_fill(padded, 1e3),
        value_target=samples.value_target.masked_fill(padded, -1e3),
    )
    other_parts, other_metrics = agent._loss(rubbish, rates)
    agent.policy.params.backward(other_parts.total)
    torch.testing.assert_close(agent.policy.params.grads, gradient, rtol=0.0, atol=1e-12)
    torch.testing.assert_close(other_metrics, metrics, rtol=0.0, atol=1e-12)


def test_padding_forbids_no_action():
    agent, _ = filled()
    rollout = agent._collector.rollout
    rollout.mask = torch.nn.functional.one_hot(torch.cat([rollout.action, rollout.action[:1]]), 2).bool()
    samples = prepared(agent)
    assert samples.mask[~samples.valid].all()
    parts, metrics = agent._loss(samples, agent._coefficients.at(0.0))
    agent.policy.params.backward(parts.total)
    assert agent.policy.params.grads.isfinite().all()
    assert all(value.isfinite().all() for value in metrics.values())
    torch.testing.assert_close(metrics["train/entropy"], torch.zeros(R, dtype=torch.float64))  # one action is allowed


def test_minibatches_are_whole_sequences_each_of_them_once():
    agent, _ = filled()
    samples = prepared(agent)
    batches = list(minibatches(samples, 4 * L + 1, Stream([3, 4], "minibatch")))
    assert [batch.obs.shape[1] for batch in batches] == [4 * L, 4 * L, L]
    whole = {tuple(x) for x in samples.sequences.by_step(samples.obs).transpose(1, 2).flatten(0, 1).flatten(1).tolist()}
    drawn = [
        tuple(x)
        for batch in batches
        for x in batch.sequences.by_step(batch.obs).transpose(1, 2).flatten(0, 1).flatten(1).tolist()
    ]
    assert len(drawn) == R * 3 * E
    assert set(drawn) == whole
    for batch in batches:  # the states and starts came along
        distribution, value = agent.policy.evaluate(batch.obs, batch.mask, batch.sequences)
        torch.testing.assert_close(value[batch.valid], batch.value[batch.valid], rtol=0.0, atol=1e-12)
        log_prob = distribution.log_prob(batch.action)
        torch.testing.assert_close(log_prob[batch.valid], batch.log_prob[batch.valid], rtol=0.0, atol=1e-12)


def test_a_sequence_longer_than_the_rollout_is_the_rollout():
    agent, _ = filled(agent_class=A2C)
    longer = A2CConfig(n_steps=4, recurrent="gru", sequence_length=16)
    vector_env = make_vector_env(ENV, 2)
    spaces = observation_spec(vector_env.single_observation_space), action_spec(vector_env.single_action_space)
    short = A2C([longer], [0], observation=spaces[0], action=spaces[1], n_envs=2)
    assert short._collector.chunks == Chunks(4, 2, 4)
    assert agent._collector.chunks == Chunks(T, E, L)


@pytest.mark.parametrize("length", [1, 3, 4, 12])
def test_cutting_keeps_every_step_in_its_order(length):
    chunks = Chunks(12, 2, length)
    steps = torch.arange(24.0).view(1, 24)
    sequences = Sequences(torch.zeros(1, chunks.n_chunks * 2, 1), torch.zeros(1, chunks.n_chunks * 2 * length).bool())
    cut = sequences.by_step(chunks.cut(steps))  # [1, L, S]
    for s in range(chunks.n_chunks * 2):
        chunk, env = divmod(s, 2)
        assert cut[0, :, s].tolist() == [2.0 * (chunk * length + i) + env for i in range(length)]


def test_states_before_sequences_are_those_after_the_steps_before():
    chunks = Chunks(7, 2, 3)
    states = torch.arange(1.0, 9.0).view(1, 8, 1, 1).expand(1, 8, 2, 1)  # after step t comes t + 1
    first = chunks.first_states(torch.zeros(1, 2, 1), states)
    assert first[0, :, 0].tolist() == [0.0, 0.0, 3.0, 3.0, 6.0, 6.0]


def test_no_memory_is_none():
    assert make_memory("none", 3, 4) is None
    assert make_memory("lstm", 3, 4).n_state == 8


@pytest.mark.parametrize("config", [
    PPOConfig(n_steps=12, batch_size=10, n_epochs=2, recurrent="gru", sequence_length=5, normalize_obs=True),
    A2CConfig(n_steps=6, recurrent="lstm", sequence_length=4),
], ids=["ppo", "a2c"])  # fmt: skip
def test_agents_with_memory_keep_the_contract(config):
    check_agent(PPO if isinstance(config, PPOConfig) else A2C, config, env_id=ENV)


def test_gradients_flow_back_as_far_as_a_sequence_reaches():
    """What is seen early changes the loss of late steps of the same sequence only."""
    agent, _ = filled()
    samples = prepared(agent)
    obs = samples.obs.clone().requires_grad_()
    _, value = agent.policy.evaluate(obs, None, samples.sequences)
    last = samples.sequences.by_step(value)[:, -1].sum()
    (gradient,) = torch.autograd.grad(last, obs)
    starts = samples.sequences.by_step(samples.sequences.starts)
    by_step = samples.sequences.by_step(gradient).abs().amax(-1)  # [R, L, S]
    after = starts.flip(1).cumsum(1).flip(1) - starts.long()  # starts in the steps after this one
    assert by_step[after > 0].eq(0.0).all()
    assert by_step[after == 0].gt(0.0).all()
