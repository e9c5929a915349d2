"""One training step of the paper's method on the paper's network and image size, with random weights."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import nn

from methods.contract.settings import SettingError
from methods.networks.backbones import WeightsError
from methods.training.config import resolve
from methods.training.fit import Training

pytestmark = pytest.mark.slow

# Section 4.2.
PAPER = {
    "method": "prompt_learning",
    "attention_width": 1024,
    "bias_learned": False,
    "network.backbone": "open_clip",
    "network.clip_weights": "random",
    "data.labels": "proportion",
    "data.train_images": 2,
    "train.epochs": 100,
    "train.batch_size": 64,
    "train.optimizer": "sgd",
    "train.learning_rate": 0.002,
    "train.warmup": "constant",
}


def test_a_step_on_resnet_101_at_448_pixels_has_the_shapes_and_the_rates_of_the_paper(tmp_path):
    words = tmp_path / "glove.npy"
    np.save(words, np.random.default_rng(1).standard_normal((20, 300)))
    training = Training(resolve({**PAPER, "data.word_vectors": str(words)}), tmp_path)
    state, said = training.train(training.initial_state(), 1)
    assert np.isfinite(said["train/loss"])
    maps = training.feature_cache.trunk_features("train")
    assert maps.shape == (2, 2048, 7, 7)  # 14 x 14, pooled 2 x 2
    assert training.feature_cache.clip.pooled(maps).shape == (2, 512)
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if name.startswith("module/")}
    assert shapes["module/prompts/context"] == (1, 20, 16, 512)
    assert shapes["module/decoupling/fc1.weight"] == (1024, 2048)
    assert shapes["module/decoupling/fc4.weight"] == (1, 1024)
    assert shapes["module/projection/weight"] == (512, 2048)
    assert sum(torch.tensor(shape).prod().item() for shape in shapes.values()) == 4_667_905  # docs/clip_parameters.md
    assert said["train/parameters"] == 4_667_905
    rates = [training.config.recipe(epoch).learning_rate_head for epoch in (1, 2, 52)]
    assert rates == [0.0005, 0.002, 0.001]


@pytest.mark.parametrize("size", [224, 446, 447, 448, 510, 511, 576])
def test_a_size_that_clip_s_own_pooling_is_not_for_is_refused_before_anything_starts(size):
    encoder = ModifiedResNet(layers=[1, 1, 1, 1], output_dim=8, heads=8, image_size=224, width=8)
    fitting = len(encoder.attnpool.positional_embedding) - 1
    encoder.attnpool = nn.AvgPool2d(2)
    with torch.no_grad():
        positions = encoder(torch.zeros(1, 3, size, size))[0, 0].numel()
    own = {**PAPER, "network.image_size": size}
    resolve(own)  # attention from words is over a map of any size
    pooled = {**own, "decoupling": "off"}
    if positions == fitting:
        resolve(pooled)
        return
    with pytest.raises(SettingError, match=re.escape(f"network.image_size: {size} is not allowed; allowed is 448")):
        resolve(pooled)
    resolve({**pooled, "network.clip_model": "ViT-B-16-quickgelu"})  # its positions are interpolated


@pytest.mark.parametrize(("model", "weights"), [("RN102", "random"), ("RN50", "elsewhere"), ("RN50", __file__)])
def test_a_model_or_weights_that_open_clip_has_not_are_one_error_before_anything_starts(model, weights, tmp_path):
    own = {**PAPER, "network.clip_model": model, "network.clip_weights": weights}
    with pytest.raises(WeightsError, match=f"network.clip_model: {model} with network.clip_weights={weights} cannot"):
        Training(resolve(own), tmp_path).prepare()
