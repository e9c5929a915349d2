"""Label regimes: which of an image's true labels are given to training.

Each takes the full labels (N, K) of +1 (present) and -1 (absent) and returns the observed ones, int8 (N, K) of +1, -1
and 0 (unknown). They draw from NumPy's legacy generator, as the released code does, so that with its seeds the masks
are the papers' own, to the bit; NumPy's global state is neither read nor changed. To be drawn on the full official
training list, before any split. Losses and soft labels do not belong here.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

Regime = Literal["full", "single_positive", "proportion", "human_verified"]


def observe(labels: ArrayLike, regime: Regime, known: float, seed: int, **tail: float) -> np.ndarray:
    """The labels (N, K) that `regime` lets training see, int8 (N, K).

    `known` is the proportion that "proportion" keeps, `seed` the seed of the mask, `tail` what `human_verified` takes
    besides; a regime without use for one ignores it. An unknown regime is a `ValueError`, as are labels other than +1
    and -1, here and below.
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
    """One positive of each image, drawn at random, and nothing else; an image without positives keeps no label.

    From Cole et al., "Multi-Label Learning from Single Positive Labels", used by Large Loss Matters too. Their released
    masks have `seed` 1200, started anew for the training and for the validation list.
    """
    labels = _full(labels)
    random = np.random.RandomState(seed)
    observed = np.zeros_like(labels)
    for image, row in enumerate(labels):
        positives = np.flatnonzero(row == 1)
        random.shuffle(positives)
        observed[image, positives[:1]] = 1
        # None of the negatives is kept, but the released code shuffles them as well, and so moves the generator on.
        random.shuffle(np.flatnonzero(row == -1))
    return observed


def proportion(labels: ArrayLike, known: float, seed: int) -> np.ndarray:
    """Each label, positive or negative, kept with probability `known` in [0, 1], independently of the others.

    So the proportion holds on average, not in every image or class. With one `seed` the masks are nested: what is known
    at 0.1 is known at 0.2 too, and at 1 everything is. From the released code of SST, SARB and HST, whose masks have
    `seed` 0.
    """
    if not 0 <= known <= 1:
        raise ValueError(f"known: {known!r} is not allowed; allowed is a proportion from 0 to 1")
    labels = _full(labels)
    kept = np.random.RandomState(seed).random_sample(labels.shape) < known
    return np.where(kept, labels, np.int8(0))


def human_verified(
    labels: ArrayLike, seed: int, *, annotated: float, tail_exponent: float, positive_bias: float
) -> np.ndarray:
    """A long-tailed number of annotations per class, positives and negatives: what OpenImages is by nature, simulated.

    There people verify candidate labels, many of one class and few of another, and most entries are never looked at.
    Here a share `annotated` in [0, 1] of all N K entries is given. The class of rank r = 1 … K has a number of them
    that is proportional to r^-`tail_exponent`, and at most N: what a class cannot take, the others share. Which class
    has which rank is drawn. Within a class images are drawn without replacement, those that have it `positive_bias`
    times as likely as the others in every draw (1: alike; candidates come from a classifier, so above 1 is closer to
    OpenImages). With one `seed` the masks of a smaller share are contained in those of a larger one.
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
    # Drawing by weight without replacement takes the smallest of exponential times with the weights as rates.
    times = random.standard_exponential(labels.shape) / np.where(labels == 1, positive_bias, 1.0)
    place = times.argsort(axis=0).argsort(axis=0)
    return np.where(place < counts, labels, np.int8(0))


def _long_tail(images: int, classes: int, share: float, exponent: float) -> np.ndarray:
    """Annotations of each class, most frequent first, (K,) integers of at most `images`."""
    weights = np.arange(1, classes + 1, dtype=np.float64) ** -exponent
    counts = np.full(classes, float(images))
    for full in range(classes):
        counts[full:] = weights[full:] / weights[full:].sum() * (share * classes - full) * images
        if counts[full] <= images:
            break
        counts[full] = images
    return np.rint(counts).astype(np.int64)


def _full(labels: ArrayLike) -> np.ndarray:
    """A copy as int8, once it is known to be a full label matrix."""
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
