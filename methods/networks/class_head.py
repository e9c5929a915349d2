"""The head of the semantic-decoupling family: a score per class from what the class saw and what it heard."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ClassHead(nn.Module):
    """logit_k = classifiers_k . tanh(fc [graph feature, semantic feature]) + bias_k (SST release, model/SST.py).

    The classifiers, one vector per class, start uniform within ± 1/√D, as released.
    """

    def __init__(self, width: int, num_classes: int):
        super().__init__()
        self.fc = nn.Linear(2 * width, width)
        bound = 1 / math.sqrt(width)
        self.classifiers_weight = nn.Parameter(torch.empty(num_classes, width).uniform_(-bound, bound))
        self.classifiers_bias = nn.Parameter(torch.empty(num_classes).uniform_(-bound, bound))

    def forward(self, graph_features: Tensor, semantic_features: Tensor) -> Tensor:
        """Logits (B, K) of features (B, K, D) after and before the messages."""
        hidden = torch.tanh(self.fc(torch.cat([graph_features, semantic_features], dim=2)))
        return (hidden * self.classifiers_weight).sum(2) + self.classifiers_bias
