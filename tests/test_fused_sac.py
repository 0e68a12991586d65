"""The compiled gradient step of soft actor-critic against autograd, whose numbers it has to give for every option."""

import json
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import example, given, settings
from hypothesis import strategies as st

from entropic_rl import cli, snapshots
from entropic_rl.agents import SAC, SACConfig
from entropic_rl.distributions import TanhGaussian
from entropic_rl.errors import ConfigError
from entropic_rl.spaces import ObservationSpec, action_spec
from entropic_rl.vector import Transition

pytest.importorskip("numba")
E, N_STEPS = 2, 40
NETWORKS = ("actor", "critics", "targets")


def sac(**changes):
    given = {"net_arch": (24, 17), "batch_size": 50, "buffer_size": 200, "learning_starts": 0}
    return SACConfig(**{**given, "learning_rate": 1e-3, "tau": 0.05, **changes})


def agent(config, *, seeds=(0, 1, 2), size=5, n_actions=3, valid=False, runs=None):
    """An agent of as many runs as there are seeds that remembers what its ``runs`` (or all) might have met."""
    kept = list(range(len(seeds))) if runs is None else runs
    made = SAC(
        [config] * len(kept),
        [seeds[run] for run in kept],
        observation=ObservationSpec.vector(size),
        action=action_spec(spaces.Box(-1.0, 1.0, (n_actions,)), squash_output=True),
        n_envs=E,
    )
    g, lead = torch.Generator().manual_seed(0), (len(seeds), E)
    for _ in range(N_STEPS):
        obs, next_obs, final_obs = (torch.randn(*lead, size, generator=g)[kept] for _ in range(3))
        reward, chance = torch.randn(lead, generator=g)[kept], torch.rand(lead, generator=g)[kept]
        is_valid = (torch.rand(lead, generator=g) < 0.8)[kept] if valid else None
        made.act(obs)
        made.observe(Transition(next_obs, reward, chance < 0.1, (chance > 0.1) & (chance < 0.2), final_obs, is_valid))
    return made


def everything(made):
    """All that a step changes, by name."""
    tensors = {"actor": made.policy.params.values, "critics": made.critics.params.values}
    tensors["targets"] = made.critics.target.values
    for name, optimizer in (("actor", made._actor_optimizer), ("critics", made._critic_optimizer)):
        tensors |= {f"{name}.{key}": x for key, x in optimizer.state_dict().items()}
    return tensors | made._entropy.coefficient.controller.state_dict()


def check_equal(config, *, n_updates=10, spread=0.0, **options):
    """Updates by both from the same beginning, on the same batches."""
    reference, fused = agent(config, **options), agent(config, **options)
    for made in (reference, fused):
        g = torch.Generator().manual_seed(1)
        for values in (made.policy.params.values, made.critics.params.values):
            values.add_(spread * torch.randn(values.shape, generator=g))
    fused.use_fused_kernel()
    begun = {name: x.clone() for name, x in everything(reference).items()}
    for i in range(n_updates):
        expected, found = reference.update(i / n_updates), fused.update(i / n_updates)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(
                found[name], values, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text
            )
    learned = everything(fused)
    for name, values in everything(reference).items():
        found = values.where(rounded(learned, name), learned[name]) if name in NETWORKS else learned[name]
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: name + text)
        assert name not in NETWORKS or ((values - begun[name]).abs().amax(1) > 2e-5).all()  # every run has moved


def rounded(learned, name):
    """Which parameters have gradients so small that rounding is seen in them, which Adam magnifies."""
    root = learned[f"{'actor' if name == 'actor' else 'critics'}.exp_avg_sq"].sqrt()
    return (root > 0.0) & (root < 1e-6)


OPTIONS = [
    {"ent_coef": 0.2},
    {"ent_coef": "linear:0.5:0", "learning_rate": "linear:0.001:0.0001"},
    {"ent_coef": "target:-2:0.3"},
    {"critic_ent_coef": 0.0},
    {"entropy_in": "both", "ent_coef": 0.1},
    {"n_steps": 3, "gamma": 0.9},
    {"gamma": 0.0},
    {"tau": 1.0},
    {"gradient_steps": 3},
    {"train_freq": 1, "gradient_steps": -1},
    {"batch_size": 300},
    {"batch_size": 1},
    {"normalize_obs": True},
    {"net_arch": ()},
    {"net_arch": (9,)},
    {"net_arch": (64, 64, 32)},
    *({"activation": name} for name in ("tanh", "leaky_relu", "elu", "gelu", "silu", "sigmoid")),
]


