"""HST, heterogeneous semantic transfer (Chen et al., IJCV 2024): SST with learned thresholds, and with prototypes of
classes instead of a feature bank.

`methods.components.transfer` has the two scores, L_ist, and the objective before `start_epoch`, the same as in SST.
From `start_epoch` on, s is the score of a class within the image (IST) or across images (CST). Each of the two has a
learned margin m:

    t = min(max(s - m, 0), 1), an unknown label becomes positive if t > 0
    L = BCE(x, y) + w_3 L_ist + w_4 L_contrast + w_5 L_proto
        + sum over IST and CST of [w BCE(x, y_completed) + v BCE(t, y)]

BCE is partial BCE. The last term uses t as a logit. Its gradient passes through m and s to the pair head and the
features. The probability of a known positive together with itself is 1. The score across images is the mean cosine with
the class's k-means prototypes (`methods.components.prototypes`). They are computed before `start_epoch` and then every
`prototypes_every` epochs, and are constant in between. L_proto is the mean of 1 - y s over all labels, where s is the
score across images. It moves known positives towards their prototypes and known negatives away from them.

The text of the paper was not available; this follows the release, with two exceptions. The release's L_proto is the
mean of 1 + y s, which moves known positives away (`prototype_sign`). The release stops if a class has fewer known
positives than prototypes; here such a class has fewer prototypes, and a class without known positives has cosine 0.

A margin moves by the gradient of known labels with s > m, and by weight decay. Started at 1, as in the release, and
with a small learning rate, it stays so high that almost no label is completed. Without BCE(t, y) it has no gradient and
is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from .components.contrastive import unit
from .components.prototypes import class_prototypes, known_positive_features
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
from .contract.head import FeatureMap
from .contract.method import Method
from .contract.objective import Batch, Completed, EpochStart, InseparableError, Modules, Objective
from .contract.settings import setting
from .contract.task import Task


def soft_scores(scores: Tensor, margin: Tensor | float) -> Tensor:
    """t = min(max(s - m, 0), 1) of scores s (B, K) and margin m."""
    return (scores - margin).clamp(0, 1)


def completed_labels(labels: Tensor, soft: Tensor) -> Tensor:
    """Labels (B, K) of +1, -1, 0, in which unknown labels with `soft` (B, K) above 0 become +1."""
    return labels.masked_fill((labels == 0) & (soft > 0), 1)


def prototype_loss(similarities: Tensor, labels: Tensor, *, released: bool = False) -> Tensor:
    """L_proto, a scalar: the mean of 1 - y s over all entries, unknown ones included; with `released`, of 1 + y s. s
    are mean cosines with prototypes (B, K), y labels (B, K). Source: HST release, loss/HST.py:293-294."""
    agreement = similarities * labels.to(similarities.dtype)
    return (1 + agreement if released else 1 - agreement).mean()


class LearnedMargin(nn.Module):
    """A learned number."""

    def __init__(self, start: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start))

    def forward(self) -> Tensor:
        return self.value


@dataclass(frozen=True)
class Transfer:
    """Values of IST or CST in an epoch. `margin`: its start value. `weight`: weight of the loss on pseudo labels.
    `rate_multiplier`: factor of the base learning rate for the margin; None: the margin is fixed. `soft_weight`: weight
    of BCE(t, y); None: off."""

    margin: float
    weight: float
    rate_multiplier: float | None = None
    soft_weight: float | None = None


@dataclass(frozen=True)
class Prototypes:
    """Values of the prototypes in an epoch. `anew`: they are computed before the epoch, else taken from the state.
    `loss_weight`: weight of L_proto; None: off. `released`: L_proto has the release's sign."""

    per_class: int
    anew: bool
    loss_weight: float | None = None
    released: bool | None = None


