"""What the methods with semantic decoupling share: class features, a graph over the classes, and a head per class.

Attention guided by the class's word vector (semantic decoupling), or a mask per class (SAM), turns a feature map
(B, D, H, W) into one feature per class (B, K, D). A gated graph network passes messages between classes, along the
co-occurrence of known labels in the training split. The head computes a logit for each class from both features. The
loss is partial BCE on known labels, and in some methods a contrastive loss on class features. This objective is here
because it is the only one in the first epochs of SST, SARB and their successors; so they share these epochs.

The release has a 1 x 1 convolution with batch norm first (2048 to 1024 channels: `feature_width`). It also pools
ResNet's 14 x 14 map to 7 x 7 before (`network.map_pooling`). No method is here.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ..contract.head import FeatureMap
from ..contract.objective import LOGITS, Batch, InseparableError, Modules, Objective
from ..contract.settings import Settings, setting
from ..contract.task import Task
from ..networks.class_head import ClassHead
from ..networks.gated_graph import GatedGraph
from ..networks.semantic_decoupling import SemanticAttention, SemanticDecoupling
from .contrastive import Contrastive
from .cooccurrence import conditional_probabilities
from .losses import known_bce

_BY_WORDS = {"decoupling": ("semantic_decoupling",)}


class Narrowed(nn.Sequential):
    """A 1 x 1 convolution without bias, then batch norm: (B, D, H, W) to (B, D', H, W). No ReLU, as in the release."""

    def __init__(self, width: int, narrower: int):
        super().__init__(nn.Conv2d(width, narrower, 1, bias=False), nn.BatchNorm2d(narrower))


@dataclass(frozen=True)
class Decoupling:
    """From feature map to class features to logits. `attention_width` None: masks per class (SAM) instead of attention
    from word vectors. `feature_width` None: as many channels as the backbone. `graph_steps` None: no messages between
    classes."""

    attention_width: int | None
    feature_width: int | None
    graph_steps: int | None

    def width(self, features: FeatureMap) -> int:
        """The width D of class features."""
        return self.feature_width or features.width

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        width = self.width(features)
        found: dict[str, Callable[[], nn.Module]] = {"head": partial(ClassHead, width, task.num_classes)}
        if self.feature_width:
            found["narrowed"] = partial(Narrowed, features.width, width)
        if self.attention_width is None:
            found["decoupling"] = partial(SemanticAttention, width, task.num_classes, width)
        else:
            words = torch.from_numpy(task.word_vectors)
            found["decoupling"] = partial(SemanticDecoupling, width, words, self.attention_width)
        if self.graph_steps:
            adjacency = conditional_probabilities(torch.from_numpy(task.observed))
            found["graph"] = partial(GatedGraph, width, adjacency.to(torch.float32), self.graph_steps)
        return found

    def refuse_batch_norm(self) -> None:
        """Raises `InseparableError` if the features of an image depend on the other images of its batch."""
        if self.feature_width:
            raise InseparableError("the batch norm of `feature_width` is that of the whole batch")

    def narrowed(self, features: Tensor, modules: Modules) -> Tensor:
        """The feature map (B, D, H, W) from which class features are computed."""
        return modules["narrowed"](features) if self.feature_width else features

    def class_features(self, features: Tensor, modules: Modules) -> Tensor:
        """Class features (B, K, D) of a feature map (B, D', H, W), before the graph."""
        return modules["decoupling"](self.narrowed(features, modules))

    def attention(self, features: Tensor, modules: Modules) -> Tensor:
        """The attention maps (B, K, H, W) by which class features are computed, of a feature map (B, D', H, W)."""
        decoupling = modules["decoupling"]
        assert isinstance(decoupling, SemanticDecoupling | SemanticAttention)
        return decoupling.attention(self.narrowed(features, modules))

    def class_logits(self, class_features: Tensor, modules: Modules) -> Tensor:
        """Logits (B, K) of class features (B, K, D). Without a graph, class features take the place of its output."""
        heard = modules["graph"](class_features) if self.graph_steps else class_features
        return modules["head"](heard, class_features)


@dataclass(frozen=True)
class DecoupledObjective(Objective):
    """Partial BCE on known labels, and the contrastive loss if it is on. Base class for the methods' own objectives.
    `per_image`: see `known_bce`; None: off."""

    decoupling: Decoupling
    contrastive: Contrastive | None = None
    per_image: bool | None = field(default=None, kw_only=True)

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        return self.decoupling.modules(features, task)

    def logits(self, features: Tensor, modules: Modules) -> Tensor:
        return self.decoupling.class_logits(self.decoupling.class_features(features, modules), modules)

    def attention(self, features: Tensor, modules: Modules) -> Tensor:
        return self.decoupling.attention(features, modules)

    def class_features(self, features: Tensor, modules: Modules) -> Tensor:
        return self.decoupling.class_features(features, modules)

    def part_weight(self, labels: Tensor) -> float:
        if self.contrastive is not None:
            raise InseparableError("the contrastive loss compares the images of a batch")
        self.decoupling.refuse_batch_norm()
        return float(len(labels) if self.per_image else (labels != 0).sum())

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        class_features = self.decoupling.class_features(batch.features, modules)
        return self.known_loss(batch, class_features, self.decoupling.class_logits(class_features, modules))

    def known_loss(self, batch: Batch, class_features: Tensor, logits: Tensor) -> Tensor:
        """The scalar loss from known labels only, of class features (B, K, D) and logits (B, K)."""
        batch.note(LOGITS, logits)
        loss = self.partial_bce(logits, batch.labels)
        if self.contrastive is not None:
            loss = loss + self.contrastive(class_features, batch.labels, batch.progress, batch.generator)
        return loss

    def partial_bce(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Partial BCE, a scalar, of logits and targets (B, K), with the mean that the objective takes."""
        return known_bce(logits, targets, per_image=bool(self.per_image))


@dataclass(frozen=True)
class DecouplingSettings(Settings):
    """How class features are computed. The defaults suit the embedded data."""

    decoupling: Literal["semantic_decoupling", "semantic_attention"] = setting(
        "semantic_decoupling",
        "class features by attention from word vectors (semantic_decoupling), or by a mask per class (SAM)",
        published="semantic_decoupling",
        source="SST release, SemanticDecoupling.py; ADD-GCN, add_gcn.py:109-124",
    )
    attention_width: int = setting(
        32,
        "width of the low-rank bilinear attention",
        minimum=1,
        published=512,
        typical=(16, 32),
        when=_BY_WORDS,
        source="SST release, SemanticDecoupling.py:9-49",
    )
    feature_width: int = setting(
        0,
        "number of channels after a 1 x 1 convolution with batch norm; 0: no convolution, channels of the backbone",
        minimum=0,
        published=1024,
        typical=(0, 32),
        source="SARB release, model/SARB.py:23-25",
    )
    graph_steps: int = setting(
        1,
        "steps of the gated graph network; 0: no messages between classes",
        minimum=0,
        published=3,
        typical=(0, 1),
        source="SST release, GraphNeuralNetwork.py:8-55",
    )
    bce_mean: Literal["batch", "image"] = setting(
        "batch",
        "partial BCE. batch: the mean over the known labels of the batch, as released. image: over those of each "
        "image, then over the images, as in the text",
        published="batch",
        source="SST release, loss/SST.py:87-101: batch; Eq. 9 and 10: image",
    )

    def per_image(self) -> bool | None:
        """Whether partial BCE takes the mean over each image first; None: it does not."""
        return self.bce_mean == "image" or None

    def decoupled(self) -> Decoupling:
        by_words = self.decoupling == "semantic_decoupling"
        return Decoupling(
            self.attention_width if by_words else None, self.feature_width or None, self.graph_steps or None
        )
