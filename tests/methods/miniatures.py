"""Miniature copies of the formats of real data sets, laid out as their downloads unpack, a few tiny images each.

`write(name, folder)` makes one and returns its root. Each has what makes its format awkward: category ids with gaps,
crowds, images without annotations, difficult objects, classes without positives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (40, 30)  # width and height in pixels
# By image id: annotations (category id, crowd or not), in the order of the file's images.
COCO_TRAIN = {
    9: [(1, 0), (44, 0)],
    10: [(44, 1)],
    2: [],
    100: [(90, 0), (90, 0)],
    31: [(1, 0)],
    4: [(1, 0), (90, 0)],
    55: [(44, 0)],
    8: [(90, 0)],
}
COCO_TEST = {3: [(1, 0)], 20: [(44, 0), (90, 0)], 7: [], 12: [(1, 1)]}
CATEGORIES = {1: "person", 90: "toothbrush", 44: "bottle", 13: "stop sign"}  # the last has no annotation
# By image: objects (class, difficult or not).
VOC_TRAIN = {
    "000005": [("chair", 0), ("chair", 1)],
    "000007": [("car", 1)],
    "000009": [("person", 0), ("horse", 0)],
    "000012": [("car", 0)],
    "000016": [("person", 1), ("bicycle", 0)],
    "000017": [("person", 0)],
}
VOC_TEST = {"000001": [("dog", 0), ("person", 0)], "000002": [("train", 1)], "000003": [("sofa", 0)]}


def write(name: str, folder: Path, **changes: Any) -> Path:
    """A miniature of a data set below `folder`; returns its root."""
    WRITERS[name](folder, **changes)
    return folder


def picture(path: Path, number: int = 0, size: tuple[int, int] = SIZE, **options: Any) -> None:
    """A smooth image that depends on `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    x, y = np.meshgrid(*(np.linspace(0, 1, side) for side in size))
    channels = [np.cos(3 * x + number), np.sin(4 * y + 2 * number), np.cos(2 * x * y - number)]
    Image.fromarray(np.uint8(127 + 120 * np.stack(channels, 2))).save(path, quality=95, **options)


def coco_json(
    path: Path,
    images: Mapping[int, Sequence[tuple[int, int]]],
    file_name: str = "{:012d}.jpg",
    categories: Mapping[int, str] = CATEGORIES,
    **extra: Any,
) -> None:
    width, height = SIZE
    entries = [
        {"id": id, "file_name": file_name.format(id), "width": width, "height": height, **extra.get("image", {})}
        for id in images
    ]
    annotations = [
        {"image_id": id, "category_id": category, "iscrowd": crowd, "bbox": [4, 6, 12.5, 10], "area": 1}
        for id, found in images.items()
        for category, crowd in found
    ]
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"images": entries, "annotations": annotations, "categories": _categories(categories)}
    path.write_text(json.dumps(content, indent=1))


def _categories(by_id: Mapping[int, str]) -> list[dict[str, Any]]:
    return [{"id": id, "name": name, "supercategory": "thing"} for id, name in by_id.items()]


def _coco2014(folder: Path, train: Any = COCO_TRAIN, test: Any = COCO_TEST) -> None:
    for part, images in (("train2014", train), ("val2014", test)):
        name = f"COCO_{part}_{{:012d}}.jpg"
        coco_json(folder / f"annotations/instances_{part}.json", images, name)
        for id in images:
            picture(folder / part / name.format(id), id)


def _own_coco(folder: Path, categories: Mapping[int, str] = {7: "zebra crossing", 3: "ant"}, **extra: Any) -> None:
    train = {id: [(7, 0)] * (id % 2) + [(3, 0)] * (id % 3 == 0) for id in range(1, 9)}
    for part, images in (("train", train), ("val", {id + 100: found for id, found in train.items()})):
        coco_json(folder / f"annotations/instances_{part}.json", images, "{}.png", categories, **extra)
        for id in images:
            picture(folder / "images" / part / f"{id}.png", id, (25, 60))


def voc_xml(path: Path, objects: Sequence[tuple[str, int]], size: tuple[int, int] = SIZE) -> None:
    things = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><part><name>head</name></part>"
        "<bndbox><xmin>5</xmin><ymin>7</ymin><xmax>20</xmax><ymax>15</ymax></bndbox></object>\n"
        for name, difficult in objects
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"<annotation>\n<filename>{path.stem}.jpg</filename>\n<size><width>{size[0]}</width><height>{size[1]}</height>"
        f"<depth>3</depth></size>\n{things}</annotation>\n"
    )


def voc(folder: Path, lists: Mapping[str, Mapping[str, Sequence[tuple[str, int]]]]) -> None:
    for name, images in lists.items():
        path = folder / f"ImageSets/Main/{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{image}\n" for image in images))
        for number, (image, objects) in enumerate(images.items()):
            voc_xml(folder / f"Annotations/{image}.xml", objects)
            picture(folder / f"JPEGImages/{image}.jpg", number)


def labels_csv(path: Path, rows: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("image,class,label\n" + "".join(f"{row}\n" for row in rows), encoding="utf-8")


def _labels_csv(folder: Path) -> None:
    train = ["b.png,sea,1", "b.png,boat,-1", "a.png,boat,+1", "c d.png,,", "b.png,sky,1", "e.png,sea,-1", "f.png,sky,1"]
    labels_csv(folder / "train.csv", train)
    labels_csv(folder / "test.csv", ["t/1.png,sea,1", "t/1.png,sky,-1", "t/2.png,boat,1"])
    for number, name in enumerate(["a", "b", "c d", "e", "f", "t/1", "t/2"]):
        picture(folder / f"{name}.png", number)


def relabel(name: str, folder: Path) -> None:
    """Exchange two classes in the annotations of a miniature."""
    one, other, pattern = {
        "coco2014": ('"category_id": 44', '"category_id": 90', "annotations/*.json"),
        "coco": ('"category_id": 3', '"category_id": 7', "annotations/*.json"),
        "labels_csv": ("sea", "sky", "*.csv"),
    }.get(name, ("person", "chair", "VOCdevkit/*/Annotations/*.xml"))
    for path in folder.glob(pattern):
        path.write_text(path.read_text().replace(one, "\0").replace(other, one).replace("\0", other))


WRITERS = {
    "coco2014": _coco2014,
    "voc2007": lambda folder: voc(folder / "VOCdevkit/VOC2007", {"trainval": VOC_TRAIN, "test": VOC_TEST}),
    "voc2012": lambda folder: voc(folder / "VOCdevkit/VOC2012", {"train": VOC_TRAIN, "val": VOC_TEST}),
    "coco": _own_coco,
    "labels_csv": _labels_csv,
}
