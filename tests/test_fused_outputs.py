"""What policies make of many observations at once, by machine code against torch."""

import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from entropic_rl.agents import PPO, SAC, PPOConfig, SACConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.evaluation import evaluate
from entropic_rl.policies import ActorCritic
from entropic_rl.spaces import ObservationSpec, action_spec

pytest.importorskip("numba")
from entropic_rl.fused import fused_evaluation
from entropic_rl.fused.collecting import FusedOutputs


def policy(space, *, cls=PPO, config=PPOConfig, seeds=(0, 1, 2), size=5, **settings):
    action = action_spec(space, squash_output=cls is SAC)
    settings = {"net_arch": (24, 17), **settings}
    made = cls(
        [config(**settings)] * len(seeds), seeds, observation=ObservationSpec.vector(size), action=action, n_envs=2
    ).policy
    made.params.values.mul_(torch.where(made.params.values.abs() < 0.05, 8.0, 1.0))
    return made


POLICIES = {
    "choices": (spaces.Discrete(4), {}),
    "several": (spaces.MultiDiscrete([3, 2]), {"share_features": True}),
    "numbers": (spaces.Box(-1.0, 1.0, (3,)), {"activation": "gelu"}),
    "squashed": (spaces.Box(-1.0, 1.0, (3,)), {"cls": SAC, "config": SACConfig}),
}


@pytest.mark.parametrize("n", [1, 100, 128, 300])
@pytest.mark.parametrize("kind", POLICIES)
def test_outputs_are_those_of_the_policy(kind, n):
    space, options = POLICIES[kind]
    made, obs = policy(space, **options), torch.randn(3, n, 5, generator=torch.Generator().manual_seed(0))
    outputs = FusedOutputs(made)
    torch.testing.assert_close(outputs(obs), made.outputs(obs).detach(), rtol=1e-5, atol=2e-6)
    made.params.values.mul_(0.5)  # what was learned since counts
    torch.testing.assert_close(outputs(obs), made.outputs(obs).detach(), rtol=1e-5, atol=2e-6)


def test_a_run_has_the_same_bits_whatever_runs_beside_it():
    obs = torch.randn(3, 150, 5, generator=torch.Generator().manual_seed(0))
    together = FusedOutputs(policy(spaces.Discrete(4)))(obs)
    assert torch.equal(FusedOutputs(policy(spaces.Discrete(4), seeds=(2,)))(obs[2:]), together[2:])


@pytest.mark.parametrize("deterministic", [True, False])
def test_episodes_are_played_by_them(deterministic, monkeypatch):
    made = policy(spaces.Discrete(2), size=4)
    expected = evaluate(made, make_cart_poles, made.observation, episodes=6, deterministic=deterministic)
    computed_by = fused_evaluation(made)
    monkeypatch.setattr(ActorCritic, "outputs", lambda *_: pytest.fail("torch was asked"))
    found = evaluate(made, make_cart_poles, made.observation, episodes=6, deterministic=deterministic, **computed_by)
    assert found == expected


def make_cart_poles(n):
    return make_vector_env("CartPole-v1", n, autoreset_mode=AutoresetMode.DISABLED, backend="batched")
