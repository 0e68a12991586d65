"""Actor-critics: heads, shared trunks, independence of runs, saving and loading."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from entropic_rl import distributions
from entropic_rl.policies import ActorCritic, NetworkConfig, draw_noise
from entropic_rl.spaces import ObservationSpec, action_spec
from entropic_rl.streams import Stream

BOX = spaces.Box(-1.0, 1.0, (2,))
HEADS = {
    "categorical": action_spec(spaces.Discrete(4)),
    "multi-discrete": action_spec(spaces.MultiDiscrete([2, 3])),
    "bernoulli": action_spec(spaces.MultiBinary(3)),
    "gaussian": action_spec(BOX),
    "tanh-gaussian": action_spec(BOX, squash_output=True),
}
every_head = pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
both_layouts = pytest.mark.parametrize("share_features", [False, True], ids=["separate", "shared"])
SEEDS = [1, 2, 3]


def build(head=HEADS["categorical"], seeds=SEEDS, dtype=torch.float64, **network):
    return ActorCritic(NetworkConfig(net_arch=(16, 8), **network), ObservationSpec.vector(5), head, seeds, dtype=dtype)


def observations(batch=7):
    return torch.randn(len(SEEDS), batch, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@every_head
def test_every_head_acts_with_the_event_shape_of_its_space(head):
    policy = build(head)
    distribution = policy.distribution(observations())
    action = distribution.sample(draw_noise(head, Stream(SEEDS, "action"), 7))
    assert action.shape == distribution.mode().shape == (3, 7, *head.event_shape)
    assert distribution.log_prob(action).shape == distribution.entropy().shape == (3, 7)
    assert distribution.log_prob(action).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "distribution"),
    [
        ("categorical", distributions.Categorical),
        ("multi-discrete", distributions.MultiDiscrete),
        ("bernoulli", distributions.Bernoulli),
        ("gaussian", distributions.Gaussian),
        ("tanh-gaussian", distributions.TanhGaussian),
    ],
)
def test_head_is_the_distribution_of_its_kind(kind, distribution):
    assert type(build(HEADS[kind]).distribution(observations())) is distribution


@both_layouts
@every_head
def test_run_alone_starts_and_acts_as_in_a_batch(head, share_features):
    together, alone = build(head, share_features=share_features), build(head, SEEDS[1:2], share_features=share_features)
    assert torch.equal(together.params.values[1:2], alone.params.values)
    torch.testing.assert_close(together.value(observations())[1:2], alone.value(observations()[1:2]))
    noise = [draw_noise(head, Stream(seeds, "action"), 7) for seeds in (SEEDS, SEEDS[1:2])]
    assert torch.equal(noise[0][1:2], noise[1])
    action = together.distribution(observations()).sample(noise[0])[1:2]
    torch.testing.assert_close(action, alone.distribution(observations()[1:2]).sample(noise[1]))


@both_layouts
@every_head
def test_loss_of_one_run_leaves_the_other_rows_without_gradient(head, share_features):
    policy = build(head, share_features=share_features)
    distribution, value = policy.evaluate(observations())
    log_prob = distribution.log_prob(distribution.mode())
    policy.params.backward((log_prob + distribution.entropy() + value)[1])
    assert policy.params.grads[1].ne(0.0).any()
    assert policy.params.grads[[0, 2]].eq(0.0).all()


@both_layouts
def test_evaluate_equals_distribution_and_value(share_features):
    policy = build(share_features=share_features)
    distribution, value = policy.evaluate(observations())
    assert torch.equal(distribution.logits, policy.distribution(observations()).logits)
    assert torch.equal(value, policy.value(observations()))


@both_layouts
def test_value_trains_the_trunk_only_if_it_is_shared(share_features):
    policy = build(share_features=share_features)
    views = [policy.params[name] for name in policy.params.named()]
    found = torch.autograd.grad(policy.value(observations()).sum(), views, allow_unused=True)
    grads = dict(zip(policy.params.named(), found, strict=True))
    moved = {name.split(".")[0] for name, grad in grads.items() if grad is not None and grad.ne(0.0).any()}
    assert moved == ({"trunk", "critic"} if share_features else {"critic"})


@both_layouts
def test_hidden_layers_are_where_the_layout_says(share_features):
    shapes = {name: tuple(t.shape[1:]) for name, t in build(share_features=share_features).params.named().items()}
    weights = {name.removesuffix(".weight"): shape for name, shape in shapes.items() if name.endswith("weight")}
    hidden = {"0": (5, 16), "1": (16, 8)}
    if share_features:
        expected = {f"trunk.{i}": s for i, s in hidden.items()} | {"actor.0": (8, 4), "critic.0": (8, 1)}
    else:
        expected = {f"{part}.{i}": s for part in ("actor", "critic") for i, s in hidden.items()}
        expected |= {"actor.2": (8, 4), "critic.2": (8, 1)}
    assert weights == expected


@pytest.mark.parametrize("share_features", [False, True])
def test_network_without_hidden_layers_is_linear(share_features):
    network = NetworkConfig(net_arch=(), share_features=share_features)
    policy = ActorCritic(network, ObservationSpec.vector(5), HEADS["categorical"], SEEDS, dtype=torch.float64)
    x = observations()
    torch.testing.assert_close(policy.value(2.0 * x), 2.0 * policy.value(x))  # biases start at 0


def test_initial_policy_is_nearly_uniform_and_ignores_the_action():
    entropy = build().distribution(observations()).entropy()
    torch.testing.assert_close(entropy, torch.full_like(entropy, np.log(4)), rtol=1e-3, atol=0.0)


def test_log_std_starts_where_it_is_told_and_is_shared_by_the_batch():
    policy = build(HEADS["gaussian"], log_std_init=-1.5)
    log_std = policy.distribution(observations()).log_std
    assert log_std.shape == (3, 7, 2)
    assert log_std.eq(-1.5).all()
    (grad,) = torch.autograd.grad(log_std.sum(), policy.params["log_std"])
    assert grad.tolist() == [[[7.0, 7.0]]] * 3


def test_observations_are_normalised_only_on_demand():
    x = 100.0 + 5.0 * observations(batch=200)
    assert build().normalize(x) is x
    policy = build(normalize_obs=True)
    assert policy.normalize(x).eq(10.0).any()  # untouched statistics: mean 0, variance 1, clipped
    normalised = policy.normalize(x, update=True)
    torch.testing.assert_close(normalised.mean(1), torch.zeros(3, 5).double(), rtol=0.0, atol=1e-3)
    assert torch.equal(policy.normalize(x), normalised)


@both_layouts
@pytest.mark.parametrize("normalize_obs", [False, True])
def test_saved_policy_loads_into_another_batch(share_features, normalize_obs):
    network = {"share_features": share_features, "normalize_obs": normalize_obs}
    saved, fresh = build(HEADS["gaussian"], **network), build(HEADS["gaussian"], [7, 8, 9], **network)
    x = saved.normalize(observations(), update=True)
    fresh.load_state_dict({name: tensor.clone() for name, tensor in saved.state_dict().items()})
    assert torch.equal(fresh.normalize(observations()), saved.normalize(observations()))
    assert torch.equal(fresh.value(x), saved.value(x))


def test_policy_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"do not fit this network: .*actor"):
        build().load_state_dict(
            ActorCritic(
                NetworkConfig(net_arch=(4,)), ObservationSpec.vector(5), HEADS["categorical"], SEEDS
            ).state_dict()
        )


@pytest.mark.parametrize("saved_with", [False, True])
def test_policy_with_and_without_observation_statistics_do_not_mix(saved_with):
    state = build(normalize_obs=saved_with).state_dict()
    with pytest.raises(ValueError, match="do not fit this network"):
        build(normalize_obs=not saved_with).load_state_dict(state)


def test_observation_statistics_of_another_size_are_refused():
    state = build(normalize_obs=True).state_dict()
    state["obs_statistics.mean"] = state["obs_statistics.mean"][:1]
    with pytest.raises(ValueError, match="do not fit this network"):
        build(normalize_obs=True).load_state_dict(state)


@pytest.mark.parametrize(("kind", "low"), [("categorical", -10), ("bernoulli", 0), ("gaussian", -10)])
def test_noise_is_of_the_kind_the_head_samples_with(kind, low):
    noise = draw_noise(HEADS[kind], Stream([0], "action"), 1000)
    assert noise.shape == (1, 1000, HEADS[kind].n_outputs)
    # Means: Gumbel .577, uniform .5, normal 0.
    assert noise.mean().item() == pytest.approx(
        {"categorical": 0.577, "bernoulli": 0.5, "gaussian": 0.0}[kind], abs=0.08
    )
    assert noise.min() > low
