"""IP-Mixup and FM-Mixup, the baselines of SARB's ablation: whole images, or whole feature maps, are blended.

SARB's slides say that the one blends in image space and the other in feature space, without decoupling, and that both
are about as good as SSGRL. There is no code, and no formula. Assumed, so that they differ from SARB in what is blended
and in nothing else:

* The network is SSGRL's, trained by partial BCE; there is no contrastive loss. The first epochs are SSGRL's; blending
  starts with SARB's (`start_epoch`).
* The other image is the batch's in reverse order, as in SARB; in an odd batch the middle one is blended with itself.
* The share of the own image is fixed at 0.5, where SARB's starts, or drawn per batch from Beta(a, a), as in mixup. It
  is not learned.
* `images`: normalised images are blended, and go through the whole backbone. `feature_maps`: what comes out of the
  backbone is blended, before the attention.
* Labels: with share r of the own image, a class that one image is known to have and the other is not gets the soft
  label r, or 1 - r where the other image has it: where the own label is unknown that is what SARB gives it. Two
  positives are a positive, two negatives a negative. A negative and an unknown label, or two unknown, are unknown:
  unlike in SARB, the other image's part of what is seen cannot be left out of a class.
* The loss is SARB's: partial BCE of the images as they are, plus `mixup_weight` times that of the blended ones. With
  `own_images` off the latter stands alone, which is mixup as it was published.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from .components.decoupling import DecoupledObjective, DecouplingSettings
from .components.losses import known_bce
from .contract.method import Method
from .contract.objective import BLENDED, Batch, InseparableError, Objective
from .contract.settings import setting


def blended(values: Tensor, share: float) -> Tensor:
    """Images, or maps, (B, ...) blended with those of the batch in reverse order: `share` of the own."""
    return share * values + (1 - share) * values.flip(0)


def blended_labels(labels: Tensor, share: float) -> Tensor:
    """Targets (B, K), float32, of what `blended` makes of images with labels (B, K) of +1, -1, 0: the share of images
    that are known to have the class, -1 where both are known not to have it, 0 (unknown) elsewhere."""
    other = labels.flip(0)
    positive = blended((labels > 0).float(), share)
    return torch.where((labels < 0) & (other < 0), -1.0, positive)


@dataclass(frozen=True)
class MixupObjective(DecoupledObjective):
    """Known labels, and those of blended images. `weight` None: nothing but the blended images is trained on.
    `concentration` is a of Beta(a, a), None for a share of one half."""

    space: Literal["images", "feature_maps"] = "images"
    weight: float | None = None
    concentration: float | None = None

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("images are blended with others of the batch")

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        share = self.share(batch)
        if self.space == "images":
            features = batch.features_of(lambda images: blended(images, share))
        else:
            features = blended(batch.features, share)
        batch.note(BLENDED, (batch.labels == 0) & (batch.labels.flip(0) > 0))
        # A pass of its own: with the plain features in one batch, batch norm would see other statistics than SSGRL's.
        loss = known_bce(self.logits(features, modules), blended_labels(batch.labels, share))
        if self.weight is None:
            return loss
        return known_bce(self.logits(batch.features, modules), batch.labels) + self.weight * loss

    def share(self, batch: Batch) -> float:
        """The share of the own image in a step."""
        if self.concentration is None:
            return 0.5
        # Torch draws no Beta from a generator of one's own.
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
    own_images: bool = setting(True, "the images as they are stay in the loss, as in SARB")
    mixup_weight: float = setting(
        1.0, "weight of the blended images' loss", above=0, typical=(0.5, 1.0), when={"own_images": (True,)}
    )
    start_epoch: int = setting(6, "first epoch in which images are blended", minimum=1, typical=(1, 2, 6))


class Mixup(Method[MixupSettings]):
    """Whole images or feature maps are blended, and their labels (IP-Mixup, FM-Mixup)."""

    name = "mixup"
    source = "Zhang et al., mixup, ICLR 2018; as a baseline: Pu et al., SARB, AAAI 2022"
    Settings = MixupSettings
    quick: ClassVar[Mapping[str, Any]] = {"start_epoch": 2}

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        if epoch < s.start_epoch:
            return DecoupledObjective(s.decoupled())
        weight = s.mixup_weight if s.own_images else None
        concentration = s.concentration if s.share == "beta" else None
        return MixupObjective(s.decoupled(), None, s.space, weight, concentration)
