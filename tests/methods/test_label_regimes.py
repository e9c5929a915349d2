"""What every label regime promises, whatever the labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from methods.data.label_regimes import human_verified, observe, proportion, single_positive

REGIMES = ("full", "single_positive", "proportion", "human_verified")
TAIL = {"annotated": 0.3, "tail_exponent": 1.0, "positive_bias": 2.0}
property_test = settings(derandomize=True, deadline=None, max_examples=60)
full_labels = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([-1, 1]))
proportions = st.floats(0, 1)
seeds = st.integers(0, 2**32 - 1)


@property_test
@given(full_labels, st.sampled_from(REGIMES), proportions, seeds)
def test_a_given_label_is_a_true_one(labels, regime, known, seed):
    observed = observe(labels, regime, known, seed, **TAIL)
    assert observed.dtype == np.int8 and observed.shape == labels.shape
    assert np.isin(observed, (-1, 0, 1)).all()
    assert (observed == labels)[observed != 0].all()


@property_test
@given(full_labels, seeds)
def test_single_positive_gives_one_positive_where_there_is_one_and_no_negative(labels, seed):
    observed = single_positive(labels, seed)
    np.testing.assert_array_equal((observed == 1).sum(axis=1), (labels == 1).any(axis=1))
    assert not (observed == -1).any()


def test_single_positive_chooses_each_positive_equally_often():
    labels = np.tile(np.array([1, -1, 1, 1, -1], np.int8), (6000, 1))
    share = (single_positive(labels, seed=3) == 1).mean(axis=0)
    np.testing.assert_allclose(share, [1 / 3, 0, 1 / 3, 1 / 3, 0], atol=0.02)


@property_test
@given(full_labels, proportions, proportions, seeds)
def test_what_a_smaller_proportion_knows_a_larger_one_knows_too(labels, one, other, seed):
    few, many = (proportion(labels, known, seed) for known in sorted((one, other)))
    assert (many == few)[few != 0].all()


@property_test
@given(full_labels, seeds)
def test_proportion_one_and_full_leave_everything_and_proportion_zero_nothing(labels, seed):
    np.testing.assert_array_equal(proportion(labels, 1, seed), labels)
    np.testing.assert_array_equal(observe(labels, "full", 0.5, seed), labels)
    assert not proportion(labels, 0, seed).any()


def test_proportion_keeps_positives_and_negatives_alike():
    labels = np.where(np.random.RandomState(1).random_sample((2000, 20)) < 0.1, 1, -1)
    kept = proportion(labels, 0.3, seed=0) != 0
    assert kept[labels == 1].mean() == pytest.approx(0.3, abs=0.03)
    assert kept[labels == -1].mean() == pytest.approx(0.3, abs=0.01)


def scene_labels(images=2500, classes=20, share=0.12):
    return np.where(np.random.RandomState(1).random_sample((images, classes)) < share, 1, -1)


def annotations(observed):
    """How many labels of each class are known, rarest class first."""
    return np.sort((observed != 0).sum(axis=0))


@property_test
@given(full_labels, proportions, proportions, st.floats(0, 10), st.floats(0.01, 100), seeds)
def test_what_a_smaller_share_of_annotations_knows_a_larger_one_knows_too(labels, one, other, exponent, bias, seed):
    tail = {"tail_exponent": exponent, "positive_bias": bias}
    few, many = (human_verified(labels, seed, annotated=share, **tail) for share in sorted((one, other)))
    assert (many == few)[few != 0].all()
    np.testing.assert_array_equal(human_verified(labels, seed, annotated=1, **tail), labels)
    assert not human_verified(labels, seed, annotated=0, **tail).any()


@property_test
@given(proportions, st.floats(0, 10), seeds)
def test_the_share_of_annotations_holds_whatever_the_tail(share, exponent, seed):
    labels = scene_labels(100, 7)
    observed = human_verified(labels, seed, annotated=share, tail_exponent=exponent, positive_bias=1.0)
    assert abs((observed != 0).sum() - share * 700) <= 7 / 2  # each class is rounded to a whole number


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_annotations_per_class_fall_with_the_rank_as_a_power_law(exponent):
    observed = human_verified(scene_labels(), 3, annotated=0.05, tail_exponent=exponent, positive_bias=5.0)
    counts = annotations(observed)[::-1]
    ranks = np.arange(1, 21)
    assert np.polyfit(np.log(ranks), np.log(counts), 1)[0] == pytest.approx(-exponent, abs=0.02)
    assert counts[:4].sum() > 1.9 * counts[-4:].sum()
    np.testing.assert_allclose(counts, 2500 * ranks**-exponent / (ranks**-exponent).sum(), atol=0.5)
    assert (observed == 0).mean() == pytest.approx(0.95, abs=1e-3), "most entries are unknown"


def test_without_an_exponent_there_is_no_tail_and_what_a_full_class_cannot_take_the_others_share():
    def counts(annotated, exponent):
        tail = {"annotated": annotated, "tail_exponent": exponent, "positive_bias": 1.0}
        return annotations(human_verified(scene_labels(100, 5), 0, **tail)).tolist()

    assert counts(0.3, 0) == [30] * 5
    assert counts(0.6, 1) == [31, 39, 52, 78, 100]  # 1/2 + … + 1/5 share the 200 that the first class leaves
    assert counts(0.24, 10) == [0, 0, 0, 20, 100]


def test_the_rank_of_a_class_is_drawn_and_each_is_as_likely():
    # Ten of a class's images in expectation where ranks are equally likely, whatever the class.
    tail = {"annotated": 0.2, "tail_exponent": 1.0, "positive_bias": 1.0}
    known = [(human_verified(scene_labels(50, 4), seed, **tail) != 0).sum(axis=0) for seed in range(400)]
    np.testing.assert_allclose(np.mean(known, axis=0), 10, atol=1)
    assert len({tuple(counts) for counts in known}) == 24


@pytest.mark.parametrize("bias", [1.0, 5.0, 0.2])
def test_annotations_are_positives_and_negatives_with_the_odds_of_the_bias(bias):
    labels = scene_labels(200_000, 1, share=0.2)
    observed = human_verified(labels, 2, annotated=0.01, tail_exponent=1.0, positive_bias=bias)
    odds = (observed == 1).sum() / (observed == -1).sum()
    assert odds / (0.2 / 0.8) == pytest.approx(bias, rel=0.25)  # about 100 positives at 0.2


@pytest.mark.parametrize("regime", REGIMES[1:])
def test_a_mask_depends_on_its_seed_alone(regime):
    labels = np.where(np.random.RandomState(1).random_sample((50, 20)) < 0.3, 1, -1)
    first, again, other = (observe(labels, regime, 0.5, seed, **TAIL) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("regime", REGIMES)
def test_neither_the_labels_nor_the_global_generator_change(regime):
    labels = np.ones((4, 3), np.int8)
    before = np.random.get_state()
    observed = observe(labels, regime, 0.5, seed=0, **TAIL)
    observed[:] = 0
    after = np.random.get_state()
    assert (labels == 1).all()
    assert before[2:] == after[2:] and (before[1] == after[1]).all()


@pytest.mark.parametrize("regime", REGIMES)
def test_labels_that_are_not_full_are_refused_with_their_place(regime):
    with pytest.raises(ValueError, match=r"labels: 0 at image 1, class 0 \(and 1 more\) .* each \+1 or -1"):
        observe(np.array([[1, -1], [0, 2]]), regime, 0.5, seed=0, **TAIL)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        observe(np.array([1, -1]), regime, 0.5, seed=0, **TAIL)


def test_unknown_regimes_and_impossible_proportions_are_refused():
    labels = np.array([[1, -1]])
    with pytest.raises(ValueError, match="'partial' is not allowed; allowed is full | single_positive | proportion"):
        observe(labels, "partial", 0.5, seed=0)
    for known in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="known"):
            proportion(labels, known, seed=0)
    for name, value in [("annotated", 1.5), ("tail_exponent", -1), ("tail_exponent", 11), ("positive_bias", 0)]:
        for wrong in (value, float("nan")):
            with pytest.raises(ValueError, match=f"^{name}: "):
                human_verified(labels, 0, **{**TAIL, name: wrong})
