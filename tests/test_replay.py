"""What a run broke on: kept for every agent, and computed again with the same numbers."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from entropic_rl.agents import agent_class
from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.buffers import Rollout
from entropic_rl.cell import Cell
from entropic_rl.cli import main
from entropic_rl.config import RunConfig
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import RunDirectoryError
from entropic_rl.evidence import LARGEST, load_evidence, save_evidence
from entropic_rl.health import Health, NumberWatch
from entropic_rl.kernels import use_bf16
from entropic_rl.replay import numbers_of, replay
from entropic_rl.runs import train_cells
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.training import Training
from entropic_rl.vector import EnvBatch
from tests.test_health import SMALL

SMALL = {
    **SMALL,
    "ppo gru": {**SMALL["ppo"], "recurrent": "gru", "recurrent_size": 3, "sequence_length": 4, "net_arch": ()},
    "soft-q": {**SMALL["soft-q"], "munchausen": 0.9},
}
RICH = {
    "ppo lstm": {**SMALL["ppo gru"], "recurrent": "lstm", "normalize_obs": True, "normalize_reward": True,
                 "clip_range_vf": 0.2, "entropy": "tsallis:2", "ent_coef": "auto", "entropy_in": "both"},
    "ppo trunk": {**SMALL["ppo"], "share_features": True, "ent_coef": "linear:0.1:0", "ent_coef_unit": "reward"},
    "sac rich": {**SMALL["sac"], "normalize_obs": True, "n_steps": 3, "entropy_estimate": "exact", "ent_coef": "auto"},
    "a2c bf16": {**SMALL["a2c"], "net_arch": (16, 16), "ent_coef": 0.1},
    "a2c frames": {**SMALL["a2c"], "features": "attention", "features_dim": 4},
    "sac frames": SMALL["sac"],
    "discrete-sac rich": {**SMALL["discrete-sac"], "normalize_obs": True, "entropy": "renyi:2", "ent_coef": 0.3},
}  # fmt: skip
every_agent = pytest.mark.parametrize("name", SMALL)
NAN, INF = float("nan"), float("inf")
FILE = "offending_batch.safetensors"


def train(name, directory, poison, backend="batched"):
    """Trains 3 runs of 2 environments for 48 steps; ``poison(vector_env, agent)`` comes before. What run 1 left."""
    agent_name, seeds = name.split()[0], [4, 5, 6]
    env_id = "Pendulum-v1" if agent_name == "sac" else "CartPole-v1"
    config = AGENT_CONFIGS[agent_name](**(SMALL | RICH)[name])
    run = RunConfig(env=env_id, seed=5, n_envs=2, bf16=name.endswith("bf16"))
    settings = Cell(agent_name, run, config, directory).to_json()
    vector_env = make_vector_env(env_id, 6, backend=backend)
    observation = observation_spec(vector_env.single_observation_space).stacked(3 if name.endswith("frames") else 1)
    action = action_spec(vector_env.single_action_space, squash_output=agent_name == "sac")
    envs = EnvBatch(vector_env, 3, observation=observation, action=action)
    agent = agent_class(agent_name)([config] * 3, seeds, observation=observation, action=action, n_envs=2)
    use_bf16(agent, run)
    poison(vector_env, agent)
    kept = []

    def keep(run, evidence):
        kept.append(run)
        return save_evidence(evidence, settings, agent.policy, directory)

    training = Training(agent, envs, total_timesteps=48 if is_on_policy(name) else 96, seeds=seeds, keep=keep)
    try:
        next(_ for _ in training if kept)
    finally:
        envs.close()
    assert kept == [1]
    assert "; evaluate.py --replay RUN_DIR shows" in training.broken[1]
    return directory / FILE


def poisoned(what, value, steps=(13,)):
    """From the second copy of run 1 comes ``value`` at these steps, in its observation or as its reward."""

    def poison(vector_env, agent):
        honest, calls = vector_env.step, [0]

        def dishonest(action):
            calls[0] += 1
            obs, reward, *rest = honest(action)
            if calls[0] in steps:
                numbers = obs if what == "observation" else reward
                numbers[3] = value
            return obs, reward, *rest

        vector_env.step = dishonest

    return poison


def with_parameter(network):
    """A weight of run 1 is not a number."""

    def poison(vector_env, agent):
        params = getattr(agent, network).params
        name = next(name for name in params.shapes if name.startswith(("actor", "critic")))
        with torch.no_grad():
            params[name][len(params.values) // 3, -1, 0] = NAN

    return poison


def refused(step):
    """The gradient of run 1 is refused at a step though it is finite; the list takes what the learner saw."""
    seen = []

    def poison(vector_env, agent):
        health, honest = agent.health, agent.health.active
        for name in ("policy", "critics"):
            if hasattr(agent, name):
                remember(getattr(agent, name).params)

        def active(grads, active=None):
            if len(seen) == step:
                health.stop(1)
                health._found.append(1)
            return honest(grads, active)

        health.active = active

    def remember(params):
        honest = params.backward

        def backward(loss):
            honest(loss)
            seen.append((loss.detach().clone(), params.grads.clone()))

        params.backward = backward

    return poison, seen


def is_on_policy(name):
    return name.startswith(("ppo", "a2c"))


def parts_of(path):
    return dict(numbers_of(load_evidence(path)))


# The same numbers


@pytest.mark.parametrize(("name", "step"), [*[(name, 3) for name in SMALL | RICH], ("sac", 4), ("discrete-sac", 4)])
def test_gradient_and_loss_are_those_that_the_learner_saw(name, step, tmp_path):
    poison, seen = refused(step)
    parts = parts_of(train(name, tmp_path, poison))
    loss, grads = seen[step - 1]
    rows = len(grads) // 3
    again = torch.cat([x.flatten(1) for part, x in parts.items() if part.startswith("gradient of")], 1)
    assert again.abs().max() > 1e-6
    torch.testing.assert_close(again, grads[rows : 2 * rows], rtol=1e-6, atol=1e-6)
    own = loss.view(3, -1)[1]
    torch.testing.assert_close(parts["loss"], own, rtol=1e-6, atol=1e-6)
    assert replay(tmp_path).first is None
    assert str(replay(tmp_path)).endswith("\nall numbers are finite")


# The first that is not finite


@every_agent
def test_observation_that_is_not_a_number_is_named_first(name, tmp_path):
    found = replay(train(name, tmp_path, poisoned("observation", NAN)))
    if is_on_policy(name):
        assert (found.first.name, found.first.first) == ("rollout.obs", (5, 1, 0))  # [T + 1, E, D]
    else:
        assert found.first.name in ("batch.obs", "batch.next_obs")
    assert found.first.n_broken % found.first.shape[-1] == 0
    assert str(found).splitlines()[-1].startswith(f"the first that is not finite: {found.first.name} (")


def test_frames_from_before_an_episode_are_no_broken_numbers(tmp_path):
    path = train("a2c frames", tmp_path, poisoned("observation", NAN))
    part = replay(path).first
    # As the last of three frames and as the one before; as the first it could lie before an episode.
    assert (part.name, part.first, part.n_broken) == ("rollout.obs", (5, 1, 8), 2 * 4)
    assert parts_of(path)["rollout.obs"].isnan().sum() > part.n_broken


@every_agent
def test_reward_that_is_infinite_is_named_first(name, tmp_path):
    found = replay(train(name, tmp_path, poisoned("reward", INF)))
    assert found.first.name == ("rollout.reward" if is_on_policy(name) else "batch.reward")


@pytest.mark.parametrize(
    ("name", "steps", "part"),
    [
        ("ppo", (13,), "value loss"),
        ("ppo gru", (13,), "advantage, normalised"),
        ("ppo", (12, 13), "batch.advantage"),
        ("ppo gru", (12, 13), "batch.advantage"),
    ],
)
def test_numbers_that_are_too_large_are_named_where_they_overflow(name, steps, part, tmp_path):
    assert replay(train(name, tmp_path, poisoned("reward", 3e38, steps))).first.name == part


@every_agent
def test_parameter_that_is_not_a_number_is_named_first(name, tmp_path):
    found = replay(train(name, tmp_path, with_parameter("policy")))
    assert found.first.name.startswith("policy.params.actor.")
    assert found.first.n_broken == 1


@pytest.mark.parametrize("name", ["sac", "discrete-sac"])
def test_parameter_of_a_critic_is_named_with_its_critic(name, tmp_path):
    found = replay(train(name, tmp_path, with_parameter("critics")))
    assert found.first.name.startswith("critics.trained.critic.")
    assert found.first.shape[0] == 2
    assert found.first.first[0] == 0


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("ppo", "logits"),
        ("ppo gru", "logits"),
        ("a2c", "logits"),
        ("sac", "mean"),
        ("discrete-sac", "logits"),
        ("soft-q", "values"),
    ],
)
def test_outputs_that_overflow_are_named(name, part, tmp_path):
    def poison(vector_env, agent):
        with torch.no_grad():
            for weight in [w for n, w in agent.policy.params._views.items() if n.startswith("actor")]:
                weight[1] = 3e38

    found = replay(train(name, tmp_path, poison))
    assert found.first.name == part or found.first.name.startswith("batch.")


# What comes from environments as NumPy


def test_numbers_of_an_env_step_are_kept_as_they_came(tmp_path):
    found = replay(train("ppo", tmp_path, poisoned("observation", [1.0, INF, NAN, 2.0]), backend="sync"))
    assert found.kind == "step"
    assert [part.name for part in found.parts] == ["next_obs", "reward", "action", "terminated", "truncated"]
    assert str(found).endswith("\nthe first that is not finite: next_obs (2 of 8 numbers, first at row 1, column 1)")
    assert "environment 1, step 13 after its reset with seed " in str(found)


def test_reward_of_an_env_step_is_kept_beside_its_action(tmp_path):
    path = train("sac", tmp_path, poisoned("reward", -INF), backend="sync")
    tensors = parts_of(path)
    assert torch.equal(tensors["reward"].isinf(), torch.tensor([False, True]))
    assert tensors["action"].shape == (2, 1)
    assert str(replay(path)).endswith("first that is not finite: reward (1 of 2 numbers, first at row 1)")


def test_observation_of_a_reset_is_kept_alone():
    watch = NumberWatch(2, 2)
    watch.restart([7, 8, 9, 10], np.array([[1.0], [2.0], [3.0], [NAN]], np.float32))
    assert list(watch.kept) == [1]
    assert list(watch.kept[1].tensors) == ["obs"]
    np.testing.assert_array_equal(watch.kept[1].tensors["obs"], [[3.0], [NAN]])


def test_what_is_kept_of_a_step_is_a_copy():
    watch, obs = NumberWatch(1, 1), np.array([[NAN]])
    watch.restart([0], np.zeros((1, 1)))
    watch(obs, np.zeros(1), None)
    obs[:] = 1.0
    assert watch.kept[0].tensors["next_obs"].isnan().all()


# When nothing is broken


def test_nothing_is_asked_for_while_gradients_are_finite():
    health = Health(2)
    health.active(torch.ones(2, 3))
    health.look("policy", lambda: pytest.fail("asked"))
    assert not health.kept


def test_rows_of_a_broken_run_are_kept_of_every_tensor():
    health, grads = Health(2), torch.ones(4, 3)
    grads[3, 0] = NAN
    health.active(grads)
    health.look("critics", lambda: {"of a run": torch.arange(2), "of a critic": torch.arange(4)})
    assert {name: x.tolist() for name, x in health.kept[1].tensors.items()} == {"of a run": [1], "of a critic": [2, 3]}
    health.look("policy", lambda: pytest.fail("asked again"))


# Run directories


RUN = RunConfig(env="CartPole-v1", total_timesteps=40, n_envs=2, eval_episodes=2, coverage="off", device="cpu")
A2C = AGENT_CONFIGS["a2c"](n_steps=4, net_arch=(4,))


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """Two cells trained together, of which the second has a learning rate that is far too large."""
    out = tmp_path_factory.mktemp("batch")
    cells = [Cell("a2c", RUN, A2C, out / "a"), Cell("a2c", RUN, replace(A2C, learning_rate=1e38), out / "b")]
    train_cells(agent_class("a2c"), cells)
    return out


@pytest.fixture
def path(broken, tmp_path):
    """A copy of the file that the second left."""
    return Path(shutil.copy(broken / "b" / FILE, tmp_path / FILE))


def test_only_the_run_that_broke_leaves_a_file(broken):
    assert (broken / "b" / FILE).exists()
    assert not (broken / "a" / FILE).exists()
    said = json.loads((broken / "b" / "failed.json").read_text())["error"]
    assert said.endswith("; evaluate.py --replay RUN_DIR shows which number was the first")


def test_file_of_a_run_that_was_mended_goes(broken, tmp_path):
    directory = tmp_path / "run"
    directory.mkdir()
    shutil.copy(broken / "b" / FILE, directory)
    train_cells(agent_class("a2c"), [Cell("a2c", RUN, A2C, directory)])
    assert not (directory / FILE).exists()


def test_file_has_the_settings_of_its_run(path):
    stored = load_evidence(path)
    cell = Cell.from_json(stored.settings | {"directory": "x"})
    assert (cell.agent, cell.run.env, cell.config.learning_rate) == ("a2c", "CartPole-v1", 1e38)
    notes = stored.evidence.notes
    assert (notes["global_step"], notes["update"], notes["gradient_step"], notes["network"]) == (16, 2, 1, "policy")


# The command line


@pytest.mark.parametrize("place", ["a file", "a run directory"])
def test_table_ends_with_what_was_broken_first(path, place, capsys):
    assert main(["evaluate", "--replay", str(path if place == "a file" else path.parent)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a2c on CartPole-v1, seed 0, after 16 env steps: gradient step 1 of update 2, of the policy"
    assert lines[1].startswith("update 2 at 16 env steps: expected a finite gradient")
    assert lines[3].split() == ["shape", "not", "finite", "min", "max"]
    assert any(line.startswith("gradient of actor.0.weight ") for line in lines)
    assert lines[-1].startswith("the first that is not finite: policy.params.")


def test_json_is_one_object(path, capsys):
    assert main(["evaluate", "--replay", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["first"].startswith("policy.params.")
    assert {part["name"] for part in found["parts"]} >= {"batch.obs", "logits", "value", "policy loss", "loss"}


@pytest.mark.parametrize("flags", [[], ["run", "--replay", "run"]])
def test_one_of_directory_and_replay_is_expected(flags, capsys):
    assert main(["evaluate", *flags]) == 2
    assert "expected RUN_DIR, or --replay FILE, and not both" in capsys.readouterr().err


def rewritten(path, **changed):
    """The same numbers under another header."""
    with safe_open(path, framework="pt") as file:
        header = dict(file.metadata())
    save_file(load_file(path), path, metadata=header | changed)


DAMAGES = {
    "missing": (lambda path: path.unlink(), "no file"),
    "empty": (lambda path: path.write_bytes(b""), "cannot read"),
    "a text": (lambda path: path.write_text("x" * 500), "cannot read"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-4]), "cannot read"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "no file"),
    "too long": (lambda path: os.truncate(path, LARGEST + 2**21), "is no offending batch"),
    "a bit flipped": (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\x55"), "damaged"),
    "a policy": (lambda path: save_file({"x": torch.zeros(1)}, path), "is no offending batch"),
    "of a later version": (lambda path: rewritten(path, format="2"), "format 2: expected 1"),
    "other settings": (lambda path: rewritten(path, description="{}"), "damaged: it is not what its SHA-256 says"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_file_that_is_damaged_or_foreign_is_refused_in_one_line(damage, path, capsys):
    change, words = DAMAGES[damage]
    change(path)
    assert main(["evaluate", "--replay", str(path)]) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_no_flipped_byte_gives_other_numbers(path):
    content, sound = path.read_bytes(), load_evidence(path)
    for place in range(0, len(content), 97):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x41]) + content[place + 1 :])
        try:
            found = load_evidence(path)
        except RunDirectoryError:
            continue
        assert found.settings == sound.settings
        for name, tensor in sound.evidence.tensors.items():
            torch.testing.assert_close(found.evidence.tensors[name], tensor, rtol=0, atol=0, equal_nan=True)


def evidence_of(path):
    """What is in a file, as it is saved."""
    stored = load_evidence(path)
    policy = SimpleNamespace(observation=stored.observation, action=stored.action)
    return stored.evidence, stored.settings, policy, path.parent


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"agent": "evil:Agent"}, "cannot repeat a step of agent 'evil:Agent'"),
        ({"config": {"net_arch": [2**40]}}, "does not fit its own settings (expected layers of at most"),
        ({"config": {"net_arch": [5]}}, "does not fit its own settings (parameters do not fit this network"),
        ({"config": {"net_arch": ["x"]}}, "net_arch"),
    ],
)
def test_file_with_settings_that_do_not_fit_is_refused(changed, words, path, capsys):
    evidence, settings, policy, directory = evidence_of(path)
    assert save_evidence(evidence, settings | changed, policy, directory)
    assert main(["evaluate", "--replay", str(path)]) == 2
    assert words in capsys.readouterr().err


# Size


def test_observations_of_a_large_rollout_are_left_out():
    action = action_spec(gym.spaces.Discrete(2))
    assert [*Rollout(63, 3, 4, 2**12, action).seen()] == ["obs", "reward"]
    assert [*Rollout(64, 3, 4, 2**12, action).seen()] == ["reward"]


def test_batch_that_is_too_large_is_not_kept(path, monkeypatch):
    evidence, *others = evidence_of(path)
    size = sum(x.nbytes for x in evidence.tensors.values())
    path.unlink()
    monkeypatch.setattr("entropic_rl.evidence.LARGEST", size - 1)
    assert not save_evidence(evidence, *others)
    assert not path.exists()
    monkeypatch.setattr("entropic_rl.evidence.LARGEST", size)
    assert save_evidence(evidence, *others)
