"""Advisories about the versions in constraints.txt, by pip-audit; where it cannot ask, one line says so.

pip-audit has no offline mode, and calls packages that its service does not know free of vulnerabilities. What is
certain without a network is in tests/test_dependencies.py.
"""

import json
import subprocess
import sys
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"


def main():
    """Print what was found in a line or, of advisories, a line each; 1 if there are some."""
    options = [
        "--requirement",
        CONSTRAINTS,
        "--no-deps",
        "--disable-pip",
        "--progress-spinner",
        "off",
        "--format",
        "json",
    ]
    ended = subprocess.run([sys.executable, "-m", "pip_audit", *options], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError):
        print(
            f"dependencies not audited: {(ended.stderr.strip().splitlines() or ['pip-audit said nothing'])[-1][:200]}"
        )
        return 0
    audited = [package for package in packages if "vulns" in package]
    found = [
        f"{package['name']} {package['version']}: {hole['id']}; mended in {' '.join(hole['fix_versions']) or 'none'}"
        for package in audited
        for hole in package["vulns"]
    ]
    if not audited:
        print("dependencies not audited: the service knows none of the packages")
    else:
        print("\n".join(found) or f"dependencies: {len(audited)} of {len(packages)} packages audited, no advisories")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
