"""A data set before the label regime: its splits, and the labels of the official training list."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..contract.task import Split


@dataclass(frozen=True)
class Pictures:
    """A data set before the label regime, which it does not depend on. `listed` (N, K) int8 are the labels of the
    official training list, in the order in which masks are drawn. `train_rows` and `val_rows` are the rows of the
    training and validation images in this list; `val_rows` is None if there is an own validation list."""

    classes: tuple[str, ...]
    train: Split
    val: Split
    test: Split
    listed: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray | None
