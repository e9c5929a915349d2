"""How often classes are positive together, counted from the known labels of a training set."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def counts(labels: np.ndarray | Tensor) -> tuple[Tensor, Tensor]:
    """Images in which i and j are both known positive (K, K), the diagonal included, and in which i is (K); int64.

    `labels` (N, K) are +1, -1, 0.
    """
    positive = (torch.as_tensor(labels) > 0).double()
    pair_counts = (positive.T @ positive).long()
    return pair_counts, pair_counts.diagonal().clone()


def conditional_probabilities(
    labels: np.ndarray | Tensor, dtype: torch.dtype = torch.float32, *, among_known: bool = False
) -> Tensor:
    """n_ij / n_i (K, K): of the images of `labels` (N, K) with i known positive, the share in which j is too; with
    `among_known` of those in which j is known at all.

    The diagonal is 1, but the row of a class without any known positive is zero throughout, where the release of SST
    and SARB has a row that is not a number.
    """
    pair_counts, class_counts = counts(labels)
    images = class_counts[:, None]
    if among_known:
        labels = torch.as_tensor(labels)
        images = (labels > 0).to(torch.float64).T @ (labels != 0).to(torch.float64)
    return pair_counts.to(dtype) / images.clamp(min=1).to(dtype)
