"""IP-Mixup and FM-Mixup: a step of training against a computation of its own, labels, shares, what is shared."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods import data
from methods.components.blending import instance_blend
from methods.contract.head import FeatureMap
from methods.contract.objective import BLENDED, LOGITS
from methods.mixup import blended, blended_labels
from methods.training.config import resolve
from tests.methods import tiny

property_test = settings(derandomize=True, deadline=None, max_examples=80)
label_tables = arrays(np.int8, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.sampled_from([-1, 0, 1]))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def config(method="mixup", **own):
    return resolve(tiny.tiny(method, **own))


def targets_by_entry(labels, share):
    """The label rule, entry by entry."""
    targets = np.zeros(labels.shape)
    for image, k in np.ndindex(labels.shape):
        own, other = labels[image, k], labels[len(labels) - 1 - image, k]
        if own == 1 or other == 1:
            targets[image, k] = share * (own == 1) + (1 - share) * (other == 1)
        elif own == other == -1:
            targets[image, k] = -1
    return targets


@property_test
@given(label_tables, st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_labels_are_what_the_rule_says_entry_by_entry(labels, share):
    found = blended_labels(torch.from_numpy(labels), share)
    np.testing.assert_array_equal(found.numpy(), targets_by_entry(labels, share))


@property_test
@given(label_tables, st.sampled_from([0.25, 0.5]))
def test_an_unknown_label_is_complemented_as_in_sarb_where_the_other_image_has_the_class(labels, share):
    labels = torch.from_numpy(labels)
    sarb = instance_blend(torch.zeros(*labels.shape, 2), labels, share)
    torch.testing.assert_close(blended_labels(labels, share)[sarb.entries], sarb.targets[sarb.entries])


@pytest.fixture(scope="module")
def task():
    return data.load(config().data)


def step(objective, task, images=5):
    """A batch of images that a small convolution makes features of, and the modules for it."""
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=4), torch.nn.ReLU())
    modules = {name: make() for name, make in objective.modules(FeatureMap(8, "mean"), task).items()}
    pictures = torch.randn(images, 3, 12, 12, generator=generator(1))
    batch = tiny.batch(backbone(pictures), torch.from_numpy(task.observed[:images]))
    batch = dataclasses.replace(batch, place=(1, 2, 3), changed=lambda change: backbone(change(pictures)))
    return batch, modules, backbone, pictures.numpy()


def partial_bce(logits, targets):
    logits, positive = logits.detach().numpy().astype(float), np.clip(targets, 0, None)
    entries = positive * np.log1p(np.exp(-logits)) + (1 - positive) * np.log1p(np.exp(logits))
    return entries[targets != 0].mean()


@pytest.mark.parametrize("own_images", [True, False])
@pytest.mark.parametrize("space", ["images", "feature_maps"])
def test_a_step_is_partial_bce_of_own_and_blended_images(space, own_images, task):
    weight = {"mixup_weight": 0.5} if own_images else {}
    objective = config(space=space, own_images=own_images, **weight).recipe(2).objective
    batch, modules, backbone, pictures = step(objective, task)
    if space == "images":
        features = backbone(torch.from_numpy(np.stack([(pictures[i] + pictures[4 - i]) / 2 for i in range(5)])))
    else:
        features = torch.stack([(batch.features[i] + batch.features[4 - i]) / 2 for i in range(5)])
    observed = batch.labels.numpy()
    expected = partial_bce(objective.logits(features, modules), targets_by_entry(observed, 0.5))
    if own_images:
        own = partial_bce(objective.logits(batch.features, modules), observed.astype(float))
        expected = own + 0.5 * expected
    np.testing.assert_allclose(objective.loss(batch, modules, {}).item(), expected, rtol=1e-5)


def test_the_share_of_a_batch_is_drawn_from_a_beta_distribution(task):
    objective = config(share="beta", concentration=2.0).recipe(2).objective
    batch, modules, _, _ = step(objective, task)
    places = [dataclasses.replace(batch, place=(1, 2, number)) for number in range(2000)]
    shares = np.array([objective.share(each) for each in places])
    # Beta(2, 2): mean 1/2, variance 1/20.
    assert abs(shares.mean() - 0.5) < 0.02 and abs(shares.var() - 0.05) < 0.005
    features = objective.logits(batch.features_of(lambda images: blended(images, shares[3])), modules)
    expected = partial_bce(features, targets_by_entry(batch.labels.numpy(), shares[3]))
    expected += partial_bce(objective.logits(batch.features, modules), batch.labels.numpy().astype(float))
    np.testing.assert_allclose(objective.loss(places[3], modules, {}).item(), expected, rtol=1e-5)


def test_an_image_that_is_its_own_partner_stays_as_it_is():
    values = torch.randn(5, 3, generator=generator())
    assert torch.allclose(blended(values, 0.3)[2], values[2])
    assert blended_labels(torch.tensor([[1, 0, -1]]), 0.3).tolist() == [[1.0, 0.0, -1.0]]


def test_complemented_entries_are_noted(task):
    noted = {}
    objective = config().recipe(2).objective
    batch, modules, _, _ = step(objective, task)
    watched = dataclasses.replace(batch, watch=lambda name, rows, entries: noted.update({name: entries}))
    objective.loss(watched, modules, {})
    targets = blended_labels(batch.labels, 0.5)
    assert list(noted) == [BLENDED, LOGITS] and noted[BLENDED].any()
    assert torch.equal(noted[BLENDED], (batch.labels == 0) & (targets == 0.5))
    assert torch.equal(noted[LOGITS], objective.logits(batch.features, modules)), "of the images themselves"


@pytest.mark.parametrize("space", ["images", "feature_maps"])
def test_the_first_epochs_are_ssgrls_and_the_next_are_not(space):
    given = config(space=space)
    assert tiny.shared_epochs(given.keys(), config("ssgrl").keys()) == 1
    mixed, plain = tiny.run(given), tiny.run(config("ssgrl"))
    assert not tiny.different(mixed.states[1], plain.states[1])
    assert tiny.different(mixed.states[2], plain.states[2])
