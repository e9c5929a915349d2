"""The embedded world's CLIP: open_clip's model, small, pre-trained on captions of digits that no scene of a task shows.

Captions name what is seen: "red three and blue five". Images are single digits, moved about, of four colours, and then
scenes from the pre-training digits; both in contrastive batches.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..data import digit_scenes
from ..randomness import numpy_generator, seeded
from .clip import Clip

BATCH = 64
LEARNING_RATE = 3e-3
LARGEST_SCALE = 100.0  # of cosines, as in CLIP

MEAN = STD = (0.5, 0.5, 0.5)
WORDS = (*digit_scenes.COLOURS, *digit_scenes.DIGITS, "and")
CONTEXT = 24  # tokens: of a scene of six objects 19, of a prompt of 16 learned words and a name 20


def untrained(*seed: int | str) -> Clip:
    """The model with random weights from `seed`; (B, 3, 48, 48) to (B, 128, 6, 6)."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    # Sizes its attention pooling for a map of 6 x 6, by a stride of 32.
    vision = CLIPVisionCfg(layers=(1, 1, 1, 1), width=4, image_size=6 * 32)
    text = CLIPTextCfg(context_length=CONTEXT, vocab_size=len(WORDS) + 3, width=64, heads=4, layers=2)
    with seeded(*seed, "clip"):
        model: Any = CLIP(64, vision, text)
    # The stride is 8 instead: these images are small.
    model.visual.avgpool = nn.Identity()
    block = model.visual.layer4[0]
    block.avgpool, block.downsample[0] = nn.Identity(), nn.Identity()
    return Clip(model, tokenize, nn.Identity(), mean=MEAN, std=STD)


def tokenize(texts: list[str]) -> Tensor:
    """Tokens (K, CONTEXT) int64: 1 starts a text, its words follow, the largest number ends it, 0 fills up."""
    rows = torch.zeros(len(texts), CONTEXT, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        tokens = [1, *(WORDS.index(word) + 2 for word in text.split()), len(WORDS) + 2]
        row[: len(tokens)] = torch.tensor(tokens)
    return rows


def pretrain(images: int, epochs: int) -> dict[str, Tensor]:
    """Weights after `epochs` on `images` single digits and then as many on half as many scenes. Call it on one thread.

    The loss is CLIP's, but that images with the same caption are not told apart: there are 40 of single digits. AdamW
    with a one-cycle rate.
    """
    clip = untrained("pretrain").train().requires_grad_(True)
    optimizer = torch.optim.AdamW(clip.parameters(), lr=LEARNING_RATE)
    stages = [_single_digits(images), _scenes(images // 2)]
    steps = sum(-(-len(pictures) // BATCH) for pictures, _ in stages) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for stage, (pictures, objects) in enumerate(stages):
        for epoch in range(1, epochs + 1):
            rng = numpy_generator("pretrain", "clip", stage, epoch)
            for rows in np.array_split(rng.permutation(len(pictures)), -(-len(pictures) // BATCH)):
                captions = [_caption(rng.permutation(objects[row])) for row in rows]
                loss = contrastive_loss(clip, clip.normalise(_placed(pictures[rows], rng)), captions)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return {name: tensor.detach().clone() for name, tensor in clip.state_dict().items()}


def contrastive_loss(clip: Clip, images: Tensor, captions: list[str]) -> Tensor:
    """CLIP's loss, a scalar: cross-entropy of which caption is an image's and of which image is a caption's, the right
    answers sharing where captions are equal."""
    of_images = nn.functional.normalize(clip.pooled(clip(images)), dim=1)
    of_texts = nn.functional.normalize(clip.text_features(captions), dim=1)
    logits = clip.model.logit_scale.exp().clamp(max=LARGEST_SCALE) * of_images @ of_texts.T
    same = torch.tensor([[one == other for other in captions] for one in captions], dtype=logits.dtype)
    right = same / same.sum(1, keepdim=True)
    return (nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)) / 2


def _single_digits(count: int) -> tuple[Tensor, list[list[int]]]:
    crops, labels = digit_scenes.pretraining_crops(count)
    return torch.from_numpy(crops), [[label] for label in labels.tolist()]


def _scenes(count: int) -> tuple[Tensor, list[list[int]]]:
    # Its type names the splits of a task; these digits are in none.
    scenes = digit_scenes.scenes(0, cast(Any, "pretrain"), count)
    return torch.from_numpy(scenes.images), [np.flatnonzero(row > 0).tolist() for row in scenes.labels]


def _caption(objects: np.ndarray) -> str:
    return " and ".join(digit_scenes.CROP_CLASSES[index] for index in objects)


def _placed(images: Tensor, rng: np.random.Generator) -> Tensor:
    """Images (B, 3, h, w) somewhere on the canvas, one place for all; what is around them repeats their edges."""
    room = digit_scenes.CANVAS - images.shape[-1]
    left, top = rng.integers(room + 1, size=2).tolist()
    padding = (left, room - left, top, room - top)
    return nn.functional.pad(images.float(), padding, mode="replicate").to(torch.uint8) if room else images
