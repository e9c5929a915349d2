"""ROLE, regularised online label estimation (Cole et al., CVPR 2021): the labels are estimated beside the classifier.

F (B, K) are the classifier's probabilities. G (B, K) are those of the label estimator: a table with one free logit for
each training image and class. R is that of EPR, nl(p) = -log(p + log_eps), and CE(A | B) = B nl(A) + (1 - B) nl(1 - A)
with B constant (no gradient):

    loss = 1/2 [P(F) + P(G)] + 1/2 [CE(F | G) + CE(G | F)] + 1/2 [R(F) + R(G)]

P is the sum of nl over known positives, CE the sum over all labels, known ones too; both are divided by B K. R has K^2
in its denominator. One optimiser trains classifier and estimator; the estimator has `estimator_multiplier` times the
base learning rate (release: 10). No estimate is fixed, not even that of a known label. Adam is dense: its moments move
an estimate also in steps without its image, as in the release.

Estimates start at logit(0.995) for known positives, at logit(0.005) for known negatives, and for unknown labels at
random uniformly between -logit(0.6) and +logit(0.6), drawn from (seed, "estimator"); the release does not seed this
draw. Known negatives act only through their start value, as in the release. After a linear phase (LinearInit) the
estimates continue from their last values; the release passes them on as probabilities clipped to [1e-5, 1 - 1e-5].
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from .components.losses import sigmoid_cross_entropy
from .contract.head import FeatureMap
from .contract.method import Method
from .contract.objective import Batch, InseparableError, Modules, Objective
from .contract.settings import setting
from .contract.task import Task
from .epr import ExpectedPositivesSettings, expected_positive_penalty, positives_loss

KNOWN_START = math.log(0.995 / 0.005)
UNKNOWN_START = math.log(0.6 / 0.4)


class LabelEstimates(nn.Module):
    """A free logit for each training image and class, (N, K). Start values depend on the labels `observed` (N, K)."""

    def __init__(self, observed: np.ndarray):
        super().__init__()
        labels = torch.from_numpy(observed)
        start = torch.empty(labels.shape).uniform_(-UNKNOWN_START, UNKNOWN_START)
        self.logits = nn.Parameter(torch.where(labels == 0, start, KNOWN_START * labels))

    def forward(self, rows: Tensor) -> Tensor:
        """Logits (B, K) of the images in these rows (B,) of the training split."""
        return self.logits[rows]


def role_loss(
    logits: Tensor, estimates: Tensor, labels: Tensor, *, expected_positives: float, log_eps: float
) -> Tensor:
    """The scalar loss of the classifier's and the estimator's logits (B, K), with labels (B, K) of +1, -1, 0."""

    def half(own: Tensor, other: Tensor) -> Tensor:
        agreement = sigmoid_cross_entropy(own, other.detach().sigmoid(), log_eps).mean()
        return positives_loss(own, labels, log_eps) + agreement + expected_positive_penalty(own, expected_positives)

    return (half(logits, estimates) + half(estimates, logits)) / 2


@dataclass(frozen=True)
class ROLEObjective(Objective):
    """Classifier and label estimator, each with the other as target. `log_eps` None: BCE is computed from logits."""

    expected_positives: float
    estimator_multiplier: float
    log_eps: float | None = None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        return {**super().modules(features, task), "estimator": partial(LabelEstimates, task.observed)}

    def rate_multipliers(self) -> dict[str, float]:
        return {"estimator": self.estimator_multiplier}

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("its penalty is on how many positives the whole batch has")

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        return role_loss(
            self.logits(batch.features, modules),
            modules["estimator"](batch.indices),
            batch.labels,
            expected_positives=self.expected_positives,
            log_eps=self.log_eps or 0.0,
        )


@dataclass(frozen=True)
class ROLESettings(ExpectedPositivesSettings):
    estimator_multiplier: float = setting(
        10.0,
        "factor of the base learning rate for the label estimator",
        published=10.0,
        above=0,
        typical=(1.0, 10.0),
        source="single-positive release, train.py:179-188 (lr_mult)",
    )


class ROLE(Method[ROLESettings]):
    """Labels are estimated in a table that is trained beside the classifier (ROLE)."""

    name = "role"
    source = "Cole et al., Multi-Label Learning from Single Positive Labels, CVPR 2021; Large Loss Matters, Table 1"
    Settings = ROLESettings
    unshared = "every setting acts from epoch 1 on"

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        return ROLEObjective(s.expected_positives, s.estimator_multiplier, s.log_eps or None)
