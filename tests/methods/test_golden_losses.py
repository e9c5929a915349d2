"""Losses against the released codes' numbers: values, gradients, what is modified and what is written."""

import numpy as np
import pytest
import torch

from methods.assume_negative import AssumeNegative, AssumeNegativeSettings, assume_negative_loss
from methods.contract.objective import Objective
from methods.epr import EPR, EPRSettings, expected_positive_penalty, positives_loss
from methods.ignore_unobserved import IgnoreUnobserved, IgnoreUnobservedSettings, ProportionWeight, partial_bce
from methods.large_loss import LargeLoss, LargeLossObjective, LargeLossSettings, modified_fraction, modify_large_losses
from methods.role import ROLE, LabelEstimates, ROLESettings, role_loss
from tests.golden_cases import cases, load
from tests.methods import tiny

LARGE_LOSS = [
    case for scheme in ("reject", "correct_temporary", "correct_permanent") for case in cases(f"large_loss_{scheme}")
]
# The settings that each loss of the single-positive paper is.
SINGLE_POSITIVE = {"sp_an": {}, "sp_an_ls": {"label_smoothing": 0.1}, "sp_wan": {"weak": True}, "sp_bce": {}}


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


def tensors(case):
    return torch.tensor(case.in_logits, requires_grad=True), torch.tensor(case.in_labels)


def objectives_loss(objective: Objective, logits, labels, state):
    """The loss that an objective computes where the head gives `logits`, of images 3, 4, … of a split."""
    return objective.loss(tiny.batch(logits, labels, first=3), tiny.IDENTITY, state)


def from_probabilities(case, name="in_probs"):
    """Probabilities (B, K) that gradients can be taken of, and their logits."""
    probs = torch.tensor(getattr(case, name), requires_grad=True)
    return probs, torch.logit(probs)


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
    assert (case.out_main_loss, case.out_reg_loss) == (case.out_loss, 0)
    probs, of_probs = from_probabilities(case)
    assume_negative_loss(of_probs, labels, **settings).backward()
    close(probs.grad, case.out_grad_probs)


@pytest.mark.parametrize("path", cases("sp_iu"))
def test_ignoring_unobserved_labels_is_golden(path):
    case = load(path)
    logits, labels = tensors(case)
    objective = IgnoreUnobserved(IgnoreUnobservedSettings(log_eps=case.param_log_eps)).objective(epoch=1)
    loss = objectives_loss(objective, logits, labels, {})
    loss.backward()
    close(loss.item(), case.out_loss)
    close(loss.item(), case.out_main_loss)
    assert case.out_reg_loss == 0
    close(logits.grad, case.out_grad_logits)
    probs, of_probs = from_probabilities(case)
    partial_bce(of_probs, labels, log_eps=case.param_log_eps).backward()
    close(probs.grad, case.out_grad_probs)


@pytest.mark.parametrize("path", cases("partial_bce_durand"))
def test_partial_bce_weighted_by_the_known_proportion_is_golden(path):
    case = load(path)
    logits, labels = tensors(case)
    numbers = {"alpha": case.param_alpha, "beta": case.param_beta, "gamma": case.param_gamma}
    objective = IgnoreUnobserved(IgnoreUnobservedSettings(weighting="known_proportion", **numbers)).objective(epoch=1)
    assert objective == IgnoreUnobserved(IgnoreUnobservedSettings(weighting="known_proportion")).objective(epoch=1)
    loss = objectives_loss(objective, logits, labels, {})
    loss.backward()
    close(loss.item(), case.out_loss)
    close(logits.grad, case.out_grad_logits)
    weight = ProportionWeight(**numbers)
    known = (labels != 0).double().mean(1)
    close(known, case.out_known_fraction)
    close(weight(known), case.out_weight)
    for image, expected in enumerate(case.out_loss_per_image):
        one = slice(image, image + 1)
        close(partial_bce(logits[one], labels[one], weight).item(), expected)


@pytest.mark.parametrize("path", cases("sp_epr"))
def test_expected_positive_regularisation_is_golden(path):
    case = load(path)
    logits, labels = tensors(case)
    settings = EPRSettings(expected_positives=case.param_expected_num_pos, log_eps=case.param_log_eps)
    loss = objectives_loss(EPR(settings).objective(epoch=1), logits, labels, {})
    loss.backward()
    close(loss.item(), case.out_loss)
    close(logits.grad, case.out_grad_logits)
    probs, of_probs = from_probabilities(case)
    main = positives_loss(of_probs, labels, case.param_log_eps)
    penalty = expected_positive_penalty(of_probs, case.param_expected_num_pos)
    close(main.item(), case.out_main_loss)
    close(penalty.item(), case.out_reg_loss)
    (main + penalty).backward()
    close(probs.grad, case.out_grad_probs)


@pytest.mark.parametrize("path", cases("sp_role"))
def test_online_label_estimation_is_golden_in_both_branches(path):
    case = load(path)
    labels = torch.tensor(case.in_labels)
    given = {"expected_positives": case.param_expected_num_pos, "log_eps": case.param_log_eps}
    logits = torch.tensor(case.in_logits_f, requires_grad=True)
    table = LabelEstimates(np.zeros((len(labels) + 5, labels.shape[1]), np.int8)).double()
    with torch.no_grad():
        table.logits[3:-2] = torch.tensor(case.in_logits_g)
    objective = ROLE(ROLESettings(**given)).objective(epoch=1)
    loss = objective.loss(tiny.batch(logits, labels, first=3), {**tiny.IDENTITY, "estimator": table}, {})
    loss.backward()
    close(loss.item(), case.out_loss)
    close(logits.grad, case.out_grad_logits_f)
    close(table.logits.grad[3:-2], case.out_grad_logits_g)
    assert not table.logits.grad[:3].any(), "of images that are not in the batch"
    assert not table.logits.grad[-2:].any()


@pytest.mark.parametrize("path", cases("sp_role"))
def test_online_label_estimation_is_golden_in_its_parts_and_in_probabilities(path):
    case = load(path)
    labels = torch.tensor(case.in_labels)
    probs_f, logits_f = from_probabilities(case, "in_probs_f")
    probs_g, logits_g = from_probabilities(case, "in_probs_g")
    given = {"expected_positives": case.param_expected_num_pos, "log_eps": case.param_log_eps}
    loss = role_loss(logits_f, logits_g, labels, **given)
    loss.backward()
    close(probs_f.grad, case.out_grad_probs_f)
    close(probs_g.grad, case.out_grad_probs_g)
    penalty = sum(expected_positive_penalty(x, case.param_expected_num_pos).item() for x in (logits_f, logits_g)) / 2
    close(penalty, case.out_reg_loss)
    close(loss.item() - penalty, case.out_main_loss)
