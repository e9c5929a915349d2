"""Co-occurrence counted from known labels, against counting image by image."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods.components.cooccurrence import conditional_probabilities, counts

labels = arrays(np.int8, st.tuples(st.integers(0, 7), st.integers(1, 5)), elements=st.sampled_from([-1, 0, 0, 1]))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(labels)
def test_probabilities_are_shares_of_images_and_never_nan(labels):
    pair_counts, class_counts = counts(labels)
    probabilities = conditional_probabilities(labels, torch.float64)
    assert pair_counts.dtype == class_counts.dtype == torch.int64
    for i, j in itertools.product(range(labels.shape[1]), repeat=2):
        with_i = [image for image in labels if image[i] == 1]
        with_both = [image for image in with_i if image[j] == 1]
        assert class_counts[i] == len(with_i)
        assert pair_counts[i, j] == len(with_both)
        assert probabilities[i, j] == (len(with_both) / len(with_i) if with_i else 0)


def test_known_negatives_count_as_little_as_unknown_labels():
    known = np.array([[1, -1, 1], [1, 1, -1], [-1, -1, -1]], np.int8)
    assert torch.equal(conditional_probabilities(known), conditional_probabilities(np.maximum(known, 0)))
    assert conditional_probabilities(known).tolist() == [[1, 0.5, 0.5], [1, 1, 0], [1, 0, 1]]


def test_arrays_and_tensors_are_counted_alike():
    known = np.array([[1, 1], [0, 1]], np.int8)
    assert torch.equal(conditional_probabilities(known), conditional_probabilities(torch.from_numpy(known)))
