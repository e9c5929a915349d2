"""Batches computed in parts, epochs that are a part of a pass, and what is said where memory does not suffice."""

import numpy as np
import pytest
import torch

from methods import fit
from methods.assume_negative import AssumeNegativeObjective
from methods.contract.settings import SettingError
from methods.testing import purity
from methods.training import loop
from methods.training.config import resolve
from methods.training.fit import TooLargeError
from methods.training.registry import methods
from tests.methods import tiny

# Settings under which the loss of a method is a mean over images or known labels; all methods are tried by
# `test_contract`, these beyond their first settings.
SEPARABLE = {
    "assume_negative": {},
    "curriculum": {"weighting": "known_proportion"},
    "gcn_ml": {},
    "ignore_unobserved": {"weighting": "known_proportion"},
    "imcl": {},
    "kggr": {},
    "prompt_learning": {},
    "ssgrl": {"bce_mean": "image"},
    "sst": {"ist": False, "cst": False},
}


@pytest.mark.parametrize("method", [method for method, values in SEPARABLE.items() if values])
def test_parts_of_a_batch_give_the_gradient_of_the_whole(method):
    assert not purity.part_violations(resolve(tiny.tiny(method, **SEPARABLE[method])))


@pytest.mark.parametrize("method", methods())
def test_methods_whose_loss_does_not_separate_say_why(method):
    given = tiny.tiny(method)
    if not purity.in_parts(resolve(given)):
        with pytest.raises(SettingError, match=rf"micro_batches: 2 .* 1, because the loss of {method} does"):
            resolve({**given, "train.micro_batches": 2})


@pytest.mark.parametrize(
    ("method", "values", "why"),
    [
        ("large_loss", {}, "in epoch 2: its threshold is one of the whole batch"),
        ("sarb", {}, "in epoch 1: the contrastive loss compares the images of a batch"),
        (
            "hst",
            {"contrastive_weight": 0.0},
            "L_ist is a mean over images, partial BCE one over known labels",
        ),
        ("ssgrl", {"feature_width": 8}, "in epoch 1: the batch norm of `feature_width` is that of the whole batch"),
        ("prompt_learning", {"feature_width": 8}, "the batch norm of `feature_width`"),
        ("assume_negative", {"network.batch_norm": "train"}, "1 with network.batch_norm: train"),
    ],
)
def test_what_does_not_separate_is_refused_before_anything_starts(method, values, why):
    with pytest.raises(SettingError, match=why):
        resolve(tiny.tiny(method, **values, **{"train.micro_batches": 2}))


def test_parts_are_in_the_key_and_the_identity_unless_there_is_one():
    plain, same, other = (resolve(tiny.tiny("gcn_ml", **{"train.micro_batches": n})) for n in (1, 1, 2))
    assert plain.keys() == same.keys() and plain.keys()[0] == other.keys()[0] and plain.keys()[1] != other.keys()[1]
    assert plain.identity() != other.identity()


def test_a_batch_without_known_labels_in_any_part_moves_nothing():
    labels = torch.zeros(4, 3, dtype=torch.int8)
    objective = resolve(tiny.tiny("gcn_ml")).recipe(1).objective
    assert loop._shares(objective, labels, torch.arange(4).split(2)) == [0, 0]


def order(epoch, images, at_once, seed=1):
    return loop._order(seed, epoch, images, at_once).tolist()


@pytest.mark.parametrize(("images", "at_once"), [(12, 4), (10, 4), (10, 3), (3, 7)])
def test_short_epochs_together_are_passes_over_all_images(images, at_once):
    rows = np.concatenate([order(epoch, images, at_once) for epoch in range(1, images + 1)])
    passes = rows.reshape(at_once, images)
    assert all(sorted(one) == list(range(images)) for one in passes.tolist())
    assert len({tuple(one) for one in passes.tolist()}) > 1 or at_once == 1
    assert order(2, images, at_once) != order(2, images, at_once, seed=2)


def test_an_epoch_is_as_many_images_as_it_is_told(monkeypatch):
    seen = []
    real = AssumeNegativeObjective.loss

    def noted(self, batch, *rest):
        seen.append(batch.indices)
        return real(self, batch, *rest)

    monkeypatch.setattr(AssumeNegativeObjective, "loss", noted)
    fit("assume_negative", {**tiny.TINY, "train.images_per_epoch": 20, "train.epochs": 4}, seed=1)
    assert [len(indices) for indices in seen] == [16, 4] * 4
    assert torch.cat(seen[:4]).sort().values.tolist() == list(range(40))


def failing(monkeypatch, error):
    def fail(self, *given):
        if isinstance(error, Exception):
            raise error
        torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(AssumeNegativeObjective, "loss", fail)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "a real one"])
def test_what_does_not_fit_into_memory_says_what_it_needed_and_which_settings_need_less(error, monkeypatch):
    failing(monkeypatch, error)
    with pytest.raises(TooLargeError) as raised:
        tiny.run(resolve(tiny.tiny("assume_negative")))
    said = str(raised.value)
    assert said.startswith("16 images of 48 x 48 pixels at a time, on digit_conv in fp32, do not fit into the ")
    for setting in ("train.micro_batches", "train.batch_size", "train.precision=bf16"):
        assert setting in said
    assert "image_size" not in said, "scenes have one size"


def test_other_errors_stay_what_they_are(monkeypatch):
    failing(monkeypatch, RuntimeError("shapes differ"))
    with pytest.raises(RuntimeError, match="^shapes differ$"):
        tiny.run(resolve(tiny.tiny("assume_negative")))


def test_what_separates_is_accepted():
    for method, values in SEPARABLE.items():
        resolve(tiny.tiny(method, **values, **{"train.micro_batches": 2}))
