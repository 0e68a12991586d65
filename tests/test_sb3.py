"""Stable-Baselines3's agents as cells of a comparison: stock training, our record, meters and evaluation episodes."""

import dataclasses
import inspect
import json
import math
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import stable_baselines3
import torch
from safetensors.torch import load_file
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.logger import Logger

from entropic_rl.agents import PPO, A2CConfig, PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.config import RunConfig, build, field_docs, jsonable
from entropic_rl.environments import make_env
from entropic_rl.errors import ConfigError, EnvError
from entropic_rl.run_directory import read_metrics
from entropic_rl.runs import train_cells
from entropic_rl.sb3.cell import train_sb3_cell
from entropic_rl.sb3.model import make_sb3_envs, make_sb3_model, normalized
from entropic_rl.sb3.policy import evaluate_sb3, exploration_metrics
from entropic_rl.sb3.settings import check_sb3_settings, sb3_settings
from entropic_rl.spaces import action_spec
from entropic_rl.streams import Stream

RUN = RunConfig(env="CartPole-v1", total_timesteps=256, n_envs=2, eval_episodes=4, seed=3, device="cpu")
SMALL = PPOConfig(n_steps=32, batch_size=32, n_epochs=2, ent_coef=0.01, net_arch=(16,))
CHAIN = replace(RUN, env="entropic_rl/Chain-v0", env_backend="batched", eval_freq=64)


@pytest.fixture(autouse=True)
def _sb3_may_warn():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="stable_baselines3")
        yield


class Silent:
    """A report that remembers its notes and steps."""

    def __init__(self):
        self.notes, self.steps = [], []

    def update(self, global_step, rows):
        self.steps.append(global_step)

    def note(self, text):
        self.notes.append(text)


def train(directory, agent="sb3:PPO", run=RUN, config=SMALL, report=None):
    """The summary and the rows of a cell."""
    summary = train_sb3_cell(Cell(agent, run, config, directory), report or Silent())
    return summary, read_metrics(directory)


def model_of(run, config, agent="sb3:PPO"):
    """A stock model as the cell makes it, its environments as they come, and silent."""
    [[seed]] = Stream([run.seed], "environment").seeds(1)
    envs = normalized(make_sb3_envs(run, run.n_envs, seed=seed), config)
    model = make_sb3_model(agent, config, envs, seed=seed)
    model.set_logger(Logger(None, []))
    return model


def refusal(agent, **values):
    with pytest.raises(ConfigError) as caught:
        check_sb3_settings(agent, build(sb3_settings(agent.removeprefix("sb3:")), values))
    assert "\n" not in str(caught.value)
    return str(caught.value)


# The record


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """A finished PPO cell: directory, summary, rows, report."""
    directory, report = tmp_path_factory.mktemp("cells") / "ppo", Silent()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="stable_baselines3")
        return directory, *train(directory, report=report), report


def test_record_has_the_keys_and_files_of_ours(cartpole, tmp_path):
    directory, summary, rows, _ = cartpole
    [ours] = train_cells(PPO, [Cell("ppo", RUN, SMALL, tmp_path / "ours")])
    assert set(ours) - set(summary) == {"train/grad_norm"}  # SB3 does not tell it
    assert set(summary) <= set(ours)
    own_rows = read_metrics(tmp_path / "ours")
    assert [set(own) - set(row) for own, row in zip(own_rows, rows, strict=True)] == [{"train/grad_norm"}] * 4
    assert [row["global_step"] for row in rows] == [64, 128, 192, 256]
    files = {path.name for path in (tmp_path / "ours").iterdir()} - {"policy.json"}
    assert {path.name for path in directory.iterdir()} == files
    assert summary == json.loads((directory / "summary.json").read_text())


def test_record_says_what_was_run(cartpole):
    directory, _, _, report = cartpole
    stored = json.loads((directory / "config.json").read_text())
    assert stored["agent"] == "sb3:PPO"
    assert stored["versions"]["stable-baselines3"] == stable_baselines3.__version__
    assert (stored["env_backend"], stored["success_return"]) == ("batched", 475.0)
    assert jsonable(SMALL).items() <= stored.items()
    assert (report.steps, report.notes) == ([64, 128, 192, 256], ["evaluating"])


