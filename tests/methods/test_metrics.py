"""Metrics against scikit-learn's, and where the labels or the predictions leave them little to say."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, precision_recall_curve, precision_score, recall_score

from methods.evaluation.metrics import (
    GROUP_METRICS,
    METRICS,
    average_precision,
    evaluate,
    frequency_groups,
    mean_average_precision,
    per_class,
    precision_recall,
)

property_test = settings(derandomize=True, deadline=None, max_examples=40)


@st.composite
def scored(draw, values=(-1, 1)):
    """Scores (N, K) on a coarse grid, so that many are equal, and labels."""
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 5)))
    scores = draw(arrays(np.float64, shape, elements=st.integers(-4, 4).map(float)))
    return scores, draw(arrays(np.int8, shape, elements=st.sampled_from(values)))


partly_labelled = scored(values=(-1, 0, 1))


def class_by_class(scores, labels, average_precision_of_class):
    """Each class's known entries given to a function of (truth, scores); NaN for classes without positives."""
    values = [
        average_precision_of_class(y[y != 0] == 1, s[y != 0]) if (y == 1).any() else np.nan
        for s, y in zip(scores.T, labels.T, strict=True)
    ]
    return np.array(values)


def interpolated_by_curve(truth, scores):
    """The area under the precision-recall curve once precision is made to fall with recall."""
    precision, recall, _ = precision_recall_curve(truth, scores)  # recall falls
    return -np.sum(np.diff(recall) * np.maximum.accumulate(precision[:-1]))


@property_test
@given(partly_labelled)
def test_plain_average_precision_is_scikit_learns_on_the_known_entries(case):
    np.testing.assert_allclose(average_precision(*case), class_by_class(*case, average_precision_score), atol=1e-12)


@property_test
@given(partly_labelled)
def test_interpolated_average_precision_is_the_area_under_the_falling_curve(case):
    expected = class_by_class(*case, interpolated_by_curve)
    np.testing.assert_allclose(average_precision(*case, interpolated=True), expected, atol=1e-12)


@property_test
@given(partly_labelled)
def test_mean_ap_with_0_for_absent_classes_is_scikit_learns_over_all_annotated_classes(case):
    """As the single-positive release computes it: scikit-learn gives a class without positives 0, and warns."""
    scores, labels = case
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        of_classes = [
            average_precision_score(y[y != 0] == 1, s[y != 0])
            for s, y in zip(scores.T, labels.T, strict=True)
            if y.any()
        ]
    expected = 100 * np.mean(of_classes) if of_classes else np.nan
    np.testing.assert_allclose(evaluate(scores, labels)["map_absent_zero"], expected, atol=1e-10)


@property_test
@given(partly_labelled)
def test_interpolated_is_never_below_plain(case):
    plain, interpolated = average_precision(*case), average_precision(*case, interpolated=True)
    assert (np.isnan(plain) == np.isnan(interpolated)).all()
    assert not (interpolated < plain - 1e-12).any()


def test_interpolation_adds_about_half_a_point_on_a_test_set_as_large_as_voc():
    # 4,952 images, 200 positives two standard deviations above the negatives: a class of VOC 2007, drawn ten times.
    labels = np.where(np.arange(4952) < 200, 1, -1)[:, None].repeat(10, axis=1)
    scores = np.random.default_rng(0).normal(size=labels.shape) + 2 * (labels == 1)
    plain, interpolated = (100 * mean_average_precision(scores, labels, reading) for reading in (False, True))
    assert plain == pytest.approx(49.6, abs=2)
    assert 0.1 < interpolated - plain < 0.6


@property_test
@given(scored(), st.data())
def test_group_metrics_are_means_of_scikit_learns_over_fifths_of_the_classes_from_rarest_to_most_frequent(case, data):
    columns = [data.draw(st.integers(0, 4)) for _ in range(20)]  # twenty classes of the few that were drawn
    scores, labels = (np.stack([array[:, i % array.shape[1]] for i in columns], axis=1) for array in case)
    counts = np.array(data.draw(st.lists(st.integers(0, 9), min_size=20, max_size=20)))
    values = evaluate(scores, labels, counts)
    assert set(values) == {*METRICS, *GROUP_METRICS}
    by_class = 100 * class_by_class(scores, labels, average_precision_score)
    ascending = sorted(range(20), key=lambda index: (counts[index], index))
    for group in range(5):
        members = by_class[ascending[4 * group : 4 * group + 4]]
        members = members[~np.isnan(members)]
        expected = members.mean() if members.size else np.nan
        np.testing.assert_allclose(values[f"map_g{group + 1}"], expected, atol=1e-9)


