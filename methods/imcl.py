"""IMCL, interactive multi-label CNN learning (Huynh & Elhamifar, CVPR 2020): labels and features of an image are sparse
combinations of those of the same other training images.

f (D) are the pooled features of an image and x its logits. y are its labels: 1 or -1/c if known, else the predictions
s(x) = (e^u - e^-u / c) / (e^u + e^-u) with u = x - log(c) / 2, which lie in (-1/c, 1). A dictionary has M training
images (f_j, y_j); their predictions pass through a label graph: s(x_j) G. Orthogonal matching pursuit chooses k atoms
of the dictionary for an image, one after the other. With the current residuals r:

    score_j = [a (r_y . y_j)^2 / |y_j|^2 |y|^2 + b (r_f . f_j)^2 / |f_j|^2 |f|^2] [sign(r_y . y_j) + sign(r_f . f_j)]

Labels and features have separate least-squares coefficients p (as in the release; the text has common ones). a is
`label_weight`. b is `feature_weight`; it acts only in the choice of atoms, as in the release for COCO:

    loss = 1/(B K) sum_b [sum_{c known} BCE(x_bc, y_bc) + a |y_b - sum_{atoms j} p_bj y_j|^2]

Atoms and coefficients are constants; gradients pass through y, the predictions of the atoms, and G. Differences from
the release, which is for VGG-16, TensorFlow 1 and one image per step:

* Both parts of the loss are means over B K. The release has a mean over known labels in the first part and a sum over
  classes in the second. It scales a by the ratio of the two on the first ten images, which is NaN if the known labels
  are already fitted. Its a = 1 (OpenImages) corresponds here to about the share of known labels; the default is 0.1.
* The dictionary is drawn once from all training images. Its features are computed before each epoch (release: every
  3,000 steps). They have no gradient, but the classifier applied to them has. An image is never its own atom.
* Scores are relative to the image's own |y|^2 and |f|^2; the release scales a and b for this. An atom is chosen at most
  once, and only with a score above 0 (release: 1e-20).
* G starts from the co-occurrence of known positives: n_ij / n_i, 1 on the diagonal, columns scaled to sum 1. All of its
  entries are trained. The release starts from a text corpus and trains the five largest entries of each class. With
  single positive labels G starts as the identity.
* The release starts from a trained classifier, this module from `warmup_epochs` of Naive IU. The release's RMSProp is
  `train.optimizer: rmsprop`. TensorFlow adds its epsilon of 1 inside the root, torch outside.

Published values are those of the release for OpenImages, the data set of Large Loss Matters' table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .contract.head import FeatureMap, PooledClassifier
from .contract.method import Method
from .contract.objective import Batch, EpochStart, Modules, Objective
from .contract.settings import Settings, setting
from .contract.task import Task
from .ignore_unobserved import IgnoreUnobservedObjective, partial_bce


class LabelGraph(nn.Module):
    """G (K, K), the weight from the label of a row to that of a column. It starts from `observed` labels (N, K)."""

    def __init__(self, observed: np.ndarray):
        super().__init__()
        positive = torch.from_numpy(observed > 0).float()
        together = positive.T @ positive
        given = together / together.diagonal().clamp(min=1)[:, None]
        given.fill_diagonal_(1)
        self.weight = nn.Parameter(given / given.sum(0))

    def forward(self, labels: Tensor) -> Tensor:
        return labels @ self.weight


def filled_labels(predicted: Tensor, labels: Tensor, asymmetry: float) -> Tensor:
    """Labels (…, K): 1 or -1/c where `labels` of +1, -1, 0 are known, else `predicted`. c is `asymmetry`."""
    return torch.where(labels == 0, predicted, labels.to(predicted.dtype).clamp(min=-1 / asymmetry))


def asymmetric_sigmoid(logits: Tensor, asymmetry: float) -> Tensor:
    """s(x) in (-1/c, 1); tanh for c = 1."""
    return (1 + 1 / asymmetry) * torch.sigmoid(2 * logits - math.log(asymmetry)) - 1 / asymmetry


@torch.no_grad()
def sparse_code(
    labels: Tensor,
    features: Tensor,
    dictionary_labels: Tensor,
    dictionary_features: Tensor,
    allowed: Tensor,
    *,
    atoms: int,
    label_weight: float,
    feature_weight: float,
) -> tuple[Tensor, Tensor]:
    """Orthogonal matching pursuit for labels (B, K) and features (B, D) together.

    The dictionary has labels (M, K) and features (M, D); an image may use the atoms `allowed` (B, M) bool. Returns rows
    of the dictionary (B, k) and the coefficients of their labels (B, k), 0 for an atom that is not used.
    """
    spaces = (labels, dictionary_labels, label_weight), (features, dictionary_features, feature_weight)
    images = torch.arange(len(labels), device=labels.device)
    candidates = allowed.clone()
    chosen = images.new_empty((len(labels), 0))
    used = allowed.new_empty((len(labels), 0))
    residuals = [labels, features]
    coefficients = [labels.new_empty((len(labels), 0))] * 2
    for _ in range(min(atoms, len(dictionary_labels))):
        gain = agreement = labels.new_zeros(allowed.shape)
        for residual, (target, entries, weight) in zip(residuals, spaces, strict=True):
            inner = residual @ entries.T
            energies = target.square().sum(1, keepdim=True) * entries.square().sum(1)
            gain = gain + weight * inner.square() / energies.clamp(min=torch.finfo(energies.dtype).tiny)
            agreement = agreement + (weight > 0) * inner.sign()
        score, atom = (gain * agreement).masked_fill(~candidates, -math.inf).max(1)
        candidates[images, atom] = False
        chosen, used = torch.cat([chosen, atom[:, None]], 1), torch.cat([used, score[:, None] > 0], 1)
        for space, (target, entries, _) in enumerate(spaces):
            active = entries[chosen] * used[:, :, None]
            coefficients[space] = _least_squares(active, target)
            residuals[space] = target - _combined(coefficients[space], active)
    return chosen, coefficients[0]


def _least_squares(atoms: Tensor, target: Tensor) -> Tensor:
    """The least-squares coefficients (B, k) of smallest norm for atoms (B, k, T) and targets (B, T)."""
    # Unused atoms are 0, and with few classes atoms may be multiples of each other: then only a pseudo-inverse exists.
    inverse = torch.linalg.pinv(atoms @ atoms.mT, rtol=1e-5, hermitian=True)
    return (inverse @ (atoms @ target[:, :, None]))[:, :, 0]


def _combined(coefficients: Tensor, atoms: Tensor) -> Tensor:
    """Sums (B, T) of atoms (B, k, T) with coefficients (B, k)."""
    return (coefficients[:, None] @ atoms)[:, 0]


@dataclass(frozen=True)
class IMCLObjective(Objective):
    """Partial BCE, and the reconstruction of labels by a sparse combination. `graph_multiplier` None: without G."""

    label_weight: float
    feature_weight: float
    atoms: int
    dictionary_size: int
    asymmetry: float
    graph_multiplier: float | None = None

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        graph = {} if self.graph_multiplier is None else {"label_graph": partial(LabelGraph, task.observed)}
        return {**super().modules(features, task), **graph}

    def rate_multipliers(self) -> dict[str, float]:
        return {} if self.graph_multiplier is None else {"label_graph": self.graph_multiplier}

    def begin_epoch(self, start: EpochStart, modules: Modules, state: MutableMapping[str, Tensor]) -> None:
        observed = torch.from_numpy(start.task.observed)
        if "dictionary_rows" not in state:
            state["dictionary_rows"] = torch.randperm(len(observed), generator=start.generator)[: self.dictionary_size]
            state["dictionary_labels"] = observed[state["dictionary_rows"]]
        features = start.over_training(lambda maps, _: _classifier(modules).pooled(maps))
        state["dictionary_features"] = features[state["dictionary_rows"].cpu()]

    def part_weight(self, labels: Tensor) -> float:
        return float(len(labels))

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        classifier = _classifier(modules)
        features = classifier.pooled(batch.features)
        logits = classifier.linear(features)
        labels = filled_labels(asymmetric_sigmoid(logits, self.asymmetry), batch.labels, self.asymmetry)
        predicted = asymmetric_sigmoid(classifier.linear(state["dictionary_features"]), self.asymmetry)
        if self.graph_multiplier is not None:
            predicted = modules["label_graph"](predicted)
        dictionary = filled_labels(predicted, state["dictionary_labels"], self.asymmetry)
        chosen, coefficients = sparse_code(
            labels,
            features,
            dictionary,
            state["dictionary_features"],
            batch.indices[:, None] != state["dictionary_rows"],
            atoms=self.atoms,
            label_weight=self.label_weight,
            feature_weight=self.feature_weight,
        )
        residual = labels - _combined(coefficients, dictionary[chosen])
        return partial_bce(logits, batch.labels) + self.label_weight * residual.square().mean()


def _classifier(modules: Modules) -> PooledClassifier:
    classifier = modules["classifier"]
    assert isinstance(classifier, PooledClassifier)
    return classifier


@dataclass(frozen=True)
class IMCLSettings(Settings):
    label_weight: float = setting(
        0.1, "a: weight of the label reconstruction", minimum=0, typical=(0.01, 0.1, 1.0), source="see the docstring"
    )
    feature_weight: float = setting(
        0.25,
        "b: weight of features in the choice of atoms",
        published=0.0,
        minimum=0,
        typical=(0.0, 0.25, 1.0),
        source="release: 0.25 (COCO), 0 (OpenImages)",
    )
    atoms: int = setting(
        3, "k: number of atoms per image", published=3, minimum=1, typical=(1, 3, 5), source="release: 3"
    )
    dictionary_size: int = setting(
        500,
        "M: number of training images in the dictionary; if there are fewer, all of them",
        published=10_000,
        minimum=2,
        typical=(100, 500, 10_000),
        source="release: 10,000 (COCO)",
    )
    asymmetry: float = setting(
        2.0,
        "c: a known negative has label -1/c",
        published=2.0,
        minimum=1,
        typical=(1.0, 2.0),
        source="release: 2 (OpenImages, CUB), 1 (COCO)",
    )
    label_graph: bool = setting(True, "predictions of atoms pass through a learned label graph")
    graph_multiplier: float = setting(
        1.0,
        "factor of the base learning rate for the label graph",
        published=500.0,
        above=0,
        typical=(0.1, 1.0, 10.0),
        when={"label_graph": (True,)},
        source="release: 1 (COCO), 500 (OpenImages)",
    )
    warmup_epochs: int = setting(3, "epochs on known labels only", minimum=0, typical=(1, 2, 3, 5))


class IMCL(Method[IMCLSettings]):
    """Labels and features are sparse combinations of those of the same other images (IMCL)."""

    name = "imcl"
    source = "Huynh and Elhamifar, Interactive Multi-Label CNN Learning with Partial Labels, CVPR 2020"
    Settings = IMCLSettings
    quick: ClassVar = {"warmup_epochs": 1, "dictionary_size": 12}

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        if epoch <= s.warmup_epochs or s.label_weight == 0:
            return IgnoreUnobservedObjective()
        graph = s.graph_multiplier if s.label_graph else None
        return IMCLObjective(s.label_weight, s.feature_weight, s.atoms, s.dictionary_size, s.asymmetry, graph)
