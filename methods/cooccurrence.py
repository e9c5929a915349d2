"""How classes occur together, counted on known labels. Functions of labels alone; no network is here."""

from __future__ import annotations

import torch
from torch import Tensor


def counts(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Images in which two classes are both known positive, (K, K), and in which one is, (K,), both float64, of labels
    (N, K) of +1, -1, 0. On the diagonal of the first stands the second."""
    positive = (labels > 0).to(torch.float64)
    together = positive.T @ positive
    return together, together.diagonal().clone()


def conditional_probabilities(labels: Tensor) -> Tensor:
    """P(j | i) = #(i and j known positive) / #(i known positive), (K, K) float64, of labels (N, K) of +1, -1, 0.

    The diagonal is 1. A class without any known positive has a row of zeros; the release (dataloader.py:17-32) means
    the same but leaves it NaN.
    """
    together, alone = counts(labels)
    return together / alone.clamp(min=1)[:, None]
