"""The import rules of docs/architecture.md."""

import ast
import functools
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.source_trees import PACKAGE, ROOT, SOURCES, parsed

BASE = {"errors", "schedules"}
CORE = {"entropy", "losses", "returns", "distributions", "coefficients", "devices", "streams"}
MACHINERY = {
    "networks", "buffers", "normalization", "optimizers", "policies", "on_policy", "collector", "spaces", "vector",
    "episodes", "exploration", "families", "entropy_term", "critics", "off_policy", "reductions", "masks", "frames",
    "features", "health", "loss_parts", "ranks", "sequences", "shared_envs", "shares", "watching",
}  # fmt: skip
LOOP = {
    "cell", "recording", "optimality", "training", "evaluation", "checkpoint", "checkpointing", "episode_tape",
    "evidence", "interruption", "policy_files", "snapshots", "tracking", "progress", "page", "plots", "run_directory",
    "environments", "env_checks", "env_workers", "config",
}  # fmt: skip

# Module (or package) -> what of ours it may import, anywhere in it. A module that is not listed fails the test below:
# adding one means deciding where it stands.
MAY_IMPORT = {
    "": set(),
    "allocation": set(),
    "devices": {"errors"},
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
    "entropy_operator": {"entropy_operator", "fused"},  # the compiler and threads, nothing else of it
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
    "coefficients": {"devices", "networks", "optimizers", "schedules"},  # the dual variable has an optimizer
    "networks": {"streams"},
    "conv_layers": set(),
    "convolution": {"conv_layers", "networks", "streams"},
    "features": {"attention", "conv_layers", "convolution", "errors", "networks", "spaces", "streams"},
    "sequences": {"recurrence"},
    "frames": {"spaces"},
    "recurrence": {"networks", "streams"},
    "attention": {"networks", "streams"},
    "normalization": {"networks"},
    "health": {"devices"},
    "optimizers": {"devices", "health", "networks"},
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
    "exploration": {"devices", "errors", "user_modules", "spaces", "vector"},
    "vector": {"errors", "episodes", "frames", "health", "masks", "spaces"},
    "buffers": {"spaces", "vector"},
    "policies": CORE | MACHINERY,
    "collector": CORE | MACHINERY,
    "on_policy": CORE | MACHINERY,
    "loss_parts": CORE | MACHINERY,
    "fused": CORE | MACHINERY | {"envs", "errors", "extras", "fused"},
    "training": CORE | MACHINERY | BASE | {"interruption"},
    "evaluation": CORE | MACHINERY | BASE,
    "examining": CORE | MACHINERY | BASE | LOOP,
    "policy_files": CORE | MACHINERY | BASE | {"run_directory"},
    "evidence": CORE | MACHINERY | BASE | {"run_directory"},
    "replay": CORE | MACHINERY | BASE | LOOP | {"agents", "kernels"},
    "interruption": set(),
    "episode_tape": set(),
    "snapshots": set(),  # of any object
    "checkpoint": {"errors", "run_directory", "snapshots"},
    "parts": {"snapshots", "supervised"},
    "kept_parts": {"checkpoint", "checkpointing", "errors", "interruption", "run_directory", "snapshots", "supervised"},
    "resumable": {"config", "errors", "flags", "interruption", "kept_parts", "parts", "run_directory"},
    "checkpointing": {
        "checkpoint",
        "diagnostics",
        "errors",
        "ranks",
        "run_directory",
        "snapshots",
        "tracking",
        "training",
    },
    "tracking": BASE | {"config", "mirroring", "run_directory"},
    "mirroring": BASE | {"config", "user_modules"},
    "wandb_mirror": {"errors", "run_directory"},
    "wandb_push_cli": {"errors", "flags", "run_directory", "wandb_mirror"},
    "kernels": {"config", "errors", "fused", "vector"},
    "cuda_graphs": {"config", "envs", "errors", "snapshots", "training", "vector"},
    "fused.__main__": {"cli", "fused"},
    "runs": CORE
    | MACHINERY
    | BASE
    | LOOP
    | {"agents", "cuda_graphs", "diagnosis", "examining", "kernels"},  # their settings
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
    "envs": {"devices", "errors", "streams", "envs"},
    "evaluate_run": None,  # the verbs may import everything
    "cli": None,
    "training_cli": None,
    "benchmarks": None,
}
TORCH_FREE = {
    "", "allocation", "user_modules", "conv_layers", "extras", "wrappers", "errors", "schedules", "families", "presets",
    "config", "classifier_flags", "flags", "spaces", "environments", "mirroring", "run_directory", "interruption",
    "parts", "resumable", "training_cli", "wandb_push_cli", "data_parallel", "env_checks", "env_workers", "fused",
    "cli", "evaluate_run", "agents", "agents.config", "benchmarks.cli", "benchmarks.cli_active", "benchmarks.cli_cost",
    "benchmarks.cli_curvature", "benchmarks.cli_environments", "benchmarks.cli_few_labels", "benchmarks.cli_gpu",
    "benchmarks.cli_kernel",
    "benchmarks.cli_mathematics", "benchmarks.cli_peers", "benchmarks.peers", "benchmarks.peers.job",
    "benchmarks.peers.tasks", "benchmarks.cli_robustness", "benchmarks.cli_studies", "benchmarks.cli_tracking",
    "compare", "benchmarks", "envs", "cell", "resolve", "compare.cli", "compare.grid", "compare.engines",
    "compare.execute", "compare.jobs", "compare.memory", "compare.on_ray", "compare.on_slurm", "compare.parcels",
    "compare.pool", "compare.remote", "compare.station", "compare.unfinished", "compare.wandb_sweep", "progress", "sb3",
    "sb3.settings", "supervised", "supervised.config", "active", "active.asking", "active.cli", "active.config",
    "active.label_book", "active.labelling_cli", "active.labelling_config", "active.labelling_report", "active.labels",
    "active.leaks", "active.said", "active.spreadsheets", "calibrate", "calibrate.cli", "calibrate.config",
    "robustness", "robustness.cli", "robustness.config", "studies", "studies.activation", "studies.batch_size",
    "studies.catalogue", "studies.cli", "studies.config", "studies.depth", "studies.initialisation",
    "studies.learning_rate", "studies.optimizer", "studies.pruning", "studies.regularisation", "studies.schedule",
    "studies.splits", "studies.study", "datasets", "datasets.data", "datasets.label_noise", "datasets.pools",
    "datasets.population", "datasets.sources", "datasets.splits", "datasets.tables", "datasets.thinning",
}  # fmt: skip
HEAVY = {"torch", "numba", "sklearn", "stable_baselines3", "wandb", "matplotlib", "tensorboard", "safetensors", "scipy"}


