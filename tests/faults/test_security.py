"""Nothing on a load path runs code: every loader of the package, on files as they should be and on hostile ones."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.hostile_files import BENIGN, HOSTILE
from tests.faults.watched_loading import LOADERS

ROOT = Path(__file__).parents[2]
READER = Path(__file__).with_name("watched_loading.py")


@pytest.fixture(scope="module")
def endings(tmp_path_factory):
    """How every case ended, by loader and by what is wrong with the file; the first round only imports libraries."""
    root, templates, cases = tmp_path_factory.mktemp("loading"), {}, []
    for i, (loader, write) in enumerate(BENIGN.items()):
        folder = root / f"benign{i}"
        folder.mkdir()
        templates[loader] = (folder, write(folder).relative_to(folder))
    names = [(loader, "") for loader in BENIGN] + [(loader, what) for loader, what, *_ in HOSTILE]
    changes = [None] * len(BENIGN) + [change for *_, change, _ in HOSTILE]
    for i, ((loader, _), change) in enumerate(zip(names, changes, strict=True)):
        folder, place = templates[loader]
        own = shutil.copytree(folder, root / f"case{i}" / "own", symlinks=True)
        if change is not None:
            change(own / place)
        cases.append({"loader": loader.split()[0], "path": str(own / place), "watched": True})
    warm = [{**case, "watched": False} for case in cases[: len(BENIGN)]]
    ended = subprocess.run(
        [sys.executable, READER], input=json.dumps(warm + cases), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "RAN" not in os.environ
    found = json.loads(ended.stdout)[len(warm) :]
    for case, one in zip(cases, found, strict=True):
        own = Path(case["path"])
        root_of_case = next(parent for parent in own.parents if parent.name.startswith("case"))
        one["left"] = sorted(str(path) for path in root_of_case.rglob("ran"))
        outside = root_of_case / "outside"
        one["kept"] = not outside.exists() or [(p.name, p.read_text()) for p in outside.iterdir()] == [
            ("kept.svg", "kept")
        ]
    return dict(zip(names, found, strict=True))


def test_every_loader_is_tried():
    assert {loader.split()[0] for loader in BENIGN} == set(LOADERS)
    assert {loader for loader, *_ in HOSTILE} >= set(BENIGN) - {"suggest", "to_sb3"}


@pytest.mark.parametrize("loader", BENIGN)
def test_file_as_it_should_be_is_read_without_running_anything(loader, endings, tally):
    found = endings[loader, ""]
    assert (found["outcome"], found["events"]) == ("read", []), found["text"]
    tally("loading a file as it should be", "read, nothing run")


@pytest.mark.parametrize(("loader", "what", "end"), [(loader, what, end) for loader, what, _, end in HOSTILE])
def test_hostile_file_runs_nothing_and_ends_in_one_line(loader, what, end, endings, tally):
    found = endings[loader, what]
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
