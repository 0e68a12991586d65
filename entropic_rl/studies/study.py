"""What a study is: values of a setting, what each changes, and what is made of the runs; free of torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from entropic_rl.parts import ALONE, Parts
from entropic_rl.studies.config import StudyConfig
from entropic_rl.supervised.config import FitConfig

if TYPE_CHECKING:
    from entropic_rl.studies.findings import Findings

__all__ = ["Request", "Study", "Value", "standard"]


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the setting that is studied.

    Attributes:
        text: as it was written.
        number: its place on the axis; None for what is no number.
        fits: settings of its trainings: one, or one per learning rate among which validation chooses.
    """

    text: str
    number: float | None
    fits: tuple[FitConfig, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """A study as it was asked for.

    Attributes:
        study: which.
        values: K, at least two.
        config: data and splits.
        fit: what all runs have in common.
        seeds: S.
        flags: of the study's own.
        progress: whether to show it.
        num_threads: of torch.
        parts: who trains, and may keep what comes of it.
    """

    study: Study
    values: tuple[Value, ...]
    config: StudyConfig
    fit: FitConfig
    seeds: int
    flags: Mapping[str, Any]
    progress: bool
    num_threads: int = 1
    parts: Parts = ALONE


def standard(request: Request) -> Findings:
    """Values x seeds as one batch, chosen on validation rows, reported on test rows."""
    from entropic_rl.studies.standard import findings

    return findings(request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A setting to vary.

    Attributes:
        name: on the command line.
        question: in a sentence.
        description: what else to know of it.
        setting: what is varied, in words, with its unit if it has one.
        values: those that are compared by default.
        values_on: the same on data that asks for others, by its name.
        changes: what a value's text changes of the training's settings. Raises ConfigError if it is none.
        sets: fields of the training's settings that are no flags here, because values or the study decide them.
        fit: what the study begins with where that is not the default, of data and training.
        rates: learning rates among which validation chooses for every value; none: they all have the same unless asked.
        at_rate: what the text of a value and that of a rate change together.
        flags: of the study's own, with what argparse has to know of each.
        shows_gap: whether test loss is shown beside training loss.
        program: what is done with a request.
    """

    name: str
    question: str
    setting: str
    values: Sequence[str]
    changes: Callable[[str], Mapping[str, Any]]
    values_on: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sets: Sequence[str] = ()
    fit: Mapping[str, Any] = field(default_factory=dict)
    rates: Sequence[float] = ()
    at_rate: Callable[[str, str], Mapping[str, Any]] = lambda _, rate: {"learning_rate": rate}
    flags: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    shows_gap: bool = False
    program: Callable[[Request], Findings] = standard
    description: str = "Values are chosen on validation rows and reported on test rows."

    @property
    def may_be_tuned(self) -> bool:
        """Whether validation may choose the learning rate of each value."""
        return "learning_rate" not in self.sets or bool(self.rates)

    def flags_of(self, args: argparse.Namespace) -> dict[str, Any]:
        """What was said by the study's own flags, under their names without dashes in front."""
        names = [flag.removeprefix("--").replace("-", "_") for flag in self.flags]
        return {name: getattr(args, name) for name in names}
