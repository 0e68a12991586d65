"""What a study leaves, whatever it was: one sentence, one table, one picture, and every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from entropic_rl.page import Picture, Table

__all__ = ["Findings"]


@dataclass(frozen=True, slots=True)
class Findings:
    """What is written, printed and shown.

    Attributes:
        data: what it was made on, in words.
        sentence: what the numbers say.
        caveats: what to bear in mind.
        series: names of what the pictures tell apart, in their order.
        table: a row per value.
        screen: the same, narrow enough for a terminal.
        runs: a row per run.
        pictures: the first one is the study's.
        records: a mapping per run, for the CSV file.
        numbers: everything for machines.
        n_runs: trainings, those among which rates were chosen included.
        seconds: of training.
    """

    data: str
    sentence: str
    caveats: Sequence[str]
    series: Sequence[str]
    table: Table
    screen: Table
    runs: Table
    pictures: Sequence[Picture]
    records: Sequence[Mapping[str, Any]]
    n_runs: int
    seconds: float
    numbers: Mapping[str, Any] = field(default_factory=dict)
