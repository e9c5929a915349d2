"""What every data set becomes: splits of images with true labels and boxes, and labels as given to training.

Nothing here reads files or draws scenes; the readers beside it do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Split:
    """Images with their full annotation.

    `images` (N, 3, H, W) uint8; `labels` (N, K) int8, +1 where the class is in the image, else -1; `boxes` (M, 6) int32
    rows of (image index, class index, x0, y0, x1, y1), in pixels, x1 and y1 exclusive; `names` N image names.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Task:
    """A data set with its labels as given to training.

    `observed` (N_train, K) and `observed_val` (N_val, K) int8: +1 known positive, -1 known negative, 0 unknown.
    """

    dataset: str
    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    observed: np.ndarray
    observed_val: np.ndarray

    @property
    def num_classes(self) -> int:
        return len(self.classes)
