"""What trials on the same pictures with the same backbone have in common, made once per process and kept: images, the
frozen part of the backbone and its features, and the initial weights of the part that is trained.

Features of a split are kept in memory where they are small, else made whenever they are asked for, from images that are
read a step ahead. Which of both is a matter of the settings and the number of images alone, never of the machine.

Nothing here depends on a method, nor on which labels are given. Arrays are read-only by convention.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import data
from ..cache.keys import digest, fingerprint
from ..cache.store import Store
from ..contract.head import FeatureMap
from ..contract.settings import SettingError
from ..data import DataSettings
from ..networks import backbones
from ..networks.backbones import Backbone
from ..networks.settings import NetworkSettings
from .platforms import Compute, deterministic, identity
from .prefetch import Ahead

# Convolutions may sum in another order for another batch size, so features are always made in chunks of one size: so
# many images, or fewer where they are large, whose first maps would fill the memory.
CHUNK = 256
CHUNK_PIXELS = 2**22
# Features of a split that are larger are not kept.
KEPT_BYTES = 2 * 10**9

Reader = Callable[[Tensor], Tensor]


class Prepared:
    """Pictures and a backbone, ready for training.

    `trunk` are the frozen blocks, in eval mode; `tail` the trained ones with their initial weights (copy before
    training); `features` is what a head needs to know of the feature map; `batch_norm_trains`: the trained blocks
    normalise by batch; `chunk`: images at a time where no batch says how many; `waited`: seconds, so far, in which
    computing waited for images (for benchmarks).
    """

    waited = 0.0

    def __init__(
        self,
        settings: DataSettings,
        network: NetworkSettings,
        seed: int,
        cache_folder: Path,
        compute: Compute = Compute(),  # noqa: B008 (it is frozen)
    ):
        task = data.load(settings)
        self._splits = {"train": task.train, "val": task.val, "test": task.test}
        self.compute, self.device = compute, torch.device(compute.device)
        self.backbone = backbones.of(network)
        self.features = FeatureMap(self.backbone.width, network.pooling)
        self.batch_norm_trains = network.batch_norm == "train"
        # On the CPU, so that an initial state is the same on any device.
        with deterministic(threads=1):
            blocks = initial_backbone(network, seed, cache_folder)
            if self.backbone.re_estimated and not self.batch_norm_trains:
                _estimate_batch_norm(blocks, self.backbone, *self.chunks("train"))
        blocks.eval()
        side = self.images("train").shape[-1]
        # Of the features of an image, without the trained blocks and with them.
        self._bytes = feature_bytes(blocks[: network.frozen_blocks], side), feature_bytes(blocks, side)
        if compute.channels_last:
            blocks.to(memory_format=torch.channels_last)
        self.trunk: nn.Module = blocks[: network.frozen_blocks].to(self.device)
        self.tail: nn.Module = blocks[network.frozen_blocks :]
        if compute.compile:
            self.trunk.compile()
        self.trunk.requires_grad_(False)
        self._compiled: nn.Module | None = None
        self._kept: dict[str, Tensor] = {}
        self._tail_kept: dict[str, Tensor] = {}
        self._tail_weights: dict[str, Tensor] = {}

    @functools.cached_property
    def chunk(self) -> int:
        side = self.images("train").shape[-1]
        return min(CHUNK, 1 << max(CHUNK_PIXELS // side**2, 1).bit_length() - 1)

    def images(self, name: str, *, stored: bool = False) -> Any:
        """uint8 (N, 3, H, W) of a split: a tensor, or what is indexed and split like one and reads them then. `stored`:
        in the size that they are stored in, instead of the one that the network sees."""
        images = self._splits[name].images
        if isinstance(images, np.ndarray):
            return torch.from_numpy(images)
        return images.stored if stored else images

    def image_reader(self, name: str, steps: Sequence[Tensor], *, stored: bool = False) -> Reader:
        """A function from rows (B,) of a split to its `images` on the device; rows of `steps`, asked for in this order,
        are read ahead."""
        images = self.images(name, stored=stored)
        if isinstance(images, Tensor):
            there = images.to(self.device)
            return lambda rows: there[rows]
        return Ahead(images, steps, self.device, self._note_wait)

    def trunk_reader(self, name: str, images: Reader) -> Reader:
        """A function from rows (B,) of a split to what the frozen blocks make of them, (B, D', H', W'). Where that is
        not kept it is made of `images`."""
        if self._kept_without_tail(name):
            kept = self.trunk_features(name)
            return lambda rows: kept[rows]
        return lambda rows: self.through_trunk(images(rows))

    def tail_reader(self, tail: nn.Module, name: str, images: Reader) -> Reader:
        """As `trunk_reader`, with what `tail`, trained blocks in eval mode that stay as they are, makes of it,
        (B, D, H, W) float32: the whole map, because a method may need more of it than a pooled vector."""
        if self._kept_with_tail(name):
            kept = self.tail_features(tail, name)
            return lambda rows: kept[rows]
        read = self.trunk_reader(name, images)
        return torch.no_grad()(lambda rows: self.through_tail(tail, read(rows)))

    def trunk_features(self, name: str) -> Tensor:
        """What the frozen blocks make of a split's images, (N, D', H', W') float32; computed once and kept."""
        if name not in self._kept:
            steps, images = self.chunks(name)
            with deterministic(threads=1):
                self._kept[name] = torch.cat([self.through_trunk(images(rows)) for rows in steps])
        return self._kept[name]

    @torch.no_grad()
    def tail_features(self, tail: nn.Module, name: str) -> Tensor:
        """What `tail` makes of a split's images, (N, D, H, W) float32.

        Kept for the weights asked for last: while the backbone is frozen they are the same in every epoch and trial.
        """
        weights = tail.state_dict()
        if not _equal(weights, self._tail_weights):
            self._tail_weights = {key: tensor.clone() for key, tensor in weights.items()}
            self._tail_kept = {}
        if name not in self._tail_kept:
            steps, images = self.chunks(name)
            read = self.trunk_reader(name, images)
            with deterministic(threads=1):
                self._tail_kept[name] = torch.cat([self.through_tail(tail, read(rows)) for rows in steps])
        return self._tail_kept[name]

    @torch.no_grad()
    def through_trunk(self, images: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """uint8 images (B, 3, H, W), or what `change` makes of them once normalised, through the frozen blocks."""
        pixels = self.backbone.normalise(images.to(self.device))
        return self._through(self.trunk, change(pixels) if change else pixels)

    def through_tail(self, tail: nn.Module, maps: Tensor) -> Tensor:
        """What the trunk made of images through `tail`, trained blocks, (B, D, H, W) float32."""
        return self._through(tail, maps).float()

    def _through(self, blocks: nn.Module, maps: Tensor) -> Tensor:
        if self.compute.channels_last:
            maps = maps.contiguous(memory_format=torch.channels_last)
        with self.compute.autocast():
            return blocks(maps)

    def trainable_backbone(self) -> nn.Module:
        """The trained blocks with their initial weights, on the device: a copy, but the same one again where it is
        compiled, which takes long."""
        if not self.compute.compile:
            return copy.deepcopy(self.tail).to(self.device)
        if self._compiled is None:
            self._compiled = copy.deepcopy(self.tail).to(self.device)
            self._compiled.compile()
        self._compiled.load_state_dict(self.tail.state_dict())
        return self._compiled

    def chunks(self, name: str, among: Tensor | None = None) -> tuple[Sequence[Tensor], Reader]:
        """The rows of a split, or `among` them, in chunks of a fixed size, and an `image_reader` for them."""
        rows = torch.arange(len(self.images(name))) if among is None else among
        steps = rows.split(self.chunk)
        return steps, self.image_reader(name, steps)

    def _kept_without_tail(self, name: str) -> bool:
        return len(self.images(name)) * self._bytes[0] <= KEPT_BYTES

    def _kept_with_tail(self, name: str) -> bool:
        return len(self.images(name)) * self._bytes[1] <= KEPT_BYTES

    def _note_wait(self, seconds: float) -> None:
        self.waited += seconds


@functools.lru_cache(maxsize=4)
def prepare(
    settings: DataSettings,
    network: NetworkSettings,
    seed: int,
    cache_folder: Path,
    compute: Compute = Compute(),  # noqa: B008
) -> Prepared:
    """`Prepared`, kept for the last few sets of pictures of this process (call it with `data.pictures_only`)."""
    return Prepared(settings, network, seed, cache_folder, compute)


def feature_bytes(blocks: nn.Module, side: int) -> int:
    """Bytes of what blocks make of an image `side` pixels wide and high, in float32."""
    return 4 * _output(blocks, side).numel()


def weights_key(network: NetworkSettings) -> str | None:
    """Under which initial weights of the backbone are kept, None for random ones: what they are and, where they are
    computed, by which code and on which platform."""
    backbone = backbones.of(network)
    origin = backbone.origin()
    if origin is None:
        return None
    by = {"code": [fingerprint(name) for name in backbones.code(network.backbone)], "platform": identity()}
    return digest({"network": network.backbone, **origin, **(by if backbone.computed else {})})


def initial_weights(network: NetworkSettings, cache_folder: Path) -> dict[str, Tensor] | None:
    """The backbone's initial weights, made, downloaded or read once; None for random ones. Raises `WeightsError` where
    they cannot be had."""
    key = weights_key(network)
    if key is None:
        return None
    with deterministic(threads=1):
        return Store(cache_folder).made_once(key, "pretrained", backbones.of(network).initial_weights)


def initial_backbone(network: NetworkSettings, seed: int, cache_folder: Path) -> nn.Sequential:
    """The five blocks with their initial weights, the last with the pooling of the map."""
    blocks = backbones.of(network).blocks(seed, "backbone")
    weights = initial_weights(network, cache_folder)
    if weights is not None:
        blocks.load_state_dict(weights)
    if network.map_pooling > 1:
        last = blocks[-1]
        assert isinstance(last, nn.Sequential)
        last.append(nn.AvgPool2d(network.map_pooling))
    return blocks


def refuse_too_small(network: NetworkSettings, side: int) -> None:
    """Raises `SettingError` where the map of an image `side` pixels wide and high is too small to be pooled."""
    if network.map_pooling > 1:
        backbone = backbones.of(network)
        with torch.device("meta"):  # where no weights are drawn
            blocks = backbone.blocks("shapes")
        height = _output(blocks, side).shape[2]
        if height < network.map_pooling:
            allowed = f"1: the map of {network.backbone} is {height} x {height} for images of {side} x {side}"
            raise SettingError("network.map_pooling", network.map_pooling, allowed)


def _output(blocks: nn.Module, side: int) -> Tensor:
    """What blocks make of one image, without memory: its shape."""
    without_values = {id(tensor): tensor.detach().to("meta") for tensor in (*blocks.parameters(), *blocks.buffers())}
    shapes = copy.deepcopy(blocks, without_values).eval()
    with torch.no_grad():
        return shapes(torch.empty(1, 3, side, side, device="meta"))


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@torch.no_grad()
def _estimate_batch_norm(blocks: nn.Module, backbone: Backbone, steps: Sequence[Tensor], images: Reader) -> None:
    """Batch-norm statistics become those of these images (their plain average over the steps); no labels are used."""
    norms = [module for module in blocks.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    blocks.train()
    for rows in steps:
        blocks(backbone.normalise(images(rows).cpu()))
    for norm in norms:
        norm.momentum = 0.1