def test_policy_is_saved_as_its_state_dict(cartpole):
    saved, model = load_file(cartpole[0] / "policy.safetensors"), model_of(RUN, SMALL)
    model.policy.load_state_dict(saved)
    assert saved.keys() == model.policy.state_dict().keys()


def test_interrupted_training_keeps_policy_and_rows(tmp_path):
    class Impatient(Silent):
        def update(self, global_step, rows):
            if global_step == 128:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "cell", report=Impatient())
    assert len(read_metrics(tmp_path / "cell")) == 2
    assert (tmp_path / "cell" / "policy.safetensors").exists()
    assert not (tmp_path / "cell" / "summary.json").exists()


# Training is stock, and the meters count what it met


class Naive(BaseCallback):
    """Counts visits of a Discrete space and the entropy of each rollout from SB3's own variables, one by one."""

    def __init__(self):
        super().__init__()
        self.visits, self.first, self.entropies, self.met = {}, {}, [], []

    def meet(self, states):
        for state in states:
            self.visits[int(state)] = self.visits.get(int(state), 0) + 1
            self.first.setdefault(int(state), self.model.num_timesteps)

    def _on_training_start(self):
        self.meet(self.model._last_obs)

    def _on_step(self):
        self.met.append(self.model._last_obs)
        self.meet([i["terminal_observation"] for i in self.locals["infos"] if "terminal_observation" in i])
        self.meet(self.locals["new_obs"])
        return True

    def _on_rollout_end(self):
        distribution = self.model.policy.get_distribution(torch.as_tensor(np.concatenate(self.met)))
        self.entropies.append(float(distribution.entropy().mean().detach()))
        self.met = []


