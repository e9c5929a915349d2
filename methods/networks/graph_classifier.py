"""ML-GCN (Chen et al., CVPR 2019; "GCN-ML" in tables): a graph network turns word vectors into classifiers.

With the normalised correlation G (K, K) of the classes and their word vectors X (K, W):

    Z = leaky_relu(G X W1, 0.2), classifiers C = G Z W2        W1 (W, `hidden`), W2 (`hidden`, D), no bias
    logit_k = C_k . (map at its largest value per channel)

The correlation follows the release. P_ij = n_ij / n_i of known positives becomes 1 if it reaches a threshold, else 0.
The ones of a column are scaled to a sum of a quarter, and 1 is added on the diagonal. With n_ii = n_i the diagonal is
among the ones of its column, with n_ii = 0 it is not: the caller decides.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def correlation(
    pair_counts: Tensor, class_counts: Tensor, threshold: float = 0.4, share: float = 0.25, own: float = 1.0
) -> tuple[Tensor, Tensor]:
    """A and R^-1/2 A' R^-1/2, R the sums of A's rows, both (K, K), of pair counts n_ij (K, K) and class counts n_i (K).

    `threshold` in [0, 1] is for n_ij / n_i, which is 0 for a class without positives (NaN in the release). `own` is
    added on the diagonal of A.
    """
    dtype = pair_counts.dtype if pair_counts.is_floating_point() else torch.get_default_dtype()
    given = pair_counts.to(dtype) / class_counts.to(dtype).clamp(min=1)[:, None]
    seen = ((given >= threshold) & (class_counts > 0)[:, None]).to(dtype)
    adjacency = share * seen / (seen.sum(0) + 1e-6) + own * torch.eye(len(seen), dtype=dtype, device=seen.device)
    scale = adjacency.sum(1).rsqrt()
    return adjacency, scale[:, None] * adjacency.T * scale


class GraphClassifier(nn.Module):
    """Feature map (B, D, H, W) to logits (B, K), with word vectors (K, W) and a normalised correlation (K, K).

    Word vectors and correlation are neither trained nor part of the state. `slope` is that of the leaky ReLU. Weights
    are initialised uniformly in +-1/sqrt(columns), as in the release.
    """

    words: Tensor
    correlation: Tensor

    def __init__(self, width: int, words: Tensor, correlation: Tensor, hidden: int = 1024, slope: float = 0.2):
        super().__init__()
        self.slope = slope
        self.register_buffer("words", words, persistent=False)
        self.register_buffer("correlation", correlation, persistent=False)
        self.gc1 = nn.Parameter(_uniform(words.shape[1], hidden))
        self.gc2 = nn.Parameter(_uniform(hidden, width))

    def forward(self, features: Tensor) -> Tensor:
        return features.amax((2, 3)) @ self.classifiers().T

    def classifiers(self) -> Tensor:
        """The classifiers (K, D), one row per class."""
        hidden = nn.functional.leaky_relu(self.correlation @ (self.words @ self.gc1), self.slope)
        return self.correlation @ (hidden @ self.gc2)


def _uniform(rows: int, columns: int) -> Tensor:
    bound = 1 / math.sqrt(columns)
    return torch.empty(rows, columns).uniform_(-bound, bound)
