"""Semantic transfer: scores of unknown labels, as in SST and HST. How a score becomes a pseudo label is left to the
method.

f_i (D) is an image's class feature of class i, before the graph (`methods.components.decoupling`).

* Within an image (IST): p_ij is the probability that classes i and j are in the image together. A pair head predicts it
  from [f_i, f_j], or it is counted from the labels of all images. The score of class i is the mean of p_ij over the
  known positives j, 0 without any (SST, Eq. 1-2).
* Across images (CST): the score of class i is the mean of cos(f_i, g) over features g of known positives of class i
  (SST, Eq. 5-6).

L_ist trains the pair head: the mean of the asymmetric loss (gammas 1 and 2, clip 0.05) over all pairs of classes. A
pair is positive if both labels are known positives, else negative, also with unknown labels (SST, Eq. 3-4). L_ist and
the contrastive loss act from epoch 1 on; their weights grow from 0 in that epoch. The objective of the epochs without
pseudo labels is here, so that SST and HST share these epochs. No method is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ..contract.head import FeatureMap
from ..contract.objective import MODIFIED, Batch, Completed, Completion, InseparableError, Modules
from ..contract.settings import setting
from ..contract.task import Task
from ..networks.pair_head import PairHead, pairs
from .contrastive import Contrastive, ContrastiveSettings, unit
from .cooccurrence import conditional_probabilities
from .decoupling import DecoupledObjective, DecouplingSettings
from .losses import asymmetric_loss

Pooling = Literal["mean", "sum"]
# Names of the two transfers: within an image, and across images.
INTRA, INTER = "intra", "inter"


def pair_loss(
    pair_logits: Tensor,
    labels: Tensor,
    *,
    gamma_pos: float = 1.0,
    gamma_neg: float = 2.0,
    clip: float = 0.05,
    unshifted: bool = False,
) -> Tensor:
    """L_ist, a scalar, of pair logits (B, P) in the order of `pairs`, with labels (B, K). Source: SST release,
    loss/SST.py:173-209. `unshifted`: log(1 - p) for a negative pair, as in SST's Eq. 4, in place of the release's
    log(min(1 - p + clip, 1)). Eq. 4 lacks a sign, and p - m below 0 counts as 0 here, as in the asymmetric loss that it
    cites."""
    first, second = pairs(labels.shape[1]).T
    positive = labels > 0
    targets = torch.where(positive[:, first] & positive[:, second], 1, -1)
    return asymmetric_loss(
        pair_logits,
        targets,
        gamma_pos=gamma_pos,
        gamma_neg=gamma_neg,
        clip=clip,
        focus_gradient=True,
        clip_log=not unshifted,
    ).mean()


def pair_matrix(pair_logits: Tensor, classes: int) -> Tensor:
    """Probabilities (B, K, K) that two classes are in an image together, from pair logits (B, P): symmetric, with 1 on
    the diagonal."""
    first, second = pairs(classes).T
    probabilities = torch.sigmoid(pair_logits)
    matrix = probabilities.new_ones(len(probabilities), classes, classes)
    matrix[:, first, second] = probabilities
    matrix[:, second, first] = probabilities
    return matrix


def intra_scores(matrix: Tensor, labels: Tensor, pooling: Pooling = "mean") -> Tensor:
    """Scores (B, K): the mean, or sum, of a class's probabilities together with the known positives of `labels` (B, K).

    `matrix` (B, K, K) or (K, K): row is the scored class, column the known class. An image without known positives has
    score 0. Source: SST, Eq. 2 (sum); release, loss/SST.py:25-29 (mean).
    """
    positive = (labels > 0).to(matrix.dtype)
    sums = (matrix @ positive[:, :, None]).squeeze(2)
    return sums if pooling == "sum" else sums / positive.sum(1, keepdim=True).clamp(min=1)


def inter_scores(features: Tensor, directions: Tensor) -> Tensor:
    """Mean cosines (B, K) of class features (B, K, D) with reference features of the same class. `directions` (K, D) is
    the mean of the reference features, each scaled to length 1. Source: SST, Eq. 5-6; release, loss/SST.py:38-58."""
    return torch.einsum("bkd,kd->bk", unit(features), directions)


class LabelStatistics(nn.Module):
    """P(i | j) in row i, column j of `matrix` (K, K), counted from known labels (N, K). Not trained.

    It is the share of images with known positive i, among those with known positive j; with `among_known`, among those
    in which i is known too. The column of a class without known positives is 0.
    """

    matrix: Tensor

    def __init__(self, labels: Tensor, among_known: bool):
        super().__init__()
        matrix = conditional_probabilities(labels, among_known=among_known).T
        self.register_buffer("matrix", matrix, persistent=False)


@dataclass(frozen=True)
class LearnedPairs:
    """Pair probabilities from a pair head with `hidden` values per class. `shared`: same weights for all pairs."""

    hidden: int
    shared: bool | None = None


@dataclass(frozen=True)
class StatisticalPairs:
    """Pair probabilities counted from the labels of training images. `among_known`: see `LabelStatistics`."""

    among_known: bool | None = None


Pairs = LearnedPairs | StatisticalPairs


@dataclass(frozen=True)
class PairLoss:
    """Values of L_ist in an epoch. `ramp`: the weight grows from 0 to `weight` over the epoch's steps. `unshifted`: see
    `pair_loss`."""

    weight: float
    ramp: bool | None = None
    unshifted: bool | None = None


@dataclass(frozen=True)
class PairObjective(DecoupledObjective):
    """The objective without pseudo labels: partial BCE, the contrastive loss, and L_ist. A part that is None is off."""

    pairs: Pairs | None = None
    pair_loss: PairLoss | None = None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        found, width = super().modules(features, task), self.decoupling.width(features)
        if isinstance(self.pairs, LearnedPairs):
            per_pair = not self.pairs.shared
            found["pairs"] = partial(PairHead, width, self.pairs.hidden, task.num_classes, per_pair=per_pair)
        elif isinstance(self.pairs, StatisticalPairs):
            labels = torch.from_numpy(task.observed)
            found["statistics"] = partial(LabelStatistics, labels, bool(self.pairs.among_known))
        return found

    def part_weight(self, labels: Tensor) -> float:
        if self.pair_loss is not None:
            raise InseparableError("L_ist is a mean over images, partial BCE one over known labels")
        return super().part_weight(labels)

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        own = self.decoupling.class_features(batch.features, modules)
        logits = self.decoupling.class_logits(own, modules)
        return self.taught_loss(batch, own, logits, self.pair_logits(own, modules))

    def taught_loss(self, batch: Batch, class_features: Tensor, logits: Tensor, pair_logits: Tensor | None) -> Tensor:
        """The scalar loss without pseudo labels, of class features (B, K, D), logits (B, K) and pair logits (B, P)."""
        loss = self.known_loss(batch, class_features, logits)
        if self.pair_loss is not None:
            assert pair_logits is not None, "L_ist teaches a pair head"
            weight = self.pair_loss.weight * (batch.progress if self.pair_loss.ramp else 1.0)
            unshifted = bool(self.pair_loss.unshifted)
            loss = loss + weight * pair_loss(pair_logits, batch.labels, unshifted=unshifted)
        return loss

    def pair_logits(self, class_features: Tensor, modules: Modules) -> Tensor | None:
        """The pair head's logits (B, P) of class features (B, K, D); None without a pair head."""
        return modules["pairs"](class_features) if isinstance(self.pairs, LearnedPairs) else None

    def matrix(self, pair_logits: Tensor | None, classes: int, modules: Modules) -> Tensor:
        """Pair probabilities: of each image (B, K, K) from pair logits (B, P), or the same for all images (K, K)."""
        if pair_logits is not None:
            return pair_matrix(pair_logits, classes)
        statistics = modules["statistics"]
        assert isinstance(statistics, LabelStatistics)
        return statistics.matrix

    def completion(
        self, features: Tensor, labels: Tensor, modules: Modules, state: Mapping[str, Tensor]
    ) -> Completion | None:
        """None if there are no pair probabilities or no rules. Statistical probabilities are equal in all images."""
        if self.pairs is None:
            return None
        own = self.decoupling.class_features(features, modules)
        pair_logits = self.pair_logits(own, modules)
        matrix = self.matrix(pair_logits, labels.shape[1], modules)
        rules = self.rules(own, pair_logits, labels, modules, state)
        return Completion(matrix.expand(len(features), -1, -1), rules) if rules else None

    def rules(
        self, own: Tensor, pair_logits: Tensor | None, labels: Tensor, modules: Modules, state: Mapping[str, Tensor]
    ) -> dict[str, Completed]:
        """The labels (B, K) completed by `INTRA` and `INTER`, if they are on, from class features `own` (B, K, D) and
        pair logits (B, P). In this class both are off."""
        return {}


