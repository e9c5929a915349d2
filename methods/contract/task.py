"""The common form of all data sets: splits of images with true labels and boxes, and the labels given to training.

Nothing here reads files or draws scenes; the readers in `methods.data` do.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np


def chunks(labels: np.ndarray) -> list[np.ndarray]:
    """Views of labels (N, K), split by rows into parts of about 64 MB, because OpenImages' labels are too large."""
    return np.array_split(labels, labels.size // 2**26 + 1)


def count(labels: np.ndarray, value: int) -> np.ndarray:
    """How often `value` occurs among the labels of each class, (K,) int64."""
    return np.sum([(part == value).sum(axis=0) for part in chunks(labels)], axis=0)


@dataclass(frozen=True)
class Split:
    """Images with their full annotation.

    `images` (N, 3, H, W) uint8: an array, or an object that reads images when it is indexed like an array. `labels`
    (N, K) int8: +1 if the class is in the image, -1 if not, 0 if the data set does not say. `boxes` (M, 6) int32: rows
    of (image index, class index, x0, y0, x1, y1) in pixels, x1 and y1 exclusive. `names`: N image names.
    """

    images: Any
    labels: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, rows: np.ndarray) -> Split:
        """A split of the images in `rows` (M,) int64, which must ascend."""
        boxes = self.boxes[np.isin(self.boxes[:, 0], rows)]
        boxes[:, 0] = np.searchsorted(rows, boxes[:, 0])
        images = self.images[rows] if isinstance(self.images, np.ndarray) else self.images.part(rows)
        return Split(images, self.labels[rows], boxes, tuple(self.names[row] for row in rows))


@dataclass(frozen=True)
class Task:
    """A data set with the labels that are given to training.

    `observed` (N_train, K) and `observed_val` (N_val, K) int8: +1 known positive, -1 known negative, 0 unknown.
    `train` has only the images that are trained on; `train_rows` (N_train,) int64 are their rows among all training
    images of the data set. `word_vectors` (K, W) float32 are the vectors of the class names.
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
        """The number of known training labels of each class, (K,) int64."""
        return count(self.observed, 1) + count(self.observed, -1)
