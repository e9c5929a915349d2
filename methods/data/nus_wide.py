"""Reader of NUS-WIDE, with the lists and labels of the single-positive release: 81 concepts, 150,000 and 60,260 images.

It needs `formatted_{train,val}_images.npy` and `…_labels.npy`, and the images in Flickr/. The release's val is the test
set. About a fifth of the training images have no concept, and so no single positive.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .listing import NO_BOXES, Annotations, DataError, Listing, found, lines

if TYPE_CHECKING:
    from .settings import DataSettings

_PARTS = {"train": "train", "test": "val"}
_NAMES = "Concepts81.txt"


def files(settings: DataSettings) -> list[Path]:
    folder = _folder(settings)
    names = [path for path in (folder / _NAMES, folder / "ConceptsList" / _NAMES) if path.exists()]
    return [
        folder / f"formatted_{part}_{kind}.npy" for part in _PARTS.values() for kind in ("images", "labels")
    ] + names[:1]


def read(settings: DataSettings) -> Annotations:
    paths = files(settings)
    folder = paths[0].parent
    lists = {name: _listing(*paths[2 * index : 2 * index + 2]) for index, name in enumerate(_PARTS)}
    number = lists["train"].labels.shape[1]
    if lists["test"].labels.shape[1] != number:
        raise DataError(f"{paths[3]}: has {lists['test'].labels.shape[1]} classes, {paths[1].name} has {number}")
    classes = [line.strip() for line in lines(paths[4]) if line.strip()] if paths[4:] else []
    if classes and len(classes) != number:
        raise DataError(f"{paths[4]}: names {len(classes)} concepts, {paths[1].name} has {number}")
    return Annotations(folder, tuple(classes) or tuple(f"concept {index}" for index in range(number)), lists)


def _listing(images: Path, labels: Path) -> Listing:
    names, values = (_array(path) for path in (images, labels))
    if names.ndim != 1 or values.ndim != 2 or len(names) != len(values):
        raise DataError(
            f"{labels}: shape {values.shape} is not allowed; allowed is a row for each of {len(names)} images"
        )
    if not np.isin(values, (0, 1)).all():
        raise DataError(f"{labels}: a value other than 0 and 1")
    paths = tuple(f"Flickr/{str(name).lstrip('/').removeprefix('Flickr/')}" for name in names)
    return Listing(paths, np.where(values == 1, np.int8(1), np.int8(-1)), NO_BOXES)


def _array(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"{path}: is no .npy file of texts or numbers: {error}") from None


def _folder(settings: DataSettings) -> Path:
    needed = [f"formatted_{part}_{kind}.npy" for part in _PARTS.values() for kind in ("images", "labels")]
    return found("nus_wide", settings.root, needed, ("", "nuswide", "data/nuswide"))