def test_groups_of_classes_are_a_partition_of_equal_sizes_in_ascending_order():
    counts = np.random.default_rng(0).integers(0, 30, 5000)
    groups = frequency_groups(counts, 5)
    assert [len(group) for group in groups] == [1000] * 5
    assert sorted(np.concatenate(groups)) == list(range(5000))
    assert (np.diff(counts[np.concatenate(groups)]) >= 0).all()
    assert [group.tolist() for group in frequency_groups([2, 1, 2, 0, 1, 9, 9], 5)] == [[3, 1], [4, 0], [2], [5], [6]]


def test_without_groups_there_are_no_group_metrics_and_a_group_without_classes_says_nothing():
    scores, labels = np.array([[2.0, 1.0], [1.0, -1.0]]), np.array([[1, -1], [-1, 1]])
    assert set(evaluate(scores, labels)) == set(METRICS)
    values = evaluate(scores, labels, [5, 3])
    assert (values["map_g1"], values["map_g2"]) == (50.0, 100.0)
    assert all(np.isnan(values[f"map_g{group}"]) for group in (3, 4, 5))


@property_test
@given(partly_labelled, st.randoms(use_true_random=False))
def test_the_order_of_images_does_not_matter(case, random):
    scores, labels = case
    rows = random.sample(range(len(scores)), len(scores))
    shuffled = evaluate(scores[rows], labels[rows])
    for name, value in evaluate(scores, labels).items():
        np.testing.assert_allclose(shuffled[name], value, rtol=1e-12, err_msg=name)


@property_test
@given(partly_labelled, st.sampled_from([np.exp, np.cbrt, lambda s: 3 * s - 100, lambda s: 1 / (1 + np.exp(-s))]))
def test_average_precision_depends_on_the_ranking_alone(case, monotone):
    scores, labels = case
    for interpolated in (False, True):
        expected = average_precision(scores, labels, interpolated)
        np.testing.assert_array_equal(average_precision(monotone(scores), labels, interpolated), expected)


@property_test
@given(scored(), st.sampled_from([-1.0, 0.0, 2.5]))
def test_precision_and_recall_are_scikit_learns(case, threshold):
    scores, labels = case
    truth, predicted = labels == 1, scores >= threshold
    present = truth.any(axis=0)
    class_precisions = [precision_score(t, p, zero_division=0) for t, p in zip(truth.T, predicted.T, strict=True)]
    class_recalls = [recall_score(t, p) for t, p in zip(truth.T[present], predicted.T[present], strict=True)]
    expected = {
        "op": precision_score(truth.ravel(), predicted.ravel(), zero_division=0),
        "or": recall_score(truth.ravel(), predicted.ravel(), zero_division=np.nan),
        "cp": np.mean(class_precisions),
        "cr": np.mean(class_recalls) if class_recalls else np.nan,
    }
    for precision, recall, f1 in (("op", "or", "of1"), ("cp", "cr", "cf1")):
        total = expected[precision] + expected[recall]
        expected[f1] = 0.0 if total == 0 else 2 * expected[precision] * expected[recall] / total
    values = precision_recall(scores, labels, threshold)
    assert values == pytest.approx(expected, nan_ok=True)


def test_top_keeps_the_largest_scores_of_an_image_that_reach_the_threshold():
    scores = np.array([[4.0, 3.0, 2.0, 1.0], [5.0, -1.0, -2.0, -3.0], [0.0, 0.0, 0.0, 0.0]])
    labels = np.array([[1, -1, 1, 1], [1, 1, 1, 1], [-1, 1, -1, 1]])
    # Predicted: classes 0 and 1 of the first image, 0 of the second, and of the third the first two among equals.
    values = precision_recall(scores, labels, top=2)
    assert values["op"] == pytest.approx(3 / 5)
    assert values["or"] == pytest.approx(3 / 9)
    assert values["cp"] == pytest.approx(np.mean([2 / 3, 1 / 2, 0, 0]))
    assert values["cr"] == pytest.approx(np.mean([2 / 2, 1 / 2, 0, 0]))
    assert (
        precision_recall(scores, labels, top=4)
        == precision_recall(scores, labels, top=9)
        == precision_recall(scores, labels)
    )


