"""A method whose threshold falls as that of SST does, small enough that the engine is what is measured.

Known labels are trained as they are; from epoch 6 on an unknown one whose probability reaches the threshold counts as
positive: 0.95 in epoch 6, less by 0.025 in each further one, and never less than `minimum`.
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
    """Cross-entropy (mean over B K) of known labels and, where there is a threshold, of pseudo labels."""

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
    """Make the method known in this process, as a file in methods/ is."""
    registry.register(FallingThreshold)
