"""Notebooks as plain files: run without Jupyter, with what their cells print stored in them."""

from __future__ import annotations

import copy
import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

from entropic_rl.errors import ConfigError

__all__ = ["executed", "printed", "read", "write"]


def read(path: Path) -> dict[str, Any]:
    """A notebook of format 4.

    Raises:
        ConfigError: there is no such file, or it is none.
    """
    try:
        notebook = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"--notebook: expected a notebook, got {str(path)!r}; pass an .ipynb file") from error
    if not isinstance(notebook, dict) or notebook.get("nbformat") != 4:
        raise ConfigError(f"--notebook: expected format 4 in {str(path)!r}; save it by a current Jupyter")
    return notebook


def write(path: Path, notebook: dict[str, Any]) -> None:
    """The notebook as a file that changes only where its content does."""
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def executed(notebook: dict[str, Any]) -> dict[str, Any]:
    """A copy with fresh outputs: its code cells run in order in one namespace; only what they print is kept."""
    fresh, namespace = copy.deepcopy(notebook), {"__name__": "__main__"}
    for number, cell in enumerate(fresh["cells"]):
        if cell["cell_type"] != "code":
            continue
        with redirect_stdout(StringIO()) as said:
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), namespace)
        text = said.getvalue().splitlines(keepends=True)
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []
        cell["execution_count"] = None
        cell["metadata"] = {}
    return fresh


def printed(notebook: dict[str, Any]) -> list[str]:
    """What each code cell has stored as printed."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["".join(line for output in cell["outputs"] for line in output["text"]) for cell in cells]
