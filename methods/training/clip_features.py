"""The feature maps of a frozen CLIP encoder, shared by all trials on the same images.

The maps are computed once per data set, encoder and split, kept in the store, and mapped into memory for training; no
image is read again. `methods.training.features` does the same for backbones that are trained.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import data
from ..cache.keys import digest, fingerprint
from ..cache.store import Store
from ..contract.randomness import seeded
from ..data import DataSettings, registry
from ..networks import clip, digit_clip
from ..networks.backbones import WeightsError
from ..networks.clip import Clip, ClipFeatureMap
from ..networks.settings import NetworkSettings
from .features import CHUNK, KEPT_BYTES, WEIGHTS, FeatureCache, Reader
from .platforms import Compute, deterministic, identity

# Number of images of 448 x 448 pixels per chunk: their first feature maps are large.
LARGE_CHUNK = 16


class ClipFeatureCache(FeatureCache):
    """Images and a frozen CLIP encoder: `trunk` is the whole encoder, `tail` is empty."""

    def __init__(self, settings: DataSettings, network: NetworkSettings, cache_folder: Path, compute: Compute):
        # Without the base constructor, which splits a trained backbone and estimates batch norm: CLIP needs neither.
        self._settings, self._network, self._store = settings, network, Store(cache_folder)
        self.compute, self.device = compute, torch.device(compute.device)
        with deterministic(threads=1):
            self.clip = encoder(network, cache_folder).to(self.device)
        self.feature_map = ClipFeatureMap(self.clip.width, network.pooling, self.clip)
        self.batch_norm_trains = False
        self.trunk: nn.Module = self.clip
        self.tail: nn.Module = nn.Sequential()
        self.chunk = CHUNK
        self._kept = {}

    @staticmethod
    def of(
        settings: DataSettings, network: NetworkSettings, seed: int, cache_folder: Path, compute: Compute
    ) -> FeatureCache:
        return prepare(settings, network, cache_folder, compute)

    @staticmethod
    def check(network: NetworkSettings, side: int, cache_folder: Path) -> None:
        if network.backbone == "digit_clip":
            return
        try:
            encoder(network, cache_folder)
        except Exception as error:  # open_clip raises many kinds for a wrong name, download or file
            raise WeightsError(
                f"network.clip_model: {network.clip_model} with network.clip_weights={network.clip_weights} cannot be "
                f"used ({type(error).__name__}: {error}); allowed is a model of open_clip with one of its tags, which "
                "is downloaded, or with the path of a file of its weights"
            ) from error

    @staticmethod
    def made_once(
        settings: DataSettings, network: NetworkSettings, compute: Compute, views: bool
    ) -> frozenset[tuple[str, str]]:
        """(key, record) of weights and feature maps. Maps of val are left out, because val may be empty."""
        pretrained = network.backbone == "digit_clip" and network.pretrain_epochs > 0
        weights = [(pretrained_key(network), WEIGHTS)] if pretrained else []
        key = features_key(settings, network, compute)
        return frozenset([*weights, *((key, _maps(split)) for split in splits_seen(views) if split != "val")])

    def make(self, views: bool) -> None:
        for split in splits_seen(views):
            self.trunk_features(split)

    def trunk_reader(self, name: str, images: Reader) -> Reader:
        kept = self.trunk_features(name)
        return lambda rows: kept[rows].to(self.device)

    def tail_reader(self, tail: nn.Module, name: str, images: Reader) -> Reader:
        return self.trunk_reader(name, images)

    def trunk_features(self, name: str) -> Tensor:
        if name not in self._kept:
            key = features_key(self._settings, self._network, self.compute)
            rows = len(self._splits[name])
            if not rows:  # there is no val split
                return self.trunk_features("train")[:0]
            kept = self._store.mapped(key, _maps(name), rows, functools.partial(self._computed, name))
            maps = torch.from_numpy(kept)
            # Small maps are copied to the device. Larger ones stay mapped, of any size.
            self._kept[name] = maps.to(self.device) if maps.nbytes <= KEPT_BYTES else maps
        return self._kept[name]

    def tail_features(self, tail: nn.Module, name: str) -> Tensor:
        return self.trunk_features(name)

    @torch.no_grad()
    def through_trunk(self, images: Tensor, change: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        pixels = self.clip.normalise(images.to(self.device))
        return self._through(self.clip, change(pixels) if change else pixels).float()

    def _computed(self, name: str) -> Iterator[Any]:
        with deterministic(threads=1):
            for chunk in self.images(name).split(LARGE_CHUNK if self._network.backbone == "open_clip" else CHUNK):
                yield self.through_trunk(chunk).cpu().numpy()

    @functools.cached_property
    def _splits(self) -> dict[str, data.Split]:  # type: ignore[override]  # loaded when it is first asked for
        task = data.load(self._settings)
        return {"train": task.train, "val": task.val, "test": task.test}


# `ClipFeatureCache`, kept for the last few data sets of this process; see `FeatureCache.of`.
prepare = functools.lru_cache(maxsize=4)(ClipFeatureCache)


def encoder(network: NetworkSettings, cache_folder: Path) -> Clip:
    """The encoder with its weights. The embedded one is pre-trained once per setting and platform, and kept."""
    if network.backbone == "open_clip":
        with seeded("open_clip"):
            return clip.pretrained(network.clip_model, network.clip_weights, network.image_size)
    found = digit_clip.untrained("untrained")
    if network.pretrain_epochs:

        def make() -> dict[str, Tensor]:
            with deterministic(threads=1):
                return digit_clip.pretrain(network.pretrain_images, network.pretrain_epochs)

        found.load_state_dict(Store(cache_folder).made_once(pretrained_key(network), WEIGHTS, make))
    return found


def pretrained_key(network: NetworkSettings) -> str:
    """The key of the weights of the embedded encoder."""
    made = {"network": _encoder(network), "platform": identity()}
    return digest({**made, "code": fingerprint("methods.networks.digit_clip")})


def features_key(settings: DataSettings, network: NetworkSettings, compute: Compute) -> str:
    """The key of the feature maps of a data set: a hash of data, encoder, code and platform."""
    code = {name: fingerprint(name) for name in ("methods.training.clip_features", *registry.code(settings.dataset))}
    made = {"data": settings.acting(evaluation=True), "network": _encoder(network), "code": code}
    return digest({**made, "compute": vars(compute), "platform": identity(compute.device)})


def splits_seen(views: bool) -> tuple[str, ...]:
    """The splits whose feature maps are kept. With augmentation (`views`), those of train differ in each epoch."""
    return ("val", "test") if views else ("val", "test", "train")


def _maps(split: str) -> str:
    return f"features-{split}"


def _encoder(network: NetworkSettings) -> dict[str, Any]:
    return {name: value for name, value in network.acting().items() if name not in ("batch_norm", "pooling")}
