"""What users and readers see of the package: public names, docstrings, files short enough to read, the wheel."""

import ast
import importlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.source_trees import ROOT, SOURCES, every_module, parsed


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
