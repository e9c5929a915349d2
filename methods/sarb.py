"""SARB, semantic-aware representation blending (Pu et al., AAAI 2022): features of classes that are known in other
images, and prototypes of classes, are blended into images in which these classes are not known.

`methods.components.blending` has the blending of both levels, ILRB and PLRB, and its loss; here are SARB's prototypes:
the k-means centres of the class features (before the graph) of the images that are known to have the class, made before
`start_epoch` and every `prototypes_every` epochs. A step draws the number of one prototype for all its images and
classes, as released. Before `start_epoch`, and with both levels off, it is SSGRL with the contrastive loss.

Different from the release: prototypes are taken from whole training images without augmentation, all of them; a class
with fewer known positives than prototypes has fewer (the release stops with an error), one without any is never
blended; k-means is seeded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .components.blending import SHARES, BlendingSettings, Prototypes
from .components.decoupling import Decoupling
from .components.prototypes import class_prototypes, known_positive_features
from .contract.method import Method
from .contract.objective import Batch, EpochStart, Objective
from .contract.settings import setting


@dataclass(frozen=True)
class ClusterPrototypes(Prototypes):
    """`per_class` k-means centres of each class's features."""

    per_class: int

    def made(self, start: EpochStart, decoupling: Decoupling, modules: Mapping[str, nn.Module]) -> Tensor:
        features, classes = known_positive_features(start, lambda maps: decoupling.class_features(maps, modules))
        return class_prototypes(features, classes, start.task.num_classes, self.per_class, start.generator)

    def drawn(self, prototypes: Tensor, features: Tensor, modules: Mapping[str, nn.Module], batch: Batch) -> Tensor:
        number = torch.randint(prototypes.shape[1], (), generator=batch.generator("prototype/number"))
        return prototypes[:, int(number)]


@dataclass(frozen=True)
class SARBSettings(BlendingSettings):
    prototypes: int = setting(
        10, "prototypes per class", minimum=1, typical=(5, 10, 20), when={"plrb": (True,)}, source="SARB release: 10"
    )


class SARB(Method[SARBSettings]):
    """Unknown labels take features of other images and of k-means prototypes (SARB)."""

    name = "sarb"
    source = "Pu et al., Semantic-Aware Representation Blending for MLR with Partial Labels, AAAI 2022"
    Settings = SARBSettings
    reports = SHARES
    # Prototypes made twice, of classes with fewer known positives than prototypes among others.
    quick: ClassVar[Mapping[str, Any]] = {"start_epoch": 2, "prototypes_every": 2, "prototypes": 4}

    def objective(self, epoch: int) -> Objective:
        return self.settings.blending(epoch, ClusterPrototypes(self.settings.prototypes))
