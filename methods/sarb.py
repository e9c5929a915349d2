"""SARB, semantic-aware representation blending (Pu et al., AAAI 2022): an image's features of unknown classes are
blended with features of known positives in other images, and with prototypes of classes.

`methods.components.blending` has both levels of blending, ILRB and PLRB, and the loss. This module has SARB's
prototypes: k-means centres of the class features (before the graph) of known positives, computed before `start_epoch`
and then every `prototypes_every` epochs. A step draws one prototype number for all of its images and classes, as in the
release. Before `start_epoch`, or with both levels off, the method is SSGRL with the contrastive loss.

Differences from the release: prototypes use all training images, whole and without augmentation. A class with fewer
known positives than prototypes has fewer prototypes (the release stops with an error), and a class without known
positives is never blended. k-means is seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .components.blending import SHARES, BlendingSettings, Prototypes
from .components.decoupling import Decoupling
from .components.prototypes import class_prototypes, known_positive_features
from .contract.method import Method
from .contract.objective import Batch, EpochStart, Modules, Objective
from .contract.settings import setting


@dataclass(frozen=True)
class ClusterPrototypes(Prototypes):
    """`per_class` k-means centres of the features of each class."""

    per_class: int

    def made(self, start: EpochStart, decoupling: Decoupling, modules: Modules) -> Tensor:
        features, classes = known_positive_features(start, lambda maps: decoupling.class_features(maps, modules))
        return class_prototypes(features, classes, start.task.num_classes, self.per_class, start.generator)

    def drawn(self, prototypes: Tensor, features: Tensor, modules: Modules, batch: Batch) -> Tensor:
        number = torch.randint(prototypes.shape[1], (), generator=batch.generator("prototype/number"))
        return prototypes[:, int(number)]


@dataclass(frozen=True)
class SARBSettings(BlendingSettings):
    prototypes: int = setting(
        10,
        "prototypes per class",
        published=10,
        minimum=1,
        typical=(5, 10, 20),
        when={"plrb": (True,)},
        source="SARB release: 10",
    )


class SARB(Method[SARBSettings]):
    """Unknown labels take features of other images and of k-means prototypes (SARB)."""

    name = "sarb"
    source = "Pu et al., Semantic-Aware Representation Blending for MLR with Partial Labels, AAAI 2022"
    Settings = SARBSettings
    reports = SHARES
    # Prototypes made twice, of classes with fewer known positives than prototypes among others.
    quick: ClassVar = {"start_epoch": 2, "prototypes_every": 2, "prototypes": 4}

    def objective(self, epoch: int) -> Objective:
        return self.settings.blending(epoch, ClusterPrototypes(self.settings.prototypes))
