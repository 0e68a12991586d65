"""What a run broke on, computed again: every number on the way to its gradient, and which was the first not finite.

``evaluate.py --replay FILE`` shows it. A gradient step is repeated by the agent that refused it, with its own loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from entropic_rl.agents import agent_class
from entropic_rl.agents.config import AGENT_CONFIGS
from entropic_rl.cell import Cell
from entropic_rl.errors import RunDirectoryError, first_line
from entropic_rl.evidence import StoredEvidence, load_evidence
from entropic_rl.health import Evidence
from entropic_rl.kernels import use_bf16
from entropic_rl.networks import copy_exactly
from entropic_rl.policies import NetworkConfig
from entropic_rl.policy_files import check_widths
from entropic_rl.run_directory import OFFENDING

__all__ = ["Part", "Replay", "numbers_of", "replay"]

_NETWORKS = ("policy", "critics")
_STATE = "state."
# Of a batch, what the agent itself had computed before.
_COMPUTED = {"action", "log_prob", "value", "advantage", "value_target", "entropy", "sequences.state"}


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be said of some numbers.

    Attributes:
        name: theirs.
        shape: without the axis of runs.
        n_broken: how many are not finite.
        low: the smallest finite one; None if there is none.
        high: the largest.
        first: where the first that is not finite stands; empty if all are.
    """

    name: str
    shape: tuple[int, ...]
    n_broken: int
    low: float | None
    high: float | None
    first: tuple[int, ...]

    @classmethod
    def of(cls, name: str, numbers: Tensor, absent: Tensor | None = None) -> Part:
        """Of numbers on the CPU, but for those that are ``absent``, as boolean of the same shape."""
        values = numbers.detach().to(torch.float64)
        finite = values.isfinite()
        some, broken = values[finite], (~finite if absent is None else ~finite & ~absent).nonzero()
        low, high = (float(some.min()), float(some.max())) if some.numel() else (None, None)
        return cls(name, tuple(values.shape), len(broken), low, high, tuple(broken[0].tolist()) if len(broken) else ())

    def __str__(self) -> str:
        total = torch.Size(self.shape).numel()
        return f"{self.name} ({self.n_broken:,} of {total:,} numbers{_place(self.first)})"


@dataclass(frozen=True, slots=True)
class Replay:
    """All parts in the order in which they were computed.

    Attributes:
        title: what was trained, and where it broke.
        kind: ``batch`` or ``step``.
        parts: what went in, what came of it, the gradient at the end.
    """

    title: str
    kind: str
    parts: tuple[Part, ...]

    @property
    def first(self) -> Part | None:
        """The first part with a number that is not finite."""
        return next((part for part in self.parts if part.n_broken), None)

    def __str__(self) -> str:
        rows = [("", "shape", "not finite", "min", "max"), *map(_row, self.parts)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        rows = [(name.ljust(widths[0]), *others) for name, *others in rows]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        found = "all numbers are finite" if self.first is None else f"the first that is not finite: {self.first}"
        return "\n".join([self.title, "", *lines, "", found])

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        first = None if self.first is None else self.first.name
        return {"title": self.title, "kind": self.kind, "first": first, "parts": [asdict(part) for part in self.parts]}


def replay(path: Path) -> Replay:
    """What a file that a broken run left says, or the one in a run directory.

    Raises:
        RunDirectoryError: it is missing, damaged, somebody else's, or of an agent that is not one of ours.
    """
    path = path / OFFENDING if path.is_dir() else path
    stored = load_evidence(path)
    try:
        parts = tuple(_part(name, x, stored) for name, x in numbers_of(stored))
        return Replay(_title(stored), stored.evidence.kind, parts)
    except RunDirectoryError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RuntimeError, MemoryError) as error:
        raise RunDirectoryError(
            f"{path} does not fit its own settings ({first_line(error)[:200]}): expected a file as it was written by "
            "this version; train again"
        ) from None


