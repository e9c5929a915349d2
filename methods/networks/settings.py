"""Which backbone a trial uses, what of it is trained, and how its feature map is pooled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..settings import Settings, setting

_DIGITS = {"backbone": ("digit_conv",)}


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Backbone and pooling."""

    backbone: Literal["digit_conv"] = setting("digit_conv", "backbone by name")
    pretrain_epochs: int = setting(
        8, "epochs of pre-training on single digits; 0: random weights", minimum=0, typical=(0, 8), when=_DIGITS
    )
    pretrain_images: int = setting(8000, "single-digit crops to pre-train on", minimum=64, when=_DIGITS)
    frozen_blocks: int = setting(
        3, "how many of the five blocks are not trained", minimum=0, maximum=5, typical=(0, 3), when=_DIGITS
    )
    batch_norm: Literal["frozen", "train"] = setting(
        "frozen", "batch norm in training: statistics re-estimated once on the training images, or those of the batch"
    )
    pooling: Literal["mean", "max", "mean_max"] = setting("mean_max", "pooling over positions; mean_max adds both")
