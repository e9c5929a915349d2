"""Data sets in files as pictures: their annotations read, their images decoded once, their training list split."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..contract.task import Split
from . import registry
from .image_cache import Cache
from .listing import Annotations, DataError, Listing, few
from .pictures import Pictures

if TYPE_CHECKING:
    from .settings import DataSettings

# Of the order from which validation images are taken, as in the single-positive release (datasets.py).
SPLIT_SEED = 1200


def pictures(settings: DataSettings) -> Pictures:
    """The pictures of a data set; images that are not decoded yet are, however long it takes.

    Raises `DataError` where something is not as it must be.
    """
    annotations = registry.reader(settings.dataset).read(settings)
    cache = cache_of(settings, annotations)
    if not cache.complete:
        _decode(cache, annotations)
    splits = {name: _split(cache, listing, settings) for name, listing in annotations.lists.items()}
    listed = splits["train"].labels
    if "val" in splits:
        return Pictures(annotations.classes, **splits, listed=listed, train_rows=np.arange(len(listed)), val_rows=None)
    rows, val_rows = split_rows(len(listed), settings.val_fraction)
    splits |= {"train": splits["train"].part(rows), "val": splits["train"].part(val_rows)}
    return Pictures(annotations.classes, **splits, listed=listed, train_rows=rows, val_rows=val_rows)


def cache_of(settings: DataSettings, annotations: Annotations) -> Cache:
    """The cache of a data set's images, whichever of them these settings list."""
    return Cache(settings.dataset, annotations.folder, annotations.images)


def split_rows(images: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Ascending rows of the official training list that are trained on, and those kept back for validation.

    As in the single-positive release (datasets.py, generate_split): the last of a permutation under seed 1200, their
    number `fraction` of all, rounded half to even as NumPy does.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(images)
    kept = images - int(np.round(fraction * images))
    return np.sort(order[:kept]), np.sort(order[kept:])


def missing(annotations: Annotations) -> list[str]:
    """Images of the lists that are not in the folder; folders are listed once, no file is opened."""
    there: dict[str, frozenset[str]] = {}
    absent = []
    for name in annotations.images:
        folder, _, file = name.rpartition("/")
        if folder not in there:
            place = annotations.folder / folder
            there[folder] = frozenset(path.name for path in place.iterdir()) if place.is_dir() else frozenset()
        if file not in there[folder]:
            absent.append(name)
    return absent


def prepare(settings: DataSettings, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
    """Everything found that can be wrong with a data set, and its images decoded if they are not yet; `progress` is
    told how many are, of how many.

    Raises `DataError` as `make_cache`.
    """
    annotations = registry.reader(settings.dataset).read(settings)
    cache = cache_of(settings, annotations)
    if not cache.complete:
        _decode(cache, annotations, progress=progress)


def make_cache(
    settings: DataSettings,
    before: Callable[[Cache], None] = lambda cache: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Cache, int]:
    """The cache of a data set, made, or completed, or verified and mended; and how many images were decoded.

    Raises `DataError`: for annotations, for images that are missing (all of them, before the first is decoded), for
    images that cannot be decoded (all of them, once the others are), for a full disk. `before` is called when nothing
    is written yet.
    """
    annotations = registry.reader(settings.dataset).read(settings)
    cache = cache_of(settings, annotations)
    return cache, _decode(cache, annotations, before, progress)


def _decode(
    cache: Cache,
    annotations: Annotations,
    before: Callable[[Cache], None] = lambda cache: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> int:
    if absent := missing(annotations):
        raise DataError(
            f"{cache.dataset}: {len(absent)} of {len(cache.names)} images are not in {annotations.folder}: "
            f"{few(absent)}"
        )
    before(cache)
    return cache.make(progress)


def _split(cache: Cache, listing: Listing, settings: DataSettings) -> Split:
    side = settings.image_size
    boxes = np.empty((len(listing.boxes), 6), np.int32)
    boxes[:, :2] = listing.boxes[:, :2]
    # Whole pixels that a box touches.
    boxes[:, 2:4] = np.floor((listing.boxes[:, 2:4] * side).round(6)).clip(0, side)
    boxes[:, 4:] = np.ceil((listing.boxes[:, 4:] * side).round(6)).clip(0, side)
    return Split(cache.images(listing.names, side), listing.labels, boxes, listing.names)
