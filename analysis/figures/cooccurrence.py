"""Scenes with the co-occurrence that a method predicts for each, and the labels that follow: from it, within the image
(IST), and from other images (CST).

They are read from an artifact that a trial left, an npz file of arrays without pickles: `images`, `boxes`, `classes`,
`given` and `truth` as in `pictures.py`; `cooccurrence` (M, K, K) in [0, 1]; `rules` (R,), `intra` or `inter`;
`scores` (M, R, K) and the `thresholds` (R,) that they have to reach; `completed` (M, R, K), labels by each rule,
positive above 0.
"""

from __future__ import annotations

import math
import string
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.figures.pictures import RIGHT, WRONG, Box, arrays_of, boxes_of, draw_objects, found
from analysis.figures.sheets import LEFT, LINE, Sheet
from analysis.reading.records import Record

NAME = "cooccurrence.npz"
ARRAYS = (
    *("images", "boxes", "classes", "given", "truth"),
    *("cooccurrence", "rules", "scores", "thresholds", "completed"),
)
# What stands above the scores of each rule.
_RULES = {"intra": ("IST", "co-occurrence\nwith the known"), "inter": ("CST", "similarity to\nother images")}
_GREY, _COLOURS = "#BBBBBB", "Purples"
_HEAD = 1.07  # of a matrix's height: where the titles stand
_CLASSES, _LONGEST = 20, 14  # as many as can be read; characters of a name
_WIDTH, _SIDE = 7.17, 1.35  # inches: the page, a picture
_FROM, _MATRIX, _BARS, _MARKS = 3.05, 1.75, 0.84, 0.24  # inches: matrices from the left, bars, marks beside them
_TOP, _FOOT = 0.13, 0.12  # inches: above and below a scene
_SMALL, _LESS, _TEXT = 5.8, 6.5, 7.0  # points


@dataclass(frozen=True)
class Rule:
    """What one rule makes of a scene's labels: `scores` (K,), `threshold`, and the labels that are `added` (K,)."""

    name: str
    title: str
    scores: np.ndarray
    threshold: float
    added: np.ndarray


@dataclass(frozen=True)
class Scene:
    """An image (H, W, 3) uint8 and its labels (K,): `given` (+1, −1, 0) and `true`; `cooccurrence` (K, K)."""

    image: np.ndarray
    classes: tuple[str, ...]
    boxes: tuple[tuple[Box, ...], ...]
    given: np.ndarray
    true: np.ndarray
    cooccurrence: np.ndarray
    rules: tuple[Rule, ...]

    def lines(self) -> list[str]:
        """What stands below the picture."""
        positive, negative, unknown = (int((self.given == sign).sum()) for sign in (1, -1, 0))
        hidden = self.true & (self.given == 0)
        lines = [f"given: {positive} +, {negative} −; unknown: {unknown}, {int(hidden.sum())} true"]
        for rule in self.rules:
            right = int((rule.added & self.true).sum())
            wrong = int(rule.added.sum()) - right
            lines.append(f"{rule.name} adds " + (f"{right} ✓, {wrong} ✗" if right + wrong else "none"))
        shown = len(self.shown())
        return lines + [f"{shown} of {len(self.given)} classes shown"] * (shown < len(self.given))

    def shown(self) -> list[int]:
        """The classes that are drawn: first those that are known positive, added or true, then those of high scores."""
        added = np.any([rule.added for rule in self.rules], axis=0)
        marked = (self.given > 0) | added | self.true
        best = np.max([rule.scores for rule in self.rules], axis=0)
        order = sorted(range(len(marked)), key=lambda k: (not marked[k], -best[k]))
        return sorted(order[:_CLASSES])


def read(content: bytes, name: str) -> list[Scene]:
    """The scenes of such a file. Raises `RecordError` for any other file."""
    arrays = arrays_of(content, name, ARRAYS)
    return [_scene(arrays, index) for index in range(len(arrays["images"]))]


def draw(record: Record, name: str, images: int) -> Figure:
    """The first scenes of artifact `name`, of the first seed of the first variant that has it."""
    content, whose = found(record, name)
    return _draw(read(content, name)[:images], record.space["title"], whose)


def _scene(arrays: dict[str, np.ndarray], index: int) -> Scene:
    given = np.sign(arrays["given"][index])
    rules = zip(arrays["rules"], arrays["scores"][index], arrays["thresholds"], arrays["completed"][index], strict=True)
    return Scene(
        image=arrays["images"][index].transpose(1, 2, 0),
        classes=tuple(map(str, arrays["classes"])),
        boxes=tuple(tuple(boxes_of(arrays["boxes"], index, k)) for k in range(len(given))),
        given=given,
        true=arrays["truth"][index] > 0,
        cooccurrence=arrays["cooccurrence"][index],
        rules=tuple(
            Rule(*_titles(str(name)), scores, float(threshold), (completed > 0) & (given == 0))
            for name, scores, threshold, completed in rules
        ),
    )


def _titles(rule: str) -> tuple[str, str]:
    name, scores = _RULES.get(rule, (rule, "scores"))
    return name, f"{name}: {scores}"


