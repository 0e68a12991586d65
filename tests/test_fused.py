"""The compiled update against autograd, whose numbers it has to give for every option."""

import json
import math
from dataclasses import replace

import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from entropic_rl import cli, snapshots
from entropic_rl.agents.a2c import A2C
from entropic_rl.agents.config import A2CConfig, PPOConfig
from entropic_rl.agents.ppo import PPO
from entropic_rl.config import RunConfig
from entropic_rl.errors import ConfigError
from entropic_rl.kernels import use_kernel
from entropic_rl.on_policy import Samples
from entropic_rl.spaces import ObservationSpec, action_spec

pytest.importorskip("numba")
DISCRETE, SEVERAL, BOX = spaces.Discrete(3), spaces.MultiDiscrete([3, 2, 4]), spaces.Box(-1.0, 1.0, (3,))
FAMILIES = ["tsallis:2", "tsallis:0.5", "renyi:3", "renyi:0.9", "kl-to-uniform", "kl-to-prior:1,2,3"]


def agent(config, *, seeds=(0, 1, 2), space=DISCRETE, size=5, n_envs=1, ent_coefs=None):
    """An agent of as many runs as there are seeds, with a policy that is far from uniform."""
    configs = [config] * len(seeds)
    if ent_coefs is not None:
        configs = [replace(config, ent_coef=value) for value in ent_coefs]
    cls = PPO if isinstance(config, PPOConfig) else A2C
    made = cls(
        configs,
        list(seeds),
        observation=ObservationSpec.vector(size),
        action=action_spec(space, squash_output=config.squash_output),
        n_envs=n_envs,
    )
    made.policy.params.values.mul_(torch.where(made.policy.params.values.abs() < 0.05, 8.0, 1.0))
    return made


def samples_of(made, n, seed, *, valid=False, mask=False):
    """What a policy near the agent's own might have met."""
    policy, g = made.policy, torch.Generator().manual_seed(seed)
    n_runs, n_outputs = len(policy.params.values), policy.action.n_outputs
    obs = torch.randn(n_runs, n, policy.observation.size, generator=g)
    allowed = None
    if mask:
        allowed = torch.rand(n_runs, n, n_outputs, generator=g) < 0.6
        for first in (0, *torch.tensor(policy.action.nvec).cumsum(0).tolist()[:-1]):
            allowed[..., first] = True
    uniform = torch.rand(n_runs, n, n_outputs, generator=g).clamp(1e-6, 1 - 1e-6)
    noise = torch.special.ndtri(uniform) if policy.action.is_continuous else -(-uniform.log()).log()
    with torch.no_grad():
        distribution, value = policy.evaluate(obs, allowed)
        action = distribution.sample(noise)
        log_prob = distribution.log_prob(action) + 0.2 * torch.randn(n_runs, n, generator=g)
        value = value + 0.1 * torch.randn(n_runs, n, generator=g)
    advantage = 3.0 * torch.randn(n_runs, n, generator=g) + 1.0
    return Samples(
        obs=obs,
        action=action,
        log_prob=log_prob,
        value=value,
        advantage=advantage,
        value_target=advantage + value,
        valid=(torch.rand(n_runs, n, generator=g) < 0.8) if valid else None,
        mask=allowed,
        entropy=torch.zeros(n_runs, 4),
        reward_scale=torch.rand(n_runs, generator=g) + 0.5,
    )


def coefficients(made, progress=0.0):
    made._entropy.coefficient.at(progress)
    return made._coefficients.at(progress)


def by_autograd(made, samples, c):
    if isinstance(made, PPO):
        first = made._minibatch_stream.position
        metrics = made._learn(samples, c)
        made._minibatch_stream.position = first + made.config.n_epochs
        return metrics
    parts, metrics = made._loss(samples, c)
    return metrics | {"train/grad_norm": made._step(samples, parts, c)}


def by_kernel(made, samples, c):
    if made._fused is None:
        made.use_fused_kernel()
    return made._fused(samples, c, lambda batch: {"obs": batch.obs})


def check_equal(config, *, n=70, n_updates=10, **options):
    """Ten updates by both from the same beginning, on the same samples."""
    kinds = {name: options.pop(name) for name in ("valid", "mask") if name in options}
    reference, fused = agent(config, **options), agent(config, **options)
    begun = reference.policy.params.values.clone()
    for i in range(n_updates):
        samples = samples_of(reference, n, i, **kinds)
        c = coefficients(reference, i / n_updates), coefficients(fused, i / n_updates)
        expected, found = by_autograd(reference, samples, c[0]), by_kernel(fused, samples, c[1])
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            torch.testing.assert_close(
                found[name], values, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + text
            )
    values = reference.policy.params.values
    assert (values - begun).abs().amax(1).min() > 5e-4  # every run has moved
    torch.testing.assert_close(fused.policy.params.values, values, rtol=0.0, atol=1e-5)
    for name, state in reference._optimizer.state_dict().items():
        torch.testing.assert_close(fused._optimizer.state_dict()[name], state, rtol=1e-4, atol=1e-6)


