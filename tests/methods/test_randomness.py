"""Randomness: named draws, which neither read nor move a global generator."""

import random

import numpy as np
import pytest
import torch

from methods.contract.randomness import fold_in, numpy_generator, seeded, torch_generator


def global_state():
    return (
        random.getstate(),
        np.random.get_state()[1].tolist(),
        np.random.get_state()[2],
        torch.get_rng_state().tolist(),
    )


def test_a_name_is_a_64_bit_seed_that_never_changes():
    # SHA-256 of "int:1␟int:2␟str:order", its first eight bytes: another machine or version must agree.
    assert fold_in(1, 2, "order") == fold_in(1, 2, "order")
    assert 0 <= fold_in(1, 2, "order") < 2**64
    assert fold_in(1, 2, "order") == 15304966984721146219


def test_every_part_of_a_name_counts_and_so_do_their_order_and_their_limits():
    names = [(1, 2), (2, 1), (12,), ("1", 2), (1, "2"), (1, 2, ""), (1,), ("1\x1f2",), ("a", "b"), ("ab",)]
    assert len({fold_in(*name) for name in names}) == len(names)


@pytest.mark.parametrize(
    "draw",
    [
        lambda *name: numpy_generator(*name).permutation(100).tolist(),
        lambda *name: torch.randperm(100, generator=torch_generator(*name)).tolist(),
    ],
    ids=["numpy", "torch"],
)
def test_draws_depend_on_their_name_alone(draw):
    before = global_state()
    first = draw(1, 3, "order")
    draw(1, 3, "augmentation")
    assert draw(1, 3, "order") == first
    assert draw(1, 4, "order") != first
    assert draw(2, 3, "order") != first
    assert global_state() == before


def test_code_that_draws_globally_draws_from_its_name_and_leaves_the_global_generators_alone():
    before = global_state()
    weights = []
    for name in ("classifier", "projection", "classifier"):
        with seeded(1, "module", name):
            weights.append(torch.nn.Linear(4, 3).weight)
        torch.manual_seed(99)
        torch.rand(5)
        torch.set_rng_state(torch.tensor(before[3], dtype=torch.uint8))
    assert torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], weights[1])
    assert global_state() == before


def test_the_global_generator_is_put_back_when_the_code_fails_and_may_be_seeded_twice():
    before = global_state()
    with pytest.raises(RuntimeError), seeded(1), seeded(2):
        torch.nn.Linear(4, 3)(torch.rand(5))
    assert global_state() == before
