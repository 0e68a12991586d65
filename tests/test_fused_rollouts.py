"""Rollouts by machine code against the same rollouts step by step."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from entropic_rl import snapshots
from entropic_rl.agents.a2c import A2C
from entropic_rl.agents.config import A2CConfig, PPOConfig, action_head
from entropic_rl.agents.ppo import PPO
from entropic_rl.environments import make_vector_env
from entropic_rl.exploration import ExplorationMeter, cells_of
from entropic_rl.spaces import ObservationSpec, action_spec, observation_spec
from entropic_rl.training import Training
from entropic_rl.vector import EnvBatch

pytest.importorskip("numba")
from entropic_rl.fused.collecting import FusedActor
from entropic_rl.fused.tracing import Symbols, Untraceable, Writer, trace

ENVS = [
    "CartPole-v1", "Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0", "Pendulum-v1", "entropic_rl/Bandit-v0",
    "entropic_rl/Chain-v0", "entropic_rl/RiverSwim-v0", "entropic_rl/DeepSea-v0", "entropic_rl/FourRooms-v0",
    "entropic_rl/MountainCarSparse-v0", "entropic_rl/CartPoleSwingUp-v0", "entropic_rl/PointMaze-v0",
    "entropic_rl/CartPolePositions-v1",
]  # fmt: skip


def training(env, *, fused, seeds=(0, 1), n_envs=3, n_steps=20, backend="batched", cls=PPO, **settings):
    """A training whose agent never learns, so that both of two see the same."""
    config = cls.Config(**{"n_steps": n_steps, "learning_rate": 1e-30, **settings})
    vector_env = make_vector_env(env, len(seeds) * n_envs, backend=backend)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_head(config, vector_env.single_action_space)
    envs = EnvBatch(vector_env, len(seeds), observation=observation, action=action, success_return=15.0)
    agent = cls([config] * len(seeds), list(seeds), observation=observation, action=action, n_envs=n_envs)
    agent.policy.params.values.mul_(torch.where(agent.policy.params.values.abs() < 0.05, 8.0, 1.0))
    if fused:
        agent.use_fused_kernel(envs)
    cells = cells_of(vector_env.single_observation_space)
    meter = ExplorationMeter(cells, len(seeds), n_envs, action=action)
    return Training(agent, envs, total_timesteps=3 * n_steps * n_envs, seeds=list(seeds), meter=meter)


def contents(made):
    """All that a rollout leaves, in order."""
    rollout, env = made.agent._collector.rollout, made._envs.env
    found = {
        name: getattr(rollout, name).clone()
        for name in ("obs", "action", "reward", "terminated", "truncated", "starts")
    }
    found["state"], found["age"], found["fresh"] = env.state.clone(), env._age.clone(), env._draws.fresh.clone()
    for t, ended, obs in rollout.cut_obs:
        found[f"cut {t}"] = torch.where(ended.unsqueeze(-1), obs, 0.0)
    return found


def rollouts(made):
    """What each rollout of a training leaves, and its records."""
    found = []
    made.agent.update, update = (
        (lambda progress: (found.append(contents(made)), update(progress))[1]),
        made.agent.update,
    )
    records = [record.rows for record in made]
    return found, records


def assert_same(ours, theirs):
    for mine, other in zip(ours[0], theirs[0], strict=True):
        assert mine.keys() == other.keys()
        for name, x in mine.items():
            assert x.dtype == other[name].dtype, name
            torch.testing.assert_close(x, other[name], rtol=0.0, atol=2e-5, msg=lambda m, name=name: f"{name}: {m}")
    for mine, other in zip(ours[1], theirs[1], strict=True):
        for row, other_row in zip(mine, other, strict=True):
            for name, value in row.items():
                if not name.startswith(("time/", "train/")):
                    assert value == pytest.approx(other_row[name], abs=1e-4, nan_ok=True), name


@pytest.mark.parametrize("env", ENVS)
def test_rollouts_are_those_of_single_steps(env):
    settings = {"batch_size": 60, "n_epochs": 1}
    fused = training(env, fused=True, **settings)
    assert fused.agent.roll is not None
    assert_same(rollouts(fused), rollouts(training(env, fused=False, **settings)))


def test_first_states_are_made_again_when_there_are_no_more():
    settings = {"n_steps": 200, "batch_size": 600, "n_epochs": 1}  # episodes of one step, of which 64 are drawn ahead
    ours, theirs = (rollouts(training("entropic_rl/RiverSwim-v0", fused=f, **settings)) for f in (True, False))
    assert_same(ours, theirs)
    poles = {"n_steps": 800, "batch_size": 2400, "n_epochs": 1}  # some 35 episodes of each copy
    assert_same(*(rollouts(training("CartPole-v1", fused=f, **poles)) for f in (True, False)))


def test_a_rollout_has_the_same_bits_whatever_runs_beside_it(monkeypatch):
    settings = {"n_steps": 40, "batch_size": 120, "n_epochs": 2, "learning_rate": 1e-3}
    alone = rollouts(training("CartPole-v1", fused=True, seeds=(7,), **settings))[0]
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    beside = rollouts(training("CartPole-v1", fused=True, seeds=(3, 7, 5), **settings))[0]
    for one, several in zip(alone, beside, strict=True):
        for name in ("obs", "action", "reward", "terminated", "truncated"):
            assert torch.equal(one[name][:, 0], several[name][:, 1]), name


@pytest.mark.parametrize("share_features", [False, True])
@pytest.mark.parametrize("activation", ["tanh", "relu", "gelu"])
@pytest.mark.parametrize(
    "space", [spaces.Discrete(5), spaces.MultiDiscrete([3, 2, 4]), spaces.Box(-1.0, 1.0, (3,))], ids=str
)
def test_actions_are_those_of_the_policy(space, activation, share_features):
    config = PPOConfig(activation=activation, share_features=share_features, net_arch=(18, 7))
    action = action_spec(space, squash_output=False)
    made = PPO([config] * 3, [0, 1, 2], observation=ObservationSpec.vector(6), action=action, n_envs=4)
    made.policy.params.values.mul_(torch.where(made.policy.params.values.abs() < 0.05, 8.0, 1.0))
    noise = made._collector.draw()[:, 0]
    obs = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(0))
    masks = [None]
    if not action.is_continuous:
        mask = torch.rand(3, 4, action.n_outputs, generator=torch.Generator().manual_seed(1)) < 0.5
        for first in (0, *torch.tensor(action.nvec).cumsum(0).tolist()[:-1]):
            mask[..., first] = True
        masks.append(mask)
    act = FusedActor(made.policy)
    for mask in masks:
        distribution, _ = made.policy.step(obs, mask, None)
        expected = distribution.sample(noise)
        assert act(obs, mask, noise).dtype == expected.dtype
        torch.testing.assert_close(act(obs, mask, noise), expected, rtol=0.0, atol=2e-6)


def test_logits_that_are_not_numbers_are_taken_as_torch_takes_them():
    made = PPO(
        [PPOConfig()], [0], observation=ObservationSpec.vector(2), action=action_spec(spaces.Discrete(3)), n_envs=1
    )
    with torch.no_grad():
        made.policy.params["actor.2.bias"][0, 0, 1] = torch.nan
    obs, noise = torch.zeros(1, 1, 2), torch.zeros(1, 1, 3)
    distribution, _ = made.policy.step(obs, None, None)
    assert FusedActor(made.policy)(obs, None, noise).item() == distribution.sample(noise).item() == 1


def test_other_environments_are_stepped_by_themselves_and_acted_in_by_machine_code():
    settings = {"batch_size": 60, "n_epochs": 1}
    for env, backend in (("CartPole-v1", "sync"), ("entropic_rl/Catch-v0", "batched")):
        if env == "entropic_rl/Catch-v0":
            settings["features"] = "flat"
        fused = training(env, fused=True, backend=backend, **settings)
        assert fused.agent.roll is None
        assert fused.agent._collector.actor is not None
    fused, plain = (training("CartPole-v1", fused=f, backend="sync", **settings) for f in (True, False))
    for _ in fused:
        pass
    for _ in plain:
        pass
    ours, theirs = (made.agent._collector.rollout for made in (fused, plain))
    assert torch.equal(ours.action, theirs.action)
    torch.testing.assert_close(ours.obs, theirs.obs, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("settings", [{"normalize_obs": True}, {"normalize_reward": True}])
def test_running_statistics_are_kept_step_by_step(settings):
    made = training("CartPole-v1", fused=True, batch_size=60, n_epochs=1, **settings)
    assert made.agent.roll is None


def test_environments_that_are_reset_by_others_are_not_rolled():
    vector_env = make_vector_env("CartPole-v1", 4, backend="batched", autoreset_mode=AutoresetMode.DISABLED)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space)
    envs = EnvBatch(vector_env, 1, observation=observation, action=action)
    made = A2C([A2CConfig()], [0], observation=observation, action=action, n_envs=4)
    made.use_fused_kernel(envs)
    assert made.roll is None


def test_what_depends_on_numbers_cannot_be_traced():
    x = torch.ones(1)

    def branches(x):
        return [x + 1.0 if float(x) > 0 else x]

    writer = Writer()
    symbols = Symbols(np.array(["x"], dtype=object), torch.float32)
    with pytest.raises(Untraceable):
        trace(writer, branches, (x, symbols))
    with pytest.raises(Untraceable):
        trace(writer, lambda x: [torch.linspace(0, 1, 5) * x.erfinv()], (x, symbols))


@pytest.mark.parametrize(
    "rule",
    [
        lambda x: [torch.rsub(x, 1.0, alpha=2)],
        lambda x: [torch.div(x, 2.0, rounding_mode="floor")],
        lambda x: [x.expand(-1)],
        lambda x: [x.view(torch.int32)],
        lambda x: [torch.bitwise_not(x.long())],
    ],
)
def test_what_is_not_written_out_is_said_to_be_so(rule):
    symbols = Symbols(np.array(["x"], dtype=object), torch.float32)
    with pytest.raises(Untraceable):
        trace(Writer(), rule, (torch.ones(1), symbols))


def test_stopped_and_resumed_training_goes_on_as_if_nothing_had_been():
    settings = {"n_steps": 32, "batch_size": 96, "n_epochs": 2, "learning_rate": 1e-3}
    whole = training("CartPole-v1", fused=True, **settings)
    list(whole)
    first = training("CartPole-v1", fused=True, **settings)
    records = iter(first)
    next(records)
    taken = snapshots.take({"training": first})
    second = training("CartPole-v1", fused=True, **settings)
    snapshots.put_back(taken, {"training": second})
    list(second)
    assert torch.equal(whole.agent.policy.params.values, second.agent.policy.params.values)
    assert torch.equal(whole._envs.env.state, second._envs.env.state)


def test_numbers_are_written_out_as_they_are():
    writer, x = Writer(), torch.tensor([0.1], dtype=torch.float32)
    bounds = torch.tensor([torch.inf, -torch.inf, torch.nan, 0.1])
    [out] = trace(writer, lambda x: [x * bounds], (x, Symbols(np.array(["x"], dtype=object), torch.float32)))
    space = {"np": np, "x": np.float32(0.1)}
    exec("\n".join(writer.lines), space)
    values = torch.tensor([space[name] for name in out.names])
    torch.testing.assert_close(values, x * bounds, rtol=0.0, atol=0.0, equal_nan=True)
