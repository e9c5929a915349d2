"""DSRB (Pu et al., Expert Systems with Applications 2024), the successor of SARB: prototypes depend on where in the
image their class is.

`methods.components.blending` has both levels of blending and their loss. The release blends attention-weighted feature
maps and then sums over positions. This is linear, so it equals blending the class features, which are these sums, and
the instance level is the same as in SARB. This module has DSRB's prototypes: four per class, one per quadrant of the
map. A prototype is the mean class feature of the images with a known positive in this quadrant. The quadrant of a class
in an image is where the attention-weighted map, summed over channels, is largest. The lower and right quadrants start
at half the height and width. An image is blended with a prototype of one of the three other quadrants, drawn per image
and class.

The released code does not run (undefined names). This module does what the code means, without two faults: its means
include a map of zeros and stop after 100 images, here they cover exactly all training images. A quadrant without images
gets the mean over all quadrants, as in the release. A class without known positives is never blended; the release stops
with an error. Prototypes come from whole training images without augmentation. With SAM instead of word vectors, the
masks weight the transformed map. All of this follows the code; it was not compared with the paper's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .components.blending import SHARES, BlendingSettings, Prototypes
from .components.decoupling import Decoupling
from .components.prototypes import known_positive_features
from .contract.method import Method
from .contract.objective import Batch, EpochStart, Modules, Objective
from .networks.semantic_decoupling import SemanticAttention, SemanticDecoupling

QUADRANTS = 4


def peak_quadrants(activation: Tensor) -> Tensor:
    """The quadrant of the maximum of each map (..., H, W), int64: 2 in the lower half, plus 1 in the right half."""
    height, width = activation.shape[-2:]
    peak = activation.flatten(-2).argmax(-1)
    return 2 * (peak // width >= height // 2) + (peak % width >= width // 2).long()


def quadrant_prototypes(features: Tensor, classes: Tensor, quadrants: Tensor, num_classes: int) -> Tensor:
    """Prototypes (K, 4, D): mean features of each class and quadrant.

    `features` (M, D) belong to `classes` (M,) and `quadrants` (M,). An empty quadrant gets the mean of all features of
    its class; a class without features gets zeros.
    """
    sums = features.new_zeros((num_classes * QUADRANTS, features.shape[1]))
    sums = sums.index_add(0, classes * QUADRANTS + quadrants, features).reshape(num_classes, QUADRANTS, -1)
    counts = torch.bincount(classes * QUADRANTS + quadrants, minlength=num_classes * QUADRANTS)
    counts = counts.reshape(num_classes, QUADRANTS, 1)
    overall = sums.sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)
    return torch.where(counts > 0, sums / counts.clamp(min=1), overall)


def other_quadrants(quadrants: Tensor, generator: torch.Generator) -> Tensor:
    """For each of `quadrants` (B, K), one of the three others, with equal probability."""
    steps = torch.randint(1, QUADRANTS, quadrants.shape, generator=generator).to(quadrants.device)
    return (quadrants + steps) % QUADRANTS


def _activation(features: Tensor, modules: Modules) -> Tensor:
    """The attention-weighted maps summed over channels, (B, K, H, W), from a feature map (B, D, H, W)."""
    decoupling = modules["decoupling"]
    assert isinstance(decoupling, SemanticDecoupling | SemanticAttention)
    weighed = decoupling.transformed(features) if isinstance(decoupling, SemanticAttention) else features
    return decoupling.attention(features) * weighed.sum(1, keepdim=True)


@dataclass(frozen=True)
class QuadrantPrototypes(Prototypes):
    """One prototype per class and quadrant. It is blended into images that have the class in another quadrant."""

    def made(self, start: EpochStart, decoupling: Decoupling, modules: Modules) -> Tensor:
        def with_quadrants(maps: Tensor) -> Tensor:
            narrowed = decoupling.narrowed(maps, modules)
            quadrants = peak_quadrants(_activation(narrowed, modules))
            return torch.cat([modules["decoupling"](narrowed), quadrants[:, :, None]], 2)

        found, classes = known_positive_features(start, with_quadrants)
        return quadrant_prototypes(found[:, :-1], classes, found[:, -1].long(), start.task.num_classes)

    @torch.no_grad()
    def drawn(self, prototypes: Tensor, features: Tensor, modules: Modules, batch: Batch) -> Tensor:
        quadrants = peak_quadrants(_activation(features, modules))
        others = other_quadrants(quadrants, batch.generator("prototype/quadrant"))
        return prototypes[torch.arange(len(prototypes), device=others.device), others]


class DSRB(Method[BlendingSettings]):
    """Unknown labels take features of other images and of prototypes of other places in the image (DSRB)."""

    name = "dsrb"
    source = (
        "Pu et al., Dual-Perspective Semantic-Aware Representation Blending for MLR with Partial Labels, Expert "
        "Systems with Applications 249, 2024, 123526; HCP release, model/DSRB.py, which does not run"
    )
    Settings = BlendingSettings
    reports = SHARES
    quick: ClassVar = {"start_epoch": 2, "prototypes_every": 2}

    def objective(self, epoch: int) -> Objective:
        return self.settings.blending(epoch, QuadrantPrototypes())
