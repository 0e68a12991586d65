"""What is asked for of other packages leaves out the versions that are known to run what they read."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]

# Package, the first version without the hole, what the hole was. Only of what this toolkit uses; `make audit` asks an
# advisory service for all of them.
MENDED = [
    ("torch", "2.6", "CVE-2025-32434: torch.load(weights_only=True) runs code"),
    ("torch", "2.10", "CVE-2026-24747: its restricted unpickler corrupts memory"),
    ("pyarrow", "14.0.1", "CVE-2023-47248: types of Parquet columns are unpickled"),
    ("pyyaml", "5.4", "CVE-2020-14343: full_load runs code"),
    ("jinja2", "3.1.4", "CVE-2024-34064: xmlattr lets attributes in"),
    ("jinja2", "3.1.6", "CVE-2025-27516: templates leave the sandbox"),
    ("numpy", "1.22", "CVE-2021-41496: buffer overflow in f2py"),
    ("scikit-learn", "1.5", "CVE-2024-5206: vectorizers keep more of the data than they say"),
    ("joblib", "1.2", "CVE-2022-21797: pre_dispatch runs code"),
    ("pydantic", "2.4", "CVE-2024-3772: e-mail addresses that take forever"),
    ("opencv-python-headless", "4.8.1.78", "CVE-2023-4863: WebP images overflow a buffer"),
    ("ray", "2.52", "CVE-2025-62593: a web page reaches the dashboard of a developer's machine, and runs code"),
    ("setuptools", "78.1.1", "CVE-2025-47273: downloads are written anywhere"),
]


def asked_for():
    """Requirements of the package, of its extras and of its build, and the versions that it is tested with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lists = [project["build-system"]["requires"], project["project"]["dependencies"]]
    lists += project["project"]["optional-dependencies"].values()
    pinned = re.findall(r"^[\w.-]+==\S+", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return [Requirement(text) for group in [*lists, pinned] for text in group]


@pytest.mark.parametrize(("package", "mended", "hole"), MENDED)
def test_versions_with_known_holes_are_left_out(package, mended, hole):
    found = [wanted for wanted in asked_for() if wanted.name.lower() == package]
    assert found
    for wanted in found:
        lowest = min(Version(part.version) for part in wanted.specifier if part.operator in (">=", "=="))
        assert lowest >= Version(mended), f"{wanted} lets in {hole}"


def test_every_requirement_has_a_floor():
    ours = [wanted for wanted in asked_for() if wanted.name != "entropic-rl"]
    assert [str(wanted) for wanted in ours if not {">=", "=="} & {part.operator for part in wanted.specifier}] == []


# The audit


@pytest.fixture
def audit(monkeypatch):
    """``.ci/audit.py``, with an answer in place of the service's."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def answer(dependencies, code=0, error=""):
        said = json.dumps({"dependencies": dependencies}) if dependencies is not None else ""
        ended = SimpleNamespace(stdout=said, stderr=error, returncode=code)
        monkeypatch.setattr(module.subprocess, "run", lambda *_, **__: ended)
        return module.main()

    return answer


GOOD = {"name": "torch", "version": "2.13.0", "vulns": []}
BAD = {"name": "jinja2", "version": "3.1.5", "vulns": [{"id": "CVE-2025-27516", "fix_versions": ["3.1.6"]}]}
UNKNOWN = {"name": "numpy", "skip_reason": "could not be audited"}


@pytest.mark.parametrize(
    ("answer", "ends", "words"),
    [
        (([GOOD, UNKNOWN], 0, ""), 0, "1 of 2 packages audited, no advisories"),
        (([GOOD, BAD], 1, ""), 1, "jinja2 3.1.5: CVE-2025-27516; mended in 3.1.6"),
        (([UNKNOWN], 0, "No known vulnerabilities found"), 0, "not audited: the service knows none of the packages"),
        ((None, 1, "Traceback\nConnectionError: Max retries"), 0, "not audited: ConnectionError: Max retries"),
        ((None, 1, "python: No module named pip_audit"), 0, "not audited: python: No module named pip_audit"),
    ],
    ids=["good", "bad", "unknown", "unreachable", "not installed"],
)
def test_audit_says_what_it_found_or_that_it_could_not(audit, capsys, answer, ends, words):
    assert audit(*answer) == ends
    said = capsys.readouterr().out
    assert words in said
    assert said.count("\n") == 1


def test_audit_without_a_service_is_no_failure():
    ended = subprocess.run(
        [sys.executable, ROOT / ".ci" / "audit.py"], capture_output=True, text=True, check=False,
        env={"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.count("\n")) == (0, 1), ended.stderr
    assert "not audited" in ended.stdout
