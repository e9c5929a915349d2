"""IP-Mixup and FM-Mixup, the baselines of SARB's ablation: whole images, or whole feature maps, are blended.

SARB's slides say that IP-Mixup blends in image space and FM-Mixup in feature space, without decoupling, and that both
are about as good as SSGRL. There is no code and no formula. The following is assumed, so that they differ from SARB
only in what is blended:

* The network is SSGRL's, trained with partial BCE, without a contrastive loss. The first epochs are SSGRL's; blending
  begins in `start_epoch`, as in SARB.
* The other image comes from the batch in reverse order, as in SARB. In an odd batch the middle image is blended with
  itself.
* The share of the own image is 0.5, the start value of SARB, or it is drawn per batch from Beta(a, a), as in mixup. It
  is not learned.
* `images`: normalised images are blended before the backbone. `feature_maps`: the output of the backbone is blended,
  before the attention.
* Labels, with share r of the own image: a class with a known positive in only one of the two images gets the soft label
  r if it is the own image, else 1 - r. For an unknown own label this is SARB's soft label. Two positives give a
  positive, two negatives a negative. A negative and an unknown label, or two unknown labels, give an unknown label:
  unlike in SARB, all of the other image is blended, also where its label is unknown.
* The loss is like SARB's: partial BCE of the original images, plus `mixup_weight` times that of the blended images.
  With `own_images` off only the blended images count, as in the published mixup.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from .components.decoupling import DecoupledObjective, DecouplingSettings
from .contract.method import Method
from .contract.objective import BLENDED, LOGITS, Batch, InseparableError, Modules, Objective
from .contract.settings import setting


def blended(values: Tensor, share: float) -> Tensor:
    """Images or maps (B, ...) blended with those of the batch in reverse order. `share` is that of the own image."""
    return share * values + (1 - share) * values.flip(0)


def blended_labels(labels: Tensor, share: float) -> Tensor:
    """Float32 targets (B, K) of blended images, from labels (B, K) of +1, -1, 0: the share of the images with a known
    positive, -1 if both labels are negative, else 0 (unknown)."""
    other = labels.flip(0)
    positive = blended((labels > 0).float(), share)
    return torch.where((labels < 0) & (other < 0), -1.0, positive)


@dataclass(frozen=True)
class MixupObjective(DecoupledObjective):
    """Partial BCE on the original and on the blended images. `weight` None: only blended images are trained on.
    `concentration` is a of Beta(a, a); None: the share is 0.5."""

    space: Literal["images", "feature_maps"] = "images"
    weight: float | None = None
    concentration: float | None = None

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("images are blended with others of the batch")

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        share = self.share(batch)
        if self.space == "images":
            features = batch.features_of(lambda images: blended(images, share))
        else:
            features = blended(batch.features, share)
        batch.note(BLENDED, (batch.labels == 0) & (batch.labels.flip(0) > 0))
        # A separate forward pass: in one batch with the original features, batch norm would have other statistics than
        # in SSGRL.
        loss = self.partial_bce(self.logits(features, modules), blended_labels(batch.labels, share))
        if self.weight is None:
            return loss
        logits = self.logits(batch.features, modules)
        batch.note(LOGITS, logits)
        return self.partial_bce(logits, batch.labels) + self.weight * loss

    def share(self, batch: Batch) -> float:
        """The share of the own image in this step."""
        if self.concentration is None:
            return 0.5
        # torch cannot draw from a Beta distribution with a given generator.
        seed = int(torch.randint(2**31, (), generator=batch.generator("mixup")))
        return float(np.random.default_rng(seed).beta(self.concentration, self.concentration))


@dataclass(frozen=True)
class MixupSettings(DecouplingSettings):
    space: Literal["images", "feature_maps"] = setting(
        "images",
        "what is blended: images (IP-Mixup) or feature maps (FM-Mixup)",
        source="SARB slides, ablation of CSRL",
    )
    share: Literal["half", "beta"] = setting("half", "share of the own image: 0.5, or drawn per batch from Beta(a, a)")
    concentration: float = setting(
        1.0, "a of Beta(a, a)", above=0, typical=(0.2, 1.0, 8.0), when={"share": ("beta",)}, source="mixup: 0.2 to 0.4"
    )
    own_images: bool = setting(True, "the original images stay in the loss, as in SARB")
    mixup_weight: float = setting(
        1.0, "weight of the blended images' loss", above=0, typical=(0.5, 1.0), when={"own_images": (True,)}
    )
    start_epoch: int = setting(6, "first epoch in which images are blended", minimum=1, typical=(1, 2, 6))


class Mixup(Method[MixupSettings]):
    """Whole images or feature maps are blended, and their labels (IP-Mixup, FM-Mixup)."""

    name = "mixup"
    source = "Zhang et al., mixup, ICLR 2018; as a baseline: Pu et al., SARB, AAAI 2022"
    Settings = MixupSettings
    quick: ClassVar = {"start_epoch": 2}

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        if epoch < s.start_epoch:
            return DecoupledObjective(s.decoupled(), per_image=s.per_image())
        weight = s.mixup_weight if s.own_images else None
        concentration = s.concentration if s.share == "beta" else None
        return MixupObjective(s.decoupled(), None, s.space, weight, concentration, per_image=s.per_image())
