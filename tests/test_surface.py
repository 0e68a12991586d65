"""What users and readers see of the package: public names, docstrings, files short enough to read, the wheel."""

import ast
import importlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.source_trees import ROOT, SOURCES, parsed


def test_every_module_begins_with_a_docstring():
    assert [name for name, path in SOURCES.items() if not ast.get_docstring(parsed(path))] == []


def test_every_public_class_and_function_has_a_docstring():
    bare = []
    for name, path in SOURCES.items():
        nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, ast.ClassDef)]
        nodes += [node for node in parsed(path).body if isinstance(node, ast.FunctionDef)]
        bare += [(name, node.name) for node in nodes if node.name[0] != "_" and not ast.get_docstring(node)]
    assert bare == []


def test_all_names_exist():
    for name in SOURCES:
        if name != "entropy_operator.triton_kernels" or importlib.util.find_spec("triton"):
            module = importlib.import_module(f"entropic_rl.{name}".rstrip("."))
            assert [public for public in getattr(module, "__all__", ()) if not hasattr(module, public)] == [], name


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


def test_files_stay_short_enough_to_read():
    lengths = {name: len(path.read_text().splitlines()) for name, path in SOURCES.items()}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


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
