"""The record and its mirrors: nothing lost, no account, no network."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from entropic_rl.agents import PPO, PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.cli import main
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.run_directory import read_metrics
from entropic_rl.runs import train_cells
from entropic_rl.tracking import Recorder, versions

RUN = RunConfig(env="CartPole-v1", total_timesteps=192, n_envs=2, eval_episodes=2, seed=3, device="cpu", num_threads=1)
TRACKED = RunConfig(
    **{**jsonable(RUN), "track": True, "wandb_mode": "offline", "wandb_project": "a-project", "wandb_group": "a-group",
       "wandb_tags": ("one", "two"), "tensorboard": True}
)  # fmt: skip
CONFIG = PPOConfig(n_steps=32, batch_size=32, n_epochs=1, net_arch=(8,), ent_coef=0.01)
ROWS = [{"global_step": 10.0, "train/entropy": 0.5}, {"global_step": 20.0, "train/entropy": float("nan")}]


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    """The directory of a training that was mirrored to W&B (offline) and TensorBoard."""
    directory = tmp_path_factory.mktemp("tracked") / "the-run"
    train_cells(PPO, [Cell("ppo", TRACKED, CONFIG, directory)])
    return directory


def inspect(directory):
    """What ``wandb leet inspect --json`` reads back from a run directory."""
    wandb = Path(sys.executable).with_name("wandb")
    [log] = directory.glob("wandb/offline-run-*")
    result = subprocess.run(
        [wandb, "leet", "inspect", "--json", log], capture_output=True, text=True, check=True, timeout=60
    )
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def records(tracked):
    return inspect(tracked)


def of_type(records, kind):
    return [record[kind] for record in records if record["type"] == kind]


# W&B


def test_offline_run_has_a_beginning_and_a_clean_end(records):
    assert records[0]["type"] == "header"
    assert of_type(records, "exit")[0].get("exit_code", 0) == 0


def test_every_row_of_the_record_is_in_the_offline_run(tracked, records):
    history = [item["item"] for item in of_type(records, "history")]
    rows = read_metrics(tracked)
    assert len(history) == len(rows) == 3
    for logged, row in zip(history, rows, strict=True):
        own = {name: value for name, value in logged.items() if not name.startswith("_")}
        assert own == pytest.approx(row, nan_ok=True)


def test_offline_run_holds_the_full_config(tracked, records):
    config = of_type(records, "run")[0]["config"]["update"]
    stored = json.loads((tracked / "config.json").read_text())
    assert {name: config[name] for name in stored} == stored
    assert (config["seed"], config["ent_coef"], config["agent"]) == (3, 0.01, "ppo")


def test_offline_run_has_its_name_project_group_tags_and_job_type(records):
    run = of_type(records, "run")[0]
    assert run["display_name"] == "the-run"
    assert run["project"] == "a-project"
    assert run["run_group"] == "a-group"
    assert run["tags"] == ["one", "two"]
    assert run["job_type"] == "train"


def test_global_step_is_the_axis_of_every_metric(records):
    metrics = of_type(records, "metric")
    assert any(metric.get("name") == "global_step" for metric in metrics)
    assert any(metric.get("glob_name") == "*" and metric.get("step_metric") == "global_step" for metric in metrics)


def test_summary_of_the_offline_run_is_that_of_the_run_directory(tracked, records):
    final = {}
    for summary in of_type(records, "summary"):
        final |= summary["update"]
    stored = json.loads((tracked / "summary.json").read_text())
    assert {name: final[name] for name in stored} == stored


def test_tracker_files_stay_in_the_run_directory(tracked):
    assert {path.name for path in tracked.iterdir()} >= {"wandb", "tensorboard", "metrics.jsonl", "summary.json"}


class FakeRun:
    """Stands for a W&B run and notes what is done to it."""

    def __init__(self, **options):
        self.options, self.rows, self.summary, self.exit_codes = options, [], {}, []

    def define_metric(self, *args, **kwargs):
        pass

    def log(self, row):
        self.rows.append(row)

    def finish(self, exit_code=0):
        self.exit_codes.append(exit_code)


@pytest.fixture
def runs(monkeypatch):
    """Replace ``wandb.init``; every attempted start is listed, and online ones fail."""
    import wandb

    started = []

    def init(**options):
        started.append(FakeRun(**options))
        if options["mode"] == "online":
            raise wandb.errors.CommError("no route to host")
        return started[-1]

    monkeypatch.setattr(wandb, "init", init)
    return started


def tracking(**changes):
    return RunConfig(**{**jsonable(RUN), "track": True, **changes})


def test_unreachable_wandb_falls_back_to_offline_with_one_warning(tmp_path, runs):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorder = Recorder(tmp_path / "run", {"seed": 3}, tracking(wandb_mode="online"))
    assert [run.options["mode"] for run in runs] == ["online", "offline"]
    [warning] = [w for w in caught if "Weights & Biases" in str(w.message)]
    assert "offline" in str(warning.message)
    assert "no route to host" in str(warning.message)
    for row in ROWS:
        recorder.log(row)
    recorder.finish({"seed": 3})
    assert len(runs[1].rows) == 2
    assert runs[1].summary == {"seed": 3}
    assert runs[1].exit_codes == [0]


def test_mode_without_an_account_is_offline(tmp_path, runs):
    Recorder(tmp_path / "run", {}, tracking()).close()
    assert [run.options["mode"] for run in runs] == ["offline"]


def test_mode_with_a_key_is_online(tmp_path, runs, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    with pytest.warns(UserWarning, match="tracking offline instead"):
        Recorder(tmp_path / "run", {}, tracking()).close()
    assert [run.options["mode"] for run in runs] == ["online", "offline"]


def test_steps_are_never_given_to_wandb_as_its_own_step(tmp_path, runs):
    recorder = Recorder(tmp_path / "run", {}, tracking(wandb_mode="offline"))
    recorder.log(ROWS[0])  # FakeRun.log takes no step
    recorder.close()
    assert runs[0].rows == [ROWS[0]]


def test_figures_of_a_run_go_to_wandb_as_html(tmp_path, runs):
    recorder = Recorder(tmp_path / "run", {}, tracking(wandb_mode="offline"))
    recorder.show({})
    recorder.show({"gradient_flow": "<svg></svg>"})
    recorder.close()
    [row] = runs[0].rows
    assert list(row) == ["figure/gradient_flow"]
    assert row["figure/gradient_flow"].html == "<svg></svg>"


def test_trouble_while_logging_to_a_mirror_does_not_cost_the_run(tmp_path, runs, monkeypatch):
    recorder = Recorder(tmp_path / "run", {}, tracking(wandb_mode="offline"))

    def broken(*args, **kwargs):
        raise RuntimeError("the tracker died")

    monkeypatch.setattr(runs[0], "log", broken)
    monkeypatch.setattr(runs[0], "finish", broken)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            for row in ROWS:
                recorder.log(row)
            recorder.finish({"seed": 3})
        finally:
            recorder._metrics.close()
    assert len(read_metrics(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "summary.json").exists()
    assert [w for w in caught if "the tracker died" in str(w.message)]


def test_failed_training_is_marked_as_failed(tmp_path, runs, monkeypatch):
    def failing(self, progress):
        raise RuntimeError("diverged")

    monkeypatch.setattr(PPO, "update", failing)
    cell = Cell("ppo", tracking(wandb_mode="offline"), CONFIG, tmp_path / "run")
    with pytest.raises(RuntimeError, match="diverged"):
        train_cells(PPO, [cell])
    assert runs[0].exit_codes == [1]


def test_nothing_is_imported_from_wandb_unless_tracking():
    code = (
        "import sys, tempfile; from pathlib import Path\n"
        "from entropic_rl.config import RunConfig; from entropic_rl.tracking import Recorder\n"
        "recorder = Recorder(Path(tempfile.mkdtemp()), {}, RunConfig(env='x'))\n"
        "recorder.log({'global_step': 1.0}); recorder.finish({})\n"
        "print(sorted({'wandb', 'tensorboard', 'torch'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# A comparison


@pytest.fixture(scope="module")
def comparison(tmp_path_factory, jobs_here):
    """The directory of a comparison of two coefficients that was mirrored to W&B, offline, in one batch."""
    out = tmp_path_factory.mktemp("compared") / "the-comparison"
    words = [
        "--env",
        "CartPole-v1",
        "--preset",
        "none",
        "--ent-coef",
        "0",
        "linear:0.1:0",
        "--seeds",
        "1",
        "--seed",
        "4",
    ]
    small = ["--total-timesteps", "64", "--n-steps", "32", "--net-arch", "8", "--eval-episodes", "2", "--device", "cpu"]
    tracked = ["--track", "--wandb-mode", "offline", "--wandb-project", "a-project", "--wandb-tags", "one"]
    means = ["--parallel", "batch", "--no-progress", "--out", str(out)]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path_factory.mktemp("wandb")))  # tables wait there for a server
        monkeypatch.setattr("entropic_rl.compare.execute.run_jobs", jobs_here)
        assert main(["compare", "a2c", *words, *small, *tracked, *means]) == 0
    return out


@pytest.fixture(scope="module")
def mirrored(comparison):
    """What was mirrored of each cell, by its name, and of the comparison, by that of its directory."""
    directories = [*sorted((comparison / "cells").iterdir()), comparison]
    return {directory.name: inspect(directory) for directory in directories}


CELLS = ["ent_coef_0__seed_4", "ent_coef_linear-0.1-0__seed_4"]


def test_comparison_is_a_group_of_a_run_per_cell_and_a_summary(mirrored):
    assert list(mirrored) == [*CELLS, "the-comparison"]
    for name, records in mirrored.items():
        run = of_type(records, "run")[0]
        assert (run["display_name"], run["run_group"], run["project"]) == (name, "the-comparison", "a-project")
        assert run["tags"] == ["one"]
        assert of_type(records, "exit")[0].get("exit_code", 0) == 0
    assert len({of_type(records, "run")[0]["run_id"] for records in mirrored.values()}) == 3


def test_only_the_summary_of_a_comparison_has_its_job_type(mirrored):
    types = {name: of_type(records, "run")[0]["job_type"] for name, records in mirrored.items()}
    assert types == {**dict.fromkeys(CELLS, "train"), "the-comparison": "compare"}


def test_every_row_of_a_cell_is_in_its_run(comparison, mirrored):
    for name in CELLS:
        history = [item["item"] for item in of_type(mirrored[name], "history")]
        rows = read_metrics(comparison / "cells" / name)
        assert [{key: row[key] for key in own} for row, own in zip(history, rows, strict=True)] == rows
        config = of_type(mirrored[name], "run")[0]["config"]["update"]
        assert (config["agent"], config["seed"]) == ("a2c", 4)
        assert config["ent_coef"] == (0.0 if name == CELLS[0] else "linear:0.1:0")


def test_summary_run_has_the_grid_the_tables_and_the_verdict(mirrored):
    records = mirrored["the-comparison"]
    config = of_type(records, "run")[0]["config"]["update"]
    assert config["sweep"] == {"ent_coef": [0.0, "linear:0.1:0"]}
    assert config["seeds"] == [4]
    final = {}
    for summary in of_type(records, "summary"):
        final |= summary["update"]
    assert final["table/groups.nrows"] == final["table/runs.nrows"] == 2
    assert {"figure/returns.path", "figure/entropy.path"} <= final.keys()
    assert final["verdict"]
    assert {"return_iqm/0", "return_iqm/linear:0.1:0", "entropy/0", "entropy/linear:0.1:0"} <= final.keys()


# TensorBoard


def test_tensorboard_mirror_reads_back_with_global_step_as_its_axis(tracked):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tracked / "tensorboard"))
    events.Reload()
    rows = read_metrics(tracked)
    for name in ("train/entropy", "time/fps", "eval/mean_reward"):
        points = [(event.step, event.value) for event in events.Scalars(name)]
        expected = [(int(row["global_step"]), row[name]) for row in rows if name in row]
        assert [step for step, _ in points] == [step for step, _ in expected]
        assert [value for _, value in points] == pytest.approx([value for _, value in expected], rel=1e-6)
    assert "global_step" not in events.Tags()["scalars"]


# The record itself


def test_rows_are_on_disk_as_soon_as_they_are_logged(tmp_path):
    recorder = Recorder(tmp_path / "run", {}, RUN)
    for n, row in enumerate(ROWS, 1):
        recorder.log(row)
        assert len(read_metrics(tmp_path / "run")) == n
    recorder.close()
    recorder.close()


def test_rows_are_written_as_they_were_given_without_what_is_no_number(tmp_path):
    recorder = Recorder(tmp_path / "run", {"seed": 3}, RUN)
    for row in ROWS:
        recorder.log(row)
    recorder.finish({"global_step": 20})
    assert read_metrics(tmp_path / "run") == [ROWS[0], {"global_step": 20.0}]
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 3}
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"global_step": 20}


def test_versions_name_what_a_result_depends_on():
    found = versions()
    assert {"entropic-rl", "torch", "numpy", "gymnasium", "python", "platform"} <= set(found)
    assert all(isinstance(value, str) and value for value in found.values())


def test_failing_tensorboard_does_not_stop_the_record(tmp_path, monkeypatch):
    from torch.utils.tensorboard import SummaryWriter

    def fail(*args, **kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(SummaryWriter, "add_scalar", fail)
    recorder = Recorder(tmp_path / "run", {}, replace(RUN, tensorboard=True))
    with pytest.warns(UserWarning, match="the run goes on without its mirrors"):
        recorder.log(ROWS[0])
    recorder.log(ROWS[0])
    recorder.finish({})
    assert len(read_metrics(tmp_path / "run")) == 2
