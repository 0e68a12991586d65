"""Small pictures without a graphics library: smooth discs, lines and boxes on a canvas of bytes, and grids of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

if __name__ != "entropic_rl.envs.drawing":
    raise ImportError(f"import entropic_rl.envs.drawing, not {__name__}")

__all__ = ["COLOURS", "Canvas", "Colour", "grid_picture"]

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
    "harm": (213, 94, 0),
}


class Canvas:
    """A picture of ``width x height`` pixels; x grows to the right, y downwards."""

    def __init__(self, width: int, height: int, background: Colour = COLOURS["paper"]) -> None:
        self._pixels = np.full((height, width, 3), background, np.float64)
        self._y, self._x = np.mgrid[0:height, 0:width] + 0.5

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """An upright rectangle."""
        dx = np.maximum(left - self._x, self._x - right)
        dy = np.maximum(top - self._y, self._y - bottom)
        self._paint(np.maximum(dx, dy), colour)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        """A filled circle."""
        self._paint(np.hypot(self._x - x, self._y - y) - radius, colour)

    def line(self, start: tuple[float, float], end: tuple[float, float], width: float, colour: Colour) -> None:
        """A straight line with round ends."""
        x0, y0 = start
        dx, dy = end[0] - x0, end[1] - y0
        along = np.clip(((self._x - x0) * dx + (self._y - y0) * dy) / max(dx * dx + dy * dy, 1e-12), 0.0, 1.0)
        self._paint(np.hypot(self._x - x0 - along * dx, self._y - y0 - along * dy) - width / 2, colour)

    def pixels(self) -> np.ndarray:
        """The picture, ``[height, width, 3]`` bytes."""
        return self._pixels.round().astype(np.uint8)

    def _paint(self, distance: np.ndarray, colour: Colour) -> None:
        """Cover what lies inside, ``distance`` < 0, with edges one pixel soft."""
        cover = np.clip(0.5 - distance, 0.0, 1.0)[..., None]
        self._pixels += cover * (np.array(colour) - self._pixels)


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
