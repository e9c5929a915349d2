"""Metrics against values of the released code, and against those that leave its two quirks out."""

import numpy as np
import pytest

from methods.evaluation.metrics import average_precision, evaluate, mean_average_precision, precision_recall
from tests.golden_cases import cases, load

NAMES = ("op", "or", "of1", "cp", "cr", "cf1")
TOPS = (("", None), ("top3_", 3))
each_case = pytest.mark.parametrize("path", cases("metrics"))


def same(value, expected):
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=0)  # NaN equals NaN


def corrected(case, prefix, name):
    """The stored value without the released quirks; where none is stored the quirk did not matter."""
    stored = vars(case)
    for suffix in ("no_correction", "valid"):
        if f"out_alt_{prefix}{name}_{suffix}" in stored:
            return stored[f"out_alt_{prefix}{name}_{suffix}"]
    return stored[f"out_{prefix}{name}"]


@each_case
def test_average_precision_is_golden_with_nan_for_classes_without_positives(path):
    case = load(path)
    absent = ~(case.in_labels == 1).any(axis=0)
    same(average_precision(case.in_logits, case.in_labels), np.where(absent, np.nan, case.out_ap_plain))
    same(average_precision(case.in_logits, case.in_labels, interpolated=True), case.out_ap_interpolated)


@each_case
def test_mean_average_precision_is_golden_in_each_reading_of_absent_classes(path):
    case = load(path)
    same(mean_average_precision(case.in_logits, case.in_labels, absent="zero"), case.out_map_plain)
    same(average_precision(case.in_logits, case.in_labels, interpolated=True).mean(), case.out_map_interpolated)
    for interpolated, name in ((False, "map_plain"), (True, "map_interpolated")):
        value = mean_average_precision(case.in_logits, case.in_labels, interpolated)
        same(value, corrected(case, "", name))


@each_case
@pytest.mark.parametrize("prefix, top", TOPS)
def test_released_precision_recall_and_f1_are_golden(path, prefix, top):
    case = load(path)
    values = precision_recall(case.in_logits, case.in_labels, top=top, released=True)
    for name in NAMES:
        same(values[name], vars(case)[f"out_{prefix}{name.upper()}"])


@each_case
@pytest.mark.parametrize("prefix, top", TOPS)
def test_corrected_precision_recall_and_f1_are_golden(path, prefix, top):
    case = load(path)
    values = precision_recall(case.in_logits, case.in_labels, top=top)
    for name in NAMES:
        same(values[name], corrected(case, prefix, name.upper()))


@each_case
def test_evaluate_gives_the_golden_values_in_percent(path):
    case = load(path)
    expected = {"map": corrected(case, "", "map_plain"), "map_interpolated": corrected(case, "", "map_interpolated")}
    expected["map_absent_zero"] = case.out_map_plain  # the released code counts 0
    expected |= {prefix + name: corrected(case, prefix, name.upper()) for prefix, _ in TOPS for name in NAMES}
    values = evaluate(case.in_logits, case.in_labels)
    assert list(values) == list(expected)
    for name, value in values.items():
        same(value, 100 * expected[name])
