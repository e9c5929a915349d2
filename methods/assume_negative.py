"""Assume negative: unobserved labels are trained as negatives. Its settings give Full label, Naive AN, WAN and LSAN.

The target t is 1 for a known positive and 0 for all other labels. With l = BCE(x, t), the loss is the sum of w l over
all labels, divided by B K.

* Naive AN: w = 1 (Cole et al., 2021, eq. 3). With `data.labels: full` this is normal supervised training (Full label).
* WAN: w = 1/(K-1) for unobserved labels (`weak: true`).
* LSAN: targets 1 - e and e instead of 1 and 0 (`label_smoothing: 0.1`). The released code smooths both targets by e =
  0.1; the formula in the paper smooths by e/2, which is `label_smoothing: 0.05`.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .components.losses import sigmoid_cross_entropy
from .contract.method import Method
from .contract.objective import Batch, Modules, Objective
from .contract.settings import Settings, setting


@dataclass(frozen=True)
class AssumeNegativeObjective(Objective):
    """BCE with unobserved labels as negatives. A field that is None is off."""

    weak: bool | None = None
    label_smoothing: float | None = None
    log_eps: float | None = None

    def part_weight(self, labels: Tensor) -> float:
        return float(len(labels))

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        return assume_negative_loss(
            self.logits(batch.features, modules),
            batch.labels,
            weak=bool(self.weak),
            label_smoothing=self.label_smoothing or 0.0,
            log_eps=self.log_eps or 0.0,
        )


def assume_negative_loss(
    logits: Tensor, labels: Tensor, *, weak: bool = False, label_smoothing: float = 0.0, log_eps: float = 0.0
) -> Tensor:
    """The scalar loss of logits (B, K) with labels (B, K) of +1, -1, 0; see the docstring of this module."""
    targets = (labels > 0).to(logits.dtype)
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + (1 - targets) * label_smoothing
    entries = sigmoid_cross_entropy(logits, targets, log_eps)
    if weak:
        # max, because K - 1 is 0 with a single class.
        entries = torch.where(labels == 0, entries / max(labels.shape[1] - 1, 1), entries)
    return entries.mean()


@dataclass(frozen=True)
class AssumeNegativeSettings(Settings):
    weak: bool = setting(False, "weight 1/(K-1) for unobserved labels (WAN)", source="Cole et al. 2021, WAN")
    label_smoothing: float = setting(
        0.0,
        "smoothing of both targets (LSAN: 0.1)",
        published=0.0,
        minimum=0,
        maximum=0.5,
        typical=(0.05, 0.1),
        source="single-positive release, losses.py an_ls",
    )
    log_eps: float = setting(
        0.0,
        "0: BCE on logits; above 0: -log(p + log_eps) on probabilities",
        published=0.0,
        minimum=0,
        maximum=0.1,
        typical=(1e-5,),
        source="Large Loss release, losses.py:13-60: logits; single-positive release, losses.py neg_log: 1e-5",
    )


class AssumeNegative(Method[AssumeNegativeSettings]):
    """Unobserved labels are negatives (Full label, Naive AN, WAN, LSAN)."""

    name = "assume_negative"
    source = "Cole et al., Multi-Label Learning from Single Positive Labels, CVPR 2021; Large Loss Matters, Table 1"
    Settings = AssumeNegativeSettings

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        return AssumeNegativeObjective(s.weak or None, s.label_smoothing or None, s.log_eps or None)