def numbers_of(stored: StoredEvidence) -> Iterator[tuple[str, Tensor]]:
    """Everything by name, in the order of the computation.

    ``[1, ...]`` each; parameters and gradients of K critics ``[K, ...]``, numbers of an env step ``[E, ...]``.

    Raises:
        RunDirectoryError: it is of an agent that is not one of ours.
        ValueError: it is not what its settings say; or others of Python's, for what does not fit together.
    """
    evidence = stored.evidence
    if evidence.kind == "step":
        yield from evidence.tensors.items()
        return
    network = evidence.notes["network"]
    if evidence.kind != "batch" or network not in _NETWORKS:
        raise ValueError(f"its kind is {evidence.kind[:20]!r}")
    for name, numbers in sorted(evidence.tensors.items(), key=lambda item: _rank(item[0])):
        yield name.removeprefix(_STATE), numbers
    agent = _agent(stored)
    for name, numbers in agent.loss_parts(network, evidence.tensors):
        yield name, numbers
    params = getattr(agent, network).params
    gradient = params.gradient(numbers)  # of the last part, the loss
    sizes = [torch.Size(shape).numel() for shape in params.shapes.values()]
    for (name, shape), part in zip(params.shapes.items(), gradient.split(sizes, 1), strict=True):
        yield f"gradient of {name}", part.unflatten(1, shape)
    yield "sum of the gradient", gradient.sum(1)


def _rank(name: str) -> int:
    """What an agent was given comes before what it was, and that before what it made of it."""
    return 2 if name.removeprefix("batch.") in _COMPUTED else int(name.startswith(_STATE))


def _agent(stored: StoredEvidence) -> Any:
    """The agent of that run alone, as it was before the step."""
    name, state = stored.settings["agent"], _state(stored.evidence)
    if name not in AGENT_CONFIGS:
        raise RunDirectoryError(f"cannot repeat a step of agent {str(name)[:60]!r}: expected one of {[*AGENT_CONFIGS]}")
    cell = Cell.from_json(stored.settings | {"directory": "."})
    check_widths(NetworkConfig.of(cell.config), sum(x.numel() for x in state.values()))
    config = replace(cell.config, buffer_size=1) if hasattr(cell.config, "buffer_size") else cell.config
    agent = agent_class(name)(
        [config],
        [cell.run.seed],
        observation=stored.observation,
        action=stored.action,
        n_envs=cell.run.n_envs,
        dtype=next(x.dtype for x in state.values()),
    )
    use_bf16(agent, cell.run)
    copy_exactly(agent.state(), state)
    return agent


def _state(evidence: Evidence) -> dict[str, Tensor]:
    """What an agent was made of."""
    return {name.removeprefix(_STATE): x for name, x in evidence.tensors.items() if name.startswith(_STATE)}


def _part(name: str, numbers: Tensor, stored: StoredEvidence) -> Part:
    """Without the axis of runs, and without frames from before an episode, which are NaN on purpose."""
    if stored.evidence.kind == "step":
        return Part.of(name, numbers)
    numbers = numbers[0] if len(numbers) == 1 else numbers
    n_frames = stored.observation.frames
    if n_frames == 1 or not name.endswith("obs"):
        return Part.of(name, numbers)
    blank = numbers.unflatten(-1, (n_frames, -1)).isnan().all(-1)  # [..., K]
    before = blank.cumprod(-1).bool()
    before[..., -1] = False  # what was seen last is of the episode
    absent = before.repeat_interleave(numbers.shape[-1] // n_frames, -1)
    return Part.of(name, numbers, absent)


def _title(stored: StoredEvidence) -> str:
    notes, run = stored.evidence.notes, stored.settings["run"]
    title = f"{stored.settings['agent']} on {run['env']}, seed {run['seed']}, after {notes['global_step']:,} env steps"
    if stored.evidence.kind == "batch":
        title += f": gradient step {notes['gradient_step']} of update {notes['update']}, of the {notes['network']}"
    return f"{title}\n{notes['why']}"


def _row(part: Part) -> tuple[str, ...]:
    shape = " x ".join(map(str, part.shape)) or "1"
    low, high = ("-" if x is None else f"{x:.4g}" for x in (part.low, part.high))
    return part.name, shape, f"{part.n_broken:,}" if part.n_broken else "", low, high


def _place(first: tuple[int, ...]) -> str:
    """Where it is, for a sentence."""
    if len(first) > 2:
        return f", first at {list(first)}"
    return "".join(f", {word} {i}" for word, i in zip(("first at row", "column"), first, strict=False))
