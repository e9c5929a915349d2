"""Training on a share of the training images: which they are, what they share with all, what a method sees of them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from methods import data
from methods.assume_negative import AssumeNegativeObjective
from methods.data import Task
from methods.training import features
from methods.training.config import resolve
from tests.methods import tiny

property_test = settings(derandomize=True, deadline=None, max_examples=40)
fractions = st.floats(0, 1, exclude_min=True)


def config(fraction: float, method: str = "assume_negative", **values):
    return resolve({**tiny.tiny(method), "data.train_fraction": fraction, **values})


def task(fraction: float, **values) -> Task:
    return data.load(config(fraction, **values).data)


@property_test
@given(st.integers(1, 300), fractions, fractions)
def test_what_a_smaller_fraction_has_a_larger_one_has_too(images, one, other):
    few, many = (data._train_rows(images, fraction) for fraction in sorted((one, other)))
    assert set(few) <= set(many) <= set(range(images))


@property_test
@given(st.integers(1, 300), fractions)
def test_a_fraction_is_the_nearest_number_of_different_images_and_at_least_one(images, fraction):
    rows = data._train_rows(images, fraction)
    assert len(rows) == len(set(rows)) and abs(len(rows) - max(fraction * images, 1)) <= 0.5
    assert (np.diff(rows) > 0).all()


def test_the_images_of_a_fraction_are_the_single_positive_releases():
    rows = np.sort(np.random.RandomState(999).permutation(4574)[:457])  # 10 % of VOC 2012's training split
    np.testing.assert_array_equal(data._train_rows(4574, 0.1), rows)


@pytest.mark.parametrize("labels", ["full", "single_positive", "proportion"])
def test_masks_are_drawn_on_the_full_list_so_that_an_image_has_the_same_labels_in_every_budget(labels):
    whole, part = (task(fraction, **{"data.labels": labels}) for fraction in (1.0, 0.3))
    assert (len(part.train), part.observed.shape) == (12, (12, 20))
    np.testing.assert_array_equal(whole.train_rows, np.arange(40))
    np.testing.assert_array_equal(part.observed, whole.observed[part.train_rows])
    np.testing.assert_array_equal(part.observed_val, whole.observed_val)


def test_a_part_of_a_split_has_its_images_with_their_labels_boxes_and_names():
    whole, part = task(1.0).train, task(0.3).train
    for row, name in enumerate(part.names):
        before = whole.names.index(name)
        np.testing.assert_array_equal(part.images[row], whole.images[before])
        np.testing.assert_array_equal(part.labels[row], whole.labels[before])
        boxes = part.boxes[part.boxes[:, 0] == row, 1:]
        np.testing.assert_array_equal(boxes, whole.boxes[whole.boxes[:, 0] == before, 1:])
        assert set(boxes[:, 0]) == set(np.flatnonzero(part.labels[row] == 1))
    assert set(part.boxes[:, 0]) == set(range(12))


def test_all_images_leave_keys_as_they_are_and_any_other_fraction_changes_them():
    assert "train_fraction" not in config(1.0).data.acting()
    assert "train_fraction" not in config(1.0).data.acting(evaluation=True)
    assert config(1.0).keys() == resolve(tiny.tiny("assume_negative")).keys()
    assert not set(config(0.5).keys()) & (set(config(1.0).keys()) | set(config(0.4).keys()))


def test_pictures_and_their_features_are_made_once_for_all_fractions():
    features.prepare.cache_clear()
    one, other = (tiny.new_training(config(fraction)) for fraction in (0.3, 1.0))
    assert one.feature_cache is other.feature_cache
    assert len(one.feature_cache.images("train")) == 40


@pytest.mark.parametrize("augmentation", ["none", "shift"])
@pytest.mark.parametrize("linear_init", ["off", "first_epochs"])
def test_an_epoch_goes_once_over_the_subset_with_the_features_and_labels_of_its_own_images(
    augmentation, linear_init, monkeypatch
):
    seen = {}
    real = AssumeNegativeObjective.loss

    def recorded(self, batch, modules, state):
        seen["features"] = batch.features.detach()[batch.indices.argsort()]
        seen["labels"] = batch.labels[batch.indices.argsort()]
        assert sorted(batch.indices.tolist()) == list(range(len(batch.indices)))
        return real(self, batch, modules, state)

    monkeypatch.setattr(AssumeNegativeObjective, "loss", recorded)
    # One batch an epoch, so that all features are seen, and before anything is trained.
    values = {"train.batch_size": 40, "train.epochs": 1}
    values |= {"train.augmentation": augmentation, "train.linear_init": linear_init}
    tiny.run(config(1.0, **values))
    whole = dict(seen)
    tiny.run(config(0.3, **values))
    rows = torch.from_numpy(task(0.3).train_rows)
    assert len(seen["features"]) == 12
    assert torch.equal(seen["labels"], whole["labels"][rows])
    torch.testing.assert_close(seen["features"], whole["features"][rows], rtol=1e-5, atol=1e-6)


def test_a_label_table_has_a_row_for_each_image_of_the_subset():
    permanent = config(0.3, "large_loss", scheme="correct_permanent")
    assert tiny.run(permanent).states[-1]["method/labels"].shape == (12, 20)
