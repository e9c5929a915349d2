"""Prototypes of classes: k-means centres of the class features of known positives in the training images. SARB blends
them into unknown labels, HST compares features with them. No method is here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..contract.objective import EpochStart

# Number of k-means starts, of which the best is kept: scikit-learn's default when SARB was released.
STARTS = 10


def class_prototypes(
    features: Tensor, classes: Tensor, num_classes: int, per_class: int, generator: torch.Generator
) -> Tensor:
    """Prototypes (K, Q, D), Q = `per_class`: for each class the k-means centres of its features.

    `features` are (M, D), their `classes` (M,) int64. If a class has fewer than Q different features, each becomes a
    centre, and the centres are repeated up to Q; the release fails here. A class without features gets zeros, see
    `has_prototypes`; cosines with zeros are 0. Each class has its own seed, so its prototypes do not depend on the
    features of other classes.
    """
    seeds = torch.randint(2**31, (num_classes,), generator=generator).tolist()
    prototypes = features.new_zeros((num_classes, per_class, features.shape[1]))
    for k in classes.unique().tolist():
        centres = _centres(features[classes == k], per_class, seeds[k])
        prototypes[k] = centres[torch.arange(per_class) % len(centres)]
    return prototypes


def has_prototypes(prototypes: Tensor) -> Tensor:
    """Which classes have prototypes, (K,) bool; `prototypes` (K, Q, D) of the others are zeros."""
    return (prototypes != 0).any(2).any(1)


def known_positive_features(start: EpochStart, class_features: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Class features (M, D) of all known positives in the training split and their classes (M,), image by image.
    `class_features` turns a feature map (b, D', H, W) into class features (b, K, D)."""
    positive = torch.from_numpy(start.task.observed) > 0
    features = start.over_training(lambda maps, rows: class_features(maps)[positive[rows]])
    return features, positive.nonzero()[:, 1]


def _centres(samples: Tensor, wanted: int, seed: int) -> Tensor:
    """At most `wanted` k-means centres of samples (m, D)."""
    from sklearn.cluster import KMeans  # here, because it takes most of a second to import

    different = len(samples.unique(dim=0))
    with _thread_pools().limit(limits=1):  # several threads would sum in another order, with another result
        found = KMeans(min(wanted, different), n_init=STARTS, random_state=seed).fit(samples.numpy())
    return torch.from_numpy(found.cluster_centers_).to(samples.dtype)


@functools.cache  # finding the libraries that have threads takes longer than a small k-means
def _thread_pools() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
