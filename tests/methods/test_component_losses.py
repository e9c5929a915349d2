"""Partial BCE and the asymmetric loss against the released codes' numbers, and what they make of extremes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods.components.losses import asymmetric_loss, known_bce
from tests.golden_cases import cases, load

property_test = settings(derandomize=True, deadline=None, max_examples=60)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("path", cases("partial_bce"))
def test_partial_bce_is_golden(path):
    case = load(path)
    logits, targets = torch.tensor(case.in_logits, requires_grad=True), torch.tensor(case.in_targets)
    loss = known_bce(logits, targets, case.param_margin)
    loss.backward()
    close(loss.item(), case.out_loss)
    close(logits.grad, case.out_grad_logits)


@pytest.mark.parametrize("focus_gradient", [False, True])
@pytest.mark.parametrize("path", cases("asl_known"))
def test_the_asymmetric_loss_is_golden(path, focus_gradient):
    case = load(path)
    logits, labels = torch.tensor(case.in_logits, requires_grad=True), torch.tensor(case.in_labels)
    entries = asymmetric_loss(
        logits,
        labels,
        gamma_pos=case.param_gamma_pos,
        gamma_neg=case.param_gamma_neg,
        clip=case.param_clip,
        focus_gradient=focus_gradient,
    )
    entries.sum().backward()
    close(entries.detach(), case.out_loss_matrix)
    close(entries.sum().item(), case.out_loss_sum)
    close(logits.grad, case.out_grad_logits_full if focus_gradient else case.out_grad_logits)


@property_test
@given(
    arrays(np.float64, (3, 4), elements=st.floats(-20, 20)),
    arrays(np.float64, (3, 4), elements=st.sampled_from([-1.0, 0.0, 0.3, 0.5, 1.0])),
    st.sampled_from([0.0, 0.4]),
)
def test_the_mean_is_over_what_is_known_in_the_whole_batch_or_in_each_image(logits, targets, margin):
    known = np.abs(targets) > margin
    t = np.maximum(targets, 0)
    entries = t * np.logaddexp(0, -logits) + (1 - t) * np.logaddexp(0, logits)
    expected = entries[known].mean() if known.any() else 0.0
    assert known_bce(torch.tensor(logits), torch.tensor(targets), margin).item() == pytest.approx(expected, rel=1e-9)
    # Equation 9: an image without known labels has no terms.
    of_each = [row[has].sum() / max(has.sum(), 1) for row, has in zip(entries, known, strict=True)]
    found = known_bce(torch.tensor(logits), torch.tensor(targets), margin, per_image=True)
    assert found.item() == pytest.approx(sum(of_each) / len(of_each), rel=1e-9)


def test_a_batch_without_known_labels_has_no_loss_and_no_gradient():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = known_bce(logits, torch.zeros(3, 4, dtype=torch.int8))
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("clip", [0.0, 0.05])
@pytest.mark.parametrize("focus_gradient", [False, True])
def test_the_asymmetric_loss_and_its_gradient_are_finite_for_sure_predictions(clip, focus_gradient):
    logits = torch.tensor([[-200.0, 200.0, 0.0], [-50.0, 50.0, 50.0]], requires_grad=True)
    labels = torch.tensor([[1, -1, 0], [-1, 1, -1]], dtype=torch.int8)
    loss = asymmetric_loss(logits, labels, gamma_pos=1, gamma_neg=2, clip=clip, focus_gradient=focus_gradient)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert logits.grad.isfinite().all()
    assert loss[0, 2] == 0


def test_a_negative_below_the_clip_costs_nothing():
    logits = torch.logit(torch.tensor([[0.01, 0.04, 0.2]], dtype=torch.float64))
    labels = torch.full((1, 3), -1, dtype=torch.int8)
    loss = asymmetric_loss(logits, labels, gamma_pos=1, gamma_neg=2, clip=0.05, focus_gradient=True)[0].tolist()
    assert loss[:2] == [0, 0]
    assert loss[2] == pytest.approx(-np.log(0.85) * 0.15**2, rel=1e-9)
