"""Exact schedule values: equal values on paper must be equal numbers in a recipe.

With plain floats, 0.95 - 0.025 - ... misses 0.8, and two equal thresholds would give two recipes. Epochs count from 1.
"""

from __future__ import annotations

import math
from decimal import Decimal


def exact(value: float) -> float:
    """`value` rounded to nine significant digits, so that results that differ in their last bits become equal."""
    return float(f"{value:.9g}")


def product(*factors: float) -> float:
    """The product in decimal arithmetic: 0.1 x 3 is 0.3."""
    result = Decimal(1)
    for factor in factors:
        result *= Decimal(repr(factor))
    return float(result)


def cosine(start: float, epoch: int, epochs: int) -> float:
    """Cosine annealing, constant within an epoch: `start` in epoch 1, 0 after `epochs`."""
    return exact(start * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / epochs)))


def step(start: float, epoch: int, every: int, factor: float) -> float:
    """`start`, multiplied by `factor` after every `every` epochs (torch's StepLR)."""
    return product(start, *[factor] * ((epoch - 1) // every))


def falling(start: float, by: float, least: float, epoch: int, first_epoch: int) -> float:
    """`start` in `first_epoch`, then lower by `by` after each epoch, but never below `least`."""
    value = Decimal(repr(start)) - Decimal(repr(by)) * (epoch - first_epoch)
    return float(max(value, Decimal(repr(least))))
