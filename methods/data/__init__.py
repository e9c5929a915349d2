"""Data sets by name, each as one `Task`; which labels of it are given to training."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from .. import labels
from . import digit_scenes
from .settings import DataSettings
from .task import Split, Task
from .word_vectors import class_vectors

# What `sweeper datasets` prints.
DATASETS = {"digit_scenes": digit_scenes.__doc__ or ""}
# Of the order in which `train_fraction` takes training images: the same for every trial, as in the single-positive
# release (datasets.py, ss_seed).
SUBSET_SEED = 999


def load(settings: DataSettings) -> Task:
    """The task of fully resolved settings (`mask_seed` and `draw` are numbers).

    Pictures are kept for the last few data sets of this process, whatever labels are given of them.
    """
    classes, train, val, test = _pictures(pictures_only(settings))
    # The official training list is train and val together: the mask is drawn before they are split.
    listed = np.concatenate([train.labels, val.labels])
    tail = {name: getattr(settings, name) for name in ("annotated", "tail_exponent", "positive_bias")}
    observed = labels.observe(listed, settings.labels, settings.known, settings.mask_seed or 0, **tail)
    observed, observed_val = observed[: len(train)], observed[len(train) :]
    rows = _train_rows(len(train), settings.train_fraction)
    if len(rows) < len(train):
        train, observed = train.part(rows), observed[rows]
    vectors = class_vectors(classes, settings.word_vectors)
    return Task(settings.dataset, classes, train, val, test, observed, observed_val, rows, vectors)


def pictures_only(settings: DataSettings) -> DataSettings:
    """Settings that stand for all those with the same pictures, whatever labels are given.

    Also whatever share of the training images is trained on: a label budget counts labels, so what is made of pictures
    without labels (features, batch-norm statistics) is made of all of them, once for all budgets.
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
    """Ascending rows of the training images that a fraction of them keeps, the nearest number and at least one."""
    order = np.random.RandomState(SUBSET_SEED).permutation(images)
    return np.sort(order[: max(round(fraction * images), 1)])


@functools.lru_cache(maxsize=4)
def _pictures(settings: DataSettings) -> tuple[tuple[str, ...], Split, Split, Split]:
    assert settings.draw is not None
    return digit_scenes.load(settings.draw, settings.train_images, settings.val_images, settings.test_images)


__all__ = ["DATASETS", "DataSettings", "Split", "Task", "load", "pictures_only"]