@functools.cache
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


def test_modules_import_only_what_their_place_allows():
    wrong = {}
    for name, path in SOURCES.items():
        allowed = MAY_IMPORT.get(name, MAY_IMPORT[name.split(".")[0]])
        if allowed is not None:
            wrong[name] = {module.split(".")[0] for module in ours(imports(path))} - allowed
    assert {name: found for name, found in wrong.items() if found} == {}


def test_the_entropy_operator_takes_nothing_but_compiler_and_threads_from_updates():
    shared = {"fused.blocks", "fused.compilation", "fused.elementary", "fused.threads"}
    for name in [name for name in SOURCES if name.split(".")[0] == "entropy_operator"]:
        assert ours(imports(SOURCES[name])) - shared <= {n for n in SOURCES if "entropy_operator" in n}


def test_modules_needed_for_help_are_free_of_torch():
    for name in TORCH_FREE:
        imported = imports(SOURCES[name], top_level=True)
        assert not {module.split(".")[0] for module in imported} & HEAVY, name
        assert ours(imported) <= TORCH_FREE, f"{name} imports a module that may import torch"


def test_agents_do_not_import_each_other():
    for name in [name for name in SOURCES if name.startswith("agents.")]:
        agents = {module for module in ours(imports(SOURCES[name])) if module.startswith("agents")}
        assert agents <= {"agents.config"}, name


HOMES = {
    "wandb": {"wandb_mirror"},
    "matplotlib": {"plots"},
    "numba": {"fused.compilation", "fused.blocks"},
    "llvmlite": {"fused.compilation", "fused.blocks"},
    "ray": {"compare.on_ray"},
    "submitit": {"compare.on_slurm"},
    "triton": {"entropy_operator.triton_kernels"},
    "stable_baselines3": {"sb3", "benchmarks"},
}
"""Modules and whole rooms that may import what belongs to others."""


def test_third_parties_stay_where_they_belong():
    for name, path in SOURCES.items():
        imported = {module.split(".")[0] for module in imports(path)}
        for other, homes in HOMES.items():
            assert other not in imported or homes & {name, name.split(".")[0]}, f"{name} imports {other}"
        assert not imported & {"scripts", "tests", "agents", "envs"}, name
        if name in CORE:
            assert not imported & {"gymnasium", "wandb", "rich", "yaml", "pydantic"}, name


def test_importing_the_package_is_light():
    code = "import sys, entropic_rl; print(sorted(m for m in sys.modules if m in ('torch', 'gymnasium', 'numpy')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


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
