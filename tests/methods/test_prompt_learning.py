"""Learned prompts for a frozen CLIP: scores and loss against the equations, what is trained, and what it is trained
on."""

from __future__ import annotations

import errno
import itertools
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import nn

from methods import fit
from methods.cache.store import DamagedRecordWarning, Store
from methods.contract.settings import SettingError
from methods.data import pictures_only
from methods.networks import clip as clips
from methods.prompt_learning import Focus, PromptLearning, PromptObjective, Prompts, Score, known_loss, log_odds
from methods.training import clip_features
from methods.training.config import resolve
from methods.training.fit import Training, made_once
from tests.golden_cases import cases, load
from tests.methods import miniatures, tiny

ROWS = {
    "CoOp": {"prompts": "shared", "decoupling": "off"},
    "csp": {"decoupling": "off"},
    "SD": {"prompts": "shared"},
    "both": {},
    "SA": {"decoupling": "semantic_attention"},
}


def config(**own):
    return resolve(tiny.tiny("prompt_learning", **own))


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def labels(*shape):
    return torch.randint(-1, 2, shape, generator=torch.Generator().manual_seed(4), dtype=torch.int8)


@pytest.mark.parametrize("gamma_pos, gamma_neg, margin", list(itertools.product((0, 1, 2.5), (0, 2), (0, 0.05, 0.4))))
def test_the_loss_is_equation_11_entry_by_entry(gamma_pos, gamma_neg, margin):
    x, y = drawn(5, 7), labels(5, 7)
    p = 1 / (1 + np.exp(-x.numpy()))
    total = 0.0
    for n, c in itertools.product(range(5), range(7)):
        shifted = max(p[n, c] - margin, 0)
        if y[n, c] == 1:
            total += (1 - p[n, c]) ** gamma_pos * np.log(p[n, c])
        elif y[n, c] == -1:
            total += shifted**gamma_neg * np.log(1 - shifted)
    found = known_loss(x, y, Focus(gamma_pos, gamma_neg, margin, gradient=False))
    assert found.item() == pytest.approx(-total / 5, rel=1e-12)


@pytest.mark.parametrize("path", cases("asl_pair"))
def test_the_loss_of_pairs_of_prompts_is_golden(path):
    case = load(path)
    # The golden pairs are (negative, positive); our prompts are (positive, negative).
    pair = torch.tensor(case.in_logits_pair[:, ::-1].copy(), requires_grad=True)
    y = torch.tensor(case.in_labels)
    images, classes = y.shape
    prompts = Mock(spec=Prompts, classes=classes, return_value=torch.ones(2, classes, 1, dtype=torch.float64))
    prompts.clip = Mock(pooled=lambda features: torch.ones(images, 1, dtype=torch.float64))
    modules = {"prompts": prompts, "score": lambda cosines: pair.movedim(1, 0)}
    focus = Focus(case.param_gamma_pos, case.param_gamma_neg, case.param_clip, gradient=False)
    objective = PromptObjective(3, True, "prompt_pair", 0.05, False, False, None, focus)
    batch = tiny.batch(torch.zeros(images, 1, 1, 1), y)
    total = images * objective.loss(batch, modules, {})
    total.backward()
    assert total.item() == pytest.approx(case.out_loss_sum, rel=1e-9)
    np.testing.assert_allclose(pair.grad.flip(1), case.out_grad_logits_pair, rtol=1e-9, atol=1e-10)
    for k in range(classes):  # a loss of one class is the column's
        alone = objective.loss(tiny.batch(batch.features, torch.where(torch.arange(classes) == k, y, 0)), modules, {})
        assert images * alone.item() == pytest.approx(case.out_loss_matrix[:, k].sum(), rel=1e-9, abs=1e-10)


