"""Reader of VG-200: images of Visual Genome with the lists and labels of SSGRL and HCP-MLR-PL.

The lists are those of VG-500. Its classes 0 to 199, the most frequent ones, are VG-200. No file has the class names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .listing import NO_BOXES, Annotations, DataError, Listing, found, lines

if TYPE_CHECKING:
    from .settings import DataSettings

CLASSES = 200
_LISTS = ("train_list_500.txt", "test_list_500.txt")
_LABELS = ("vg_category_200_labels_index.json", "vg_category_500_labels_index.json")
# Visual Genome has two archives of images; SSGRL puts all images into the folder of the first.
_IMAGES = ("VG_100K", "VG_100K_2")


def files(settings: DataSettings) -> list[Path]:
    folder = found("vg200", settings.root, _LISTS, ("", "VG", "vg", "data/VG", "data/vg"))
    for name in _LABELS:
        if (folder / name).exists():
            return [*(folder / name for name in _LISTS), folder / name]
    raise DataError(f"{folder}: has neither {' nor '.join(_LABELS)} beside the lists")


def read(settings: DataSettings) -> Annotations:
    *lists, path = files(settings)
    above = (path.parent, *path.parents[1:3])
    folder = next((place for place in above if (place / _IMAGES[0]).is_dir()), path.parent)
    try:
        by_name = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}: is no JSON: {error.msg}") from None
    there = {part: {image.name for image in (folder / part).glob("*.jpg")} for part in _IMAGES}
    train, test = (_listing(names, by_name, path, there) for names in lists)
    classes = tuple(f"VG {number}" for number in range(CLASSES))
    return Annotations(folder, classes, {"train": train, "test": test})


def _listing(path: Path, by_name: dict[str, list[int]], source: Path, there: dict[str, set[str]]) -> Listing:
    names = [(number, name) for number, line in enumerate(lines(path), start=1) if (name := line.strip())]
    labels = np.full((len(names), CLASSES), -1, np.int8)
    for row, (number, name) in enumerate(names):
        if name not in by_name:
            raise DataError(f"{path}:{number}: {name} has no labels in {source}")
        for index in by_name[name]:
            if type(index) is not int or index < 0:
                raise DataError(f"{source}: {name} has class {index!r}; allowed are integers from 0")
            if index < CLASSES:
                labels[row, index] = 1
    second = {name for name in there["VG_100K_2"] if name not in there["VG_100K"]}
    folders = ("VG_100K_2" if name in second else "VG_100K" for _, name in names)
    return Listing(tuple(f"{folder}/{name}" for folder, (_, name) in zip(folders, names)), labels, NO_BOXES)
