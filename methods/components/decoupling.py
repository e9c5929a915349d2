"""What the semantic-decoupling family has in common: class features, a graph over the classes, a head per class.

A feature map (B, D, H, W) becomes one feature per class (B, K, D) by attention that starts from the class's word
vector (semantic decoupling) or by a mask per class (SAM); a gated graph network passes messages between the classes
along the co-occurrence of the known labels of the training split; the head scores each class from both. Trained by
partial BCE on the known labels and, where a method has it, a contrastive loss on the class features: that objective is
here, because it is all that acts in the first epochs of SST, SARB and their successors, which therefore share them.

The release puts a 1 x 1 convolution with batch norm before all of this (2048 to 1024 channels: `feature_width`). It
pools ResNet's 14 x 14 map to 7 x 7 first, which is the backbone's matter. No method is here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from ..contract.head import FeatureMap
from ..contract.objective import Batch, InseparableError, Objective
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
    """A 1 x 1 convolution without bias and batch norm, (B, D, H, W) to (B, D', H, W), without ReLU as released."""

    def __init__(self, width: int, narrower: int):
        super().__init__(nn.Conv2d(width, narrower, 1, bias=False), nn.BatchNorm2d(narrower))


@dataclass(frozen=True)
class Decoupling:
    """From feature map to class features to logits. `attention_width` None: masks per class (SAM) instead of attention
    from words. `feature_width` None: features as wide as the backbone's. `graph_steps` None: no messages."""

    attention_width: int | None
    feature_width: int | None
    graph_steps: int | None

    def width(self, features: FeatureMap) -> int:
        """D of the class features."""
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
        """Raises `InseparableError` where an image's features depend on the others of its batch."""
        if self.feature_width:
            raise InseparableError("the batch norm of `feature_width` is that of the whole batch")

    def narrowed(self, features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        """The feature map (B, D, H, W) that class features are taken from."""
        return modules["narrowed"](features) if self.feature_width else features

    def class_features(self, features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        """Class features (B, K, D) of a feature map (B, D', H, W), before any message has passed."""
        return modules["decoupling"](self.narrowed(features, modules))

    def class_logits(self, class_features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        """Logits (B, K) of class features (B, K, D). Without messages a class's feature stands in for what it hears."""
        heard = modules["graph"](class_features) if self.graph_steps else class_features
        return modules["head"](heard, class_features)


@dataclass(frozen=True)
class DecoupledObjective(Objective):
    """Partial BCE on the known labels, and the contrastive loss where it is on. Base of what comes on top."""

    decoupling: Decoupling
    contrastive: Contrastive | None = None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        return self.decoupling.modules(features, task)

    def logits(self, features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        return self.decoupling.class_logits(self.decoupling.class_features(features, modules), modules)

    def attention(self, features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        decoupling = modules["decoupling"]
        assert isinstance(decoupling, SemanticDecoupling | SemanticAttention)
        return decoupling.attention(self.decoupling.narrowed(features, modules))

    def part_weight(self, labels: Tensor) -> float:
        if self.contrastive is not None:
            raise InseparableError("the contrastive loss compares the images of a batch")
        self.decoupling.refuse_batch_norm()
        return float((labels != 0).sum())

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        class_features = self.decoupling.class_features(batch.features, modules)
        return self.known_loss(batch, class_features, self.decoupling.class_logits(class_features, modules))

    def known_loss(self, batch: Batch, class_features: Tensor, logits: Tensor) -> Tensor:
        """What the known labels alone say of class features (B, K, D) and logits (B, K): a scalar."""
        loss = known_bce(logits, batch.labels)
        if self.contrastive is not None:
            loss = loss + self.contrastive(class_features, batch.labels, batch.progress, batch.generator)
        return loss


@dataclass(frozen=True)
class DecouplingSettings(Settings):
    """How class features are made. The defaults suit the embedded data; the release's are named."""

    decoupling: Literal["semantic_decoupling", "semantic_attention"] = setting(
        "semantic_decoupling",
        "class features by attention from word vectors, or by a mask per class (SAM)",
        source="SST release, SemanticDecoupling.py; ADD-GCN, add_gcn.py:109-124",
    )
    attention_width: int = setting(
        32,
        "width of the low-rank bilinear attention",
        minimum=1,
        typical=(16, 32),
        when=_BY_WORDS,
        source="release: 512",
    )
    feature_width: int = setting(
        0,
        "channels after a 1 x 1 convolution with batch norm; 0: those of the backbone",
        minimum=0,
        typical=(0, 32),
        source="release: 1024",
    )
    graph_steps: int = setting(
        1,
        "steps of the gated graph network; 0: no messages between classes",
        minimum=0,
        typical=(0, 1),
        source="release: 3",
    )

    def decoupled(self) -> Decoupling:
        by_words = self.decoupling == "semantic_decoupling"
        return Decoupling(
            self.attention_width if by_words else None, self.feature_width or None, self.graph_steps or None
        )
