"""Command line of ``active-learning --pool``: a person labels a table of their own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from entropic_rl.active.asking import Asked, ask
from entropic_rl.active.config import parse_stopping, parse_strategy
from entropic_rl.active.label_book import LabelBook
from entropic_rl.active.labelling_config import LabellingConfig
from entropic_rl.active.labelling_report import describer, flags, labels_line, question_table, score_line, why
from entropic_rl.active.leaks import check_copies, check_headings
from entropic_rl.active.spreadsheets import read_answers, write_predictions, write_questions
from entropic_rl.config import build
from entropic_rl.datasets.pools import Pool, RawTable, pool_of, read_table
from entropic_rl.errors import ConfigError
from entropic_rl.flags import Parser, add_settings, given
from entropic_rl.progress import make_console
from entropic_rl.supervised.config import FitConfig

if TYPE_CHECKING:
    from entropic_rl.active.labelling import Labelling
    from entropic_rl.datasets.data import Array

__all__ = ["label_pool"]

_ACTIONS = ("query", "ask", "out", "answers", "predict")
_DEFAULT_QUERY = 20


def label_pool(prog: str, arguments: Sequence[str]) -> int:
    """Ask for labels of a pool, take them, and say how good a model of them has become."""
    args = _parser(prog).parse(arguments)
    chosen, fitted = given(args, LabellingConfig), given(args, FitConfig)
    config: LabellingConfig = build(LabellingConfig, chosen)
    fit = _fit_settings(config, fitted)
    _check(config)
    pool, test = _read(prog, config)
    book = LabelBook(pool, Path(config.labels), config.classes)
    if config.answers is not None:
        _take(book, pool, config.answers)
    check_copies(pool, book.labels, keep=config.keep)
    if test is not None:
        _check_test(config, book, test[1])
    _check_left(config, book)
    again = _again(prog, chosen | fitted)
    _work(config, fit, pool, book, test=test, again=again)
    return 0


def _parser(prog: str) -> Parser:
    parser = Parser(
        prog=prog,
        description="Label a table of your own, the rows first that a classifier would learn most from. Every "
        "answer is on disk at once, the same question comes until it is answered, and a session goes on where it was.",
        epilog=f"example: {prog} --pool my.parquet --labels labels.csv --query 20 --ask   or with a spreadsheet: "
        f"{prog} --pool my.parquet --labels labels.csv --query 20 --out next.csv, then --answers next.csv",
    )
    add_settings(parser, LabellingConfig, "labelling")
    add_settings(parser, FitConfig, "training of the model entropic")
    return parser


def _fit_settings(config: LabellingConfig, fitted: dict[str, Any]) -> FitConfig | None:
    if config.model != "entropic":
        if fitted:
            name = next(iter(fitted)).replace("_", "-")
            raise ConfigError(f"--{name}: expected --model entropic, whose training it is about, got {config.model}")
        return None
    fit: FitConfig = build(FitConfig, fitted)
    return fit


def _check(config: LabellingConfig) -> None:
    """What can be said without reading anything."""
    parse_strategy(config.strategy)
    for rule in config.stop:
        parse_stopping(rule)
    for name in ("labels", "out", "predict"):
        value = getattr(config, name)
        if value is not None and Path(value).is_dir():
            raise ConfigError(f"--{name}: expected the name of a file, got the folder {value}")
    taken: dict[Path, str] = {}
    for name in ("pool", "test", "labels", "out", "predict"):
        value = getattr(config, name)
        if value is not None:
            other = taken.setdefault(Path(value).resolve(), name)
            if other != name:
                raise ConfigError(f"--{name}: expected a file of its own, got {value}, which is that of --{other}")
    if config.answers is not None and taken.get(Path(config.answers).resolve(), "out") != "out":
        raise ConfigError(f"--answers: expected a file that --out wrote, got {config.answers}")


def _read(prog: str, config: LabellingConfig) -> tuple[Pool, tuple[Array, list[str]] | None]:
    table = read_table(Path(config.pool).expanduser())
    table.check_columns("drop", config.drop)
    table.check_columns("show", config.show)
    dropped = [*config.drop, *([] if config.id is None else [config.id])]
    check_headings(table, dropped=dropped, keep=config.keep)
    pool = pool_of(table, id_column=config.id, drop=config.drop)
    if config.test is None:
        return pool, None
    return pool, _test_rows(prog, pool, read_table(Path(config.test).expanduser()))


def _test_rows(prog: str, pool: Pool, table: RawTable) -> tuple[Array, list[str]]:
    """Features ``[N, D]`` and labels of a test file."""
    named = [name for name in table.columns if name.lower() == "label"]
    column = named[0] if named else "y" if "y" in table.columns and "y" not in table.features else None
    if column is None:
        raise ConfigError(f"{table.name}: expected a column `label` in the test file, got none")
    labels = table.texts(column)
    if "" in labels:
        raise ConfigError(
            f"{table.name}: expected a label in every row, got none in row {labels.index('') + 1} (the first is 1)"
        )
    X = pool.features_of(table)
    known = {row.tobytes() for row in pool.X}
    shared = sum(row.tobytes() in known for row in X)
    if shared:
        print(
            f"{prog}: warning: {shared} of the {len(X)} rows of {table.name} are in the pool too: a model that has "
            "their labels looks better than it is",
            file=sys.stderr,
        )
    return X, labels


def _take(book: LabelBook, pool: Pool, answers: str) -> None:
    entries, n_empty = read_answers(Path(answers), pool.key)
    new = book.take(entries, answers)
    known = f", {len(entries) - new} were known" if new < len(entries) else ""
    empty = f", {n_empty} rows without a label were skipped" if n_empty else ""
    print(f"{answers}: took {new} label{'' if new == 1 else 's'}{known}{empty}")


def _check_test(config: LabellingConfig, book: LabelBook, labels: Sequence[str]) -> None:
    """Refuse labels of a test file that the pool's are not written like."""
    met, there = book.classes, sorted(set(labels))
    unknown = [label for label in there if label not in met]
    if unknown and (config.classes or (met and len(unknown) == len(there))):
        raise ConfigError(
            f"{config.test}: expected labels such as {', '.join(met[:5])}, as they are written in {config.labels}, got "
            f"{unknown[0]!r}"
        )


