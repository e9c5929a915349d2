"""Large Loss Matters: the rule against a computation of its own, the schedule against the papers', what is shared."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods import data
from methods.assume_negative import AssumeNegativeObjective
from methods.large_loss import modified_fraction, modify_large_losses
from methods.training.config import resolve
from tests.methods import tiny

SCHEMES = ("reject", "correct_temporary", "correct_permanent")
property_test = settings(derandomize=True, deadline=None, max_examples=80)


@st.composite
def batches(draw, distinct=False):
    """Logits (B, K), on a coarse grid so that many losses are equal or `distinct`, and labels of +1, -1, 0."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 5)))
    if distinct:
        logits = np.array(draw(st.permutations(range(math.prod(shape))))).reshape(shape) / 4 - 3
    else:
        logits = draw(arrays(np.float64, shape, elements=st.integers(-4, 4).map(float)))
    labels = draw(arrays(np.int8, shape, elements=st.sampled_from([-1, 0, 0, 1])))
    return torch.tensor(logits), torch.tensor(labels)


schemes = st.sampled_from(SCHEMES)
fractions = st.floats(0, 1)
bases = st.sampled_from(["all", "unobserved"])


def entry_by_entry(logits, labels, scheme, fraction, fraction_of):
    """The rule in plain Python: loss, modified entries, labels afterwards. Observed entries are protected."""
    unobserved = [(b, c) for b, c in itertools.product(*map(range, logits.shape)) if labels[b, c] == 0]
    share_of = logits.size if fraction_of == "all" else len(unobserved)
    k = min(math.ceil(share_of * fraction), len(unobserved))
    as_negative = {entry: math.log1p(math.exp(logits[entry])) for entry in unobserved}
    threshold = sorted(as_negative.values(), reverse=True)[k - 1] if k else math.inf
    modified, after, total = np.zeros(logits.shape, bool), labels.copy(), 0.0
    for entry in itertools.product(*map(range, logits.shape)):
        sign = 1 if labels[entry] == 1 else -1
        modified[entry] = labels[entry] == 0 and as_negative[entry] >= threshold
        if modified[entry]:
            sign = 0 if scheme == "reject" else 1
            after[entry] = 1 if scheme == "correct_permanent" else 0
        total += math.log1p(math.exp(-sign * logits[entry])) if sign else 0.0
    return total / logits.size, modified, after


@property_test
@given(batches(distinct=True), schemes, fractions, bases)
def test_a_batch_is_what_the_rule_says_entry_by_entry(batch, scheme, fraction, fraction_of):
    logits, labels = batch
    result = modify_large_losses(logits, labels, scheme=scheme, fraction=fraction, fraction_of=fraction_of)
    loss, modified, after = entry_by_entry(logits.numpy(), labels.numpy(), scheme, fraction, fraction_of)
    assert result.loss.item() == pytest.approx(loss, rel=1e-12)
    np.testing.assert_array_equal(result.modified, modified)
    np.testing.assert_array_equal(torch.where(result.written, 1, labels), after)


def test_a_share_of_the_unobserved_labels_counts_only_them():
    # 8 entries, 4 of them unobserved: a quarter is two of all, and one of the unobserved.
    logits = torch.tensor([[9.0, 1.0, 2.0, 3.0], [8.0, 4.0, 9.0, 9.0]], dtype=torch.float64)
    labels = torch.tensor([[1, 0, 0, 0], [-1, 0, 1, 1]], dtype=torch.int8)
    of_all = modify_large_losses(logits, labels, scheme="reject", fraction=0.25)
    of_unobserved = modify_large_losses(logits, labels, scheme="reject", fraction=0.25, fraction_of="unobserved")
    assert (of_all.k, of_unobserved.k) == (2, 1)
    assert of_all.modified.nonzero().tolist() == [[0, 3], [1, 1]]
    assert of_unobserved.modified.nonzero().tolist() == [[1, 1]]
    x = logits.numpy()
    losses = np.logaddexp(0, np.where(labels == 1, -x, x))
    losses[1, 1] = 0  # rejected, and still counted among the eight
    assert of_unobserved.loss.item() == pytest.approx(losses.sum() / 8, rel=1e-12)
    corrected = modify_large_losses(logits, labels, scheme="correct_temporary", fraction=0.25, fraction_of="unobserved")
    losses[1, 1] = np.logaddexp(0, -x[1, 1])
    assert corrected.loss.item() == pytest.approx(losses.sum() / 8, rel=1e-12)


