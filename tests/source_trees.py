"""The package's sources as syntax trees, for tests that read them."""

import ast
import functools
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "entropic_rl"


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
