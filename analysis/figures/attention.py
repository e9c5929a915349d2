"""Scenes with what each variant sees in them: its most likely classes, their scores, and where it looks for them.

They are read from artifacts that trials left, npz files of arrays without pickles: `images`, `boxes`, `classes` and
`truth` as in `pictures.py`; `scores` (M, K), each class's probability; `attention` (M, K, h, w), where a class is
seen, each map on a scale of its own.
"""

from __future__ import annotations

import string
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures.pictures import RIGHT, WRONG, Box, arrays_of, boxes_of, draw_objects, found_of_all
from analysis.figures.sheets import LEFT, LINE, Sheet
from analysis.reading.records import Record, RecordError

NAME = "attention.npz"
ARRAYS = ("images", "boxes", "classes", "truth", "scores", "attention")
MAPS, BARS = 3, 5  # classes of a variant whose maps and whose scores are shown
_LONGEST = 13  # characters of a name
_COLOURS, _STRONGEST = "plasma", 0.8
# Inches: a picture, a map, what is between them, names beside bars and the bars.
_PICTURE, _MAP, _GAP, _NAMES, _BAR = 0.95, 0.62, 0.05, 0.6, 0.3
_SEEN = MAPS * (_MAP + _GAP) + _NAMES + _BAR + 0.2  # of one variant
_SMALL, _TEXT = 5.4, 7.0  # points


