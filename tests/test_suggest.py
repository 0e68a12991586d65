"""Suggested coefficients: norms beside gradients taken by hand, the arithmetic, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch

from entropic_rl.calibration import EntropicClassifier
from entropic_rl.cell import Cell
from entropic_rl.cli import main
from entropic_rl.datasets import load
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import ConfigError
from entropic_rl.policies import ActorCritic, NetworkConfig
from entropic_rl.resolve import layered
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.suggest import SHARE, suggest_ent_coef
from entropic_rl.suggest.evidence import GradientNorms, norms_of, suggestion
from entropic_rl.suggest.runs import measure_policy
from entropic_rl.vector import EnvBatch

SMALL = {"n_envs": 4, "n_steps": 32, "batch_size": 64, "total_timesteps": 512, "eval_episodes": 1, "coverage": "off"}


def norms(task, entropy, group=None, **options):
    task, entropy = (np.asarray(part, float).reshape(-1, 1) for part in (task, entropy))
    group = np.arange(len(task)) if group is None else np.asarray(group)
    told = {"cosine": np.zeros(len(task)), "level": 0.5, "highest": math.log(2)} | options
    return GradientNorms(("layer",), task, entropy, told["cosine"], group, told["level"], told["highest"])


# The arithmetic


def test_suggestion_makes_the_entropy_gradient_the_share_of_the_task_gradient():
    found = suggestion(norms([2.0, 4.0], [0.5, 0.5]), 0.1, 0.0, "here")
    assert found.ent_coef == pytest.approx(0.1 * 3.0 / 0.5)
    assert found.ent_coef * 0.5 == pytest.approx(0.1 * 3.0)
    assert found.low == pytest.approx(0.1 * 2.0 / 0.5)
    assert found.high == pytest.approx(0.1 * 4.0 / 0.5)
    assert found.layers[-1].name == "all"


def test_interval_is_over_rollouts_not_over_their_minibatches():
    within = suggestion(norms([1.0, 3.0] * 4, [1.0] * 8, group=[0, 0, 1, 1, 2, 2, 3, 3]), 0.1, 0.0, "here")
    assert within.low == pytest.approx(within.high)  # rollouts agree, whatever their minibatches do


def test_norms_of_layers_make_the_norm_of_the_whole():
    task = [torch.tensor([[3.0, 0.0]]), torch.tensor([[4.0]]), torch.tensor([[12.0]])]
    names, first, second, cosine = norms_of(["a", "a", "b"], task, [-t for t in task])
    assert names == ("a", "b")
    torch.testing.assert_close(first, torch.tensor([[5.0, 12.0]]))
    torch.testing.assert_close(second, first)
    assert cosine.item() == pytest.approx(1.0)  # descent of the task is ascent of the entropy


@pytest.mark.parametrize(
    ("task", "entropy", "text"), [([1.0, 1.0], [0.0, 0.0], "uniform nor settled"), ([0.0, 0.0], [1.0, 1.0], "above 0"),
                                  ([1.0, np.nan], [1.0, 1.0], "finite")]
)  # fmt: skip
def test_gradients_that_say_nothing_are_refused(task, entropy, text):
    with pytest.raises(ConfigError, match=text):
        suggestion(norms(task, entropy), 0.1, 0.0, "here")


# Agents


def measured(env_id="CartPole-v1", agent="ppo", **settings):
    """Norms of two runs of a policy that is not quite uniform."""
    _, config = layered(agent, {**SMALL, "env": env_id, "net_arch": (8,), **settings}, "none")
    env = make_vector_env(env_id, 8, backend="batched")
    observation, action = observation_spec(env.single_observation_space), action_spec(env.single_action_space)
    policy = ActorCritic(NetworkConfig.of(config), observation, action, [0, 0])
    policy.params["actor.1.weight"].data.mul_(50.0)
    return measure_policy(policy, config, EnvBatch(env, 2, observation=observation, action=action), [0, 1])


@pytest.mark.parametrize(
    ("agent", "env"),
    [("ppo", "CartPole-v1"), ("a2c", "CartPole-v1"), ("ppo", "Pendulum-v1"), ("ppo", "entropic_rl/Catch-v0")],
)
def test_norms_of_every_head_are_finite_and_of_each_layer(agent, env):
    settings = {} if agent == "ppo" else {"n_steps": 16}
    found = measured(env, agent, **settings)
    assert found.task.shape == found.entropy.shape == (len(found.group), len(found.layers))
    assert np.isfinite(found.task).all()
    assert (np.abs(found.cosine) <= 1.0).all()
    assert {*found.group} == {0, 1}
    assert not any(name.startswith("critic") for name in found.layers)


def test_entropy_of_a_gaussian_of_one_width_has_the_gradient_of_its_width_alone():
    found = measured("Pendulum-v1")
    widths = found.layers.index("log_std")
    np.testing.assert_allclose(found.entropy[:, widths], 1.0, rtol=1e-5)  # H = log std + constant, one dimension
    assert not np.delete(found.entropy, widths, 1).any()


def test_in_units_of_the_reward_the_entropy_is_divided_by_what_advantages_were():
    plain, scaled = measured(), measured(ent_coef_unit="reward")
    np.testing.assert_allclose(plain.task, scaled.task, rtol=1e-5)
    factor = plain.entropy / scaled.entropy  # of each minibatch, the standard deviation of its advantages
    np.testing.assert_allclose(factor, factor[:, :1].repeat(factor.shape[1], 1), rtol=1e-4)
    assert np.ptp(factor[:, 0]) > 0.0


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A short training, and its directory."""
    directory = tmp_path_factory.mktemp("run") / "ppo"
    words = ["ppo", "--env", "entropic_rl/Catch-v0", "--run-dir", str(directory), "--preset", "none", "--n-envs", "4"]
    words += ["--n-steps", "32", "--batch-size", "64", "--total-timesteps", "512", "--eval-episodes", "1"]
    assert main([*words, "--coverage", "off", "--no-progress"], verb="train") == 0
    return directory