def _check_left(config: LabellingConfig, book: LabelBook) -> None:
    """What would fail after the wait for a model."""
    left = len(book.unlabelled)
    if config.query is not None and not left:
        raise ConfigError("--query: expected rows without a label, got none: the whole pool is labelled")
    if config.query is not None and config.query > left:
        raise ConfigError(f"--query: expected between 1 and the {left} rows that have no label yet, got {config.query}")
    if config.predict is not None and not config.ask and len(set(book.labels.values())) < 2:
        raise ConfigError(
            f"--predict: expected labels of at least 2 classes, which a model needs, got {len(book.labels)} labels of "
            f"{len(set(book.labels.values()))}; label some by --query {_DEFAULT_QUERY} --ask"
        )
    if config.out is not None:
        _check_unread(Path(config.out), book)


def _check_unread(path: Path, book: LabelBook) -> None:
    """Refuse to write over answers that were not taken."""
    if not path.exists():
        return
    try:
        entries, _ = read_answers(path, book.key)
    except ConfigError:
        raise ConfigError(
            f"--out: expected a new file, or one that --out wrote, got {path}; give another name"
        ) from None
    unread = [name for name, label in entries if not book.holds(name, label)]
    if unread:
        raise ConfigError(
            f"--out: {path} holds {len(unread)} label{'' if len(unread) == 1 else 's'} that {book.path} has not; take "
            f"them by --answers {path}, or give another name"
        )


def _work(
    config: LabellingConfig,
    fit: FitConfig | None,
    pool: Pool,
    book: LabelBook,
    *,
    test: tuple[Array, list[str]] | None,
    again: str,
) -> None:
    """What needs a model: questions, the estimate, predictions."""
    from entropic_rl.active.labelling import Labelling

    session = Labelling(pool, book, config, fit)
    print(labels_line(config.labels, book.labels, len(pool)))
    if config.query is not None:
        _query(config, pool, book, session)
    if session.is_ready:
        _estimate(config, session, test)
    if config.predict is not None:
        _predict(config.predict, pool, book, session)
    print(_next(config, book, again))