@pytest.mark.parametrize("changes", OPTIONS, ids=str)
def test_it_learns_what_autograd_does(changes):
    check_equal(sac(**changes))


@pytest.mark.parametrize("seeds", [(0,), (4, 2, 9)])
def test_rows_that_do_not_count(seeds):
    check_equal(sac(), seeds=seeds, valid=True)


def test_policies_at_the_bounds_of_their_deviations_and_actions():
    check_equal(sac(net_arch=(24,)), spread=2.0)  # log stds beyond both bounds, |u| up to some hundred


@settings(max_examples=15)
@example(widths=[20, 66, 48], batch_size=3, size=35, n_actions=1)  # one gradient is 1e-8
@given(
    widths=st.lists(st.integers(1, 70), max_size=3),
    batch_size=st.integers(1, 300),
    size=st.integers(1, 40),
    n_actions=st.integers(1, 9),
)
def test_no_size_is_special(widths, batch_size, size, n_actions):
    config = sac(net_arch=tuple(widths), batch_size=batch_size)
    check_equal(config, n_updates=1, seeds=(0,), size=size, n_actions=n_actions)


def learned(runs, *, threads=1):
    made, everyone = (agent(sac(batch_size=70), seeds=range(5), runs=of) for of in (runs, None))
    made._collector.replay.action[:] = everyone._collector.replay.action[runs]  # torch's tanh depends on the batch
    made.use_fused_kernel()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for _ in range(3):
            made.update(0.5)
    finally:
        torch.set_num_threads(before)
    return torch.cat([made.policy.params.values, made.critics.target.values.view(len(runs), -1)], 1)


def test_a_run_has_the_same_bits_whatever_runs_beside_it():
    together = learned([0, 1, 2, 3, 4])
    assert torch.equal(learned([3]), together[3:4])
    assert torch.equal(learned([3], threads=2), together[3:4])
    assert torch.equal(learned([0, 1, 2, 3, 4], threads=2), together)


def spoil(made, *, actor):
    """Break run 1, in the gradient of the critics or in that of the actor alone."""
    if actor:  # infinite coefficients reach no value where those are set apart
        made._entropy.coefficient._scheduled.value[1] = math.inf
    else:
        made._collector.replay.reward[1] = math.nan


@pytest.mark.parametrize("actor", [False, True])
def test_a_gradient_that_is_not_finite_stops_its_run_alone(actor):
    config = sac(gradient_steps=2, ent_coef=0.1, critic_ent_coef=0.0)
    reference, made, whole = agent(config), agent(config), agent(config)
    for fused in (made, whole):
        fused.use_fused_kernel()
    whole.update(0.5)
    for broken in (reference, made):
        spoil(broken, actor=actor)
        broken.update(0.5)
    assert made.health.stopped.tolist() == [False, True, False]
    assert made.health.n_steps == reference.health.n_steps == 4
    kept, expected = made.health.kept[1], reference.health.kept[1]
    assert kept.notes == expected.notes == {"network": "policy" if actor else "critics", "gradient_step": 1 + actor}
    assert kept.tensors.keys() == expected.tensors.keys()
    for name, numbers in expected.tensors.items():
        torch.testing.assert_close(kept.tensors[name], numbers, rtol=1e-4, atol=1e-5, equal_nan=True)
    for name, values in everything(made).items():
        same = everything(whole)[name].view(3, -1)
        assert torch.equal(values.view(3, -1)[[0, 2]], same[[0, 2]]), name
        torch.testing.assert_close(values, everything(reference)[name], rtol=1e-4, atol=1e-5)


