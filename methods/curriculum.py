"""Curriculum labeling (Durand et al., CVPR 2019): the model gives pseudo labels to easy images and classes, and is
trained on them too.

The first `warmup_epochs` use partial BCE on the known labels. Then, before each epoch, the current model computes the
logits s of all training images and labels some of the unknown entries: positive if s > 0, else negative. The epoch uses
partial BCE on known and pseudo labels. `strategy` says which entries are labelled:

* `score`: |s| >= threshold
* `positive_score`: s >= threshold, so only positives
* `proportion`: the largest |s|, a share `proportion` of all unknown labels
* `class_proportion`: the same share of the unknown labels of each class, rounded down

In SST's Table 1 the row "Curriculum labeling" uses "the same ResNet-101 network as backbone", as do all rows. The paper
does not describe the head, the strategy or the threshold. Assumed is the plain classifier, as for the row "Partial BCE"
(see `methods.ignore_unobserved`), so that the two differ only in their labels. At 10 % known labels its mAP is far
below that of Partial BCE (26.7 and 61.6 on COCO, 44.7 and 80.7 on VOC), so its pseudo labels must do harm there.

There is no official code. Assumptions: logits come from whole training images in eval mode, without augmentation. Each
update starts from the observed labels, so a pseudo label can disappear again, and known labels never change. There is
an update before each epoch. The share is taken over the whole training split; in the paper it is taken over a batch. Of
equal scores, the earlier image and class win. In g(p), p counts pseudo labels as known, so a fully labelled image has
weight 1. The paper's ensemble and Bayesian uncertainty are left out: they need several models, or dropout, which the
network does not have.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .contract.method import Method
from .contract.objective import Batch, EpochStart, Modules, Objective
from .contract.schedules import product
from .contract.settings import setting
from .ignore_unobserved import IgnoreUnobservedObjective, ProportionWeight, WeightingSettings, partial_bce

Strategy = Literal["score", "positive_score", "proportion", "class_proportion"]


def pseudo_labels(
    logits: Tensor, observed: Tensor, strategy: Strategy, *, threshold: float = 0.0, proportion: float = 0.0
) -> Tensor:
    """The labels `observed` (N, K) of +1, -1, 0, completed with pseudo labels from logits (N, K); see above."""
    unknown = observed == 0
    if strategy == "score":
        easy = logits.abs() >= threshold
    elif strategy == "positive_score":
        easy = (logits >= threshold) & (logits > 0)
    else:
        # With `proportion`, all entries form one column, because classes are not treated separately.
        shape = logits.shape if strategy == "class_proportion" else (-1, 1)
        easy = _largest(logits.abs().reshape(shape), unknown.reshape(shape), proportion).reshape(logits.shape)
    predicted = torch.where(logits > 0, 1, -1).to(observed.dtype)
    return torch.where(unknown & easy, predicted, observed)


def _largest(values: Tensor, among: Tensor, proportion: float) -> Tensor:
    """The largest `values` (M, C) of each column, as bool: a share `proportion` of the entries `among` (M, C) bool."""
    counts = torch.tensor([math.floor(product(proportion, count)) for count in among.sum(0).tolist()])
    order = values.masked_fill(~among, -math.inf).argsort(stable=True, dim=0, descending=True)
    ranks = order.argsort(0)  # the inverse of a permutation
    return ranks < counts


@dataclass(frozen=True)
class CurriculumObjective(Objective):
    """Partial BCE on known labels and on pseudo labels made before the epoch. A field that is None is off."""

    strategy: Strategy
    threshold: float | None = None
    proportion: float | None = None
    weight: ProportionWeight | None = None

    def begin_epoch(self, start: EpochStart, modules: Modules, state: MutableMapping[str, Tensor]) -> None:
        state["labels"] = pseudo_labels(
            start.over_training(lambda features, _: self.logits(features, modules)),
            torch.from_numpy(start.task.observed),
            self.strategy,
            threshold=self.threshold or 0.0,
            proportion=self.proportion or 0.0,
        )

    def part_weight(self, labels: Tensor) -> float:
        return float(len(labels))

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        return partial_bce(self.logits(batch.features, modules), state["labels"][batch.indices], self.weight)


@dataclass(frozen=True)
class CurriculumSettings(WeightingSettings):
    weighting: Literal["none", "known_proportion"] = setting(
        "known_proportion", "weight of an image: 1, or g(p) = alpha p^gamma + beta with its share p of known labels"
    )
    strategy: Strategy = setting("score", "which unknown labels get a pseudo label", source="Durand et al. 2019")
    threshold: float = setting(
        2.0,
        "smallest |logit| (score) or logit (positive_score) that gets a pseudo label",
        minimum=0,
        typical=(1.0, 2.0, 5.0),
        when={"strategy": ("score", "positive_score")},
    )
    proportion: float = setting(
        0.8,
        "share of the unknown labels that get a pseudo label",
        above=0,
        maximum=1,
        typical=(0.2, 0.5, 0.8),
        when={"strategy": ("proportion", "class_proportion")},
    )
    warmup_epochs: int = setting(3, "epochs on known labels only", minimum=1, typical=(1, 2, 3, 5))


class Curriculum(Method[CurriculumSettings]):
    """The model labels what it is sure of before each epoch (Curriculum labeling)."""

    name = "curriculum"
    source = "Durand et al., Learning a Deep ConvNet for Multi-Label Classification with Partial Labels, CVPR 2019"
    Settings = CurriculumSettings
    quick: ClassVar = {"warmup_epochs": 1, "threshold": 0.2}

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        if epoch <= s.warmup_epochs:
            return IgnoreUnobservedObjective(s.weight())
        by_score = s.strategy in ("score", "positive_score")
        threshold, proportion = (s.threshold, None) if by_score else (None, s.proportion)
        return CurriculumObjective(s.strategy, threshold, proportion, s.weight())