@property_test
@given(batches(), schemes, fractions, bases, st.booleans())
def test_at_least_k_of_the_unobserved_entries_are_modified_where_there_are_as_many(
    batch, scheme, fraction, fraction_of, protect
):
    logits, labels = batch
    result = modify_large_losses(
        logits, labels, scheme=scheme, fraction=fraction, fraction_of=fraction_of, protect_observed=protect
    )
    unobserved = labels == 0
    assert (result.modified & unobserved).sum() >= min(result.k, unobserved.sum())
    if result.k <= unobserved.sum():
        assert not (result.modified & ~unobserved).any()
    elif not protect:
        assert result.modified.all()


@property_test
@given(batches(), schemes, fractions, bases, st.booleans())
def test_protected_entries_are_neither_modified_nor_written(batch, scheme, fraction, fraction_of, strict):
    logits, labels = batch
    result = modify_large_losses(
        logits, labels, scheme=scheme, fraction=fraction, fraction_of=fraction_of, strict_write=strict
    )
    assert not (result.modified & (labels != 0)).any()
    assert not (result.written & ~result.modified).any()
    if scheme != "correct_permanent":
        assert not result.written.any()


@property_test
@given(batches(distinct=True), fractions)
def test_a_strict_write_never_writes_the_kth_entry(batch, fraction):
    logits, labels = batch
    meant, strict = (
        modify_large_losses(logits, labels, scheme="correct_permanent", fraction=fraction, strict_write=strict)
        for strict in (False, True)
    )
    assert torch.equal(meant.modified, strict.modified)
    assert torch.equal(meant.written, meant.modified)
    at_threshold = torch.nn.functional.softplus(logits) == strict.threshold
    assert not (strict.written & at_threshold).any()
    if 0 < strict.k <= (labels == 0).sum():
        assert strict.written.sum() == strict.k - 1


@property_test
@given(batches(), fractions)
def test_a_rejected_entry_has_no_gradient_and_a_corrected_one_that_of_a_positive(batch, fraction):
    logits, labels = batch
    for scheme in SCHEMES:
        x = logits.clone().requires_grad_()
        result = modify_large_losses(x, labels, scheme=scheme, fraction=fraction)
        result.loss.backward()
        gradient = (x.grad * labels.numel())[result.modified].numpy()
        probability = torch.sigmoid(logits)[result.modified].numpy()
        np.testing.assert_allclose(gradient, 0 if scheme == "reject" else probability - 1, atol=1e-12)


# k in epochs 1 to 10 at 16 images, by percent per epoch, from the released arithmetic (repeated subtraction).
GROWING = {
    20: {  # VOC: 320 entries a batch
        0.1: [0, 1, 1, 1, 2, 2, 2, 3, 3, 3],
        0.2: [0, 1, 2, 2, 3, 4, 4, 5, 6, 6],
        0.4: [0, 2, 3, 4, 6, 7, 8, 9, 11, 12],
        0.5: [0, 2, 4, 5, 7, 9, 10, 12, 13, 15],
    },
    80: {  # COCO
        0.1: [0, 2, 3, 4, 6, 7, 8, 9, 11, 12],
        0.2: [0, 3, 6, 8, 11, 13, 16, 18, 21, 24],
        0.4: [0, 6, 11, 16, 21, 26, 31, 36, 41, 47],
        0.5: [0, 7, 13, 20, 26, 33, 39, 45, 52, 58],
    },
    81: {  # NUS
        0.1: [0, 2, 3, 4, 6, 7, 8, 10, 11, 12],
        0.2: [0, 3, 6, 8, 11, 13, 16, 19, 21, 24],
        0.4: [0, 6, 11, 16, 21, 26, 32, 37, 42, 47],
        0.5: [0, 7, 13, 20, 26, 33, 39, 46, 52, 59],
    },
    312: {  # CUB
        0.1: [*range(0, 50, 5)],
        0.2: [*range(0, 100, 10)],
        0.4: [*range(0, 200, 20)],
        0.5: [*range(0, 250, 25)],
    },
}
CONSTANT = {20: [1, 1, 2, 2], 80: [2, 3, 6, 7], 81: [2, 3, 6, 7], 312: [5, 10, 20, 25]}