def test_a_class_never_predicted_has_precision_zero_and_leaves_overall_precision_alone():
    scores = np.array([[1.0, -1.0], [1.0, -1.0]])
    labels = np.array([[1, 1], [-1, -1]])
    assert precision_recall(scores, labels) == pytest.approx(
        {"op": 1 / 2, "or": 1 / 2, "of1": 1 / 2, "cp": 1 / 4, "cr": 1 / 2, "cf1": 1 / 3}
    )
    assert precision_recall(scores, labels, released=True)["op"] == pytest.approx(1 / 3)


def test_a_class_without_positives_is_left_out_of_means_over_positives():
    scores = np.array([[2.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    labels = np.array([[-1, -1], [1, -1], [-1, -1]])
    assert average_precision(scores, labels).tolist() == [0.5, pytest.approx(np.nan, nan_ok=True)]
    assert mean_average_precision(scores, labels) == 0.5
    assert mean_average_precision(scores, labels, absent="zero") == 0.25
    values = precision_recall(scores, labels)
    assert (values["cp"], values["cr"]) == (0.25, 1.0)  # its false alarm counts in CP
    assert np.isnan(precision_recall(scores, labels, released=True)["cr"])


def test_a_class_without_known_labels_counts_nowhere():
    scores, labels = np.array([[2.0, 1.0], [1.0, -1.0]]), np.array([[1, 0], [-1, 0]])
    alone = evaluate(scores[:, :1], labels[:, :1])
    assert evaluate(scores, labels) == alone
    assert mean_average_precision(scores, labels, absent="zero") == 1.0


def test_an_unknown_entry_is_neither_right_nor_wrong():
    scores = np.array([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    labels = np.array([[0, 1], [1, -1], [-1, 0]])
    assert average_precision(scores, labels).tolist() == [1.0, 0.5]
    assert precision_recall(scores, labels)["op"] == pytest.approx(2 / 4)


@pytest.mark.parametrize(
    "scores, labels, finite",
    [
        (np.ones((3, 2)), -np.ones((3, 2)), {"map_absent_zero", "op", "cp"}),  # no positives
        (np.ones((3, 2)), np.zeros((3, 2)), set()),  # nothing known
        (np.ones((0, 2)), np.zeros((0, 2)), set()),  # no images
        (-np.ones((3, 2)), np.ones((3, 2)), {*METRICS[:3], "op", "or", "of1", "cp", "cr", "cf1"}),
    ],
    ids=["no positives", "nothing known", "no images", "nothing predicted"],
)
def test_nan_stands_where_nothing_can_be_said_and_nowhere_else(scores, labels, finite):
    finite = finite | {f"top3_{name}" for name in finite if not name.startswith("map")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = evaluate(scores, labels)
    assert {name for name, value in values.items() if np.isfinite(value)} == finite
    assert all(type(value) is float for value in values.values())


def test_infinite_scores_have_a_rank_and_nan_has_none():
    labels = np.array([[1], [-1], [1]])
    assert average_precision(np.array([[np.inf], [0.0], [-np.inf]]), labels) == pytest.approx((1 + 2 / 3) / 2)
    with pytest.raises(ValueError, match="1 of 3 are NaN"):
        average_precision(np.array([[np.nan], [0.0], [1.0]]), labels)


def test_input_that_makes_no_sense_is_refused():
    scores = np.zeros((2, 3))
    with pytest.raises(ValueError, match=r"\(2, 3\) and labels \(3, 2\)"):
        evaluate(scores, np.ones((3, 2)))
    with pytest.raises(ValueError, match="labels: 2.0 is not allowed"):
        evaluate(scores, np.full((2, 3), 2.0))
    with pytest.raises(ValueError, match="top: 0 is not allowed"):
        precision_recall(scores, np.ones((2, 3)), top=0)
    with pytest.raises(ValueError, match="absent: 'nan' is not allowed"):
        mean_average_precision(scores, np.ones((2, 3)), absent="nan")


def test_each_class_has_its_average_precision_under_a_name_that_mlflow_takes():
    random = np.random.default_rng(3)
    scores, labels = random.normal(size=(30, 2)), np.where(random.random((30, 2)) < 0.4, 1, -1)
    found = per_class(scores, labels, ("hair drier", "person's (left)"))
    expected = [100 * average_precision_score(labels[:, k] > 0, scores[:, k]) for k in range(2)]
    assert list(found) == ["ap/hair drier", "ap/person_s _left_"]
    assert list(found.values()) == pytest.approx(expected)
