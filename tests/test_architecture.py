"""The import rules of docs/architecture.md, the surface, and what a wheel holds."""

import ast
import functools
import importlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from entropic_rl.config import _PlainLoader
from tests.faults.watched_loading import LOADERS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "entropic_rl"

BASE = {"errors", "schedules"}
CORE = {"entropy", "losses", "returns", "distributions", "coefficients", "streams"}
MACHINERY = {
    "networks",
    "buffers",
    "normalization",
    "optimizers",
    "policies",
    "on_policy",
    "collector",
    "spaces",
    "vector",
    "episodes",
    "exploration",
    "families",
    "entropy_term",
    "critics",
    "off_policy",
    "reductions",
    "masks",
    "frames",
    "features",
    "health",
    "loss_parts",
    "ranks",
    "sequences",
    "shared_envs",
    "shares",
    "watching",
}
LOOP = {
    "cell",
    "recording",
    "optimality",
    "training",
    "evaluation",
    "checkpoint",
    "checkpointing",
    "episode_tape",
    "evidence",
    "interruption",
    "policy_files",
    "snapshots",
    "tracking",
    "progress",
    "page",
    "plots",
    "run_directory",
    "environments",
    "env_checks",
    "env_workers",
    "config",
}

# Module (or package) -> what of ours it may import, anywhere in it. A module that is not listed fails the test below:
# adding one means deciding where it stands.
MAY_IMPORT = {
    "": set(),
    "allocation": set(),
    "user_modules": {"errors", "run_directory"},
    "extras": set(),
    "wrappers": {"errors", "extras", "user_modules"},
    "critics": CORE | MACHINERY,
    "off_policy": CORE | MACHINERY,
    "reductions": set(),
    "ranks": {"errors"},
    "shared_envs": {"episodes", "errors", "health", "ranks", "vector"},
    "shares": {"buffers", "on_policy", "ranks"},  # the latter for its types alone
    "data_parallel": {
        "agents",
        "allocation",
        "cell",
        "checkpointing",
        "errors",
        "interruption",
        "ranks",
        "recording",
        "run_directory",
        "runs",
        "training",
    },
    "entropy": {"continuous_entropy", "entropy_operator", "quadrature"},
    "entropy_operator": {"entropy_operator", "fused"},  # the compiler, and nothing else of it
    "continuous_entropy": {"quadrature"},
    "quadrature": set(),
    "losses": {"coefficients", "entropy", "entropy_operator", "losses", "schedules"},
    "calibration": BASE | {"calibration", "config", "entropy", "progress", "streams", "supervised", "watching"},
    "active": BASE
    | {
        "active",
        "allocation",
        "calibration",
        "classifier_flags",
        "compare",
        "config",
        "datasets",
        "entropy",
        "extras",
        "flags",
        "page",
        "plots",
    }
    | {"parts", "progress", "resumable", "run_directory", "snapshots", "streams", "supervised", "tracking"},
    "active.acquisition": {"entropy", "errors", "streams"},
    "active.batches": {"active", "entropy", "errors", "streams"},
    "few_labels": BASE
    | {"calibration", "config", "entropy", "few_labels", "losses", "networks", "optimizers", "streams", "supervised"},
    "calibrate": BASE
    | {"allocation", "calibrate", "calibration", "compare", "config", "datasets", "flags", "page", "plots", "progress"}
    | {"classifier_flags", "parts", "resumable", "run_directory", "supervised", "tracking"},
    "robustness": BASE
    | {"allocation", "compare", "config", "datasets", "flags", "page", "plots", "progress", "robustness"}
    | {"classifier_flags", "parts", "resumable", "run_directory", "snapshots", "streams", "supervised", "tracking"},
    "studies": BASE
    | {"allocation", "classifier_flags", "compare", "config", "datasets", "flags", "page", "plots", "progress"}
    | {"diagnostics", "networks", "optimizers", "parts", "resumable", "run_directory", "streams", "studies"}
    | {"supervised", "tracking"},
    "supervised": CORE | {"watching", "config", "errors", "networks", "optimizers", "second_order", "supervised"},
    "diagnostics": {"diagnostics", "entropy", "errors", "losses", "streams"},
    "diagnostics.batch_flow": {"diagnostics", "networks", "optimizers", "watching"},
    "diagnosis": BASE | LOOP | {"diagnostics"},
    "watching": {"networks", "optimizers"},
    "datasets": {"config", "datasets", "errors", "extras"},
    "errors": set(),
    "presets": set(),
    "progress": set(),
    "page": {"plots"},
    "plots": {"plots"},
    "plots.active": {"errors", "plots"},
    "plots.calibration": {"calibration", "errors", "plots"},
    "plots.chain_rule": {"diagnostics", "errors", "plots"},
    "plots.one_weight": {"plots"},
    "plots.range_test": {"errors", "plots"},
    "plots.landscape": {"errors", "plots"},
    "plots.robustness": {"errors", "plots"},
    "plots.estimates": {"errors", "plots"},
    "plots.studies": {"errors", "plots"},
    "plots.activations": {"errors", "plots"},
    "plots.lines": {"errors", "plots"},
    "plots.uncertainty": {"calibration", "entropy", "errors", "plots"},
    "schedules": set(),
    "families": {"errors", "schedules", "spaces"},
    "masks": {"errors", "spaces"},
    "entropy_term": CORE | {"families", "spaces"},
    "streams": set(),
    "returns": {"losses"},  # for check_same_shape
    "distributions": {"entropy"},
    "coefficients": {"networks", "optimizers", "schedules"},  # the dual variable has an optimizer
    "networks": {"streams"},
    "conv_layers": set(),
    "convolution": {"conv_layers", "networks", "streams"},
    "features": {"attention", "conv_layers", "convolution", "errors", "networks", "spaces", "streams"},
    "sequences": {"recurrence"},
    "frames": {"spaces"},
    "recurrence": {"networks", "streams"},
    "attention": {"networks", "streams"},
    "normalization": {"networks"},
    "health": set(),
    "optimizers": {"health", "networks"},
    "second_order": {"networks"},
    "spaces": {"errors"},
    "env_checks": {"errors"},
    "env_workers": {"env_checks", "errors", "interruption"},
    "environments": {
        "env_checks",
        "env_workers",
        "errors",
        "envs",
        "extras",
        "user_modules",
        "wrappers",
    },  # the package alone, which registers ids and imports no torch
    "run_directory": {"errors"},
    "config": BASE | {"wrappers"},
    "cell": {
        "user_modules",
        "agents",
        "config",
        "errors",
        "run_directory",
        "sb3",
    },  # their settings, which are free of torch
    "resolve": {"agents", "cell", "config", "environments", "errors", "families", "flags", "presets", "sb3", "spaces"},
    "optimality": CORE | MACHINERY | {"envs"},  # the oracle
    "suggest": CORE | MACHINERY | BASE | LOOP | {"agents", "calibration", "diagnostics", "suggest", "supervised"},
    "landscape": CORE | MACHINERY | {"envs", "errors"},
    "recording": CORE | MACHINERY | BASE | LOOP,
    "flags": {"errors", "config"},
    "classifier_flags": {"config", "errors", "flags", "resumable", "run_directory"},
    "episodes": set(),
    "exploration": {"buffers", "errors", "user_modules", "spaces", "vector"},
    "vector": {"errors", "episodes", "frames", "health", "masks", "spaces"},
    "buffers": {"spaces", "vector"},
    "policies": CORE | MACHINERY,
    "collector": CORE | MACHINERY,
    "on_policy": CORE | MACHINERY,
    "loss_parts": CORE | MACHINERY,
    "fused": CORE | MACHINERY | {"envs", "errors", "extras", "fused"},
    "training": CORE | MACHINERY | BASE | {"interruption"},
    "evaluation": CORE | MACHINERY | BASE,
    "policy_files": CORE | MACHINERY | BASE | {"run_directory"},
    "evidence": CORE | MACHINERY | BASE | {"run_directory"},
    "replay": CORE | MACHINERY | BASE | LOOP | {"agents"},
    "interruption": set(),
    "episode_tape": set(),
    "snapshots": set(),  # of any object
    "checkpoint": {"errors", "snapshots"},
    "parts": {"snapshots", "supervised"},
    "kept_parts": {"checkpoint", "checkpointing", "errors", "interruption", "snapshots", "supervised"},
    "resumable": {"config", "errors", "flags", "interruption", "kept_parts", "parts", "run_directory"},
    "checkpointing": {"checkpoint", "diagnostics", "errors", "ranks", "snapshots", "tracking", "training"},
    "tracking": BASE | {"config", "mirroring", "run_directory"},
    "mirroring": BASE | {"config", "user_modules"},
    "wandb_mirror": {"errors", "run_directory"},
    "wandb_push_cli": {"errors", "flags", "run_directory", "wandb_mirror"},
    "kernels": {"config", "errors", "fused", "vector"},
    "fused.__main__": {"cli", "fused"},
    "runs": CORE | MACHINERY | BASE | LOOP | {"agents", "diagnosis", "kernels"},  # their settings
    "compare": BASE
    | LOOP
    | {
        "agents",
        "allocation",
        "compare",
        "conv_layers",
        "extras",
        "flags",
        "landscape",
        "resolve",
        "runs",
        "sb3",
        "spaces",
        "user_modules",
    },
    "sb3": CORE | MACHINERY | BASE | LOOP | {"agents", "runs", "sb3"},
    "testing": CORE | MACHINERY | BASE | {"agents", "environments"},
    "agents.sb3": {"sb3"},  # a door: what people who train with it import
    "agents": CORE | MACHINERY | BASE | {"config", "agents", "fused", "user_modules"},
    "envs": {"errors", "streams", "envs"},
    "evaluate_run": None,  # the verbs may import everything
    "cli": None,
    "training_cli": None,
    "benchmarks": None,
}
TORCH_FREE = {
    "", "allocation", "user_modules", "conv_layers", "extras", "wrappers",
    "errors", "schedules", "families", "presets", "config", "classifier_flags", "flags", "spaces", "environments",
    "mirroring", "run_directory", "interruption", "parts", "resumable", "training_cli", "wandb_push_cli",
    "data_parallel",
    "env_checks", "env_workers", "fused",
    "cli",
    "evaluate_run", "agents", "agents.config", "benchmarks.cli", "benchmarks.cli_active", "benchmarks.cli_cost",
    "benchmarks.cli_curvature",
    "benchmarks.cli_environments",
    "benchmarks.cli_few_labels", "benchmarks.cli_kernel", "benchmarks.cli_mathematics",
    "benchmarks.cli_peers", "benchmarks.peers", "benchmarks.peers.job", "benchmarks.peers.tasks",
    "benchmarks.cli_robustness", "benchmarks.cli_studies",
    "benchmarks.cli_tracking",
    "compare", "benchmarks",
    "envs", "cell", "resolve",
    "compare.cli", "compare.grid", "compare.engines", "compare.execute", "compare.jobs", "compare.memory",
    "compare.on_ray", "compare.on_slurm", "compare.parcels", "compare.pool", "compare.remote", "compare.station",
    "compare.unfinished",
    "compare.wandb_sweep", "progress", "sb3", "sb3.settings", "supervised", "supervised.config",
    "active", "active.asking", "active.cli", "active.config", "active.label_book", "active.labelling_cli",
    "active.labelling_config", "active.labelling_report", "active.labels", "active.leaks", "active.said",
    "active.spreadsheets", "calibrate", "calibrate.cli", "calibrate.config",
    "robustness", "robustness.cli", "robustness.config",
    "studies", "studies.activation", "studies.batch_size", "studies.catalogue", "studies.cli", "studies.config",
    "studies.depth", "studies.initialisation", "studies.learning_rate", "studies.optimizer", "studies.pruning",
    "studies.regularisation", "studies.schedule", "studies.splits", "studies.study",
    "datasets", "datasets.data", "datasets.label_noise", "datasets.pools", "datasets.population", "datasets.sources",
    "datasets.splits", "datasets.tables", "datasets.thinning",
}  # fmt: skip
HEAVY = {"torch", "numba", "sklearn", "stable_baselines3", "wandb", "matplotlib", "tensorboard", "safetensors", "scipy"}


