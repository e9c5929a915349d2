"""What the backbones that are trained have in common, and which module makes each.

This module is in no key (see `keys.WITHOUT_EFFECT`), and the others are imported by name when they are asked for: a key
holds the code of its own backbone, so that another one, mended or new, renames no result. The backbones that are frozen
as a whole (CLIP) are a matter of `methods.training.clip_features`.
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
    """Initial weights that cannot be had: which, why, and what can be given instead."""


class Backbone(ABC):
    """Images to a feature map of `width` channels, in five blocks, of which the first may be frozen.

    `re_estimated`: where batch norm is frozen, its statistics are estimated anew on the training images; else they are
    those of the initial weights. `computed`: initial weights are made by the code of this package, so that others are
    made by other code and on another platform.
    """

    width: int
    re_estimated: ClassVar[bool]
    computed: ClassVar[bool]

    @abstractmethod
    def blocks(self, *seed: int | str) -> nn.Sequential:
        """The five blocks with random weights from `seed`; (B, 3, H, W) to (B, D, H', W')."""

    @abstractmethod
    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) to float32 as the blocks take them, on the same device."""

    @abstractmethod
    def origin(self) -> dict[str, Any] | None:
        """What its initial weights are, as JSON-able data; None: the random ones."""

    @abstractmethod
    def initial_weights(self) -> dict[str, Tensor]:
        """The state of `blocks` that `origin` names. Raises `WeightsError` where it cannot be had."""


def of(network: NetworkSettings) -> Backbone:
    """The backbone that settings name."""
    return importlib.import_module(f".{MODULES[network.backbone]}", __package__).backbone(network)


def code(backbone: str) -> tuple[str, ...]:
    """Names of the modules that make a backbone; () of one that is frozen."""
    return (f"{__package__}.{MODULES[backbone]}",) if backbone in MODULES else ()
