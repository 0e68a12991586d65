"""Numbers that are not finite: only the run that they belong to is frozen, before its parameters are touched."""

from functools import partial

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import agent_class
from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import NumbersError
from entropic_rl.evaluation import evaluate
from entropic_rl.health import Health, NumberWatch
from entropic_rl.optimizers import Adam, RMSprop
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.training import Training
from entropic_rl.vector import EnvBatch

SEEDS = [4, 5, 6]
SMALL = {
    "ppo": {"n_steps": 8, "batch_size": 8, "n_epochs": 2, "net_arch": (4,)},
    "a2c": {"n_steps": 8, "net_arch": (4,)},
    "sac": {"batch_size": 8, "learning_starts": 8, "buffer_size": 64, "net_arch": (4,)},
    "discrete-sac": {"batch_size": 8, "learning_starts": 8, "buffer_size": 64, "net_arch": (4,)},
    "soft-q": {"batch_size": 8, "learning_starts": 8, "buffer_size": 64, "net_arch": (4,)},
}
ENVS = dict.fromkeys(SMALL, "CartPole-v1") | {"sac": "Pendulum-v1"}
every_agent = pytest.mark.parametrize("name", SMALL)
NAN, INF = float("nan"), float("inf")


def train(name, poison=None, n_runs=3, backend="sync"):
    """An agent, its broken runs and its parameters ``[updates, R, P]`` after 24 steps; ``poison`` comes before."""
    env_id, seeds = ENVS[name], SEEDS[:n_runs]
    vector_env = make_vector_env(env_id, 2 * n_runs, backend=backend)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space, squash_output=name == "sac")
    envs = EnvBatch(vector_env, n_runs, observation=observation, action=action)
    config = AGENT_CONFIGS[name](**SMALL[name])
    agent = agent_class(name)([config] * n_runs, seeds, observation=observation, action=action, n_envs=2)
    if poison is not None:
        poison(vector_env, agent)
    told = {}
    training = Training(agent, envs, total_timesteps=48, seeds=seeds, on_broken=told.__setitem__)
    try:
        history = [agent.policy.params.values.clone() for _ in training]
    finally:
        envs.close()
    assert told == training.broken
    return agent, training.broken, torch.stack(history)


def poisoned(what, value, step=13, index=3):
    """From copy ``index`` (of run 1) comes ``value`` at one step, in its observation or as its reward."""

    def poison(vector_env, agent):
        honest, calls = vector_env.step, [0]

        def dishonest(action):
            calls[0] += 1
            obs, reward, *rest = honest(action)
            if calls[0] == step:
                numbers = obs if what == "observation" else reward
                numbers[index] = value
            return obs, reward, *rest

        vector_env.step = dishonest

    return poison


def poisoned_gradient(vector_env, agent):
    """The 3rd gradient of run 1 has one NaN."""
    params, calls = agent.policy.params, [0]
    honest = params.backward

    def dishonest(losses):
        honest(losses)
        calls[0] += 1
        if calls[0] == 3:
            params.grads[1, 2] = NAN

    params.backward = dishonest


def tensors_of(agent):
    """Parameters of the policy and of every optimizer, row by row ``[R, ...]``."""
    kept = [agent.policy.params.values]
    for name, part in vars(agent).items():
        if name.endswith("optimizer"):
            kept += [tensor.view(3, -1) for tensor in part.state_dict().values()]
    return kept


# The rows


@every_agent
@pytest.mark.parametrize(("what", "value"), [("observation", NAN), ("observation", -INF), ("reward", NAN)])
def test_other_runs_go_on_as_if_nothing_had_happened_beside_them(name, what, value):
    (healthy, none, _), (agent, broken, _) = train(name), train(name, poisoned(what, value))
    assert not none
    assert list(broken) == [1]
    for sound, now in zip(tensors_of(healthy), tensors_of(agent), strict=True):
        assert torch.equal(sound[[0, 2]], now[[0, 2]])
        assert now.isfinite().all()
    assert not torch.equal(healthy.policy.params.values[1], agent.policy.params.values[1])


@every_agent
def test_broken_gradient_stops_its_run_before_the_step(name):
    healthy, _, _ = train(name)
    agent, broken, _ = train(name, poisoned_gradient)
    assert list(broken) == [1]
    assert "expected a finite gradient, got one that is not" in broken[1]
    for sound, now in zip(tensors_of(healthy), tensors_of(agent), strict=True):
        assert torch.equal(sound[[0, 2]], now[[0, 2]])
        assert now.isfinite().all()


@every_agent
def test_parameters_that_the_last_step_broke_are_found_at_the_end(name):
    def poison(vector_env, agent):
        honest = agent.update

        def dishonest(progress):
            metrics = honest(progress)
            if progress >= 1.0:
                agent.policy.params.values[1, 2] = INF
            return metrics

        agent.update = dishonest

    _, broken, _ = train(name, poison)
    assert list(broken) == [1]
    assert "expected finite parameters, got ones that are not; lower --learning-rate" in broken[1]


@every_agent
def test_frozen_run_keeps_its_parameters_from_then_on(name):
    _, _, history = train(name, poisoned("reward", NAN, step=9))
    frozen = [torch.equal(*pair) for pair in zip(history[:-1, 1], history[1:, 1], strict=True)]
    assert all(frozen[(9 if name not in ("ppo", "a2c") else 1) :])
    assert not torch.equal(history[-2, 0], history[-1, 0])