def test_training_is_that_of_stock_sb3_and_every_state_it_met_is_counted_once(tmp_path):
    config = replace(SMALL, learning_rate="linear:0.05:0")
    _, rows = train(tmp_path / "cell", run=CHAIN, config=config)  # evaluates at every row
    model, naive = model_of(CHAIN, config), Naive()
    model.learn(CHAIN.total_timesteps, callback=naive, log_interval=None)
    saved = load_file(tmp_path / "cell" / "policy.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.policy.state_dict().items())
    arrays = np.load(tmp_path / "cell" / "exploration.npz")
    n = len(arrays["visits"])
    assert arrays["visits"].tolist() == [naive.visits.get(state, 0) for state in range(n)]
    assert arrays["first_visit"].tolist() == [naive.first.get(state, -1) for state in range(n)]
    assert arrays["visits"].sum() > CHAIN.total_timesteps + CHAIN.n_envs  # some episodes ended
    assert [row["explore/policy_entropy"] for row in rows] == pytest.approx(naive.entropies, rel=1e-6)
    assert rows[-1]["train/entropy"] == -float(model.logger.name_to_value["train/entropy_loss"])
    assert rows[-1]["explore/policy_entropy_q10"] < rows[-1]["explore/policy_entropy_q90"]
    assert all("eval/mean_reward" in row for row in rows)
    states = torch.arange(5)
    probs = model.policy.get_distribution(states).distribution.probs.detach().numpy()
    assert arrays["policy"] == pytest.approx(probs, abs=1e-6)
    assert {"optimum/kl", "optimum/soft_regret"} <= set(rows[-1])


def test_returns_are_raw_under_normalised_rewards(tmp_path):
    run = replace(RUN, env="test/Clock-v0", total_timesteps=512)
    summary, _ = train(tmp_path / "cell", run=run, config=replace(SMALL, normalize_reward=True, normalize_obs=True))
    assert summary["rollout/ep_rew_mean"] == summary["eval/mean_reward"] == 4.0
    assert summary["rollout/n_episodes"] == 100 + 28
    saved = load_file(tmp_path / "cell" / "normalization.safetensors")
    assert saved["obs.mean"].tolist() == pytest.approx([0.25] * 4 + [0.0], abs=0.01)  # the last is never acted on


def test_effective_temperature_is_in_units_of_the_reward():
    config = replace(SMALL, normalize_reward=True)
    model, found = model_of(RUN, config), {}

    class Look(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):  # before the rollout is learned from
            for flag in (True, False):
                metrics = exploration_metrics(model, replace(config, normalize_advantage=flag))
                found[flag] = metrics["train/effective_temperature"]
            found["std"] = float(model.rollout_buffer.advantages.std())

    model.learn(64, callback=Look(), log_interval=None)
    scale = model.get_vec_normalize_env().ret_rms.var ** 0.5
    assert found[True] == pytest.approx(0.01 * found["std"] * scale, rel=1e-6)
    assert found[False] == pytest.approx(0.01 * scale, rel=1e-6)


def test_dict_observations_and_box_actions_are_recorded(tmp_path):
    run = replace(RUN, env="test/Identity-v0", env_kwargs={"observation": "dict", "action": "box"}, n_envs=3)
    config = A2CConfig(n_steps=8, net_arch=(8,), normalize_advantage=True)
    summary, _ = train(tmp_path / "cell", "sb3:A2C", replace(run, total_timesteps=96), config)
    assert summary["rollout/n_episodes"] == 12
    assert summary["train/policy_gradient_loss"] != 0.0
    assert 0.0 < summary["explore/saturation"] < 1.0
    assert summary["explore/policy_entropy"] == pytest.approx(2 * 0.5 * math.log(2 * math.pi * math.e), abs=0.1)


# Evaluation


@pytest.mark.parametrize("agent", ["sb3:PPO", "sb3:DQN"])
@pytest.mark.parametrize("deterministic", [True, False])
def test_evaluation_plays_the_same_episodes_as_ours(agent, deterministic):
    # The episode's length is drawn at its start.
    run = replace(RUN, env="test/Lottery-v0", env_backend="sync", eval_episodes=30)
    model = model_of(run, build(sb3_settings(agent.removeprefix("sb3:")), {}), agent)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    result = evaluate_sb3(model, run, action_spec(model.action_space), deterministic=deterministic)
    assert (before[0].equal(torch.get_rng_state()), before[1]) == (True, np.random.get_state()[1].tolist())
    env, seeds = make_env(run.env), Stream([run.eval_seed], "evaluation episode").seeds(30)[0]
    assert result.lengths == tuple(int(env.reset(seed=seed)[0][0]) for seed in seeds)
    assert evaluate_sb3(model, run, action_spec(model.action_space), deterministic=deterministic) == result


def test_dqns_share_of_random_actions_is_that_of_its_exploration():
    run = replace(RUN, env="test/Bandit-v0", env_backend="sync", eval_episodes=600, n_envs=1)
    model = model_of(run, sb3_settings("DQN")(net_arch=(4,)), "sb3:DQN")
    model.exploration_rate = 0.5
    greedy, sampled = (
        evaluate_sb3(model, run, action_spec(model.action_space), deterministic=flag) for flag in (True, False)
    )
    [best] = set(greedy.returns)
    share = sum(value == best for value in sampled.returns) / 600
    assert share == pytest.approx(0.5 + 0.5 / 3, abs=4 * 0.02)


def test_box_actions_reach_the_environment_in_its_own_units():
    run = replace(RUN, env="Pendulum-v1", env_backend="sync", eval_episodes=1, eval_max_steps=20)
    model, env = model_of(run, SMALL), make_env("Pendulum-v1")
    result = evaluate_sb3(model, run, action_spec(env.action_space), deterministic=True)
    obs, _ = env.reset(seed=Stream([run.eval_seed], "evaluation episode").seeds(1)[0][0])
    earned = 0.0
    for _ in range(20):
        obs, reward, *_ = env.step(2.0 * model.predict(obs, deterministic=True)[0])
        earned += reward
    assert result.returns[0] == pytest.approx(earned, rel=1e-5)


# Algorithms that learn from a replay buffer

OFF_POLICY = replace(RUN, n_envs=1, total_timesteps=300, eval_episodes=2, eval_max_steps=20)


@pytest.mark.slow
def test_sac_learns_its_coefficient_and_its_entropy_is_estimated(tmp_path):
    config = sb3_settings("SAC")(learning_starts=100, batch_size=32, net_arch=(16,), ent_coef="auto_0.1")
    summary, rows = train(tmp_path / "cell", "sb3:SAC", replace(OFF_POLICY, env="Pendulum-v1"), config)
    assert (summary["global_step"], summary["train/n_updates"]) == (300, 200)
    assert (summary["ent_coef"], rows[0]["train/ent_coef"]) == ("auto_0.1", pytest.approx(0.1))
    assert 0.0 < summary["train/ent_coef"] != pytest.approx(0.1)
    assert summary["train/effective_temperature"] == summary["train/ent_coef"]
    assert -5.0 < summary["train/entropy"] < math.log(2.0) + 0.05  # at most uniform in [-1, 1]


def test_sacs_entropy_estimate_agrees_with_quadrature():
    run = replace(OFF_POLICY, env="Pendulum-v1")
    config = sb3_settings("SAC")(learning_starts=1000, net_arch=(16,), ent_coef=0.5)
    model = model_of(run, config, "sb3:SAC")
    model.learn(50, log_interval=None)
    metrics = exploration_metrics(model, config)
    assert metrics["train/ent_coef"] == 0.5
    obs = torch.as_tensor(model.replay_buffer.observations[:50, 0])
    with torch.no_grad():
        mean, log_std, _ = model.actor.get_action_dist_params(obs)
    # entropy of tanh(x) = that of x plus the mean of log(1 - tanh(x)^2), by quadrature over x = mean + std z
    z = torch.linspace(-8.0, 8.0, 4001, dtype=torch.float64)
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    slope = torch.log1p(-torch.tanh(mean + log_std.exp() * z).square() + 1e-12)
    entropy = 0.5 * math.log(2 * math.pi * math.e) + log_std[:, 0] + torch.trapezoid(density * slope, z)
    draws = [-model.actor.action_log_prob(obs)[1].mean().item() for _ in range(20)]
    assert metrics["train/entropy"] == pytest.approx(float(entropy.mean()), abs=5 * float(np.std(draws)))
    assert isinstance(model.actor.action_dist, SquashedDiagGaussianDistribution)


def test_agents_with_deterministic_policies_have_no_entropy(tmp_path):
    config = sb3_settings("DQN")(learning_starts=100, net_arch=(16,))
    summary, rows = train(tmp_path / "dqn", "sb3:DQN", replace(OFF_POLICY, env="CartPole-v1", log_interval=10), config)
    assert not {"train/entropy", "train/ent_coef", "explore/policy_entropy"} & {name for row in rows for name in row}
    assert "explore/action_entropy" in summary
    assert summary["ent_coef"] is None
    assert [row["global_step"] for row in rows] == [*range(40, 300, 40), 300]  # updates every 4 steps
    assert rows[-1]["rollout/exploration_rate"] == pytest.approx(0.05)


@pytest.mark.parametrize("algorithm", ["TD3", "DDPG"])
def test_actor_critic_agents_without_entropy_run(algorithm, tmp_path):
    run = replace(OFF_POLICY, env="MountainCarContinuous-v0", total_timesteps=120, coverage="off", log_interval=40)
    config = sb3_settings(algorithm)(learning_starts=100, batch_size=16, net_arch=(8,), normalize_obs=True)
    summary, rows = train(tmp_path / "cell", f"sb3:{algorithm}", run, config)
    assert summary["train/n_updates"] == 20
    assert not {name for row in rows for name in row if name.startswith("explore/") or "entropy" in name}
    assert not (tmp_path / "cell" / "exploration.npz").exists()


# Settings


def test_ppo_and_a2c_have_our_settings_and_import_neither_torch_nor_sb3():
    assert (sb3_settings("PPO"), sb3_settings("A2C")) == (PPOConfig, A2CConfig)
    code = (
        "import sys; from entropic_rl.sb3.settings import sb3_settings as of; of('PPO'); of('A2C');"
        "print([m for m in ('torch', 'stable_baselines3') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("algorithm", ["SAC", "DQN", "TD3", "DDPG"])
def test_generated_settings_have_the_constructors_scalars_with_its_defaults_and_help(algorithm):
    cls = sb3_settings(algorithm)
    config = cls()
    parameters = inspect.signature(getattr(stable_baselines3, algorithm)).parameters
    own = {"net_arch": None, "normalize_obs": False, "normalize_reward": False}
    expected = {n: p.default for n, p in parameters.items() if isinstance(p.default, int | float | str)}
    for name in ("verbose", "device", "stats_window_size", "_init_setup_model", "optimize_memory_usage"):
        expected.pop(name, None)
    assert dataclasses.asdict(config) == expected | own
    assert all(field_docs(cls).values())
    assert build(cls, jsonable(config)) == pickle.loads(pickle.dumps(config)) == config


def test_generated_settings_are_checked():
    sac = sb3_settings("SAC")
    for given, kept in ((0, 0.0), ("0.5", 0.5), ("auto", "auto"), ("auto_0.1", "auto_0.1")):
        assert build(sac, {"ent_coef": given}).ent_coef == kept
    for wrong in (-1, math.nan, "linear:1:0", "auto_", "auto_0", "auto0.1", "none"):
        with pytest.raises(ConfigError, match=r"ent_coef: expected a number >= 0, auto, or auto_X .*, got"):
            build(sac, {"ent_coef": wrong})
    with pytest.raises(ConfigError, match=r"tau: .*; target_entropy: .*; unknown setting 'buffer_sise'; did you mean"):
        build(sac, {"tau": 2, "target_entropy": "high", "buffer_sise": 1})


def test_settings_without_a_counterpart_are_refused_in_one_line(tmp_path):
    message = refusal("sb3:PPO", share_features=True, squash_output=True, ent_coef="linear:0.01:0")
    assert message.startswith("sb3:PPO: share_features: Stable-Baselines3 has no counterpart")
    assert "; squash_output: " in message
    assert "; ent_coef: expected a number, got 'linear:0.01:0'" in message
    assert "ent_coef" in refusal("sb3:A2C", ent_coef="cosine:0.1:0.01")
    with pytest.raises(ConfigError):
        train(tmp_path / "cell", config=replace(SMALL, ent_coef="linear:0.01:0"))
    assert not list(tmp_path.iterdir())


def test_unknown_algorithm_is_told_with_what_there_is():
    with pytest.raises(ConfigError) as caught:
        sb3_settings("sac")
    known = "sb3:A2C, sb3:DDPG, sb3:DQN, sb3:PPO, sb3:SAC, sb3:TD3"
    assert str(caught.value) == f"AGENT: expected one of {known}, got 'sb3:sac'; did you mean 'sb3:SAC'?"


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_missing_sb3_is_told_with_the_command_that_installs_it(algorithm, monkeypatch):
    monkeypatch.setitem(sys.modules, "stable_baselines3", None)
    with pytest.raises(ConfigError, match=rf'sb3:{algorithm} needs .*; run: pip install "entropic-rl\[sb3\]"'):
        sb3_settings(algorithm)


@pytest.mark.parametrize(
    ("agent", "run", "values", "words"),
    [
        ("sb3:DQN", {"env": "Pendulum-v1"}, {}, "sb3:DQN cannot be made: The algorithm only supports"),
        (
            "sb3:A2C",
            {"env": "entropic_rl/Chain-v0"},
            {"normalize_obs": True},
            "normalize_obs: VecNormalize only supports",
        ),
        (
            "sb3:A2C",
            {"env": "test/Identity-v0", "env_kwargs": {"action": "discrete"}},
            {},
            "takes no space that does not start at 0",
        ),
        ("sb3:A2C", {"env": "test/Oddity-v0"}, {}, "unsupported action space"),
        ("sb3:A2C", {"env": "CartPol-v1"}, {}, "unknown env id"),
    ],
)
def test_what_sb3_cannot_take_is_one_line_and_leaves_nothing(agent, run, values, words, tmp_path):
    config = build(sb3_settings(agent.removeprefix("sb3:")), values)
    with pytest.raises((ConfigError, EnvError), match=words) as caught:
        train(tmp_path / "cell", agent, replace(RUN, **run), config)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
