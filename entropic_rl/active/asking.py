"""Asking at the terminal, row after row; each answer is on disk before the next is asked for; free of torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entropic_rl.active.label_book import LabelBook
from entropic_rl.active.said import Said

__all__ = ["Asked", "ask"]

_COMMANDS = {"u": "undo", "q": "stop"}


@dataclass(slots=True)
class Asked:
    """How a round of questions went.

    Attributes:
        labelled: rows that got a label.
        skipped: rows that were passed over.
        right: of the labelled, those that the model had right before it was told.
    """

    labelled: int = 0
    skipped: int = 0
    right: int = 0


def ask(book: LabelBook, rows: Sequence[int], said: Sequence[Said | None], describe: Callable[[int], str]) -> Asked:
    """Ask for the labels of rows until all are answered, or the person or the input ends it.

    Enter skips a row, ``u`` goes back to the one before and takes its label back, ``q`` stops; ``:u`` and ``:q`` do
    where a class has such a name. What the model says is told after the answer, for who hears it first tends to agree.

    Args:
        book: where answers are kept.
        rows: to ask for, in order.
        said: of each, what the model says; None where there is no model yet.
        describe: a row as text.

    Raises:
        KeyboardInterrupt: Ctrl-C; what was answered is kept.
    """
    places: list[int | None] = []  # of what was answered, in the file; None of what was skipped
    told, began = Asked(), time.monotonic()
    print(_help(book))
    while len(places) < len(rows):
        row, model = rows[len(places)], said[len(places)]
        print(f"\n[{len(places) + 1} of {len(rows)}]{_estimate(told, said, len(rows) - len(places), began)}")
        print(describe(row))
        command, label = _read(book)
        if command == "stop":
            break
        if command == "undo":
            _back(book, rows, said, places, told)
        elif not label:
            places.append(None)
            told.skipped += 1
        else:
            is_new = label not in book.classes
            places.append(book.add(row, label))
            told.labelled += 1
            told.right += model is not None and model.label == label
            print(_reply(book, model, label, is_new=is_new))
    return told


def _read(book: LabelBook) -> tuple[str, str]:
    """A command, or a label that is one; the question comes again until it is either."""
    while True:
        try:
            text = " ".join(input("label: ").split())
        except EOFError:
            print()
            return "stop", ""
        if text.lower() in _COMMANDS and text not in book.classes:
            return _COMMANDS[text.lower()], ""
        if text.lower() in (":u", ":q"):
            return _COMMANDS[text[1].lower()], ""
        flaw = book.flaw(text) if text else ""
        if not flaw:
            return "", text
        print(flaw)


def _back(
    book: LabelBook, rows: Sequence[int], said: Sequence[Said | None], places: list[int | None], told: Asked
) -> None:
    if not places:
        print("this is the first row: nothing to undo; mend older labels in the file")
        return
    place = places.pop()
    row, model = rows[len(places)], said[len(places)]
    if place is None:
        told.skipped -= 1
        return
    told.labelled -= 1
    told.right -= model is not None and model.label == book.labels[row]
    print(f"took back {book.labels[row]}")
    book.undo(row, place)


def _reply(book: LabelBook, model: Said | None, label: str, *, is_new: bool) -> str:
    parts = [f"  saved, {len(book.labels):,} labels"]
    if is_new and len(book.classes) > 1:
        parts.append(f"{label!r} is a new class beside {', '.join(name for name in book.classes if name != label)}")
    if model is not None:
        agrees = "too" if model.label == label else "instead"
        parts.append(f"the model said {model.label} {agrees} ({100 * model.probability:.0f} %)")
    return "; ".join(parts)


def _estimate(told: Asked, said: Sequence[Said | None], left: int, began: float) -> str:
    """How well the model did on what was answered, and how long the rest takes."""
    done = told.labelled + told.skipped
    parts = []
    if told.labelled and said[0] is not None:
        parts.append(f"the model was right on {told.right} of {told.labelled}")
    if done:
        seconds = (time.monotonic() - began) / done * left
        parts.append(f"about {max(round(seconds / 60), 1)} min left" if seconds > 45 else "less than a minute left")
    return "  " + ", ".join(parts) if parts else ""


def _help(book: LabelBook) -> str:
    known = book.classes
    commands = {key: f":{key}" if key in known else key for key in _COMMANDS}
    listed = f"; classes: {', '.join(known[:20])}" if known else "; what you type becomes the classes"
    return f"Type a label and Enter; Enter alone skips, {commands['u']} undoes, {commands['q']} stops{listed}"
