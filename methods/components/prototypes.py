"""Prototypes of classes: the k-means centres of their class features over the training images that are known to have
them. What SARB blends into unknown labels, and what HST compares with.

Functions of tensors alone, but for the one that collects the features. No method is here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..contract.objective import EpochStart

# k-means starts, of which the best is kept: scikit-learn's default when SARB was released.
STARTS = 10


def class_prototypes(
    features: Tensor, classes: Tensor, num_classes: int, per_class: int, generator: torch.Generator
) -> Tensor:
    """Prototypes (K, Q, D), Q = `per_class`, of features (M, D) of the `classes` (M,) int64.

    Each class's are the centres of k-means over its features. The release fails where a class has fewer features than
    Q: here there are then as many centres as different features, repeated in turn until Q are full. A class without any
    feature has zeros: see `has_prototypes`; a cosine with them is 0. Seeds are drawn per class, so that no class's
    prototypes depend on another's features.
    """
    seeds = torch.randint(2**31, (num_classes,), generator=generator).tolist()
    prototypes = features.new_zeros((num_classes, per_class, features.shape[1]))
    for k in classes.unique().tolist():
        centres = _centres(features[classes == k], per_class, seeds[k])
        prototypes[k] = centres[torch.arange(per_class) % len(centres)]
    return prototypes


def has_prototypes(prototypes: Tensor) -> Tensor:
    """Classes (K,) bool that have any, of prototypes (K, Q, D)."""
    return (prototypes != 0).any(2).any(1)


def known_positive_features(start: EpochStart, class_features: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Class features (M, D) of the known positives of the training split and their classes (M,), image by image.

    `class_features` makes (b, K, D) of a feature map (b, D', H, W). Only those of known positives are kept.
    """
    positive = torch.from_numpy(start.task.observed) > 0
    features = start.over_training(lambda maps, rows: class_features(maps)[positive[rows]])
    return features, positive.nonzero()[:, 1]


def _centres(samples: Tensor, wanted: int, seed: int) -> Tensor:
    """At most `wanted` k-means centres of samples (m, D)."""
    from sklearn.cluster import KMeans  # here, because it takes most of a second to import
    from threadpoolctl import threadpool_limits

    different = len(samples.unique(dim=0))
    with threadpool_limits(1):  # sums in another order would be other numbers
        found = KMeans(min(wanted, different), n_init=STARTS, random_state=seed).fit(samples.numpy())
    return torch.from_numpy(found.cluster_centers_).to(samples.dtype)
