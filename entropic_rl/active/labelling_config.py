"""Settings of a labelling session; free of torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import Doc

from entropic_rl.config import Count, Natural, settings

__all__ = ["LabellingConfig"]

_Text = Annotated[str, Field(min_length=1)]


@settings
class LabellingConfig:
    """Whose labels are wanted, how they are asked for, and who learns from them."""

    pool: Annotated[_Text, Doc("table of rows to label: CSV, TSV, Parquet, or npz with an array X")]
    labels: Annotated[_Text, Doc("CSV in which labels are kept, one line each; made with the first one")]
    query: Annotated[Count | None, Doc("rows to ask for; without --ask or --out they are shown")] = None
    ask: Annotated[bool, Doc("ask at the terminal, row after row; each answer is on disk before the next")] = False
    out: Annotated[_Text | None, Doc("CSV to write the rows to, with an empty column `label` to fill in")] = None
    answers: Annotated[_Text | None, Doc("such a CSV, filled in: take its labels; empty ones are skipped")] = None
    predict: Annotated[_Text | None, Doc("CSV to write the model's answer for every row of the pool to")] = None
    test: Annotated[
        _Text | None, Doc("labelled table (column `label`; array y of npz), never asked about, to measure on")
    ] = None
    strategy: Annotated[
        _Text,
        Doc(
            "which rows are asked for: random, least-confidence, margin, entropy, tsallis:ORDER, renyi:ORDER, bald, "
            "batch-bald, badge, k-center, entropy-density, expected-entropy-reduction, or skactiveml:CLASS"
        ),
    ] = "margin"
    model: Annotated[
        Literal["entropic", "logistic-regression", "svm", "random-forest", "label-spreading", "naive-bayes"],
        Doc("who learns from the labels"),
    ] = "logistic-regression"
    n_members: Annotated[int, Field(ge=2), Doc("of the committee that bald and its like ask")] = 20
    stop: Annotated[
        tuple[str, ...], Doc("say when enough was asked: labels:N, stable:KAPPA:ROUNDS, confident:P, entropy:NATS")
    ] = ()
    classes: Annotated[tuple[_Text, ...], Doc("all labels there can be; others are refused [those that come]")] = ()
    id: Annotated[_Text | None, Doc("column that names the rows, no feature [rows are counted from 0]")] = None
    drop: Annotated[tuple[_Text, ...], Doc("columns that are no features")] = ()
    keep: Annotated[tuple[_Text, ...], Doc("columns that are features although they look like labels")] = ()
    show: Annotated[tuple[_Text, ...], Doc("columns to show with each row, dropped ones too [the first few]")] = ()
    seed: Annotated[Natural, Doc("of everything random")] = 0

    def __post_init__(self) -> None:
        if self.ask and self.out is not None:
            raise ValueError("expected --ask or --out, got both: answer at the terminal or in a file")
        if (self.ask or self.out is not None) and self.query is None:
            raise ValueError(f"query is missing: give --query N with --{'ask' if self.ask else 'out'}")
        if len(self.classes) == 1 or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes: expected at least 2 different labels, got {' '.join(self.classes)}")
        if (self.id or "").lower() == "label":
            raise ValueError("id: expected a column that names rows, got 'label', which is the heading of labels")