def test_run_whose_environment_breaks_after_the_gradient_of_another_stops_too():
    def poison(vector_env, agent):
        poisoned_gradient(vector_env, agent)
        poisoned("reward", NAN, step=22, index=5)(vector_env, agent)

    _, broken, _ = train("ppo", poison)
    assert list(broken) == [1, 2]


@pytest.mark.parametrize("backend", ["sync", "async"])
def test_what_broke_is_told_with_environment_step_and_seed(backend):
    _, broken, _ = train("a2c", poisoned("observation", INF), backend=backend)
    assert broken[1].startswith("environment 1, step 13 after its reset with seed ")
    assert "expected finite numbers, got inf as observation; mend" in broken[1]


@pytest.mark.parametrize("backend", ["sync", "batched"])
def test_actions_of_a_broken_policy_reach_no_environment(backend):
    def poison(vector_env, agent):
        with torch.no_grad():
            agent.policy.params.values[1] = NAN
        honest = vector_env.step
        vector_env.step = lambda action: honest(acted.append(torch.as_tensor(action).clone()) or action)

    acted = []
    (healthy, none, _), (agent, broken, _) = train("sac", backend=backend), train("sac", poison, backend=backend)
    assert not none
    assert "expected a finite gradient" in broken[1]
    assert torch.stack(acted).isfinite().all()
    assert torch.equal(healthy.policy.params.values[[0, 2]], agent.policy.params.values[[0, 2]])


def test_evaluation_of_a_broken_policy_leaves_the_others_as_they_are():
    agent, _, _ = train("sac", backend="batched")
    make_envs = partial(make_vector_env, "Pendulum-v1", backend="batched", autoreset_mode=AutoresetMode.DISABLED)
    settings = {"episodes": 2, "deterministic": True, "seed": 3, "max_steps": 5}
    before = evaluate(agent.policy, make_envs, agent.policy.observation, **settings)
    with torch.no_grad():
        agent.policy.params.values[1] = NAN
    after = evaluate(agent.policy, make_envs, agent.policy.observation, **settings)
    assert [before[0], before[2]] == [after[0], after[2]]


@pytest.mark.parametrize("poison", [poisoned("reward", NAN, index=0)])
def test_single_run_that_breaks_ends_with_an_error(poison):
    with pytest.raises(NumbersError, match=r"environment 0, step 13 .* got nan as reward"):
        train("ppo", poison, n_runs=1)


def test_tensors_that_are_not_finite_are_found_in_the_gradient():
    _, broken, history = train("a2c", poisoned("observation", NAN), backend="batched")
    assert "update 2 at 32 env steps: expected a finite gradient" in broken[1]
    assert history.isfinite().all()


# The parts


def test_gradients_that_are_finite_restrict_nothing():
    health, some = Health(2), torch.tensor([True, False])
    assert health.active(torch.ones(2, 3)) is None
    assert health.active(torch.ones(2, 3), some) is some
    assert health.active(torch.full((2, 3), 1e38), some) is some  # their sums are not finite, but they are


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_run_of_a_broken_gradient_is_out_for_good(value):
    health = Health(2)
    assert health.active(torch.tensor([[0.0, 1.0], [value, 0.0]])).tolist() == [True, False]
    assert health.active(torch.ones(2, 2)).tolist() == [True, False]
    assert health.active(torch.ones(2, 2), torch.tensor([False, True])).tolist() == [False, False]


def test_one_broken_critic_stops_both_of_its_run():
    health, grads = Health(2), torch.ones(4, 3)
    grads[3, 0] = NAN
    assert health.active(grads).tolist() == [True, True, False, False]


@pytest.mark.parametrize("optimizer", [Adam, RMSprop])
def test_step_of_a_broken_row_changes_nothing_of_it(optimizer):
    params, health = torch.ones(2, 3), Health(2)
    steps = optimizer(params, health=health)
    steps.step(params, torch.ones(2, 3), torch.full((2,), 0.1))
    before = [tensor.clone() for tensor in (params, *steps.state_dict().values())]
    steps.step(params, torch.tensor([[1.0, 1.0, 1.0], [1.0, NAN, 1.0]]), torch.full((2,), 0.1))
    for old, now in zip(before, (params, *steps.state_dict().values()), strict=True):
        assert torch.equal(old[1], now[1])
        assert not torch.equal(old[0], now[0])


def test_watch_gives_zeros_for_a_broken_run_and_the_rest_as_it_is():
    watch = NumberWatch(2, 2)
    watch.restart([7, 8, 9, 10], np.zeros((4, 1), np.float32))
    obs = np.array([[1.0], [2.0], [3.0], [NAN]], np.float32)
    seen, reward, final = watch(obs, np.ones(4), None)
    assert np.asarray(seen).tolist() == [[1.0], [2.0], [0.0], [0.0]]
    assert np.asarray(reward).tolist() == [1.0, 1.0, 0.0, 0.0]
    assert final is None
    assert list(watch.broken) == [1]
    assert "environment 1, step 1 after its reset with seed 10" in watch.broken[1]


def test_numbers_whose_sum_alone_is_too_large_are_no_fault():
    watch = NumberWatch(1, 2)
    large = np.full((2, 2), 3e38, np.float32)
    assert watch.restart([0, 1], large) is large
    assert not watch.broken
