"""SST, structured semantic transfer (Chen et al., AAAI 2022): unknown labels become positive where other labels of the
image (IST), or images that are known to have the label (CST), say so.

`methods.transfer` has the two scores, L_ist, and what acts before `start_epoch`. From then on an unknown label becomes
positive where its score reaches a threshold, of IST and of CST apart; no label becomes negative. The thresholds fall by
the epoch until they reach their minimum. With y_intra and y_inter the labels that IST and CST complete,

    L = BCE(x, y) + w_1 BCE(x, y_intra) + w_2 BCE(x, y_inter) + w_3 L_ist + w_4 L_cst

BCE is partial BCE, so that the known labels count in each of the three. L_cst is the contrastive loss.

Text and release differ (all with documented settings where both make sense; the release is the default):

* Eq. 2 sums over the known positives, the release takes the mean (`intra_pooling`).
* The text has one pair head, with ReLU after both hidden layers; the release's has ReLU after the second alone, and
  last weights of each pair's own (`pair_head`; `shared` is otherwise as released).
* Eq. 6 compares with all images that are known to have the class, the release with the last 100 (`inter_score`). The
  bank is filled in all epochs, and slots that are still empty count as similarity 0: a class with few known positives
  cannot score high at first. `all_positives` is exact, because the mean cosine is the product with the mean of the unit
  features; that is taken before each epoch, of all training images without augmentation, under the weights as they are.
* Eq. 9 takes the mean over each image's known labels, the release over those of the batch. Eq. 7-8: `methods.contrastive`.
* The text trains with batches of 32, the release's scripts with 8: `train.batch_size`.
* A threshold of 1 switches its whole term off, as in the release. Neither has a fixed threshold; a step of 0 makes one.

There is no code of the ablations. Assumed: "IST w/ stat" has the graph's adjacency in place of the pair head, P(i | j)
for known j, from the known labels (`statistical`); it is too low by the share of labels that are known, which
`statistical_known` mends by counting only images where i is known too. It has no L_ist. "IST w/o L_ist" has a pair head
that nothing trains.

With IST and CST off it is SSGRL. So is IST before `start_epoch`, where L_ist is off.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from .contract import Batch, EpochStart, Method, Objective
from .partial_losses import known_bce
from .schedules import falling
from .settings import setting
from .transfer import (
    INTER,
    INTRA,
    PairObjective,
    Pooling,
    TransferSettings,
    clear_counts,
    count,
    inter_scores,
    intra_scores,
    per_image,
    unit,
)


def with_pseudo_labels(labels: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Labels (B, K) of +1, -1, 0, where unknown ones whose score (B, K) is at least `threshold` are +1. A threshold of
    1, or more, is reached by none. Source: SST, Eq. 2 and 6."""
    return labels if threshold >= 1 else labels.masked_fill((labels == 0) & (scores >= threshold), 1)


def updated_bank(bank: Tensor, features: Tensor, labels: Tensor) -> Tensor:
    """Bank (K, E, D) of each class's last E features after a batch of features (B, K, D) under labels (B, K): those of
    known positives come in front, in the order of the batch. Source: SST release, model/SST.py:88-96."""
    positive = (labels > 0).T
    queue = torch.cat([features.transpose(0, 1), bank], 1)  # (K, B + E, D)
    kept = torch.cat([positive, positive.new_ones(bank.shape[:2])], 1)
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : bank.shape[1]]
    return queue[torch.arange(len(queue))[:, None], order]


@dataclass(frozen=True)
class Intra:
    """Pseudo labels within images, as they act in an epoch."""

    threshold: float
    weight: float
    pooling: Pooling


@dataclass(frozen=True)
class Inter:
    """Pseudo labels across images, as they act in an epoch."""

    threshold: float
    weight: float


@dataclass(frozen=True)
class SSTObjective(PairObjective):
    """Known labels and pseudo labels. `bank`: how many features of each class are kept; None: with `inter`, features
    are compared with those of all training images. None elsewhere: off."""

    intra: Intra | None = None
    inter: Inter | None = None
    bank: int | None = None

    def begin_epoch(
        self, start: EpochStart, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]
    ) -> None:
        clear_counts(state)
        if self.inter is None or self.bank is not None:
            return
        positive = torch.from_numpy(start.task.observed) > 0

        def sums(maps: Tensor, rows: Tensor) -> Tensor:
            own = unit(self.decoupling.class_features(maps, modules))
            return torch.einsum("bkd,bk->kd", own, positive[rows].to(own.dtype))[None]

        # One sum per chunk of images, so that no feature is kept.
        state["directions"] = start.over_training(sums).sum(0) / positive.sum(0).clamp(min=1)[:, None]

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        own = self.decoupling.class_features(batch.features, modules)
        logits = self.decoupling.class_logits(own, modules)
        with torch.set_grad_enabled(self.pair_loss is not None and torch.is_grad_enabled()):
            pair_logits = self.pair_logits(own, modules)
        loss = self.taught_loss(batch, own, logits, pair_logits)
        if self.bank is not None:
            empty = own.new_zeros(own.shape[1], self.bank, own.shape[2])
            state["bank"] = updated_bank(state.get("bank", empty), own.detach(), batch.labels)
        completed = self._completed(own.detach(), pair_logits, batch.labels, modules, state)
        count(batch, completed, state)
        weights = {INTRA: self.intra and self.intra.weight, INTER: self.inter and self.inter.weight}
        for name, labels in completed.items():
            loss = loss + weights[name] * known_bce(logits, labels)
        return loss

    def similarities(
        self, features: Tensor, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]
    ) -> Tensor:
        """Scores (B, K) across images of a feature map (B, D, H, W): mean cosines in [-1, 1]."""
        return self._similarities(self.decoupling.class_features(features, modules), state)

    def completed_labels(
        self, features: Tensor, labels: Tensor, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Labels (B, K) as `intra` and `inter` complete those of a feature map (B, D, H, W), where these are on."""
        own = self.decoupling.class_features(features, modules)
        return self._completed(own, self.pair_logits(own, modules), labels, modules, state)

    def report(self, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> dict[str, float]:
        parts = {name: part for name, part in ((INTRA, self.intra), (INTER, self.inter)) if part is not None}
        thresholds = {f"theta_{name}": part.threshold for name, part in parts.items()}
        return {**thresholds, **per_image(state, tuple(parts))}

    def _similarities(self, class_features: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        directions = state["directions"] if self.bank is None else unit(state["bank"]).mean(1)
        return inter_scores(class_features, directions)

    @torch.no_grad()
    def _completed(
        self,
        class_features: Tensor,
        pair_logits: Tensor | None,
        labels: Tensor,
        modules: Mapping[str, nn.Module],
        state: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        found = {}
        if self.intra is not None:
            matrix = self.matrix(pair_logits, labels.shape[1], modules)
            scores = intra_scores(matrix, labels, self.intra.pooling)
            found[INTRA] = with_pseudo_labels(labels, scores, self.intra.threshold)
        if self.inter is not None:
            scores = self._similarities(class_features, state)
            found[INTER] = with_pseudo_labels(labels, scores, self.inter.threshold)
        return found
