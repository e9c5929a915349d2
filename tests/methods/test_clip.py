"""The frozen CLIP against open_clip's own forward passes, and how the embedded one is pre-trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from methods.data import digit_scenes
from methods.networks import digit_clip
from methods.training.platforms import deterministic
from methods.training.recipes import TrainSettings, recipe
from methods.training.registry import methods

TEXTS = ["red three", "blue five and red three and green zero", "yellow nine and blue nine"]


@pytest.fixture(scope="module")
def clip():
    return digit_clip.untrained("a test")


def pixels(count):
    return torch.randn(count, 3, 48, 48, generator=torch.Generator().manual_seed(1))


def test_a_map_and_its_pooling_are_what_open_clip_makes_of_an_image(clip):
    whole = digit_clip.untrained("a test")
    maps = clip(pixels(2))
    assert maps.shape == (2, clip.width, 6, 6)
    whole.model.visual.attnpool = whole.attention_pool  # as it was before
    torch.testing.assert_close(clip.pooled(maps), whole.model.encode_image(pixels(2)))
    assert clip.pooled(maps).shape == (2, clip.embedding_width)


def test_a_map_of_another_size_is_not_for_its_pooling(clip):
    maps = clip(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"a map of 6 x 6, not of 4 x 4: take images of the size"):
        clip.pooled(maps)


def test_texts_are_encoded_as_by_open_clip_whatever_is_left_out_behind_their_ends(clip):
    expected = clip.model.encode_text(digit_clip.tokenize(TEXTS))
    torch.testing.assert_close(clip.text_features(TEXTS), expected, rtol=1e-5, atol=1e-6)


def test_a_prompt_whose_context_are_the_vectors_of_words_is_the_text_with_these_words(clip):
    context = clip.model.token_embedding(digit_clip.tokenize(["green four and"])[:, 1:4]).expand(2, -1, -1)
    found = clip.prompt_features(context, digit_clip.tokenize(["red three", "blue"]))
    expected = clip.text_features(["green four and red three", "green four and blue"])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_prompt_that_is_too_long_is_refused(clip):
    with pytest.raises(ValueError, match="a prompt of 25 tokens: this CLIP reads at most 24"):
        clip.prompt_features(torch.zeros(1, 21, clip.word_width), digit_clip.tokenize(["red three"]))


def test_a_position_stands_where_a_whole_image_of_its_kind_does(clip):
    alike = torch.randn(1, clip.width, 1, 1, generator=torch.Generator().manual_seed(2)).expand(1, -1, 6, 6)
    with torch.no_grad():
        clip.attention_pool.positional_embedding.zero_()
    at_positions = clip.at_positions(alike)
    assert at_positions.shape == (1, clip.embedding_width, 6, 6)
    torch.testing.assert_close(at_positions[..., 2, 3], clip.pooled(alike), rtol=1e-4, atol=1e-5)


def test_names_of_all_classes_are_different_texts_of_known_words():
    tokens = digit_clip.tokenize(list(digit_scenes.CROP_CLASSES))
    assert len({tuple(row.tolist()) for row in tokens}) == 40
    assert (tokens[:, 3] == tokens.max()).all() and (tokens[:, 4:] == 0).all()
    longest = " and ".join(digit_scenes.CLASSES[:6])
    assert digit_clip.tokenize([longest]).argmax() == 18


def test_equal_captions_share_the_right_answer_and_others_are_told_apart_as_in_clip():
    clip = digit_clip.untrained("loss").train()  # batch norm by the batch: unlike images have unlike features
    images, captions = pixels(3), ["red three", "red three", "blue five"]
    with torch.no_grad():
        of_images, of_texts = clip.pooled(clip(images)), clip.text_features(captions)
        found = digit_clip.contrastive_loss(clip, of_images, captions)
        cosines = nn.functional.cosine_similarity(of_images[:, None], of_texts[None], dim=2)
        logits = cosines * clip.model.logit_scale.exp()
        log_p, log_q = logits.log_softmax(1), logits.log_softmax(0)
    rows = [-(log_p[0, 0] + log_p[0, 1]) / 2, -(log_p[1, 0] + log_p[1, 1]) / 2, -log_p[2, 2]]
    columns = [-(log_q[0, 0] + log_q[1, 0]) / 2, -(log_q[0, 1] + log_q[1, 1]) / 2, -log_q[2, 2]]
    torch.testing.assert_close(found, (sum(rows) + sum(columns)) / 6)


def test_pre_training_is_the_same_each_time_and_moves_all_but_what_no_caption_reaches():
    with deterministic(threads=1):
        one, other = digit_clip.pretrain(64, 1), digit_clip.pretrain(64, 1)
    assert all(torch.equal(one[name], other[name]) for name in one)
    start = digit_clip.untrained("pretrain").state_dict()
    assert all(not torch.equal(tensor, start[name]) for name, tensor in one.items() if tensor.dim() > 1)


def test_warm_up_is_a_rate_of_its_own_and_the_schedule_starts_after_it():
    method = methods()["assume_negative"](methods()["assume_negative"].Settings())
    paper = {"optimizer": "sgd", "learning_rate": 0.002, "epochs": 100, "schedule": "cosine"}
    with_warmup = TrainSettings(**paper, warmup="constant", warmup_epochs=1, warmup_learning_rate=5e-4)
    rates = [recipe(method, with_warmup, epoch).learning_rate_head for epoch in (1, 2, 3, 52)]
    assert rates[:2] == [0.0005, 0.002]
    plain = [recipe(method, TrainSettings(**paper), epoch).learning_rate_head for epoch in (1, 2, 51)]
    assert rates[1:] == plain
    assert rates[3] == pytest.approx(0.001)