def k_of(scheme, delta_rel, epoch, classes):
    logits, labels = torch.zeros(16, classes), torch.zeros(16, classes, dtype=torch.int8)
    fraction = modified_fraction(scheme, delta_rel, epoch)
    return modify_large_losses(logits, labels, scheme=scheme, fraction=fraction).k


@pytest.mark.parametrize("classes", GROWING)
def test_k_grows_as_the_release_makes_it_grow(classes):
    for delta_rel, expected in GROWING[classes].items():
        for scheme in ("reject", "correct_temporary"):
            assert [k_of(scheme, delta_rel, epoch, classes) for epoch in range(1, 11)] == expected


@pytest.mark.parametrize("classes", CONSTANT)
def test_k_of_the_permanent_scheme_is_constant_from_epoch_2(classes):
    for delta_rel, expected in zip((0.1, 0.2, 0.4, 0.5), CONSTANT[classes], strict=True):
        assert [k_of("correct_permanent", delta_rel, epoch, classes) for epoch in (1, 2, 3, 10)] == [0] + 3 * [expected]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_share_stays_between_none_and_all(scheme):
    shares = [modified_fraction(scheme, 40.0, epoch) for epoch in range(1, 9)]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert shares[-1] <= 1
    assert modified_fraction(scheme, 100.0, 5) == 1


def config(method="large_loss", **values):
    return resolve(tiny.tiny(method, **values))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_without_a_growing_share_every_epoch_is_plain_assume_negative(scheme):
    nothing, plain = config(scheme=scheme, delta_rel=0), config("assume_negative")
    assert [nothing.recipe(epoch) for epoch in range(1, 21)] == [plain.recipe(epoch) for epoch in range(1, 21)]
    assert nothing.keys() == plain.keys()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_epoch_1_of_every_scheme_is_plain_assume_negative_and_epoch_2_is_not(scheme):
    rejecting, plain = config(scheme=scheme), config("assume_negative")
    assert rejecting.recipe(1) == plain.recipe(1)
    assert rejecting.recipe(1).objective == AssumeNegativeObjective()
    assert rejecting.keys()[:2] == plain.keys()[:2]
    assert rejecting.keys()[2] != plain.keys()[2]


def test_the_release_of_july_2022_makes_the_permanent_scheme_the_temporary_one():
    released = config(scheme="correct_permanent", permanent="release_2022_07")
    assert released.keys() == config(scheme="correct_temporary").keys()
    assert released.keys() != config(scheme="correct_permanent").keys()


def test_what_is_written_stays_written_and_nothing_observed_is_touched():
    trained = tiny.run(config(scheme="correct_permanent", delta_rel=4.0))
    tables = [state.get("method/labels") for state in trained.states]
    assert tables[:2] == [None, None], "nothing is written in epoch 1"
    observed = data.load(config().data).observed
    for before, after in itertools.pairwise([torch.from_numpy(observed), *tables[2:]]):
        written = before != after
        assert written.any()
        assert (before[written] == 0).all()
        assert (after[written] == 1).all()


def test_the_strict_write_of_march_2022_writes_less_than_was_meant():
    counts = []
    for permanent in ("corrected", "release_2022_03"):
        trained = tiny.run(config(scheme="correct_permanent", delta_rel=4.0, permanent=permanent))
        observed = data.load(config().data).observed
        counts.append(int((trained.states[2]["method/labels"] != torch.from_numpy(observed)).sum()))
    # 16, 16 and 8 images of 20 classes: k is 13, 13 and 7, and one entry of each batch is left out.
    assert counts == [33, 30]
