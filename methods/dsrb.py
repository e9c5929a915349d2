"""DSRB, the successor of SARB in the same release: prototypes differ by where in the image their class is seen.

`methods.components.blending` has both levels of blending and their loss. The release blends attention-weighted feature
maps and sums over positions afterwards; that is linear, so that blending the class features, which are those sums, is
the same: the instance level is SARB's. Here are DSRB's prototypes, four per class, one per quadrant of the map: the
mean of the images known to have the class that see it there. An image sees a class in the quadrant with the largest sum
over channels of its attention-weighted map; rows and columns from half the size on are the lower and right ones. What
is blended into an image is a prototype of one of the three other quadrants, drawn per image and class.

The released code does not run (undefined names), so this is what it means, without its faults: its means include a map
of zeros, and stop after 100 images; here they are of all training images and nothing else. A quadrant in which no image
has the class takes the mean over all quadrants, as released; a class without any known positive is never blended (the
release stops). Prototypes are taken from whole training images without augmentation. With SAM in place of words, the
map that its masks weigh is the transformed one. There is no publication to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .components.blending import SHARES, BlendingSettings, Prototypes
from .components.decoupling import Decoupling
from .components.prototypes import known_positive_features
from .contract.method import Method
from .contract.objective import Batch, EpochStart, Objective
from .networks.semantic_decoupling import SemanticAttention, SemanticDecoupling

QUADRANTS = 4


def peak_quadrants(activation: Tensor) -> Tensor:
    """In which quadrant each map (..., H, W) is largest: 2 for the lower half plus 1 for the right one, int64."""
    height, width = activation.shape[-2:]
    peak = activation.flatten(-2).argmax(-1)
    return 2 * (peak // width >= height // 2) + (peak % width >= width // 2).long()


def quadrant_prototypes(features: Tensor, classes: Tensor, quadrants: Tensor, num_classes: int) -> Tensor:
    """Prototypes (K, 4, D): means of features (M, D) of the `classes` (M,) that are seen in the `quadrants` (M,).

    An empty quadrant has the mean of all features of its class, a class without features has zeros.
    """
    sums = features.new_zeros((num_classes * QUADRANTS, features.shape[1]))
    sums = sums.index_add(0, classes * QUADRANTS + quadrants, features).reshape(num_classes, QUADRANTS, -1)
    counts = torch.bincount(classes * QUADRANTS + quadrants, minlength=num_classes * QUADRANTS)
    counts = counts.reshape(num_classes, QUADRANTS, 1)
    overall = sums.sum(1, keepdim=True) / counts.sum(1, keepdim=True).clamp(min=1)
    return torch.where(counts > 0, sums / counts.clamp(min=1), overall)


def other_quadrants(quadrants: Tensor, generator: torch.Generator) -> Tensor:
    """For each of `quadrants` (B, K) one of the three others, drawn evenly."""
    steps = torch.randint(1, QUADRANTS, quadrants.shape, generator=generator).to(quadrants.device)
    return (quadrants + steps) % QUADRANTS


def _activation(features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
    """Sums over channels (B, K, H, W) of attention-weighted maps, of the map (B, D, H, W) that is attended to."""
    decoupling = modules["decoupling"]
    assert isinstance(decoupling, SemanticDecoupling | SemanticAttention)
    weighed = decoupling.transformed(features) if isinstance(decoupling, SemanticAttention) else features
    return decoupling.attention(features) * weighed.sum(1, keepdim=True)


@dataclass(frozen=True)
class QuadrantPrototypes(Prototypes):
    """One prototype per class and quadrant of the map, blended into images that see the class in another one."""

    def made(self, start: EpochStart, decoupling: Decoupling, modules: Mapping[str, nn.Module]) -> Tensor:
        def with_quadrants(maps: Tensor) -> Tensor:
            narrowed = decoupling.narrowed(maps, modules)
            quadrants = peak_quadrants(_activation(narrowed, modules))
            return torch.cat([modules["decoupling"](narrowed), quadrants[:, :, None]], 2)

        found, classes = known_positive_features(start, with_quadrants)
        return quadrant_prototypes(found[:, :-1], classes, found[:, -1].long(), start.task.num_classes)

    @torch.no_grad()
    def drawn(self, prototypes: Tensor, features: Tensor, modules: Mapping[str, nn.Module], batch: Batch) -> Tensor:
        quadrants = peak_quadrants(_activation(features, modules))
        others = other_quadrants(quadrants, batch.generator("prototype/quadrant"))
        return prototypes[torch.arange(len(prototypes), device=others.device), others]


@dataclass(frozen=True)
class DSRBSettings(BlendingSettings):
    pass


class DSRB(Method[DSRBSettings]):
    """Unknown labels take features of other images and of prototypes of other places in the image (DSRB)."""

    name = "dsrb"
    source = "HCP release, model/DSRB.py (unpublished; the code does not run)"
    Settings = DSRBSettings
    reports = SHARES
    quick: ClassVar[Mapping[str, Any]] = {"start_epoch": 2, "prototypes_every": 2}

    def objective(self, epoch: int) -> Objective:
        return self.settings.blending(epoch, QuadrantPrototypes())
