"""Values, log-probabilities and advantages by machine code against those of torch."""

from dataclasses import fields

import pytest
import torch
from gymnasium import spaces

from entropic_rl.agents.config import PPOConfig
from entropic_rl.agents.ppo import PPO
from entropic_rl.on_policy import prepare
from entropic_rl.spaces import ObservationSpec, action_spec

pytest.importorskip("numba")

DISCRETE, SEVERAL, BOX = spaces.Discrete(3), spaces.MultiDiscrete([3, 2, 4]), spaces.Box(-1.0, 1.0, (3,))


def filled(space, *, n_steps=25, n_envs=7, mask=False, valid=False, ends=True, **settings):
    """An agent with a rollout of whatever there may be in one."""
    action = action_spec(space, squash_output=False)
    config = PPOConfig(n_steps=n_steps, batch_size=n_steps, **settings)
    made = PPO([config] * 3, [0, 1, 2], observation=ObservationSpec.vector(5), action=action, n_envs=n_envs)
    made.policy.params.values.mul_(torch.where(made.policy.params.values.abs() < 0.05, 8.0, 1.0))
    made.use_fused_kernel()
    g, rollout = torch.Generator().manual_seed(0), made._collector.rollout
    rollout.obs.normal_(generator=g)
    rollout.reward.normal_(generator=g)
    if action.is_continuous:
        rollout.action.normal_(generator=g)
    else:
        choices = [torch.randint(n, rollout.reward.shape, generator=g) for n in action.nvec or (action.n_outputs,)]
        rollout.action.copy_(torch.stack(choices, -1).view(rollout.action.shape))
    if ends:
        rollout.terminated.copy_(torch.rand(rollout.reward.shape, generator=g) < 0.2)
        rollout.truncated.copy_(torch.rand(rollout.reward.shape, generator=g) < 0.2)
        ended = rollout.terminated | rollout.truncated
        final = torch.randn(rollout.obs[:-1].shape, generator=g)
        rollout.cut_obs = [(t, ended[t], final[t]) for t in range(n_steps) if ended[t].any()]
    if mask:
        rollout.set_mask(0, torch.ones(3, n_envs, action.n_outputs, dtype=torch.bool))
        rollout.mask.copy_(torch.rand(rollout.mask.shape, generator=g) < 0.7)
        first = 0
        for c, n in enumerate(action.nvec or (action.n_outputs,)):
            taken = rollout.action.view(*rollout.reward.shape, -1)[..., c : c + 1]
            rollout.mask[:-1, ..., first : first + n].scatter_(-1, taken, True)
            rollout.mask[-1, ..., first] = True
            first += n
    if valid:
        rollout.valid.copy_(torch.rand(rollout.reward.shape, generator=g) < 0.8)
        rollout.all_valid = False
    rollout.position = n_steps
    return made


@pytest.mark.parametrize("space", [DISCRETE, SEVERAL, BOX], ids=str)
@pytest.mark.parametrize(
    "options",
    [{}, {"mask": True}, {"valid": True}, {"ends": False}, {"share_features": True}, {"entropy_in": "reward"},
     {"n_steps": 40, "n_envs": 10}, {"n_steps": 1, "n_envs": 150, "net_arch": (17,)}],
    ids=str,
)  # fmt: skip
def test_samples_are_those_of_torch(space, options):
    if space is BOX and "mask" in options:
        pytest.skip("numbers have no masks")
    made = filled(space, **options)
    made._entropy.coefficient.at(0.0)
    c = made._coefficients.at(0.0)
    expected = prepare(made._collector, made._entropy, gamma=c["gamma"], gae_lambda=c["gae_lambda"])
    ours = made._fused.prepare(made._collector, made._entropy, gamma=c["gamma"], gae_lambda=c["gae_lambda"])
    for field in fields(expected):
        mine, other = getattr(ours, field.name), getattr(expected, field.name)
        assert type(mine) is type(other), field.name
        if other is not None:
            assert (mine.dtype, mine.shape) == (other.dtype, other.shape), field.name
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=2e-5, msg=lambda m, f=field: f"{f.name}: {m}")
