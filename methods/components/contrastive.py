"""The contrastive loss that SST, SARB and their successors put on class features: images that share a class are pulled
together in that class's features, others pushed apart.

Over all pairs of images of the batch, per class, where both labels are known: 1 - cos for two positives, 1 + cos for a
positive and a negative, and 1 + cos for two negatives. The text (SST Eq. 7-8) takes the last for every other pair,
unknown labels included, and sums; the release leaves out unknown labels, thins the two lists of 1 + cos, and takes the
mean. The release is followed. Where no pair is usable it gives NaN; here the loss is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..contract.settings import Settings, setting

# Below it a feature counts as zero, and its cosines as 0.
SMALLEST_NORM = 1e-9


def contrastive_loss(
    features: Tensor, labels: Tensor, permutation: Callable[[str, int], Tensor] | None = None
) -> Tensor:
    """Scalar loss of class features (B, K, D) under labels (B, K) of +1, -1, 0.

    `permutation(name, n)` are the numbers below n in random order. With it, and where the batch has P > 0 pairs of two
    positives, the list `pos_neg` and the list `neg_neg` are each replaced by their first 2 P entries in that order and
    their P largest losses; what is in both counts twice, as released. Lists run over image pairs, then classes.
    """
    cosines = _cosines(features)
    first, second = torch.triu_indices(len(labels), len(labels), offset=1, device=labels.device)
    one, other = labels[first], labels[second]
    similarity = cosines[:, first, second].T  # (pairs, K)
    attracted = 1 - similarity[(one > 0) & (other > 0)]
    apart = {
        "pos_neg": 1 + similarity[one.to(torch.int8) * other.to(torch.int8) < 0],
        "neg_neg": 1 + similarity[(one < 0) & (other < 0)],
    }
    if permutation is not None and len(attracted):
        apart = {name: _thinned(entries, len(attracted), permutation, name) for name, entries in apart.items()}
    entries = torch.cat([attracted, *apart.values()])
    return entries.mean() if len(entries) else features.sum() * 0.0


def unit(features: Tensor) -> Tensor:
    """Features (..., D) of length 1; one of zeros stays as it is, and all its cosines are 0."""
    return nn.functional.normalize(features, dim=-1, eps=SMALLEST_NORM)


def _cosines(features: Tensor) -> Tensor:
    """Cosines (K, B, B) between the images' features (B, K, D) of each class."""
    directions = unit(features).transpose(0, 1)
    return directions @ directions.transpose(1, 2)


def _thinned(entries: Tensor, positives: int, permutation: Callable[[str, int], Tensor], name: str) -> Tensor:
    drawn = entries[permutation(name, len(entries))[: 2 * positives]]
    return torch.cat([drawn, entries.topk(min(positives, len(entries))).values])


@dataclass(frozen=True)
class Contrastive:
    """The loss as it acts in an epoch: its `weight`; `ramp`: growing from 0 to that weight over the epoch's steps;
    `every_pair`: no list is thinned. None: off."""

    weight: float
    ramp: bool | None = None
    every_pair: bool | None = None

    def __call__(self, features: Tensor, labels: Tensor, batch_progress: float, generator: Callable) -> Tensor:
        """Weighted scalar loss; `generator(purpose)` gives the torch generator of this step."""

        def permutation(name: str, count: int) -> Tensor:
            return torch.randperm(count, generator=generator(f"contrastive/{name}")).to(labels.device)

        weight = self.weight * batch_progress if self.ramp else self.weight
        return weight * contrastive_loss(features, labels, None if self.every_pair else permutation)


@dataclass(frozen=True)
class ContrastiveSettings(Settings):
    contrastive_weight: float = setting(
        0.05,
        "weight of the contrastive loss on class features; 0: off",
        minimum=0,
        typical=(0.0, 0.05, 0.2),
        source="SST and SARB release: 0.05, growing from 0 over the first epoch",
    )
    contrastive_pairs: Literal["thinned", "all"] = setting(
        "thinned",
        "pairs of different images that are pushed apart: three for each pair pulled together, some at random and some "
        "with the largest loss, as released; or all",
        source="SST release, loss/SST.py:235-273",
    )

    def contrastive(self, epoch: int) -> Contrastive | None:
        """The loss in `epoch` (from 1), None where it is off."""
        if self.contrastive_weight == 0:
            return None
        return Contrastive(self.contrastive_weight, epoch == 1 or None, self.contrastive_pairs == "all" or None)
