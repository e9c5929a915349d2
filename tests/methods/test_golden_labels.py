"""Label regimes against masks of the released code, entry by entry."""

import numpy as np
import pytest

from methods.data.label_regimes import observe, proportion, single_positive
from tests.golden_cases import cases, load


@pytest.mark.parametrize("path", cases("label_single_positive"))
def test_single_positive_is_golden(path):
    case = load(path)
    assert (case.param_num_pos, case.param_num_neg) == (1, 0)
    np.testing.assert_array_equal(single_positive(case.in_labels, case.param_seed), case.out_labels)
    np.testing.assert_array_equal(observe(case.in_labels, "single_positive", 1.0, case.param_seed), case.out_labels)


@pytest.mark.parametrize("path", cases("label_proportion"))
def test_proportion_is_golden(path):
    case = load(path)
    np.testing.assert_array_equal(proportion(case.in_labels, case.param_p, case.param_seed), case.out_labels)
    np.testing.assert_array_equal(observe(case.in_labels, "proportion", case.param_p, case.param_seed), case.out_labels)