def _query(config: LabellingConfig, pool: Pool, book: LabelBook, session: Labelling) -> None:
    rows = session.query(config.query or 0)
    said = session.said(rows)
    reason = why(config.strategy, is_ready=session.is_ready, n_labels=len(book.labels))
    held = session.should_stop()
    if held is not None:
        print(f"the stopping rule {held} holds: more labels are not expected to change much")
    if config.out is not None:
        hidden = {*config.drop, pool.key} - set(config.show)
        columns = [name for name in pool.table.columns if name not in hidden]
        write_questions(Path(config.out), pool, rows, said, columns)
        print(f"{config.out}: {len(rows)} rows to label ({reason})")
    elif config.ask:
        print(f"{len(rows)} rows ({reason})")
        _ask(config, pool, book, rows, said)
    else:
        print(f"the next {len(rows)} rows ({reason})")
        make_console().print(question_table(pool, rows, said, strategy=config.strategy, show=config.show))


def _ask(config: LabellingConfig, pool: Pool, book: LabelBook, rows: list[int], said: Sequence[Any]) -> None:
    before = len(book.labels)
    try:
        told: Asked = ask(book, rows, said, describer(pool, config.show))
    except KeyboardInterrupt:
        print(f"\n{len(book.labels) - before} new labels are in {config.labels}; the same command goes on")
        raise
    print(f"\n{told.labelled} labelled, {told.skipped} skipped")
    print(labels_line(config.labels, book.labels, len(pool)))


def _estimate(config: LabellingConfig, session: Labelling, test: tuple[Array, list[str]] | None) -> None:
    from entropic_rl.active.labelling_curve import OUT_OF_FOLD, Point, add_point, draw_curve

    score = session.out_of_fold() if test is None else session.test(*test)
    if score is None:
        print("too few labels for an estimate of the accuracy: it takes 10, at least 2 of each of 2 classes")
        return
    measured_on = OUT_OF_FOLD if config.test is None else Path(config.test).name
    print(score_line(score, measured_on=measured_on, n_rows=None if test is None else len(test[1])))
    beside = Path(config.labels)
    curve, picture = (beside.with_name(f"{beside.stem}.curve.{ending}") for ending in ("csv", "svg"))
    points = add_point(curve, Point(measured_on, config.model, score))
    if draw_curve(picture, points):
        print(f"how it grew: {picture}")


def _predict(path: str, pool: Pool, book: LabelBook, session: Labelling) -> None:
    if not session.is_ready:
        print(f"{path} is not written: there is no model without labels of two classes")
        return
    said = [one for one in session.said(range(len(pool))) if one is not None]
    write_predictions(Path(path), pool, said, book.labels)
    print(f"{path}: answers for all {len(pool):,} rows, with probability and entropy")


def _again(prog: str, settings: dict[str, Any]) -> str:
    """The command without what it was asked to do this time."""
    script = ["python", f"scripts/{prog}"] if prog.endswith(".py") else [prog]
    return " ".join([*script, *flags({name: value for name, value in settings.items() if name not in _ACTIONS})])


def _next(config: LabellingConfig, book: LabelBook, again: str) -> str:
    """What to do now, as commands to copy."""
    n = min(config.query or _DEFAULT_QUERY, len(book.unlabelled))
    if not n:
        return f"the whole pool is labelled; answers of the model:\n  {again} --predict predictions.csv"
    if config.out is not None:
        where = flags({"answers": config.out, "query": n, "out": config.out})
        return f"next: fill in the column `label` of {config.out}, then\n  {again} {' '.join(where)}"
    lines = [f"next, at the terminal:\n  {again} --query {n} --ask"]
    if not config.ask:
        lines.append(f"or in a spreadsheet:\n  {again} --query {n} --out next.csv")
    if len(set(book.labels.values())) > 1 and config.predict is None:
        lines.append(f"or answers of the model for all rows:\n  {again} --predict predictions.csv")
    return "\n".join(lines)
