"""Which backbone a trial uses, what of it is trained, and how its feature map is pooled."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ..files import content_digest
from ..settings import Settings, setting

# Backbones with a text encoder beside the image encoder; both are frozen.
CLIP = ("digit_clip", "open_clip")

_DIGITS = {"backbone": ("digit_conv",)}
_EMBEDDED = {"backbone": ("digit_conv", "digit_clip")}
_OPEN_CLIP = {"backbone": ("open_clip",)}


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Backbone and pooling."""

    backbone: Literal["digit_conv", "digit_clip", "open_clip"] = setting(
        "digit_conv",
        "backbone by name: small convolutions, a small CLIP, both pre-trained on digits, or one of open_clip's models; "
        "CLIP is frozen",
    )
    pretrain_epochs: int = setting(
        8,
        "epochs of pre-training on single digits, and for digit_clip as many on scenes; 0: random weights",
        minimum=0,
        typical=(0, 8),
        when=_EMBEDDED,
    )
    pretrain_images: int = setting(
        8000, "single digits to pre-train on, and for digit_clip half as many scenes", minimum=64, when=_EMBEDDED
    )
    frozen_blocks: int = setting(
        3, "how many of the five blocks are not trained", minimum=0, maximum=5, typical=(0, 3), when=_DIGITS
    )
    batch_norm: Literal["frozen", "train"] = setting(
        "frozen", "batch norm in training: statistics re-estimated once on the training images, or those of the batch"
    )
    pooling: Literal["mean", "max", "mean_max"] = setting("mean_max", "pooling over positions; mean_max adds both")
    clip_model: str = setting(
        "RN101-quickgelu",
        "open_clip's name of a model with a ResNet or a vision transformer as image encoder",
        typical=("RN101-quickgelu", "ViT-B-16-quickgelu"),
        when=_OPEN_CLIP,
        source="section 4.2: CLIP's ResNet-101",
    )
    clip_weights: str = setting(
        "openai",
        "open_clip's tag of weights, downloaded if they are not there; a file; or random",
        typical=("openai", "random"),
        when=_OPEN_CLIP,
    )
    image_size: int = setting(
        448, "pixels that images are scaled to", minimum=64, typical=(224, 448), when=_OPEN_CLIP, source="section 4.2"
    )

    def acting(self, *, evaluation: bool = False) -> dict[str, Any]:
        values = super().acting(evaluation=evaluation)
        if self.backbone in CLIP:
            values["open_clip_torch"] = version("open_clip_torch")  # the architecture is its code
        if self.backbone == "open_clip" and Path(self.clip_weights).is_file():
            values["clip_weights"] = content_digest(self.clip_weights)  # wherever the file is
        return values
