"""Reader of CUB-200-2011: 312 binary attributes of birds (`is_present`), with the official split.

Images have the order of images.txt, as in the single-positive release (format_cub.py). The annotators' certainty is not
used.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .listing import NO_BOXES, Annotations, DataError, Listing, found, lines

if TYPE_CHECKING:
    from .settings import DataSettings

_FILES = ("images.txt", "train_test_split.txt", "attributes/image_attribute_labels.txt")


def files(settings: DataSettings) -> list[Path]:
    folder = _folder(settings)
    # In the archive, attributes.txt lies beside the folder of the data set.
    for path in (folder.parent / "attributes.txt", folder / "attributes.txt", folder / "attributes/attributes.txt"):
        if path.exists():
            return [*(folder / name for name in _FILES), path]
    raise DataError(f"cub200: attributes.txt is neither in {folder.parent}, nor in {folder}")


def read(settings: DataSettings) -> Annotations:
    images, split, attributes, classes = files(settings)
    names = _table(classes)
    paths = _table(images)
    column, row = ({id: index for index, id in enumerate(table)} for table in (names, paths))
    training = _table(split)
    labels = np.zeros((len(row), len(column)), np.int8)
    with open(attributes, encoding="ascii", errors="replace") as file:
        for number, line in enumerate(file, start=1):
            # Some lines have an extra column after the first three.
            image, attribute, present = (*line.split(maxsplit=3), "", "", "")[:3]
            if image not in row or attribute not in column or present not in ("0", "1"):
                raise DataError(
                    f"{attributes}:{number}: {line.strip()!r} is not allowed; allowed is an image of {images.name}, an "
                    f"attribute of {classes.name}, 0 or 1, and more"
                )
            labels[row[image], column[attribute]] = 1 if present == "1" else -1
    if (labels == 0).any():
        image, attribute = np.argwhere(labels == 0)[0]
        raise DataError(
            f"{attributes}: says nothing of attribute {list(column)[attribute]} of image {list(row)[image]}"
        )
    if training.keys() != row.keys() or not {"0", "1"} >= set(training.values()):
        raise DataError(f"{split}: allowed is a line with 0 or 1 for each of the {len(row)} images of {images.name}")
    parts = {
        name: [row[image] for image in row if training[image] == flag] for name, flag in (("train", "1"), ("test", "0"))
    }
    every = [f"images/{path}" for path in paths.values()]
    lists = {name: Listing(tuple(every[r] for r in rows), labels[rows], NO_BOXES) for name, rows in parts.items()}
    return Annotations(images.parent, tuple(names.values()), lists)


def _table(path: Path) -> dict[str, str]:
    """The texts by id of a file with one id and one text per line, in order."""
    table = {}
    for number, line in enumerate(lines(path), start=1):
        id, _, text = line.strip().partition(" ")
        if line.strip() and (not text or id in table):
            raise DataError(f"{path}:{number}: {line.strip()!r} is not allowed; allowed is an id of its own and a text")
        if text:
            table[id] = text.strip()
    return table


def _folder(settings: DataSettings) -> Path:
    return found("cub200", settings.root, _FILES, ("CUB_200_2011", "CUB_200_2011/CUB_200_2011", ""))
