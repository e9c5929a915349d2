"""A page of pictures: axes and texts, placed in inches from its upper left corner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

LEFT, LINE = 0.08, 0.125  # inches: the left margin, a line of text


class Sheet:
    """A figure `width` and `height` inches large; texts have `size` points unless their style says otherwise."""

    def __init__(self, width: float, height: float, size: float):
        self.figure = Figure(figsize=(width, height), dpi=300)
        self._width, self._height, self._size = width, height, size

    def place(self, x: float, y: float, wide: float, tall: float) -> Axes:
        """Axes `wide` and `tall`, their upper left corner at (x, y)."""
        width, height = self._width, self._height
        return self.figure.add_axes((x / width, 1 - (y + tall) / height, wide / width, tall / height))

    def write(self, text: str, x: float, y: float, **style: Any) -> None:
        """A text whose upper left corner is at (x, y), unless `style` aligns it otherwise."""
        style = {"va": "top", "fontsize": self._size, **style}
        self.figure.text(x / self._width, 1 - y / self._height, text, **style)

    def lines(self, texts: Sequence[str], y: float, *, bold: int = 0, **style: Any) -> None:
        """Texts at the left margin, one below the other from `y` on; the first `bold` of them are bold."""
        for number, line in enumerate(texts):
            self.write(line, LEFT, y + LINE * number, fontweight="bold" if number < bold else "normal", **style)
