"""Label regimes: which of an image's true labels are given to training.

Each function takes the full labels (N, K) of +1 (present) and -1 (absent), and returns the observed labels, int8 (N, K)
of +1, -1 and 0 (unknown). It draws from NumPy's legacy generator, like the released code, so that the papers' seeds
give exactly the papers' masks. NumPy's global state is not used. Masks must be drawn on the full official training
list, before any split. Losses and soft labels do not belong here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

Regime = Literal["full", "single_positive", "proportion", "human_verified"]


def observe(labels: ArrayLike, regime: Regime, known: float, seed: int, **tail: float) -> np.ndarray:
    """The observed labels under `regime`, int8 (N, K).

    `known` is the proportion that "proportion" keeps, `seed` the seed of the mask, `tail` the further arguments of
    `human_verified`. Arguments that a regime does not use are ignored. Raises `ValueError` for an unknown regime and
    for labels other than +1 and -1, as do all functions below.
    """
    if regime == "full":
        return _full(labels)
    if regime == "single_positive":
        return single_positive(labels, seed)
    if regime == "proportion":
        return proportion(labels, known, seed)
    if regime == "human_verified":
        return human_verified(labels, seed, **tail)
    raise ValueError(f"regime: {regime!r} is not allowed; allowed is {' | '.join(get_args(Regime))}")


def single_positive(labels: ArrayLike, seed: int) -> np.ndarray:
    """One random positive of each image, and no other label. An image without positives keeps no label.

    From Cole et al., "Multi-Label Learning from Single Positive Labels"; also used by Large Loss Matters. Their
    released masks have `seed` 1200 for the training list, and again 1200 for the validation list.
    """
    labels = _full(labels)
    random = np.random.RandomState(seed)
    observed = np.zeros_like(labels)
    for image, row in enumerate(labels):
        positives = np.flatnonzero(row == 1)
        random.shuffle(positives)
        observed[image, positives[:1]] = 1
        # No negative is kept, but the released code shuffles them too, which changes the generator's later draws.
        random.shuffle(np.flatnonzero(row == -1))
    return observed


def proportion(labels: ArrayLike, known: float, seed: int) -> np.ndarray:
    """Keeps each label, positive or negative, with probability `known` in [0, 1], independently of the others.

    So the proportion holds on average, not in each image or class. With the same `seed` the masks are nested: a label
    known at 0.1 is also known at 0.2. From the released code of SST, SARB and HST, whose masks have `seed` 0.
    """
    if not 0 <= known <= 1:
        raise ValueError(f"known: {known!r} is not allowed; allowed is a proportion from 0 to 1")
    labels = _full(labels)
    kept = np.random.RandomState(seed).random_sample(labels.shape) < known
    return np.where(kept, labels, np.int8(0))


def human_verified(
    labels: ArrayLike, seed: int, *, annotated: float, tail_exponent: float, positive_bias: float
) -> np.ndarray:
    """A simulation of OpenImages: positives and negatives are known, in a long-tailed number per class.

    In OpenImages, people verify candidate labels: many of some classes, few of others, and most labels are never
    verified. Here a share `annotated` in [0, 1] of all N K labels is known. The class of rank r = 1 … K gets a number
    of them proportional to r^-`tail_exponent`, at most N; what exceeds N goes to the other classes. The ranks of the
    classes are random. Within a class, images are drawn without replacement; in each draw an image with the class is
    `positive_bias` times as likely as one without (1: equally likely; above 1 is closer to OpenImages, where a
    classifier proposes the candidates). With the same `seed`, the mask of a smaller share is part of that of a larger
    one.
    """
    if not 0 <= annotated <= 1:
        raise ValueError(f"annotated: {annotated!r} is not allowed; allowed is a share from 0 to 1")
    if not 0 <= tail_exponent <= 10:
        raise ValueError(f"tail_exponent: {tail_exponent!r} is not allowed; allowed is a number from 0 to 10")
    if not 0 < positive_bias < np.inf:
        raise ValueError(f"positive_bias: {positive_bias!r} is not allowed; allowed is a number above 0")
    labels = _full(labels)
    random = np.random.RandomState(seed)
    counts = random.permutation(_long_tail(len(labels), labels.shape[1], annotated, tail_exponent))
    # Weighted draws without replacement: the smallest of exponential times whose rates are the weights.
    times = random.standard_exponential(labels.shape) / np.where(labels == 1, positive_bias, 1.0)
    place = times.argsort(axis=0).argsort(axis=0)
    return np.where(place < counts, labels, np.int8(0))


def _long_tail(images: int, classes: int, share: float, exponent: float) -> np.ndarray:
    """The number of annotations of each class, most frequent first, (K,) integers of at most `images`."""
    weights = np.arange(1, classes + 1, dtype=np.float64) ** -exponent
    counts = np.full(classes, float(images))
    for full in range(classes):
        counts[full:] = weights[full:] / weights[full:].sum() * (share * classes - full) * images
        if counts[full] <= images:
            break
        counts[full] = images
    return np.rint(counts).astype(np.int64)


def _full(labels: ArrayLike) -> np.ndarray:
    """A copy as int8. Raises `ValueError` if it is not a full label matrix."""
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"labels: shape {labels.shape} is not allowed; allowed is (images, classes)")
    wrong = np.argwhere((labels != 1) & (labels != -1))
    if len(wrong):
        image, column = wrong[0]
        raise ValueError(
            f"labels: {labels[image, column]} at image {image}, class {column} (and {len(wrong) - 1} more) is not "
            "allowed; a label regime starts from the full labels, each +1 or -1"
        )
    return labels.astype(np.int8)
