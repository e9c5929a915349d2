"""CLIP's vision transformer with random weights: its tokens as features, the class token its pooling."""

from __future__ import annotations

import math

import pytest
import torch

from methods.contract.randomness import seeded
from methods.contract.settings import SettingError
from methods.networks import clip as clips
from methods.training.config import resolve
from methods.training.fit import Training
from tests.methods import miniatures

pytestmark = pytest.mark.slow

SIZE = 96  # a map of 3 x 3 patches


@pytest.fixture(scope="module")
def clip():
    with seeded("vit"):
        return clips.pretrained("ViT-B-32-quickgelu", "random", SIZE)


def test_the_map_is_of_the_patches_and_the_pooling_is_what_open_clip_makes_of_an_image(clip):
    pixels = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = clip(pixels)
        assert features.shape == (2, clip.width, 10, 1) == (2, 768, 10, 1)
        torch.testing.assert_close(clip.pooled(features), clip.model.encode_image(pixels), rtol=1e-4, atol=1e-5)
        spatial, positions = clip.spatial(features), clip.at_positions(features)
    assert spatial.shape == (2, 768, 3, 3) and positions.shape == (2, clip.embedding_width, 3, 3)
    torch.testing.assert_close(spatial[1, :, 2, 1], features[1, :, 1 + 2 * 3 + 1, 0])
    expected = features[1, :, 3, 0] @ clip.model.visual.proj
    torch.testing.assert_close(positions[1, :, 0, 2], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("decoupling", ["off", "semantic_decoupling"])
def test_prompts_are_learned_for_it_and_attention_is_of_the_patches(decoupling, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "pretrained", lambda *_: clip)
    sizes = {"data.train_images": 2, "data.val_images": 2, "data.test_images": 2, "train.epochs": 1}
    own = {"decoupling": decoupling, "network.image_size": SIZE, "network.clip_weights": "random", **sizes}
    own["network.clip_model"] = "ViT-B-32-quickgelu"
    training = Training(resolve({"method": "prompt_learning", "network.backbone": "open_clip", **own}), tmp_path)
    state, _ = training.train(training.initial_state(), 1)
    objective = training.config.recipe(1).objective
    modules = {
        name: make() for name, make in objective.modules(training.feature_cache.feature_map, training.task).items()
    }
    with torch.no_grad():
        features = training.feature_cache.trunk_features("train")
        assert objective.logits(features, modules).shape == (2, 20)
        assert objective.attention(features, modules).shape == (2, 20, 3, 3)
    assert state["module/prompts/context"].shape == (1, 20, 16, 512)


def test_images_in_files_go_through_clip_and_nothing_need_be_kept_back_for_val(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(clips, "pretrained", lambda *_: clip)
    monkeypatch.setenv("SWEEPER_IMAGES", str(tmp_path / "decoded"))
    miniatures.write("voc2007", tmp_path / "voc")
    data = {"dataset": "voc2007", "root": str(tmp_path / "voc"), "image_size": 48, "val_fraction": 0.0}
    values = {f"data.{name}": value for name, value in data.items()} | {"train.epochs": 1}
    network = {"network.backbone": "open_clip", "network.image_size": SIZE, "network.clip_weights": "random"}
    training = Training(resolve({"method": "prompt_learning", **values, **network}), tmp_path)
    training.prepare()
    _, metrics = training.advance(training.initial_state(), 1)
    assert metrics["test/map"] > 0 and math.isnan(metrics["val/map"])


def test_the_embedded_clip_reads_the_names_of_the_embedded_data_alone():
    with pytest.raises(
        SettingError, match="'digit_clip' is not allowed; allowed is open_clip; the words of digit_clip"
    ):
        resolve({"method": "prompt_learning", "network.backbone": "digit_clip", "data.dataset": "voc2007"})


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="convnext_base has neither a ResNet nor a vision transformer"):
        clips.pretrained("convnext_base", "random", SIZE)
