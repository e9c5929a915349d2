"""Co-occurrence of classes, counted from the known labels of a training set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def counts(labels: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """The number of images in which classes i and j are both known positive, (K, K) int64 with diagonal, and the number
    in which class i is known positive, (K) int64. `labels` (N, K) are +1, -1, 0."""
    positive = (torch.as_tensor(labels) > 0).double()
    pair_counts = (positive.T @ positive).long()
    return pair_counts, pair_counts.diagonal().clone()


def conditional_probabilities(
    labels: np.ndarray | Tensor, dtype: torch.dtype = torch.float32, *, among_known: bool = False
) -> Tensor:
    """n_ij / n_i (K, K): of the images with known positive i, the share with known positive j.

    `labels` (N, K) are +1, -1, 0. `among_known`: only images in which j is known count in the denominator. The diagonal
    is 1. The row of a class without known positives is 0; in the release of SST and SARB it is NaN.
    """
    pair_counts, class_counts = counts(labels)
    images = class_counts[:, None]
    if among_known:
        labels = torch.as_tensor(labels)
        images = (labels > 0).to(torch.float64).T @ (labels != 0).to(torch.float64)
    return pair_counts.to(dtype) / images.clamp(min=1).to(dtype)
