"""Metrics: average precision, and overall and per-class precision, recall and F1.

In all functions, `scores` (N, K) are real numbers; a higher score means that the class is more likely in the image. Use
logits, because float32 probabilities near 1 are often equal. `labels` (N, K) are +1, -1 or 0 (unknown); unknown labels
are left out of every count.

`evaluate` returns percent, as the papers print; the other functions return fractions of 1. NaN means that the labels
allow no value, for example the recall of a class without positives. A class that is never predicted has precision 0.
Released codes treat such classes in different ways; `absent` and `released` reproduce them.
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
METRICS = ("map", "map_interpolated", "map_absent_zero", *_COUNTED, *(f"top3_{name}" for name in _COUNTED))
# More metrics of `evaluate`, over groups of classes by number of annotations, and the label regimes with these groups.
GROUP_METRICS = ("map_g1", "map_g2", "map_g3", "map_g4", "map_g5")
GROUPED_REGIMES = ("human_verified",)
# Prefix of the class name in the metrics of `per_class`.
PER_CLASS = "ap"


def evaluate(scores: ArrayLike, labels: ArrayLike, annotations: ArrayLike | None = None) -> dict[str, float]:
    """All metrics, in percent: `map`; `map_interpolated`, of interpolated AP; `map_absent_zero`, of plain AP with 0 for
    classes without positives (released code of the single-positive methods); `op`, `or`, `of1`, `cp`, `cr`, `cf1`, with
    the classes of score >= 0 predicted (probability >= 0.5 for logits); `top3_op`, …, with only those among the image's
    three largest.

    With `annotations` (K,), the number of known training labels of each class, also the plain mAP of five groups of
    classes, from `map_g1` (rarest) to `map_g5` (most frequent); see `frequency_groups`.
    """
    metrics = {
        "map": mean_average_precision(scores, labels),
        "map_interpolated": mean_average_precision(scores, labels, interpolated=True),
        "map_absent_zero": mean_average_precision(scores, labels, absent="zero"),
        **precision_recall(scores, labels),
        **{f"top3_{name}": value for name, value in precision_recall(scores, labels, top=3).items()},
    }
    if annotations is not None:
        scores, labels = np.asarray(scores), np.asarray(labels)
        for name, group in zip(GROUP_METRICS, frequency_groups(annotations, len(GROUP_METRICS)), strict=True):
            metrics[name] = mean_average_precision(scores[:, group], labels[:, group])
    return {name: 100 * value for name, value in metrics.items()}


def per_class(scores: ArrayLike, labels: ArrayLike, classes: Sequence[str]) -> dict[str, float]:
    """`ap/NAME`: the plain average precision of each class, in percent. Characters that MLflow refuses become "_"."""
    names = [re.sub(r"[^\w .:-]", "_", name, flags=re.ASCII) for name in classes]
    return {f"{PER_CLASS}/{name}": 100 * v for name, v in zip(names, average_precision(scores, labels), strict=True)}


def frequency_groups(annotations: ArrayLike, groups: int) -> list[np.ndarray]:
    """Class indices in `groups` groups of equal size, by the number of training annotations of a class, rarest first.

    Large Loss Matters reports OpenImages so, with groups G1 to G5. Annotations as present and as absent both count.
    Classes with equal numbers keep their order. If the number of classes is not divisible, the first groups have one
    class more.
    """
    return np.array_split(np.argsort(annotations, kind="stable"), groups)


def average_precision(scores: ArrayLike, labels: ArrayLike, interpolated: bool = False) -> np.ndarray:
    """Average precision of each class, float64 (K,); NaN for a class without positives.

    Plain: the mean, over the positives, of the precision at their rank; equal scores share the last of their ranks.
    This is scikit-learn's `average_precision_score`, as in the released code of the single-positive methods.
    `interpolated`: the precision is replaced by the largest one at this or a later rank (VOC 2010 and later, all
    points; released code of SST, SARB and HST). It is never smaller than the plain one; do not compare the two.

    Raises `ValueError` for NaN scores, labels other than +1, -1, 0, or different shapes.
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

    Classes without positives are left out (`absent` "skip"), or count as 0 if a negative is known ("zero", as in the
    released code of the single-positive methods; that of SST, SARB and HST yields NaN). NaN if no class is left.
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

    A class is predicted if its score is >= `threshold` and, with `top`, among the `top` largest scores of the image
    (of equal scores, the first class wins). With Nc correct, Np predicted and Ng true labels of a class,

        OP = ΣNc / ΣNp,  OR = ΣNc / ΣNg,  CP = mean(Nc / Np),  CR = mean(Nc / Ng),  F1 = 2 P R / (P + R),

    as in the released code of ML-GCN, SST, SARB and HST. So CF1 is not the mean of the classes' F1, as in DualCoOp. A
    class that is never predicted has precision 0. Classes without positives are left out of CR, classes without known
    labels are left out of all metrics. Without any positives, OR, CR and both F1 are NaN; without any known label, all
    metrics are NaN.

    `released` follows the released code literally: Np = 0 becomes 1 before the sums, so each class that is never
    predicted adds 1 to OP's denominator; a class without positives makes CR and CF1 NaN; F1 is NaN if precision and
    recall are 0.
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
    """For scores (N, K) in falling order: the last rank (from 0) with an equal score."""
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
    """`part` / `whole`; `otherwise` if `whole` is 0."""
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
