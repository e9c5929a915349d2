"""Loads data sets in files: reads annotations, decodes images once, and splits the training list."""

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

# Seed of the order in which validation images are taken, as in the single-positive release (datasets.py).
SPLIT_SEED = 1200


def pictures(settings: DataSettings) -> Pictures:
    """The splits of a data set. Images that are not decoded yet are decoded first, which can take long. Raises
    `DataError` for missing or wrong files."""
    annotations, cache = prepare(settings)
    splits = {name: _split(cache, listing, settings) for name, listing in annotations.lists.items()}
    listed = splits["train"].labels
    if "val" in splits:
        return Pictures(annotations.classes, **splits, listed=listed, train_rows=np.arange(len(listed)), val_rows=None)
    rows, val_rows = split_rows(len(listed), settings.val_fraction)
    splits |= {"train": splits["train"].part(rows), "val": splits["train"].part(val_rows)}
    return Pictures(annotations.classes, **splits, listed=listed, train_rows=rows, val_rows=val_rows)


def _opened(settings: DataSettings) -> tuple[Annotations, Cache]:
    """A data set, and the cache of all of its images, also of those that these settings do not list."""
    annotations = registry.reader(settings.dataset).read(settings)
    return annotations, Cache(settings.dataset, annotations.folder, annotations.images)


def split_rows(images: int, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Ascending rows of the official training list: those for training and those for validation.

    As in the single-positive release (datasets.py, generate_split): validation takes the last images of a permutation
    with seed 1200. Their number is `fraction` of all, rounded half to even, as NumPy does.
    """
    order = np.random.RandomState(SPLIT_SEED).permutation(images)
    kept = images - int(np.round(fraction * images))
    return np.sort(order[:kept]), np.sort(order[kept:])


def missing(annotations: Annotations) -> list[str]:
    """Images of the lists that are not in the folder. It lists each folder once and opens no file."""
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


def prepare(
    settings: DataSettings, progress: Callable[[int, int], None] = lambda done, of: None
) -> tuple[Annotations, Cache]:
    """Check a data set and decode its images, if this is not done yet. `progress` gets the number of decoded images and
    their total. Raises `DataError` like `make_cache`."""
    annotations, cache = _opened(settings)
    if not cache.complete:
        _decode(cache, annotations, progress=progress)
    return annotations, cache


def make_cache(
    settings: DataSettings,
    before: Callable[[Cache], None] = lambda cache: None,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[Cache, int]:
    """The image cache of a data set, made, completed or repaired, and the number of images that were decoded.

    Raises `DataError` for wrong annotations, for missing images (all of them, before any image is decoded), for images
    that cannot be decoded (all of them, after the others), and for a full disk. `before` is called before the first
    write.
    """
    annotations, cache = _opened(settings)
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
    # A box in whole pixels: all pixels that it touches.
    boxes[:, 2:4] = np.floor((listing.boxes[:, 2:4] * side).round(6)).clip(0, side)
    boxes[:, 4:] = np.ceil((listing.boxes[:, 4:] * side).round(6)).clip(0, side)
    return Split(cache.images(listing.names, side), listing.labels, boxes, listing.names)
