"""Nothing on a load path runs code: every loader of the package, on files as they should be and on hostile ones."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from entropic_rl.config import _PlainLoader
from tests.faults.hostile_files import BENIGN, HOSTILE
from tests.faults.watched_loading import LOADERS
from tests.test_architecture import SOURCES

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


# The source


READERS = {
    "active.label_book": "labels",
    "active.labels": "labels, learner",
    "active.labelling_curve": "curve",
    "checkpoint": "evaluate",
    "compare.memory": "what the kernel says of memory",
    "compare.outcomes": "comparison",
    "compare.worker": "what the process that started it says; what the kernel says of memory",
    "config": "settings",
    "datasets.tables": "dataset, pool, answers",
    "flags": "a word of the command line",
    "page": "the template, a part of the package",
    "run_directory": "cell, comparison, diagnosis, learner",
    "sb3.read": "from_sb3",
    "sb3.tensors": "from_sb3",
    "compare.pool": "lines of our own workers",
    "benchmarks.cli": "scores that the same tool wrote",
    "benchmarks.comparison": "what a comparison of its own wrote",
    "benchmarks.notebooks": "notebooks of this repository",
    "benchmarks.side_by_side": "what a process of its own wrote",
    "benchmarks.worker": "what the process that started it says",
}
"""Every module that reads a file or a stream: by which loaders above it is tried, or whose files they are."""

READING = {
    "read_text", "read_bytes", "np.load", "load_file", "zipfile.ZipFile", "ParquetFile", "json.load", "json.loads",
    "yaml.load", "yaml.safe_load", "read_yaml", "safe_open", "csv.reader", "csv.DictReader",
}  # fmt: skip

UNSAFE_MODULES = {
    "cloudpickle", "code", "dill", "imp", "joblib", "marshal", "pickle", "pty", "runpy", "shelve", "socket",
    "subprocess", "urllib", "http", "requests",
}  # fmt: skip
UNSAFE_CALLS = {
    "eval", "exec", "compile", "__import__", "np.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system",
    "os.popen", "torch.load", "torch.jit.load", "torch.hub.load", "pd.read_pickle", "pandas.read_pickle",
    "importlib.import_module", "import_module", "shutil.unpack_archive", "np.fromfile", "ctypes.CDLL",
}  # fmt: skip
UNSAFE_METHODS = {"extractall", "extract", "unpack_archive", "read_pickle", "load_module", "exec_module", "run_path"}
ALLOWED = {
    ("allocation", "ctypes.CDLL"): "the C library that this process has",
    ("agents", "import_module"): "parts of the package, by a table",
    ("robustness", "import_module"): "parts of the package, by a table",
    ("user_modules", "importlib.import_module"): "what a user names; never out of a run directory",
    ("config", "yaml.load"): "with a loader of plain values alone",
    ("datasets.tables", "np.load"): "without pickles",
    ("compare.outcomes", "np.load"): "without pickles",
    ("compare.pool", "subprocess"): "starts our own workers",
    ("tracking", "subprocess"): "asks git for the commit",
    ("benchmarks.comparison", "subprocess"): "measures programs of ours and of others",
    ("benchmarks.side_by_side", "subprocess"): "measures programs of ours and of others",
    ("benchmarks.notebooks", "exec"): "runs notebooks of this repository",
    ("benchmarks.notebooks", "compile"): "runs notebooks of this repository",
}


def calls(path):
    """Every call in a file: its name as it is written, and the call."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def unsafe(path):
    """What a file uses that could run what it reads."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names} & UNSAFE_MODULES
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module).split(".")[0]} & UNSAFE_MODULES
    for name, call in calls(path):
        if name in UNSAFE_CALLS:
            found.add(name)
        elif isinstance(call.func, ast.Attribute) and call.func.attr in UNSAFE_METHODS:
            found.add(call.func.attr)
        if any(word.arg == "shell" for word in call.keywords):
            found.add("shell")
    return found


def test_nothing_in_the_source_can_run_what_it_reads_but_what_has_a_reason():
    found = {(name, what) for name, path in SOURCES.items() for what in unsafe(path)}
    assert found == ALLOWED.keys()


def test_pickles_are_forbidden_wherever_numpy_could_read_them():
    loading = [call for path in SOURCES.values() for name, call in calls(path) if name == "np.load"]
    words = [{word.arg: ast.unparse(word.value) for word in call.keywords} for call in loading]
    assert len(words) >= 2
    assert all(word.get("allow_pickle") == "False" for word in words)


def test_the_only_loader_of_yaml_is_that_of_plain_values():
    given = [ast.unparse(call) for path in SOURCES.values() for name, call in calls(path) if name == "yaml.load"]
    assert given == ["yaml.load(text, Loader=_PlainLoader)"]
    assert issubclass(_PlainLoader, yaml.SafeLoader)


def test_every_module_that_reads_files_is_tried_above():
    found = {
        name
        for name, path in SOURCES.items()
        for called, call in calls(path)
        if called in READING or (isinstance(call.func, ast.Attribute) and call.func.attr in READING)
    }
    assert found == READERS.keys()
    known = {loader.split()[0] for loader in BENIGN}
    assert known == set(LOADERS)
