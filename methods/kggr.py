"""KGGR (Chen et al., TPAMI 2022), trained on known labels alone: one graph network over features, one over classifiers.

Knowledge-guided graph routing is SSGRL and, on top of it, a second propagation along the same graph of label
co-occurrence: its nodes start from the classifiers of the classes, and what arrives is the classifiers that score. With
A(i, j) = P(j | i) of the known labels, f_c the class features of semantic decoupling, and GGNN the gated graph network
of `methods.networks.gated_graph`:

    h = GGNN(f; A),         o_c = tanh(W [h_c, f_c] + b)               as in SSGRL
    g = GGNN'(w; A),        w*_c = W' [g_c, w_c] + b'                  w_c: learned, random at first
    logit_c = o_c . w*_c + b_c

There is no public code; this is made from the paper's abstract, and from SST, which says of its row KGGR no more than
that partial BCE takes the place of the loss. Assumed, where they leave it open:

* everything below o_c is what `ssgrl` assumes of SSGRL: the network of SST's release, its graph of known labels too;
* both propagations are along the same A, each with weights of its own, by default of as many steps as SSGRL's three;
* w (K, D) is a parameter that starts where SSGRL's classifiers start, uniform in +-1/sqrt(D), and is trained with all
  the rest from the start: the paper's few-shot stages (base classes first, then new ones) have no place here;
* the output is one linear layer of last and first state, without a non-linearity, so that w* may have any size;
* scores are inner products with a bias per class, as in SSGRL, not cosines;
* the loss is partial BCE, the mean over the known entries of a batch; nothing else holds w* near w.

`weight_steps` of 0 leaves the second propagation out, layer and all: that is `ssgrl`, and shares its epochs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .components.cooccurrence import conditional_probabilities
from .components.decoupling import DecoupledObjective, DecouplingSettings
from .contract.head import FeatureMap
from .contract.method import Method
from .contract.objective import Objective
from .contract.settings import setting
from .contract.task import Task
from .networks.class_head import ClassHead
from .networks.gated_graph import GatedGraph


class RoutedHead(ClassHead):
    """The head of SSGRL, whose `weight` (K, D) is where a graph of `steps` steps along an adjacency (K, K) starts to
    make the classifiers that score."""

    def __init__(self, width: int, adjacency: Tensor, steps: int):
        super().__init__(width, len(adjacency))
        self.graph = GatedGraph(width, adjacency, steps)
        self.output = nn.Linear(2 * width, width)

    def classifiers(self) -> Tensor:
        """The classifiers (K, D) that score."""
        routed = self.graph(self.weight[None])[0]
        return self.output(torch.cat([routed, self.weight], 1))

    def forward(self, graph_features: Tensor, semantic_features: Tensor) -> Tensor:
        hidden = torch.tanh(self.fc(torch.cat([graph_features, semantic_features], 2)))
        return (hidden * self.classifiers()).sum(2) + self.bias


@dataclass(frozen=True)
class KGGRObjective(DecoupledObjective):
    """Partial BCE of classifiers that have passed messages for `weight_steps` steps, at least one."""

    weight_steps: int = 1

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        adjacency = conditional_probabilities(task.observed)
        head = partial(RoutedHead, self.decoupling.width(features), adjacency, self.weight_steps)
        return {**super().modules(features, task), "head": head}


@dataclass(frozen=True)
class KGGRSettings(DecouplingSettings):
    weight_steps: int = setting(
        3,
        "steps of the graph network over the classifiers; 0: none, which is SSGRL",
        minimum=0,
        typical=(0, 3),
        source="KGGR, abstract: the propagation; SSGRL: 3 steps",
    )


class KGGR(Method[KGGRSettings]):
    """SSGRL whose classifiers pass messages along the label graph too, trained on known labels (KGGR)."""

    name = "kggr"
    source = "Chen et al., Knowledge-Guided Multi-Label Few-Shot Learning for General Image Recognition, TPAMI 2022"
    Settings = KGGRSettings
    unshared = "every setting acts from epoch 1 on"

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        if s.weight_steps == 0:
            return DecoupledObjective(s.decoupled())
        return KGGRObjective(s.decoupled(), weight_steps=s.weight_steps)
