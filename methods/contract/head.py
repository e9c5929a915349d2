"""The plain head: pooling over positions and one linear layer."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn


class PooledClassifier(nn.Module):
    """Feature map (B, D, H, W) to logits (B, K): pooling `mean`, `max`, or the sum of both, then a linear layer."""

    def __init__(self, width: int, num_classes: int, pooling: str):
        super().__init__()
        self.pooling = pooling
        self.linear = nn.Linear(width, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(self.pooled(features))

    def pooled(self, features: Tensor) -> Tensor:
        """The input (B, D) of the linear layer."""
        positions = features.flatten(2)
        if self.pooling == "mean":
            return positions.mean(2)
        if self.pooling == "max":
            return positions.amax(2)
        return positions.mean(2) + positions.amax(2)


@dataclass(frozen=True)
class FeatureMap:
    """Shape and pooling of the backbone's output, for the modules that are built on it. `width` is the number of
    channels D; `pooling` is `network.pooling`."""

    width: int
    pooling: str
