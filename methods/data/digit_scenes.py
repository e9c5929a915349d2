"""Digit scenes, the embedded data set: coloured handwritten digits on a grey texture, made in seconds, no download.

It is a miniature of COCO: several objects per image, boxes, class names, and classes that occur together by theme. The
digits are the 1,797 handwritten ones of scikit-learn. They are divided between pre-training, train, val and test.

Each image has its own generator, seeded by (draw, split, index). So more test scenes change no other scene. The
division of the digits and the themes are the same in every draw.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import numpy as np
from scipy import ndimage

from ..contract.task import Split

COLOURS = {"red": (0.85, 0.15, 0.15), "blue": (0.15, 0.25, 0.85), "green": (0.15, 0.7, 0.2), "yellow": (0.9, 0.8, 0.1)}
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
# A class index is 10 * colour + digit, for scenes and crops alike.
CROP_CLASSES = tuple(f"{colour} {digit}" for colour in COLOURS for digit in DIGITS)
CLASSES = CROP_CLASSES[:20]  # red and blue: with one colour the task is too easy, with four too noisy

CANVAS, CROP = 48, 24  # pixels
SIZES = (12, 20)  # longer side of an object's box, in pixels, both ends included
ROTATION = 0.25  # radians, to either side
COLOUR_JITTER = 0.12  # standard deviation per channel, on a scale of 0 to 1; the next two have the same scale
TEXTURE, NOISE = 0.10, 0.05
PERIODS = ((16, 6), (32, 12))  # the texture's two waves: shortest and longest wavelength of each, in pixels
OVERLAP = 0.15  # maximal overlap of two boxes, as a share of the smaller one

SHARES = {"pretrain": 0.35, "train": 0.35, "val": 0.10, "test": 0.20}
LEAK = 0.15  # probability that an object ignores its scene's theme
# Probability of 1, 2, … 6 objects. A scene has 2.4 labels on average; equal probabilities would give 2.7.
OBJECTS = (0.20, 0.25, 0.20, 0.15, 0.10, 0.10)

_UPSCALING = 4  # factor for the 8 × 8 originals (cubic splines): boxes become more exact than one original pixel


def load(
    draw: int, train_images: int, val_images: int, test_images: int, max_objects: int = len(OBJECTS)
) -> tuple[tuple[str, ...], Split, Split, Split]:
    """The 20 class names, and the train, val and test splits of one draw. Draw 0 is for development, never reported."""
    return (
        CLASSES,
        scenes(draw, "train", train_images, max_objects),
        scenes(draw, "val", val_images, max_objects),
        scenes(draw, "test", test_images, max_objects),
    )


def scenes(draw: int, split: Literal["train", "val", "test"], count: int, max_objects: int = len(OBJECTS)) -> Split:
    """The first `count` scenes of a split: images (count, 3, 48, 48), labels (count, 20), boxes within the canvas.

    Scene i depends only on `draw`, `split`, i and `max_objects`, the largest number of objects. Boxes are tight and in
    the order of painting: where two overlap, the later one is on top. A class has label +1 if it has a box.
    """
    images = np.empty((count, 3, CANVAS, CANVAS), np.uint8)
    rows: list[tuple[int, ...]] = []
    for i in range(count):
        images[i], objects = _scene(_generator("scene", draw, split, i), instances()[split], OBJECTS[:max_objects])
        rows += [(i, *found) for found in objects]
    boxes = np.array(rows, np.int32).reshape(-1, 6)
    labels = np.full((count, len(CLASSES)), -1, np.int8)
    labels[boxes[:, 0], boxes[:, 1]] = 1
    return Split(images, labels, boxes, tuple(f"draw{draw}/{split}/{i:06d}" for i in range(count)))


def pretraining_crops(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Single centred digits for pre-training: images (count, 3, 24, 24) uint8 and labels (count,) int64 in 0 … 39.
    Labels are indices of `CROP_CLASSES`: four colours, of which scenes use two. Crop i depends only on i."""
    images = np.empty((count, 3, CROP, CROP), np.uint8)
    labels = np.empty(count, np.int64)
    for i in range(count):
        rng = _generator("crop", i)
        canvas = _background(rng, CROP)
        labels[i] = rng.integers(len(CROP_CLASSES))
        ink = _object(rng, labels[i] % 10, instances()["pretrain"])
        height, width = ink.shape
        _paint(canvas, ink, (CROP - width) // 2, (CROP - height) // 2, _colour(rng, labels[i] // 10))
        images[i] = _to_bytes(canvas)
    return images, labels


@lru_cache(maxsize=1)
def instances() -> dict[str, tuple[np.ndarray, ...]]:
    """The handwritten digits of pretrain, train, val and test: for each of them, rows of `load_digits` per digit. The
    parts are disjoint and complete, and each digit is divided in the same proportions."""
    rng = _generator("instances")
    ends = np.cumsum(list(SHARES.values()))[:-1]
    parts = []
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(_handwriting()[1] == digit))
        parts.append(np.split(rows, np.rint(ends * len(rows)).astype(int)))
    return dict(zip(SHARES, zip(*parts)))