def test_the_squashed_head_is_that_of_torch_far_out_too():
    from entropic_rl.fused.squashed import draw_squashed, make_squashed, squashed_slopes

    mean = torch.tensor([0.0, 1e-9, -0.3, 2.0, -9.0, 20.0, -40.0, 1e4, 0.1, 0.1])
    log_std = torch.tensor([0.0, -5.0, 0.5, 1.9, -1.0, 1.0, 2.0, 0.3, 2.5, -30.0])
    noise = torch.linspace(-2.0, 3.0, len(mean)) * (mean != 0.0)
    outputs = torch.stack([mean, log_std]).double().requires_grad_()
    policy = TanhGaussian(outputs[:1].T, outputs[1:].T.clamp(-20.0, 2.0))
    unsquashed, log_prob = policy.sample_and_log_prob(noise.double().unsqueeze(1))
    by_action, by_log_prob = torch.linspace(-2.0, 2.0, len(mean)).double(), torch.linspace(0.5, 1.0, len(mean)).double()
    loss = (unsquashed.tanh().squeeze(1) * by_action + log_prob * by_log_prob).sum()
    [expected] = torch.autograd.grad(loss, outputs)
    drawn, back = make_squashed(1, len(mean)), np.empty((2, len(mean)), np.float32)
    draw_squashed(torch.stack([mean, log_std]).numpy(), noise.unsqueeze(1).numpy(), drawn)
    squashed_slopes(drawn, by_action.unsqueeze(0).numpy(), by_log_prob.numpy(), back)
    np.testing.assert_allclose(drawn.action[0], unsquashed.detach().tanh().squeeze(1).numpy(), rtol=1e-13)
    np.testing.assert_allclose(drawn.log_prob, log_prob.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(back, expected.numpy(), rtol=1e-6, atol=1e-12)


def test_a_snapshot_goes_on_with_the_same_bits():
    first, second = agent(sac()), agent(sac())
    for made in (first, second):
        made.use_fused_kernel()
    for _ in range(3):
        first.update(0.1)
    snapshots.put_back(snapshots.take({"agent": first}), {"agent": second})
    first.update(0.2)
    second.update(0.2)
    for name, values in everything(first).items():
        assert torch.equal(everything(second)[name], values), name


def test_either_goes_on_where_the_other_stopped():
    reference, changing = agent(sac()), agent(sac())
    for i in range(6):
        if i % 2:
            changing.use_fused_kernel()
        else:
            changing._fused = None
        reference.update(0.1)
        changing.update(0.1)
    torch.testing.assert_close(everything(changing), everything(reference), rtol=1e-4, atol=1e-6)


def test_a_snapshot_holds_no_more_than_that_of_autograd():
    made, plain = agent(sac()), agent(sac())
    made.use_fused_kernel()
    assert snapshots.take({"agent": made}).tensors.keys() == snapshots.take({"agent": plain}).tensors.keys()


@pytest.mark.parametrize(
    ("changes", "dtype", "part"),
    [
        ({"entropy": "renyi:2"}, torch.float32, "got renyi:2"),
        ({"entropy_estimate": "exact"}, torch.float32, "got --entropy-estimate exact"),
        ({}, torch.float64, "got torch.float64 on cpu"),
    ],
    ids=str,
)
def test_what_it_does_not_serve_is_refused_in_one_line(changes, dtype, part):
    action = action_spec(spaces.Box(-1.0, 1.0, (2,)), squash_output=True)
    made = SAC([sac(**changes)], [0], observation=ObservationSpec.vector(3), action=action, n_envs=1, dtype=dtype)
    with pytest.raises(ConfigError, match=r"^kernel: fused serves .*; use --kernel autograd$") as refused:
        made.use_fused_kernel()
    assert part in str(refused.value)


SMALL = "sac --env Pendulum-v1 --learning-starts 8 --batch-size 16 --total-timesteps 32 --eval-episodes 1 --no-progress"


@pytest.mark.parametrize(
    ("words", "least", "kernel"),
    [("", 33, "autograd"), ("", 32, "fused"), ("--kernel fused", 33, "fused"), ("--diagnose", 32, "autograd")],
)
def test_what_was_used_is_written_down(tmp_path, monkeypatch, words, least, kernel):
    monkeypatch.setattr("entropic_rl.kernels.FUSED_FROM", least)
    assert cli.main([*SMALL.split(), *words.split(), "--run-dir", str(tmp_path / "run")], verb="train") == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["kernel"] == kernel


def test_each_run_has_its_own_coefficient():
    configs = [sac(ent_coef=value) for value in (0.0, "auto", "linear:0.5:0")]
    made = [
        SAC(configs, [0, 1, 2], observation=ObservationSpec.vector(5), n_envs=E,
            action=action_spec(spaces.Box(-1.0, 1.0, (3,)), squash_output=True))
        for _ in range(2)
    ]  # fmt: skip
    for each in made:
        each._collector.replay = agent(sac())._collector.replay
    made[1].use_fused_kernel()
    for _ in range(5):
        expected, found = made[0].update(0.3), made[1].update(0.3)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(everything(made[1]), everything(made[0]), rtol=1e-4, atol=1e-5)