def clear_counts(state: MutableMapping[str, Tensor]) -> None:
    """Sets the counters of pseudo labels to 0, before an epoch."""
    for name in ("images", INTRA, INTER):
        state[f"counted/{name}"] = torch.zeros((), dtype=torch.int64)


def count(batch: Batch, completed: Mapping[str, Tensor], state: MutableMapping[str, Tensor]) -> None:
    """Notes and counts the pseudo labels of a batch: the entries of `completed` (B, K) that differ from the labels."""
    added = {name: labels != batch.labels for name, labels in completed.items()}
    for name, entries in added.items():
        state[f"counted/{name}"] += entries.sum()
    state["counted/images"] += len(batch.labels)
    if added:
        batch.note(MODIFIED, torch.stack(list(added.values())).any(0))


# What `per_image` reports, as `Method.reports`.
PSEUDO = {"pseudo_intra": "pseudo labels per image, IST", "pseudo_inter": "pseudo labels per image, CST"}


def per_image(state: Mapping[str, Tensor], names: tuple[str, ...]) -> dict[str, float]:
    """The mean number of pseudo labels per image in the epoch: `pseudo_intra`, `pseudo_inter`."""
    return {f"pseudo_{name}": float(state[f"counted/{name}"] / state["counted/images"]) for name in names}


