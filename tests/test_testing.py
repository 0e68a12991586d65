"""The contract for agents: ours keep it, the documented one keeps it, broken ones are told everything."""

import re
import sys
from pathlib import Path

import pytest
import torch

from entropic_rl.agents import (
    A2C,
    PPO,
    SAC,
    A2CConfig,
    DiscreteSAC,
    DiscreteSACConfig,
    PPOConfig,
    SACConfig,
    SoftQ,
    SoftQConfig,
)
from entropic_rl.cli import main
from entropic_rl.testing import ContractError, check_agent

pytestmark = pytest.mark.usefixtures("no_figures")

PAGE = Path(__file__).parents[1] / "docs" / "adding-an-agent.md"
MODULE, CHECK = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
SMALL = {"net_arch": (8,)}
OFF_POLICY = {**SMALL, "learning_starts": 8, "batch_size": 8, "buffer_size": 64}
AGENTS = {
    "ppo": (PPO, PPOConfig(n_steps=8, batch_size=8, n_epochs=2, **SMALL), "CartPole-v1"),
    "a2c": (A2C, A2CConfig(n_steps=8, **SMALL), "CartPole-v1"),
    "sac": (SAC, SACConfig(**OFF_POLICY), "Pendulum-v1"),
    "discrete-sac": (DiscreteSAC, DiscreteSACConfig(**OFF_POLICY), "CartPole-v1"),
    "soft-q": (SoftQ, SoftQConfig(**OFF_POLICY, munchausen=0.9), "CartPole-v1"),
}


@pytest.fixture
def my_agents(tmp_path, monkeypatch):
    """The documented module, where the command is run."""
    (tmp_path / "my_agents.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    yield
    sys.modules.pop("my_agents", None)


@pytest.mark.parametrize("name", AGENTS)
def test_agents_of_the_toolkit_keep_the_contract(name):
    agent_class, config, env_id = AGENTS[name]
    check_agent(agent_class, config, env_id=env_id, n_updates=3 if hasattr(config, "n_epochs") or name == "a2c" else 20)


def test_documented_agent_keeps_the_contract(my_agents):
    exec(compile(CHECK, "adding-an-agent.md", "exec"), {})


def test_documented_agent_is_trained_by_the_command_line(my_agents, capsys):
    flags = ["--env", "CartPole-v1", "--total-timesteps", "512", "--eval-episodes", "2", "--no-progress"]
    assert main(["train", "--agent", "my_agents:Reinforce", *flags, "--run-dir", "run", "--n-steps", "64"]) == 0
    assert main(["evaluate", "run", "--episodes", "2"]) == 0
    assert "return" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("nowhere:Agent", "cannot import 'nowhere'"),
        ("my_agents:Nothing", "expected a class 'Nothing'"),
        ("my_agents:ActorCritic", "needs a class attribute Config"),
    ],
)
def test_agent_that_cannot_be_found_is_one_line(my_agents, capsys, agent, words):
    assert main(["train", agent, "--env", "CartPole-v1"]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_documented_agent_learns(my_agents):
    from my_agents import Reinforce, ReinforceConfig

    from entropic_rl.environments import make_vector_env
    from entropic_rl.spaces import action_spec, observation_spec
    from entropic_rl.training import train
    from entropic_rl.vector import EnvBatch

    vector_env = make_vector_env("entropic_rl/Bandit-v0", 16)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space)
    envs = EnvBatch(vector_env, 2, observation=observation, action=action)
    config = ReinforceConfig(n_steps=16, learning_rate=0.03, net_arch=(), ent_coef=0.0)
    agent = Reinforce([config] * 2, [0, 1], observation=observation, action=action, n_envs=8)
    rows = [record.rows for record in train(agent, envs, total_timesteps=8_000, seeds=[0, 1])]
    for run in range(2):
        assert rows[-1][run]["rollout/ep_rew_mean"] > rows[0][run]["rollout/ep_rew_mean"] + 0.1


class Shared(A2C):
    """Draws from torch's generator instead of its runs' streams."""

    def act(self, obs, mask=None):
        self.policy.params.values.add_(torch.rand(1, dtype=obs.dtype) * 1e-3)
        return super().act(obs, mask)


def test_violations_are_all_listed():
    with pytest.raises(ContractError) as caught:
        check_agent(Shared, AGENTS["a2c"][1])
    message = str(caught.value)
    assert "equal seeds gave different parameters" in message
    assert "a run alone ended with other parameters" in message


def test_class_that_is_no_agent_is_told_what_it_lacks():
    with pytest.raises(ContractError, match="the class has no Config\nthe class has no act"):
        check_agent(object)
