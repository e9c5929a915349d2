"""Scenes with classes that are unknown in them, and for each class the most similar images in which it is known.

They are read from an artifact of a trial, an npz file of arrays without pickles: `images`, `boxes`, `classes`, `given`
and `truth` as in `pictures.py`, of all images in the file; `query` (M,), the scenes among them; `shown` (M, C), the
classes; `mean` (M, C), the mean similarity to all images with the class known; `nearest` (M, C, S) images, and their
`cosine` (M, C, S); `added` (M, C), whether the class becomes a label. -1: there is no such class or image.
"""

from __future__ import annotations

import string
import textwrap
from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from analysis.figures.pictures import RIGHT, WRONG, arrays_of, boxes_of, draw_objects, found
from analysis.figures.sheets import LEFT, LINE, Sheet
from analysis.reading.records import Record

NAME = "similar_images.npz"
ARRAYS = (
    *("images", "boxes", "classes", "given", "truth"),
    *("query", "shown", "mean", "nearest", "cosine", "added"),
)
# Inches: a scene, a similar image, between images, between classes.
_SCENE, _SIMILAR, _GAP, _APART = 1.05, 0.62, 0.05, 0.12
_FROM = LEFT + _SCENE + 0.25
_SMALL, _TEXT = 5.8, 7.0  # points

Arrays = Mapping[str, np.ndarray]


def draw(record: Record, name: str, images: int) -> Figure:
    """The first scenes of artifact `name`, of the first seed of the first variant that has it."""
    content, whose = found(record, name)
    return _draw(arrays_of(content, name, ARRAYS), images, record.space["title"], whose)


def _draw(arrays: Arrays, images: int, title: str, whose: str) -> Figure:
    scenes, (_, classes, similar) = min(images, len(arrays["query"])), arrays["nearest"].shape
    column = similar * (_SIMILAR + _GAP) + _APART
    width = _FROM + classes * column
    titles = textwrap.wrap(title, int(16 * width))
    key = textwrap.wrap(
        "Left: training images, the first with two hidden classes. Right: the classes unknown in each that are most "
        "similar on average, by their own features, to the images in which they are known; of those, the most similar "
        "ones, with the cosine and the boxes of the class. ✓ the class is in the image on the left, ✗ it is not. → "
        "label: the method makes it one.",
        int(18.5 * width),
    )
    lines = [_below(arrays, query) for query in arrays["query"][:scenes]]
    block = _SCENE + LINE * (max(map(len, lines), default=0) + 1.2)
    head, foot = LINE * (len(titles) + 2.2), LINE * (len(key) + 0.6)
    sheet = Sheet(width, head + block * scenes + foot, _TEXT)
    sheet.lines([*titles, whose], 0.5 * LINE, bold=len(titles))
    for number in range(scenes):
        y, query = head + block * number, arrays["query"][number]
        image, letters = arrays["images"][query].transpose(1, 2, 0), _letters(arrays, query)
        objects = [(letter, box) for k, letter in letters.items() for box in boxes_of(arrays["boxes"], query, k)]
        draw_objects(sheet.place(LEFT, y, _SCENE, _SCENE), image, objects)
        sheet.lines(lines[number], y + _SCENE + 0.4 * LINE, fontsize=_SMALL)
        for rank in range(classes):
            if arrays["shown"][number, rank] >= 0:
                _draw_class(sheet, arrays, number, rank, _FROM + rank * column, y)
    sheet.lines(key, head + block * scenes + 0.3 * LINE)
    return sheet.figure


def _draw_class(sheet: Sheet, arrays: Arrays, number: int, rank: int, x: float, y: float) -> None:
    """One class of a scene, with the images most similar in it."""
    k = arrays["shown"][number, rank]
    true = arrays["truth"][arrays["query"][number], k] > 0
    text = f"{arrays['classes'][k]} {'✓' if true else '✗'}  mean {arrays['mean'][number, rank]:.2f}"
    text += "  → label" * bool(arrays["added"][number, rank])
    sheet.write(text, x, y, color=RIGHT if true else WRONG, fontsize=_SMALL, fontweight="bold")
    near = zip(arrays["nearest"][number, rank], arrays["cosine"][number, rank], strict=True)
    for place, (other, cosine) in enumerate(near):
        if other >= 0:
            left, top = x + place * (_SIMILAR + _GAP), y + 1.3 * LINE
            boxes = [("", box) for box in boxes_of(arrays["boxes"], other, k)]
            draw_objects(sheet.place(left, top, _SIMILAR, _SIMILAR), arrays["images"][other].transpose(1, 2, 0), boxes)
            sheet.write(f"{cosine:.2f}", left + _SIMILAR / 2, top + _SIMILAR + 0.2 * LINE, ha="center", fontsize=_SMALL)


def _letters(arrays: Arrays, query: int) -> dict[int, str]:
    """A letter for each class that is in the scene."""
    return dict(zip(np.flatnonzero(arrays["truth"][query] > 0).tolist(), string.ascii_lowercase, strict=False))


def _below(arrays: Arrays, query: int) -> list[str]:
    """What stands below a scene: its classes, those that are known and those that are not."""
    lines = []
    for title, known in (("known", True), ("hidden", False)):
        letters = _letters(arrays, query).items()
        names = [f"{arrays['classes'][k]} [{x}]" for k, x in letters if (arrays["given"][query, k] > 0) == known]
        lines += textwrap.wrap(f"{title}: {', '.join(names) or 'none'}", 30, subsequent_indent="  ")
    return lines
