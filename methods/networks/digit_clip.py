"""The embedded CLIP: a small model of open_clip, pre-trained on images and captions of digits that no task contains.

A caption names the objects: "red three and blue five". The images are first single digits of four colours, then scenes
of the pre-training digits; both are trained with CLIP's contrastive loss. The embedding of a single digit is the mean
of the embeddings at all positions of its 3 x 3 map, so that single positions become comparable with texts too.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.randomness import numpy_generator, seeded
from ..data import digit_scenes
from .clip import Clip

WIDTH = 8  # channels of the first stage; the map has 32 times as many
SHIFT = 3  # the largest shift of a batch of single digits in each direction, in pixels

BATCH = 64
LEARNING_RATE = 3e-3
LARGEST_SCALE = 100.0  # the largest factor of the cosines, as in CLIP

MEAN = STD = (0.5, 0.5, 0.5)
WORDS = (*digit_scenes.COLOURS, *digit_scenes.DIGITS, "and")
CONTEXT = 24  # tokens; a scene of six objects needs 19, a prompt of 16 learned words and a name 20


def untrained(*seed: int | str) -> Clip:
    """The model with random weights from `seed`: (B, 3, 48, 48) to (B, 256, 6, 6).

    The architecture was chosen by val mAP on draw 0 with half of the labels known: the paper's method reaches 91.8,
    CoOp 53.4. With a width of 4, the first convolutions have two channels and the paper's method reaches 48.5. With a
    third block of stage three in place of the last stage, it reaches 55 after five epochs instead of 82. A text encoder
    of half the width costs little.
    """
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    # With a stride of 32, this image size gives an attention pooling for a map of 6 x 6.
    vision = CLIPVisionCfg(layers=(1, 1, 1, 1), width=WIDTH, image_size=6 * 32)
    text = CLIPTextCfg(context_length=CONTEXT, vocab_size=len(WORDS) + 3, width=32, heads=4, layers=2)
    with seeded(*seed, "clip"):
        model: Any = CLIP(64, vision, text)
    # The images are small, so the stride is reduced to 8.
    model.visual.avgpool = nn.Identity()
    block = model.visual.layer4[0]
    block.avgpool, block.downsample[0] = nn.Identity(), nn.Identity()
    return Clip(model, tokenize, nn.Identity(), mean=MEAN, std=STD)


def tokenize(texts: list[str]) -> Tensor:
    """Tokens (K, CONTEXT) int64 of texts: 1 as start, then the words, then the largest number as end, then zeros."""
    rows = torch.zeros(len(texts), CONTEXT, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        tokens = [1, *(WORDS.index(word) + 2 for word in text.split()), len(WORDS) + 2]
        row[: len(tokens)] = torch.tensor(tokens)
    return rows


def pretrain(images: int, epochs: int) -> dict[str, Tensor]:
    """Weights after `epochs` on `images` single digits, then `epochs` on half as many scenes. Call it on one thread.

    The loss is CLIP's, but all images with the same caption count as right answers, because single digits have only 40
    different captions. AdamW with a one-cycle learning rate.
    """
    clip = untrained("pretrain").train().requires_grad_(True)
    clip.model.visual.to(memory_format=torch.channels_last)  # half the time, on a CPU
    optimizer = torch.optim.AdamW(clip.parameters(), lr=LEARNING_RATE, fused=True)
    stages = [_single_digits(images), _scenes(images // 2)]
    steps = sum(-(-len(pictures) // BATCH) for pictures, _ in stages) * epochs
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for stage, (pictures, objects) in enumerate(stages):
        for epoch in range(1, epochs + 1):
            rng = numpy_generator("pretrain", "clip", stage, epoch)
            for rows in np.array_split(rng.permutation(len(pictures)), -(-len(pictures) // BATCH)):
                captions = [_caption(rng.permutation(objects[row])) for row in rows]
                pixels = clip.normalise(pictures[rows])
                if pixels.shape[-1] < digit_scenes.CANVAS:
                    shift = rng.integers(-SHIFT, SHIFT + 1, size=2).tolist()
                    of_images = clip.at_positions(clip(_channels_last(pixels.roll(shift, (2, 3))))).mean((2, 3))
                else:
                    of_images = clip.pooled(clip(_channels_last(pixels)))
                loss = contrastive_loss(clip, of_images, captions)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in clip.state_dict().items()
    }


def contrastive_loss(clip: Clip, of_images: Tensor, captions: list[str]) -> Tensor:
    """CLIP's loss, a scalar, of image embeddings (B, E) and their captions: the mean cross-entropy of captions given
    images and images given captions. Equal captions share the target probability."""
    different = list(dict.fromkeys(captions))
    which = torch.tensor([different.index(caption) for caption in captions])
    images = nn.functional.normalize(of_images, dim=1)
    texts = nn.functional.normalize(clip.text_features(different), dim=1)[which]
    logits = clip.model.logit_scale.exp().clamp(max=LARGEST_SCALE) * images @ texts.T
    same = (which[:, None] == which).to(logits.dtype)
    right = same / same.sum(1, keepdim=True)
    return (nn.functional.cross_entropy(logits, right) + nn.functional.cross_entropy(logits.T, right)) / 2


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last)


def _single_digits(count: int) -> tuple[Tensor, list[list[int]]]:
    crops, labels = digit_scenes.pretraining_crops(count)
    return torch.from_numpy(crops), [[label] for label in labels.tolist()]


def _scenes(count: int) -> tuple[Tensor, list[list[int]]]:
    # The type of `split` allows only the splits of a task, so the pre-training digits need a cast.
    scenes = digit_scenes.scenes(0, cast(Any, "pretrain"), count)
    return torch.from_numpy(scenes.images), [np.flatnonzero(row > 0).tolist() for row in scenes.labels]


def _caption(objects: np.ndarray) -> str:
    return " and ".join(digit_scenes.CROP_CLASSES[index] for index in objects)
