"""Against scipy, statsmodels and numbers that were worked out by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import DescrStatsW, ttost_paired

from analysis.statistics import Sides, above, bootstrap, estimate, holm, in_most, paired, roughness, slope, within


def test_the_interval_is_students_by_hand():
    # Mean 2, sd 1, n 3: 2 ± 4.302653 × 1 / √3.
    found = estimate([1.0, 2.0, 3.0])
    assert (found.n, found.mean, found.effect) == (3, 2.0, 2.0)
    assert (found.low, found.high) == pytest.approx((2 - 2.484138, 2 + 2.484138), abs=1e-6)


def test_the_p_value_is_that_of_a_paired_t_test():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1, 1, 7), rng.normal(0, 1, 7)
    assert estimate(ours - theirs).p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)


def test_equivalence_is_two_one_sided_paired_t_tests():
    rng = np.random.default_rng(1)
    ours = rng.normal(0, 0.3, 8)
    theirs = ours + rng.normal(0.1, 0.2, 8)
    assert within(ours - theirs, 0.5).p == pytest.approx(ttost_paired(ours, theirs, -0.5, 0.5)[0])


def test_the_opposite_of_equivalence_is_a_mean_outside_of_the_margin_on_either_side():
    differences = np.random.default_rng(2).normal(1, 0.3, 8)
    for sign in (1, -1):
        expected = stats.ttest_1samp(differences, 0.5).pvalue
        assert within(sign * differences, 0.5).against == pytest.approx(expected)
    assert within([0.1, -0.1, 0.2], 0.5).against == 1


def test_above_and_its_opposite_share_the_two_sided_p_value():
    p = stats.ttest_1samp([1.0, 2.0, 4.0], 0).pvalue
    assert above(estimate([1.0, 2.0, 4.0])) == pytest.approx((p, 1))
    assert above(estimate([-1.0, -2.0, -4.0])) == pytest.approx((1, p))


def test_most_is_a_partial_conjunction_by_hand():
    # Of five places at least three: the third smallest of 0.01, 0.02, 0.03, 0.5, 0.9 times three. A place of two
    # statements has the larger p; its opposite is twice the smaller one.
    places = [[Sides(0.02, 1), Sides(0.001, 1)], [Sides(0.9, 0.02), Sides(0.9, 0.4)]]
    places += [[Sides(p, against)] for p, against in ((0.01, 1), (0.5, 0.2), (0.03, 1))]
    assert in_most(places) == pytest.approx((0.09, 1))
    # The opposite holds in three of 0.04, 0.2, 1, 1, 1.
    assert in_most([[Sides(1, 0.01)], [Sides(1, 0.02)], [Sides(1, 0.03)], [Sides(0, 1)], [Sides(0, 1)]]) == (1, 0.09)
    assert in_most([[Sides(0.01, 1)]]) == (0.01, 1)
    # Of two, more than half are both.
    assert in_most([[Sides(0.01, 1)], [Sides(0.2, 1)]]) == (0.2, 1)


def test_one_difference_has_no_interval_and_shows_nothing():
    found = estimate([3.0])
    assert math.isinf(found.low) and math.isinf(found.high) and found.p == 1.0
    assert within([0.0], 0.5) == (1, 1)


@pytest.mark.parametrize("value, p", [(0.5, 0.0), (-0.5, 0.0), (0.0, 1.0)])
def test_differences_that_are_all_alike_leave_nothing_to_doubt(value, p):
    found = estimate([value] * 4)
    assert (found.mean, found.low, found.high, found.p) == (value, value, value, p)


def test_equivalence_of_differences_that_are_all_alike_is_a_matter_of_the_margin():
    assert within([0.4] * 3, 0.5) == (0, 1)
    assert within([0.6] * 3, 0.5) == (1, 0)


@pytest.mark.parametrize("differences", [[], [1.0, math.nan], [math.inf, 1.0]])
def test_what_is_no_number_is_refused(differences):
    with pytest.raises(ValueError, match="finite"):
        estimate(differences)


def test_the_bootstrap_interval_is_that_of_all_resamples():
    """Of four values there are 256, which can be counted."""
    values = [0.1, 0.4, 0.5, 2.0]
    means = np.mean(list(itertools.product(values, repeat=4)), axis=1)
    assert bootstrap(values) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.03)
    assert bootstrap(values, level=0.5) == pytest.approx(np.quantile(means, [0.25, 0.75]), abs=0.03)


def test_the_bootstrap_is_the_same_each_time_and_knows_ties_and_single_values():
    values = [1.0, 1.0, 1.0, 2.0]
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) == (1.0, 1.75)  # 2.0 needs four of four: 1 in 256
    assert bootstrap([0.3] * 4) == pytest.approx((0.3, 0.3))
    assert bootstrap([3.0]) == (-math.inf, math.inf)


def test_pairs_are_the_seeds_that_both_have():
    assert paired({1: 5.0, 2: 7.0, 4: 1.0}, {1: 4.0, 2: 9.0, 3: 0.0}) == {1: 1.0, 2: -2.0}
    assert paired({1: 1.0}, {2: 1.0}) == {}


@pytest.mark.parametrize("seed", range(5))
def test_against_scipy_and_statsmodels_on_frames_with_missing_seeds_and_ties(seed):
    rng = np.random.default_rng(seed)
    ours, theirs = (np.round(rng.normal(60, 1, 12), 0) for _ in range(2))  # rounded: ties
    kept_ours, kept_theirs = ({int(s): v[s] for s in rng.permutation(12)[:9]} for v in (ours, theirs))
    both = sorted(set(kept_ours) & set(kept_theirs))
    differences = paired(kept_ours, kept_theirs)
    reference = stats.ttest_rel(ours[both], theirs[both])
    found = estimate(list(differences.values()))
    assert set(differences) == set(both)
    assert found.p == pytest.approx(reference.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(reference.confidence_interval()))
    assert (found.low, found.high) == pytest.approx(DescrStatsW(ours[both] - theirs[both]).tconfint_mean())


def test_holms_procedure_by_hand():
    # Sorted 0.01, 0.02, 0.04, 0.30 times 4, 3, 2, 1, never falling.
    assert holm([0.04, 0.01, 0.30, 0.02]) == pytest.approx([0.08, 0.04, 0.30, 0.06])
    assert holm([]) == []
    p_values = np.random.default_rng(0).random(12).round(1).tolist()  # rounded: ties
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


@settings(max_examples=25)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_a_corrected_p_value_is_never_below_the_plain_one_nor_above_bonferronis(p_values):
    for plain, corrected in zip(p_values, holm(p_values), strict=True):
        assert plain <= corrected + 1e-12
        assert corrected <= min(1, plain * len(p_values)) + 1e-12


def test_a_slope_is_per_unit_of_place():
    assert slope([2, 4, 6], [1.0, 0.0, -1.0]) == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="two values"):
        slope([1], [1.0])


def test_roughness_is_nothing_for_a_line_and_in_the_unit_of_the_values_wherever_they_are():
    assert roughness([3.0, 2.0, 1.0]) == pytest.approx(0)
    assert roughness([1.0, 3.0, 1.0, 3.0]) == pytest.approx(4)
    assert roughness([10.0, 30.0, 10.0, 30.0]) == pytest.approx(40)
    assert roughness([101.0, 103.0, 101.0, 103.0]) == pytest.approx(4)
    with pytest.raises(ValueError, match="three values"):
        roughness([1.0, 2.0])
