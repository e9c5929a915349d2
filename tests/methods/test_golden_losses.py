"""Losses against the released codes' numbers: values, gradients, what is modified and what is written."""

import numpy as np
import pytest
import torch
from torch import nn

from methods.assume_negative import (
    AssumeNegative,
    AssumeNegativeObjective,
    AssumeNegativeSettings,
    assume_negative_loss,
)
from methods.contract import Batch
from methods.large_loss import (
    LargeLoss,
    LargeLossObjective,
    LargeLossSettings,
    modified_fraction,
    modify_large_losses,
)
from tests.golden_cases import cases, load

LARGE_LOSS = [
    case for scheme in ("reject", "correct_temporary", "correct_permanent") for case in cases(f"large_loss_{scheme}")
]
# The settings that each loss of the single-positive paper is.
SINGLE_POSITIVE = {"sp_an": {}, "sp_an_ls": {"label_smoothing": 0.1}, "sp_wan": {"weak": True}, "sp_bce": {}}


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


def tensors(case):
    return torch.tensor(case.in_logits, requires_grad=True), torch.tensor(case.in_labels)


def objectives_loss(objective, logits, labels, state):
    """The loss that an objective computes where the head gives `logits`, of images 3, 4, … of a split."""
    assert isinstance(objective, AssumeNegativeObjective | LargeLossObjective)
    batch = Batch(logits, labels, torch.arange(3, 3 + len(logits)))
    return objective.loss(batch, {"classifier": nn.Identity()}, state)


@pytest.mark.parametrize("path", LARGE_LOSS)
def test_large_loss_is_golden(path):
    case = load(path)
    logits, labels = tensors(case)
    result = modify_large_losses(
        logits, labels, scheme=case.param_scheme, fraction=case.param_fraction, protect_observed=False
    )
    result.loss.backward()
    close(result.loss.item(), case.out_loss)
    close(logits.grad, case.out_grad_logits)
    close(result.threshold.item(), case.out_threshold)  # NaN equals NaN here
    assert np.isnan(case.out_threshold) == (case.param_fraction == 0)
    assert result.k == case.out_k
    np.testing.assert_array_equal(result.modified, case.out_modified_mask)
    np.testing.assert_array_equal(result.written, case.out_permanent_writes)
    np.testing.assert_array_equal(torch.where(result.written, 1, labels), case.out_labels_after)
    if case.param_fraction == 0:
        close(assume_negative_loss(logits, labels).item(), case.out_loss)


@pytest.mark.parametrize("path", LARGE_LOSS)
def test_large_loss_as_an_objective_is_golden_and_writes_to_its_table_alone(path):
    case = load(path)
    logits, labels = tensors(case)
    objective = LargeLossObjective(case.param_scheme, case.param_fraction, "all", protect_observed=False)
    table = torch.full((len(labels) + 5, labels.shape[1]), -1, dtype=labels.dtype)
    table[3:-2] = labels
    permanent = case.param_scheme == "correct_permanent"
    # What the batch was given is out of date once labels are written: the permanent scheme reads its table.
    given = torch.zeros_like(labels) if permanent else labels.clone()
    loss = objectives_loss(objective, logits, given, {"labels": table} if permanent else {})
    loss.backward()
    close(loss.item(), case.out_loss)
    close(logits.grad, case.out_grad_logits)
    if permanent:
        np.testing.assert_array_equal(table[3:-2], case.out_labels_after)
        assert (table[:3] == -1).all()
        assert (table[-2:] == -1).all()
    else:
        np.testing.assert_array_equal(given, case.out_labels_after)


@pytest.mark.parametrize("path", LARGE_LOSS)
def test_protecting_observed_entries_modifies_of_the_golden_ones_those_that_are_unobserved(path):
    case = load(path)
    logits, labels = tensors(case)
    unobserved = case.in_labels == 0
    result = modify_large_losses(logits, labels, scheme=case.param_scheme, fraction=case.param_fraction)
    np.testing.assert_array_equal(result.modified, case.out_modified_mask & unobserved)
    np.testing.assert_array_equal(result.written, case.out_permanent_writes & unobserved)
    if case.out_k > unobserved.sum():  # the released rule modifies everything
        assert case.out_modified_mask.all()
        np.testing.assert_array_equal(result.modified, unobserved)


@pytest.mark.parametrize("path", cases("large_loss_schedule"))
def test_large_loss_schedule_is_golden_to_the_last_bit(path):
    case = load(path)
    for row, delta_rel in enumerate(case.param_delta_rel_percent.tolist()):
        for column, epoch in enumerate(case.param_epochs.tolist()):
            for scheme in ("reject", "correct_temporary"):
                assert modified_fraction(scheme, delta_rel, epoch) == case.out_fraction[row, column]


@pytest.mark.parametrize("path", cases("large_loss_schedule"))
@pytest.mark.parametrize("scheme", ["reject", "correct_temporary", "correct_permanent"])
def test_k_of_every_golden_batch_is_that_of_the_released_schedule(path, scheme):
    case = load(path)
    expected = case.out_k_constant if scheme == "correct_permanent" else case.out_k_growing
    for row, delta_rel in enumerate(case.param_delta_rel_percent.tolist()):
        method = LargeLoss(LargeLossSettings(scheme=scheme, delta_rel=delta_rel))
        for column, epoch in enumerate(case.param_epochs.tolist()):
            objective = method.objective(epoch)
            for size, (images, classes) in enumerate(case.param_batch_classes.tolist()):
                k = 0
                if isinstance(objective, LargeLossObjective):
                    logits = torch.zeros(images, classes)
                    labels = torch.zeros(images, classes, dtype=torch.int8)
                    k = modify_large_losses(logits, labels, scheme=scheme, fraction=objective.fraction).k
                assert k == expected[row, size, column]


@pytest.mark.parametrize(
    ("name", "path"), [(name, *case.values) for name in SINGLE_POSITIVE for case in cases(name)], ids=str
)
def test_single_positive_losses_are_golden_as_functions_and_as_objectives(name, path):
    case = load(path)
    settings = {"log_eps": case.param_log_eps, **SINGLE_POSITIVE[name]}
    assert settings.get("label_smoothing") == getattr(case, "param_label_smoothing", None)
    objective = AssumeNegative(AssumeNegativeSettings(**settings)).objective(epoch=1)
    logits, labels = tensors(case)
    for loss in (
        assume_negative_loss(logits, labels, **settings),
        objectives_loss(objective, logits, labels, {}),
    ):
        logits.grad = None
        loss.backward()
        close(loss.item(), case.out_loss)
        close(logits.grad, case.out_grad_logits)
