"""GCN-ML (Chen et al., CVPR 2019, "ML-GCN"), trained on known labels alone: classifiers made of words by a graph.

Two layers of graph convolution turn the word vectors X (K, W) of the classes into a classifier for each (K, D), which
scores the largest value of each feature channel over all positions (the release's pooling, whatever `network.pooling`
says of other heads), without bias:

    Z = leaky_relu(G X W1),   classifiers = G Z W2,   logits = max over positions . classifiers

G comes from the labels. With P(j | i) how often class j is in an image of class i, and E = 1 where P >= t, else 0:

    A_ij = p E_ij / (sum_i E_ij + 1e-6),   A_ii = 1 (release) or 1 - p (paper),   G = R^-1/2 A^T R^-1/2

where R are A's row sums. The release divides by column sums, the paper by row sums; the release is followed. A class's
counts with itself are left out, as in the paper's sums over j != i; what the release does is in its pickled counts.

SST, SARB and their successors compare with this method under partial BCE in place of full BCE, and say no more; that
code is not public. Assumed: partial BCE is the mean over the known entries of a batch, as in SST's release; P is
counted among known positives, as the graph of SST's release is; a class without known positives has no edges.

Where each label is known with probability q, known pairs are q^2 of all pairs and known positives q of all positives: P
is q times what it is under full labels, and few edges reach a threshold that was chosen for those. `counted:
both_known` counts a pair of classes among the images in which the other one is known: without that bias, and with more
noise. The release trains by SGD at 0.1 (backbone 0.01) and clips gradients, which `train` does not do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .components.cooccurrence import conditional_probabilities
from .components.losses import known_bce
from .contract.head import FeatureMap
from .contract.method import Method
from .contract.objective import Batch, Objective
from .contract.settings import Settings, setting
from .contract.task import Task
from .networks.graph_classifier import GraphClassifier, correlation


@dataclass(frozen=True)
class Correlations:
    """How edges are found and weighted. `remainder`: on A's diagonal stands what `weight` leaves of 1; None: 1.
    `both_known`: P is counted where the other class is known; None: among all known positives."""

    threshold: float
    weight: float
    remainder: bool | None = None
    both_known: bool | None = None

    def graph(self, labels: Tensor) -> Tensor:
        """G (K, K) float64 of labels (N, K) of +1, -1, 0."""
        return self.of(self._conditional(labels))

    def of(self, conditional: Tensor) -> Tensor:
        """G (K, K) of P(j | i) at row i and column j (K, K)."""
        own = 1 - self.weight if self.remainder else 1.0
        return correlation(conditional, torch.ones(len(conditional)), self.threshold, self.weight, own)[1]

    def _conditional(self, labels: Tensor) -> Tensor:
        """P(j | i), 0 on the diagonal and for a class that was never seen."""
        found = conditional_probabilities(labels, torch.float64, among_known=bool(self.both_known))
        return found.fill_diagonal_(0)


@dataclass(frozen=True)
class GCNObjective(Objective):
    """Partial BCE of the generated classifiers. `correlations` None: no class hears of another."""

    hidden_width: int
    slope: float
    correlations: Correlations | None = None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        graph = torch.eye(task.num_classes, dtype=torch.float64)
        if self.correlations is not None:
            graph = self.correlations.graph(torch.from_numpy(task.observed))
        words = torch.from_numpy(task.word_vectors)
        make = partial(GraphClassifier, features.width, words, graph.to(words.dtype), self.hidden_width, self.slope)
        return {"classifier": make}

    def attention(self, features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        classifier = modules["classifier"]
        assert isinstance(classifier, GraphClassifier)
        return torch.einsum("bdhw,kd->bkhw", features, classifier.classifiers())

    def part_weight(self, labels: Tensor) -> float:
        return float((labels != 0).sum())

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        return known_bce(self.logits(batch.features, modules), batch.labels)


@dataclass(frozen=True)
class GCNSettings(Settings):
    threshold: float = setting(
        0.1,
        "smallest P(j | i) that is an edge of the graph",
        above=0,
        maximum=1,
        typical=(0.05, 0.1, 0.4),
        source="ML-GCN release, util.py:291-308: 0.4, of full labels",
    )
    reweight: float = setting(
        0.25,
        "p, the weight of all neighbours together; 0: no graph",
        minimum=0,
        maximum=0.9,
        typical=(0.0, 0.25, 0.5),
        source="ML-GCN release: 0.25",
    )
    diagonal: Literal["released", "paper"] = setting(
        "released", "weight of a class itself: 1, or the paper's 1 - p", source="ML-GCN release, util.py:291-308"
    )
    counted: Literal["known_positives", "both_known"] = setting(
        "known_positives", "what P(j | i) is counted among: known positives of i, or those of them with j known"
    )
    hidden_width: int = setting(
        64, "width between the two graph convolutions", minimum=1, typical=(32, 1024), source="ML-GCN release: 1024"
    )
    slope: float = setting(
        0.2, "of the leaky ReLU between them", minimum=0, maximum=1, typical=(0.0, 0.2), source="ML-GCN release: 0.2"
    )


class GCNML(Method[GCNSettings]):
    """Classifiers generated from word vectors by graph convolution, trained on known labels (GCN-ML)."""

    name = "gcn_ml"
    source = "Chen et al., Multi-Label Image Recognition with Graph Convolutional Networks, CVPR 2019; SST, baselines"
    Settings = GCNSettings
    unshared = "every setting acts from epoch 1 on"

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        correlations = None
        if s.reweight > 0:
            remainder, both_known = s.diagonal == "paper" or None, s.counted == "both_known" or None
            correlations = Correlations(s.threshold, s.reweight, remainder, both_known)
        return GCNObjective(s.hidden_width, s.slope, correlations)