def test_without_focus_and_margin_it_is_partial_bce_and_one_computation_with_it():
    x, y = drawn(5, 7), labels(5, 7)
    expected = nn.functional.binary_cross_entropy_with_logits(x, (y > 0).double(), reduction="none")[y != 0].sum() / 5
    for focus in (None, Focus(0, 0, 0, gradient=False), Focus(0, 0, 0, gradient=True)):
        torch.testing.assert_close(known_loss(x, y, focus), expected, rtol=1e-14, atol=0)
    zeros = {"gamma_pos": 0.0, "gamma_neg": 0.0, "margin": 0.0}
    assert config(loss="bce").keys() == config(**zeros).keys() != config().keys()


def test_focal_weights_pass_gradient_only_where_they_are_told_to():
    y = torch.tensor([[1]], dtype=torch.int8)
    slopes = {}
    for gradient in (False, True):
        x = torch.tensor([[0.3]], dtype=torch.float64, requires_grad=True)
        known_loss(x, y, Focus(2, 2, 0, gradient)).backward()
        slopes[gradient] = x.grad.item()
    p = 1 / (1 + np.exp(-0.3))
    constant = -((1 - p) ** 3)  # d/dx of log p is 1 - p
    assert slopes[False] == pytest.approx(constant)
    assert slopes[True] == pytest.approx(constant + 2 * (1 - p) ** 2 * p * np.log(p))


