"""Blending of class features to complement unknown labels, as in SARB and DSRB. The prototypes are left to the method.

For a class with unknown label, the image's class feature f becomes a f + (1 - a) g, and the label becomes 1 - a. Here g
is the feature of this class in another image with a known positive (instance level, share alpha), or a prototype of the
class (prototype level, share beta). Each set of blended features passes through the graph and the head. Its soft labels
count as known in partial BCE, together with the known labels:

    L = BCE(y) + weight_1 BCE(y_1) + weight_2 BCE(y_2) + contrastive loss of the features before blending

As in the SARB release, the other image comes from the batch in reverse order; alpha and beta are one number each for
all classes, with gradient through features and labels; known labels count in each of the three terms. With a share of 1
the soft label is 0, so the label stays unknown. Inference uses no blending.

Each share has its own learning rate. The release's rate of 1e-5 moves a share by at most 0.04 on VOC. Larger rates,
which small networks need, soon drive it to 1, where the loss is smallest and nothing is blended. No method is here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..contract.head import FeatureMap
from ..contract.objective import BLENDED, Batch, EpochStart, InseparableError, Modules, Objective
from ..contract.settings import setting
from ..contract.task import Task
from .contrastive import ContrastiveSettings
from .decoupling import DecoupledObjective, Decoupling, DecouplingSettings
from .prototypes import has_prototypes


class Blended(NamedTuple):
    """Class features (B, K, D), their labels (B, K) of +1, -1, 0 or soft, and which entries are blended (B, K) bool."""

    features: Tensor
    targets: Tensor
    entries: Tensor


def instance_blend(features: Tensor, labels: Tensor, share: Tensor | float) -> Blended:
    """Blends class features (B, K, D) with those of the batch in reverse order. An entry is blended if its label is
    unknown and the other image's label is positive; labels (B, K) are +1, -1, 0. `share` is the share of the own
    feature. Source: SARB release, model/SARB.py:77-88."""
    return _blended(features, features.flip(0), labels, (labels == 0) & (labels.flip(0) > 0), share)


def prototype_blend(
    features: Tensor, labels: Tensor, prototypes: Tensor, chosen: Tensor, share: Tensor | float
) -> Blended:
    """Blends the `chosen` entries (B, K) bool of class features (B, K, D) with `prototypes`, (K, D) or (B, K, D).
    Source: SARB release, model/SARB.py:89-108."""
    return _blended(features, prototypes, labels, chosen, share)


def _blended(features: Tensor, others: Tensor, labels: Tensor, entries: Tensor, share: Tensor | float) -> Blended:
    mixed = share * features + (1 - share) * others
    targets = torch.where(entries, 1 - share, labels.to(features.dtype))
    return Blended(torch.where(entries[:, :, None], mixed, features), targets, entries)


def choose_unknown(
    labels: Tensor, able: Tensor, generator: torch.Generator, *, every: bool = False, class_zero: bool = False
) -> Tensor:
    """The entries (B, K) bool to blend with a prototype: unknown labels of classes with prototypes, `able` (K,) bool.
    One random entry per image, or with `every` all of them. `class_zero`: also class 0 of images without unknown
    labels."""
    candidates = (labels == 0) & able
    if every:
        return candidates
    order = torch.rand(labels.shape, generator=generator).to(labels.device).masked_fill(~candidates, -1.0)
    chosen = torch.zeros_like(candidates).scatter_(1, order.argmax(1, keepdim=True), True) & candidates
    if class_zero:
        chosen[:, 0] |= able[0] & (labels != 0).all(1)
    return chosen


class LearnedShare(nn.Module):
    """A learned number in [0, 1]. It is clipped to this range before each use."""

    def __init__(self, start: float):
        super().__init__()
        self.value = nn.Parameter(torch.tensor(start))

    def forward(self) -> Tensor:
        with torch.no_grad():
            self.value.clamp_(0, 1)
        return self.value


# What objectives that blend report, as `Method.reports`.
SHARES = {"alpha": "learned share of the own feature, α", "beta": "learned share of the own feature, β"}


@dataclass(frozen=True)
class Share:
    """The share of the image's own feature in a blend: its start value, and the factor of its learning rate.
    `rate_multiplier` None: the share is fixed."""

    start: float
    rate_multiplier: float | None = None


@dataclass(frozen=True)
class InstanceBlending:
    """Values of the instance level (ILRB) in an epoch."""

    share: Share
    weight: float


@dataclass(frozen=True)
class Prototypes(ABC):
    """How prototypes are computed, and which prototype is blended into which image."""

    @abstractmethod
    def made(self, start: EpochStart, decoupling: Decoupling, modules: Modules) -> Tensor:
        """Prototypes (K, Q, D) from all training images; zeros for a class without prototypes."""

    @abstractmethod
    def drawn(self, prototypes: Tensor, features: Tensor, modules: Modules, batch: Batch) -> Tensor:
        """The prototypes of one step, out of `prototypes` (K, Q, D): (K, D) for all images, or (B, K, D). `features`
        (B, D', H, W) is the feature map from which class features are computed."""


@dataclass(frozen=True)
class PrototypeBlending:
    """Values of the prototype level (PLRB) in an epoch. `anew`: prototypes are computed before the epoch; else those in
    the state are used. `every`: all unknown classes of an image are blended, not one. `class_zero`: the mistake of the
    release, see `choose_unknown`."""

    share: Share
    weight: float
    prototypes: Prototypes
    anew: bool = True
    every: bool | None = None
    class_zero: bool | None = None


@dataclass(frozen=True)
class BlendingObjective(DecoupledObjective):
    """Partial BCE on known labels and on labels that blending adds. A level that is None is off."""

    instance: InstanceBlending | None = None
    prototype: PrototypeBlending | None = None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        learned = {
            name: partial(LearnedShare, share.start) for name, share in self._shares().items() if _learned(share)
        }
        return {**super().modules(features, task), **learned}

    def rate_multipliers(self) -> dict[str, float]:
        return {name: share.rate_multiplier for name, share in self._shares().items() if share.rate_multiplier}

    def begin_epoch(self, start: EpochStart, modules: Modules, state: MutableMapping[str, Tensor]) -> None:
        if self.prototype is not None and self.prototype.anew:
            state["prototypes"] = self.prototype.prototypes.made(start, self.decoupling, modules)

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("features are blended with those of other images of the batch")

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        narrowed = self.decoupling.narrowed(batch.features, modules)
        own = modules["decoupling"](narrowed)
        sets = []
        if self.instance is not None:
            blended = instance_blend(own, batch.labels, self._share("alpha", modules))
            sets.append((self.instance.weight, blended))
        if self.prototype is not None:
            chosen = choose_unknown(
                batch.labels,
                has_prototypes(state["prototypes"]),
                batch.generator("prototype/class"),
                every=bool(self.prototype.every),
                class_zero=bool(self.prototype.class_zero),
            )
            drawn = self.prototype.prototypes.drawn(state["prototypes"], narrowed, modules, batch)
            blended = prototype_blend(own, batch.labels, drawn, chosen, self._share("beta", modules))
            sets.append((self.prototype.weight, blended))
        batch.note(BLENDED, torch.stack([blended.entries for _, blended in sets]).any(0))
        return self.blended_loss(batch, own, sets, modules)

    def blended_loss(self, batch: Batch, own: Tensor, sets: list[tuple[float, Blended]], modules: Modules) -> Tensor:
        """The loss of a batch with class features `own` (B, K, D) and sets of blended features, each with its weight.
        Graph and head mix the classes of an image, but not images. So an image without a blended entry keeps its
        logits, and only changed images pass through graph and head again."""
        rows = torch.arange(len(own), device=own.device)
        stacked, places = [own], []
        for _, blended in sets:
            changed = blended.entries.any(1)
            place = rows.clone()
            place[changed] = rows[: int(changed.sum())] + sum(map(len, stacked))
            stacked.append(blended.features[changed])
            places.append(place)
        logits = self.decoupling.class_logits(torch.cat(stacked), modules)
        loss = self.known_loss(batch, own, logits[: len(own)])
        for (weight, blended), place in zip(sets, places, strict=True):
            loss = loss + weight * self.partial_bce(logits[place], blended.targets)
        return loss

    def report(self, modules: Modules, state: Mapping[str, Tensor]) -> dict[str, float]:
        return {name: float(self._share(name, modules)) for name in self._shares()}

    def _shares(self) -> dict[str, Share]:
        levels = {"alpha": self.instance, "beta": self.prototype}
        return {name: level.share for name, level in levels.items() if level is not None}

    def _share(self, name: str, modules: Modules) -> Tensor | float:
        share = self._shares()[name]
        return modules[name]() if _learned(share) else share.start


def _learned(share: Share) -> bool:
    return share.rate_multiplier is not None


_RELEASE = "SARB release, model/SARB.py"
_LOSS = "SARB release, SARB.py: the losses are added"


@dataclass(frozen=True)
class BlendingSettings(ContrastiveSettings, DecouplingSettings):
    ilrb: bool = setting(True, "instance level: blend with features of another image", published=True, source=_RELEASE)
    plrb: bool = setting(True, "prototype level: blend with prototypes", published=True, source=_RELEASE)
    start_epoch: int = setting(
        6,
        "first epoch in which features are blended",
        published=6,
        minimum=1,
        typical=(2, 4, 6),
        source="slides: epoch 5, from 0",
    )
    alpha: Literal["learned", "fixed"] = setting(
        "learned",
        "share of the image's own feature at the instance level",
        published="learned",
        when={"ilrb": (True,)},
        source="slides: learned; fixed at 0.5 in the ablation",
    )
    alpha_start: float = setting(
        0.5,
        "alpha in the first blending epoch; with alpha fixed, in all epochs",
        published=0.5,
        minimum=0,
        maximum=1,
        typical=(0.3, 0.5, 0.7),
        when={"ilrb": (True,)},
        source=_RELEASE,
    )
    alpha_multiplier: float = setting(
        0.1,
        "factor of the base learning rate for alpha; its weight decay is the common one",
        published=1.0,
        above=0,
        typical=(0.01, 0.1, 1.0),
        when={"ilrb": (True,), "alpha": ("learned",)},
        source="SARB release, SARB.py: one learning rate, 1e-5, for everything",
    )
    instance_weight: float = setting(
        1.0,
        "weight of the instance level's loss",
        published=1.0,
        above=0,
        typical=(0.5, 1.0),
        when={"ilrb": (True,)},
        source=_LOSS,
    )
    beta: Literal["learned", "fixed"] = setting(
        "learned",
        "share of the image's own feature at the prototype level",
        published="learned",
        when={"plrb": (True,)},
        source="slides: learned; fixed at 0.5 in the ablation",
    )
    beta_start: float = setting(
        0.5,
        "beta in the first blending epoch; with beta fixed, in all epochs",
        published=0.5,
        minimum=0,
        maximum=1,
        typical=(0.3, 0.5, 0.7),
        when={"plrb": (True,)},
        source=_RELEASE,
    )
    beta_multiplier: float = setting(
        0.1,
        "factor of the base learning rate for beta",
        published=1.0,
        above=0,
        typical=(0.01, 0.1, 1.0),
        when={"plrb": (True,), "beta": ("learned",)},
        source="SARB release, SARB.py: one learning rate, 1e-5, for everything",
    )
    prototype_weight: float = setting(
        1.0,
        "weight of the prototype level's loss",
        published=1.0,
        above=0,
        typical=(0.5, 1.0),
        when={"plrb": (True,)},
        source=_LOSS,
    )
    prototypes_every: int = setting(
        5,
        "number of epochs after which the prototypes are computed again",
        published=5,
        minimum=1,
        typical=(1, 2, 5),
        when={"plrb": (True,)},
        source="slides: 5",
    )
    blended_classes: Literal["one", "all"] = setting(
        "one",
        "which unknown classes of an image are blended with a prototype: one at random, as released, or all",
        published="one",
        when={"plrb": (True,)},
        source="SARB release, model/SARB.py:90-101",
    )
    images_without_unknown: Literal["left_alone", "class_zero"] = setting(
        "left_alone",
        "images without unknown labels, at the prototype level; the release overwrites their class 0 by mistake, "
        "with any label",
        published="left_alone",
        when={"plrb": (True,), "blended_classes": ("one",)},
        source="SARB release, model/SARB.py:90-101",
    )

    def blending(self, epoch: int, prototypes: Prototypes) -> Objective:
        """The objective of `epoch` (from 1)."""
        decoupling, contrastive = self.decoupled(), self.contrastive(epoch)
        if epoch < self.start_epoch or not (self.ilrb or self.plrb):
            return DecoupledObjective(decoupling, contrastive, per_image=self.per_image())
        alpha = Share(self.alpha_start, self.alpha_multiplier if self.alpha == "learned" else None)
        beta = Share(self.beta_start, self.beta_multiplier if self.beta == "learned" else None)
        level = PrototypeBlending(
            beta,
            self.prototype_weight,
            prototypes,
            anew=(epoch - self.start_epoch) % self.prototypes_every == 0,
            every=self.blended_classes == "all" or None,
            class_zero=(self.blended_classes, self.images_without_unknown) == ("one", "class_zero") or None,
        )
        return BlendingObjective(
            decoupling,
            contrastive,
            InstanceBlending(alpha, self.instance_weight) if self.ilrb else None,
            level if self.plrb else None,
            per_image=self.per_image(),
        )
