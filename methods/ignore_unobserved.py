"""Ignore unobserved: only known labels are trained on. Naive IU and Durand et al.'s Partial BCE are settings of it.

Per image b with known labels y, l = BCE(x, y) for them and 0 elsewhere; p_b is its share of known labels:

    loss = 1/B sum_b g(p_b) / K sum_{c known} l_bc

* Naive IU: g = 1. The denominator is B K, as released for the single-positive paper (losses.py iu), however few labels
  are known.
* Partial BCE (`weighting: known_proportion`; Durand et al., CVPR 2019): g(p) = alpha p^gamma + beta, so that the loss
  of an image does not shrink with what is known of it. There is no official code; the constants are those of three
  independent implementations.

In SST's Table 1 this loss is the row "Partial BCE"; "SSGRL", "GCN-ML" and "KGGR" are networks of their own (`ssgrl`,
`gcn_ml`, `kggr`) under a partial BCE without g. The text gives all rows "the same ResNet-101 network as backbone" and
says nothing of what stands on it in this one; there is no code. Assumed: the plain classifier, pooling and one linear
layer, without the semantic decoupling and the graph that would make it SSGRL; and optimiser, learning rates, views and
frozen blocks of SST itself, for which alone they are given. Each label being known with one probability there, g(p) is
nearly the same for all images, and under Adam a common factor does nothing: the row differs from Naive IU by little.

The release refuses a batch without a known positive or without a known negative. Here such a batch counts what is known
in it, and a batch without any known label has loss 0 and gradient 0. Trained on positives alone (single positive
labels), nothing keeps the scores from rising together, whatever is in the image.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from .components.losses import sigmoid_cross_entropy
from .contract.method import Method
from .contract.objective import Batch, Objective
from .contract.settings import Settings, setting

_WEIGHTED = {"weighting": ("known_proportion",)}


@dataclass(frozen=True)
class ProportionWeight:
    """g(p) = alpha p^gamma + beta, the weight of an image with a share p in [0, 1] of known labels."""

    alpha: float
    beta: float
    gamma: float

    def __call__(self, proportion: Tensor) -> Tensor:
        return self.alpha * proportion**self.gamma + self.beta


def partial_bce(logits: Tensor, labels: Tensor, weight: ProportionWeight | None = None, log_eps: float = 0.0) -> Tensor:
    """Scalar loss of logits (B, K) under labels (B, K) of +1, -1, 0 (left out); see the module's docstring."""
    known = (labels != 0).to(logits.dtype)
    entries = known * sigmoid_cross_entropy(logits, (labels > 0).to(logits.dtype), log_eps)
    if weight is not None:
        entries = weight(known.mean(1, keepdim=True)) * entries
    return entries.mean()


@dataclass(frozen=True)
class IgnoreUnobservedObjective(Objective):
    """Binary cross-entropy of the known labels. None: that part is off."""

    weight: ProportionWeight | None = None
    log_eps: float | None = None

    def part_weight(self, labels: Tensor) -> float:
        return float(len(labels))

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        return partial_bce(self.logits(batch.features, modules), batch.labels, self.weight, self.log_eps or 0.0)


@dataclass(frozen=True)
class WeightingSettings(Settings):
    """How much an image counts whose labels are known in part."""

    weighting: Literal["none", "known_proportion"] = setting(
        "none", "weight of an image: 1, or g(p) = alpha p^gamma + beta of its share p of known labels"
    )
    alpha: float = setting(-4.45, "alpha of g(p)", typical=(-4.45, 0.0), when=_WEIGHTED, source="Durand et al. 2019")
    beta: float = setting(5.45, "beta of g(p)", typical=(5.45, 1.0), when=_WEIGHTED, source="Durand et al. 2019")
    gamma: float = setting(
        1.0, "gamma of g(p)", above=0, typical=(1.0, 2.0), when=_WEIGHTED, source="Durand et al. 2019"
    )

    def weight(self) -> ProportionWeight | None:
        """g, or None where every image counts 1."""
        return None if self.weighting == "none" else ProportionWeight(self.alpha, self.beta, self.gamma)


@dataclass(frozen=True)
class IgnoreUnobservedSettings(WeightingSettings):
    log_eps: float = setting(
        0.0,
        "0: BCE on logits; above 0: -log(p + log_eps) on probabilities",
        minimum=0,
        maximum=0.1,
        typical=(1e-5,),
        source="single-positive release, losses.py neg_log (1e-5)",
    )


class IgnoreUnobserved(Method[IgnoreUnobservedSettings]):
    """Only known labels are trained on (Naive IU, Partial BCE)."""

    name = "ignore_unobserved"
    source = "Large Loss Matters (Naive IU); Cole et al., CVPR 2021 (IU); Durand et al., CVPR 2019 (Partial BCE)"
    Settings = IgnoreUnobservedSettings

    def objective(self, epoch: int) -> Objective:
        return IgnoreUnobservedObjective(self.settings.weight(), self.settings.log_eps or None)