def ppo(**changes):
    return PPOConfig(
        **{"n_steps": 70, "batch_size": 32, "n_epochs": 3, "ent_coef": 0.02, "net_arch": (24, 17), **changes}
    )


PPO_OPTIONS = [
    {"batch_size": 70},
    {"ent_coef": "linear:0.1:0", "learning_rate": "linear:0.001:0.0001"},
    {"normalize_advantage": False},
    {"clip_range": 0.05, "clip_range_vf": 0.1},
    {"target_kl": 0.02},
    {"max_grad_norm": 0.05, "vf_coef": 2.0},
    {"ent_coef_unit": "reward"},
    {"entropy_in": "both"},
    {"share_features": True},
    {"share_features": True, "net_arch": ()},
    {"net_arch": ()},
    {"net_arch": (9,)},
    {"net_arch": (64, 64, 32)},
    *({"activation": name} for name in ("relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid")),
]


@pytest.mark.parametrize("changes", PPO_OPTIONS, ids=str)
def test_ppo_learns_what_autograd_does(changes):
    check_equal(ppo(**changes))


@pytest.mark.parametrize("changes", [{}, {"normalize_advantage": True}, {"ent_coef_unit": "reward"}], ids=str)
@pytest.mark.parametrize("space", [DISCRETE, BOX], ids=str)
def test_a2c_learns_what_autograd_does(changes, space):
    check_equal(A2CConfig(ent_coef=0.02, net_arch=(24, 17), **changes), space=space, valid=True)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("mask", [False, True])
def test_entropy_families_of_a_choice(family, mask):
    check_equal(ppo(entropy=family, ent_coef=0.1), mask=mask, valid=mask)


@pytest.mark.parametrize("family", ["shannon", *FAMILIES[:-1]])
@pytest.mark.parametrize("mask", [False, True])
def test_entropy_families_of_several_choices(family, mask):
    check_equal(ppo(entropy=family, ent_coef=0.1), space=SEVERAL, mask=mask)


@pytest.mark.parametrize("family", ["shannon", "tsallis:2", "renyi:3", "kl-to-prior:0.5", "kl-to-prior:1,2,0.3"])
def test_entropy_families_of_numbers(family):
    check_equal(ppo(entropy=family, ent_coef=0.1), space=BOX, valid=True)


def test_deviations_at_their_bounds_move_as_with_autograd():
    check_equal(ppo(log_std_init=2.0), space=BOX)
    check_equal(ppo(log_std_init=2.1), space=BOX)


def test_each_run_has_its_own_coefficient():
    check_equal(ppo(), ent_coefs=[0.0, 0.05, "linear:0.5:0"])


@settings(max_examples=15)
@given(
    widths=st.lists(st.integers(1, 70), max_size=3),
    n=st.integers(2, 300),
    batch_size=st.integers(1, 300),
    size=st.integers(1, 40),
    n_actions=st.integers(2, 20),
)
def test_no_size_is_special(widths, n, batch_size, size, n_actions):
    config = ppo(
        n_steps=n, batch_size=min(batch_size, n), net_arch=tuple(widths), n_epochs=1, normalize_advantage=n > 3
    )
    check_equal(config, n=n, n_updates=2, seeds=(0,), space=spaces.Discrete(n_actions), size=size)


def learned(seeds, *, threads=1, which=None):
    made, before = agent(ppo(), seeds=seeds), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        everything = samples_of(agent(ppo(), seeds=range(5)), 70, 0)
        samples = everything._map(lambda x: x[list(seeds)])
        by_kernel(made, samples, coefficients(made))
    finally:
        torch.set_num_threads(before)
    return made.policy.params.values


def test_a_run_has_the_same_bits_whatever_runs_beside_it():
    together = learned(range(5))
    assert torch.equal(learned([3]), together[3:4])
    assert torch.equal(learned(range(5), threads=2), together)


def test_a_gradient_that_is_not_finite_stops_its_run_alone():
    made, whole = agent(ppo()), agent(ppo())
    samples = samples_of(made, 70, 0)
    by_kernel(whole, samples, coefficients(whole))
    orders = agent(ppo())._minibatch_stream.permutation(70)[1]
    broken = samples.advantage.clone()
    broken[1, orders[40]] = math.nan  # in the second minibatch of the first epoch
    begun = made.policy.params.values.clone()
    by_kernel(made, samples._map(lambda x: broken if x is samples.advantage else x), coefficients(made))
    others = [0, 2]
    assert made.health.stopped.tolist() == [False, True, False]
    assert torch.equal(made.policy.params.values[others], whole.policy.params.values[others])
    assert made._optimizer.step_count.flatten().tolist() == [9.0, 1.0, 9.0]
    assert not torch.equal(made.policy.params.values[1], begun[1])
    assert made.policy.params.values.isfinite().all()
    kept = made.health.kept[1]
    assert kept.notes == {"network": "policy", "gradient_step": 2}
    assert torch.equal(kept.tensors["obs"], samples.obs[1:2, orders[32:64]])
    frozen = made.policy.params.values[1].clone()
    by_kernel(made, samples, coefficients(made))
    assert torch.equal(made.policy.params.values[1], frozen)


