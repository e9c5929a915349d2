"""Data sets: their readers, their image cache, and the label regimes. Each data set becomes one `Task`.

Losses, networks and soft labels do not belong here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ..contract.task import Split, Task, chunks
from . import digit_scenes, label_regimes, registry
from .pictures import Pictures
from .settings import DataSettings
from .word_vectors import MADE, class_vectors

# Seed of the order in which `train_fraction` takes training images: the same for all trials, as in the single-positive
# release (datasets.py, ss_seed).
SUBSET_SEED = 999


def load(settings: DataSettings) -> Task:
    """The task of fully resolved settings (`mask_seed` and `draw` are numbers). The images of the last few data sets
    are kept in this process; they are shared by all label regimes."""
    pictures = _pictures(pictures_only(settings))
    train, val = pictures.train, pictures.val
    given = _observed(pictures.listed, settings)
    if pictures.val_rows is None:  # no copy: the labels of OpenImages are too large for the memory
        observed, observed_val = given, _observed(val.labels, settings)
    else:
        observed, observed_val = given[pictures.train_rows], given[pictures.val_rows]
    rows = _train_rows(len(train), settings.train_fraction)
    if len(rows) < len(train):
        train, observed = train.part(rows), observed[rows]
    vectors = class_vectors(pictures.classes, settings.vectors)
    return Task(settings.dataset, pictures.classes, train, val, pictures.test, observed, observed_val, rows, vectors)


def prepare(settings: DataSettings, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
    """Check the files of a data set and decode its images, if this is not done yet. `progress` gets the number of
    decoded images and their total. Raises `DataError`, and `SettingError` for word vectors that lack a class."""
    if settings.dataset != registry.EMBEDDED:
        registry.module("in_files").prepare(settings, progress)
        if settings.word_vectors not in MADE:
            class_vectors(_pictures(pictures_only(settings)).classes, settings.vectors)


def pictures_only(settings: DataSettings) -> DataSettings:
    """Equal settings for all settings with the same images: those of the labels are set to fixed values.

    `train_fraction` is one of them. A label budget counts labels; what is computed from images without labels
    (features, batch-norm statistics) uses all training images, once for all budgets.
    """
    return dataclasses.replace(
        settings,
        labels="full",
        known=1.0,
        annotated=1.0,
        tail_exponent=0.0,
        positive_bias=1.0,
        mask_seed=None,
        train_fraction=1.0,
        word_vectors="one_hot",
        val_labels="clean",
    )


def _train_rows(images: int, fraction: float) -> np.ndarray:
    """Ascending rows of a `fraction` of the training images: the nearest whole number, at least one."""
    order = np.random.RandomState(SUBSET_SEED).permutation(images)
    return np.sort(order[: max(round(fraction * images), 1)])


def _observed(listed: np.ndarray, settings: DataSettings) -> np.ndarray:
    """The labels (N, K) of a list that are given to training. A label that the data set does not know (0) is never
    given; masks are drawn as if it were negative."""
    partial = any((part == 0).any() for part in chunks(listed))
    if partial and settings.labels in ("full", "human_verified"):
        return listed
    tail = {name: getattr(settings, name) for name in ("annotated", "tail_exponent", "positive_bias")}
    full = np.where(listed == 0, np.int8(-1), listed) if partial else listed
    observed = label_regimes.observe(full, settings.labels, settings.known, settings.mask_seed or 0, **tail)
    return np.where(listed == 0, np.int8(0), observed) if partial else observed


@functools.lru_cache(maxsize=4)
def _pictures(settings: DataSettings) -> Pictures:
    if settings.dataset != registry.EMBEDDED:
        return registry.module("in_files").pictures(settings)
    assert isinstance(settings.draw, int)
    classes, train, val, test = digit_scenes.load(
        settings.draw, settings.train_images, settings.val_images, settings.test_images, settings.max_objects
    )
    # Train and val together are the official training list: the mask is drawn before the split.
    listed = np.concatenate([train.labels, val.labels])
    rows = np.arange(len(listed))
    return Pictures(classes, train, val, test, listed, rows[: len(train)], rows[len(train) :])


__all__ = ["DataSettings", "Pictures", "Split", "Task", "load", "pictures_only", "prepare"]
