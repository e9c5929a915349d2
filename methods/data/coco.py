"""Reader of COCO 2014, and of other annotation files in its format: `instances_*.json`, read with pycocotools.

Every annotation makes its class present, also a crowd, as in the released code of both families. Classes have the order
of the file's `categories`; category ids may have gaps. If images have LVIS's `neg_category_ids`, these classes are
absent, annotated classes are present, and the others are unknown.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .listing import Annotations, DataError, Listing, few, found

if TYPE_CHECKING:
    from .settings import DataSettings

_FILES = ("annotations/instances_train2014.json", "annotations/instances_val2014.json")


def files(settings: DataSettings) -> list[Path]:
    folder = _folder(settings)
    return [folder / name for name in _FILES]


def read(settings: DataSettings) -> Annotations:
    folder = _folder(settings)
    parts = {"train": (_FILES[0], "train2014"), "test": (_FILES[1], "val2014")}
    return together(folder, {name: (Source(folder / file), images) for name, (file, images) in parts.items()}, settings)


def together(folder: Path, parts: dict[str, tuple[Source, str]], settings: DataSettings) -> Annotations:
    """The lists train, test and perhaps val, each from its annotation file and the folder of its images. Raises
    `DataError` if the files have different categories."""
    sources = {name: source for name, (source, _) in parts.items()}
    first = sources["train"]
    for source in sources.values():
        if list(source.categories.items()) != list(first.categories.items()):
            differing = sorted(f"{id}: {name}" for id, name in source.categories.items() ^ first.categories.items())
            raise DataError(
                f"{source.path}: its categories are not those of {first.path}, of which ids, names and order must be "
                f"the same; they differ in {few(differing) or 'their order'}"
            )
    lists = {name: source.listing(parts[name][1], settings) for name, source in sources.items()}
    notes = tuple(note for source in sources.values() for note in source.notes)
    more = tuple(name for key, source in sources.items() for name in source.names(parts[key][1], source.images))
    return Annotations(folder, tuple(first.categories.values()), lists, notes, more)


class Source:
    """One annotation file. Raises `DataError` if it cannot be read, or uses an id that it does not define."""

    def __init__(self, path: Path):
        from pycocotools.coco import COCO

        self.path, self.notes = path, []  # type: Path, list[str]
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints times
                self.coco = COCO(str(path))
            self.categories: dict[int, str] = {entry["id"]: str(entry["name"]) for entry in self._part("categories")}
            self.images: dict[int, dict[str, Any]] = {entry["id"]: entry for entry in self._part("images")}
            self.annotations = [(a["image_id"], a["category_id"], a) for a in self._part("annotations")]
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{error.lineno}: is no JSON: {error.msg}") from None
        except (OSError, UnicodeDecodeError, AssertionError) as error:
            raise DataError(f"{path}: cannot be read: {error}") from None
        except (KeyError, TypeError) as error:
            raise DataError(f"{path}: is no COCO annotation file: an entry lacks {error}") from None
        self._refuse_doubles("categories", self.categories)
        self._refuse_doubles("images", self.images)
        if len(set(self.categories.values())) < len(self.categories):
            raise DataError(f"{path}: several of its categories have the same name")
        for image, category, annotation in self.annotations:
            for kind, given, allowed in (("image", image, self.images), ("category", category, self.categories)):
                if given not in allowed:
                    raise DataError(
                        f"{path}: annotation {annotation.get('id')} has {kind}_id {given!r}, which is none of the "
                        f"file's; allowed are {few(list(allowed))}"
                    )

    def listing(self, images: str, settings: DataSettings) -> Listing:
        annotated = {image for image, _, _ in self.annotations}
        # The single-positive release sorts ids as texts.
        ids = sorted(annotated, key=str) if settings.images == "annotated" else list(self.images)
        row = {image: index for index, image in enumerate(ids)}
        column = {category: index for index, category in enumerate(self.categories)}
        partial = settings.unlisted == "unknown" or any("neg_category_ids" in entry for entry in self.images.values())
        labels = np.full((len(ids), len(column)), 0 if partial else -1, np.int8)
        for image in ids:
            negatives = self.images[image].get("neg_category_ids", [])
            if unknown := [category for category in negatives if category not in column]:
                raise DataError(
                    f"{self.path}: image {image} has neg_category_ids {few(unknown)}, which are no categories"
                )
            labels[row[image], [column[category] for category in negatives]] = -1
        boxes, without = [], 0
        for image, category, annotation in self.annotations:
            labels[row[image], column[category]] = 1
            entry = self.images[image]
            width, height = entry.get("width"), entry.get("height")
            if "bbox" in annotation and width and height:
                x, y, w, h = annotation["bbox"]
                boxes.append((row[image], column[category], x / width, y / height, (x + w) / width, (y + h) / height))
            else:
                without += 1
        if without:
            self.notes.append(f"{self.path.name}: {without} annotations have no box, or their image no size")
        if settings.images == "all" and len(annotated) < len(ids):
            self.notes.append(f"{self.path.name}: {len(ids) - len(annotated)} images have no annotation")
        return Listing(self.names(images, ids), labels, np.array(boxes, np.float64).reshape(-1, 6))

    def first_image(self) -> str:
        """The file name of the first image; empty if there is none."""
        return next((_file_name(entry, self.path) for entry in self.images.values()), "")

    def names(self, images: str, ids: Iterable[int]) -> tuple[str, ...]:
        return tuple(f"{images}/{_file_name(self.images[image], self.path)}".removeprefix("/") for image in ids)

    def _part(self, name: str) -> list[dict[str, Any]]:
        return self.coco.dataset[name]

    def _refuse_doubles(self, name: str, by_id: dict[int, Any]) -> None:
        if len(by_id) < len(self._part(name)):
            raise DataError(
                f"{self.path}: of its {len(self._part(name))} {name} only {len(by_id)} have ids of their own"
            )


def _file_name(image: dict[str, Any], path: Path) -> str:
    if "file_name" in image:
        return str(image["file_name"])
    if "coco_url" in image:  # LVIS: …/train2017/000000391895.jpg
        return "/".join(str(image["coco_url"]).split("/")[-2:])
    raise DataError(f"{path}: image {image['id']} has neither file_name nor coco_url")


def _folder(settings: DataSettings) -> Path:
    return found(settings.dataset, settings.root, _FILES, ("", "coco", "coco2014"))
