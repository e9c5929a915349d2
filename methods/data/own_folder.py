"""Reader of the user's own folder in the layout of COCO or VOC: finds the files in it. `coco` and `voc` read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from . import coco, voc
from .listing import Annotations, DataError, few, found

if TYPE_CHECKING:
    from .settings import DataSettings

_VOC_LISTS = (("trainval", "test"), ("train", "val"), ("train", "test"))


def files(settings: DataSettings) -> list[Path]:
    folder = _folder(settings)
    if _is_voc(folder):
        return voc.used(folder, _voc_lists(folder))
    return list(_annotation_files(folder).values())


def read(settings: DataSettings) -> Annotations:
    folder = _folder(settings)
    if _is_voc(folder):
        return voc.together(folder, _voc_lists(folder), settings, classes=None)
    sources = {name: coco.Source(path) for name, path in _annotation_files(folder).items()}
    parts = {name: (source, _images(folder, source)) for name, source in sources.items()}
    return coco.together(folder, parts, settings)


def _annotation_files(folder: Path) -> dict[str, Path]:
    """The JSON file of each list. If only one of val and test is there, it is the test list."""
    there = sorted((folder / "annotations").glob("*.json"))
    named = {word: [path for path in there if word in path.stem.lower()] for word in ("train", "val", "test")}
    for word, paths in named.items():
        if len(paths) > 1:
            raise DataError(
                f"{folder / 'annotations'}: {few([path.name for path in paths])} all have {word!r} in their names; "
                "allowed is one file of each list, such as instances_train.json and instances_val.json"
            )
    if not named["train"] or not (named["val"] or named["test"]):
        raise DataError(
            f"{folder / 'annotations'}: has {few([path.name for path in there]) or 'no JSON file'}; allowed is one "
            "with 'train' in its name and one with 'val' or 'test', such as instances_train.json and instances_val.json"
        )
    by_list = {"train": named["train"][0], "test": (named["test"] or named["val"])[0]}
    return by_list | ({"val": named["val"][0]} if named["test"] and named["val"] else {})


def _images(folder: Path, annotations: coco.Source) -> str:
    """The folder of the images of an annotation file instances_NAME.json, relative to `folder`: NAME, images/NAME,
    images, or `folder` itself."""
    name = annotations.path.stem.rpartition("_")[2]
    candidates = [name, f"images/{name}", "images", ""]
    first = annotations.first_image()
    for candidate in candidates:
        if (folder / candidate / first).is_file():
            return candidate
    # Perhaps only the first image is missing. A later check names all missing images.
    return next((candidate for candidate in candidates if (folder / candidate).is_dir()), "")


def _voc_lists(folder: Path) -> tuple[str, str]:
    for lists in _VOC_LISTS:
        if all((folder / f"ImageSets/Main/{name}.txt").is_file() for name in lists):
            return lists
    raise DataError(
        f"{folder / 'ImageSets/Main'}: has no pair of lists; allowed is trainval.txt with test.txt, or train.txt with "
        "val.txt or test.txt"
    )


def _is_voc(folder: Path) -> bool:
    return (folder / "ImageSets/Main").is_dir()


def _folder(settings: DataSettings) -> Path:
    try:
        return found(settings.dataset, settings.root, ["annotations"])
    except DataError as error:
        if settings.root and Path(settings.root).is_dir():
            for folder in (Path(settings.root), *sorted(Path(settings.root).glob("VOCdevkit/*"))):
                if _is_voc(folder):
                    return folder.absolute()
            raise DataError(f"{error}; a folder in the layout of VOC has ImageSets/Main and Annotations") from None
        raise
