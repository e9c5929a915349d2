"""What is measured on scored images: average precision, and overall and per-class precision, recall and F1.

Everywhere `scores` (N, K) are real numbers, the higher the more likely the class is in the image. Logits are best:
float32 probabilities tie near 1. `labels` (N, K) are +1, -1 or 0; entries of label 0 (unknown) are left out of every
count.

The single functions return fractions of 1, `evaluate` percent, as the papers print. NaN says that the labels do not
permit a value, say the recall of a class without positives; predicting nothing is a precision of 0. Released codes
average over such classes in different ways, which `absent` and `released` emulate.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Absent = Literal["skip", "zero"]

_COUNTED = ("op", "or", "of1", "cp", "cr", "cf1")
# What `evaluate` returns, in order.
METRICS = ("map", "map_interpolated", *_COUNTED, *(f"top3_{name}" for name in _COUNTED))
# What it returns besides where classes are grouped by how often they are annotated, and the label regimes in which
# they are.
GROUP_METRICS = ("map_g1", "map_g2", "map_g3", "map_g4", "map_g5")
GROUPED_REGIMES = ("human_verified",)
# What comes before a class's name in its average precision.
PER_CLASS = "ap"


def evaluate(scores: ArrayLike, labels: ArrayLike, annotations: ArrayLike | None = None) -> dict[str, float]:
    """All metrics, in percent: `map`, `map_interpolated`, and `op`, `or`, `of1`, `cp`, `cr`, `cf1` of the classes with
    score >= 0 (probability >= 0.5 for logits), then as `top3_op`, … of those among the image's three largest scores.

    With `annotations` (K,), how many labels of each class training is given, also the plain mAP of five groups of
    classes, `map_g1` of the rarest to `map_g5` of the most frequent ones; see `frequency_groups`.
    """
    metrics = {
        "map": mean_average_precision(scores, labels),
        "map_interpolated": mean_average_precision(scores, labels, interpolated=True),
        **precision_recall(scores, labels),
        **{f"top3_{name}": value for name, value in precision_recall(scores, labels, top=3).items()},
    }
    if annotations is not None:
        scores, labels = np.asarray(scores), np.asarray(labels)
        for name, group in zip(GROUP_METRICS, frequency_groups(annotations, len(GROUP_METRICS)), strict=True):
            metrics[name] = mean_average_precision(scores[:, group], labels[:, group])
    return {name: 100 * value for name, value in metrics.items()}


def per_class(scores: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """`ap/NAME`, the plain average precision in percent of each class; what MLflow takes for no name becomes "_"."""
    names = [re.sub(r"[^\w .:-]", "_", name, flags=re.ASCII) for name in classes]
    return {f"{PER_CLASS}/{name}": 100 * v for name, v in zip(names, average_precision(scores, labels), strict=True)}


def frequency_groups(annotations: ArrayLike, groups: int) -> list[np.ndarray]:
    """Class indices by how often a class is annotated in training, rarest first, in `groups` groups of equal size.

    As Large Loss Matters reports OpenImages: five groups, G1 to G5, of the number of training images in which a class
    is annotated, as present or as absent. Of classes annotated equally often the first goes first; where `groups` does
    not divide their number, the first groups have one class more.
    """
    return np.array_split(np.argsort(annotations, kind="stable"), groups)


def average_precision(scores: ArrayLike, labels: ArrayLike, interpolated: bool = False) -> np.ndarray:
    """Average precision of each class, float64 (K,); NaN for a class without positives.

    Plain: the mean over the positives of the precision at their rank, equal scores sharing the last rank among them. It
    is scikit-learn's `average_precision_score`, which the released code of the single-positive methods calls.
    `interpolated`: that precision is replaced by the largest at this or a later rank (VOC 2010 and later, all points;
    the mAP of the released code of SST, SARB and HST). It is never the smaller; do not compare one with the other.

    Raises `ValueError` for NaN scores, other labels than +1, -1, 0, or shapes that differ.
    """
    scores, labels = _checked(scores, labels)
    by_rank = np.argsort(-scores, axis=0)
    scores = np.take_along_axis(scores, by_rank, axis=0)
    labels = np.take_along_axis(labels, by_rank, axis=0)

    positive = labels == 1
    precision = positive.cumsum(axis=0) / np.maximum((labels != 0).cumsum(axis=0), 1)
    precision = np.take_along_axis(precision, _last_rank_of_ties(scores), axis=0)
    if interpolated:
        precision = np.maximum.accumulate(precision[::-1])[::-1]
    return _ratio((precision * positive).sum(axis=0), positive.sum(axis=0), otherwise=np.nan)


def mean_average_precision(
    scores: ArrayLike, labels: ArrayLike, interpolated: bool = False, absent: Absent = "skip"
) -> float:
    """Mean of `average_precision` over the classes.

    Classes without positives are left out (`absent` "skip"), or count 0 where at least a negative is known ("zero", as
    in the released code of the single-positive methods; that of SST, SARB and HST yields NaN). NaN if no class is left.
    """
    if absent not in ("skip", "zero"):
        raise ValueError(f"absent: {absent!r} is not allowed; allowed is skip | zero")
    precision = average_precision(scores, labels, interpolated)
    labels = np.asarray(labels)
    counted = (labels == 1 if absent == "skip" else labels != 0).any(axis=0)
    return _mean(np.nan_to_num(precision[counted]))


def precision_recall(
    scores: ArrayLike, labels: ArrayLike, threshold: float = 0.0, top: int | None = None, released: bool = False
) -> dict[str, float]:
    """Overall (`op`, `or`, `of1`) and per-class (`cp`, `cr`, `cf1`) precision, recall and F1, as fractions of 1.

    A class is predicted where its score is >= `threshold` and, with `top`, among the `top` largest of all K scores of
    the image (the first class goes first among equals). With Nc correct, Np predicted and Ng true entries of a class,

        OP = ΣNc / ΣNp,  OR = ΣNc / ΣNg,  CP = mean(Nc / Np),  CR = mean(Nc / Ng),  F1 = 2 P R / (P + R),

    as in the released code of ML-GCN, SST, SARB and HST; CF1 is thus not the mean of the classes' F1 (DualCoOp's is).
    A class never predicted has precision 0. Classes without positives are left out of CR, and classes without any known
    label of everything. Without positives at all, OR, CR and both F1 are NaN; without any known label everything is.

    `released` takes the released code literally: Np = 0 becomes 1 before the sums, so that each class never predicted
    adds 1 to OP's denominator; a class without positives makes CR and CF1 NaN; F1 is NaN where precision and recall
    are 0.
    """
    scores, labels = _checked(scores, labels)
    chosen = scores >= threshold
    if top is not None:
        chosen &= _among_largest(scores, top)
    known = labels != 0
    annotated = known.any(axis=0)
    entries = chosen & (labels == 1), chosen & known, labels == 1
    correct, predicted, true = (each[:, annotated].sum(axis=0) for each in entries)
    if released:
        predicted = np.maximum(predicted, 1)

    recall = _ratio(correct, true, otherwise=np.nan)
    overall_precision = float(_ratio(correct.sum(), predicted.sum(), otherwise=0.0 if annotated.any() else np.nan))
    overall_recall = float(_ratio(correct.sum(), true.sum(), otherwise=np.nan))
    class_precision = _mean(_ratio(correct, predicted, otherwise=0.0))
    class_recall = _mean(recall if released else recall[true > 0])

    def f1(p: float, r: float) -> float:
        return float(_ratio(2 * p * r, p + r, otherwise=np.nan if released else 0.0))

    return {
        "op": overall_precision,
        "or": overall_recall,
        "of1": f1(overall_precision, overall_recall),
        "cp": class_precision,
        "cr": class_recall,
        "cf1": f1(class_precision, class_recall),
    }


def _last_rank_of_ties(ranked: np.ndarray) -> np.ndarray:
    """For scores (N, K) in falling order: the last rank, from 0, whose score is the same."""
    differs_from_next = np.ones(ranked.shape, dtype=bool)
    differs_from_next[:-1] = ranked[:-1] != ranked[1:]
    ranks = np.where(differs_from_next, np.arange(len(ranked))[:, None], len(ranked))
    return np.minimum.accumulate(ranks[::-1])[::-1]


def _among_largest(scores: np.ndarray, top: int) -> np.ndarray:
    if top < 1:
        raise ValueError(f"top: {top!r} is not allowed; allowed is an integer at least 1, or None")
    largest = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    mask = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(mask, largest, True, axis=1)
    return mask


def _ratio(part: ArrayLike, whole: ArrayLike, otherwise: float) -> np.ndarray:
    """part / whole, and `otherwise` where whole is 0."""
    whole = np.asarray(whole, dtype=np.float64)
    return np.divide(part, whole, out=np.full(whole.shape, otherwise), where=whole != 0)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _checked(scores: ArrayLike, labels: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels)
    if scores.ndim != 2 or scores.shape != labels.shape:
        raise ValueError(f"scores {scores.shape} and labels {labels.shape} must have one shape (images, classes)")
    if np.isnan(scores).any():
        raise ValueError(f"scores: {np.isnan(scores).sum()} of {scores.size} are NaN, which has no rank")
    wrong = (labels != 1) & (labels != -1) & (labels != 0)
    if wrong.any():
        raise ValueError(f"labels: {labels[wrong][0]} is not allowed; allowed is +1, -1 or 0 (unknown)")
    return scores, labels
