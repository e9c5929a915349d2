"""Reader of OpenImages V3 (2017_11): human-verified image-level labels of the 5,000 trainable classes, most of them
unknown.

The label matrix of 17 GB is never in memory as a whole. The CSV files are read twice, line by line, into a file beside
the image caches, which is then mapped into memory. Images have the order of their ids; images without a label of a
trainable class are left out. If lines contradict each other, the last one counts.
"""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..cache.files import replacing
from ..cache.keys import fingerprint
from .image_cache import images_folder
from .listing import NO_BOXES, Annotations, DataError, Listing, found, lines

if TYPE_CHECKING:
    from .settings import DataSettings

_PARTS = {"train": "train", "val": "validation", "test": "test"}
_CLASSES, _NAMES = "classes-trainable.txt", "class-descriptions.csv"
_COLUMNS = ["ImageID", "Source", "LabelName", "Confidence"]
_AT_ONCE = 2**20  # number of annotations between two merges of the ids


def files(settings: DataSettings) -> list[Path]:
    folder = _folder(settings)
    return [folder / _CLASSES, folder / _NAMES, *(folder / part / "annotations-human.csv" for part in _PARTS.values())]


def read(settings: DataSettings) -> Annotations:
    trainable, described, *parts = files(settings)
    ids = [line.strip() for line in lines(trainable) if line.strip()]
    column = {id: index for index, id in enumerate(ids)}
    if not ids or len(column) < len(ids):
        raise DataError(f"{trainable}: lists no class, or one twice")
    with open(described, encoding="utf-8", newline="") as file:
        names = {cells[0]: cells[1] for cells in csv.reader(file) if len(cells) > 1}
    # The annotations are in 2017_11/; the images are in folders beside it.
    root = trainable.parent.parent if trainable.parent.name == "2017_11" else trainable.parent
    lists = {name: _listing(path, column, root, _PARTS[name]) for name, path in zip(_PARTS, parts, strict=True)}
    return Annotations(root, tuple(names.get(id, id) for id in ids), lists)


def _listing(path: Path, column: dict[str, int], root: Path, part: str) -> Listing:
    made = _made(path, column)
    ids = np.load(made / "ids.npy")
    labels = np.memmap(made / "labels", np.int8, "r", shape=(len(ids), len(column)))
    # A large download may come in sixteen archives, by the first digit of the image id.
    there = {digit: (root / f"{part}_{digit}").is_dir() for digit in "0123456789abcdef"}
    names = (f"{id:016x}" for id in ids.tolist())
    return Listing(tuple(f"{part}{f'_{name[0]}' * there[name[0]]}/{name}.jpg" for name in names), labels, NO_BOXES)


def _made(path: Path, column: dict[str, int]) -> Path:
    """The folder with the image ids and labels of a CSV file. It is made if it is not there."""
    status = path.stat()
    what = (str(path), str(status.st_size), str(status.st_mtime_ns), *column, fingerprint(__name__))
    name = f"open_images_v3-labels-{hashlib.sha256(chr(0).join(what).encode()).hexdigest()[:16]}"
    folder = images_folder() / name
    if folder.exists():
        return folder
    ids = np.empty(0, np.uint64)
    fresh: list[int] = []
    for image, _, _ in _annotations(path, column):
        fresh.append(image)
        if len(fresh) == _AT_ONCE:
            ids, fresh = np.union1d(ids, np.array(fresh, np.uint64)), []
    ids = np.union1d(ids, np.array(fresh, np.uint64))
    if not len(ids):
        raise DataError(f"{path}: no line of it is about a class of {_CLASSES}")
    partial = images_folder() / f".{name}.{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        _write(partial, ids, _annotations(path, column), len(column))
        if not folder.exists():
            os.replace(partial, folder)
    except OSError as error:
        if not folder.exists():  # else another process was faster
            raise DataError(f"{folder}: cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _write(folder: Path, ids: np.ndarray, annotations: Iterator[tuple[int, int, int]], classes: int) -> None:
    with replacing(folder / "ids.npy") as file:
        np.save(file, ids)
    with open(folder / "labels", "xb") as file:
        # Disk space is reserved first: a disk that fills up under a memory map kills the process without an error.
        os.posix_fallocate(file.fileno(), 0, len(ids) * classes)
    labels = np.memmap(folder / "labels", np.int8, "r+", shape=(len(ids), classes))
    row = {image: index for index, image in enumerate(ids.tolist())}
    for image, index, value in annotations:
        labels[row[image], index] = value
    labels.flush()


def _annotations(path: Path, column: dict[str, int]) -> Iterator[tuple[int, int, int]]:
    """Image, class, and +1 or -1, for each line about a trainable class."""
    with open(path, encoding="ascii", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if header != _COLUMNS:
            raise DataError(f"{path}:1: {','.join(header)!r} is not allowed; allowed is {','.join(_COLUMNS)!r}")
        for cells in reader:
            try:
                image, _, name, confidence = cells
                if name in column:
                    yield int(image, 16), column[name], {1.0: 1, 0.0: -1}[float(confidence)]
            except (ValueError, KeyError):
                raise DataError(
                    f"{path}:{reader.line_num}: {','.join(cells)!r} is not allowed; allowed is a hexadecimal image id, "
                    "a source, a class, and 0 or 1"
                ) from None


def _folder(settings: DataSettings) -> Path:
    needed = [_CLASSES, _NAMES, *(f"{part}/annotations-human.csv" for part in _PARTS.values())]
    return found("open_images_v3", settings.root, needed, ("2017_11", ""))
