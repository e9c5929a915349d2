"""What all readers of data sets in files share: the form of their results, the search for the folder, and their error.

No format is read here, and no image is decoded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..contract.errors import UserError


class DataError(UserError):
    """Missing or wrong files of a data set. The text says what is wrong, where, and what is allowed."""


@dataclass(frozen=True)
class Listing:
    """A list of images with their labels, in the official order, in which masks are drawn.

    `names`: N paths relative to the data set's folder. `labels` (N, K) int8: +1, -1, or 0 if the data set does not say.
    `boxes` (M, 6) float64: rows of (image, class, x0, y0, x1, y1), edges as shares of the image's width and height.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Annotations:
    """A data set without its pixels: its official `lists` train, test and perhaps val. Without a val list, val is split
    from train. `notes` tell people what was left out. `more` are images that other settings would list."""

    folder: Path
    classes: tuple[str, ...]
    lists: Mapping[str, Listing]
    notes: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    @property
    def images(self) -> tuple[str, ...]:
        """All images, each once, in an order that does not depend on the settings."""
        return tuple(sorted({*self.more, *(name for listing in self.lists.values() for name in listing.names)}))


NO_BOXES = np.empty((0, 6))


def found(dataset: str, root: str | None, needed: Sequence[str], inside: Iterable[str] = ("",)) -> Path:
    """The folder with all files `needed`: `root` (or SWEEPER_DATA/NAME, or SWEEPER_DATA), or one of `inside` below it.
    Raises `DataError` with the places that were searched."""
    everything = os.environ.get("SWEEPER_DATA")
    roots = [Path(root)] if root else [Path(everything, dataset), Path(everything)] if everything else []
    if not roots:
        raise DataError(
            f"{dataset}: nothing says where it is; set data.root (--root DIR), or SWEEPER_DATA to a folder with "
            f"{dataset} in it"
        )
    places = [place / part for place in roots for part in inside]
    for place in places:
        if all((place / name).exists() for name in needed):
            return place.absolute()
    looked = ", ".join(str(place) for place in places if place.is_dir()) or f"{roots[0]}, which is no folder"
    raise DataError(
        f"{dataset}: {' and '.join(needed)} are looked for, and not found together in {looked}; data.root (--root DIR) "
        "is the folder into which the downloads were unpacked"
    )


def few(items: Sequence[object], most: int = 5) -> str:
    """A text for people: the first few items, and the number of the others."""
    shown = ", ".join(map(str, items[:most]))
    return f"{shown}, and {len(items) - most} more" if len(items) > most else shown


def lines(path: Path) -> list[str]:
    """The lines of a text file without line ends. Raises `DataError` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
