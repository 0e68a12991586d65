"""A training on a device is never waited for between two records.

Tensors on the device "meta" have shapes and no numbers: whatever asks one for a number, or for how many there are,
raises. A GPU would answer, once it has done everything before. Nor is anything brought to it that it would be waited
for.
"""

import contextlib

import pytest
import torch

from entropic_rl.agents import agent_class
from entropic_rl.agents.config import action_head
from entropic_rl.envs.cartpole import CartPoleVectorEnv
from entropic_rl.envs.deep_sea import DeepSeaVectorEnv
from entropic_rl.envs.pendulum import PendulumVectorEnv
from entropic_rl.exploration import ExplorationMeter, cells_of
from entropic_rl.spaces import observation_spec
from entropic_rl.training import Training
from entropic_rl.vector import EnvBatch
from tests.device_manners import Rude, good_manners

ON_POLICY = {"n_steps": 8}
PPO = {**ON_POLICY, "batch_size": 16, "n_epochs": 2}
CASES = [
    ("ppo", CartPoleVectorEnv, PPO),
    ("ppo", PendulumVectorEnv, {**PPO, "normalize_obs": True, "normalize_reward": True}),
    ("ppo", DeepSeaVectorEnv, {**PPO, "ent_coef": "target:0.5"}),
    ("ppo", CartPoleVectorEnv, {**PPO, "recurrent": "gru", "sequence_length": 4}),
    ("ppo", CartPoleVectorEnv, {**PPO, "entropy": "tsallis:2", "entropy_in": "both"}),
    ("ppo", CartPoleVectorEnv, {**PPO, "learning_rate": "linear:0.001:0"}),
    ("ppo", CartPoleVectorEnv, {**PPO, "entropy": "kl-to-prior:1,3"}),
    ("a2c", CartPoleVectorEnv, ON_POLICY),
    ("sac", PendulumVectorEnv, {"learning_starts": 8, "batch_size": 16}),
    ("discrete-sac", CartPoleVectorEnv, {"learning_starts": 8, "batch_size": 16}),
    ("soft-q", CartPoleVectorEnv, {"learning_starts": 8, "batch_size": 16}),
]


every_case = pytest.mark.parametrize(
    ("name", "make_env", "settings"), CASES, ids=lambda x: x if isinstance(x, str) else ""
)


def training_on_meta(name, make_env, settings):
    device, cls = torch.device("meta"), agent_class(name)
    config = cls.Config(**settings)
    vector_env = make_env(num_envs=8, device=device)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_head(config, vector_env.single_action_space)
    given = {"observation": observation, "action": action, "device": device}
    envs = EnvBatch(vector_env, 2, success_return=10.0, **given)
    agent = cls([config] * 2, [0, 1], n_envs=4, **given)
    meter = ExplorationMeter(cells_of(vector_env.single_observation_space), 2, 4, action=action, device=device)
    return Training(agent, envs, total_timesteps=10**6, seeds=[0, 1], meter=meter, log_interval=10**6), meter


@every_case
def test_iterations_neither_ask_the_device_nor_bring_it_what_it_is_waited_for(name, make_env, settings):
    training, meter = training_on_meta(name, make_env, settings)
    meter._met_before = True  # the first cells are looked at, once in a training
    training._update()
    meter.read()
    n_updates = 2 if "n_steps" in settings else 8  # the others have not begun to learn
    with good_manners():
        for _ in range(n_updates):
            training._update()
        meter.read()
    assert training.n_updates == 1 + n_updates


@pytest.mark.parametrize(
    "rude",
    [
        lambda x: torch.tensor([1.0], device=x.device),
        lambda x: x.new_tensor([1.0]),
        lambda x: x.masked_fill(x > 0, x[0]),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.zeros(3).to(x.device),
        lambda x: x + torch.ones(()),
        lambda x: x.copy_(torch.zeros(3)),
        lambda x: x.index_put_((x > 0,), x[0]),
    ],
)
def test_what_a_gpu_is_waited_for_is_found(rude):
    x = torch.zeros(3, device="meta")
    with pytest.raises(Rude), good_manners():
        rude(x)


@pytest.mark.parametrize("alone", [False, True])
def test_a_copy_that_is_not_waited_for_is_let_through_unless_a_device_is_left_alone(alone):
    x, y = torch.zeros(3), torch.zeros(3, device="meta")
    with pytest.raises(Rude) if alone else contextlib.nullcontext(), good_manners(alone=alone):
        y.copy_(x, non_blocking=True)
