"""The record and its mirrors: nothing lost, no account, no network."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from entropic_rl.agents import PPO, PPOConfig
from entropic_rl.cell import Cell
from entropic_rl.cli import main
from entropic_rl.config import RunConfig, jsonable
from entropic_rl.errors import RunDirectoryError
from entropic_rl.mirroring import wandb_mode
from entropic_rl.run_directory import read_metrics
from entropic_rl.runs import train_cells
from entropic_rl.tracking import Recorder, versions
from entropic_rl.wandb_mirror import MirroredRun, _Follower, wandb_id

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


def logged_rows(records):
    """What was logged, without the pictures."""
    items = [item["item"] for item in of_type(records, "history")]
    return [item for item in items if not any(name.startswith("figure/") for name in item)]


# W&B


def test_offline_run_has_a_beginning_and_a_clean_end(records):
    assert records[0]["type"] == "header"
    assert of_type(records, "exit")[0].get("exit_code", 0) == 0


def test_every_row_of_the_record_is_in_the_offline_run(tracked, records):
    history = logged_rows(records)
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

    resumed = False

    def __init__(self, **options):
        self.options, self.rows, self.summary, self.exit_codes = options, [], {}, []
        self.offline = options["mode"] == "offline"

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


@pytest.fixture
def recorded(tmp_path):
    """A run directory of two rows."""
    recorder = Recorder(tmp_path / "run", {"seed": 3}, RUN)
    for row in ROWS:
        recorder.log(row)
    recorder.finish({"seed": 3})
    return tmp_path / "run"


def test_unreachable_wandb_falls_back_to_offline_with_one_warning(recorded, runs):
    said = []
    follower = _Follower("online", 1, said.append)
    for name in ("follow", "leave"):
        follower.obey({name: str(recorded), "options": {}, "exit_code": 0})
    follower.obey({"follow": str(recorded), "options": {}})  # the next one does not wait for it
    assert [run.options["mode"] for run in runs] == ["online", "offline", "offline"]
    [warning] = said
    assert "offline" in warning
    assert "no route to host" in warning
    assert runs[1].rows == [ROWS[0], {"global_step": 20.0}]  # steps are never given as W&B's own
    assert runs[1].summary == {"seed": 3}
    assert runs[1].exit_codes == [0]


def test_mode_is_online_with_a_key_and_offline_without(monkeypatch):
    assert wandb_mode(tracking()) == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert wandb_mode(tracking()) == "online"
    assert wandb_mode(tracking(wandb_mode="disabled")) == "disabled"


def test_figures_of_a_run_go_to_wandb_as_html(recorded, runs):
    (recorded / "gradient_flow.svg").write_text("<svg></svg>")
    MirroredRun(recorded, {}, "offline", warn=pytest.fail).finish()
    row = runs[0].rows[-1]
    assert list(row) == ["figure/gradient_flow"]
    assert row["figure/gradient_flow"].html == "<svg></svg>"


def test_row_that_is_still_being_written_waits(recorded, runs):
    run = MirroredRun(recorded, {}, "offline", warn=pytest.fail)
    with (recorded / "metrics.jsonl").open("a") as file:
        file.write('{"global_step": 30.0, "x"')
        file.flush()
        run.catch_up()
        assert [row["global_step"] for row in runs[0].rows] == [10.0, 20.0]
        file.write(": 1.0}\n")
    run.catch_up()
    assert runs[0].rows[2:] == [{"global_step": 30.0, "x": 1.0}]


def test_record_that_is_cut_back_meanwhile_is_read_from_its_start_and_no_row_twice(recorded, runs):
    run = MirroredRun(recorded, {}, "offline", warn=pytest.fail)
    run.catch_up()
    rows = [{"global_step": step, "another": "length"} for step in (10.0, 20.0, 30.0)]
    (recorded / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run.catch_up()
    assert [row["global_step"] for row in runs[0].rows] == [10.0, 20.0, 30.0]


def test_trouble_while_logging_is_said_once_and_touches_no_other_run(recorded, runs, tmp_path, monkeypatch):
    other = shutil.copytree(recorded, tmp_path / "other")
    said = []
    follower = _Follower("offline", 1, said.append)
    for directory in (recorded, other):
        follower.obey({"follow": str(directory), "options": {}})

    def broken(*args, **kwargs):
        raise RuntimeError("the tracker died")

    monkeypatch.setattr(runs[0], "log", broken)
    for _ in range(3):
        follower.catch_up()
    follower.abandon()
    assert said == ["tracking failed, the run goes on without Weights & Biases (the tracker died)"]
    assert len(runs[1].rows) == 2
    assert runs[1].exit_codes == [1]


def test_process_that_dies_is_told_at_the_end_and_costs_nothing(tmp_path):
    recorder = Recorder(tmp_path / "run", {"seed": 3}, tracking(wandb_mode="offline"))
    recorder._mirrored._process._process.kill()
    recorder._mirrored._process._process.wait()
    for row in ROWS:
        recorder.log(row)
    with pytest.warns(UserWarning, match=r"died \(exit code -9\), the record is complete; .* wandb-push "):
        recorder.finish({"seed": 3})
    assert len(read_metrics(tmp_path / "run")) == 2
    assert (tmp_path / "run" / "summary.json").exists()


def test_failed_training_is_marked_as_failed(tmp_path, monkeypatch):
    def failing(self, progress):
        raise RuntimeError("diverged")

    closed = []
    fake = SimpleNamespace(complain=lambda: None, close=closed.append)
    monkeypatch.setattr("entropic_rl.tracking.Mirrored", lambda *_: fake)
    monkeypatch.setattr(PPO, "update", failing)
    cell = Cell("ppo", tracking(wandb_mode="offline"), CONFIG, tmp_path / "run")
    with pytest.raises(RuntimeError, match="diverged"):
        train_cells(PPO, [cell])
    assert closed == [1]


def test_disabled_tracking_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("entropic_rl.tracking.Mirrored", pytest.fail)
    Recorder(tmp_path / "run", {}, tracking(wandb_mode="disabled")).close()


# Resumed runs


def test_run_keeps_its_id_and_a_sweep_may_choose_it(recorded, tmp_path, monkeypatch):
    assert wandb_id(recorded) == wandb_id(recorded)
    monkeypatch.setenv("WANDB_RUN_ID", "sweep1")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    assert wandb_id(tmp_path / "a") == wandb_id(tmp_path / "a") == "sweep1"
    assert wandb_id(tmp_path / "b") != "sweep1"
    (tmp_path / "a" / "wandb.json").write_text('{"id": "../x"}')
    with pytest.raises(RunDirectoryError, match="damaged"):
        wandb_id(tmp_path / "a")


def test_resumed_run_logs_only_what_the_server_does_not_have(recorded, runs, monkeypatch):
    monkeypatch.setattr(FakeRun, "resumed", True)
    run = MirroredRun(recorded, {}, "offline", warn=pytest.fail)
    run._last = 10.0  # as read from the server
    run.catch_up()
    assert runs[0].rows == [{"global_step": 20.0}]


def test_record_is_cut_back_and_tensorboard_forgets_what_is_written_again(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = replace(RUN, tensorboard=True)
    first = Recorder(tmp_path / "run", {"seed": 3}, run)
    first.log({"global_step": 10.0, "x": 1.0})
    offset = first.offset()
    first.log({"global_step": 20.0, "x": 2.0})
    first.close(exit_code=1)
    second = Recorder(tmp_path / "run", {}, run, resume=True)
    second.cut_back(offset)
    for step in (20.0, 30.0):
        second.log({"global_step": step, "x": step / 10.0})
    second.finish({})
    rows = read_metrics(tmp_path / "run")
    assert [row["global_step"] for row in rows] == [10.0, 20.0, 30.0]
    assert json.loads((tmp_path / "run" / "config.json").read_text()) == {"seed": 3}
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("x")] == [(10, 1.0), (20, 2.0), (30, 3.0)]


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


# wandb-push


def test_push_writes_one_offline_run_with_everything_and_keeps_its_id(recorded, capsys):
    (recorded / "returns.svg").write_text("<svg></svg>")
    ids = []
    for _ in range(2):
        assert main([str(recorded), "--project", "another"], verb="wandb-push") == 0
        records = inspect(recorded)  # there is exactly one
        ids.append(of_type(records, "run")[0]["run_id"])
        assert [row["global_step"] for row in logged_rows(records)] == [10.0, 20.0]
        assert of_type(records, "run")[0]["config"]["update"]["seed"] == 3
        assert of_type(records, "run")[0]["project"] == "another"
        assert any(file["path"].startswith("media/html/figure/returns") for item in of_type(records, "files")
                   for file in item["files"])  # fmt: skip
        assert of_type(records, "exit")[0].get("exit_code", 0) == 0
    assert ids == [wandb_id(recorded)] * 2
    assert capsys.readouterr().out.count("wandb sync ") == 2


def test_push_takes_the_place_of_what_was_tracked_offline(tracked, tmp_path):
    again = shutil.copytree(tracked, tmp_path / "the-run", symlinks=True)
    before = of_type(inspect(again), "run")[0]["run_id"]
    assert main([str(tmp_path)], verb="wandb-push") == 0  # a folder of run directories
    records = inspect(again)
    assert of_type(records, "run")[0]["run_id"] == before
    assert len(logged_rows(records)) == 3


@pytest.mark.parametrize("made", [lambda path: None, Path.mkdir, Path.touch])
def test_push_of_what_is_no_run_directory_is_a_mistake_of_one_line(tmp_path, capsys, made):
    made(tmp_path / "x")
    before = sorted(tmp_path.rglob("*"))
    assert main([str(tmp_path / "x")], verb="wandb-push") == 2
    expected = "expected a run directory, or a folder of some"
    assert capsys.readouterr().err == f"wandb_push.py: error: no metrics.jsonl in {tmp_path / 'x'}: {expected}\n"
    assert sorted(tmp_path.rglob("*")) == before


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
        history = logged_rows(mirrored[name])
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
    with pytest.warns(UserWarning, match="the run goes on without TensorBoard"):
        recorder.log(ROWS[0])
    recorder.log(ROWS[0])
    recorder.finish({})
    assert len(read_metrics(tmp_path / "run")) == 2
