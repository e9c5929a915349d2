"""What every label regime promises, whatever the labels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from methods.labels import observe, proportion, single_positive

REGIMES = ("full", "single_positive", "proportion")
property_test = settings(derandomize=True, deadline=None, max_examples=60)
full_labels = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.sampled_from([-1, 1]))
proportions = st.floats(0, 1)
seeds = st.integers(0, 2**32 - 1)


@property_test
@given(full_labels, st.sampled_from(REGIMES), proportions, seeds)
def test_a_given_label_is_a_true_one(labels, regime, known, seed):
    observed = observe(labels, regime, known, seed)
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


@pytest.mark.parametrize("regime", ["single_positive", "proportion"])
def test_a_mask_depends_on_its_seed_alone(regime):
    labels = np.where(np.random.RandomState(1).random_sample((50, 20)) < 0.3, 1, -1)
    first, again, other = (observe(labels, regime, 0.5, seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("regime", REGIMES)
def test_neither_the_labels_nor_the_global_generator_change(regime):
    labels = np.ones((4, 3), np.int8)
    before = np.random.get_state()
    observed = observe(labels, regime, 0.5, seed=0)
    observed[:] = 0
    after = np.random.get_state()
    assert (labels == 1).all()
    assert before[2:] == after[2:] and (before[1] == after[1]).all()


@pytest.mark.parametrize("regime", REGIMES)
def test_labels_that_are_not_full_are_refused_with_their_place(regime):
    with pytest.raises(ValueError, match=r"labels: 0 at image 1, class 0 \(and 1 more\) .* each \+1 or -1"):
        observe(np.array([[1, -1], [0, 2]]), regime, 0.5, seed=0)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        observe(np.array([1, -1]), regime, 0.5, seed=0)


def test_unknown_regimes_and_impossible_proportions_are_refused():
    labels = np.array([[1, -1]])
    with pytest.raises(ValueError, match="'partial' is not allowed; allowed is full | single_positive | proportion"):
        observe(labels, "partial", 0.5, seed=0)
    for known in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match="known"):
            proportion(labels, known, seed=0)
