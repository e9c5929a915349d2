"""The pair head (IST of SST): logits of the co-occurrence of each pair of classes, from the class features f_k (D).

For a pair i < j, with M hidden values per class:

    release:  u_k = fc1 f_k         logit_ij = w_ij . fc3(relu(fc2 [u_i, u_j])) + b_ij     a row w_ij for each pair
    text:     u_k = relu(fc1 f_k)   logit_ij = fc3(relu(fc2 [u_i, u_j]))                   same weights for all pairs

The text (SST, implementation details) has three layers, D to M, M to D, and D to a score, with a ReLU after the first
two. As in the release, the second layer here takes both classes of a pair, 2 M values. The release has no ReLU after
the first layer, a third layer of D values without ReLU, and a row w_ij for each pair: P D more parameters.

Equivalent formulas save memory: no tensor has one value per image, pair and channel. fc2 [u_i, u_j] is a sum of a part
of class i and a part of class j, so its products are computed per class. fc3 is linear and is multiplied into the rows.
The ReLU is computed for some pairs at a time, and again for the gradient.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def pairs(num_classes: int) -> Tensor:
    """The P = K (K - 1) / 2 pairs of classes, (P, 2), in the order of the logits: (0, 1), (0, 2), ..., (1, 2), ..."""
    return torch.triu_indices(num_classes, num_classes, 1).T


class PairHead(nn.Module):
    """Class features (B, K, D) to pair logits (B, P). `hidden` is M. `per_pair`: True is the release, False the text.
    With `per_pair`, `weight` (P, D) and `bias` (P) are initialised uniformly in +-1/sqrt(D), as in the release."""

    def __init__(self, width: int, hidden: int, num_classes: int, per_pair: bool = True):
        super().__init__()
        self.num_pairs = num_classes * (num_classes - 1) // 2
        self.per_pair = per_pair
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(2 * hidden, width)
        self.fc3 = nn.Linear(width, width if per_pair else 1)
        if per_pair:
            bound = 1 / math.sqrt(width)
            self.weight = nn.Parameter(torch.empty(self.num_pairs, width).uniform_(-bound, bound))
            self.bias = nn.Parameter(torch.empty(self.num_pairs).uniform_(-bound, bound))

    def forward(self, class_features: Tensor) -> Tensor:
        hidden = self.fc1(class_features)
        if self.per_pair:
            rows, bias = self.weight @ self.fc3.weight, self.weight @ self.fc3.bias + self.bias
        else:
            hidden = hidden.relu()
            rows, bias = self.fc3.weight.expand(self.num_pairs, -1), self.fc3.bias
        of_first, of_second = self.fc2.weight.chunk(2, 1)
        first = nn.functional.linear(hidden, of_first, self.fc2.bias)
        second = nn.functional.linear(hidden, of_second)
        return PairScores.apply(first, second, rows) + bias


class PairScores(torch.autograd.Function):
    """row_ij . relu(first_i + second_j), (B, P), for `first`, `second` (B, K, D) and `rows` (P, D). Pairs with the same
    first class are computed together, and again for the gradient."""

    @staticmethod
    def forward(ctx: Any, first: Tensor, second: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(first, second, rows)
        later = _later(first)
        scores = [
            (torch.relu_(first[:, i, None] + second[:, i + 1 :]).mul_(of_i)).sum(2)
            for i, of_i in enumerate(rows.split(later))
        ]
        return torch.cat(scores, 1) if scores else first.new_zeros(len(first), 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second, rows = ctx.saved_tensors
        grad_first, grad_second, grad_rows = (torch.zeros_like(tensor) for tensor in ctx.saved_tensors)
        later = _later(first)
        for i, (of_i, given, grad_of_i) in enumerate(
            zip(rows.split(later), gradient[..., None].split(later, 1), grad_rows.split(later), strict=True)
        ):
            hidden = torch.relu_(first[:, i, None] + second[:, i + 1 :])
            grad_hidden = (given * of_i).mul_(hidden > 0)
            torch.sum(hidden.mul_(given), 0, out=grad_of_i)
            grad_first[:, i] = grad_hidden.sum(1)
            grad_second[:, i + 1 :] += grad_hidden
        return grad_first, grad_second, grad_rows


def _later(features: Tensor) -> list[int]:
    """For each class except the last: the number of pairs in which it is the first."""
    return list(range(features.shape[1] - 1, 0, -1))
