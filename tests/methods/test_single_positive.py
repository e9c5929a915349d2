"""Naive IU, Partial BCE, EPR and ROLE where the golden vectors do not reach: edges, and what is kept in the state."""

import math

import numpy as np
import pytest
import torch

from methods import data
from methods.epr import EPRObjective, expected_positive_penalty
from methods.ignore_unobserved import ProportionWeight, partial_bce
from methods.role import LabelEstimates, role_loss
from methods.training.config import resolve
from tests.methods import tiny

WEIGHTS = [None, ProportionWeight(-4.45, 5.45, 1.0)]


def logit(p):
    return math.log(p / (1 - p))


@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("log_eps", [0.0, 1e-5])
def test_a_batch_without_any_known_label_has_neither_loss_nor_gradient(weight, log_eps):
    logits = torch.tensor([[3.0, -40.0], [0.0, 40.0]], requires_grad=True)
    loss = partial_bce(logits, torch.zeros(2, 2, dtype=torch.int8), weight, log_eps)
    loss.backward()
    assert loss.item() == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("known", [1, -1])
def test_a_batch_with_known_labels_of_one_kind_counts_them_over_all_entries(known):
    logits = torch.tensor([[2.0, 1.0, 0.0]], dtype=torch.float64)
    loss = partial_bce(logits, torch.tensor([[known, 0, 0]]))
    assert loss.item() == pytest.approx(math.log1p(math.exp(-2.0 * known)) / 3, rel=1e-12)


def test_with_a_single_class_a_known_label_weighs_1_by_its_proportion():
    logits, labels = torch.tensor([[0.7], [0.3]], dtype=torch.float64), torch.tensor([[1], [0]])
    assert partial_bce(logits, labels, WEIGHTS[1]).item() == pytest.approx(math.log1p(math.exp(-0.7)) / 2, rel=1e-12)


def test_the_penalty_is_nothing_at_the_expected_number_and_the_same_for_one_class():
    logits = torch.full((4, 5), logit(0.4), dtype=torch.float64)
    assert expected_positive_penalty(logits, 2.0).item() == pytest.approx(0, abs=1e-20)
    assert expected_positive_penalty(logits, 3.0).item() == pytest.approx(1 / 25, rel=1e-12)
    one = torch.full((3, 1), logit(0.4), dtype=torch.float64)
    assert expected_positive_penalty(one, 0.5).item() == pytest.approx(0.01, rel=1e-12)


def test_where_nothing_is_known_epr_is_its_penalty_and_known_negatives_count_as_unknown():
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    objective = EPRObjective(expected_positives=2.0, weight=0.5)
    for value in (0, -1):
        batch = tiny.batch(logits, torch.full((4, 5), value))
        loss = objective.loss(batch, tiny.IDENTITY, {})
        assert loss.item() == pytest.approx(0.5 * expected_positive_penalty(logits, 2.0).item(), rel=1e-12)


def test_estimates_start_near_certain_where_labels_are_known_and_near_even_elsewhere():
    observed = np.array([[1, 0, -1], [0, 0, 0]], dtype=np.int8)
    table = LabelEstimates(observed).logits.detach().numpy()
    assert table.dtype == np.float32
    np.testing.assert_allclose(table[0, [0, 2]], [logit(0.995), logit(0.005)], rtol=1e-6)
    unknown = table[observed == 0]
    assert (np.abs(unknown) <= logit(0.6) + 1e-6).all()
    assert len(set(unknown.tolist())) == 4


def test_estimates_are_trained_with_the_classifier_and_kept_for_every_training_image():
    config = resolve(tiny.tiny("role"))
    trained = tiny.run(config)
    observed = torch.from_numpy(data.load(config.data).observed)
    tables = [state.get("module/estimator/logits") for state in trained.states]
    assert tables[0] is None
    assert all(table.shape == observed.shape for table in tables[1:])
    assert (tables[1] != tables[2]).any(1).all(), "those of every image move in every epoch"
    rates = config.recipe(1).learning_rates_own
    assert rates == (("estimator", 0.03),), "ten times the base rate"
    assert {f"optimizer/estimator/logits/{field}" for field in ("exp_avg", "exp_avg_sq")} <= trained.states[-1].keys()


def test_neither_branch_is_trained_through_the_other():
    generator = torch.Generator().manual_seed(2)
    logits, estimates = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    labels = torch.tensor([[1, 0, 0, -1], [0, 0, 0, 0], [1, 1, 0, 0]])
    given = {"expected_positives": 1.5, "log_eps": 0.0}
    x = logits.clone().requires_grad_()
    role_loss(x, estimates, labels, **given).backward()
    # By hand, of the terms in F alone: positives, agreement with constant estimates, and the number of positives.
    p, g = torch.sigmoid(logits).numpy(), torch.sigmoid(estimates).numpy()
    excess = (p.sum(1).mean() - 1.5) / 4
    by_hand = (-(1 - p) * (labels.numpy() > 0) + (p - g)) / 12 + 2 * excess / 4 * p * (1 - p) / 3
    np.testing.assert_allclose(x.grad, by_hand / 2, rtol=1e-12)


@pytest.mark.parametrize("log_eps", [0.0, 1e-5])
def test_role_is_finite_at_any_logit_where_nothing_is_known_and_with_one_class(log_eps):
    logits = torch.tensor([[60.0], [-60.0], [0.0]], requires_grad=True)
    estimates = torch.tensor([[-60.0], [60.0], [0.0]], requires_grad=True)
    loss = role_loss(logits, estimates, torch.zeros(3, 1), expected_positives=1.0, log_eps=log_eps)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad.isfinite().all()
    assert estimates.grad.isfinite().all()