def test_a_run_directory_gives_a_suggestion_with_its_evidence(run, capsys):
    found = suggest_ent_coef(run, n_batches=4)
    assert 0.0 < found.low <= found.ent_coef <= found.high
    assert found.ent_coef == suggest_ent_coef(run, n_batches=4).ent_coef
    assert suggest_ent_coef(run, n_batches=4, share=2 * SHARE).ent_coef == pytest.approx(2 * found.ent_coef)
    capsys.readouterr()
    assert main([str(run), "--suggest-ent-coef"], verb="evaluate") == 0
    told = capsys.readouterr().out
    assert all(text in told for text in ("ppo on entropic_rl/Catch-v0", "actor.0", "in place of 0.0", "--ent-coef 0"))
    assert main([str(run), "--suggest-ent-coef", "0.3", "--json"], verb="evaluate") == 0
    assert json.loads(capsys.readouterr().out)["share"] == 0.3
    assert main([str(run), "--suggest-ent-coef", "--json"], verb="evaluate") == 0
    assert json.loads(capsys.readouterr().out)["share"] == SHARE


@pytest.mark.parametrize(
    ("words", "text"),
    [(["--suggest-ent-coef", "-1"], "share"), (["--suggest-ent-coef", "--stochastic"], "beside it")],
)
def test_command_line_refuses_what_makes_no_suggestion(words, text, run, capsys):
    assert main([str(run), *words], verb="evaluate") == 2
    assert text in capsys.readouterr().err


def test_runs_of_other_agents_and_places_are_refused(tmp_path):
    from entropic_rl.suggest.runs import norms_of_run

    for agent, settings, text in (("discrete-sac", {}, "ppo or a2c"), ("ppo", {"entropy_in": "reward"}, "in the loss")):
        cell = Cell(agent, *layered(agent, {"env": "CartPole-v1", **settings}, "none"), tmp_path)
        with pytest.raises(ConfigError, match=text):
            norms_of_run(cell, 2, 0)


# Classifiers


def small_classifier(**settings):
    return EntropicClassifier(**{"net_arch": (8,), "n_epochs": 5, **settings})


def test_norms_of_a_linear_classifier_are_those_taken_by_hand():
    data = load("wine")
    X = (data.X - data.X.mean(0)) / data.X.std(0)
    classifier = small_classifier(net_arch=(), batch_size=None)
    found = suggest_ent_coef(classifier, X, data.y, n_batches=2, seed=3, share=0.1)
    from sklearn.model_selection import StratifiedKFold

    ratios = []
    for k, (train, held_out) in enumerate(StratifiedKFold(2, shuffle=True, random_state=3).split(X, data.y)):
        fitted = small_classifier(net_arch=(), batch_size=None, random_state=3 + k).fit(X[train], data.y[train])
        p, x = fitted.predict_proba(X[held_out]), np.column_stack([X[held_out], np.ones(len(held_out))])
        h = -(p * np.log(p)).sum(1, keepdims=True)
        task = x.T @ (p - np.eye(3)[data.y[held_out]]) / len(x)
        entropy = x.T @ (-p * (np.log(p) + h)) / len(x)
        ratios.append([np.linalg.norm(task), np.linalg.norm(entropy)])
    task, entropy = np.mean(ratios, 0)
    assert found.ent_coef == pytest.approx(0.1 * task / entropy, rel=1e-5)


def test_a_classifier_stays_as_it_is_and_any_module_will_do():
    data = load("wine")
    classifier = small_classifier(module=torch.nn.Sequential(torch.nn.Linear(13, 3)))
    before = classifier.get_params()
    X = (data.X - data.X.mean(0)) / data.X.std(0)
    found = suggest_ent_coef(classifier, X, data.y, n_batches=2)
    assert [layer.name for layer in found.layers] == ["network", "all"]
    assert classifier.get_params() == before
    assert not hasattr(classifier, "classes_")


@pytest.mark.parametrize(
    ("source", "data", "options", "text"),
    [
        (small_classifier(), (None, None), {}, "rows and labels"),
        (small_classifier(), (np.eye(4), [0, 0, 0, 1]), {"n_batches": 3}, "fewer batches"),
        (object(), (None, None), {}, "run directory or an EntropicClassifier"),
        (small_classifier(), (None, None), {"share": 0.0}, "share"),
        (small_classifier(), (None, None), {"n_batches": 1}, "n_batches"),
    ],
)
@pytest.mark.filterwarnings("ignore:The least populated class")
def test_what_makes_no_suggestion_is_refused(source, data, options, text):
    with pytest.raises(ConfigError, match=text):
        suggest_ent_coef(source, *data, **options)
