"""Small files of pictures, as a trial leaves them: what figures of them are developed and tested against."""

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
    return _npz(arrays | changes)


def completions(**changes: Any) -> bytes:
    """Two scenes of 40 × 40, likewise, with how their labels are completed.

    In the first the fire hydrant was given, the dining table is known not to be there, and of car, person, bicycle and
    banana the car is completed within the image, rightly; car and banana across images, of which the banana is wrong.
    In the second nothing is known, and nothing is completed.
    """
    rng = np.random.default_rng(0)
    together = np.full((2, 6, 6), 0.1, np.float32)
    together[0, [1, 0], [0, 1]] = 0.75
    together[:, range(6), range(6)] = 1
    given = np.array([[1, 0, 0, 0, 0, -1], [0] * 6], np.int8)
    within, across = np.where(given > 0, 1, together[:, 0]), np.full((2, 6), 0.25)
    within[1], across[0, [1, 4]] = 0, 0.875
    scores = np.stack([within, across], 1).astype(np.float32)
    thresholds = np.array([0.7, 0.8])
    arrays: dict[str, Any] = {
        "images": rng.integers(90, 140, size=(2, 3, 40, 40)).astype(np.uint8),
        "boxes": np.array(
            [[0, 0, 2, 3, 12, 20], [0, 1, 15, 5, 35, 18], [0, 1, 15, 5, 30, 30], [1, 2, 1, 1, 18, 12]], dtype=np.int32
        ),
        "classes": np.array(CLASSES),
        "given": given,
        "truth": np.array([[1, 1, 1, -1, -1, -1], [-1, -1, 1, -1, -1, -1]], dtype=np.int8),
        "cooccurrence": together,
        "rules": np.array(["intra", "inter"]),
        "scores": scores,
        "thresholds": thresholds,
        "completed": np.where((given == 0)[:, None] & (scores >= thresholds[:, None]), 1, given[:, None]),
    }
    return _npz(arrays | changes)


def attention(**changes: Any) -> bytes:
    """Two scenes of 40 × 40, likewise, with scores and maps of 2 × 2 of each class.

    The first has a fire hydrant and a car; held most likely are car, banana, fire hydrant, then person and bicycle, and
    the car is seen in the upper right. The second has nothing.
    """
    rng = np.random.default_rng(0)
    maps = np.full((2, 6, 2, 2), 0.1, np.float32)
    maps[0, 1] = [[0, 1], [0, 0]]
    arrays: dict[str, Any] = {
        "images": rng.integers(90, 140, size=(2, 3, 40, 40)).astype(np.uint8),
        "boxes": np.array([[0, 0, 2, 3, 12, 20], [0, 1, 15, 5, 35, 18]], dtype=np.int32),
        "classes": np.array(CLASSES),
        "truth": np.array([[1, 1, -1, -1, -1, -1], [-1] * 6], np.int8),
        "scores": np.array([[0.5, 0.9, 0.25, 0.2, 0.75, 0.1], [0.5] * 6], np.float32),
        "attention": maps,
    }
    return _npz(arrays | changes)


def similar(**changes: Any) -> bytes:
    """Four images of 40 × 40, likewise, of which the first and the last are scenes.

    In the first the fire hydrant is known and the car is hidden: the car is most similar to the second and third image,
    and becomes a label; the banana, which is not there, is most similar to the second alone. In the last nothing is
    unknown.
    """
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "images": rng.integers(90, 140, size=(4, 3, 40, 40)).astype(np.uint8),
        "boxes": np.array(
            [[0, 0, 2, 3, 12, 20], [0, 1, 15, 5, 35, 18], [1, 1, 1, 1, 18, 12], [1, 4, 5, 5, 9, 9], [2, 1, 4, 4, 8, 8]],
            dtype=np.int32,
        ),
        "classes": np.array(CLASSES),
        "given": np.array([[1, 0, -1, -1, 0, -1], [0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0], [-1] * 6], np.int8),
        "truth": np.array([[1, 1, *[-1] * 4], [-1, 1, -1, -1, 1, -1], [-1, 1, *[-1] * 4], [-1] * 6], np.int8),
        "query": np.array([0, 3]),
        "shown": np.array([[1, 4], [-1, -1]]),
        "mean": np.array([[0.875, 0.5], [np.nan] * 2]),
        "nearest": np.array([[[2, 1], [1, -1]], [[-1, -1]] * 2]),
        "cosine": np.array([[[1, 0.75], [0.5, np.nan]], [[np.nan] * 2] * 2]),
        "added": np.array([[True, False], [False, False]]),
    }
    return _npz(arrays | changes)


def _npz(arrays: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **{name: array for name, array in arrays.items() if array is not None})
    return content.getvalue()