def sources():
    """Module name without ``entropic_rl.`` -> file."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    for folder in ("agents", "envs"):  # rglob does not follow the links
        for path in (ROOT / folder).glob("*.py"):
            found[folder if path.stem == "__init__" else f"{folder}.{path.stem}"] = path
    return found


SOURCES = sources()


@functools.cache
def parsed(path):
    """The tree of a file, which many tests look at."""
    return ast.parse(path.read_text())


every_module = pytest.mark.parametrize("name", sorted(SOURCES))


def imports(path, *, top_level=False):
    """Full names of everything a file imports; ``top_level`` leaves out functions and ``if TYPE_CHECKING``."""
    tree = parsed(path)
    nodes = ast.walk(tree)
    if top_level:
        nodes = [node for statement in tree.body if not isinstance(statement, ast.If) for node in flat(statement)]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def flat(statement):
    """A statement and what runs with it on import."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
        return []
    return (
        ast.walk(statement)
        if not isinstance(statement, ast.ClassDef)
        else [node for inner in statement.body for node in flat(inner)]
    )


def ours(names):
    """Modules of ours among imported names, without ``entropic_rl.``."""
    modules = set()
    for name in names:
        if name.split(".")[0] == "entropic_rl":
            parts = name.split(".")[1:]
            while parts and ".".join(parts) not in SOURCES:
                parts.pop()
            modules.add(".".join(parts))
    return modules


