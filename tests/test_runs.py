"""Run directories: what a training leaves, and that cells of a batch leave what a single training leaves."""

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import fields, replace

import pytest
import torch

from entropic_rl.agents import A2C, PPO, A2CConfig, PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.config import RunConfig
from entropic_rl.devices import load_device
from entropic_rl.environments import make_vector_env
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.evaluate_run import evaluate_directory
from entropic_rl.plots import RunFigures
from entropic_rl.run_directory import check_run_directory, read_json, read_metrics, write_json
from entropic_rl.runs import train_cells
from entropic_rl.spaces import action_spec, observation_spec
from entropic_rl.streams import Stream
from entropic_rl.training import train
from entropic_rl.vector import EnvBatch

RUN = RunConfig(env="CartPole-v1", total_timesteps=512, n_envs=2, eval_episodes=4, seed=3, device="cpu", num_threads=1)
CONFIG = PPOConfig(n_steps=64, batch_size=32, n_epochs=2, ent_coef=0.01, net_arch=(16,))
FILES = {
    "config.json", "metrics.jsonl", "summary.json", "policy.json", "policy.safetensors", "learning_curve.svg",
    "entropy.svg", "exploration.npz",
}  # fmt: skip


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    """One finished training: its directory and its summary."""
    directory = tmp_path_factory.mktemp("single") / "run"
    [summary] = train_cells(PPO, [Cell("ppo", RUN, CONFIG, directory)])
    return directory, summary


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Three cells trained together; the second is the single training above."""
    out = tmp_path_factory.mktemp("batch")
    cells = [
        Cell("ppo", RUN, replace(CONFIG, ent_coef=0.5), out / "a"),
        Cell("ppo", RUN, CONFIG, out / "b"),
        Cell("ppo", replace(RUN, seed=4), CONFIG, out / "c"),
    ]
    return cells, train_cells(PPO, cells)


def texts(path):
    """All text in an SVG file, which must be well-formed XML."""
    return " ".join(text.strip() for text in ET.parse(path).getroot().itertext())


def test_run_directory_holds_the_record(single):
    directory, _ = single
    assert {path.name for path in directory.iterdir()} == FILES


def test_summary_holds_the_promised_keys(single):
    directory, summary = single
    stored = json.loads((directory / "summary.json").read_text())
    for key in ("eval/mean_reward", "eval/std_reward", "time/fps"):
        assert math.isfinite(stored[key])
    assert stored["global_step"] == 512
    assert isinstance(stored["global_step"], int)
    assert stored["seed"] == 3
    assert stored["ent_coef"] == 0.01
    assert stored["env"] == "CartPole-v1"
    assert stored == summary


# What "auto" and the env's own threshold come to.
SETTLED = {"kernel": "autograd", "env_backend": "batched", "success_return": 475.0}


def test_config_holds_every_setting_and_what_it_ran_on(single):
    stored = json.loads((single[0] / "config.json").read_text())
    assert stored["agent"] == "ppo"
    for settings in (RUN, CONFIG):
        for name in (field.name for field in fields(settings)):
            value = SETTLED.get(name, getattr(settings, name))
            assert stored[name] == (list(value) if isinstance(value, tuple) else value), name
    assert {"torch", "gymnasium", "python", "entropic-rl"} <= set(stored["versions"])


def test_record_ends_with_the_evaluation(single):
    directory, summary = single
    rows = read_metrics(directory)
    assert [row["global_step"] for row in rows] == [128, 256, 384, 512]
    assert "eval/mean_reward" not in rows[0]
    assert rows[-1]["eval/mean_reward"] == summary["eval/mean_reward"]
    assert rows[-1]["eval/stochastic_mean_reward"] == summary["eval/stochastic_mean_reward"]


def test_evaluating_the_directory_repeats_the_evaluation_of_training(single):
    directory, summary = single
    for deterministic, prefix in ((True, "eval/"), (False, "eval/stochastic_")):
        result = evaluate_directory(directory, episodes=4, seed=RUN.eval_seed, deterministic=deterministic)
        assert result["mean_reward"] == summary[prefix + "mean_reward"]
        assert result["std_reward"] == summary[prefix + "std_reward"]


def test_figures_are_xml_and_carry_their_title(single):
    for name, label in (("learning_curve.svg", "return"), ("entropy.svg", "policy entropy (nats)")):
        text = texts(single[0] / name)
        assert "CartPole-v1, ent_coef 0.01, seed 3" in text
        assert "environment steps" in text
        assert label in text
    assert "uniform policy" in texts(single[0] / "entropy.svg")


def test_cells_of_a_batch_leave_what_a_single_training_leaves(batch):
    cells, summaries = batch
    for cell, summary in zip(cells, summaries, strict=True):
        assert {path.name for path in cell.directory.iterdir()} == FILES
        assert json.loads((cell.directory / "summary.json").read_text()) == summary
        assert (summary["seed"], summary["ent_coef"]) == (cell.run.seed, cell.config.ent_coef)
        stored = json.loads((cell.directory / "config.json").read_text())
        assert (stored["seed"], stored["ent_coef"]) == (cell.run.seed, cell.config.ent_coef)


def test_cell_of_a_batch_is_the_single_training(single, batch):
    alone, beside = read_metrics(single[0]), read_metrics(batch[0][1].directory)
    for own, other in zip(alone, beside, strict=True):
        expected = {name: value for name, value in own.items() if not name.startswith("time/")}
        assert {name: other[name] for name in expected} == expected  # here to the last bit; see docs/design/0004


def test_cell_of_a_batch_can_be_evaluated_by_itself(batch):
    cells, summaries = batch
    for cell, summary in zip(cells, summaries, strict=True):
        result = evaluate_directory(cell.directory, episodes=4, seed=RUN.eval_seed)
        assert result["mean_reward"] == pytest.approx(summary["eval/mean_reward"], rel=1e-6)


# A run is the same alone and in any batch: at the level of the training loop, in float64

SMALL = {
    PPO: PPOConfig(n_steps=16, batch_size=10, n_epochs=2, net_arch=(8, 8)),
    A2C: A2CConfig(n_steps=16, net_arch=(8, 8)),
}
DRAWN_PER_RUN = ("initialisation", "environment", "action", "minibatch")  # an env's own streams are one per copy


def variants(agent_class):
    """Cells that differ in what those of a batch may differ in; the first and the last differ in the seed alone."""
    base = SMALL[agent_class]
    return [
        (base, 5),
        (replace(base, ent_coef=0.1, gamma=0.9), 6),
        (replace(base, ent_coef="linear:0.3:0", vf_coef=0.1, learning_rate=1e-2, max_grad_norm=0.1), 5),
        (replace(base, gae_lambda=0.5, learning_rate="linear:0.01:0"), 8),
        (base, 7),
    ]


def record_words(monkeypatch):
    """Every random word that is drawn from now on, by the name of its stream: a list of ``[R, ...]``."""
    drawn, words_of, begin = {}, Stream._words, Stream.__init__

    def named(self, seeds, name, **options):
        self.name = name
        begin(self, seeds, name, **options)

    def recording(self, n_draws, n):
        words = words_of(self, n_draws, n)
        drawn.setdefault(self.name, []).append(words)
        return words

    monkeypatch.setattr(Stream, "__init__", named)
    monkeypatch.setattr(Stream, "_words", recording)
    return drawn


def trained(agent_class, cells, env_id, backend, *, iterations=5, n_envs=2):
    """Final parameters, observations, actions and random words of each of R runs that are trained together."""
    configs, seeds = [config for config, _ in cells], [seed for _, seed in cells]
    vector_env = make_vector_env(env_id, len(cells) * n_envs, backend=backend)
    observation = observation_spec(vector_env.single_observation_space)
    action = action_spec(vector_env.single_action_space)
    seen, taken = [], []
    with pytest.MonkeyPatch.context() as monkeypatch:
        words = record_words(monkeypatch)
        envs = EnvBatch(vector_env, len(cells), observation=observation, action=action, dtype=torch.float64)
        agent = agent_class(configs, seeds, observation=observation, action=action, n_envs=n_envs, dtype=torch.float64)
        act = agent.act

        def watched(obs, mask):
            seen.append(obs.clone())
            taken.append(act(obs, mask))
            return taken[-1]

        agent.act = watched
        list(train(agent, envs, total_timesteps=iterations * agent.steps_per_update * n_envs, seeds=seeds))
    envs.close()
    return [
        {
            "params": agent.policy.params.values[run],
            "obs": torch.stack(seen)[:, run],
            "actions": torch.stack(taken)[:, run],
            **{
                name: torch.cat([part[run].flatten() for part in words[name]])
                for name in DRAWN_PER_RUN
                if name in words
            },
        }
        for run in range(len(cells))
    ]


@pytest.mark.parametrize(
    ("env_id", "backend"),
    [
        ("CartPole-v1", "batched"),
        ("entropic_rl/RiverSwim-v0", "batched"),
        ("CartPole-v1", "sync"),
        ("Pendulum-v1", "sync"),
    ],
)
@pytest.mark.parametrize("agent_class", [PPO, A2C])
def test_run_is_the_same_alone_and_beside_any_others(agent_class, env_id, backend):
    cells = variants(agent_class)
    together = trained(agent_class, cells, env_id, backend)
    assert not torch.equal(together[0]["params"], together[4]["params"])
    discrete = env_id != "Pendulum-v1"  # equal random numbers make equal actions
    for chosen in ([1], [2, 0, 4]):  # alone, and with cells removed and in another order
        apart = trained(agent_class, [cells[i] for i in chosen], env_id, backend)
        for own, other in zip(apart, [together[i] for i in chosen], strict=True):
            assert own.keys() >= {"initialisation", "environment", "action"}
            assert ("minibatch" in own) is (agent_class is PPO)
            for name, values in own.items():
                if name in DRAWN_PER_RUN or (discrete and name in ("obs", "actions")):
                    assert torch.equal(values, other[name]), name
                else:
                    torch.testing.assert_close(values, other[name], rtol=0, atol=1e-9)


def test_evaluation_during_training_follows_its_frequency(tmp_path):
    run = replace(RUN, eval_freq=256, eval_episodes=2)
    train_cells(PPO, [Cell("ppo", run, CONFIG, tmp_path / "run")])
    evaluated = [row["global_step"] for row in read_metrics(tmp_path / "run") if "eval/mean_reward" in row]
    assert evaluated == [256, 512]


def test_evaluation_during_training_does_not_change_training(tmp_path, single):
    run = replace(RUN, eval_freq=128)
    train_cells(PPO, [Cell("ppo", run, CONFIG, tmp_path / "run")])
    for name in ("train/loss", "rollout/ep_rew_mean"):
        assert [row.get(name) for row in read_metrics(tmp_path / "run")] == [
            row.get(name) for row in read_metrics(single[0])
        ]


def test_normalisation_statistics_travel_with_the_policy(tmp_path):
    run = replace(RUN, env="Pendulum-v1", total_timesteps=64, eval_episodes=2)
    config = A2CConfig(net_arch=(8,), normalize_obs=True, normalize_reward=True)
    [summary] = train_cells(A2C, [Cell("ppo", run, config, tmp_path / "run")])
    result = evaluate_directory(tmp_path / "run", episodes=2, seed=run.eval_seed)
    assert result["mean_reward"] == summary["eval/mean_reward"]
    assert summary["eval/mean_reward"] < -20.0  # raw returns, not normalised ones


def test_cells_may_not_differ_in_structure(tmp_path):
    cells = [Cell("ppo", RUN, CONFIG, tmp_path / "a"), Cell("ppo", RUN, replace(CONFIG, n_steps=32), tmp_path / "b")]
    with pytest.raises(ConfigError, match=r"n_steps differs between runs of one batch: \['32', '64'\]"):
        train_cells(PPO, cells)
    assert not list(tmp_path.iterdir())


def test_missing_tensorboard_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r'pip install ".*tensorboard'):
        train_cells(PPO, [Cell("ppo", replace(RUN, tensorboard=True), CONFIG, tmp_path / "run")])
    assert not list(tmp_path.iterdir())


def test_failed_training_keeps_the_rows_it_wrote(tmp_path, monkeypatch):
    updates, update = [], PPO.update

    def failing(self, progress):
        updates.append(progress)
        if len(updates) == 3:
            raise KeyboardInterrupt
        return update(self, progress)

    monkeypatch.setattr(PPO, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        train_cells(PPO, [Cell("ppo", RUN, CONFIG, tmp_path / "run")])
    assert [row["global_step"] for row in read_metrics(tmp_path / "run")] == [128, 256]
    assert not (tmp_path / "run" / "summary.json").exists()


# Devices


def test_auto_device_is_the_best_there_is():
    assert load_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_unavailable_device_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"--device cuda:1 is not available here .*; use --device cpu"):
        load_device("cuda:1")


def test_device_index_beyond_the_last_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=r"--device cuda:1: expected an index below 1; use --device cuda"):
        load_device("cuda:1")


# The directory as files


def test_metrics_with_a_torn_last_line_are_read_without_it(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"global_step": 1}\n{"global_step": 2}\n{"global_st')
    assert read_metrics(tmp_path) == [{"global_step": 1}, {"global_step": 2}]


def test_metrics_may_be_empty(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("")
    assert read_metrics(tmp_path) == []


def test_json_is_written_whole_and_leaves_no_temporary_file(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, 2.5, None]})
    assert read_json(tmp_path / "x.json") == {"a": [1, 2.5, None]}
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


def test_file_that_cannot_be_replaced_leaves_no_temporary_file(tmp_path):
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OSError, match=r"x\.json"):
        write_json(tmp_path / "x.json", {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(("content", "message"), [(None, "no x.json"), ("{", "cannot read"), ("[1]", "damaged")])
def test_unreadable_json_is_told_in_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "x.json").write_text(content)
    with pytest.raises(RunDirectoryError, match=message) as caught:
        read_json(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_new_and_empty_directories_are_accepted_and_nothing_is_made(tmp_path):
    check_run_directory(tmp_path)
    check_run_directory(tmp_path / "new" / "nested")
    assert not list(tmp_path.iterdir())


def test_directories_that_cannot_take_a_run_are_refused(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "closed").mkdir()
    # root may write anywhere, so the operating system's answer is played
    monkeypatch.setattr("os.access", lambda path, mode: "closed" not in str(path))
    for path, flaw in (
        ("full", "is not empty"),
        ("full/file", "is a file"),
        ("full/file/run", "is a file"),
        ("closed", "cannot be written"),
        ("closed/run", "cannot be written"),
    ):
        with pytest.raises(RunDirectoryError, match=rf"{path} .*{flaw}.*: expected a new or empty one; choose another"):
            check_run_directory(tmp_path / path)


# Figures


def test_figures_of_a_run_without_finished_episodes_are_drawn(tmp_path):
    RunFigures(None).draw([{"global_step": 10.0, "train/entropy": 0.5}], tmp_path, title="a & b < c")
    assert "a & b < c" in texts(tmp_path / "learning_curve.svg")


def test_figures_are_the_same_bytes_each_time(tmp_path):
    rows = [{"global_step": 10.0, "train/entropy": 0.5, "rollout/ep_rew_mean": 3.0}]
    drawn = []
    for _ in range(2):
        RunFigures(0.7).draw(rows, tmp_path, title="same")
        drawn.append((tmp_path / "entropy.svg").read_bytes())
    assert drawn[0] == drawn[1]


def test_figures_of_a_run_are_the_same_whichever_was_drawn_before(tmp_path):
    def drawn(figures, rows):
        figures.draw(rows, tmp_path, title=f"{len(rows)} rows")
        return [(tmp_path / name).read_bytes() for name in ("learning_curve.svg", "entropy.svg")]

    some = {"global_step": 10.0, "train/entropy": 0.5, "rollout/ep_rew_mean": 3.0, "eval/mean_reward": -1e6}
    other = {"global_step": 2e5, "train/entropy": 0.1, "rollout/ep_rew_mean": 1e-4}
    figures = RunFigures(0.7)
    for rows in ([some, other], [], [other], [some], [some, some | {"global_step": 500.0}]):
        assert drawn(figures, rows) == drawn(RunFigures(0.7), rows)


def test_interrupted_training_keeps_the_policy(tmp_path, monkeypatch):
    cell = Cell("ppo", RUN, CONFIG, tmp_path / "run")

    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("entropic_rl.training.Training.__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_cells(PPO, [cell])
    assert evaluate_directory(cell.directory, episodes=2)["episodes"] == 2
