"""SST, structured semantic transfer (Chen et al., AAAI 2022): unknown labels become positive because of other labels of
the image (IST), or because of similar features in images with this label (CST).

`methods.components.transfer` has the two scores, L_ist, and the objective before `start_epoch`. From `start_epoch` on,
an unknown label becomes positive if its score reaches a threshold; IST and CST have separate scores and thresholds. No
label becomes negative. The thresholds fall with each epoch to their minimum. y_intra and y_inter are the labels
completed by IST and CST:

    L = BCE(x, y) + w_1 BCE(x, y_intra) + w_2 BCE(x, y_inter) + w_3 L_ist + w_4 L_cst

BCE is partial BCE, so known labels count in each of the three terms. L_cst is the contrastive loss.

Text and release differ. Where both make sense there is a setting; the default is the release:

* Eq. 2 sums over the known positives, the release takes the mean (`intra_pooling`).
* The text's pair head has the same weights for all pairs and a ReLU after both hidden layers. The release has a ReLU
  only after the second layer, one more layer, and separate last weights for each pair (`pair_head`).
* Eq. 6 compares with all known positives of the class, the release with the last 100 (`inter_score`). This feature bank
  is filled in all epochs. Empty slots count as similarity 0, so a class with few known positives has low scores at
  first. `all_positives` is exact, because the mean cosine is the product with the mean of the unit features. This mean
  is computed before each epoch, from all training images without augmentation, with the current weights.
* Eq. 4 has log(1 - p) for negative pairs, the release log(min(1 - p + m, 1)) (`ist_log`).
* Eq. 7-8 push also pairs with an unknown label apart, the release leaves them out (`contrastive_pairs`).
* Eq. 9 takes the mean over the known labels of each image, the release over those of the batch (`bce_mean`).
* The text has batches of 32, the release's scripts have 8: `train.batch_size`.
* A threshold of 1 switches its term off, as in the release. Neither has a fixed threshold; a step of 0 gives one.

There is no code of the ablations. Assumptions: "IST w/ stat" uses the graph's adjacency instead of the pair head:
P(i | j) for known j, counted in the known labels (`statistical`). It has no L_ist. This probability is too low by a
factor, the share of known labels; `statistical_known` corrects this by counting only images with i known. "IST w/o
L_ist" has a pair head that is not trained.

With IST and CST off, SST is SSGRL. With CST and L_ist off, it is SSGRL before `start_epoch`.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from .components.contrastive import unit
from .components.transfer import (
    INTER,
    INTRA,
    PSEUDO,
    PairObjective,
    Pooling,
    TransferSettings,
    clear_counts,
    count,
    inter_scores,
    intra_scores,
    per_image,
)
from .contract.method import Method
from .contract.objective import Batch, Completed, EpochStart, InseparableError, Modules, Objective
from .contract.schedules import falling
from .contract.settings import setting


def with_pseudo_labels(labels: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Labels (B, K) of +1, -1, 0, in which unknown labels with a score (B, K) of at least `threshold` become +1. With a
    threshold of 1 or more, none does. Source: SST, Eq. 2 and 6."""
    return labels if threshold >= 1 else labels.masked_fill((labels == 0) & (scores >= threshold), 1)


def update_bank(bank: Tensor, features: Tensor, labels: Tensor) -> None:
    """Adds the features (B, K, D) of known positives to the `bank` (K, E, D), which keeps the last E of each class. New
    features come first, in the order of the batch. Source: SST release, model/SST.py:88-96."""
    positive = (labels > 0).T
    classes = positive.any(1).nonzero()[:, 0]
    queue = torch.cat([features[:, classes].transpose(0, 1), bank[classes]], 1)  # (K', B + E, D)
    kept = torch.cat([positive[classes], positive.new_ones(len(classes), bank.shape[1])], 1)
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : bank.shape[1]]
    bank[classes] = queue[torch.arange(len(classes), device=classes.device)[:, None], order]


