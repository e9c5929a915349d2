"""The contrastive loss on class features of SST, SARB and their successors.

It pulls together the features of a class in images that share the class, and pushes the others apart. For each class
and each pair of images in the batch with known labels, the loss is 1 - cos for two positives, 1 + cos for a positive
and a negative, and 1 + cos for two negatives. The text (SST Eq. 7-8) uses 1 + cos for all other pairs, also with
unknown labels, and takes the sum. The release leaves out unknown labels, samples from the two lists of 1 + cos, and
takes the mean. This module follows the release, except that without a usable pair the loss is 0, not NaN. With
`contrastive_pairs: with_unknown` the pairs are those of the text, still with the mean. The text's sum over all n, m and
c is K B (B - 1) times this mean, plus a constant for n = m.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..contract.settings import Settings, setting

# A feature with a smaller norm counts as zero: its cosines are 0.
SMALLEST_NORM = 1e-9


def contrastive_loss(
    features: Tensor,
    labels: Tensor,
    permutation: Callable[[str, int], Tensor] | None = None,
    *,
    with_unknown: bool = False,
) -> Tensor:
    """Scalar loss of class features (B, K, D) under labels (B, K) of +1, -1, 0.

    `with_unknown`: a pair with an unknown label is pushed apart too; else it is left out. `permutation(name, n)`
    returns the numbers below n in random order. With it, and if the batch has P > 0 pairs of two positives, the lists
    of pairs that are pushed apart are each replaced by 2 P random losses and their P largest losses. A loss in both
    parts counts twice, as in the release. Lists run over image pairs, then classes.
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
    if with_unknown:
        apart["unknown"] = 1 + similarity[(one == 0) | (other == 0)]
    if permutation is not None and len(attracted):
        apart = {name: _thinned(entries, len(attracted), permutation, name) for name, entries in apart.items()}
    entries = torch.cat([attracted, *apart.values()])
    return entries.mean() if len(entries) else features.sum() * 0.0


def unit(features: Tensor) -> Tensor:
    """Features (..., D) scaled to length 1. A zero feature stays zero, so its cosines are 0."""
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
    """Values of the contrastive loss in an epoch. `ramp`: the weight grows from 0 to `weight` over the epoch's steps.
    `every_pair`: all pairs with known labels are used, none are left out. `with_unknown`: and those with an unknown
    label too. None: off."""

    weight: float
    ramp: bool | None = None
    every_pair: bool | None = None
    with_unknown: bool | None = None

    def __call__(self, features: Tensor, labels: Tensor, batch_progress: float, generator: Callable) -> Tensor:
        """The weighted scalar loss. `generator(purpose)` returns the torch generator of this step."""

        def permutation(name: str, count: int) -> Tensor:
            return torch.randperm(count, generator=generator(f"contrastive/{name}")).to(labels.device)

        weight = self.weight * batch_progress if self.ramp else self.weight
        drawn = None if self.every_pair else permutation
        return weight * contrastive_loss(features, labels, drawn, with_unknown=bool(self.with_unknown))


@dataclass(frozen=True)
class ContrastiveSettings(Settings):
    contrastive_weight: float = setting(
        0.05,
        "weight of the contrastive loss on class features; 0: off",
        published=0.05,
        minimum=0,
        typical=(0.0, 0.05, 0.2),
        source="SST and SARB release: 0.05, growing from 0 over the first epoch",
    )
    contrastive_pairs: Literal["thinned", "all", "with_unknown"] = setting(
        "thinned",
        "pairs of images that are pushed apart. thinned: per list, three for each pair that is pulled together, two "
        "random ones and one with the largest loss, as released. all: all pairs with known labels. with_unknown: also "
        "all pairs with an unknown label, as in the text",
        published="thinned",
        source="SST release, loss/SST.py:235-273: thinned; Eq. 7 and 8: with_unknown",
    )

    def contrastive(self, epoch: int) -> Contrastive | None:
        """The loss in `epoch` (from 1); None if it is off."""
        if self.contrastive_weight == 0:
            return None
        with_unknown = self.contrastive_pairs == "with_unknown"
        every_pair = with_unknown or self.contrastive_pairs == "all"
        return Contrastive(self.contrastive_weight, epoch == 1 or None, every_pair or None, with_unknown or None)
