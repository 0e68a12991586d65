"""Gradient flow of agents: no bit changes, the terms sum to what is trained on, what is left in the run directory."""

import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv
from sklearn.datasets import load_digits

from entropic_rl import agents
from entropic_rl.agents.config import PPOConfig, action_head
from entropic_rl.calibration import EntropicClassifier
from entropic_rl.cell import Cell
from entropic_rl.cli import main
from entropic_rl.config import RunConfig
from entropic_rl.diagnosis import sentences
from entropic_rl.diagnostics.batch_flow import BatchFlow, layers_of
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.run_directory import read_metrics
from entropic_rl.runs import train_cells
from entropic_rl.spaces import observation_spec
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

OFF_POLICY = {"batch_size": 16, "learning_starts": 20, "buffer_size": 500, "net_arch": (16, 16)}
KINDS = {
    "PPO": ("CartPole-v1", {"n_steps": 16, "batch_size": 32, "n_epochs": 3, "ent_coef": 0.05}),
    "PPO-target-kl": ("CartPole-v1", {"n_steps": 16, "batch_size": 32, "n_epochs": 3, "target_kl": 1e-4}),
    "PPO-gru": ("CartPole-v1", {"n_steps": 16, "n_epochs": 3, "batch_size": 32, "recurrent": "gru", "ent_coef": 0.05}),
    "PPO-shared": (
        "Pendulum-v1",
        {"n_steps": 16, "n_epochs": 3, "batch_size": 32, "share_features": True, "ent_coef": 0.05},
    ),
    "A2C": ("CartPole-v1", {"ent_coef": 0.05}),
    "SAC": ("Pendulum-v1", OFF_POLICY),
    "DiscreteSAC": ("CartPole-v1", OFF_POLICY),
    "SoftQ": ("CartPole-v1", OFF_POLICY),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


def made(kind, n_runs=2, n_envs=4):
    env_id, settings = KINDS[kind]
    agent_class = getattr(agents, kind.split("-")[0])
    config = agent_class.Config(**settings)
    env = make_vector_env(env_id, n_runs * n_envs)
    observation = observation_spec(env.single_observation_space)
    action = action_head(config, env.single_action_space)
    envs = EnvBatch(env, n_runs, observation=observation, action=action, device="cpu", success_return=None)
    seeds = list(range(n_runs))
    shape = {"observation": observation, "action": action, "n_envs": n_envs}
    return agent_class([config] * n_runs, seeds, **shape), envs


def trained(kind, watcher=None, total_timesteps=384):
    agent, envs = made(kind)
    if watcher is not None:
        agent.watcher = watcher
    records = list(train(agent, envs, total_timesteps=total_timesteps, seeds=[0, 1], log_interval=10**6))
    envs.close()
    return agent, records


class Summing:
    """A watcher that holds the sum of the terms beside what was differentiated."""

    def __init__(self):
        self.errors = []

    def step(self, network, params, optimizer, terms):
        del network, optimizer
        task, entropy = terms()
        by_task = params.gradient(task, retain_graph=True).double()
        by_entropy = torch.zeros_like(by_task) if entropy is None else params.gradient(entropy).double()
        found, used = by_task + by_entropy, params.grads.double()
        found = found * (used.norm(dim=1) / found.norm(dim=1)).unsqueeze(1)  # it may have been clipped
        for layer in layers_of(params)[0]:
            error = (found - used)[:, layer.columns].norm(dim=1)
            size = by_task[:, layer.columns].norm(dim=1) + by_entropy[:, layer.columns].norm(dim=1)
            self.errors.append(float((error / size).max()))
        return nullcontext()


@every_kind
def test_watching_changes_no_bit_of_a_training(kind):
    (plain, before), (seen, after) = trained(kind), trained(kind, BatchFlow(every=2))
    assert torch.equal(plain.policy.params.values, seen.policy.params.values)
    for one, other in zip(before[-1].rows, after[-1].rows, strict=True):
        assert {k: v for k, v in one.items() if "time/" not in k} == {
            k: v for k, v in other.items() if "time/" not in k
        }


@every_kind
def test_the_terms_sum_to_the_gradient_that_is_stepped_with(kind):
    watcher = Summing()
    trained(kind, watcher, total_timesteps=160)
    assert watcher.errors
    assert max(watcher.errors) < 1e-6  # in float32, of the sizes of both terms, which may all but cancel each other


@every_kind
def test_every_layer_is_looked_at_and_none_alarms(kind):
    flow = BatchFlow(every=1)
    trained(kind, flow)
    for series in flow.series(1, 2).values():
        assert len(series.steps) > 2
        assert np.isfinite(series.signals["task_norm"]).all()
        assert {verdict.state for verdict in series.verdicts} == {"healthy"}


def test_runs_of_a_batch_are_told_apart():
    flow = BatchFlow(every=1)
    trained("PPO", flow)
    first, second = (flow.series(run, 2)["policy"].signals["task_norm"] for run in (0, 1))
    assert not np.array_equal(first, second)


def test_only_what_the_policy_computes_with_has_an_entropy_gradient():
    flow = BatchFlow(every=1)
    trained("PPO", flow)
    series = flow.series(0, 2)["policy"]
    of_actor = np.array([layer.startswith("actor") for layer in series.layers])
    assert (series.signals["entropy_norm"][:, of_actor] > 0).all()
    assert (series.signals["entropy_norm"][:, ~of_actor] == 0).all()
    assert (series.signals["entropy_share"][:, ~of_actor] == 0).all()


def test_a_planted_dead_layer_is_named_in_an_agent():
    agent, envs = made("DiscreteSAC")
    agent.watcher = flow = BatchFlow(every=1)
    agent.critics.params["critic.1.bias"].data.fill_(-50.0)
    list(train(agent, envs, total_timesteps=384, seeds=[0, 1], log_interval=10**6))
    envs.close()
    states = {verdict.layer: verdict.state for verdict in flow.series(0, 2)["critics"].verdicts}
    assert states["critic.1"] == "dead"
    assert states["critic.0"] == "vanishing"


def test_layers_of_shared_features_lead_to_both_outputs():
    agent, envs = made("PPO-shared")
    envs.close()
    layers, ways = layers_of(agent.policy.params)
    names = [layer.name for layer in layers]
    assert names.index("trunk.0") < names.index("actor.0")
    outputs = {names[i] for i in ways[names.index("trunk.0")].outputs}
    assert outputs == {"actor.0", "critic.0"}
    assert sum(layer.n_parameters for layer in layers) == agent.policy.params.values.shape[1]


# Classifiers


@pytest.mark.parametrize("settings", [{}, {"batch_norm": True, "dropout": 0.2}], ids=["plain", "norm-dropout"])
def test_watching_changes_no_bit_of_a_classifier(settings):
    x, y = load_digits(return_X_y=True)
    flow = BatchFlow(every=5)
    plain, seen = (
        EntropicClassifier(ent_coef=0.1, n_epochs=2, n_members=2, batch_size=64, random_state=0, **settings)
        for _ in range(2)
    )
    seen.watcher = flow
    assert np.array_equal(plain.fit(x / 16, y).predict_proba(x / 16), seen.fit(x / 16, y).predict_proba(x / 16))
    for member in range(2):
        series = flow.series(member, 2)["network"]
        assert series.layers == ("0", "1")
        assert (series.signals["entropy_norm"] > 0).all()
        assert {verdict.state for verdict in series.verdicts} == {"healthy"}


@pytest.mark.parametrize("weighted", [False, True])
def test_the_terms_of_a_classifier_sum_to_its_gradient(weighted):
    x, y = load_digits(return_X_y=True)
    watcher = Summing()
    model = EntropicClassifier(ent_coef=0.3, n_epochs=1, dropout=0.2, dtype="float64", random_state=0)
    model.watcher = watcher
    model.fit(x / 16, y, sample_weight=1.0 + y if weighted else None)
    assert max(watcher.errors) < 1e-12


# The verbs


SHORT = ["--total-timesteps", "1024", "--eval-episodes", "2", "--preset", "none", "--no-progress"]


def test_train_leaves_heat_maps_verdicts_and_the_same_numbers(tmp_path, capsys):
    common = ["ppo", "--env", "CartPole-v1", "--n-steps", "64", "--ent-coef", "0.02", *SHORT]
    assert (
        main([*common, "--run-dir", str(tmp_path / "seen"), "--diagnose", "--diagnose-every", "3"], verb="train") == 0
    )
    assert "gradient flow:\n  all 6 layers are healthy" in capsys.readouterr().out
    assert main([*common, "--run-dir", str(tmp_path / "plain")], verb="train") == 0
    seen, plain = ({p.name: p for p in (tmp_path / name).iterdir()} for name in ("seen", "plain"))
    assert set(seen) - set(plain) == {"gradient_flow.json", "gradient_flow.npz", "gradient_flow.svg"}
    assert seen["policy.safetensors"].read_bytes() == plain["policy.safetensors"].read_bytes()
    rows, other = read_metrics(tmp_path / "seen"), read_metrics(tmp_path / "plain")
    assert "flow/actor.0/entropy_share" in rows[-1]
    for row, same in zip(rows, other, strict=True):
        assert {k: v for k, v in row.items() if not k.startswith(("time/", "flow/"))} == {
            k: v for k, v in same.items() if not k.startswith("time/")
        }
    kept = np.load(tmp_path / "seen" / "gradient_flow.npz", allow_pickle=False)
    assert kept["policy/cosine"].shape == (len(kept["policy/steps"]), len(kept["policy/layers"]))
    assert "actor.0" in (tmp_path / "seen" / "gradient_flow.svg").read_text()
    assert not any(name.startswith("flow/") for name in json.loads(seen["summary.json"].read_text()))
    with pytest.raises(RunDirectoryError, match="expected a run with --diagnose"):
        sentences(tmp_path / "plain")


@pytest.mark.slow
def test_a_comparison_lays_gradients_side_by_side(tmp_path):
    command = [
        "ppo",
        "--env",
        "CartPole-v1",
        "--out",
        str(tmp_path / "out"),
        "--ent-coef",
        "0",
        "0.02",
        "0.2",
        "--seeds",
        "1",
    ]
    assert main([*command, *SHORT, "--n-steps", "64", "--diagnose"], verb="compare") == 0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Gradients of entropy and task" in page
    assert "All layers of all 3 runs are healthy." in page
    drawing = (tmp_path / "out" / "figures" / "gradient-flow.svg").read_text()
    assert "actor.2" in drawing
    assert "critic" not in drawing  # the entropy has no gradient there
    assert "ent_coef 0.02" in drawing  # nor without a weight


def test_an_agent_that_announces_nothing_is_refused_and_its_environments_are_closed(tmp_path, monkeypatch):
    closed = []
    cell = Cell("ppo", RunConfig(env="CartPole-v1", env_backend="sync", diagnose=True), PPOConfig(), tmp_path / "run")

    def silent(*args, **kwargs):
        return SimpleNamespace(policy=None)

    close = SyncVectorEnv.close
    monkeypatch.setattr(SyncVectorEnv, "close", lambda self, **options: (closed.append(1), close(self, **options)))
    with pytest.raises(ConfigError, match="expected an agent that announces its gradient steps"):
        train_cells(silent, [cell])
    assert closed
    assert not (tmp_path / "run").exists()


def test_agents_of_others_say_that_they_cannot_be_watched(tmp_path, capsys):
    command = [
        "sb3:PPO",
        "--env",
        "CartPole-v1",
        "--out",
        str(tmp_path / "out"),
        "--ent-coef",
        "0",
        "0.1",
        "--seeds",
        "1",
    ]
    assert main([*command, *SHORT, "--diagnose"], verb="compare") == 2
    assert "only our agents announce their gradient steps" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
