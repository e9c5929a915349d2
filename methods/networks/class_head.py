"""The head of SSGRL, SST and SARB: the logit of a class from its feature before and after the graph."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ClassHead(nn.Module):
    """Graph and semantic features (B, K, D) to logits (B, K): w_k . tanh(fc [graph_k, semantic_k]) + b_k. `fc` is
    shared by all classes. w_k (D) and b_k are initialised uniformly in +-1/sqrt(D), as in the release."""

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.fc = nn.Linear(2 * width, width)
        bound = 1 / math.sqrt(width)
        self.weight = nn.Parameter(torch.empty(num_classes, width).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_classes).uniform_(-bound, bound))

    def forward(self, graph_features: Tensor, semantic_features: Tensor) -> Tensor:
        hidden = torch.tanh(self.fc(torch.cat([graph_features, semantic_features], 2)))
        return (hidden * self.weight).sum(2) + self.bias
