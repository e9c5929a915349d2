"""A report for people on a data set in files, compared with the papers' numbers. Decodes no image."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from ..contract.task import chunks, count
from . import registry
from .in_files import missing
from .listing import DataError, Listing, few

if TYPE_CHECKING:
    from .settings import DataSettings

# Numbers of classes and images in the released code. COCO has one entry for each value of `data.images`.
SIZES = {
    "coco2014": {"classes": 80, "train": 82_783, "test": 40_504},
    "coco2014, annotated": {"classes": 80, "train": 82_081, "test": 40_137},
    "voc2007": {"classes": 20, "train": 5_011, "test": 4_952},
    "voc2012": {"classes": 20, "train": 5_717, "test": 5_823},
    "vg200": {"classes": 200, "train": 82_904, "test": 10_000},
    "nus_wide": {"classes": 81, "train": 150_000, "test": 60_260},
    "cub200": {"classes": 312, "train": 5_994, "test": 5_794},
    "open_images_v3": {"classes": 5_000},
}


def check(settings: DataSettings) -> tuple[str, bool]:
    """A report on a data set, and whether all of its images are there. Raises `DataError` for wrong annotations."""
    annotations = registry.reader(settings.dataset).read(settings)
    expected = SIZES.get(settings.dataset + ", annotated" * (settings.images == "annotated")) or {}
    absent = missing(annotations)
    lines = [f"{settings.dataset} in {annotations.folder}"]
    lines.append(f"  classes  {len(annotations.classes):,}{_papers(len(annotations.classes), expected.get('classes'))}")
    for name, listing in annotations.lists.items():
        if not len(listing):
            raise DataError(f"{annotations.folder}: the {name} list has no image")
        lines.append(f"  {name:<7}  {len(listing):,} images{_papers(len(listing), expected.get(name))}")
        lines.append(f"           {_counts(listing.labels)}")
        lines.append(f"           sha256 of the label matrix (int8, in this order): {checksum(listing)}")
        empty = [annotations.classes[k] for k in np.flatnonzero(count(listing.labels, 1) == 0)]
        if empty:
            lines.append(f"           {len(empty)} classes without a positive, left out of its mAP: {few(empty, 10)}")
    lines += [f"  note     {note}" for note in annotations.notes]
    found = f"{len(absent):,} of {len(annotations.images):,} images: {few(absent, 10)}" if absent else "none"
    return "\n".join([*lines, f"  missing  {found}"]), not absent


def checksum(listing: Listing) -> str:
    """SHA-256 of the label matrix (N, K) int8, row by row."""
    total = hashlib.sha256()
    for part in chunks(listing.labels):
        total.update(part.tobytes())
    return total.hexdigest()


def _papers(size: int, expected: int | None) -> str:
    if expected is None:
        return ""
    return " (as the papers have)" if size == expected else f" (the papers have {expected:,})"


def _counts(labels: np.ndarray) -> str:
    positives = count(labels, 1).sum()
    known = positives + count(labels, -1).sum()
    return (
        f"{positives:,} positives ({positives / max(len(labels), 1):.3f} an image), {known - positives:,} negatives, "
        f"{labels.size - known:,} unknown"
    )
