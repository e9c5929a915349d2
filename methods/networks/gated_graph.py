"""The gated graph network of SSGRL, SST and SARB: class features exchange messages, weighted by co-occurrence.

A (K, K) is the adjacency, h_k (D) the feature of class k. In each of `steps` steps:

    m_k = [sum_j A_kj h_j, sum_j A_jk h_j]
    z = sigmoid(Wz m + Uz h), r = sigmoid(Wr m + Ur h), c = tanh(Wc m + Uc (r * h))
    h becomes (1 - z) h + z c

All six linear layers have a bias. All steps use the same layers. In the release of SSGRL the reset gate r uses the
update gate's Uz; here it has its own Ur, as in the release of SST and SARB.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedGraph(nn.Module):
    """Class features (B, K, D) to class features (B, K, D) after messages along an adjacency (K, K). The adjacency is
    neither trained nor part of the state."""

    both_ways: Tensor

    def __init__(self, width: int, adjacency: Tensor, steps: int):
        super().__init__()
        self.steps = steps
        # Rows of A and of its transpose alternate, so that one product gives the two halves of each message in order.
        both_ways = torch.stack([adjacency, adjacency.T], 1).flatten(0, 1)
        self.register_buffer("both_ways", both_ways, persistent=False)
        self.update_w = nn.Linear(2 * width, width)
        self.update_u = nn.Linear(width, width)
        self.reset_w = nn.Linear(2 * width, width)
        self.reset_u = nn.Linear(width, width)
        self.candidate_w = nn.Linear(2 * width, width)
        self.candidate_u = nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        for _ in range(self.steps):
            messages = (self.both_ways @ features).unflatten(1, (-1, 2)).flatten(2)
            update = torch.sigmoid(self.update_w(messages) + self.update_u(features))
            reset = torch.sigmoid(self.reset_w(messages) + self.reset_u(features))
            candidate = torch.tanh(self.candidate_w(messages) + self.candidate_u(reset * features))
            features = torch.lerp(features, candidate, update)
        return features
