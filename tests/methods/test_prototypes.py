"""Prototypes: centres of blobs that are far apart are found, and classes with few features or none are survived."""

import numpy as np
import pytest
import torch

from methods import data
from methods.components.prototypes import class_prototypes, has_prototypes, known_positive_features
from methods.contract.objective import EpochStart
from methods.training.config import resolve
from tests.methods import tiny


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blobs(classes, clusters, each, width=6):
    """Features in well separated blobs, their classes, and the means (classes, clusters, width) of the blobs."""
    numbers = np.random.default_rng(3)
    places = numbers.permutation(classes * clusters).reshape(classes, clusters, 1) * 100.0
    samples = places[..., None, :] + numbers.normal(size=(classes, clusters, each, width))
    of = np.repeat(np.arange(classes), clusters * each)
    order = numbers.permutation(len(of))
    return torch.from_numpy(samples.reshape(-1, width)[order]), torch.from_numpy(of[order]), samples.mean(axis=2)


def test_the_prototypes_of_a_class_are_the_means_of_its_blobs():
    features, classes, means = blobs(classes=3, clusters=4, each=7)
    prototypes = class_prototypes(features, classes, 3, 4, generator()).numpy()
    for found, expected in zip(prototypes, means, strict=True):
        np.testing.assert_allclose(found[found[:, 0].argsort()], expected[expected[:, 0].argsort()])


def test_a_class_with_fewer_features_than_prototypes_repeats_them_in_turn():
    features = torch.tensor([[1.0, 0.0], [3.0, 1.0], [5.0, 1.0]])
    prototypes = class_prototypes(features, torch.tensor([0, 1, 1]), 2, 5, generator())
    assert torch.equal(prototypes[0], features[:1].expand(5, 2))
    assert torch.equal(prototypes[1, :2], prototypes[1, 2:4]) and torch.equal(prototypes[1, 0], prototypes[1, 4])
    assert {tuple(p) for p in prototypes[1].tolist()} == {(3.0, 1.0), (5.0, 1.0)}


@pytest.mark.filterwarnings("error")
def test_equal_features_are_one_prototype():
    features = torch.tensor([2.0, -1.0]).expand(6, 2)
    prototypes = class_prototypes(features, torch.zeros(6, dtype=torch.int64), 1, 3, generator())
    torch.testing.assert_close(prototypes, torch.tensor([2.0, -1.0]).expand(1, 3, 2))


def test_a_class_without_a_known_positive_has_zeros_and_says_so():
    features, classes, _ = blobs(classes=2, clusters=2, each=3)
    prototypes = class_prototypes(features, classes * 2, 4, 2, generator())
    assert has_prototypes(prototypes).tolist() == [True, False, True, False]
    assert not prototypes[[1, 3]].any()


def test_without_any_known_positive_there_are_no_prototypes():
    prototypes = class_prototypes(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), 2, 4, generator())
    assert prototypes.shape == (2, 4, 3) and not has_prototypes(prototypes).any()


def test_prototypes_depend_on_their_class_and_the_generator_alone():
    features = torch.randn(60, 4, generator=generator(5))
    classes = torch.arange(60) % 3
    tiny.disturb(1, epoch=0)
    one = class_prototypes(features, classes, 3, 4, generator())
    tiny.disturb(2, epoch=0)
    assert torch.equal(one, class_prototypes(features, classes, 3, 4, generator()))
    assert not torch.equal(one, class_prototypes(features, classes, 3, 4, generator(1)))
    alone = class_prototypes(features[classes == 2], classes[classes == 2], 3, 4, generator())
    assert torch.equal(one[2], alone[2])


def test_features_are_collected_of_known_positives_alone_image_by_image():
    task = data.load(resolve(tiny.tiny("assume_negative")).data)
    images, num_classes = task.observed.shape
    maps = torch.arange(float(images)).reshape(-1, 1, 1, 1)

    def over_training(function):
        return torch.cat([function(maps[rows], rows) for rows in torch.arange(images).split(7)])

    def class_features(chunk):  # (b, K, 2): the image's number, the class's number
        return torch.stack(
            [chunk[:, :, 0, 0].expand(-1, num_classes), torch.arange(num_classes).expand(len(chunk), -1)], 2
        )

    features, classes = known_positive_features(EpochStart(task, over_training, generator()), class_features)
    expected = [[image, k] for image in range(images) for k in range(num_classes) if task.observed[image, k] == 1]
    assert 0 < len(expected) < images * num_classes
    assert features.tolist() == expected
    assert classes.tolist() == [k for _, k in expected]