def test_every_module_has_a_place_in_the_table():
    assert {name.split(".")[0] for name in SOURCES} == {name.split(".")[0] for name in MAY_IMPORT}


@every_module
def test_modules_import_only_what_their_place_allows(name):
    allowed = MAY_IMPORT.get(name, MAY_IMPORT[name.split(".")[0]])
    if allowed is not None:
        imported = {module.split(".")[0] for module in ours(imports(SOURCES[name]))}
        assert imported <= allowed, f"entropic_rl.{name} may not import {sorted(imported - allowed)}"


def test_the_entropy_operator_takes_nothing_but_the_compiler_from_updates():
    for name in [name for name in SOURCES if name.split(".")[0] == "entropy_operator"]:
        assert ours(imports(SOURCES[name])) - {"fused.compilation", "fused.elementary"} <= {
            n for n in SOURCES if "entropy_operator" in n
        }


@pytest.mark.parametrize("name", sorted(TORCH_FREE))
def test_modules_needed_for_help_are_free_of_torch(name):
    imported = imports(SOURCES[name], top_level=True)
    assert not {module.split(".")[0] for module in imported} & HEAVY
    assert ours(imported) <= TORCH_FREE, "imports a module that may import torch"


@pytest.mark.parametrize("name", [name for name in sorted(SOURCES) if name.startswith("agents.")])
def test_agents_do_not_import_each_other(name):
    assert {module for module in ours(imports(SOURCES[name])) if module.startswith("agents")} <= {"agents.config"}


