"""Schedules: exact as decimals, and the same as torch's."""

import pytest
import torch

from methods.contract.schedules import cosine, exact, falling, product, step
from methods.training.config import resolve


def torch_rates(make, epochs, start=0.003):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=start)
    scheduler = make(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def test_products_are_those_of_the_numbers_as_they_are_written():
    assert 0.1 * 3 != 0.3
    assert product(0.1, 3) == 0.3
    assert product(0.003, 0.1) == 0.0003
    assert product(1e-5, 10) == 1e-4
    assert product(0.7) == 0.7
    assert product(5.0, 0.0) == 0.0


def test_numbers_that_differ_in_their_last_bits_become_one():
    assert exact(0.1 + 0.2) == 0.3
    assert exact(1 / 3) == 0.333333333
    assert exact(1.23456789e-7) == 1.23456789e-7


@pytest.mark.parametrize("epochs", [1, 3, 12])
def test_the_cosine_is_torchs_from_the_full_rate_in_epoch_1_to_above_0(epochs):
    rates = [cosine(0.003, epoch, epochs) for epoch in range(1, epochs + 1)]
    expected = torch_rates(lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs), epochs)
    assert rates == pytest.approx(expected, rel=1e-8)
    assert rates[0] == 0.003
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_the_cosine_at_half_time_is_half_the_rate_exactly():
    assert cosine(0.003, 7, 12) == 0.0015
    assert cosine(0.003, 3, 4) == cosine(0.003, 7, 12)


def test_steps_are_torchs_and_exact():
    rates = [step(0.003, epoch, 4, 0.1) for epoch in range(1, 13)]
    expected = torch_rates(lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.1), 12)
    assert rates == pytest.approx(expected, rel=1e-12)
    assert rates == [0.003] * 4 + [0.0003] * 4 + [0.00003] * 4


def test_a_falling_value_passes_through_its_decimals_and_stops_at_the_least():
    assert 0.95 - 0.025 - 0.025 - 0.025 - 0.025 - 0.025 - 0.025 != 0.8
    values = [falling(0.95, 0.025, 0.75, epoch, first_epoch=6) for epoch in range(6, 17)]
    assert values == [0.95, 0.925, 0.9, 0.875, 0.85, 0.825, 0.8, 0.775, 0.75, 0.75, 0.75]
    assert falling(0.9, 0.0, 0.5, 40, first_epoch=1) == 0.9
    assert falling(0.4, 0.1, 0.5, 1, first_epoch=1) == 0.5


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.01, 0.01, 0.01, 0.01]),
        ("step", [0.01, 0.01, 0.005, 0.005]),
        ("cosine", [0.01, 0.00853553391, 0.005, 0.00146446609]),
    ],
)
def test_a_recipe_holds_the_rates_in_force_of_backbone_and_head(schedule, expected):
    config = resolve(
        {
            "method": "assume_negative",
            "train.epochs": 4,
            "train.schedule": schedule,
            "train.learning_rate": 0.01,
            "train.step_every": 2,
            "train.step_factor": 0.5,
            "train.backbone_multiplier": 0.3,
            "train.classifier_multiplier": 10,
        }
    )
    recipes = [config.recipe(epoch) for epoch in range(1, 5)]
    assert [recipe.learning_rate_backbone for recipe in recipes] == [product(rate, 0.3) for rate in expected]
    assert [recipe.learning_rate_head for recipe in recipes] == [product(rate, 10) for rate in expected]
