"""Curriculum labeling (Durand et al., CVPR 2019): the model labels what it finds easy, and is trained on that too.

The first `warmup_epochs` are partial BCE on the known labels. From then on, before each epoch, the current model scores
all training images (s: logits) and labels some of the unknown entries, positive where s > 0, else negative; the others
stay unknown. The epoch is partial BCE on known and pseudo labels together. Which entries are labelled (`strategy`):

* `score`: |s| >= threshold
* `positive_score`: s >= threshold, so positives alone
* `proportion`: the largest |s|, a share `proportion` of all unknown entries
* `class_proportion`: the same share of each class's unknown entries, rounded down

In SST's Table 1 the row "Curriculum labeling" is on "the same ResNet-101 network as backbone", as all are. What stands
on it is not said: assumed is the plain classifier, as for the row "Partial BCE" (see `methods.ignore_unobserved`), so
that the two differ in their labels alone. Nor are strategy and threshold said. At 10 % known labels its mAP is far
below that of Partial BCE (26.7 and 61.6 on COCO, 44.7 and 80.7 on VOC), so the labels that it adds must do harm there.

There is no official code. Assumed: scores are those of whole training images in eval mode, without augmentation; every
update starts from the observed labels, so that a pseudo label can be taken back, and known ones never change; an update
comes before every epoch; the share is one of the whole training split, where the paper's is of a batch; ties go to the
earlier image and class; in g(p), p counts pseudo labels as known, so that an image labelled in full weighs 1. The
paper's ensemble and Bayesian uncertainty are left out: they need several models, or dropout, which the network has not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .contract.method import Method
from .contract.objective import Batch, EpochStart, Objective
from .contract.schedules import product
from .contract.settings import setting
from .ignore_unobserved import IgnoreUnobservedObjective, ProportionWeight, WeightingSettings, partial_bce

Strategy = Literal["score", "positive_score", "proportion", "class_proportion"]


def pseudo_labels(
    logits: Tensor, observed: Tensor, strategy: Strategy, *, threshold: float = 0.0, proportion: float = 0.0
) -> Tensor:
    """The labels (N, K) of +1, -1, 0 that `observed` (N, K) become under logits (N, K); see the module's docstring."""
    unknown = observed == 0
    if strategy == "score":
        easy = logits.abs() >= threshold
    elif strategy == "positive_score":
        easy = (logits >= threshold) & (logits > 0)
    else:
        # Without classes to tell apart, all entries are one long column.
        shape = logits.shape if strategy == "class_proportion" else (-1, 1)
        easy = _largest(logits.abs().reshape(shape), unknown.reshape(shape), proportion).reshape(logits.shape)
    predicted = torch.where(logits > 0, 1, -1).to(observed.dtype)
    return torch.where(unknown & easy, predicted, observed)


def _largest(values: Tensor, among: Tensor, proportion: float) -> Tensor:
    """Of each column of `values` (M, C), the largest ones (bool): a share of those `among` (bool)."""
    counts = torch.tensor([math.floor(product(proportion, count)) for count in among.sum(0).tolist()])
    order = values.masked_fill(~among, -math.inf).argsort(stable=True, dim=0, descending=True)
    ranks = order.argsort(0)  # the inverse of a permutation
    return ranks < counts


@dataclass(frozen=True)
class CurriculumObjective(Objective):
    """Partial BCE on known labels and those that the model gives before the epoch. None: that part is off."""

    strategy: Strategy
    threshold: float | None = None
    proportion: float | None = None
    weight: ProportionWeight | None = None

    def begin_epoch(
        self, start: EpochStart, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]
    ) -> None:
        state["labels"] = pseudo_labels(
            start.over_training(lambda features, _: self.logits(features, modules)),
            torch.from_numpy(start.task.observed),
            self.strategy,
            threshold=self.threshold or 0.0,
            proportion=self.proportion or 0.0,
        )

    def part_weight(self, labels: Tensor) -> float:
        return float(len(labels))

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        return partial_bce(self.logits(batch.features, modules), state["labels"][batch.indices], self.weight)


@dataclass(frozen=True)
class CurriculumSettings(WeightingSettings):
    weighting: Literal["none", "known_proportion"] = setting(
        "known_proportion", "weight of an image: 1, or g(p) = alpha p^gamma + beta of its share p of labels"
    )
    strategy: Strategy = setting("score", "which unknown labels the model fills in", source="Durand et al. 2019")
    threshold: float = setting(
        2.0,
        "smallest |logit|, or logit, that is labelled",
        minimum=0,
        typical=(1.0, 2.0, 5.0),
        when={"strategy": ("score", "positive_score")},
    )
    proportion: float = setting(
        0.8,
        "share of the unknown labels that is labelled",
        above=0,
        maximum=1,
        typical=(0.2, 0.5, 0.8),
        when={"strategy": ("proportion", "class_proportion")},
    )
    warmup_epochs: int = setting(3, "epochs on known labels alone", minimum=1, typical=(1, 2, 3, 5))


class Curriculum(Method[CurriculumSettings]):
    """The model labels what it is sure of before each epoch (Curriculum labeling)."""

    name = "curriculum"
    source = "Durand et al., Learning a Deep ConvNet for Multi-Label Classification with Partial Labels, CVPR 2019"
    Settings = CurriculumSettings
    quick: ClassVar[Mapping[str, Any]] = {"warmup_epochs": 1, "threshold": 0.2}

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        if epoch <= s.warmup_epochs:
            return IgnoreUnobservedObjective(s.weight())
        by_score = s.strategy in ("score", "positive_score")
        threshold, proportion = (s.threshold, None) if by_score else (None, s.proportion)
        return CurriculumObjective(s.strategy, threshold, proportion, s.weight())