@every_module
def test_third_parties_stay_where_they_belong(name):
    imported = {module.split(".")[0] for module in imports(SOURCES[name])}
    assert "wandb" not in imported or name == "wandb_mirror"
    assert "matplotlib" not in imported or name.split(".")[0] == "plots"
    assert not imported & {"numba", "llvmlite"} or name in ("fused.compilation", "fused.blocks")
    assert "ray" not in imported or name == "compare.on_ray"
    assert "submitit" not in imported or name == "compare.on_slurm"
    assert "triton" not in imported or name == "entropy_operator.triton_kernels"
    assert "stable_baselines3" not in imported or name.split(".")[0] in ("sb3", "benchmarks")
    assert not imported & {"scripts", "tests", "agents", "envs"}
    if name in CORE:
        assert not imported & {"gymnasium", "wandb", "rich", "yaml", "pydantic"}


def test_importing_the_package_is_light():
    code = "import sys, entropic_rl; print(sorted(m for m in sys.modules if m in ('torch', 'gymnasium', 'numpy')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


# What could run what it reads


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
    "benchmarks.notebooks": "notebooks of this repository",
    "benchmarks.side_by_side": "what a process of its own wrote",
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
    ("benchmarks.side_by_side", "subprocess"): "measures programs of ours and of others",
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
        "benchmarks.comparison",
        "benchmarks.kernel",
        "benchmarks.peers.processes",
        "benchmarks.side_by_side",
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


