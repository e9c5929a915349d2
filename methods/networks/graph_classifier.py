"""ML-GCN's classifiers, generated from word vectors by a graph convolution over the classes."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def correlation(
    pair_counts: Tensor, class_counts: Tensor, threshold: float, weight: float = 0.25, diagonal: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The correlation matrix A (K, K) and what is convolved with, R^-1/2 A^T R^-1/2 with R the row sums of A.

    P = pair_counts / class_counts, row by row; 1 where P >= `threshold`, else 0; divided by its column sums and times
    `weight`; plus `diagonal` times the identity (release, util.py:291-308; the text has 1 - `weight` there). A class
    that was never counted has no neighbour: its row of P is 0.
    """
    likely = pair_counts / class_counts.clamp(min=1)[:, None]
    near = (likely >= threshold).to(pair_counts.dtype)
    matrix = weight * near / (near.sum(0) + 1e-6) + diagonal * torch.eye(len(near), dtype=near.dtype)
    root = matrix.sum(1).rsqrt()
    return matrix, root[:, None] * matrix.T * root


class GraphClassifier(nn.Module):
    """ML-GCN (Chen et al., CVPR 2019, Eq. 2-5; release, models.py:43-92): classifiers are Ã leaky-relu(Ã X W1) W2.

    `graph` Ã (K, K) as of `correlation`, `words` X (K, W), `hidden` and `width` D the columns of W1 and W2. A feature
    map is pooled by its maximum; there is no bias. Weights are (in, out) and start uniform within ± 1/√out (release).
    """

    graph: Tensor
    words: Tensor

    def __init__(self, graph: Tensor, words: Tensor, hidden: int, width: int, slope: float = 0.2):
        super().__init__()
        self.slope = slope
        self.register_buffer("graph", graph, persistent=False)
        self.register_buffer("words", words, persistent=False)
        self.gc1_weight = nn.Parameter(_uniform(words.shape[1], hidden))
        self.gc2_weight = nn.Parameter(_uniform(hidden, width))

    def classifiers(self) -> Tensor:
        """A vector per class, (K, D)."""
        hidden = nn.functional.leaky_relu(self.graph @ (self.words @ self.gc1_weight), self.slope)
        return self.graph @ (hidden @ self.gc2_weight)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, K) of a feature map (B, D, H, W)."""
        return features.flatten(2).amax(2) @ self.classifiers().T


def _uniform(rows: int, columns: int) -> Tensor:
    bound = 1 / math.sqrt(columns)
    return torch.empty(rows, columns).uniform_(-bound, bound)
