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
from ..networks.clip import Clip, ClipFeatureMap
from ..networks.settings import CLIP, NetworkSettings
from .features import CHUNK, KEPT_BYTES, Prepared, Reader, weights_key
from .platforms import Compute, deterministic, identity

WEIGHTS = "pretrained"  # the record of them, as in `methods.prepared`
# Images of 448 x 448 at a time: their first maps are large.
LARGE_CHUNK = 16


class Frozen(Prepared):
    """Pictures and an encoder, of which nothing is trained: `tail` is empty, and a map of `trunk` is a feature."""

    def __init__(
        self,
        settings: DataSettings,
        network: NetworkSettings,
        cache_folder: Path,
        compute: Compute = Compute(),  # noqa: B008 (it is frozen)
    ):
        # Not what `Prepared` does: it estimates batch norm, which is the encoder's own here, and divides a backbone.
        self._settings, self._network, self._store = settings, network, Store(cache_folder)
        self.compute, self.device = compute, torch.device(compute.device)
        with deterministic(threads=1):
            self.clip = encoder(network, cache_folder).to(self.device)
        self.features = ClipFeatureMap(self.clip.width, network.pooling, self.clip)
        self.batch_norm_trains = False
        self.trunk: nn.Module = self.clip
        self.tail: nn.Module = nn.Sequential()
        self.chunk = CHUNK
        self._kept = {}

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


@functools.lru_cache(maxsize=4)
def prepare(
    settings: DataSettings,
    network: NetworkSettings,
    cache_folder: Path,
    compute: Compute = Compute(),  # noqa: B008
) -> Frozen:
    """`Frozen`, kept for the last few sets of pictures of this process (call it with `data.pictures_only`)."""
    return Frozen(settings, network, cache_folder, compute)


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


def made_once(
    settings: DataSettings, network: NetworkSettings, compute: Compute, views: bool
) -> frozenset[tuple[str, str]]:
    """Keys and names of the records that trials with these settings have once: initial weights, and feature maps of a
    CLIP (those of val are left out: there need be no such images)."""
    if network.backbone not in CLIP:
        return frozenset((key, WEIGHTS) for key in [weights_key(network)] if key)
    pretrained = network.backbone == "digit_clip" and network.pretrain_epochs > 0
    weights = [(pretrained_key(network), WEIGHTS)] if pretrained else []
    key = features_key(data.pictures_only(settings), network, compute)
    return frozenset([*weights, *((key, _maps(split)) for split in splits_seen(views) if split != "val")])


def _maps(split: str) -> str:
    return f"features-{split}"


def _encoder(network: NetworkSettings) -> dict[str, Any]:
    return {name: value for name, value in network.acting().items() if name not in ("batch_norm", "pooling")}