def test_under_the_softmax_reading_the_sigmoid_of_a_logit_is_the_probability_of_equation_9():
    x = drawn(4, 6) * 20
    torch.testing.assert_close(log_odds(x).sigmoid(), x.softmax(1), rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("score", ["sigmoid", "softmax", "prompt_pair"])
@pytest.mark.parametrize("row", ROWS)
def test_logits_are_the_cosines_of_image_and_prompt_over_the_temperature(row, score):
    training = tiny.new_training(config(**ROWS[row], score=score, temperature=0.1))
    objective, cache, task = training.config.recipe(1).objective, training.feature_cache, training.task
    modules = {name: make() for name, make in objective.modules(cache.feature_map, task).items()}
    maps = cache.trunk_features("val")[:3]
    with torch.no_grad():
        found = objective.logits(maps, modules).numpy()
        images = objective.image_features(maps, modules).numpy()
        context, tokens = modules["prompts"].context, cache.clip.tokenize(list(task.classes))
        texts = [cache.clip.prompt_features(words.expand(20, -1, -1), tokens).numpy() for words in context]
    for n, c in itertools.product(range(3), range(20)):
        image = images[n, c if row not in ("CoOp", "csp") else 0]
        cosine = [
            image @ text[k] / np.linalg.norm(image) / np.linalg.norm(text[k]) for text in texts for k in range(20)
        ]
        scores = np.array(cosine).reshape(len(texts), 20) / 0.1
        if score == "sigmoid":
            expected = scores[0, c]
        elif score == "prompt_pair":
            expected = scores[0, c] - scores[1, c]
        elif row in ("CoOp", "csp"):
            expected = scores[0, c] - np.log(np.exp(np.delete(scores[0], c)).sum())
        else:
            continue  # each class has an image feature of its own: log_odds is tested above
        assert found[n, c] == pytest.approx(expected, abs=2e-4)


def test_a_scale_that_is_learned_starts_from_the_temperature():
    score = Score(0.05, scale_learned=True, bias_learned=True)
    assert score(torch.tensor(0.5)).item() == pytest.approx(10)
    assert {name for name, _ in score.named_parameters()} == {"log_scale", "bias"}
    assert not list(Score(0.05, scale_learned=False, bias_learned=False).parameters())


def expected_parameters(row: str, words: int = 20, length: int = 3) -> int:
    """By the sizes of the embedded CLIP: a map of 256 channels, words of 32 numbers and texts of 64."""
    prompts = length * 32 * (1 if row in ("CoOp", "SD") else 20)
    projection = 256 * 64 + 64
    decoupling = {
        "CoOp": 0,
        "csp": 0,
        "SA": 256 * 20 + 256 * 256 + 256 + projection,
    }.get(row, 256 * 16 + words * 16 + 16 * 16 + 16 + 16 + 1 + projection)
    return prompts + decoupling + 1  # the bias


@pytest.mark.parametrize("row", ROWS)
def test_only_prompts_decoupling_and_bias_are_trained_and_the_encoder_stays_bit_for_bit(row):
    training = tiny.new_training(config(**ROWS[row], **{"train.epochs": 1}))
    before = {name: tensor.clone() for name, tensor in training.feature_cache.clip.state_dict().items()}
    state, _ = training.advance(training.initial_state(), 1)
    trained = {name: tensor for name, tensor in state.items() if name.startswith("module/")}
    assert sum(tensor.numel() for tensor in trained.values()) == expected_parameters(row)
    start = fit_modules(training)
    assert not any(
        torch.equal(trained[name], start[name]) for name in trained if not name.endswith(("fc3.bias", "fc4.bias"))
    )
    assert not tiny.different(before, training.feature_cache.clip.state_dict())
    assert not any(parameter.requires_grad for parameter in training.feature_cache.clip.parameters())


def fit_modules(training: Training):
    """Initial weights as the training loop makes them."""
    from methods.training.loop import _module_state, _modules

    objective = training.config.recipe(1).objective
    modules = _modules({}, objective, training.task, training.feature_cache, training.config.seed)
    return _module_state(modules)


def test_the_second_trial_on_the_same_pictures_trains_without_touching_an_image(tmp_path, monkeypatch):
    values = {**tiny.TINY, **PromptLearning.quick, "train.epochs": 2}
    clip_features.prepare.cache_clear()
    first = fit("prompt_learning", values, cache_folder=tmp_path)
    clip_features.prepare.cache_clear()

    def refuse(*_):
        raise AssertionError("an image was looked at")

    monkeypatch.setattr(clips.Clip, "normalise", refuse)
    monkeypatch.setattr(clips.Clip, "forward", refuse)
    second = fit("prompt_learning", {**values, "prompts": "shared", "data.known": 0.9}, cache_folder=tmp_path)
    assert second.history[0] != first.history[0]
    again = fit("prompt_learning", values, cache_folder=tmp_path)
    assert not tiny.different(again.state, first.state)


def test_made_once_are_the_maps_of_all_images_or_with_views_of_those_that_are_scored(tmp_path):
    values = tiny.tiny("prompt_learning")
    made = []
    for augmentation in ("shift", "none"):
        clip_features.prepare.cache_clear()
        config = resolve({**values, "train.augmentation": augmentation})
        Training(config, tmp_path).make()
        named = made_once(config.data, config.network, config.train.compute(), views=augmentation != "none")
        assert all(Store(tmp_path).has(*one) for one in named)
        made.append({record.name for record in Store(tmp_path).records()})
    scored = {"pretrained", "features-val", "features-test"}
    assert made == [scored, scored | {"features-train"}]


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_maps_made_once_are_of_the_trials_precision(tmp_path, monkeypatch, precision):
    values = tiny.tiny("prompt_learning", **{"train.precision": precision})
    clip_features.prepare.cache_clear()
    allowed, through = [], clip_features.ClipFeatureCache.through_trunk

    def noting(self, images, change=None):
        allowed.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return through(self, images, change)

    monkeypatch.setattr(clip_features.ClipFeatureCache, "through_trunk", noting)
    Training(resolve(values), tmp_path).make()
    assert set(allowed) == {(precision == "tf32",) * 2}


def test_features_are_what_the_encoder_makes_of_the_images_and_are_not_held_in_memory():
    cache = tiny.new_training(config()).feature_cache
    for split in ("train", "val", "test"):
        with torch.no_grad():
            expected = cache.clip(cache.clip.normalise(cache.images(split)))
        torch.testing.assert_close(cache.trunk_features(split), expected, rtol=1e-5, atol=1e-5)
    key = clip_features.features_key(pictures_only(config().data), config().network, config().train.compute())
    array = cache._store.mapped(key, "features-val", 16, lambda: pytest.fail("made twice"))
    assert isinstance(array, np.memmap) and array.shape == (16, 256, 6, 6)


def test_crops_are_taken_from_images_in_the_size_that_they_are_stored_in(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_IMAGES", str(tmp_path / "images"))
    root = miniatures.write("coco2014", tmp_path / "data")
    network = {"backbone": "open_clip", "clip_model": "RN50-quickgelu", "clip_weights": "random"}
    own = {"data.dataset": "coco2014", "data.root": str(root), "data.image_size": 64}
    own |= {f"network.{name}": value for name, value in network.items()}
    own |= {"method": "prompt_learning", "train.epochs": 1, "train.batch_size": 4, "data.val_fraction": 0.25}
    read = Training(resolve(own), tmp_path).feature_cache.images
    assert (read("train").shape[-1], read("train", stored=True).shape[-1]) == (64, 512)


def test_features_that_are_damaged_are_computed_again(tmp_path):
    values = {**tiny.TINY, **PromptLearning.quick, "train.epochs": 1}
    clip_features.prepare.cache_clear()
    first = fit("prompt_learning", values, cache_folder=tmp_path)
    [path] = tmp_path.rglob("features-train")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    clip_features.prepare.cache_clear()
    with pytest.warns(DamagedRecordWarning):
        again = fit("prompt_learning", values, cache_folder=tmp_path)
    assert not tiny.different(again.state, first.state)
    assert path.read_bytes() == whole


def test_a_store_that_cannot_be_written_costs_time_alone(tmp_path, monkeypatch):
    values = {**tiny.TINY, **PromptLearning.quick, "train.epochs": 1}
    clip_features.prepare.cache_clear()
    first = fit("prompt_learning", values, cache_folder=tmp_path / "good")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    clip_features.prepare.cache_clear()
    monkeypatch.setattr("methods.cache.store.replacing", full)
    with pytest.warns(UserWarning, match="No space left on device.; features-train not kept"):
        result = fit("prompt_learning", values, cache_folder=tmp_path / "full")
    assert not tiny.different(result.state, first.state)


def test_what_needs_prompts_needs_a_clip_and_says_so_before_anything_starts():
    with pytest.raises(SettingError, match="digit_clip | open_clip, which prompt_learning needs"):
        resolve({"method": "prompt_learning"})


def test_other_methods_train_on_a_frozen_clip_too():
    values = {**tiny.TINY, "network.backbone": "digit_clip", "train.epochs": 1, "train.augmentation": "shift"}
    state = fit("assume_negative", values, cache_folder=tiny.folder()).state
    assert state["module/classifier/linear.weight"].shape == (20, 256)


@pytest.mark.parametrize("row", ["CoOp", "both", "SA"])
def test_attention_is_a_map_per_class(row):
    training = tiny.new_training(config(**ROWS[row]))
    objective = training.config.recipe(1).objective
    modules = {
        name: make() for name, make in objective.modules(training.feature_cache.feature_map, training.task).items()
    }
    with torch.no_grad():
        maps = objective.attention(training.feature_cache.trunk_features("val")[:2], modules)
    assert maps.shape == (2, 20, 6, 6) and maps.std((2, 3)).min() > 0


def test_features_of_prompts_are_kept_while_nothing_is_learned_and_follow_the_words():
    training = tiny.new_training(config())
    objective = training.config.recipe(1).objective
    prompts = objective.modules(training.feature_cache.feature_map, training.task)["prompts"]()
    with torch.no_grad():
        first = prompts()
        assert prompts() is first
        prompts.context.mul_(2)
        changed = prompts()
    assert not torch.equal(changed, first)
    torch.testing.assert_close(prompts(), changed)
    assert prompts().requires_grad
