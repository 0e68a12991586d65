"""What so many runs would take, from what a comparison that has finished took."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from entropic_rl.compare.execute import SESSIONS
from entropic_rl.errors import ConfigError
from entropic_rl.run_directory import read_json_lines, read_metrics

__all__ = ["cost_table"]

_CORES = (2, 64, 1024)


def cost_table(directory: Path, n_runs: int) -> str:
    """Core-hours, disk and rows of one run of a comparison, and of ``n_runs`` like it, as Markdown.

    Raises:
        ConfigError: nothing in the directory has finished.
    """
    finished = [path.parent for path in directory.glob("cells/*/summary.json")]
    sessions = read_json_lines(directory / SESSIONS) if finished else []
    if not finished or not sessions:
        raise ConfigError(f"{directory}: expected the --out of a comparison of which runs have finished")
    n_trained = sum(session["n_cells"] for session in sessions)
    core_hours = sum(session["seconds"] * session["n_workers"] for session in sessions) / 3600 / n_trained
    steps = sum(session["env_steps"] for session in sessions) / n_trained
    files = [[path for path in run.rglob("*") if path.is_file()] for run in finished]
    n_bytes = median(sum(path.stat().st_size for path in own) for own in files)
    rows = median(len(read_metrics(run)) for run in finished)
    lines = [f"| | one run of {steps:,.0f} steps | {n_runs:,} runs |", "| --- | --- | --- |"]
    lines.append(f"| core-hours | {core_hours:.5f} | {core_hours * n_runs:,.0f} |")
    lines += [f"| hours on {n_cores:,} cores | | {core_hours * n_runs / n_cores:,.1f} |" for n_cores in _CORES]
    lines.append(f"| disk | {n_bytes / 1e3:,.0f} kB | {n_bytes * n_runs / 1e9:,.0f} GB |")
    lines.append(f"| files | {median(map(len, files)):.0f} | {median(map(len, files)) * n_runs:,.0f} |")
    lines.append(f"| rows of the record, and of Weights & Biases | {rows:.0f} | {rows * n_runs:,.0f} |")
    return "\n".join(lines)