@lru_cache(maxsize=1)
def themes() -> np.ndarray:
    """Eight themes of five classes that occur together, (8, 5) class indices. Each class is in two themes, so that all
    are equally frequent."""
    rng = _generator("themes")
    return np.concatenate([rng.permutation(len(CLASSES)).reshape(4, 5) for _ in range(2)])


def _scene(
    rng: np.random.Generator, rows: tuple[np.ndarray, ...], numbers: tuple[float, ...]
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """One image (3, 48, 48) uint8 and its objects (class, x0, y0, x1, y1). `numbers` are the weights of 1, 2, …
    objects."""
    canvas = _background(rng, CANVAS)
    count = 1 + rng.choice(len(numbers), p=np.divide(numbers, sum(numbers)))
    theme = themes()[rng.integers(8)]
    leaks = rng.random(count) < LEAK
    classes = np.where(leaks, rng.integers(len(CLASSES), size=count), rng.choice(theme, count))
    objects: list[tuple[int, ...]] = []
    for index in classes.tolist():
        ink = _object(rng, index % 10, rows)
        height, width = ink.shape
        corners = np.argwhere(_room(height, width, objects))
        if len(corners):  # else there is no place for the object (about 1 in 10,000)
            y, x = corners[rng.integers(len(corners))].tolist()
            _paint(canvas, ink, x, y, _colour(rng, index // 10))
            objects.append((index, x, y, x + width, y + height))
    return _to_bytes(canvas), objects


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """A background (3, side, side) float32 around 0.5: a coarse and a fine grey wave in random directions, and noise in
    each channel."""
    direction, phase = rng.uniform(0, 2 * np.pi, (2, 2, 1, 1)).astype(np.float32)
    frequency = (2 * np.pi / rng.uniform(*PERIODS)).astype(np.float32).reshape(2, 1, 1)
    x = np.arange(side, dtype=np.float32)
    waves = np.sin(frequency * (np.cos(direction) * x + np.sin(direction) * x[:, None]) + phase)  # (2, side, side)
    noise = rng.standard_normal((3, side, side), dtype=np.float32)
    return 0.5 + TEXTURE * waves.mean(0) + NOISE * noise


def _object(rng: np.random.Generator, digit: int, rows: tuple[np.ndarray, ...]) -> np.ndarray:
    """A handwritten digit of random size and rotation, cut to its box: ink (height, width) from 0 to 1 (opaque)."""
    ink = _handwriting()[0][rng.choice(rows[digit])]
    size, angle = rng.integers(*SIZES, endpoint=True), rng.uniform(-ROTATION, ROTATION)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = np.argwhere(ink > 0.5) @ turn.T
    low, high = turned.min(0) - 0.5, turned.max(0) + 0.5
    scale = (high - low).max() / size
    shape = np.maximum(np.rint((high - low) / scale), 1)
    # Maps a pixel of the box to its place in the original: scale about the middle of the box, then rotate back.
    start = (low + high) / 2 + (0.5 - shape / 2) * scale
    shape = tuple(shape.astype(int))
    # Mode "constant" would cut a hard edge where ink touches the border of the original, which is common.
    return ndimage.affine_transform(ink, scale * turn.T, turn.T @ start, shape, order=1, mode="grid-constant")


def _room(height: int, width: int, objects: list[tuple[int, ...]]) -> np.ndarray:
    """Where the upper left corner of a box may be, (48 - height + 1, 48 - width + 1) bool."""
    y, x = np.arange(CANVAS - height + 1), np.arange(CANVAS - width + 1)
    free = np.ones((len(y), len(x)), bool)
    for _, x0, y0, x1, y1 in objects:
        across = np.maximum(np.minimum(x + width, x1) - np.maximum(x, x0), 0)
        down = np.maximum(np.minimum(y + height, y1) - np.maximum(y, y0), 0)
        free &= np.outer(down, across) <= OVERLAP * min(height * width, (y1 - y0) * (x1 - x0))
    return free


def _colour(rng: np.random.Generator, colour: int) -> np.ndarray:
    """The colour (3,) of one object, with random jitter."""
    return np.array(list(COLOURS.values())[colour]) + rng.normal(0, COLOUR_JITTER, 3)


def _paint(canvas: np.ndarray, ink: np.ndarray, x: int, y: int, colour: np.ndarray) -> None:
    under = canvas[:, y : y + ink.shape[0], x : x + ink.shape[1]]
    under += ink * (colour[:, None, None] - under)


def _to_bytes(canvas: np.ndarray) -> np.ndarray:
    return np.rint(255 * canvas.clip(0, 1)).astype(np.uint8)


@lru_cache(maxsize=1)
def _handwriting() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: ink (1797, 32, 32) float32 from 0 to 1, and their digit (1797,)."""
    from sklearn.datasets import load_digits  # here, because it takes most of a second to import

    digits = load_digits()
    ink = [
        ndimage.zoom(image / 16, _UPSCALING, order=3, mode="grid-constant", grid_mode=True) for image in digits.images
    ]
    return np.clip(ink, 0, 1).astype(np.float32), digits.target


def _generator(*name: str | int) -> np.random.Generator:
    """A generator for one purpose: it does not depend on earlier draws."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