@dataclass(frozen=True)
class Seen:
    """What one variant makes of a scene: `scores` (K,) and `maps` (K, h, w)."""

    scores: np.ndarray
    maps: np.ndarray

    def top(self, number: int) -> list[int]:
        """The most likely classes, the first of equals first."""
        return np.argsort(-self.scores, kind="stable")[:number].tolist()


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) uint8 with its objects, and what each variant sees in it."""

    image: np.ndarray
    classes: tuple[str, ...]
    true: np.ndarray
    boxes: tuple[tuple[Box, ...], ...]
    seen: tuple[Seen, ...]

    @property
    def letters(self) -> dict[int, str]:
        """A letter for each class that is in the scene."""
        return dict(zip(np.flatnonzero(self.true).tolist(), string.ascii_lowercase, strict=False))


def read(contents: Sequence[bytes], name: str) -> list[Scene]:
    """The scenes of such files, one file per variant. Raises `RecordError` for another file, or other scenes in one."""
    files = [arrays_of(content, name, ARRAYS) for content in contents]
    first = files[0]
    if any(not np.array_equal(first["images"], arrays["images"]) for arrays in files):
        raise RecordError(f"the files {name} of the variants are of different scenes; give them one data.draw")
    classes = tuple(map(str, first["classes"]))
    return [
        Scene(
            image=first["images"][index].transpose(1, 2, 0),
            classes=classes,
            true=first["truth"][index] > 0,
            boxes=tuple(tuple(boxes_of(first["boxes"], index, k)) for k in range(len(classes))),
            seen=tuple(Seen(arrays["scores"][index], arrays["attention"][index]) for arrays in files),
        )
        for index in range(len(first["images"]))
    ]


def draw(record: Record, name: str, images: int, failures: int = 0) -> Figure:
    """The first scenes, the variants beside each other, of the first seed that all of them have. With `failures`: the
    scenes that the last variant ranks best, then so many that it ranks worst."""
    files, whose = found_of_all(record, name)
    scenes, variants = read(list(files.values()), name), list(files)
    groups = _best_and_worst(scenes, variants[-1], images, failures) if failures else {"": scenes[:images]}
    return _draw(groups, variants, record.space["title"], whose)


def precision(scene: Scene, seen: Seen) -> float:
    """Average precision of the classes in a scene by a variant's scores: 1 if all are above the others, or there are
    none."""
    true = scene.true[np.argsort(-seen.scores, kind="stable")]
    at = np.flatnonzero(true) + 1
    return float((np.arange(1, len(at) + 1) / at).mean()) if len(at) else 1.0


def _best_and_worst(scenes: Sequence[Scene], variant: str, images: int, failures: int) -> dict[str, list[Scene]]:
    """By a heading: the scenes that the last variant ranks best, and those that it ranks worst, the worst first. Of
    equals the first come first. No scene is in both."""
    precisions = np.array([precision(scene, scene.seen[-1]) for scene in scenes])
    worst = np.argsort(precisions, kind="stable")[:failures]
    best = [place for place in np.argsort(-precisions, kind="stable") if place not in worst][:images]
    right = int((precisions == 1).sum())
    return {
        f"Successes. {variant} ranks the classes in the scene above all others in {right} of {len(scenes)} scenes": [
            scenes[place] for place in best
        ],
        f"Failures. The scenes in which {variant} ranks them worst": [scenes[place] for place in worst],
    }


def _draw(groups: Mapping[str, Sequence[Scene]], variants: Sequence[str], title: str, whose: str) -> Figure:
    width = _start(len(variants))
    titles = textwrap.wrap(title, int(16 * width))
    key = textwrap.wrap(
        f"Of each row: the objects; then, of every variant, where it looks for the {MAPS} classes that it holds most "
        f"likely (each map from its smallest value, clear, to its largest, yellow), and its {BARS} highest scores. "
        "✓ in the scene, ✗ not.",
        int(18.5 * width),
    )
    longest = max((len(_below(scene)) for scenes in groups.values() for scene in scenes), default=0)
    block, between = _PICTURE + (0.85 * longest + 0.5) * LINE, 1.5 * LINE
    head, foot = LINE * (len(titles) + 3.6), LINE * (len(key) + 0.6)
    height = head + sum(between * bool(heading) + block * len(scenes) for heading, scenes in groups.items()) + foot
    sheet = Sheet(width, height, _TEXT)
    place, write = sheet.place, sheet.write

    sheet.lines([*titles, whose], 0.5 * LINE, bold=len(titles))
    for column, variant in enumerate(variants):
        write(variant, _start(column), head - 1.5 * LINE, fontweight="bold")
    y = head
    for heading, scene in [(text, scene) for text, scenes in groups.items() for scene in scenes]:
        if heading and scene is groups[heading][0]:
            write(heading, LEFT, y, fontstyle="italic")
            y += between
        objects = [(letter, box) for k, letter in scene.letters.items() for box in scene.boxes[k]]
        draw_objects(place(LEFT, y, _PICTURE, _PICTURE), scene.image, objects)
        for below, line in enumerate(_below(scene)):
            write(line, LEFT, y + _PICTURE + LINE * (0.85 * below + 0.3), fontsize=_SMALL)
        for column, seen in enumerate(scene.seen):
            x = _start(column)
            for rank, k in enumerate(seen.top(MAPS)):
                axes = place(x + rank * (_MAP + _GAP), y, _MAP, _MAP)
                _draw_map(axes, scene, seen.maps[k])
                axes.set_title(_marked(scene, k), fontsize=_SMALL, color=_colour(scene, k), pad=2, y=-0.2)
            _draw_bars(place(x + MAPS * (_MAP + _GAP) + _NAMES, y, _BAR, _MAP), scene, seen)
        y += block
    sheet.lines(key, height - foot + 0.3 * LINE)
    return sheet.figure


def _start(column: int) -> float:
    """Where the column of a variant begins, in inches from the left."""
    return LEFT + _PICTURE + 0.1 + column * (0.1 + _SEEN)


def _below(scene: Scene) -> list[str]:
    """What stands below a picture: the classes in the scene."""
    return textwrap.wrap(", ".join(f"{_short(scene.classes[k])} [{x}]" for k, x in scene.letters.items()), 28)


def _draw_map(axes: Axes, scene: Scene, values: np.ndarray) -> None:
    """The map, enlarged over the grey image; the smaller a value, the more transparent it is."""
    height, width = scene.image.shape[:2]
    axes.imshow(scene.image.mean(2), cmap="gray", vmin=0, vmax=255)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    low, high = float(values.min()), float(values.max())
    alpha = _STRONGEST * (values - low) / ((high - low) or 1)
    axes.imshow(values, cmap=_COLOURS, vmin=low, vmax=high, alpha=alpha, extent=extent, interpolation="bilinear")
    axes.set_axis_off()


def _draw_bars(axes: Axes, scene: Scene, seen: Seen) -> None:
    top = seen.top(BARS)
    axes.barh(range(len(top)), seen.scores[top], color=[_colour(scene, k) for k in top], height=0.7)
    for row, k in enumerate(top):
        axes.text(seen.scores[k] + 0.04, row, f"{seen.scores[k]:.2f}", fontsize=_SMALL, va="center")
    axes.set_yticks(range(len(top)), [_marked(scene, k) for k in top], fontsize=_SMALL)
    for label, k in zip(axes.get_yticklabels(), top, strict=True):
        label.set_color(_colour(scene, k))
    axes.set(xlim=(0, 1), ylim=(len(top) - 0.5, -0.5), xticks=[])
    axes.tick_params(length=0, pad=2)
    axes.spines[["bottom", "top", "right"]].set_visible(False)


def _marked(scene: Scene, k: int) -> str:
    return f"{_short(scene.classes[k])} {'✓' if scene.true[k] else '✗'}"


def _colour(scene: Scene, k: int) -> str:
    return RIGHT if scene.true[k] else WRONG


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
