"""GCN-ML (Chen et al., CVPR 2019, "ML-GCN"), trained on known labels only: a graph turns word vectors into classifiers.

Two layers of graph convolution turn the word vectors X (K, W) of the classes into classifiers (K, D). They are applied,
without bias, to the maximum of each feature channel over all positions. This is the release's pooling;
`network.pooling` is not used:

    Z = leaky_relu(G X W1),   classifiers = G Z W2,   logits = max over positions . classifiers

G comes from the labels. P(j | i) is the share of images with class i that also have class j. E = 1 if P >= t, else 0:

    A_ij = p E_ij / (sum_i E_ij + 1e-6),   A_ii = 1 (release) or 1 - p (paper),   G = R^-1/2 A^T R^-1/2

R are the row sums of A. The release divides by column sums, as here; the paper divides by row sums. P(i | i) is left
out, as in the paper's sums over j != i; the release's counts are in a pickled file.

SST, SARB and their successors compare with this method under partial BCE instead of full BCE. They say no more, and
that code is not public. Assumptions: partial BCE is the mean over the known labels of a batch, as in SST's release. P
is counted among known positives, as in the graph of SST's release. A class without known positives has no edges.

If each label is known with probability q, a share q^2 of all pairs and a share q of all positives are known. So P is q
times its value under full labels, and few edges reach a threshold chosen for full labels. `counted: both_known` counts
only images in which both classes are known: this has no bias, but more noise. The release trains with SGD at 0.1
(backbone 0.01) and clips gradients, which `train` does not do.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from .components.cooccurrence import conditional_probabilities
from .components.losses import known_bce
from .contract.head import FeatureMap
from .contract.method import Method
from .contract.objective import Batch, Modules, Objective
from .contract.settings import Settings, setting
from .contract.task import Task
from .networks.graph_classifier import GraphClassifier, correlation


@dataclass(frozen=True)
class Correlations:
    """How the graph's edges are found and weighted. `remainder`: the diagonal of A is 1 - `weight`; None: it is 1.
    `both_known`: P is counted where both classes are known; None: among all known positives."""

    threshold: float
    weight: float
    remainder: bool | None = None
    both_known: bool | None = None

    def graph(self, labels: Tensor) -> Tensor:
        """G (K, K) float64 from labels (N, K) of +1, -1, 0. A class without known positives has P = 0."""
        conditional = conditional_probabilities(labels, torch.float64, among_known=bool(self.both_known))
        return self.of(conditional.fill_diagonal_(0))

    def of(self, conditional: Tensor) -> Tensor:
        """G (K, K) from P(j | i) in row i, column j of `conditional` (K, K)."""
        own = 1 - self.weight if self.remainder else 1.0
        return correlation(conditional, torch.ones(len(conditional)), self.threshold, self.weight, own)[1]


@dataclass(frozen=True)
class GCNObjective(Objective):
    """Partial BCE of the generated classifiers. `correlations` None: no edges between classes."""

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

    def attention(self, features: Tensor, modules: Modules) -> Tensor:
        classifier = modules["classifier"]
        assert isinstance(classifier, GraphClassifier)
        return torch.einsum("bdhw,kd->bkhw", features, classifier.classifiers())

    def part_weight(self, labels: Tensor) -> float:
        return float((labels != 0).sum())

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        return known_bce(self.logits(batch.features, modules), batch.labels)


@dataclass(frozen=True)
class GCNSettings(Settings):
    threshold: float = setting(
        0.1,
        "smallest P(j | i) that gives an edge of the graph",
        published=0.4,
        above=0,
        maximum=1,
        typical=(0.05, 0.1, 0.4),
        source="ML-GCN release, util.py:291-308, of full labels",
    )
    reweight: float = setting(
        0.25,
        "p, the total weight of a class's neighbours; 0: no graph",
        published=0.25,
        minimum=0,
        maximum=0.9,
        typical=(0.0, 0.25, 0.5),
        source="ML-GCN release: 0.25",
    )
    diagonal: Literal["released", "paper"] = setting(
        "released",
        "weight of the class itself: 1, or the paper's 1 - p",
        published="released",
        source="ML-GCN release, util.py:291-308",
    )
    counted: Literal["known_positives", "both_known"] = setting(
        "known_positives", "images among which P(j | i) is counted: known positives of i, or only those with j known"
    )
    hidden_width: int = setting(
        64,
        "width between the two graph convolutions",
        published=1024,
        minimum=1,
        typical=(32, 1024),
        source="ML-GCN release, models.py:43-92",
    )
    slope: float = setting(
        0.2,
        "slope of the leaky ReLU between the two graph convolutions",
        published=0.2,
        minimum=0,
        maximum=1,
        typical=(0.0, 0.2),
        source="ML-GCN release: 0.2",
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