@pytest.mark.parametrize(
    ("space", "changes", "part"),
    [
        (spaces.MultiBinary(3), {}, "got a bernoulli one"),
        (BOX, {"squash_output": True}, "got a tanh-gaussian one"),
        (DISCRETE, {"entropy": "renyi:inf"}, "got renyi:inf"),
        (DISCRETE, {"entropy": "tsallis:1.0001"}, "got tsallis:1.0001"),
        (DISCRETE, {"recurrent": "gru"}, "got a policy with features or memory"),
    ],
    ids=str,
)
def test_what_it_does_not_serve_is_refused_in_one_line(space, changes, part):
    made = agent(ppo(**changes), space=space)
    with pytest.raises(ConfigError, match=r"^kernel: fused serves .*; use --kernel autograd$") as refused:
        made.use_fused_kernel()
    assert part in str(refused.value)


def test_a_snapshot_of_it_holds_no_more_than_that_of_autograd():
    made, plain = agent(ppo()), agent(ppo())
    made.use_fused_kernel()
    assert snapshots.take({"agent": made}).tensors.keys() == snapshots.take({"agent": plain}).tensors.keys()


SMALL = "--env CartPole-v1 --n-envs 2 --total-timesteps 128 --eval-episodes 1 --no-progress"


def train(tmp_path, words):
    return cli.main([*words.split(), *SMALL.split(), "--run-dir", str(tmp_path / "run")], verb="train")


@pytest.mark.parametrize("name", ["ppo --n-steps 32 --batch-size 16 --kernel fused", "a2c --kernel fused"])
def test_train_takes_it(tmp_path, name):
    assert train(tmp_path, name) == 0


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("soft-q --kernel fused", "kernel: fused serves ppo, a2c and sac; use --kernel autograd"),
        (
            "ppo --n-steps 32 --batch-size 16 --kernel fused --diagnose",
            "kernel: fused shows no gradient steps, which --diagnose watches; use --kernel autograd",
        ),
        (
            "ppo --n-steps 32 --batch-size 16 --kernel fused --bf16",
            "kernel: fused computes in float32; leave --bf16 out, or use --kernel autograd",
        ),
        ("sac --env Pendulum-v1 --bf16", "bf16 serves ppo and a2c; leave --bf16 out"),
        ("a2c --bf16 --diagnose", "bf16: --diagnose watches layers in float32; leave one of them out"),
    ],
)
def test_train_refuses_it_where_it_is_not(tmp_path, capsys, words, line):
    small = SMALL.replace("--env CartPole-v1 ", "") if "--env" in words else SMALL
    code = cli.main([*words.split(), *small.split(), "--run-dir", str(tmp_path / "run")], verb="train")
    assert (code, capsys.readouterr().err.splitlines()[-1]) == (2, f"train.py: error: {line}")


@pytest.mark.parametrize(
    ("words", "least", "kernel"),
    [
        ("ppo --n-steps 32 --batch-size 16", 129, "autograd"),  # too short
        ("ppo --n-steps 32 --batch-size 16", 128, "fused"),
        ("ppo --n-steps 32 --batch-size 16 --kernel autograd", 128, "autograd"),
        ("ppo --n-steps 32 --batch-size 16 --recurrent gru", 128, "autograd"),  # there is none for it
        ("ppo --n-steps 32 --batch-size 16 --diagnose", 128, "autograd"),
        ("ppo --n-steps 32 --batch-size 16 --bf16", 128, "autograd"),
        ("a2c --kernel fused", 129, "fused"),
    ],
)
def test_what_was_used_is_written_down(tmp_path, monkeypatch, words, least, kernel):
    monkeypatch.setattr("entropic_rl.kernels.FUSED_FROM", least)
    assert train(tmp_path, words) == 0
    assert json.loads((tmp_path / "run" / "config.json").read_text())["kernel"] == kernel


def test_without_numba_auto_is_autograd(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "entropic_rl.fused.learner", None)
    made = agent(PPOConfig())
    run = RunConfig(env="CartPole-v1", total_timesteps=10**6)
    assert use_kernel(made, None, run) == "autograd"
    assert made._fused is None


def test_without_numba_one_line_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "entropic_rl.fused.learner", None)
    monkeypatch.setattr(
        "entropic_rl.fused.missing_package", lambda _: 'Numba, which is not installed; run: pip install "X"'
    )
    assert train(tmp_path, "ppo --n-steps 32 --batch-size 16 --kernel fused") == 2
    assert "kernel: fused needs Numba" in capsys.readouterr().err
