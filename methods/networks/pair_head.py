"""The pair network of SST: from the features of two classes of an image to the logit that both are in it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def pairs(num_classes: int) -> Tensor:
    """The pairs of classes i < j in the order of the logits, (P, 2) int64: (0, 1), (0, 2), …, (1, 2), …"""
    return torch.triu_indices(num_classes, num_classes, offset=1).T


class PairHead(nn.Module):
    """Co-occurrence of two classes (SST Eq. 1; release, model/SST.py:45-49, 71-77).

    u = intra_fc_1(class feature); logit_ij = score_ij . intra_fc_3(relu(intra_fc_2 [u_i, u_j])) + bias_ij. `per_pair`:
    every pair has its own score vector, as released; otherwise one is shared and intra_fc_1 and intra_fc_3 are followed
    by a ReLU too, which is the text's network of three layers. `width` D, `hidden` M.

    Exact algebra, parametrised as released: intra_fc_2 is a part per class, added per pair, and intra_fc_3 is folded
    into the score vectors, so that no tensor (B, P, D) is built. With a ReLU after it intra_fc_3 cannot be.
    """

    def __init__(self, width: int, hidden: int, num_classes: int, per_pair: bool = True):
        super().__init__()
        self.per_pair = per_pair
        count = num_classes * (num_classes - 1) // 2 if per_pair else 1
        self.intra_fc_1 = nn.Linear(width, hidden)
        self.intra_fc_2 = nn.Linear(2 * hidden, width)
        self.intra_fc_3 = nn.Linear(width, width)
        bound = 1 / math.sqrt(width)
        self.intra_classifiers_weight = nn.Parameter(torch.empty(count, width).uniform_(-bound, bound))
        self.intra_classifiers_bias = nn.Parameter(torch.empty(count).uniform_(-bound, bound))

    def forward(self, class_features: Tensor) -> Tensor:
        """Logits (B, P) of class features (B, K, D), in the order of `pairs`."""
        hidden = self.intra_fc_1(class_features)
        hidden = hidden if self.per_pair else torch.relu(hidden)
        of_first, of_second = self.intra_fc_2.weight.chunk(2, dim=1)
        first = hidden @ of_first.T + self.intra_fc_2.bias
        second = hidden @ of_second.T
        scores, bias = self.intra_classifiers_weight, self.intra_classifiers_bias
        if not self.per_pair:
            one, other = pairs(class_features.shape[1]).T
            return torch.relu(self.intra_fc_3(torch.relu(first[:, one] + second[:, other]))) @ scores[0] + bias
        return _PairScores.apply(first, second, scores @ self.intra_fc_3.weight) + scores @ self.intra_fc_3.bias + bias


class _PairScores(torch.autograd.Function):
    """w_ij . relu(a_i + b_j) for all i < j, (B, P), of a and b (B, K, D) and w (P, D), one class i at a time: a tensor
    (B, P, D) is never built, and its parts are made again on the way back."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, w)
        parts = [(torch.relu(a[:, i, None] + b[:, i + 1 :]) * of_i).sum(2) for i, of_i in _by_first(w, a.shape[1])]
        return torch.cat(parts, dim=1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b, w = ctx.saved_tensors
        of_a, of_b, of_w = torch.zeros_like(a), torch.zeros_like(b), []
        given = gradients[0].T
        for (i, w_i), (_, given_i) in zip(_by_first(w, a.shape[1]), _by_first(given, a.shape[1]), strict=True):
            hidden = torch.relu(a[:, i, None] + b[:, i + 1 :])
            of_pairs = given_i.T[:, :, None]
            of_w.append((hidden * of_pairs).sum(0))
            passed = (hidden > 0) * w_i * of_pairs
            of_a[:, i] = passed.sum(1)
            of_b[:, i + 1 :] += passed
        return of_a, of_b, torch.cat(of_w)


def _by_first(of_pairs: Tensor, num_classes: int) -> list[tuple[int, Tensor]]:
    """The rows of (P, …) by the first class of their pair."""
    return list(enumerate(of_pairs.split(list(range(num_classes - 1, 0, -1)))))
