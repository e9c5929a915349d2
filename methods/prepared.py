"""What trials on the same pictures with the same backbone have in common, made once per process and kept: images, the
frozen part of the backbone and its features, and the initial weights of the part that is trained.

Nothing here depends on a method, nor on which labels are given. Arrays are read-only by convention.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import data
from .contract import FeatureMap
from .data import DataSettings
from .keys import digest, fingerprint
from .networks import digit_conv
from .networks.settings import NetworkSettings
from .platforms import deterministic, identity
from .store import Store

# Convolutions may sum in another order for another batch size, so features are always made in chunks of this many.
CHUNK = 256


class Prepared:
    """Pictures and a backbone, ready for training.

    `trunk` are the frozen blocks, in eval mode; `tail` the trained ones with their initial weights (copy before
    training); `features` is what a head needs to know of the feature map; `batch_norm_trains`: the trained blocks
    normalise by batch.
    """

    def __init__(self, settings: DataSettings, network: NetworkSettings, seed: int, cache_folder: Path):
        task = data.load(settings)
        self._splits = {"train": task.train, "val": task.val, "test": task.test}
        self.features = FeatureMap(digit_conv.WIDTH, network.pooling)
        self.batch_norm_trains = network.batch_norm == "train"
        with deterministic(threads=1):
            backbone = _backbone(network, seed, cache_folder)
            if not self.batch_norm_trains:
                _estimate_batch_norm(backbone, self.images("train"))
        backbone.eval()
        self.trunk: nn.Module = backbone[: network.frozen_blocks]
        self.tail: nn.Module = backbone[network.frozen_blocks :]
        self.trunk.requires_grad_(False)
        self._kept: dict[str, Tensor] = {}
        self._tail_kept: dict[str, Tensor] = {}
        self._tail_weights: dict[str, Tensor] = {}

    def images(self, name: str, *, stored: bool = False) -> Any:
        """uint8 (N, 3, H, W) of a split: a tensor, or what is indexed and split like one and reads them then. `stored`:
        in the size that they are stored in, instead of the one that the network sees."""
        images = self._splits[name].images
        if isinstance(images, np.ndarray):
            return torch.from_numpy(images)
        return images.stored if stored else images

    def trunk_features(self, name: str) -> Tensor:
        """What the frozen blocks make of a split's images, (N, D', H', W') float32; computed once."""
        if name not in self._kept:
            with deterministic(threads=1):
                chunks = [self.through_trunk(chunk) for chunk in self.images(name).split(CHUNK)]
            self._kept[name] = torch.cat(chunks)
        return self._kept[name]

    @torch.no_grad()
    def tail_features(self, tail: nn.Module, name: str) -> Tensor:
        """What `tail`, trained blocks in eval mode, makes of a split's images, (N, D, H, W) float32.

        The whole map, because a method may need more of it than a pooled vector. Kept for the weights asked for last:
        while the backbone is frozen they are the same in every epoch and trial.
        """
        weights = tail.state_dict()
        if not _equal(weights, self._tail_weights):
            self._tail_weights = {key: tensor.clone() for key, tensor in weights.items()}
            self._tail_kept = {}
        if name not in self._tail_kept:
            with deterministic(threads=1):
                chunks = [tail(chunk) for chunk in self.trunk_features(name).split(CHUNK)]
            self._tail_kept[name] = torch.cat(chunks)
        return self._tail_kept[name]

    @torch.no_grad()
    def through_trunk(self, images: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """uint8 images (B, 3, H, W), or what `change` makes of them once normalised, through the frozen blocks."""
        pixels = digit_conv.normalise(images)
        return self.trunk(change(pixels) if change else pixels)

    def trainable_backbone(self) -> nn.Module:
        """A copy of the trained blocks with their initial weights."""
        return copy.deepcopy(self.tail)


@functools.lru_cache(maxsize=4)
def prepare(settings: DataSettings, network: NetworkSettings, seed: int, cache_folder: Path) -> Prepared:
    """`Prepared`, kept for the last few sets of pictures of this process (call it with `data.pictures_only`)."""
    return Prepared(settings, network, seed, cache_folder)


def pretrained_key(network: NetworkSettings) -> str:
    """Under which the pre-trained backbone is kept: what makes it, and on which platform."""
    return digest(
        {
            "network": "digit_conv",
            "images": network.pretrain_images,
            "epochs": network.pretrain_epochs,
            "code": fingerprint("methods.networks.digit_conv"),
            "platform": identity(),
        }
    )


def pretrained_weights(network: NetworkSettings, cache_folder: Path) -> dict[str, Tensor]:
    """The pre-trained backbone, made once per recipe and platform."""

    def make() -> dict[str, Tensor]:
        with deterministic(threads=1):
            return digit_conv.pretrain(network.pretrain_images, network.pretrain_epochs)

    return Store(cache_folder).made_once(pretrained_key(network), "pretrained", make)


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def _backbone(network: NetworkSettings, seed: int, cache_folder: Path) -> nn.Sequential:
    backbone = digit_conv.blocks(seed, "backbone")
    if network.pretrain_epochs:
        backbone.load_state_dict(pretrained_weights(network, cache_folder))
    return backbone


@torch.no_grad()
def _estimate_batch_norm(backbone: nn.Module, images: Tensor) -> None:
    """Batch-norm statistics become those of these images (their plain average over chunks); no labels are used."""
    norms = [module for module in backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    backbone.train()
    for chunk in images.split(CHUNK):
        backbone(digit_conv.normalise(chunk))
    for norm in norms:
        norm.momentum = 0.1
