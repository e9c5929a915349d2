"""DSRB: quadrants and their prototypes, and a step of training against blending whole attention-weighted maps."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from methods import data
from methods.components.blending import choose_unknown
from methods.contract.head import FeatureMap
from methods.contract.objective import EpochStart
from methods.dsrb import other_quadrants, peak_quadrants, quadrant_prototypes
from methods.networks.semantic_decoupling import SemanticAttention
from methods.training.config import resolve
from tests.methods import tiny

property_test = settings(derandomize=True, deadline=None, max_examples=80)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def config(method="dsrb", **own):
    return resolve(tiny.tiny(method, **own))


@property_test
@given(st.integers(2, 5), st.integers(2, 5), st.data())
def test_a_quadrant_is_that_of_the_largest_value(height, width, draw):
    row, column = draw.draw(st.integers(0, height - 1)), draw.draw(st.integers(0, width - 1))
    activation = torch.rand(height, width, generator=generator())
    activation[row, column] = 2
    lower, right = row >= height // 2, column >= width // 2
    assert peak_quadrants(activation[None, None]).tolist() == [[2 * lower + right]]


@property_test
@given(arrays(np.int64, st.tuples(st.integers(0, 12), st.just(2)), elements=st.integers(0, 3)))
def test_a_prototype_is_the_mean_of_its_quadrant_or_else_of_its_class_or_else_zero(seen):
    classes, quadrants = seen.T
    features = np.random.default_rng(0).normal(size=(len(seen), 3))
    found = quadrant_prototypes(*map(torch.from_numpy, (features, classes.copy(), quadrants.copy())), 4).numpy()
    for k in range(4):
        for quadrant in range(4):
            those = features[(classes == k) & (quadrants == quadrant)]
            those = those if len(those) else features[classes == k]
            expected = those.mean(0) if len(those) else np.zeros(3)
            np.testing.assert_allclose(found[k, quadrant], expected, atol=1e-12)


def test_the_other_quadrants_are_drawn_evenly_and_never_the_own():
    own = (torch.arange(8000) % 4).reshape(2000, 4)
    others = other_quadrants(own, generator())
    pairs = torch.bincount((own * 4 + others).flatten(), minlength=16).reshape(4, 4)
    assert pairs.diagonal().tolist() == [0] * 4
    assert all(580 < count < 760 for count in pairs[~torch.eye(4, dtype=torch.bool)].tolist())


@pytest.fixture(scope="module")
def task():
    return data.load(config().data)


@pytest.fixture(params=["semantic_decoupling", "semantic_attention"])
def objective(request):
    return config(decoupling=request.param, contrastive_weight=0, alpha_start=0.3, beta_start=0.6).recipe(2).objective


def weighted_maps(features, modules):
    """Attention-weighted maps (N, K, D, H, W)."""
    decoupling = modules["decoupling"]
    attention = decoupling.attention(features)
    if isinstance(decoupling, SemanticAttention):
        features = decoupling.transformed(features)
    return (attention[:, :, None] * features[:, None]).detach().numpy()


def quadrants_of(maps):
    """For each image and class, which half of the rows and of the columns has the largest sum over channels."""
    found = np.zeros(maps.shape[:2], dtype=int)
    for place in np.ndindex(*found.shape):
        activation = maps[place].sum(0)
        row, column = np.unravel_index(activation.argmax(), activation.shape)
        found[place] = 2 * (row >= activation.shape[0] // 2) + (column >= activation.shape[1] // 2)
    return found


def test_a_step_is_what_blending_whole_weighted_maps_gives(objective, task):
    torch.manual_seed(0)
    modules = {name: make().double() for name, make in objective.modules(FeatureMap(8, "mean"), task).items()}
    everything = torch.randn(len(task.observed), 8, 4, 4, generator=generator(1), dtype=torch.float64)
    labels = torch.from_numpy(task.observed)[:6]
    batch = dataclasses.replace(tiny.batch(everything[:6], labels), place=(1, 2, 3))
    state = {"prototypes": made(objective, everything, task, modules)}
    loss = objective.loss(batch, modules, state).item()

    # The rule of the release on whole maps, in numpy; its network is that of the objective.
    maps = weighted_maps(everything, modules)
    quadrants, known = quadrants_of(maps), task.observed == 1
    prototype_maps = np.zeros((task.num_classes, 4, *maps.shape[2:]))
    for k, quadrant in np.ndindex(task.num_classes, 4):
        chosen = known[:, k] & (quadrants[:, k] == quadrant)
        chosen = chosen if chosen.any() else known[:, k]
        if chosen.any():
            prototype_maps[k, quadrant] = maps[chosen, k].mean(0)
    maps, quadrants, observed = maps[:6], quadrants[:6], labels.numpy()
    others = other_quadrants(torch.from_numpy(quadrants), batch.generator("prototype/quadrant")).numpy()
    able = torch.from_numpy(known.any(0))
    blended = choose_unknown(labels, able, batch.generator("prototype/class")).numpy()
    assert 0 < blended.sum() <= 6 and able.sum() > 5

    expected = partial_bce(objective, maps, observed.astype(float), modules)
    instance, targets = maps.copy(), observed.astype(float)
    for image, k in np.ndindex(observed.shape):
        if observed[image, k] == 0 and observed[5 - image, k] == 1:
            instance[image, k] = 0.3 * maps[image, k] + 0.7 * maps[5 - image, k]
            targets[image, k] = 0.7
    assert (targets == 0.7).any()
    expected += partial_bce(objective, instance, targets, modules)
    prototype, targets = maps.copy(), observed.astype(float)
    for image, k in np.argwhere(blended):
        prototype[image, k] = 0.6 * maps[image, k] + 0.4 * prototype_maps[k, others[image, k]]
        targets[image, k] = 0.4
    expected += partial_bce(objective, prototype, targets, modules)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)  # the shares are float32 numbers


def made(objective, features, task, modules):
    def over_training(function):
        return torch.cat([function(features[rows], rows) for rows in torch.arange(len(features)).split(16)])

    state = {}
    with torch.no_grad():
        objective.begin_epoch(EpochStart(task, over_training, generator()), modules, state)
    return state["prototypes"]


def partial_bce(objective, maps, targets, modules):
    features = torch.from_numpy(maps.sum((3, 4)))
    logits = objective.decoupling.class_logits(features, modules).detach().numpy()
    probability = 1 / (1 + np.exp(-logits))
    positive = np.clip(targets, 0, None)
    entries = -positive * np.log(probability) - (1 - positive) * np.log(1 - probability)
    return entries[targets != 0].mean()


def test_prototypes_are_made_of_all_training_images_and_shares_are_learned():
    trained = tiny.run(config())
    prototypes = trained.states[-1]["method/prototypes"]
    known = (data.load(config().data).observed == 1).any(0)
    assert prototypes.shape[:2] == (20, 4)
    assert prototypes.any(2).all(1).tolist() == known.tolist()
    assert 0.5 not in (trained.metrics[-1]["train/alpha"], trained.metrics[-1]["train/beta"])


def test_without_prototypes_it_is_sarb():
    assert config(plrb=False).keys() == config("sarb", plrb=False, start_epoch=2).keys()
    assert tiny.shared_epochs(config().keys(), config("sarb", start_epoch=2).keys()) == 1
