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


VG_LABELS = {"1.jpg": [0, 199], "2.jpg": [3, 200, 499], "3.jpg": [], "7.jpg": [0], "9.jpg": [199], "4.jpg": [3]}


def _vg200(folder: Path) -> None:
    lists = {"train": ["7.jpg", "1.jpg", "3.jpg", "9.jpg"], "test": ["2.jpg", "4.jpg"]}
    for number, (part, names) in enumerate(lists.items()):
        path = folder / f"data/VG/{part}_list_500.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in names))
        for name in names:
            picture(folder / ("VG_100K_2" if name == "9.jpg" else "VG_100K") / name, number)
    (folder / "data/VG/vg_category_500_labels_index.json").write_text(json.dumps(VG_LABELS))


def _nus_wide(folder: Path) -> None:
    for part, first, number in (("train", 0, 5), ("val", 10, 3)):
        names = [f"actor/{first + image:04d}_1.jpg" for image in range(number)]
        labels = np.zeros((number, 81))
        labels[np.arange(number - 1), np.arange(number - 1) * 20] = 1  # the last image has no concept
        for image, name in enumerate(names):
            picture(folder / "Flickr" / name, image)
        np.save(folder / f"formatted_{part}_images.npy", np.array(names))
        np.save(folder / f"formatted_{part}_labels.npy", labels)


def _cub200(folder: Path) -> None:
    birds = folder / "CUB_200_2011"
    (birds / "attributes").mkdir(parents=True)
    (folder / "attributes.txt").write_text("1 has_bill_shape::curved (up or down)\n2 has_crest::yes\n3 has_tail::no\n")
    paths = [f"{kind:03d}.Bird/Bird_{kind}.jpg" for kind in range(1, 7)]
    (birds / "images.txt").write_text("".join(f"{n} {path}\n" for n, path in enumerate(paths, 1)))
    (birds / "train_test_split.txt").write_text("".join(f"{n} {int(n not in (2, 5))}\n" for n in range(1, 7)))
    rows = [f"{n} {attribute} {(n + attribute) % 2} 3 1.25\n" for n in range(1, 7) for attribute in (1, 2, 3)]
    rows[4] = "2 2 0 3 0 1.5 1.5\n"  # as some lines of the download
    (birds / "attributes/image_attribute_labels.txt").write_text("".join(rows))
    for number, path in enumerate(paths):
        picture(birds / "images" / path, number)


def _open_images(folder: Path) -> None:
    (folder / "2017_11").mkdir(parents=True)
    (folder / "2017_11/classes-trainable.txt").write_text("/m/01\n/m/02\n/m/0c\n")
    (folder / "2017_11/class-descriptions.csv").write_text('/m/01,Sea\n/m/02,"Dog, wet"\n/m/09,Car\n/m/0c,Tree\n')
    for first, part in ((0xF0, "train"), (0x20, "validation"), (0x30, "test")):
        path = folder / f"2017_11/{part}/annotations-human.csv"
        path.parent.mkdir()
        ids = [f"{first + number:016x}" for number in (2, 0, 1, 3)]
        rows = [
            f"{ids[0]},verification,/m/02,1", f"{ids[1]},verification,/m/01,0", f"{ids[0]},crowdsource,/m/0c,0",
            f"{ids[2]},verification,/m/01,1.0", f"{ids[3]},verification,/m/09,1", f"{ids[1]},verification,/m/0c,1",
        ]  # fmt: skip
        path.write_text("ImageID,Source,LabelName,Confidence\n" + "".join(f"{row}\n" for row in rows))
        for number, id in enumerate(ids):
            picture(folder / ("train_0" if part == "train" else part) / f"{id}.jpg", number)


def relabel(name: str, folder: Path) -> None:
    """Exchange two classes in the annotations of a miniature."""
    one, other, pattern = {
        "coco2014": ('"category_id": 44', '"category_id": 90', "annotations/*.json"),
        "coco": ('"category_id": 3', '"category_id": 7', "annotations/*.json"),
        "labels_csv": ("sea", "sky", "*.csv"),
        "vg200": ("199", "3", "data/VG/*.json"),
        "cub200": (" 2 1 3", " 2 0 3", "CUB_200_2011/attributes/*.txt"),
        "open_images_v3": ("/m/01", "/m/0c", "2017_11/*/*.csv"),
    }.get(name, ("person", "chair", "VOCdevkit/*/Annotations/*.xml"))
    if name == "nus_wide":
        labels = np.load(folder / "formatted_train_labels.npy")
        np.save(folder / "formatted_train_labels.npy", labels[:, ::-1])
    for path in folder.glob(pattern):
        path.write_text(path.read_text().replace(one, "\0").replace(other, one).replace("\0", other))


WRITERS = {
    "coco2014": _coco2014,
    "voc2007": lambda folder: voc(folder / "VOCdevkit/VOC2007", {"trainval": VOC_TRAIN, "test": VOC_TEST}),
    "voc2012": lambda folder: voc(folder / "VOCdevkit/VOC2012", {"train": VOC_TRAIN, "val": VOC_TEST}),
    "coco": _own_coco,
    "vg200": _vg200,
    "nus_wide": _nus_wide,
    "cub200": _cub200,
    "open_images_v3": _open_images,
    "labels_csv": _labels_csv,
}
