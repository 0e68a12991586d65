"""The record as files: what is read of damaged ones, and that nothing outside a directory is written."""

import json

import pytest

from entropic_rl.cli import main
from entropic_rl.errors import ConfigError, RunDirectoryError
from entropic_rl.run_directory import (
    check_links,
    check_run_directory,
    file_name,
    is_record,
    read_json_lines,
    read_metrics,
    replace_file,
)
from entropic_rl.user_modules import check_place, import_user_module
from tests.synthetic import write_plan


def test_text_is_not_written_through_a_link(tmp_path):
    (tmp_path / "theirs").write_text("kept")
    (tmp_path / "ours.tmp").symlink_to(tmp_path / "theirs")
    (tmp_path / "ours").symlink_to(tmp_path / "theirs")
    replace_file(tmp_path / "ours", "new")
    assert (tmp_path / "theirs").read_text() == "kept"
    assert (tmp_path / "ours").read_text() == "new"
    assert not (tmp_path / "ours").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours", "theirs"]


@pytest.mark.parametrize("target", ["../outside", "../outside/file", "/etc/passwd", "../missing"])
def test_link_that_leads_out_of_a_directory_is_refused(tmp_path, target):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").touch()
    (tmp_path / "own" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "link").symlink_to(target)
    with pytest.raises(RunDirectoryError, match=r"link is a link out of .*own: expected all files of it inside"):
        check_links(tmp_path / "own")


def test_links_that_stay_inside_are_no_trouble_nor_is_one_to_the_directory_itself(tmp_path):
    (tmp_path / "own" / "deep").mkdir(parents=True)
    (tmp_path / "own" / "file").touch()
    (tmp_path / "own" / "deep" / "link").symlink_to("../file")
    (tmp_path / "own" / "wandb").mkdir()
    (tmp_path / "own" / "wandb" / "cache").symlink_to("/tmp")
    (tmp_path / "other").symlink_to(tmp_path / "own")
    check_links(tmp_path / "own")
    check_links(tmp_path / "other")


def test_objects_of_lines_are_read_up_to_the_first_line_that_holds_none(tmp_path):
    path = tmp_path / "lines"
    for end in (b'{"a": ', b"[1]\n", b"\x80\x04\n", b"1\n", b"[" * 10**5):
        path.write_bytes(b'{"a": 1}\n{"a": null}\n' + end + b'\n{"a": 3}\n')
        assert read_json_lines(path) == [{"a": 1}, {"a": None}]


def test_metrics_are_numbers_and_nothing_else(tmp_path):
    row = {"global_step": 1.0, "text": "x", "list": [1], "none": None, "whole": 2}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    assert read_metrics(tmp_path) == [{"global_step": 1.0, "whole": 2}]


# Names

NAMES = ["CartPole-v1", "../../x", "/etc/passwd", "..", ".", "", "a\\b", "C:\\x", "mine:Env-v0", "a\0b", "a\nb",
         "é" * 300, "x" * 1000, "~root", " ", "\ud800"]  # fmt: skip


@pytest.mark.parametrize("text", NAMES)
def test_any_text_becomes_the_name_of_one_file(tmp_path, text):
    name = file_name(text)
    (tmp_path / name).touch()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert len(name.encode()) <= 200


def test_names_that_are_as_they_should_be_stay_so_and_long_ones_stay_apart():
    assert file_name("ent_coef_linear:0.1:0__env_a/B-v0") == "ent_coef_linear-0.1-0__env_a-B-v0"
    assert file_name("x" * 300) != file_name("x" * 301)


@pytest.mark.parametrize("text", NAMES[:-1])
def test_runs_of_a_comparison_lie_below_it_whatever_the_environment_is_called(tmp_path, text):
    plan = write_plan(tmp_path, 1, env=[text or "-", "Acrobot-v1"], ent_coef=[0.0, 0.1])
    for cell in plan.cells(tmp_path / "out"):
        assert cell.directory.parent == tmp_path / "out" / "cells"
        cell.directory.mkdir(parents=True)


@pytest.mark.parametrize("env", NAMES[1:])
def test_training_leaves_nothing_outside_runs(tmp_path, monkeypatch, capsys, env):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "ppo", f"--env={env}", "--no-progress"]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a\0b", "x" * 300, f"{'y' * 300}/z"])
def test_run_directory_that_no_file_system_takes_is_refused_in_one_line(tmp_path, name):
    with pytest.raises(RunDirectoryError, match=r"expected a new or empty one; choose another"):
        check_run_directory(tmp_path / name)


# Modules


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A folder with a module in it, where the command is run."""
    (tmp_path / "in_a_record.py").write_text("Config = None\n")
    (tmp_path / "a_package_in_a_record").mkdir()
    (tmp_path / "a_package_in_a_record" / "__init__.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["in_a_record", "a_package_in_a_record", "a_package_in_a_record.part"])
@pytest.mark.parametrize("mark", ["policy.json", "metrics.jsonl", "plan.json", "learner.json"])
def test_module_that_lies_in_a_run_directory_is_not_imported(module, name, mark):
    (module / mark).touch()
    assert is_record(module)
    with pytest.raises(ImportError, match="a directory of runs, from which nothing is imported"):
        import_user_module(name)


def test_module_that_lies_among_cells_is_not_imported(module, monkeypatch):
    (module / "plan.json").touch()
    (module / "cells").mkdir()
    (module / "cells" / "among_cells.py").touch()
    monkeypatch.syspath_prepend(module / "cells")
    with pytest.raises(ImportError, match="nothing is imported"):
        import_user_module("among_cells")


def test_module_beside_run_directories_is_imported(module):
    (module / "run").mkdir()
    (module / "run" / "metrics.jsonl").touch()
    assert import_user_module("in_a_record").Config is None


@pytest.mark.parametrize("name", ["", ".in_a_record", "../x", "a b", "-c"])
def test_what_is_no_name_of_a_module_is_an_import_error(module, name):
    with pytest.raises(ImportError, match="is no name of a module"):
        check_place(name)


def test_agent_whose_settings_are_no_dataclass_is_refused(module):
    from entropic_rl.user_modules import load_user_agent

    (module / "agent_of_a_test.py").write_text("class Agent:\n    Config = dict\n")
    with pytest.raises(ConfigError, match="needs a class attribute Config, a dataclass of its settings"):
        load_user_agent("agent_of_a_test:Agent")
