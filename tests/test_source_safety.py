"""What in the sources could run what it reads, and why it may."""

import ast
import functools

import yaml

from entropic_rl.config import _PlainLoader
from tests.faults.watched_loading import LOADERS
from tests.source_trees import SOURCES, parsed

READERS = {
    "active.label_book": "labels",
    "active.labels": "labels, learner",
    "active.labelling_curve": "curve",
    "checkpoint": "resume",
    "evidence": "replay",
    "policy_files": "evaluate",
    "compare.memory": "what the kernel says of memory",
    "compare.outcomes": "comparison",
    "compare.worker": "what the process that started it says; what the kernel says of memory",
    "config": "settings",
    "datasets.tables": "dataset, pool, answers",
    "flags": "a word of the command line",
    "page": "the template, a part of the package",
    "resumable": "unfinished, settings",
    "run_directory": "cell, comparison, diagnosis, learner",
    "sb3.read": "from_sb3",
    "sb3.tensors": "from_sb3",
    "compare.on_slurm": "lines of our own jobs",
    "compare.parcels": "run directories, to send them on",
    "compare.pool": "lines of our own workers",
    "compare.station": "a word of the process that gives orders",
    "benchmarks.cli": "scores that the same tool wrote",
    "benchmarks.comparison": "what a comparison of its own wrote",
    "benchmarks.fresh_process": "what a process of its own wrote",
    "benchmarks.notebooks": "notebooks of this repository",
    "benchmarks.worker": "what the process that started it says",
    "benchmarks.peers.clock": "what the kernel says of memory",
    "benchmarks.peers.processes": "what a process of its own wrote",
    "benchmarks.peers.report": "a page of this repository",
    "benchmarks.peers.worker": "what the process that started it says",
    "benchmarks.fake_wandb": "what Weights & Biases sends in a measurement",
    "fused.compilation": "its own sources, for a digest of them",
    "wandb_mirror": "comparison, what the process that started it says; the record that a training of ours writes",
}
"""Every module that reads a file or a stream: by which loaders of
tests/faults/watched_loading.py it is tried, or whose files they are."""

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
    ("fused.programs", "exec_module"): "what it has written itself, beside the machine code that is made of it",
    ("interruption", "ctypes.CDLL"): "the C library that this process has",
    ("agents", "import_module"): "parts of the package, by a table",
    ("robustness", "import_module"): "parts of the package, by a table",
    ("user_modules", "importlib.import_module"): "what a user names; never out of a run directory",
    ("config", "yaml.load"): "with a loader of plain values alone",
    ("datasets.tables", "np.load"): "without pickles",
    ("compare.outcomes", "np.load"): "without pickles",
    ("compare.pool", "subprocess"): "starts our own workers",
    ("compare.on_ray", "socket"): "asks whether a cluster answers",
    ("tracking", "subprocess"): "asks git for the commit",
    ("mirroring", "subprocess"): "starts our own follower",
    ("benchmarks.fake_wandb", "http"): "stands for the server of Weights & Biases on this machine",
    ("benchmarks.tracking", "subprocess"): "measures programs of ours",
    ("benchmarks.comparison", "subprocess"): "measures programs of ours and of others",
    ("benchmarks.fresh_process", "subprocess"): "measures programs of ours and of others",
    ("benchmarks.kernel", "subprocess"): "measures programs of ours",
    ("benchmarks.peers.processes", "subprocess"): "measures programs of ours and of others",
    ("benchmarks.peers.worker", "import_module"): "parts of the package, by a table",
    ("benchmarks.notebooks", "exec"): "runs notebooks of this repository",
    ("benchmarks.notebooks", "compile"): "runs notebooks of this repository",
}


@functools.cache
def calls(path):
    """Every call in a file: its name as it is written, and the call."""
    return [(dotted(node.func), node) for node in ast.walk(parsed(path)) if isinstance(node, ast.Call)]


def dotted(node):
    """``a.b.c``, or nothing if it is no name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(path):
    """What a file uses that could run what it reads."""
    found = set()
    for node in ast.walk(parsed(path)):
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


def test_the_process_environment_is_read_for_a_key_and_handed_on_and_nothing_else():
    found = {
        name
        for name, path in SOURCES.items()
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv")
    }
    measuring = {
        "benchmarks.fresh_process",
        "benchmarks.kernel",
        "benchmarks.tracking",
    }
    assert found == {"data_parallel", "fused.compilation", "mirroring", "wandb_mirror", "compare.pool", *measuring}


def test_pickles_are_forbidden_wherever_numpy_could_read_them():
    loading = [call for path in SOURCES.values() for name, call in calls(path) if name == "np.load"]
    words = [{word.arg: ast.unparse(word.value) for word in call.keywords} for call in loading]
    assert len(words) >= 2
    assert all(word.get("allow_pickle") == "False" for word in words)


def test_the_only_loader_of_yaml_is_that_of_plain_values():
    given = [ast.unparse(call) for path in SOURCES.values() for name, call in calls(path) if name == "yaml.load"]
    assert given == ["yaml.load(text, Loader=_PlainLoader)"]
    assert issubclass(_PlainLoader, yaml.SafeLoader)


def test_every_module_that_reads_files_is_tried_by_a_loader():
    found = {
        name
        for name, path in SOURCES.items()
        for called, call in calls(path)
        if called in READING or (isinstance(call.func, ast.Attribute) and call.func.attr in READING)
    }
    assert found == READERS.keys()
    assert {word for said in READERS.values() for word in said.split(", ") if word.isidentifier()} <= set(LOADERS)


def test_user_input_is_never_checked_by_assert():
    for path in SOURCES.values():
        assert not [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Assert)], path
