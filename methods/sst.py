"""SST, structured semantic transfer (Chen et al., AAAI 2022): unknown labels become positive where other labels of the
image (IST), or images that are known to have the label (CST), say so.

`methods.components.transfer` has the two scores, L_ist, and what acts before `start_epoch`. From then on an unknown
label becomes positive where its score reaches a threshold, of IST and of CST apart; no label becomes negative. The
thresholds fall by the epoch until they reach their minimum. With y_intra and y_inter the labels that IST and CST
complete,

    L = BCE(x, y) + w_1 BCE(x, y_intra) + w_2 BCE(x, y_inter) + w_3 L_ist + w_4 L_cst

BCE is partial BCE, so that the known labels count in each of the three. L_cst is the contrastive loss.

Text and release differ (all with documented settings where both make sense; the release is the default):

* Eq. 2 sums over the known positives, the release takes the mean (`intra_pooling`).
* The text's pair head is the same for all pairs and has ReLU after both hidden layers; the release's has ReLU after the
  second alone, one more layer, and last weights of each pair's own (`pair_head`).
* Eq. 6 compares with all images that are known to have the class, the release with the last 100 (`inter_score`). The
  bank is filled in all epochs, and slots that are still empty count as similarity 0: a class with few known positives
  cannot score high at first. `all_positives` is exact, because the mean cosine is the product with the mean of the unit
  features; that is taken before each epoch, of all training images without augmentation, under the weights as they are.
* Eq. 9 takes the mean over each image's known labels, the release over those of the batch. Eq. 7-8: see
  `methods.components.contrastive`.
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
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from .components.contrastive import unit
from .components.losses import known_bce
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
from .contract.objective import Batch, Completed, EpochStart, InseparableError, Objective
from .contract.schedules import falling
from .contract.settings import setting


def with_pseudo_labels(labels: Tensor, scores: Tensor, threshold: float) -> Tensor:
    """Labels (B, K) of +1, -1, 0, where unknown ones whose score (B, K) is at least `threshold` are +1. A threshold of
    1, or more, is reached by none. Source: SST, Eq. 2 and 6."""
    return labels if threshold >= 1 else labels.masked_fill((labels == 0) & (scores >= threshold), 1)


def update_bank(bank: Tensor, features: Tensor, labels: Tensor) -> None:
    """Puts features (B, K, D) under labels (B, K) into the `bank` (K, E, D) of each class's last E: those of known
    positives come in front, in the order of the batch. Source: SST release, model/SST.py:88-96."""
    positive = (labels > 0).T
    classes = positive.any(1).nonzero()[:, 0]
    queue = torch.cat([features[:, classes].transpose(0, 1), bank[classes]], 1)  # (K', B + E, D)
    kept = torch.cat([positive[classes], positive.new_ones(len(classes), bank.shape[1])], 1)
    order = (~kept).to(torch.int8).argsort(dim=1, stable=True)[:, : bank.shape[1]]
    bank[classes] = queue[torch.arange(len(classes), device=classes.device)[:, None], order]


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
            return torch.einsum("bkd,bk->kd", own, positive[rows].to(own))[None]

        # One sum per chunk of images, so that no feature is kept.
        state["directions"] = start.over_training(sums).sum(0) / positive.sum(0).clamp(min=1)[:, None]

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("known and pseudo labels have denominators of their own, those of the whole batch")

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
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
            loss = loss + part.weight * known_bce(logits, completed[name])
        return loss

    def report(self, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> dict[str, float]:
        parts = self._parts()
        thresholds = {f"theta_{name}": part.threshold for name, part in parts.items()}
        return {**thresholds, **per_image(state, tuple(parts))}

    def _parts(self) -> dict[str, Intra | Inter]:
        parts = {INTRA: self.intra, INTER: self.inter}
        return {name: part for name, part in parts.items() if part is not None}

    @torch.no_grad()
    def rules(
        self,
        class_features: Tensor,
        pair_logits: Tensor | None,
        labels: Tensor,
        modules: Mapping[str, nn.Module],
        state: Mapping[str, Tensor],
    ) -> dict[str, Completed]:
        scores: dict[str, Tensor] = {}
        if self.intra is not None:
            matrix = self.matrix(pair_logits, labels.shape[1], modules)
            scores[INTRA] = intra_scores(matrix, labels, self.intra.pooling)
        if self.inter is not None:
            directions = state["directions"] if self.bank is None else unit(state["bank"]).mean(1)
            scores[INTER] = inter_scores(class_features, directions)
        return {
            name: Completed(scores[name], part.threshold, with_pseudo_labels(labels, scores[name], part.threshold))
            for name, part in self._parts().items()
        }


_INTRA = {"ist": (True,)}
_INTER = {"cst": (True,)}
_THETA = "SST (AAAI 2022), implementation details"


@dataclass(frozen=True)
class SSTSettings(TransferSettings):
    theta_intra_start: float = setting(
        0.95,
        "threshold within images in the first epoch with pseudo labels",
        maximum=1,
        typical=(0.8, 0.9, 0.95),
        when=_INTRA,
        source=_THETA,
    )
    theta_intra_step: float = setting(
        0.025,
        "how much it falls after each epoch; 0: it stays",
        minimum=0,
        typical=(0.0, 0.025, 0.05),
        when=_INTRA,
        source=_THETA,
    )
    theta_intra_min: float = setting(
        0.75,
        "where it stops falling",
        maximum=1,
        typical=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
        when=_INTRA,
        source="SST (AAAI 2022), Figure 3",
        title="smallest θ",
    )
    inter_score: Literal["bank", "all_positives"] = setting(
        "bank",
        "across images, the features that one is compared with: the last few of the class, or those of all training "
        "images that are known to have it",
        when=_INTER,
        source="SST release, model/SST.py:88-96: bank; Eq. 6: all_positives",
    )
    bank_size: int = setting(
        100,
        "features kept of each class",
        minimum=1,
        typical=(20, 50, 100),
        when={"cst": (True,), "inter_score": ("bank",)},
        source="SST release: 100",
    )
    theta_inter_start: float = setting(
        0.95,
        "threshold across images in the first epoch with pseudo labels",
        maximum=1,
        typical=(0.8, 0.9, 0.95),
        when=_INTER,
        source=_THETA,
    )
    theta_inter_step: float = setting(
        0.025,
        "how much it falls after each epoch; 0: it stays",
        minimum=0,
        typical=(0.0, 0.025, 0.05),
        when=_INTER,
        source=_THETA,
    )
    theta_inter_min: float = setting(
        0.75,
        "where it stops falling",
        maximum=1,
        typical=(0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
        when=_INTER,
        source="SST (AAAI 2022), Figure 3",
        title="smallest θ",
    )

    def intra(self, epoch: int) -> Intra | None:
        """Pseudo labels within images in `epoch` (from 1)."""
        theta = self._theta(epoch, self.theta_intra_start, self.theta_intra_step, self.theta_intra_min)
        if theta is None or not self.ist or self.intra_weight == 0:
            return None
        return Intra(theta, self.intra_weight, self.intra_pooling)

    def inter(self, epoch: int) -> Inter | None:
        """Pseudo labels across images in `epoch` (from 1)."""
        theta = self._theta(epoch, self.theta_inter_start, self.theta_inter_step, self.theta_inter_min)
        if theta is None or not self.cst or self.inter_weight == 0:
            return None
        return Inter(theta, self.inter_weight)

    def bank(self) -> int | None:
        """Features kept of each class, in all epochs."""
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
    reports: ClassVar[Mapping[str, str]] = {
        "theta_intra": "threshold of pseudo labels, IST",
        "theta_inter": "threshold of pseudo labels, CST",
        **PSEUDO,
    }
    # Scores so early are low within images, and high across them.
    quick: ClassVar[Mapping[str, Any]] = {
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
        return SSTObjective(s.decoupled(), s.contrastive(epoch), pairs, pair_loss, intra, inter, bank)