def _draw(scenes: Sequence[Scene], title: str, whose: str) -> Figure:
    key = textwrap.wrap(
        "Rows and columns are classes, with the letters of the boxes: + known positive (column framed), − known "
        "negative, ● true. Bars are scores of unknown labels (open: of known ones), the dashed line is the threshold "
        "from which a label becomes positive: ✓ rightly, ✗ wrongly.",
        128,
    )
    titles = textwrap.wrap(title, 110)
    lines = [scene.lines() for scene in scenes]
    block = _TOP + max(_MATRIX, _SIDE + LINE * (max(map(len, lines), default=0) + 0.4)) + _FOOT
    head, foot = LINE * (len(titles) + 3.8), LINE * (len(key) + 2.8)
    height = head + block * len(scenes) + foot
    sheet = Sheet(_WIDTH, height, _TEXT)
    place = sheet.place
    sheet.lines([*titles, whose], 0.5 * LINE, bold=len(titles))
    highest = _highest(scenes)
    for number, scene in enumerate(scenes):
        y = head + block * number + _TOP
        shown = scene.shown()
        draw_objects(place(LEFT, y, _SIDE, _SIDE), scene.image, _objects(scene, shown))
        sheet.lines(lines[number], y + _SIDE + 0.4 * LINE, fontsize=_LESS)
        _draw_matrix(place(_FROM, y, _MATRIX, _MATRIX), scene, shown, highest, titled=number == 0)
        for column, rule in enumerate(scene.rules):
            x = _FROM + _MATRIX + 0.12 + column * (_BARS + _MARKS)
            _draw_rule(place(x, y, _BARS, _MATRIX), scene, shown, rule, titled=number == 0)
    sheet.lines(key, height - foot + 0.8 * LINE)
    _draw_scale(place(_FROM, height - 1.7 * LINE, _MATRIX, 0.07), highest)
    sheet.write("co-occurrence", _FROM - 0.1, height - 1.7 * LINE - 0.02, ha="right")
    return sheet.figure


def _highest(scenes: Sequence[Scene]) -> float:
    """Where the colours end: at the highest probability of two different classes, in tenths."""
    apart = [scene.cooccurrence[~np.eye(len(scene.classes), dtype=bool)] for scene in scenes]
    return max(0.1, math.ceil(10 * max((float(values.max(initial=0)) for values in apart), default=0)) / 10)


def _objects(scene: Scene, shown: Sequence[int]) -> list[tuple[str, Box]]:
    letters = dict(zip(shown, string.ascii_lowercase, strict=False))
    return [(letters[k], box) for k in shown for box in scene.boxes[k]]


def _draw_matrix(axes: Axes, scene: Scene, shown: Sequence[int], highest: float, titled: bool) -> None:
    matrix = scene.cooccurrence[np.ix_(shown, shown)].astype(float)
    np.fill_diagonal(matrix, np.nan)  # it is always 1, and no prediction
    axes.imshow(matrix, cmap=colormaps[_COLOURS].with_extremes(bad="#DDDDDD"), vmin=0, vmax=highest, aspect="auto")
    axes.tick_params(length=0, labelsize=_SMALL, pad=2)
    letters = string.ascii_lowercase[: len(shown)]
    axes.set_xticks(range(len(shown)), letters)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(shown)), letters)
    names = [name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…" for name in scene.classes]
    # To the left, in shares of the matrix's side: the names, and before the longest of them what is known and true.
    given = -0.14 - 0.029 * max(map(len, names))
    true = given - 0.06
    for row, k in enumerate(shown):
        known = scene.given[k] > 0
        style: dict[str, Any] = {"fontsize": _SMALL, "va": "center_baseline", "transform": axes.get_yaxis_transform()}
        axes.text(-0.08, row, names[k], ha="right", fontweight="bold" if known else "normal", **style)
        if scene.given[k]:
            axes.text(given, row, "+" if known else "−", ha="center", fontweight="bold", **style)
        if scene.true[k]:
            axes.text(true, row, "●", ha="center", **style)
        if known:
            axes.add_patch(Rectangle((row - 0.5, -0.5), 1, len(shown), fill=False, linewidth=0.9, clip_on=False))
    if titled:
        heads: dict[str, Any] = {"fontsize": _SMALL, "transform": axes.transAxes, "va": "bottom", "ha": "center"}
        axes.text(0.5, _HEAD, "co-occurrence", **heads)
        axes.text(given, 1.01, "given", rotation=90, **heads)
        axes.text(true, 1.01, "true", rotation=90, **heads)


def _draw_rule(axes: Axes, scene: Scene, shown: Sequence[int], rule: Rule, titled: bool) -> None:
    scores = rule.scores[list(shown)]
    mark: dict[str, Any] = {"va": "center", "ha": "center", "fontsize": _TEXT, "transform": axes.get_yaxis_transform()}
    for row, (k, score) in enumerate(zip(shown, scores, strict=True)):
        style: dict[str, Any] = {"color": _GREY}
        if scene.given[k]:
            style = {"facecolor": "none", "edgecolor": "#888888", "linewidth": 0.5}
        elif rule.added[k]:
            style = {"color": RIGHT if scene.true[k] else WRONG}
            axes.text(1.07, row, "✓" if scene.true[k] else "✗", **mark, **style)
        axes.barh(row, score, height=0.7, **style)
    if not scores.any():
        axes.text(0.05, len(shown) / 2, "all 0", fontsize=_SMALL, va="center", ha="left")
    axes.axvline(rule.threshold, color="black", linestyle="--", linewidth=0.7)
    low, high = min(0.0, rule.threshold, float(scores.min())), max(1.0, float(scores.max()))
    axes.set_xlim(low, high)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_yticks([])
    ticks = [0.0] * (abs(rule.threshold) > 0.25 * (high - low)) + [rule.threshold]  # no two of them too near
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.tick_params(length=2, labelsize=_SMALL, pad=1)
    if titled:
        axes.text(0, _HEAD, rule.title, transform=axes.transAxes, fontsize=_SMALL, va="bottom")


def _draw_scale(axes: Axes, highest: float) -> None:
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=_COLOURS, aspect="auto", extent=(0, highest, 0, 1))
    axes.set_yticks([])
    axes.set_xticks([0, highest], ["0", f"{highest:.1f}"])
    axes.tick_params(length=2, labelsize=_SMALL, pad=1)
