"""KGGR (Chen et al., TPAMI 2022), trained on known labels only: one graph network over features, one over classifiers.

Knowledge-guided graph routing is SSGRL with a second graph network along the same graph of label co-occurrence. The
second network turns initial classifiers of the classes into the final ones. With A(i, j) = P(j | i) of the known
labels, f_c the class features of semantic decoupling, and GGNN the gated graph network of
`methods.networks.gated_graph`:

    h = GGNN(f; A),         o_c = tanh(W [h_c, f_c] + b)               as in SSGRL
    g = GGNN'(w; A),        w*_c = W' [g_c, w_c] + b'                  w_c: learned, random at first
    logit_c = o_c . w*_c + b_c

There is no public code. This follows the paper's abstract and SST, which says of its row KGGR only that the loss is
replaced by partial BCE. Assumptions:

* Up to o_c the network is that of `ssgrl`: the network of SST's release, with its graph of known labels.
* Both graph networks use the same A, but have separate weights. The second has three steps by default, as in SSGRL.
* w (K, D) is a parameter with the initialisation of SSGRL's classifiers, uniform in +-1/sqrt(D). It is trained from the
  start, with all other weights; the paper's few-shot stages (base classes first, then new classes) are left out.
* The output is one linear layer of last and first state, without a non-linearity, so that w* is not bounded.
* Logits are inner products plus a bias per class, as in SSGRL, not cosines.
* The loss is partial BCE, the mean over the known labels of a batch. No other term keeps w* near w.

`weight_steps: 0` leaves out the second graph network and its layer. This is `ssgrl`, and it shares the epochs of
`ssgrl`.
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
    """The head of SSGRL with a graph network over its classifiers `weight` (K, D), of `steps` steps along an adjacency
    (K, K)."""

    def __init__(self, width: int, adjacency: Tensor, steps: int):
        super().__init__(width, len(adjacency))
        self.graph = GatedGraph(width, adjacency, steps)
        self.output = nn.Linear(2 * width, width)

    def classifiers(self) -> Tensor:
        """The final classifiers w* (K, D)."""
        routed = self.graph(self.weight[None])[0]
        return self.output(torch.cat([routed, self.weight], 1))

    def forward(self, graph_features: Tensor, semantic_features: Tensor) -> Tensor:
        hidden = torch.tanh(self.fc(torch.cat([graph_features, semantic_features], 2)))
        return (hidden * self.classifiers()).sum(2) + self.bias


@dataclass(frozen=True)
class KGGRObjective(DecoupledObjective):
    """Partial BCE with classifiers from a graph network of `weight_steps` steps, at least one."""

    weight_steps: int = 1

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        adjacency = conditional_probabilities(task.observed)
        head = partial(RoutedHead, self.decoupling.width(features), adjacency, self.weight_steps)
        return {**super().modules(features, task), "head": head}


@dataclass(frozen=True)
class KGGRSettings(DecouplingSettings):
    weight_steps: int = setting(
        3,
        "steps of the graph network over the classifiers; 0: no such network, this is SSGRL",
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
            return DecoupledObjective(s.decoupled(), per_image=s.per_image())
        return KGGRObjective(s.decoupled(), weight_steps=s.weight_steps, per_image=s.per_image())
