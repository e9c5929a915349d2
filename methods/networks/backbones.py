"""The base class of trained backbones, and the module of each. CLIP, which is frozen, is in `methods.networks.clip`.

This module is in no key (see `methods.cache.keys.WITHOUT_EFFECT`), and it imports backbones by name when they are
needed. So a key contains the code of its own backbone only: a change of another one leaves the result valid.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from ..contract.errors import UserError
from .settings import RESNETS, NetworkSettings

MODULES = {"digit_conv": "digit_conv", **dict.fromkeys(RESNETS, "resnet")}


class WeightsError(UserError):
    """Initial weights cannot be downloaded or read. The text says which, why, and what is allowed instead."""


class Backbone(ABC):
    """A network of five blocks from images to a feature map of `width` channels. The first blocks may be frozen.

    `re_estimated`: frozen batch norm uses statistics that are estimated on the training images; else those of the
    initial weights. `computed`: the initial weights are computed by code of this project, so they depend on this code
    and on the platform.
    """

    width: int
    re_estimated: ClassVar[bool]
    computed: ClassVar[bool]

    @abstractmethod
    def blocks(self, *seed: int | str) -> nn.Sequential:
        """The five blocks with random weights from `seed`: (B, 3, H, W) to (B, D, H', W')."""

    @abstractmethod
    def normalise(self, images: Tensor) -> Tensor:
        """The float32 input of the blocks from uint8 images (B, 3, H, W), on the same device."""

    @abstractmethod
    def origin(self) -> dict[str, Any] | None:
        """JSON-able data that identify the initial weights; None for random weights."""

    @abstractmethod
    def initial_weights(self) -> dict[str, Tensor]:
        """The state dict of `blocks` that `origin` identifies. Raises `WeightsError` if it is not available."""


def of(network: NetworkSettings) -> Backbone:
    """The backbone of the network settings."""
    return importlib.import_module(f".{MODULES[network.backbone]}", __package__).backbone(network)


def code(backbone: str) -> tuple[str, ...]:
    """Names of the modules that make a backbone; () for a CLIP."""
    return (f"{__package__}.{MODULES[backbone]}",) if backbone in MODULES else ()
