"""Exact schedule values: what enters a recipe must be the same number however it was reached.

With plain floats 0.95 - 0.025 - ... misses 0.8, and two thresholds that are equal on paper would be two recipes.
Epochs count from 1.
"""

from __future__ import annotations

import math
from decimal import Decimal


def exact(value: float) -> float:
    """`value` to nine significant digits: products and cosines that differ in their last bits become one number."""
    return float(f"{value:.9g}")


def product(*factors: float) -> float:
    """The decimal product of numbers as they are written: 0.1 x 3 is 0.3."""
    result = Decimal(1)
    for factor in factors:
        result *= Decimal(repr(factor))
    return float(result)


def cosine(start: float, epoch: int, epochs: int) -> float:
    """Cosine annealing by whole epochs, from `start` in epoch 1 towards 0 after `epochs`."""
    return exact(start * 0.5 * (1.0 + math.cos(math.pi * (epoch - 1) / epochs)))


def step(start: float, epoch: int, every: int, factor: float) -> float:
    """`start` times `factor` for each `every` epochs that are over (torch's StepLR)."""
    return product(start, *[factor] * ((epoch - 1) // every))


def falling(start: float, by: float, least: float, epoch: int, first_epoch: int) -> float:
    """`start` in `first_epoch`, lower `by` so much after each epoch, but never below `least`."""
    value = Decimal(repr(start)) - Decimal(repr(by)) * (epoch - first_epoch)
    return float(max(value, Decimal(repr(least))))
