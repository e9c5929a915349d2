"""Reader of Pascal VOC 2007 and 2012, and of folders in their layout: Annotations/, ImageSets/Main/ and JPEGImages/.

A class is present if the image has an object of it that is not `difficult`. With only difficult objects it is absent,
in training and test, as in the released code of both families; `data.difficult: unknown` is ML-GCN's convention.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .listing import Annotations, DataError, Listing, found, lines

if TYPE_CHECKING:
    from .settings import DataSettings

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
# The test set of 2012 has no public labels: the papers train on train and test on val.
LISTS = {"voc2007": ("trainval", "test"), "voc2012": ("train", "val")}
_SETS = "ImageSets/Main"


class Thing(NamedTuple):
    """An object in an image: its class, whether it is difficult, and x0, y0, x1, y1 as shares of width and height."""

    name: str
    difficult: bool
    box: tuple[float, float, float, float]


def files(settings: DataSettings) -> list[Path]:
    return used(_folder(settings), LISTS[settings.dataset])


def read(settings: DataSettings) -> Annotations:
    return together(_folder(settings), LISTS[settings.dataset], settings, CLASSES)


def used(folder: Path, lists: tuple[str, str]) -> list[Path]:
    """The files that are read: lists of images, and an annotation file for each image."""
    sets = [folder / _SETS / f"{name}.txt" for name in lists]
    return sets + [folder / f"Annotations/{name}.xml" for path in sets for name in _names(path)]


def together(
    folder: Path, lists: tuple[str, str], settings: DataSettings, classes: tuple[str, ...] | None
) -> Annotations:
    """The training and the test list of a folder. `classes` None: the classes that occur, in alphabetical order."""
    paths = [folder / _SETS / f"{name}.txt" for name in lists]
    images = [{name: _things(folder, name, path) for name in _names(path)} for path in paths]
    if classes is None:
        classes = tuple(sorted({thing.name for part in images for things in part.values() for thing in things}))
    train, test = (_listing(folder, part, classes, settings) for part in images)
    difficult = sum(thing.difficult for part in images for things in part.values() for thing in things)
    notes = (f"{difficult} difficult objects: a class with no other is {settings.difficult}",) * bool(difficult)
    return Annotations(folder, classes, {"train": train, "test": test}, notes)


def _listing(folder: Path, images: dict[str, list[Thing]], classes: tuple[str, ...], settings: DataSettings) -> Listing:
    column = {name: index for index, name in enumerate(classes)}
    labels = np.full((len(images), len(classes)), -1, np.int8)
    boxes = []
    for row, (image, things) in enumerate(images.items()):
        for thing in sorted(things, key=lambda thing: not thing.difficult):  # a normal object overrides a difficult one
            if thing.name not in column:
                raise DataError(
                    f"{folder / f'Annotations/{image}.xml'}: {thing.name!r} is no class of {settings.dataset}; allowed "
                    f"are {', '.join(classes)}. Own classes in this layout: data.dataset=coco"
                )
            if not thing.difficult:
                labels[row, column[thing.name]] = 1
                boxes.append((row, column[thing.name], *thing.box))
            elif settings.difficult == "unknown":
                labels[row, column[thing.name]] = 0
    names = tuple(f"JPEGImages/{image}.jpg" for image in images)
    return Listing(names, labels, np.array(boxes, np.float64).reshape(-1, 6))


def _names(path: Path) -> list[str]:
    """The images of a list. The second column in lists of one class is not needed: the annotations say the same."""
    names = [line.split()[0] for line in lines(path) if line.strip()]
    if not names:
        raise DataError(f"{path}: lists no image")
    if len(set(names)) < len(names):
        seen: set[str] = set()
        line, name = next((i, n) for i, n in enumerate(names, start=1) if n in seen or seen.add(n))  # type: ignore[func-returns-value]
        raise DataError(f"{path}:{line}: {name} is listed twice")
    return names


def _things(folder: Path, image: str, listed: Path) -> list[Thing]:
    path = folder / f"Annotations/{image}.xml"
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (float(root.findtext(f"size/{side}", "")) for side in ("width", "height"))
        return [
            Thing(
                entry.findtext("name", "").strip(),
                entry.findtext("difficult", "0").strip() == "1",
                _box(entry, width, height),
            )
            for entry in root.findall("object")
        ]
    except FileNotFoundError:
        raise DataError(f"{path}: is not there, and {listed} lists {image}") from None
    except ElementTree.ParseError as error:
        raise DataError(f"{path}:{error.position[0]}: is no XML: {error}") from None
    except (ValueError, ZeroDivisionError):
        raise DataError(f"{path}: its size or a box lacks a number above 0") from None


def _box(entry: ElementTree.Element, width: float, height: float) -> tuple[float, float, float, float]:
    # VOC's pixels count from 1, and both ends are inclusive.
    x0, y0, x1, y1 = (float(entry.findtext(f"bndbox/{edge}", "")) for edge in ("xmin", "ymin", "xmax", "ymax"))
    return (x0 - 1) / width, (y0 - 1) / height, x1 / width, y1 / height


def _folder(settings: DataSettings) -> Path:
    name = settings.dataset.replace("voc", "VOC")
    needed = [f"{_SETS}/{part}.txt" for part in LISTS[settings.dataset]] + ["Annotations"]
    return found(settings.dataset, settings.root, needed, (f"VOCdevkit/{name}", name, ""))