# Import names


@pytest.mark.parametrize("path", ["agents/__init__.py", "agents/config.py", "envs/__init__.py"])
def test_bare_names_of_the_mapped_folders_are_refused(path):
    bare = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    spec = importlib.util.spec_from_file_location(bare, ROOT / path)
    with pytest.raises(ImportError, match="import entropic_rl"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("folder", ["agents", "envs"])
def test_mapped_folders_are_imported_by_their_full_name(folder):
    module = importlib.import_module(f"entropic_rl.{folder}")
    assert Path(module.__file__).resolve() == ROOT / folder / "__init__.py"


@pytest.mark.parametrize("folder", ["agents", "envs"])
def test_links_for_type_checkers_lead_to_the_folders(folder):
    assert (PACKAGE / folder).resolve() == ROOT / folder


# Surface


@every_module
def test_every_module_begins_with_a_docstring(name):
    assert ast.get_docstring(parsed(SOURCES[name]))


@every_module
def test_every_public_function_class_and_method_has_a_docstring(name):
    for node in ast.walk(parsed(SOURCES[name])):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
    for node in parsed(SOURCES[name]).body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name


@every_module
def test_all_names_exist(name):
    if name == "entropy_operator.triton_kernels":
        pytest.importorskip("triton")
    module = importlib.import_module(f"entropic_rl.{name}".rstrip("."))
    for public in getattr(module, "__all__", ()):
        assert hasattr(module, public), public


@pytest.mark.parametrize(
    ("module", "names"),
    {
        "entropy": [
            "categorical_entropy", "bernoulli_entropy", "gaussian_entropy", "tanh_gaussian_entropy", "tsallis_entropy",
            "log_prob_and_entropy", "renyi_entropy",
        ],
        "calibration": ["proper_readout", "TemperatureScaler", "calibration_report", "CalibrationReport"],
        "datasets": ["Dataset", "load", "from_arrays", "split", "folds", "with_label_noise"],
        "robustness": ["fgsm", "pgd", "robustness_curve", "masking_flags", "corruption_curve", "AdversarialRows"],
        "losses": ["entropic_loss", "entropic_cross_entropy", "EntropicCrossEntropy"],
        "agents": ["A2C", "PPO", "A2CConfig", "PPOConfig"],
    }.items(),
)  # fmt: skip
def test_promised_public_names_are_there(module, names):
    assert set(names) <= set(importlib.import_module(f"entropic_rl.{module}").__all__)


def test_unknown_agent_name_is_an_attribute_error():
    from entropic_rl import agents

    with pytest.raises(AttributeError, match="has no attribute 'SARSA'"):
        _ = agents.SARSA


@pytest.mark.parametrize("path", sorted(path for path in SOURCES.values()), ids=lambda path: path.name)
def test_files_stay_short_enough_to_read(path):
    assert len(path.read_text().splitlines()) <= 350


def test_user_input_is_never_checked_by_assert():
    for path in SOURCES.values():
        assert not [node for node in ast.walk(parsed(path)) if isinstance(node, ast.Assert)], path


@pytest.mark.slow
def test_wheel_holds_the_mapped_packages_and_nothing_else(tmp_path):
    source = tmp_path / "source"  # a build leaves files beside what it builds
    shutil.copytree(
        ROOT, source, symlinks=True, ignore=shutil.ignore_patterns(".*", "tests", "runs", "build", "*.egg-info")
    )
    command = [sys.executable, "-m", "pip", "wheel", source, "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"entropic_rl/agents/ppo.py", "entropic_rl/envs/__init__.py", "entropic_rl/py.typed"} <= set(names)
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"entropic_rl"}
    expected = {f"entropic_rl/{name.replace('.', '/')}" for name in SOURCES if name}
    packed = {name.removesuffix(".py").removesuffix("/__init__") for name in names if name.endswith(".py")}
    assert packed - {"entropic_rl"} == expected
