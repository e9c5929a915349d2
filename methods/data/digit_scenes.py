"""Digit scenes, the embedded data set: coloured handwritten digits on a grey texture, made in seconds, no download.

A miniature of COCO: several objects an image, boxes, names, and classes that occur together by theme. Its pictures are
scikit-learn's 1,797 handwritten digits, divided once and for all between pre-training, train, val and test.

Every image comes from its own generator, named by (draw, split, index): more test scenes change no other scene. The
division of the digits and the themes belong to the data set and are the same in every draw.
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
# A class index is 10 * colour + digit, so a scene's label means the same digit and colour as a crop's.
CROP_CLASSES = tuple(f"{colour} {digit}" for colour in COLOURS for digit in DIGITS)
CLASSES = CROP_CLASSES[:20]  # red and blue: with one colour the task is too easy, with four too noisy

CANVAS, CROP = 48, 24  # pixels
SIZES = (12, 20)  # longer side of an object's box, in pixels, both ends included
ROTATION = 0.25  # radians, to either side
COLOUR_JITTER = 0.12  # standard deviation per channel, on a scale of 0 to 1, as the next two
TEXTURE, NOISE = 0.10, 0.05
PERIODS = ((16, 6), (32, 12))  # the texture's two waves: shortest and longest wavelength of each, in pixels
OVERLAP = 0.15  # of the smaller of two boxes, at most

SHARES = {"pretrain": 0.35, "train": 0.35, "val": 0.10, "test": 0.20}
LEAK = 0.15  # probability that an object ignores its scene's theme
# Probability of 1, 2, … 6 objects. Falls with the number so that a scene has 2.4 labels; uniform would give 2.7.
OBJECTS = (0.20, 0.25, 0.20, 0.15, 0.10, 0.10)

_UPSCALING = 4  # of the 8 × 8 originals, by cubic splines, so that a box can be cut closer than one of their pixels


def load(
    draw: int, train_images: int, val_images: int, test_images: int, max_objects: int = len(OBJECTS)
) -> tuple[tuple[str, ...], Split, Split, Split]:
    """The 20 class names and the train, val and test splits of one draw; draw 0 is for development, never reported."""
    return (
        CLASSES,
        scenes(draw, "train", train_images, max_objects),
        scenes(draw, "val", val_images, max_objects),
        scenes(draw, "test", test_images, max_objects),
    )


def scenes(draw: int, split: Literal["train", "val", "test"], count: int, max_objects: int = len(OBJECTS)) -> Split:
    """The first `count` scenes of a split: images (count, 3, 48, 48), labels (count, 20), boxes within the canvas.

    Scene i depends on `draw`, `split`, i and `max_objects` alone: numbers of objects above it are never drawn.
    Boxes enclose an object tightly, in the order of painting: where two overlap, the later one lies on top. A class is
    labelled +1 exactly where it has a box.
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

    Labels index `CROP_CLASSES`: four colours, two of which no scene has. Crop i depends on i alone.
    """
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
    """Which handwritten digits each purpose may use: for pretrain, train, val and test, rows of `load_digits` per
    digit.

    Disjoint, complete, and with every digit divided in the same proportions.
    """
    rng = _generator("instances")
    ends = np.cumsum(list(SHARES.values()))[:-1]
    parts = []
    for digit in range(10):
        rows = rng.permutation(np.flatnonzero(_handwriting()[1] == digit))
        parts.append(np.split(rows, np.rint(ends * len(rows)).astype(int)))
    return dict(zip(SHARES, zip(*parts)))


@lru_cache(maxsize=1)
def themes() -> np.ndarray:
    """(8, 5) class indices: the classes that occur together. Every class is in two themes, so all are equally
    frequent."""
    rng = _generator("themes")
    return np.concatenate([rng.permutation(len(CLASSES)).reshape(4, 5) for _ in range(2)])


def _scene(
    rng: np.random.Generator, rows: tuple[np.ndarray, ...], numbers: tuple[float, ...]
) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """One image (3, 48, 48) uint8 and its objects (class, x0, y0, x1, y1), 1, 2, … of them as often as `numbers` says
    in proportion."""
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
        if len(corners):  # else the scene is full and the object stays out: about 1 in 10,000
            y, x = corners[rng.integers(len(corners))].tolist()
            _paint(canvas, ink, x, y, _colour(rng, index // 10))
            objects.append((index, x, y, x + width, y + height))
    return _to_bytes(canvas), objects


def _background(rng: np.random.Generator, side: int) -> np.ndarray:
    """(3, side, side) float32 around 0.5: a coarse and a fine grey wave in any direction, and noise in every
    channel."""
    direction, phase = rng.uniform(0, 2 * np.pi, (2, 2, 1, 1)).astype(np.float32)
    frequency = (2 * np.pi / rng.uniform(*PERIODS)).astype(np.float32).reshape(2, 1, 1)
    x = np.arange(side, dtype=np.float32)
    waves = np.sin(frequency * (np.cos(direction) * x + np.sin(direction) * x[:, None]) + phase)  # (2, side, side)
    noise = rng.standard_normal((3, side, side), dtype=np.float32)
    return 0.5 + TEXTURE * waves.mean(0) + NOISE * noise


def _object(rng: np.random.Generator, digit: int, rows: tuple[np.ndarray, ...]) -> np.ndarray:
    """The ink (height, width) of a digit in some hand, size and rotation, cut to its box; 0 is none, 1 covers all."""
    ink = _handwriting()[0][rng.choice(rows[digit])]
    size, angle = rng.integers(*SIZES, endpoint=True), rng.uniform(-ROTATION, ROTATION)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    turned = np.argwhere(ink > 0.5) @ turn.T
    low, high = turned.min(0) - 0.5, turned.max(0) + 0.5
    scale = (high - low).max() / size
    shape = np.maximum(np.rint((high - low) / scale), 1)
    # From a pixel's centre in the box to its place in the original: scale about the box's middle, then turn back.
    start = (low + high) / 2 + (0.5 - shape / 2) * scale
    shape = tuple(shape.astype(int))
    # Plain "constant" would cut a hard edge where ink touches the original's border, which it often does.
    return ndimage.affine_transform(ink, scale * turn.T, turn.T @ start, shape, order=1, mode="grid-constant")


def _room(height: int, width: int, objects: list[tuple[int, ...]]) -> np.ndarray:
    """(48 - height + 1, 48 - width + 1) bool: where a box may have its upper left corner."""
    y, x = np.arange(CANVAS - height + 1), np.arange(CANVAS - width + 1)
    free = np.ones((len(y), len(x)), bool)
    for _, x0, y0, x1, y1 in objects:
        across = np.maximum(np.minimum(x + width, x1) - np.maximum(x, x0), 0)
        down = np.maximum(np.minimum(y + height, y1) - np.maximum(y, y0), 0)
        free &= np.outer(down, across) <= OVERLAP * min(height * width, (y1 - y0) * (x1 - x0))
    return free


def _colour(rng: np.random.Generator, colour: int) -> np.ndarray:
    """(3,) channels of one object: its colour, jittered."""
    return np.array(list(COLOURS.values())[colour]) + rng.normal(0, COLOUR_JITTER, 3)


def _paint(canvas: np.ndarray, ink: np.ndarray, x: int, y: int, colour: np.ndarray) -> None:
    under = canvas[:, y : y + ink.shape[0], x : x + ink.shape[1]]
    under += ink * (colour[:, None, None] - under)


def _to_bytes(canvas: np.ndarray) -> np.ndarray:
    return np.rint(255 * canvas.clip(0, 1)).astype(np.uint8)


@lru_cache(maxsize=1)
def _handwriting() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits: ink (1797, 32, 32) float32 in 0 … 1, and which digit each is (1797,)."""
    from sklearn.datasets import load_digits  # here, because it takes most of a second to import

    digits = load_digits()
    ink = [
        ndimage.zoom(image / 16, _UPSCALING, order=3, mode="grid-constant", grid_mode=True) for image in digits.images
    ]
    return np.clip(ink, 0, 1).astype(np.float32), digits.target


def _generator(*name: str | int) -> np.random.Generator:
    """A generator of its own for every name, whatever was drawn before."""
    digest = hashlib.sha256("/".join(map(str, name)).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "little")))
