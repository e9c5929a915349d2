"""A data set before labels are given: its splits, and the official training list that masks are drawn on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.task import Split


@dataclass(frozen=True)
class Pictures:
    """A data set whatever labels of it are given.

    `listed` (N, K) int8 are the labels of the official training list, in the order that masks are drawn in; the
    training images are its `train_rows`, the validation images its `val_rows`, or None where these have a list of their
    own.
    """

    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    listed: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray | None
