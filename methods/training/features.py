"""What trials on the same images with the same backbone share: images, the frozen part of the backbone and its
features, and the initial weights of the trained part. It is made once per process.

Small features of a split are kept in memory. Larger ones are computed again each time, from images that are read one
step ahead. The choice depends only on the settings and the number of images, never on the machine.

Nothing here depends on a method or on which labels are given. Do not write to the arrays.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
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
from .prefetch import Prefetcher

# Images per chunk. Convolutions may sum in another order with another batch size, so the size of chunks is fixed: CHUNK
# images, or fewer if CHUNK_PIXELS are reached, because the first feature maps of large images would fill the memory.
CHUNK = 256
CHUNK_PIXELS = 2**22
# Larger features of a split are not kept.
KEPT_BYTES = 2 * 10**9
WEIGHTS = "pretrained"  # the store's record of initial weights that are computed or downloaded once

Reader = Callable[[Tensor], Tensor]


class FeatureCache:
    """Images and a backbone, ready for training.

    `trunk`: the frozen blocks, in eval mode. `tail`: the trained blocks with their initial weights; copy them before
    training. `feature_map`: shape and pooling of the feature map, for a head. `batch_norm_trains`: batch norm of the
    trained blocks uses the statistics of the batch. `chunk`: images per chunk outside of training steps. `waited`:
    seconds so far in which the computation waited for images (for benchmarks).
    """

    waited = 0.0
    _compiled: nn.Module | None = None

    def __init__(
        self, settings: DataSettings, network: NetworkSettings, seed: int, cache_folder: Path, compute: Compute
    ):
        task = data.load(settings)
        self._splits = {"train": task.train, "val": task.val, "test": task.test}
        self.compute, self.device = compute, torch.device(compute.device)
        self.backbone = backbones.of(network)
        self.feature_map = FeatureMap(self.backbone.width, network.pooling)
        self.batch_norm_trains = network.batch_norm == "train"
        # On the CPU, so that the initial state is the same with any device.
        with deterministic(threads=1):
            blocks = initial_backbone(network, seed, cache_folder)
            if self.backbone.re_estimated and not self.batch_norm_trains:
                _estimate_batch_norm(blocks, self.backbone, *self.chunks("train"))
        blocks.eval()
        side = self.images("train").shape[-1]
        # Bytes of the features of one image, without and with the trained blocks.
        self._bytes = feature_bytes(network, network.frozen_blocks, side), feature_bytes(network, len(blocks), side)
        if compute.channels_last:
            blocks.to(memory_format=torch.channels_last)
        self.trunk: nn.Module = blocks[: network.frozen_blocks].to(self.device)
        self.tail: nn.Module = blocks[network.frozen_blocks :]
        if compute.compile:
            self.trunk.compile()
        self.trunk.requires_grad_(False)
        self._kept: dict[str, Tensor] = {}
        self._tail_kept: dict[str, Tensor] = {}
        self._tail_weights: dict[str, Tensor] = {}

    @staticmethod
    def of(
        settings: DataSettings, network: NetworkSettings, seed: int, cache_folder: Path, compute: Compute
    ) -> FeatureCache:
        """The cache of these images (`data.pictures_only`). The last few caches of this process are kept and reused."""
        # Weights that do not depend on the seed are prepared once for all seeds.
        return prepare(settings, network, seed if weights_key(network) is None else 0, cache_folder, compute)

    @staticmethod
    def check(network: NetworkSettings, side: int, cache_folder: Path) -> None:
        """Read or download the initial weights. What is computed is left to `make`. Raises `WeightsError` for
        weights that cannot be had, and `SettingError` for images, `side` pixels wide, too small for the network."""
        refuse_too_small(network, side)
        if not backbones.of(network).computed:
            initial_weights(network, cache_folder)

    @staticmethod
    def made_once(
        settings: DataSettings, network: NetworkSettings, compute: Compute, views: bool
    ) -> frozenset[tuple[str, str]]:
        """Keys and names of the records that `make` leaves in the store: initial weights."""
        key = weights_key(network)
        return frozenset([(key, WEIGHTS)] if key else [])

    def make(self, views: bool) -> None:
        """Compute what the store keeps. `views`: with augmentation. Initial weights are made with the cache itself."""

    @functools.cached_property
    def chunk(self) -> int:
        side = self.images("train").shape[-1]
        return min(CHUNK, 1 << max(CHUNK_PIXELS // side**2, 1).bit_length() - 1)

    def images(self, name: str, *, stored: bool = False) -> Any:
        """The images of a split, uint8 (N, 3, H, W): a tensor, or an object that reads them when it is indexed.
        `stored`: in the size in which they are stored, instead of the size for the network."""
        images = self._splits[name].images
        if isinstance(images, np.ndarray):
            return torch.from_numpy(images)
        return images.stored if stored else images

    def image_reader(self, name: str, steps: Sequence[Tensor], *, stored: bool = False) -> Reader:
        """A function from rows (B,) of a split to its images on the device. It reads the rows of `steps` ahead, in this
        order."""
        images = self.images(name, stored=stored)
        if isinstance(images, Tensor):
            there = images.to(self.device)
            return lambda rows: there[rows]
        return Prefetcher(images, steps, self.device, self._note_wait)

    def trunk_reader(self, name: str, images: Reader) -> Reader:
        """A function from rows (B,) of a split to the output (B, D', H', W') of the frozen blocks. If this is not kept,
        it is computed from `images`."""
        if self._kept_without_tail(name):
            kept = self.trunk_features(name)
            return lambda rows: kept[rows]
        return lambda rows: self.through_trunk(images(rows))

    def tail_reader(self, tail: nn.Module, name: str, images: Reader) -> Reader:
        """Like `trunk_reader`, but after the blocks `tail` too: (B, D, H, W) float32. `tail` must be in eval mode and
        must not change. The whole map is kept, because a method may need more than a pooled vector."""
        if self._kept_with_tail(name):
            kept = self.tail_features(tail, name)
            return lambda rows: kept[rows]
        read = self.trunk_reader(name, images)
        return torch.no_grad()(lambda rows: self.through_tail(tail, read(rows)))

    def trunk_features(self, name: str) -> Tensor:
        """The output of the frozen blocks for a split, (N, D', H', W') float32; computed once and kept."""
        if name not in self._kept:
            steps, images = self.chunks(name)
            with deterministic(threads=1):
                self._kept[name] = torch.cat([self.through_trunk(images(rows)) for rows in steps])
        return self._kept[name]

    @torch.no_grad()
    def tail_features(self, tail: nn.Module, name: str) -> Tensor:
        """The output of `tail` for a split, (N, D, H, W) float32. It is kept for the last weights of `tail`: while the
        backbone is frozen, all epochs and trials have the same."""
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
        """The output of the frozen blocks for uint8 images (B, 3, H, W); `change` acts on the normalised images."""
        pixels = self.backbone.normalise(images.to(self.device))
        return self._through(self.trunk, change(pixels) if change else pixels)

    def through_tail(self, tail: nn.Module, maps: Tensor) -> Tensor:
        """The output (B, D, H, W) float32 of the trained blocks `tail` for maps from the frozen blocks."""
        return self._through(tail, maps).float()

    def _through(self, blocks: nn.Module, maps: Tensor) -> Tensor:
        if self.compute.channels_last:
            maps = maps.contiguous(memory_format=torch.channels_last)
        with self.compute.autocast():
            return blocks(maps)

    def trainable_backbone(self) -> nn.Module:
        """A copy of the trained blocks with their initial weights, on the device. With `compile` the same copy is used
        again, because compiling takes long."""
        if not self.compute.compile:
            return copy.deepcopy(self.tail).to(self.device)
        if self._compiled is None:
            self._compiled = copy.deepcopy(self.tail).to(self.device)
            self._compiled.compile()
        self._compiled.load_state_dict(self.tail.state_dict())
        return self._compiled

    def chunks(self, name: str, among: Tensor | None = None) -> tuple[Sequence[Tensor], Reader]:
        """The rows of a split, or the rows `among`, in chunks of a fixed size, and an `image_reader` for them."""
        rows = torch.arange(len(self.images(name))) if among is None else among
        steps = rows.split(self.chunk)
        return steps, self.image_reader(name, steps)

    def _kept_without_tail(self, name: str) -> bool:
        return len(self.images(name)) * self._bytes[0] <= KEPT_BYTES

    def _kept_with_tail(self, name: str) -> bool:
        return len(self.images(name)) * self._bytes[1] <= KEPT_BYTES

    def _note_wait(self, seconds: float) -> None:
        self.waited += seconds


# `FeatureCache`, kept for the last few data sets of this process; see `FeatureCache.of`.
prepare = functools.lru_cache(maxsize=4)(FeatureCache)


def feature_bytes(network: NetworkSettings, blocks: int, side: int) -> int:
    """Bytes of the float32 output of the first `blocks` of the backbone for one image of `side` x `side` pixels."""
    return 4 * math.prod(_output_shape(network, blocks, side))


def weights_key(network: NetworkSettings) -> str | None:
    """The key of the backbone's initial weights; None for random weights. Computed weights also depend on code and
    platform."""
    backbone = backbones.of(network)
    origin = backbone.origin()
    if origin is None:
        return None
    by = {"code": [fingerprint(name) for name in backbones.code(network.backbone)], "platform": identity()}
    read = {"read by": fingerprint("methods.networks.weight_files")}
    made = by if backbone.computed else read if "content" in origin else {}
    return digest({"network": network.backbone, **origin, **made})


def initial_weights(network: NetworkSettings, cache_folder: Path) -> dict[str, Tensor] | None:
    """The backbone's initial weights, computed, downloaded or read once; None for random weights. Raises `WeightsError`
    if they cannot be downloaded or read."""
    key = weights_key(network)
    if key is None:
        return None
    with deterministic(threads=1):
        return Store(cache_folder).made_once(key, WEIGHTS, backbones.of(network).initial_weights)


def initial_backbone(network: NetworkSettings, seed: int, cache_folder: Path) -> nn.Sequential:
    """The five blocks with their initial weights. The last block includes the pooling of the map."""
    blocks = backbones.of(network).blocks(seed, "backbone")
    weights = initial_weights(network, cache_folder)
    if weights is not None:
        blocks.load_state_dict(weights)
    return _with_map_pooling(blocks, network)


def refuse_too_small(network: NetworkSettings, side: int) -> None:
    """Raises `SettingError` if the map of an image of `side` x `side` pixels is too small for `map_pooling`."""
    if network.map_pooling > 1:
        height = _output_shape(replace(network, map_pooling=1), None, side)[2]
        if height < network.map_pooling:
            allowed = f"1: the map of {network.backbone} is {height} x {height} for images of {side} x {side}"
            raise SettingError("network.map_pooling", network.map_pooling, allowed)


@functools.lru_cache(maxsize=100)  # a computation on the meta device takes up to a tenth of a second
def _output_shape(network: NetworkSettings, blocks: int | None, side: int) -> tuple[int, ...]:
    """The shape of the output of the first `blocks` of the backbone (None: all) for one image."""
    with torch.device("meta"), torch.no_grad():  # no weights are drawn, and it takes no memory
        shapes = _with_map_pooling(backbones.of(network).blocks("shapes"), network)[:blocks].eval()
        return tuple(shapes(torch.empty(1, 3, side, side)).shape)


def _with_map_pooling(blocks: nn.Sequential, network: NetworkSettings) -> nn.Sequential:
    if network.map_pooling > 1:
        last = blocks[-1]
        assert isinstance(last, nn.Sequential)
        last.append(nn.AvgPool2d(network.map_pooling))
    return blocks


def _equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


@torch.no_grad()
def _estimate_batch_norm(blocks: nn.Module, backbone: Backbone, steps: Sequence[Tensor], images: Reader) -> None:
    """Sets batch-norm statistics to their average over the steps of these images. No labels are used."""
    norms = [module for module in blocks.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    blocks.train()
    for rows in steps:
        blocks(backbone.normalise(images(rows).cpu()))
    for norm in norms:
        norm.momentum = 0.1
