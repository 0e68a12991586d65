"""A training on a device is never waited for between two records.

Tensors on the device "meta" have shapes and no numbers: whatever asks one for a number, or for how many there are,
raises. A GPU would answer, once it has done everything before.
"""

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

ON_POLICY = {"n_steps": 8}
PPO = {**ON_POLICY, "batch_size": 16, "n_epochs": 2}
OFF_POLICY = {"learning_starts": 8, "batch_size": 16}  # the first two iterations learn nothing
CASES = [
    ("ppo", CartPoleVectorEnv, PPO),
    ("ppo", PendulumVectorEnv, {**PPO, "normalize_obs": True, "normalize_reward": True}),
    ("ppo", DeepSeaVectorEnv, {**PPO, "ent_coef": "target:0.5"}),
    ("ppo", CartPoleVectorEnv, {**PPO, "recurrent": "gru", "sequence_length": 4}),
    ("ppo", CartPoleVectorEnv, {**PPO, "entropy": "tsallis:2", "entropy_in": "both"}),
    ("a2c", CartPoleVectorEnv, ON_POLICY),
    ("sac", PendulumVectorEnv, OFF_POLICY),
    ("discrete-sac", CartPoleVectorEnv, OFF_POLICY),
    ("soft-q", CartPoleVectorEnv, OFF_POLICY),
]


@pytest.mark.parametrize(("name", "make_env", "settings"), CASES, ids=lambda x: x if isinstance(x, str) else "")
def test_iterations_ask_the_device_nothing(name, make_env, settings):
    device, cls = torch.device("meta"), agent_class(name)
    config = cls.Config(**settings)
    vector_env = make_env(num_envs=8, device=device)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_head(config, vector_env.single_action_space)
    given = {"observation": observation, "action": action, "device": device}
    envs = EnvBatch(vector_env, 2, success_return=10.0, **given)
    agent = cls([config] * 2, [0, 1], n_envs=4, **given)
    meter = ExplorationMeter(cells_of(vector_env.single_observation_space), 2, 4, action=action, device=device)
    training = Training(agent, envs, total_timesteps=10**6, seeds=[0, 1], meter=meter, log_interval=10**6)
    for _ in range(4):
        training._update()
    assert training.n_updates == 4
