"""Ignore unobserved: only known labels are trained on. Its settings give Naive IU and Durand et al.'s Partial BCE.

l = BCE(x, y) for the known labels y of image b, 0 for unknown ones. p_b is the share of known labels of image b:

    loss = 1/B sum_b g(p_b) / K sum_{c known} l_bc

* Naive IU: g = 1. The denominator is B K, as in the single-positive release (losses.py iu), for any number of known
  labels.
* Partial BCE (`weighting: known_proportion`; Durand et al., CVPR 2019): g(p) = alpha p^gamma + beta. With it, the loss
  of an image does not shrink when fewer of its labels are known. There is no official code; the constants are those of
  three independent implementations.

In SST's Table 1 this loss is the row "Partial BCE". "SSGRL", "GCN-ML" and "KGGR" are other networks (`ssgrl`, `gcn_ml`,
`kggr`) with a partial BCE without g. The text says that all rows use "the same ResNet-101 network as backbone"; it does
not describe the head of this row, and there is no code. Assumed is the plain classifier (pooling and one linear layer),
because with semantic decoupling and a graph it would be SSGRL. Optimiser, learning rates, augmentation and frozen
blocks are those of SST, the only ones that are given. In that table all labels are known with the same probability, so
g(p) is nearly equal for all images. With Adam a common factor has no effect, so the row hardly differs from Naive IU.

The release refuses a batch without known positives or without known negatives. Here such a batch is trained on its
known labels; a batch without known labels has loss 0 and gradient 0. With only positives known (single positive
labels), nothing prevents all scores from rising.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from .components.losses import sigmoid_cross_entropy
from .contract.method import Method
from .contract.objective import Batch, Modules, Objective
from .contract.settings import Settings, setting

_WEIGHTED = {"weighting": ("known_proportion",)}
_DURAND = "Durand et al. 2019"


@dataclass(frozen=True)
class ProportionWeight:
    """g(p) = alpha p^gamma + beta: the weight of an image whose share of known labels is p in [0, 1]."""

    alpha: float
    beta: float
    gamma: float

    def __call__(self, proportion: Tensor) -> Tensor:
        return self.alpha * proportion**self.gamma + self.beta


def partial_bce(logits: Tensor, labels: Tensor, weight: ProportionWeight | None = None, log_eps: float = 0.0) -> Tensor:
    """The scalar loss of logits (B, K) with labels (B, K) of +1, -1, 0 (left out); see the docstring of this module."""
    known = (labels != 0).to(logits.dtype)
    entries = known * sigmoid_cross_entropy(logits, (labels > 0).to(logits.dtype), log_eps)
    if weight is not None:
        entries = weight(known.mean(1, keepdim=True)) * entries
    return entries.mean()


@dataclass(frozen=True)
class IgnoreUnobservedObjective(Objective):
    """BCE of the known labels. A field that is None is off."""

    weight: ProportionWeight | None = None
    log_eps: float | None = None

    def part_weight(self, labels: Tensor) -> float:
        return float(len(labels))

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        return partial_bce(self.logits(batch.features, modules), batch.labels, self.weight, self.log_eps or 0.0)


@dataclass(frozen=True)
class WeightingSettings(Settings):
    """The weight of an image with partial labels."""

    weighting: Literal["none", "known_proportion"] = setting(
        "none", "weight of an image: 1, or g(p) = alpha p^gamma + beta with its share p of known labels"
    )
    alpha: float = setting(
        -4.45, "alpha of g(p)", published=-4.45, typical=(-4.45, 0.0), when=_WEIGHTED, source=_DURAND
    )
    beta: float = setting(5.45, "beta of g(p)", published=5.45, typical=(5.45, 1.0), when=_WEIGHTED, source=_DURAND)
    gamma: float = setting(
        1.0, "gamma of g(p)", published=1.0, above=0, typical=(1.0, 2.0), when=_WEIGHTED, source=_DURAND
    )

    def weight(self) -> ProportionWeight | None:
        """g, or None if every image has weight 1."""
        return None if self.weighting == "none" else ProportionWeight(self.alpha, self.beta, self.gamma)


@dataclass(frozen=True)
class IgnoreUnobservedSettings(WeightingSettings):
    log_eps: float = setting(
        0.0,
        "0: BCE on logits; above 0: -log(p + log_eps) on probabilities",
        published=0.0,
        minimum=0,
        maximum=0.1,
        typical=(1e-5,),
        source="SST release, loss/SST.py:75-101: logits; single-positive release, losses.py neg_log: 1e-5",
    )


class IgnoreUnobserved(Method[IgnoreUnobservedSettings]):
    """Only known labels are trained on (Naive IU, Partial BCE)."""

    name = "ignore_unobserved"
    source = "Large Loss Matters (Naive IU); Cole et al., CVPR 2021 (IU); Durand et al., CVPR 2019 (Partial BCE)"
    Settings = IgnoreUnobservedSettings

    def objective(self, epoch: int) -> Objective:
        return IgnoreUnobservedObjective(self.settings.weight(), self.settings.log_eps or None)
