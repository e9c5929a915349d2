"""The settings of the network: which backbone, which of its blocks are trained, and how its feature map is pooled."""

from __future__ import annotations

import functools
import importlib.util
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from ..cache.files import content_digest
from ..contract.settings import SettingError, Settings, setting

# Backbones with an image encoder and a text encoder. Both are frozen.
CLIP = ("digit_clip", "open_clip")
# torchvision's ResNets, and torchvision's names of its published weights.
RESNETS = ("resnet18", "resnet50", "resnet101")
PUBLISHED = {"imagenet": "IMAGENET1K_V1", "imagenet_v2": "IMAGENET1K_V2"}
RANDOM = "random"

_RESNET = {"backbone": RESNETS}
_TRAINED = {"backbone": ("digit_conv", *RESNETS)}
_EMBEDDED = {"backbone": ("digit_conv", "digit_clip")}
_OPEN_CLIP = {"backbone": ("open_clip",)}


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """Backbone and pooling."""

    backbone: Literal["digit_conv", "digit_clip", "open_clip", "resnet18", "resnet50", "resnet101"] = setting(
        "digit_conv",
        "backbone. digit_conv: small convolutions pre-trained on digits. digit_clip: a small CLIP pre-trained on "
        "digits. open_clip: a model of open_clip. resnet18, …: a ResNet of torchvision. Each CLIP is frozen",
        source="ResNet-50: Large Loss and single-positive releases; ResNet-101: SST, SARB and SSGRL releases",
    )
    weights: str = setting(
        "imagenet",
        "initial weights of a ResNet. imagenet: torchvision's first weights, as in the papers; imagenet_v2: its second "
        "ones; both are downloaded if they are missing. A file: a state dict of torchvision's layout, alone or in a "
        "checkpoint, of torch or safetensors. random: without batch-norm statistics (see batch_norm)",
        typical=("imagenet", "imagenet_v2", "random"),
        when=_RESNET,
    )
    pretrain_epochs: int = setting(
        8,
        "epochs of pre-training on single digits; digit_clip has as many again on scenes; 0: random weights",
        minimum=0,
        typical=(0, 8),
        when=_EMBEDDED,
    )
    pretrain_images: int = setting(
        8000, "single digits for pre-training; digit_clip also has half as many scenes", minimum=64, when=_EMBEDDED
    )
    frozen_blocks: int = setting(
        3,
        "how many of the five blocks, from the first, are not trained; a ResNet's blocks are its stem and four stages",
        minimum=0,
        maximum=5,
        typical=(0, 3, 4),
        when=_TRAINED,
        source="SST and SARB releases: 4, all but the last stage; Large Loss release: 0",
    )
    batch_norm: Literal["frozen", "train"] = setting(
        "frozen",
        "batch norm of trained blocks in training. frozen: fixed statistics (digit_conv: estimated once on the "
        "training images; ResNet: those of its weights). train: statistics of the batch. In frozen blocks it is always "
        "fixed",
        source="Large Loss, SST and SARB releases: train",
    )
    map_pooling: Literal[1, 2] = setting(
        1,
        "average pooling of the backbone's feature map; 2 halves its height and width",
        when=_TRAINED,
        source="SST, SARB and SSGRL releases, resnet.py: 2",
    )
    pooling: Literal["mean", "max", "mean_max"] = setting("mean_max", "pooling over positions; mean_max: sum of both")
    clip_model: str = setting(
        "RN101-quickgelu",
        "name of a model of open_clip; its image encoder must be a ResNet or a vision transformer",
        typical=("RN101-quickgelu", "ViT-B-16-quickgelu"),
        when=_OPEN_CLIP,
        source="section 4.2: CLIP's ResNet-101",
    )
    clip_weights: str = setting(
        "openai",
        "tag of weights in open_clip, downloaded if they are missing; or a file; or random",
        typical=("openai", "random"),
        when=_OPEN_CLIP,
    )
    image_size: int = setting(
        448,
        "width and height to which images are scaled, in pixels",
        minimum=64,
        typical=(224, 448),
        when=_OPEN_CLIP,
        source="section 4.2",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backbone in RESNETS and self.weights not in (*PUBLISHED, RANDOM):
            if not Path(self.weights).is_file():
                raise SettingError("weights", self.weights, f"{' | '.join(PUBLISHED)} | {RANDOM} | a file")
        if (self.backbone, self.weights) == ("resnet18", "imagenet_v2"):
            raise SettingError("weights", self.weights, f"imagenet | {RANDOM} | a file, for resnet18")

    def refuse_unpoolable(self) -> None:
        """Raises `SettingError` if CLIP's own pooling in an open_clip ResNet does not fit the map of `image_size`."""
        native = _resnet_size(self.clip_model) if self.backbone == "open_clip" else None
        # The map of `image_size` with the extra pooling (six halvings, the first rounds up) must be as large as that of
        # the original size without it (five halvings).
        if native and (self.image_size + 1) // 64 != native // 32:
            allowed = f"{2 * native}, which CLIP's own pooling in {self.clip_model} is for, or a decoupling"
            raise SettingError("network.image_size", self.image_size, allowed)

    def acting(self, *, evaluation: bool = False) -> dict[str, Any]:
        values = super().acting(evaluation=evaluation)
        if self.backbone in CLIP:
            values["open_clip_torch"] = version("open_clip_torch")  # its code is the architecture
        if self.backbone == "open_clip" and Path(self.clip_weights).is_file():
            values["clip_weights"] = content_digest(self.clip_weights)  # the content, not the path
        if self.backbone in RESNETS:
            values["torchvision"] = version("torchvision")  # its code is the architecture
            if Path(self.weights).is_file():
                values["weights"] = content_digest(self.weights)
        return values


@functools.cache
def _resnet_size(clip_model: str) -> int | None:
    """The image size that an open_clip model was trained on, if its image encoder is a ResNet; None for others and for
    unknown names. It is read from open_clip's files, because importing open_clip takes seconds."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None and package.origin is not None
    path = Path(package.origin).with_name("model_configs") / f"{clip_model}.json"
    vision = json.loads(path.read_text(encoding="utf-8"))["vision_cfg"] if path.is_file() else {}
    return vision["image_size"] if isinstance(vision.get("layers"), list) else None
