"""Small pictures without a graphics library: smooth discs, lines and boxes on a canvas of bytes, and grids of cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

__all__ = ["COLOURS", "Canvas", "Colour", "cart_picture", "grid_picture", "line_picture", "line_text"]

Colour = tuple[int, int, int]

# Okabe & Ito's palette where a thing means something, greys for the rest.
COLOURS: Mapping[str, Colour] = {
    "paper": (255, 255, 255),
    "floor": (240, 240, 236),
    "wall": (74, 78, 84),
    "ink": (30, 30, 30),
    "agent": (0, 114, 178),
    "goal": (0, 158, 115),
    "lure": (230, 159, 0),
}


class Canvas:
    """A picture of ``width x height`` pixels; x grows to the right, y downwards."""

    def __init__(self, width: int, height: int, background: Colour = COLOURS["paper"]) -> None:
        self._pixels = np.full((height, width, 3), background, np.float64)
        self._width, self._height = width, height

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """An upright rectangle."""
        self._paint(
            (left, top, right, bottom),
            lambda x, y: np.maximum(np.maximum(left - x, x - right), np.maximum(top - y, y - bottom)),
            colour,
        )

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        around = (x - radius, y - radius, x + radius, y + radius)
        self._paint(around, lambda px, py: np.hypot(px - x, py - y) - radius, colour)

    def line(self, start: tuple[float, float], end: tuple[float, float], width: float, colour: Colour) -> None:
        """A straight line with round ends."""
        (x0, y0), (x1, y1) = start, end
        dx, dy, half = x1 - x0, y1 - y0, width / 2

        def distance(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0.0, 1.0)
            return np.hypot(x - x0 - along * dx, y - y0 - along * dy) - half

        around = (min(x0, x1) - half, min(y0, y1) - half, max(x0, x1) + half, max(y0, y1) + half)
        self._paint(around, distance, colour)

    def pixels(self) -> np.ndarray:
        """The picture, ``[height, width, 3]`` bytes."""
        return self._pixels.round().astype(np.uint8)

    def _paint(
        self,
        around: tuple[float, float, float, float],
        distance: Callable[[np.ndarray, np.ndarray], np.ndarray],
        colour: Colour,
    ) -> None:
        """Cover what lies inside, ``distance(x, y)`` < 0, with edges one pixel soft; nothing is beyond ``around``."""
        left, top, right, bottom = around
        columns = slice(*np.clip((int(left) - 1, int(right) + 2), 0, self._width))
        rows = slice(*np.clip((int(top) - 1, int(bottom) + 2), 0, self._height))
        y, x = np.mgrid[rows, columns] + 0.5
        cover = np.clip(0.5 - distance(x, y), 0.0, 1.0)[..., None]
        self._pixels[rows, columns] += cover * (np.array(colour) - self._pixels[rows, columns])


def grid_picture(rows: Sequence[str], meaning: Mapping[str, str], *, agent: str = "@") -> np.ndarray:
    """Rows of characters as coloured cells with thin gaps, the agent as a disc.

    Args:
        rows: equally long.
        meaning: from character to the name of its colour; others are floor.
        agent: character of the agent's cell.
    """
    size = int(np.clip(480 // max(len(rows), len(rows[0])), 8, 48))
    canvas = Canvas(size * len(rows[0]), size * len(rows))
    for row, line in enumerate(rows):
        for column, character in enumerate(line):
            x, y, gap = column * size, row * size, 0.5
            canvas.box(x + gap, y + gap, x + size - gap, y + size - gap, COLOURS[meaning.get(character, "floor")])
            if character == agent:
                canvas.disc(x + size / 2, y + size / 2, 0.34 * size, COLOURS["agent"])
    return canvas.pixels()


def cart_picture(position: float, angle: float, *, track: float, target: float = 0.0) -> np.ndarray:
    """A cart with a pole on its track.

    Args:
        position: of the cart in m, 0 in the middle.
        angle: of the pole in rad, 0 = up.
        track: how far it reaches to either side, in m.
        target: how far the green part in its middle does.
    """
    width, height, scale = 480, 240, 72
    canvas = Canvas(width, height)
    x, y = width / 2 + scale * position, height / 2
    canvas.line((width / 2 - scale * track, y), (width / 2 + scale * track, y), 2, COLOURS["wall"])
    if target:
        canvas.box(width / 2 - scale * target, y - 2, width / 2 + scale * target, y + 2, COLOURS["goal"])
    canvas.box(x - 26, y - 13, x + 26, y + 13, COLOURS["wall"])
    canvas.line((x, y), (x + scale * math.sin(angle), y - scale * math.cos(angle)), 9, COLOURS["agent"])
    return canvas.pixels()


def line_text(length: int, agent: int, middle: str) -> str:
    """A row of cells with prizes ``$`` at both ends and the agent ``@`` somewhere."""
    cells = ["$", *[middle] * (length - 2), "$"]
    cells[agent] = "@"
    return "".join(cells) + "\n"


def line_picture(text: str) -> np.ndarray:
    """:func:`line_text` in colours: the small prize on the left orange, the large one on the right green."""
    line = text.strip()
    return grid_picture([line[:-1].replace("$", "s") + line[-1]], {"s": "lure", "$": "goal"})
