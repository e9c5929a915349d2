"""A small file of pictures, as a trial leaves it: what a figure of them is developed and tested against."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

CLASSES = ("fire hydrant", "car", "person", "bicycle", "banana", "dining table")


def corrections(**changes: Any) -> bytes:
    """Two scenes of 40 × 40 in an npz file; `changes` replace arrays, None leaves one out.

    The first was given the fire hydrant, found the car (epoch 5) and the person (2), took a banana for positive (5),
    and has a bicycle that it never found. The second is what it was given: two cars.
    """
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "images": rng.integers(90, 140, size=(2, 3, 40, 40)).astype(np.uint8),
        "boxes": np.array(
            [
                *([0, 0, 2, 3, 12, 20], [0, 1, 15, 5, 35, 18], [0, 2, 20, 22, 28, 39], [0, 3, 4, 24, 16, 36]),
                *([1, 1, 1, 1, 18, 12], [1, 1, 20, 20, 39, 35]),
            ],
            dtype=np.int32,
        ),
        "classes": np.array(CLASSES),
        "given": np.array([[1, 0, 0, 0, 0, 0], [-1, 1, 0, 0, 0, 0]], dtype=np.int8),
        "truth": np.array([[1, 1, 1, 1, -1, -1], [-1, 1, -1, -1, -1, -1]], dtype=np.int8),
        "positive_since": np.array([[0, 5, 2, 0, 5, 0], [0] * 6], dtype=np.int16),
        "attention": np.array([[[7, 10], [25, 9], [26, 10], [-1, -1], [30, 30], [1, 1]], [[3, 3]] * 6], dtype=np.int16),
    }
    content = io.BytesIO()
    np.savez_compressed(content, **{name: array for name, array in (arrays | changes).items() if array is not None})
    return content.getvalue()
