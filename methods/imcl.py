"""IMCL, interactive multi-label CNN learning (Huynh & Elhamifar, CVPR 2020): an image whose labels and features are a
sparse combination of those of other training images, the same ones in both.

f (D) are an image's pooled features, x its logits, y its labels as far as they are known and otherwise its predictions
s(x), s(x) = (e^u - e^-u / c) / (e^u + e^-u) with u = x - log(c) / 2, in (-1/c, 1). Known labels are 1 and -1/c. A
dictionary holds M training images (f_j, y_j), where predictions have passed through a label graph: s(x_j) G. Orthogonal
matching pursuit picks k atoms for an image, one after the other, with r the residuals so far:

    score_j = [a (r_y . y_j)^2 / |y_j|^2 |y|^2 + b (r_f . f_j)^2 / |f_j|^2 |f|^2] [sign(r_y . y_j) + sign(r_f . f_j)]

Of the atoms, labels and features each have least-squares coefficients p of their own (the release; the text shares
them). a is the `label_weight`, b the `feature_weight`, which acts in the choice of atoms alone, as released for COCO:

    loss = 1/(B K) sum_b [sum_{c known} BCE(x_bc, y_bc) + a |y_b - sum_{atoms j} p_bj y_j|^2]

Atoms and coefficients are constants; gradients go through y, the predictions of the atoms and G. Different from the
release, which is made for VGG-16, TensorFlow 1 and one image a step:

* Both parts of the loss are means over B K. The release takes the mean over known labels in the first, a sum over
  classes in the second, and scales a by the ratio of the two in its first ten images, which is no number where known
  labels are already fitted. So its a = 1 (OpenImages) is here about the share of known labels; the default is 0.1.
* The dictionary is drawn once from all training images, and its features are taken before each epoch (release: every
  3,000 steps); the atoms' features have no gradient, the classifier on them has. An image is never its own atom.
* Scores are in shares of the image's own |y|^2 and |f|^2, for which the release scales a and b. An atom is chosen once
  at most, and only by a score above 0 (release: 1e-20).
* G starts from how often known positives occur together: n_ij / n_i, 1 on the diagonal, columns summing to 1. All its
  entries are trained. The release starts from a text corpus and trains the five strongest of each class. With single
  positive labels G starts as the identity.
* The release starts from a trained classifier: here, from `warmup_epochs` of Naive IU. Optimiser and schedule are those
  of every method.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from .contract.head import FeatureMap, PooledClassifier
from .contract.method import Method
from .contract.objective import Batch, EpochStart, Objective
from .contract.settings import Settings, setting
from .contract.task import Task
from .ignore_unobserved import IgnoreUnobservedObjective, partial_bce


class LabelGraph(nn.Module):
    """G (K, K), from the labels that are observed (N, K): what the label of a row says of that of a column."""

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
    """Labels (…, K) of +1, -1, 0: 1 and -1/c where they are known, elsewhere what is predicted, in (-1/c, 1)."""
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
    """Orthogonal matching pursuit for labels (B, K) and features (B, D) at once, in a dictionary of labels (M, K) and
    features (M, D) of which each image may use those `allowed` (B, M) bool.

    Returns rows of the dictionary (B, k) and the coefficients of their labels (B, k), 0 where an atom is not used.
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
    """The smallest coefficients (B, k) with which atoms (B, k, T) come nearest to targets (B, T)."""
    # Atoms may be unused (0) or, with few classes, multiples of each other: a plain inverse would not exist.
    inverse = torch.linalg.pinv(atoms @ atoms.mT, rtol=1e-5, hermitian=True)
    return (inverse @ (atoms @ target[:, :, None]))[:, :, 0]


def _combined(coefficients: Tensor, atoms: Tensor) -> Tensor:
    """Sums (B, T) of atoms (B, k, T) with coefficients (B, k)."""
    return (coefficients[:, None] @ atoms)[:, 0]


@dataclass(frozen=True)
class IMCLObjective(Objective):
    """Known labels, and labels that are a sparse combination of other images'. `graph_multiplier` None: without G."""

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

    def begin_epoch(
        self, start: EpochStart, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]
    ) -> None:
        observed = torch.from_numpy(start.task.observed)
        if "dictionary_rows" not in state:
            state["dictionary_rows"] = torch.randperm(len(observed), generator=start.generator)[: self.dictionary_size]
            state["dictionary_labels"] = observed[state["dictionary_rows"]]
        features = start.over_training(lambda maps, _: _classifier(modules).pooled(maps))
        state["dictionary_features"] = features[state["dictionary_rows"].cpu()]

    def part_weight(self, labels: Tensor) -> float:
        return float(len(labels))

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
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


def _classifier(modules: Mapping[str, nn.Module]) -> PooledClassifier:
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
        minimum=0,
        typical=(0.0, 0.25, 1.0),
        source="release: 0.25 (COCO), 0 (OpenImages)",
    )
    atoms: int = setting(3, "k: atoms of an image", minimum=1, typical=(1, 3, 5), source="release: 3")
    dictionary_size: int = setting(
        500,
        "M: training images in the dictionary, all of them where there are fewer",
        minimum=2,
        typical=(100, 500, 10_000),
        source="release: 10,000 (COCO)",
    )
    asymmetry: float = setting(
        2.0,
        "c: a negative is 1/c of a positive",
        minimum=1,
        typical=(1.0, 2.0),
        source="release: 2 (OpenImages, CUB), 1 (COCO)",
    )
    label_graph: bool = setting(True, "predictions of atoms pass through a learnable label graph")
    graph_multiplier: float = setting(
        1.0,
        "learning rate of the label graph, over the base",
        above=0,
        typical=(0.1, 1.0, 10.0),
        when={"label_graph": (True,)},
        source="release: 1 (COCO), 500 (OpenImages)",
    )
    warmup_epochs: int = setting(3, "epochs on known labels alone", minimum=0, typical=(1, 2, 3, 5))


class IMCL(Method[IMCLSettings]):
    """Labels and features are sparse combinations of those of the same other images (IMCL)."""

    name = "imcl"
    source = "Huynh and Elhamifar, Interactive Multi-Label CNN Learning with Partial Labels, CVPR 2020"
    Settings = IMCLSettings
    quick: ClassVar[Mapping[str, Any]] = {"warmup_epochs": 1, "dictionary_size": 12}

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        if epoch <= s.warmup_epochs or s.label_weight == 0:
            return IgnoreUnobservedObjective()
        graph = s.graph_multiplier if s.label_graph else None
        return IMCLObjective(s.label_weight, s.feature_weight, s.atoms, s.dictionary_size, s.asymmetry, graph)