@dataclass(frozen=True)
class Intra:
    """Values of the pseudo labels within images (IST) in an epoch."""

    threshold: float
    weight: float
    pooling: Pooling


@dataclass(frozen=True)
class Inter:
    """Values of the pseudo labels across images (CST) in an epoch."""

    threshold: float
    weight: float


@dataclass(frozen=True)
class SSTObjective(PairObjective):
    """Partial BCE on known labels and on pseudo labels. `bank`: number of features kept of each class; None: `inter`
    compares with all training images. Another part that is None is off."""

    intra: Intra | None = None
    inter: Inter | None = None
    bank: int | None = None

    def begin_epoch(self, start: EpochStart, modules: Modules, state: MutableMapping[str, Tensor]) -> None:
        clear_counts(state)
        if self.inter is None or self.bank is not None:
            return
        positive = torch.from_numpy(start.task.observed) > 0

        def sums(maps: Tensor, rows: Tensor) -> Tensor:
            own = unit(self.decoupling.class_features(maps, modules))
            return torch.einsum("bkd,bk->kd", own, positive[rows].to(own))[None]

        # One sum per chunk of images, so that single features need no memory.
        state["directions"] = start.over_training(sums).sum(0) / positive.sum(0).clamp(min=1)[:, None]

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("known and pseudo labels have denominators of their own, those of the whole batch")

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        own = self.decoupling.class_features(batch.features, modules)
        logits = self.decoupling.class_logits(own, modules)
        with torch.set_grad_enabled(self.pair_loss is not None and torch.is_grad_enabled()):
            pair_logits = self.pair_logits(own, modules)
        loss = self.taught_loss(batch, own, logits, pair_logits)
        if self.bank is not None:
            if "bank" not in state:
                state["bank"] = own.new_zeros(own.shape[1], self.bank, own.shape[2])
            update_bank(state["bank"], own.detach(), batch.labels)
        rules = self.rules(own.detach(), pair_logits, batch.labels, modules, state)
        completed = {name: rule.labels for name, rule in rules.items()}
        count(batch, completed, state)
        for name, part in self._parts().items():
            loss = loss + part.weight * self.partial_bce(logits, completed[name])
        return loss

    def report(self, modules: Modules, state: Mapping[str, Tensor]) -> dict[str, float]:
        parts = self._parts()
        thresholds = {f"theta_{name}": part.threshold for name, part in parts.items()}
        return {**thresholds, **per_image(state, tuple(parts))}

    def _parts(self) -> dict[str, Intra | Inter]:
        parts = {INTRA: self.intra, INTER: self.inter}
        return {name: part for name, part in parts.items() if part is not None}

    @torch.no_grad()
    def rules(
        self, own: Tensor, pair_logits: Tensor | None, labels: Tensor, modules: Modules, state: Mapping[str, Tensor]
    ) -> dict[str, Completed]:
        scores: dict[str, Tensor] = {}
        if self.intra is not None:
            matrix = self.matrix(pair_logits, labels.shape[1], modules)
            scores[INTRA] = intra_scores(matrix, labels, self.intra.pooling)
        if self.inter is not None:
            directions = state["directions"] if self.bank is None else unit(state["bank"]).mean(1)
            scores[INTER] = inter_scores(own, directions)
        return {
            name: Completed(scores[name], part.threshold, with_pseudo_labels(labels, scores[name], part.threshold))
            for name, part in self._parts().items()
        }


_INTRA = {"ist": (True,)}
_INTER = {"cst": (True,)}
_THETA = "SST (AAAI 2022), implementation details"


def _start(where: str, when: Mapping[str, tuple[bool]]) -> Any:
    doc = f"threshold {where} in the first epoch with pseudo labels"
    return setting(0.95, doc, published=0.95, maximum=1, typical=(0.8, 0.9, 0.95), when=when, source=_THETA)


