"""The page that a comparison leaves, whatever was compared: its tables, pictures and HTML."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2
import rich.table

from entropic_rl.plots.style import series_look

__all__ = ["Picture", "Row", "Table", "command_line", "drawn", "legend", "render_page", "screen_table"]

_DASHES = {"-": "", "--": "9 4", "-.": "9 4 2 4", ":": "3 3"}


@dataclass(frozen=True, slots=True)
class Row:
    """Cells as text; ``kind`` is ``best``, ``broken`` or nothing."""

    cells: list[str]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Column names, rows, and what to know when reading them."""

    header: list[str]
    rows: list[Row]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: for its id on the page.
        title: above it.
        caption: what it shows and how to read it.
        svg: the drawing, as a file of its own.
        wide: whether it takes the whole width of the page.
    """

    name: str
    title: str
    caption: str
    svg: str
    wide: bool = False

    @property
    def inline(self) -> str:
        """The drawing for the inside of a page that holds others: scaled by the page, its ids its own."""
        return _for_page(self.svg, self.name)


def drawn(plot: Callable[[io.StringIO], None]) -> str:
    """What ``plot`` writes, as text."""
    file = io.StringIO()
    plot(file)
    return file.getvalue()


def render_page(**content: Any) -> str:
    """The page as HTML.

    Args:
        content: what ``page.html.jinja`` names: ``title, subtitle, sections, cost, command, settings, versions,
            record``.
    """
    return _template().render(**content)


@cache  # which is code: it is compiled once, before there is anything to be shown
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    source = resources.files(__package__).joinpath("page.html.jinja").read_text("utf-8")
    return environment.from_string(source, globals={"policy": _content_security_policy(source)})


def _content_security_policy(source: str) -> str:
    """What a browser allows the page: its own scripts and no others, styles, images inside it, nothing from elsewhere.

    Styles are not told apart by hashes, since figures hold thousands of ``style`` attributes.
    """
    scripts = re.findall(r"<script>(.*?)</script>", source, re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{known}'" for known in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )


def legend(names: Sequence[str]) -> list[dict[str, str]]:
    """What stands before each name, to switch its series by."""
    looks = [series_look(i, len(names)) for i in range(len(names))]
    return [
        {"name": name, "color": look["color"], "dash": _DASHES[look["ls"]]}
        for name, look in zip(names, looks, strict=True)
    ]


def screen_table(title: str, content: Table) -> rich.table.Table:
    """A table for the console."""
    table = rich.table.Table(title=title, caption=content.caption)
    for i, name in enumerate(content.header):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in content.rows:
        table.add_row(*row.cells)
    return table


def command_line(words: Sequence[str]) -> str:
    """How a program was started, as one would type it."""
    program, *rest = words
    return shlex.join(["python", f"scripts/{program}", *rest] if program.endswith(".py") else [program, *rest])


def _for_page(svg: str, name: str) -> str:
    """An SVG for the inside of a page that holds others: scaled by the page, ids its own or none."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    width, box = re.search(r'width="([\d.]+)pt".*?viewBox="([^"]*)"', svg[: svg.index(">")], re.DOTALL).groups()  # type: ignore[union-attr]
    head = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    largest = 1.5 * float(width)  # beyond, text would be larger than that of the page
    svg = f'{head} viewBox="{box}" style="max-width: {largest:.0f}px" role="img">{svg[svg.index(">") + 1 :]}'
    used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))

    def own(match: re.Match[str]) -> str:
        old = match[1]
        series = re.match(r"s(\d+)-", old)
        if series:
            return f' id="{name}-{old}" data-series="{series[1]}"'
        return f' id="{name}-{old}"' if old in used else ""

    svg = re.sub(r' id="([^"]*)"', own, svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)
