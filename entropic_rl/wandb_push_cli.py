"""The verb ``wandb-push``: clean Weights & Biases runs, made of the record; without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from entropic_rl.errors import RunDirectoryError
from entropic_rl.flags import Parser
from entropic_rl.run_directory import read_json

__all__ = ["wandb_push"]


def wandb_push(prog: str, arguments: Sequence[str]) -> int:
    """Write every run directory that is named, or lies in what is named, as one W&B run of its own id."""
    parser = Parser(
        prog=prog,
        description="Write run directories as clean Weights & Biases runs: rows, settings, summary, figures. A run has "
        "the same id every time.",
    )
    parser.add_argument(
        "directory", type=Path, metavar="DIR", help="a run directory, or a folder of some (a comparison)"
    )
    parser.add_argument("--mode", choices=("offline", "online"), default="offline", metavar="{offline,online}",
                        help="leave it for `wandb sync`, or send it, which needs an API key [offline]")  # fmt: skip
    parser.add_argument("--project", metavar="TEXT", help="project to push to [the training's]")
    parser.add_argument("--entity", metavar="TEXT", help="user or team to push under [the training's]")
    parser.add_argument("--group", metavar="TEXT", help="group of the runs [the training's]")
    args = parser.parse(arguments)
    directories = run_directories(args.directory)
    for directory in directories:
        read_json(directory / "config.json")  # all of them before the first one is written

    from entropic_rl.wandb_mirror import push

    options = {"project": args.project, "entity": args.entity, "group": args.group}
    for directory in directories:
        folder = push(directory, args.mode, options)
        print(f"sent {directory}" if args.mode == "online" else f"wrote {folder}; send it with: wandb sync {folder}")
    return 0


def run_directories(directory: Path) -> list[Path]:
    """A run directory itself, or all that lie in a folder.

    Raises:
        RunDirectoryError: there is none.
    """
    found = sorted(path.parent for path in directory.rglob("metrics.jsonl")) if directory.is_dir() else []
    if directory in found:
        return [directory]
    if not found:
        raise RunDirectoryError(f"no metrics.jsonl in {directory}: expected a run directory, or a folder of some")
    return found
