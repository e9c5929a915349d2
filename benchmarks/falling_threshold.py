"""A method with a falling threshold as in SST, so small that benchmarks measure the engine and not the training.

The loss uses known labels. From epoch 6 on, an unknown label whose probability reaches the threshold counts as positive
too. The threshold is 0.95 in epoch 6, lower by 0.025 in each later epoch, and never below `minimum`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from methods.components.losses import sigmoid_cross_entropy
from methods.contract.method import Method
from methods.contract.objective import Objective
from methods.contract.schedules import exact
from methods.contract.settings import Settings, setting
from methods.training import registry


@dataclass(frozen=True)
class ThresholdObjective(Objective):
    """Cross-entropy (mean over B K) of known labels and, if there is a threshold, of pseudo labels."""

    threshold: float | None = None

    def loss(self, batch, modules, state):
        logits = self.logits(batch.features, modules)
        positive, known = batch.labels > 0, batch.labels != 0
        if self.threshold is not None:
            pseudo = ~known & (torch.sigmoid(logits.detach()) >= self.threshold)
            positive, known = positive | pseudo, known | pseudo
        return (sigmoid_cross_entropy(logits, positive.to(logits.dtype)) * known).mean()


@dataclass(frozen=True)
class ThresholdSettings(Settings):
    minimum: float = setting(0.5, "where the threshold stops falling", minimum=0, maximum=1)


class FallingThreshold(Method[ThresholdSettings]):
    """Pseudo labels above a falling threshold."""

    name = "falling_threshold"
    source = "schedule of SST"
    Settings = ThresholdSettings

    def objective(self, epoch):
        return ThresholdObjective(None if epoch < 6 else max(exact(0.95 - 0.025 * (epoch - 6)), self.settings.minimum))


def register() -> None:
    """Register the method in this process, as if it were a file in methods/."""
    registry.register(FallingThreshold)