_SST = "SST (AAAI 2022)"
_IST = {"ist": (True,)}
_LEARNED = {"ist": (True,), "cooccurrence": ("learned",)}
_CST = {"cst": (True,)}


@dataclass(frozen=True)
class TransferSettings(ContrastiveSettings, DecouplingSettings):
    """Both transfers and their losses. The defaults suit the embedded data."""

    ist: bool = setting(
        True,
        "IST: pseudo labels from the image's other labels, and L_ist",
        published=True,
        source=f"{_SST}, Table 2",
    )
    cooccurrence: Literal["learned", "statistical", "statistical_known"] = setting(
        "learned",
        "probability that two classes are together. learned: predicted for each image. statistical: counted in the "
        "known labels of all images. statistical_known: counted only in images where both labels are known",
        published="learned",
        when=_IST,
        source=f"{_SST}, Table 2: IST w/ stat, without code",
    )
    ist_weight: float = setting(
        10.0,
        "weight of L_ist; 0: off",
        published=10.0,
        minimum=0,
        typical=(0.0, 1.0, 10.0),
        when=_LEARNED,
        source=f"{_SST}, Eq. 11: 10; release: growing from 0 over the first epoch",
    )
    ist_log: Literal["shifted", "unshifted"] = setting(
        "shifted",
        "logarithm of negative pairs in L_ist. shifted: log(min(1 - p + 0.05, 1)), as released. unshifted: log(1 - p), "
        "as in the text; the margin 0.05 then acts in the focal weight alone",
        when=_LEARNED,
        published="shifted",
        source=f"SST release, loss/SST.py:173-209: shifted; {_SST}, Eq. 4: unshifted",
    )
    pair_head: Literal["per_pair", "shared"] = setting(
        "per_pair",
        "pair head. per_pair: each pair has its own last weights, as released. shared: the same weights for all pairs "
        "and ReLU after both hidden layers, as in the text",
        published="per_pair",
        when=_LEARNED,
        source="SST release, model/SST.py:45-49, 71-77; implementation details",
    )
    pair_width: int = setting(
        32,
        "width of the pair head's first layer",
        published=512,
        minimum=1,
        typical=(16, 32, 512),
        when=_LEARNED,
        source=f"{_SST}, implementation details; SST release, model/SST.py:45-49",
    )
    intra_pooling: Literal["mean", "sum"] = setting(
        "mean",
        "how the probabilities with several known positives are combined to a score",
        published="mean",
        when=_IST,
        source="SST release, loss/SST.py:25-29: mean; Eq. 2: sum",
    )
    intra_weight: float = setting(
        1.0,
        "weight of partial BCE with the pseudo labels of IST; 0: off",
        published=1.0,
        minimum=0,
        typical=(0.0, 0.5, 1.0),
        when=_IST,
        source=f"{_SST}, Eq. 10: 1",
    )
    cst: bool = setting(
        True,
        "CST: pseudo labels from other images' features, and the contrastive loss",
        published=True,
        source=f"{_SST}, Table 2",
    )
    inter_weight: float = setting(
        1.0,
        "weight of partial BCE with the pseudo labels of CST; 0: off",
        published=1.0,
        minimum=0,
        typical=(0.0, 0.5, 1.0),
        when=_CST,
        source=f"{_SST}, Eq. 10: 1",
    )
    start_epoch: int = setting(
        6,
        "first epoch with pseudo labels",
        published=6,
        minimum=1,
        typical=(2, 4, 6),
        source=f"{_SST}, implementation details: 6",
    )

    def contrastive(self, epoch: int) -> Contrastive | None:
        """The contrastive loss in `epoch` (from 1). It belongs to CST: without CST it is off."""
        return super().contrastive(epoch) if self.cst else None

    def pairs(self) -> Pairs:
        """The source of the pair probabilities."""
        if self.cooccurrence == "learned":
            return LearnedPairs(self.pair_width, self.pair_head == "shared" or None)
        return StatisticalPairs(self.cooccurrence == "statistical_known" or None)

    def pair_loss(self, epoch: int) -> PairLoss | None:
        """L_ist in `epoch` (from 1)."""
        if not self.ist or self.cooccurrence != "learned" or self.ist_weight == 0:
            return None
        return PairLoss(self.ist_weight, epoch == 1 or None, self.ist_log == "unshifted" or None)

    def without_pseudo_labels(self, epoch: int) -> DecoupledObjective:
        """The objective of `epoch` (from 1) without pseudo labels."""
        decoupling, contrastive, pair_loss = self.decoupled(), self.contrastive(epoch), self.pair_loss(epoch)
        if pair_loss is None:
            return DecoupledObjective(decoupling, contrastive, per_image=self.per_image())
        return PairObjective(decoupling, contrastive, self.pairs(), pair_loss, per_image=self.per_image())
