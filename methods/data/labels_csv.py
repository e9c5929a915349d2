"""Reader of the user's own images with labels in CSV files: train.csv, test.csv and perhaps val.csv, with the columns
image, class, label.

A line says that a class is in an image (1, +1) or not (-1); all other labels are unknown. A line with only an image
lists an image without known labels. Paths of images are relative to the folder. Images keep the order of their first
line; the classes of all files are sorted alphabetically.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .listing import NO_BOXES, Annotations, DataError, Listing, found

if TYPE_CHECKING:
    from .settings import DataSettings

_COLUMNS = ["image", "class", "label"]
_VALUES = {"1": 1, "+1": 1, "-1": -1, "−1": -1}
# Labels by image and class, each with the line that gave it.
_Given = dict[str, dict[str, tuple[int, int]]]


def files(settings: DataSettings) -> list[Path]:
    return list(_files(settings).values())


def read(settings: DataSettings) -> Annotations:
    paths = _files(settings)
    given = {name: _read(path) for name, path in paths.items()}
    classes = tuple(sorted({label for images in given.values() for labels in images.values() for label in labels}))
    if not classes:
        raise DataError(f"{paths['train']}: no line of it or of the others names a class")
    lists = {name: _listing(images, classes) for name, images in given.items()}
    return Annotations(paths["train"].parent, classes, lists)


def _listing(images: _Given, classes: tuple[str, ...]) -> Listing:
    column = {name: index for index, name in enumerate(classes)}
    labels = np.zeros((len(images), len(classes)), np.int8)
    for row, known in enumerate(images.values()):
        for name, (value, _) in known.items():
            labels[row, column[name]] = value
    return Listing(tuple(images), labels, NO_BOXES)


def _read(path: Path) -> _Given:
    images: _Given = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [cell.strip() for cell in next(reader, [])]
            if header != _COLUMNS:
                raise DataError(f"{path}:1: {','.join(header)!r} is not allowed; allowed is {','.join(_COLUMNS)!r}")
            for cells in reader:
                if any(cells):
                    _add(images, [cell.strip() for cell in cells], f"{path}:{reader.line_num}", reader.line_num)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    if not images:
        raise DataError(f"{path}: lists no image")
    return images


def _add(images: _Given, cells: list[str], place: str, line: int) -> None:
    image, name, value = [*cells, "", ""][:3] if len(cells) < 3 else cells if len(cells) == 3 else ("", "", "")
    if not image:
        raise DataError(f"{place}: {','.join(cells)!r} is not allowed; allowed is an image, a class and 1 or -1")
    known = images.setdefault(image, {})
    if not name and not value:
        return
    if not name or value not in _VALUES:
        raise DataError(f"{place}: class {name!r} with label {value!r} is not allowed; allowed is a name with 1 or -1")
    before, first = known.setdefault(name, (_VALUES[value], line))
    if before != _VALUES[value]:
        raise DataError(f"{place}: {name!r} of {image} is {value} here and {before} in line {first}")


def _files(settings: DataSettings) -> dict[str, Path]:
    folder = found(settings.dataset, settings.root, ["train.csv", "test.csv"])
    return {name: folder / f"{name}.csv" for name in ("train", "val", "test") if (folder / f"{name}.csv").exists()}
