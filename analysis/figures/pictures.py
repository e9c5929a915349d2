"""Scenes with what became of their labels: given, turned positive over the epochs, true; and where a network looked.

They are read from an artifact that a trial left, an npz file of arrays without pickles: `images` (M, 3, H, W) uint8;
`boxes` (R, 6) rows of image, class, x0, y0, x1, y1, the last two exclusive; `classes` (K,) names; `given` and `truth`
(M, K), positive above 0; `positive_since` (M, K), the epoch from which a label was positive and stayed so, 0 never;
`attention` (M, K, 2), pixel (x, y) of the largest activation of a class, −1 for none.
"""

from __future__ import annotations

import io
import math
import string
import textwrap
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.sheets import LEFT, LINE, Sheet
from analysis.reading.records import Record, RecordError
from analysis.reading.runs import artifact
from analysis.tables.chosen import reported

ARRAYS = ("images", "boxes", "classes", "given", "truth", "positive_since", "attention")
RIGHT, WRONG, _MARK = "#0072B2", "#D55E00", "#000000"
_COLUMNS, _TURNED = 3, 6  # scenes beside each other; labels turned positive that are listed
_WIDTH, _SIDE = 2.39, 1.9  # inches: of a column, a picture
_NEAR, _APART = 0.07, 0.13  # of a picture's side: maxima told apart, letters beside each other
_LETTERS = [*string.ascii_lowercase, *(2 * letter for letter in string.ascii_lowercase)]  # a … z, then aa … zz

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Label:
    """A class that a scene has, was given, or was turned to; the letter stands for it in the picture."""

    letter: str
    name: str
    given: bool
    true: bool
    since: int
    boxes: tuple[Box, ...]
    attention: tuple[int, int] | None

    @property
    def text(self) -> str:
        """ "red three [a]"."""
        return f"{self.name} [{self.letter}]"


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) uint8 and its labels: the given ones, those turned positive by epoch, then the others."""

    image: np.ndarray
    labels: tuple[Label, ...]

    def lines(self, width: int = 44) -> list[tuple[str, bool | None]]:
        """What stands below the picture, line by line, and whether it tells of a label turned rightly or wrongly."""
        turned = [label for label in self.labels if label.since]
        lines: list[tuple[str, bool | None]] = [(text, None) for text in self._listed("given", "given", width)]
        for label in turned[:_TURNED]:
            lines.append((f"→ epoch {label.since}: {label.text} {'✓' if label.true else '✗'}", label.true))
        if rest := turned[_TURNED:]:
            right = sum(label.true for label in rest)
            lines.append((f"→ and {len(rest)} more: {right} ✓, {len(rest) - right} ✗", None))
        return lines + [(text, None) for text in self._listed("truth", "true", width)]

    def _listed(self, title: str, which: str, width: int) -> list[str]:
        names = ", ".join(label.text for label in self.labels if getattr(label, which)) or "none"
        # A letter stays with its class.
        joined = names.replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
        return textwrap.wrap(f"{title}: {joined}", width, subsequent_indent="    ", break_long_words=False)


def read(content: bytes, name: str) -> list[Scene]:
    """The scenes of such a file. Raises `RecordError` for any other file."""
    arrays = arrays_of(content, name, ARRAYS)
    return [_scene(arrays, index) for index in range(len(arrays["images"]))]


def arrays_of(content: bytes, name: str, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays of an npz file without pickles. Raises `RecordError` where one is missing."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return {key: file[key] for key in wanted}
    except (KeyError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise RecordError(f"{name} is no file of pictures with {', '.join(wanted)}: {error}") from None


def draw(record: Record, name: str, images: int) -> Figure:
    """The first scenes of artifact `name`; see `found`."""
    content, whose = found(record, name)
    return _draw(read(content, name)[:images], record.space["title"], whose)


def found(record: Record, name: str) -> tuple[bytes, str]:
    """Artifact `name` of the first seed of the first variant that has it, and that trial in words. Raises `RecordError`
    if no trial has it."""
    for variant, (trials, taken) in reported(record).items():
        for trial in trials.query("status == 'FINISHED'").sort_values("seed").to_dict("records"):
            if content := artifact(record.client, trial["run_id"], name):
                return content, ", ".join(filter(None, [variant, _chosen(taken), _where(record, trial)]))
    raise RecordError(f"no finished run of {record.space['name']!r} has an artifact {name!r}")


def found_of_all(record: Record, name: str) -> tuple[dict[str, bytes], str]:
    """Artifact `name` of each variant, by the variant's printed name, and the seed and data set in words. It is taken
    from the first seed for which all variants have it. Raises `RecordError` if there is no such seed."""
    variants = reported(record)
    for seed in record.space["seeds"]:
        files, trial = {}, {}
        for variant, (trials, taken) in variants.items():
            for trial in trials[(trials["status"] == "FINISHED") & (trials["seed"] == seed)].to_dict("records"):
                if content := artifact(record.client, trial["run_id"], name):
                    files[", ".join(filter(None, [variant, _chosen(taken)]))] = content
        if len(files) == len(variants):
            return files, _where(record, trial)
    raise RecordError(f"there is no seed of which every variant of {record.space['name']!r} has an artifact {name!r}")


def _chosen(taken: str) -> str:
    return f"{taken}, chosen on val" if taken else ""


def _where(record: Record, trial: dict[str, Any]) -> str:
    """Seed and data set."""
    data = record.params["data.dataset"].get(trial["trial"]) if "data.dataset" in record.params else None
    return ", ".join(filter(None, [f"seed {trial['seed']}", data]))


def _scene(arrays: dict[str, np.ndarray], index: int) -> Scene:
    given, true, since = (arrays[key][index] for key in ("given", "truth", "positive_since"))
    shown = [k for k in range(len(given)) if given[k] > 0 or since[k] > 0 or true[k] > 0]
    shown.sort(key=lambda k: (given[k] <= 0, since[k] or math.inf, k))
    labels = [
        Label(
            letter=letter,
            name=str(arrays["classes"][k]),
            given=bool(given[k] > 0),
            true=bool(true[k] > 0),
            since=int(since[k]),
            boxes=tuple(boxes_of(arrays["boxes"], index, k)),
            attention=(int(x), int(y)) if min(x, y) >= 0 else None,
        )
        for k, letter in zip(shown, _LETTERS, strict=False)
        for x, y in [arrays["attention"][index, k]]
    ]
    return Scene(arrays["images"][index].transpose(1, 2, 0), tuple(labels))


def boxes_of(boxes: np.ndarray, image: int, label: int) -> list[Box]:
    """The boxes of one class in one image."""
    own = boxes[(boxes[:, 0] == image) & (boxes[:, 1] == label), 2:]
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in own.tolist()]


def _draw(scenes: Sequence[Scene], title: str, whose: str) -> Figure:
    columns = min(_COLUMNS, max(len(scenes), 1))
    titles = textwrap.wrap(title, 38 * columns)
    heading = [*titles, *textwrap.wrap(whose, 42 * columns)]
    key = textwrap.wrap(
        "Boxes: objects. Circles: where the activation of a class is largest. ✓ right, ✗ wrong.", 44 * columns
    )
    rows = [scenes[start : start + columns] for start in range(0, len(scenes), columns)]
    heights = [_SIDE + LINE * (max(len(scene.lines()) for scene in row) + 1.8) for row in rows]
    y, bottom = LINE * (len(heading) + 1.2), LINE * (len(key) + 0.6)
    height = y + sum(heights) + bottom
    sheet = Sheet(_WIDTH * columns, height, 7.0)
    sheet.lines(heading, 0.5 * LINE, bold=len(titles))
    sheet.lines(key, height - bottom)
    for row, row_height in zip(rows, heights, strict=True):
        for place, scene in enumerate(row):
            x = LEFT + place * _WIDTH
            _draw_scene(sheet.place(x, y, _SIDE, _SIDE), scene)
            for number, (text, right) in enumerate(scene.lines()):
                colour = _MARK if right is None else RIGHT if right else WRONG
                style = "italic" if right is False else "normal"
                sheet.write(text, x, y + _SIDE + LINE * (number + 0.5), color=colour, fontstyle=style)
        y += row_height
    return sheet.figure


def _draw_scene(axes: Axes, scene: Scene) -> None:
    draw_objects(axes, scene.image, [(label.letter, box) for label in scene.labels for box in label.boxes])
    for (x, y), letters in _together(scene.labels, _NEAR * max(scene.image.shape)):
        shape = "circle,pad=0.12" if len(letters) == 1 else "round,pad=0.2,rounding_size=0.7"
        ring = {"boxstyle": shape, "facecolor": "#F0E442", "edgecolor": "black", "linewidth": 0.6}
        axes.text(x, y, letters, fontsize=6, bbox=ring, ha="center", va="center")


def draw_objects(axes: Axes, image: np.ndarray, objects: Sequence[tuple[str, Box]]) -> None:
    """An image (H, W, 3) uint8 with its objects' boxes, and the letters of their classes in a corner each."""
    axes.imshow(image)
    axes.set_axis_off()
    corners: list[tuple[int, int]] = []
    for letter, (x0, y0, x1, y1) in objects:
        # Pixel i reaches from i − ½ to i + ½. Black on white is seen on any picture.
        for colour, width in (("white", 1.8), ("black", 0.7)):
            axes.add_patch(
                Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=width)
            )
        # The upper left one, but where the letter of another box is.
        choices = [(x, y) for x in (x0, x1) for y in (y0, y1)]
        free = (at for at in choices if all(math.dist(at, other) > _APART * max(image.shape) for other in corners))
        x, y = next(free, (x0, y0))
        corners.append((x, y))
        tag = {"boxstyle": "square,pad=0.12", "facecolor": "white", "edgecolor": "black", "linewidth": 0.4}
        sides: dict[str, Any] = {"ha": "left" if x == x0 else "right", "va": "top" if y == y0 else "bottom"}
        axes.text(x - 0.5, y - 0.5, letter, fontsize=6, bbox=tag, **sides)


def _together(labels: Sequence[Label], near_by: float) -> list[tuple[tuple[int, int], str]]:
    """Where activations are largest, with the letters of the classes; those nearer than `near_by` are one."""
    found: list[tuple[tuple[int, int], str]] = []
    for label in labels:
        if label.attention:
            near = next((i for i, (place, _) in enumerate(found) if math.dist(place, label.attention) < near_by), None)
            if near is None:
                found.append((label.attention, label.letter))
            else:
                found[near] = found[near][0], found[near][1] + label.letter
    return found
