"""All tables of a measurement as one text, printed and written into a page between two marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from entropic_rl.benchmarks.peers.processes import cores
from entropic_rl.benchmarks.peers.rounds import comparison_table, make_machine_code, start_table, training_table
from entropic_rl.benchmarks.peers.tasks import TASKS, versions
from entropic_rl.errors import ConfigError

__all__ = ["BEGIN", "END", "check_page", "measure", "write"]

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def measure(tasks: Sequence[str], peers: Sequence[str], rounds: int, own: Mapping[str, Any]) -> str:
    """Measure, printing each table when it is there; all of them as one text."""
    given = "".join(f", --{name.replace('_', '-')} {value}" for name, value in own.items())
    several = f"{rounds} rounds: medians (lowest to highest)" if rounds > 1 else "1 round"
    parts = [f"{versions()}; {len(cores())} cores; {several}{given}. {make_machine_code(own)}"]
    print(parts[0], flush=True)
    for name in tasks:
        if name == "comparison":
            table = comparison_table(peers, rounds, own)
        elif name == "start":
            table = start_table(rounds, own)
        else:
            table = training_table(name, peers, rounds, own)
        parts.append(f"### {TASKS[name].title}\n\n{table}")
        print(f"\n{parts[-1]}", flush=True)
    return "\n\n".join(parts)


def check_page(page: Path) -> None:
    """Refuse a page that has no place for the tables.

    Raises:
        ConfigError: it cannot be read, or the marks are not there.
    """
    _split(page)


def write(page: Path, text: str) -> None:
    """Put the text between the page's marks, in the place of what is there."""
    before, after = _split(page)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")


def _split(page: Path) -> tuple[str, str]:
    try:
        text = page.read_text()
    except OSError as error:
        raise ConfigError(f"--write: cannot read {page}: {error.strerror}") from None
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ConfigError(f"--write: expected a page with {BEGIN} and {END}, got {page} without")
    return before, after