def _step(where: str, when: Mapping[str, tuple[bool]]) -> Any:
    doc = f"decrease of the threshold {where} after each epoch; 0: constant"
    return setting(0.025, doc, published=0.025, minimum=0, typical=(0.0, 0.025, 0.05), when=when, source=_THETA)


def _min(where: str, when: Mapping[str, tuple[bool]]) -> Any:
    doc, typical = f"minimum of the threshold {where}", (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
    figure, title = "SST (AAAI 2022), Figure 3", "smallest θ"
    return setting(0.75, doc, published=0.75, maximum=1, typical=typical, when=when, source=figure, title=title)


@dataclass(frozen=True)
class SSTSettings(TransferSettings):
    theta_intra_start: float = _start("within images", _INTRA)
    theta_intra_step: float = _step("within images", _INTRA)
    theta_intra_min: float = _min("within images", _INTRA)
    inter_score: Literal["bank", "all_positives"] = setting(
        "bank",
        "features with which a feature is compared across images. bank: the last ones of known positives of the class. "
        "all_positives: those of all known positives in the training images",
        published="bank",
        when=_INTER,
        source="SST release, model/SST.py:88-96: bank; Eq. 6: all_positives",
    )
    bank_size: int = setting(
        100,
        "number of features kept of each class",
        published=100,
        minimum=1,
        typical=(20, 50, 100),
        when={"cst": (True,), "inter_score": ("bank",)},
        source="SST release: 100",
    )
    theta_inter_start: float = _start("across images", _INTER)
    theta_inter_step: float = _step("across images", _INTER)
    theta_inter_min: float = _min("across images", _INTER)

    def intra(self, epoch: int) -> Intra | None:
        """Values of the pseudo labels within images in `epoch` (from 1); None if there are none."""
        theta = self._theta(epoch, self.theta_intra_start, self.theta_intra_step, self.theta_intra_min)
        if theta is None or not self.ist or self.intra_weight == 0:
            return None
        return Intra(theta, self.intra_weight, self.intra_pooling)

    def inter(self, epoch: int) -> Inter | None:
        """Values of the pseudo labels across images in `epoch` (from 1); None if there are none."""
        theta = self._theta(epoch, self.theta_inter_start, self.theta_inter_step, self.theta_inter_min)
        if theta is None or not self.cst or self.inter_weight == 0:
            return None
        return Inter(theta, self.inter_weight)

    def bank(self) -> int | None:
        """The number of features kept of each class, in all epochs; None without a bank."""
        return self.bank_size if self.cst and self.inter_weight and self.inter_score == "bank" else None

    def _theta(self, epoch: int, start: float, step: float, least: float) -> float | None:
        if epoch < self.start_epoch:
            return None
        theta = falling(start, step, least, epoch, self.start_epoch)
        return theta if theta < 1 else None


class SST(Method[SSTSettings]):
    """Unknown labels follow from an image's other labels and from other images (SST)."""

    name = "sst"
    source = "Chen et al., Structured Semantic Transfer for MLR with Partial Labels, AAAI 2022"
    Settings = SSTSettings
    reports: ClassVar = {
        "theta_intra": "threshold of pseudo labels, IST",
        "theta_inter": "threshold of pseudo labels, CST",
        **PSEUDO,
    }
    # Scores so early are low within images, and high across them.
    quick: ClassVar = {
        "start_epoch": 2,
        "theta_intra_start": 0.5,
        "theta_intra_step": 0.1,
        "theta_intra_min": 0.3,
        "theta_inter_start": 0.97,
        "theta_inter_step": 0.02,
        "theta_inter_min": 0.95,
        "bank_size": 3,
    }

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        intra, inter, bank = s.intra(epoch), s.inter(epoch), s.bank()
        if intra is None and inter is None and bank is None:
            return s.without_pseudo_labels(epoch)
        pair_loss = s.pair_loss(epoch)
        pairs = s.pairs() if intra or pair_loss else None
        return SSTObjective(
            s.decoupled(), s.contrastive(epoch), pairs, pair_loss, intra, inter, bank, per_image=s.per_image()
        )