@dataclass(frozen=True)
class HSTObjective(PairObjective):
    """Partial BCE on known labels and on pseudo labels above learned margins. A part that is None is off."""

    intra: Transfer | None = None
    pooling: Pooling | None = None
    inter: Transfer | None = None
    prototypes: Prototypes | None = None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        learned = {
            f"margin_{name}": partial(LearnedMargin, part.margin)
            for name, part in self._parts().items()
            if part.rate_multiplier is not None
        }
        return {**super().modules(features, task), **learned}

    def rate_multipliers(self) -> dict[str, float]:
        parts = self._parts().items()
        return {f"margin_{name}": part.rate_multiplier for name, part in parts if part.rate_multiplier is not None}

    def begin_epoch(self, start: EpochStart, modules: Modules, state: MutableMapping[str, Tensor]) -> None:
        clear_counts(state)
        if self.prototypes is not None and self.prototypes.anew:
            features, classes = known_positive_features(
                start, lambda maps: self.decoupling.class_features(maps, modules)
            )
            number = self.prototypes.per_class
            state["prototypes"] = class_prototypes(features, classes, start.task.num_classes, number, start.generator)

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("known and pseudo labels have denominators of their own, those of the whole batch")

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        own = self.decoupling.class_features(batch.features, modules)
        logits = self.decoupling.class_logits(own, modules)
        pair_logits = self.pair_logits(own, modules)
        loss = self.taught_loss(batch, own, logits, pair_logits)
        scores = self._scores(own, pair_logits, batch.labels, modules, state)
        completed = {}
        for name, part in self._parts().items():
            soft = soft_scores(scores[name], self._margin(name, part, modules))
            completed[name] = completed_labels(batch.labels, soft)
            loss = loss + part.weight * self.partial_bce(logits, completed[name])
            if part.soft_weight is not None:
                loss = loss + part.soft_weight * self.partial_bce(soft, batch.labels)
        if self.prototypes is not None and self.prototypes.loss_weight is not None:
            released = bool(self.prototypes.released)
            loss = loss + self.prototypes.loss_weight * prototype_loss(scores[INTER], batch.labels, released=released)
        count(batch, completed, state)
        return loss

    def report(self, modules: Modules, state: Mapping[str, Tensor]) -> dict[str, float]:
        parts = self._parts()
        margins = {f"margin_{name}": float(self._margin(name, part, modules)) for name, part in parts.items()}
        return {**margins, **per_image(state, tuple(parts))}

    def rules(
        self, own: Tensor, pair_logits: Tensor | None, labels: Tensor, modules: Modules, state: Mapping[str, Tensor]
    ) -> dict[str, Completed]:
        scores = self._scores(own, pair_logits, labels, modules, state)
        found = {}
        for name, part in self._parts().items():
            margin = self._margin(name, part, modules)
            found[name] = Completed(
                scores[name], float(margin), completed_labels(labels, soft_scores(scores[name], margin))
            )
        return found

    def _scores(
        self, own: Tensor, pair_logits: Tensor | None, labels: Tensor, modules: Modules, state: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Scores (B, K) of `INTRA` and `INTER`, if they are on."""
        found = {}
        if self.intra is not None:
            matrix = self.matrix(pair_logits, labels.shape[1], modules)
            found[INTRA] = intra_scores(matrix, labels, self.pooling or "mean")
        if self.prototypes is not None:
            found[INTER] = inter_scores(own, unit(state["prototypes"]).mean(1))
        return found

    def _margin(self, name: str, part: Transfer, modules: Modules) -> Tensor | float:
        return part.margin if part.rate_multiplier is None else modules[f"margin_{name}"]()

    def _parts(self) -> dict[str, Transfer]:
        parts = {INTRA: self.intra, INTER: self.inter}
        return {name: part for name, part in parts.items() if part is not None}


_RELEASE = "HST release, HST.py and model/HST.py"
_CST = {"cst": (True,)}


@dataclass(frozen=True)
class HSTSettings(TransferSettings):
    margin: Literal["learned", "fixed"] = setting(
        "learned", "margins of IST and CST", published="learned", source=_RELEASE
    )
    margin_intra_start: float = setting(
        1.0,
        "margin within images at the start; with margin fixed, in all epochs",
        published=1.0,
        maximum=1,
        typical=(0.75, 0.9, 1.0),
        when={"ist": (True,)},
        source=f"{_RELEASE}: 1",
    )
    margin_inter_start: float = setting(
        1.0,
        "margin across images at the start; with margin fixed, in all epochs",
        published=1.0,
        maximum=1,
        typical=(0.75, 0.9, 1.0),
        when=_CST,
        source=f"{_RELEASE}: 1",
    )
    margin_multiplier: float = setting(
        1.0,
        "factor of the base learning rate for the margins",
        published=1.0,
        above=0,
        typical=(1.0, 10.0),
        when={"margin": ("learned",)},
        source=f"{_RELEASE}: 1, with the weight decay of everything else",
    )
    soft_weight: float = setting(
        0.1,
        "weight of the soft scores' partial BCE with the known labels; 0: off, then margins are not learned",
        published=0.1,
        minimum=0,
        typical=(0.0, 0.1, 1.0),
        source=f"{_RELEASE}: 0.1",
    )
    prototypes: int = setting(
        10, "prototypes per class", published=10, minimum=1, typical=(5, 10, 20), when=_CST, source=_RELEASE
    )
    prototypes_every: int = setting(
        5,
        "number of epochs after which the prototypes are computed again",
        published=5,
        minimum=1,
        typical=(1, 2, 5),
        when=_CST,
        source=f"{_RELEASE}: 5",
    )
    prototype_weight: float = setting(
        0.05,
        "weight of the prototype loss; 0: off",
        published=0.05,
        minimum=0,
        typical=(0.0, 0.05, 0.2),
        when=_CST,
        source=f"{_RELEASE}: 0.05",
    )
    prototype_sign: Literal["corrected", "released"] = setting(
        "corrected",
        "sign of the prototype loss. corrected: moves known positives towards their prototypes. released: away from "
        "them, as in the release",
        published="corrected",
        when=_CST,
        source="HST release, loss/HST.py:293-294",
    )

    def intra(self) -> Transfer | None:
        """Values of the pseudo labels within images, from `start_epoch` on."""
        return self._transfer(self.ist, self.margin_intra_start, self.intra_weight)

    def inter(self) -> Transfer | None:
        """Values of the pseudo labels across images, from `start_epoch` on."""
        return self._transfer(self.cst, self.margin_inter_start, self.inter_weight)

    def _transfer(self, on: bool, margin: float, weight: float) -> Transfer | None:
        if not on or weight == 0:
            return None
        moves = self.margin == "learned" and self.soft_weight > 0
        return Transfer(margin, weight, self.margin_multiplier if moves else None, self.soft_weight or None)

    def prototypes_in(self, epoch: int) -> Prototypes:
        """Values of the prototypes in `epoch`, which must be `start_epoch` or later."""
        loss_weight = self.prototype_weight or None
        return Prototypes(
            self.prototypes,
            (epoch - self.start_epoch) % self.prototypes_every == 0,
            loss_weight,
            (loss_weight is not None and self.prototype_sign == "released") or None,
        )


class HST(Method[HSTSettings]):
    """Unknown labels follow from labels of the image and prototypes of classes, above learned margins (HST)."""

    name = "hst"
    source = "Chen et al., Heterogeneous Semantic Transfer for MLR with Partial Labels, IJCV 2024"
    Settings = HSTSettings
    reports: ClassVar = {
        "margin_intra": "margin of pseudo labels, IST",
        "margin_inter": "margin of pseudo labels, CST",
        **PSEUDO,
    }
    quick: ClassVar = {
        "start_epoch": 2,
        "margin_intra_start": 0.4,
        "margin_inter_start": 0.95,
        "prototypes": 3,
        "prototypes_every": 2,
    }

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        intra, inter = s.intra(), s.inter()
        prototypes = s.prototypes_in(epoch) if inter or (s.cst and s.prototype_weight > 0) else None
        if epoch < s.start_epoch or not (intra or prototypes):
            return s.without_pseudo_labels(epoch)
        pair_loss = s.pair_loss(epoch)
        return HSTObjective(
            s.decoupled(),
            s.contrastive(epoch),
            s.pairs() if intra or pair_loss else None,
            pair_loss,
            intra,
            s.intra_pooling if intra else None,
            inter,
            prototypes,
            per_image=s.per_image(),
        )
