"""What every data set becomes: splits of images with true labels and boxes, and labels as given to training.

Nothing here reads files or draws scenes; the readers beside it do.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np


def chunks(labels: np.ndarray) -> list[np.ndarray]:
    """Views of labels (N, K) by rows, of 64 MB or so: those of OpenImages are too large to look at in one go."""
    return np.array_split(labels, labels.size // 2**26 + 1)


def count(labels: np.ndarray, value: int) -> np.ndarray:
    """How often each class has a value, (K,) int64."""
    return np.sum([(part == value).sum(axis=0) for part in chunks(labels)], axis=0)


@dataclass(frozen=True)
class Split:
    """Images with their full annotation.

    `images` (N, 3, H, W) uint8, an array or what reads them when it is indexed like one; `labels` (N, K) int8, +1 where
    the class is in the image, else -1, and 0 where the data set itself does not say; `boxes` (M, 6) int32
    rows of (image index, class index, x0, y0, x1, y1), in pixels, x1 and y1 exclusive; `names` N image names.
    """

    images: Any
    labels: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: np.ndarray) -> Split:
        """The images `rows` (M,), ascending int64, as a split of their own."""
        boxes = self.boxes[np.isin(self.boxes[:, 0], rows)]
        boxes[:, 0] = np.searchsorted(rows, boxes[:, 0])
        images = self.images[rows] if isinstance(self.images, np.ndarray) else self.images.part(rows)
        return Split(images, self.labels[rows], boxes, tuple(self.names[row] for row in rows))


@dataclass(frozen=True)
class Task:
    """A data set with its labels as given to training.

    `observed` (N_train, K) and `observed_val` (N_val, K) int8: +1 known positive, -1 known negative, 0 unknown.
    `train` has only the images that are trained on; `train_rows` (N_train,) int64 says which they are of the data set's
    training images. `word_vectors` (K, W) float32 are those of the classes' names.
    """

    dataset: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    observed: np.ndarray
    observed_val: np.ndarray
    train_rows: np.ndarray
    word_vectors: np.ndarray

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @functools.cached_property
    def annotations(self) -> np.ndarray:
        """How many labels of each class are given to training, (K,) int64."""
        return count(self.observed, 1) + count(self.observed, -1)
