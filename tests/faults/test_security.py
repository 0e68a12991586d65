"""Nothing on a load path runs code: every loader of the package, on files as they should be and on hostile ones."""

import functools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.hostile_files import BENIGN, HOSTILE
from tests.faults.watched_loading import LOADERS

ROOT = Path(__file__).parents[2]
READER = Path(__file__).with_name("watched_loading.py")


LONG = {"resume", "suggest", "to_sb3", "learner", "curve"}  # loaders that import for seconds
EMPTY = ""  # what is wrong with a file as it should be


@pytest.fixture(scope="module")
def ending(tmp_path_factory):
    """``ending(loader, what)``: how a case ended; those of quick and of long loaders are tried in a process each."""

    @functools.cache
    def endings(is_long):
        benign = {loader: write for loader, write in BENIGN.items() if (loader in LONG) == is_long}
        return try_all(benign, tmp_path_factory.mktemp("loading"))

    return lambda loader, what: endings(loader in LONG)[loader, what]


def try_all(benign, root):
    """How every case of some loaders ended, as (loader, what is wrong with the file); see ``watched_loading.py``."""
    templates, places, cases = {}, [], {}
    for i, (loader, write) in enumerate(benign.items()):
        folder = root / f"benign{i}"
        folder.mkdir()
        templates[loader] = folder, write(folder).relative_to(folder)
    changes = {(loader, EMPTY): None for loader in benign}
    changes |= {(loader, what): change for loader, what, change, _ in HOSTILE if loader in benign}
    for i, ((loader, what), change) in enumerate(changes.items()):
        folder, place = templates[loader]
        places.append(root / f"case{i}")
        own = shutil.copytree(folder, places[-1] / "own", symlinks=True)
        if change is not None:
            change(own / place)
        cases[loader, what] = {"loader": loader.split()[0], "path": str(own / place), "watched": True}
    first = [cases[loader, EMPTY] | {"watched": False} for loader in benign]  # imports what it takes
    told = json.dumps([*first, *cases.values()])
    ended = subprocess.run([sys.executable, READER], input=told, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)[len(first) :]
    for one, place in zip(found, places, strict=True):
        one["left"] = [str(path) for path in place.rglob("ran")]
        outside = {path.name: path.read_text() for path in place.glob("outside/*")}
        one["kept"] = outside in ({}, {"kept.svg": "kept"})
    return dict(zip(cases, found, strict=True))


def parametrized(names, cases):
    """Over cases that begin with a loader, those of long ones among the long tests."""
    marks = [[pytest.mark.faults] if case[0] in LONG else [] for case in cases]
    return pytest.mark.parametrize(
        names, [pytest.param(*case, marks=mark) for case, mark in zip(cases, marks, strict=True)]
    )


def test_every_loader_is_tried():
    assert {loader.split()[0] for loader in BENIGN} == set(LOADERS)
    assert {loader for loader, *_ in HOSTILE} == set(BENIGN)


@parametrized("loader", [(loader,) for loader in BENIGN])
def test_file_as_it_should_be_is_read_without_running_anything(loader, ending, tally):
    found = ending(loader, EMPTY)
    assert (found["outcome"], found["events"]) == ("read", []), found["text"]
    tally("loading a file as it should be", "read, nothing run")


@parametrized(("loader", "what", "end"), [(loader, what, end) for loader, what, _, end in HOSTILE])
def test_hostile_file_runs_nothing_and_ends_in_one_line(loader, what, end, ending, tally):
    found = ending(loader, what)
    assert found["events"] == [], found["text"]
    assert found["left"] == []
    assert found["kept"]
    assert found["outcome"] == end, found["text"]
    assert "\n" not in found["text"]
    assert len(found["text"]) < 1000
    tally("loading a hostile file", "refused in one line" if end == "refused" else "read, the rest ignored")


@pytest.mark.faults
def test_workers_run_no_file_that_is_called_like_a_module_of_python(tmp_path, tally):
    for name in ("json", "torch", "numpy", "signal", "contextlib"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()\nraise SystemExit(0)\n")
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    flags = ["ppo", "--env", "CartPole-v1", "--total-timesteps", "64", "--n-steps", "32", "--n-envs", "1",
             "--batch-size", "32", "--eval-episodes", "2", "--seeds", "1", "--ent-coef", "0", "0.1",
             "--out", "out"]  # fmt: skip
    ended = subprocess.run(
        [sys.executable, ROOT / "scripts" / "compare.py", *flags, "--no-progress", "--workers", "1"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "report.html").exists()
    assert not (tmp_path / "ran").exists()
    tally("modules of a foreign folder", "not run")
