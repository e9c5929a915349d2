"""The contrastive loss on class features against the release's numbers and a computation pair by pair."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods.components.contrastive import Contrastive, ContrastiveSettings, contrastive_loss
from methods.contract.randomness import torch_generator
from tests.golden_cases import cases, load

property_test = settings(derandomize=True, deadline=None, max_examples=60)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


def in_order(name, count):
    """The permutation that changes nothing."""
    return torch.arange(count)


def pair_by_pair(features, labels, permutation=None, with_unknown=False):
    """The rule in plain Python: lists over image pairs, then classes."""
    lists = {"pos_pos": [], "pos_neg": [], "neg_neg": [], "unknown": []}
    for (n, m), c in itertools.product(itertools.combinations(range(len(labels)), 2), range(labels.shape[1])):
        one, other = features[n, c], features[m, c]
        cosine = one @ other / (max(np.linalg.norm(one), 1e-9) * max(np.linalg.norm(other), 1e-9))
        kinds = {(1, 1): ("pos_pos", 1 - cosine), (-1, -1): ("neg_neg", 1 + cosine)}
        kinds |= {(1, -1): ("pos_neg", 1 + cosine), (-1, 1): ("pos_neg", 1 + cosine)}
        if found := kinds.get((int(labels[n, c]), int(labels[m, c]))):
            lists[found[0]].append(found[1])
        elif with_unknown:
            lists["unknown"].append(1 + cosine)
    positives = len(lists["pos_pos"])
    if permutation is not None and positives:
        for name in ("pos_neg", "neg_neg"):
            entries = lists[name]
            drawn = [entries[i] for i in permutation(name, len(entries))[: 2 * positives]]
            lists[name] = drawn + sorted(entries, reverse=True)[:positives]
    entries = [entry for entries in lists.values() for entry in entries]
    return np.mean(entries) if entries else 0.0


@pytest.mark.parametrize("path", cases("sst_contrastive"))
def test_the_contrastive_loss_is_golden(path):
    case = load(path)
    permutations = {
        "pos_neg": getattr(case, "in_perm_pos_neg", None),
        "neg_neg": getattr(case, "in_perm_neg_neg", None),
    }

    def permutation(name, count):
        # Where none is given every entry is drawn, so that any order does.
        if permutations[name] is None:
            return torch.arange(count)
        assert len(permutations[name]) == count
        return torch.from_numpy(permutations[name])

    features, labels = torch.tensor(case.in_features, requires_grad=True), torch.tensor(case.in_labels)
    loss = contrastive_loss(features, labels, permutation)
    loss.backward()
    close(loss.item(), case.out_loss)
    close(features.grad, case.out_grad_features)


@pytest.mark.parametrize("path", cases("sst_contrastive"))
def test_the_contrastive_loss_of_all_pairs_is_golden(path):
    case = load(path)
    # Without a pair of two positives nothing is selected in the first place.
    expected = getattr(case, "out_alt_loss_all_pairs", case.out_loss)
    gradient = getattr(case, "out_alt_grad_features_all_pairs", case.out_grad_features)
    features, labels = torch.tensor(case.in_features, requires_grad=True), torch.tensor(case.in_labels)
    loss = contrastive_loss(features, labels)
    loss.backward()
    close(loss.item(), expected)
    close(features.grad, gradient)


@st.composite
def batches(draw):
    """Class features (B, K, 3) and labels (B, K)."""
    images, classes = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    labels = draw(arrays(np.int8, (images, classes), elements=st.sampled_from([-1, 0, 1])))
    seed = draw(st.integers(0, 2**31))
    return torch.tensor(np.random.default_rng(seed).normal(size=(images, classes, 3))), torch.tensor(labels)


@property_test
@given(batches(), st.sampled_from(["thinned", "all", "with_unknown"]))
def test_a_batch_is_what_the_rule_says_pair_by_pair(batch, pairs):
    features, labels = batch
    permutation = (lambda name, count: torch.arange(count - 1, -1, -1)) if pairs == "thinned" else None
    with_unknown = pairs == "with_unknown"
    loss = contrastive_loss(features, labels, permutation, with_unknown=with_unknown)
    expected = pair_by_pair(features.numpy(), labels.numpy(), permutation, with_unknown)
    assert loss.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@property_test
@given(batches())
def test_with_unknown_pairs_the_loss_is_equations_7_and_8(batch):
    features, labels = (tensor.numpy() for tensor in batch)
    images, classes = labels.shape
    total = 0.0
    for n, m, c in itertools.product(range(images), range(images), range(classes)):
        one, other = features[n, c], features[m, c]
        cosine = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
        total += 1 - cosine if labels[n, c] == labels[m, c] == 1 else 1 + cosine
    weighting = ContrastiveSettings(contrastive_weight=1, contrastive_pairs="with_unknown").contrastive(epoch=2)
    found = weighting(*batch, 0.0, generator).item() * classes * images * (images - 1)
    of_same = 2 * (labels != 1).sum()  # n = m: a constant
    assert found + of_same == pytest.approx(total, rel=1e-9, abs=1e-9)


@property_test
@given(batches())
def test_unknown_labels_have_no_gradient(batch):
    features, labels = batch
    features = features.requires_grad_()
    contrastive_loss(features, labels, in_order).backward()
    assert (features.grad[labels == 0] == 0).all()


def test_a_feature_of_zero_has_a_cosine_of_zero():
    features, labels = torch.zeros(2, 1, 3, dtype=torch.float64), torch.ones(2, 1, dtype=torch.int8)
    features.requires_grad_()
    loss = contrastive_loss(features, labels)
    loss.backward()
    assert loss.item() == 1
    assert features.grad.isfinite().all()


def generator(purpose):
    return torch_generator(7, purpose)


def test_the_weight_grows_over_the_steps_of_the_first_epoch_and_stands_from_the_second():
    features = torch.tensor(np.random.default_rng(0).normal(size=(4, 2, 3)))
    labels = torch.tensor([[1, -1], [1, 1], [-1, 0], [-1, 1]], dtype=torch.int8)
    weighting = ContrastiveSettings(contrastive_weight=0.2, contrastive_pairs="all")
    whole = contrastive_loss(features, labels).item()
    for epoch, progress, weight in [(1, 0.0, 0.0), (1, 0.25, 0.05), (1, 0.75, 0.15), (2, 0.25, 0.2), (9, 0.0, 0.2)]:
        acting = weighting.contrastive(epoch)
        assert acting(features, labels, progress, generator).item() == pytest.approx(weight * whole, rel=1e-12)


def test_a_weight_of_zero_is_no_loss_at_all():
    assert ContrastiveSettings(contrastive_weight=0).contrastive(1) is None


def test_the_draw_is_of_its_generator_alone_and_thins_both_lists():
    features = torch.tensor(np.random.default_rng(1).normal(size=(12, 1, 3)))
    labels = torch.tensor([[1], [1], *[[-1]] * 10], dtype=torch.int8)
    thinned = Contrastive(1.0)
    torch.manual_seed(0)
    one = thinned(features, labels, 0.0, generator)
    torch.manual_seed(1)
    assert torch.equal(one, thinned(features, labels, 0.0, generator))

    def drawn(name, count):
        return torch.randperm(count, generator=torch_generator(7, f"contrastive/{name}"))

    assert one.item() == pytest.approx(pair_by_pair(features.numpy(), labels.numpy(), drawn), rel=1e-12)
    other = thinned(features, labels, 0.0, lambda purpose: torch_generator(8, purpose))
    assert one.item() != other.item()
