"""ResNets of torchvision (He et al., CVPR 2016), pre-trained on ImageNet, as five blocks: the stem with its max
pooling, then the four stages.

The papers' releases use torchvision's first weights (`imagenet`). The architectures are torchvision's code, so its
version is in the keys.
"""

from __future__ import annotations

import hashlib
import http.client
import urllib.request
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from ..cache.files import content_digest
from ..contract.randomness import seeded
from . import weight_files
from .backbones import Backbone, WeightsError
from .settings import PUBLISHED, RANDOM, NetworkSettings

# Mean and standard deviation of ImageNet's pixels per channel, for images scaled to 0 ... 1.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# The block of each part of torchvision's model.
PLACES = {"conv1": "0.0", "bn1": "0.1", "layer1": "1", "layer2": "2", "layer3": "3", "layer4": "4"}
WIDTHS = {"resnet18": 512}  # channels of the last stage; 2048 in the others
PATIENCE = 30.0  # timeout of a download, in seconds without data


class ResNet(Backbone):
    """torchvision's model `name` without its last pooling and classifier; `weights` is `network.weights`."""

    re_estimated = False
    computed = False

    def __init__(self, name: str, weights: str):
        self._make, self._weights = getattr(torchvision.models, name), weights
        self._published = torchvision.models.get_model_weights(name)
        self.width = WIDTHS.get(name, 2048)

    def blocks(self, *seed: int | str) -> nn.Sequential:
        with seeded(*seed):
            model = self._make(weights=None)
        stem = nn.Sequential(model.conv1, model.bn1, model.relu, model.maxpool)
        return nn.Sequential(stem, model.layer1, model.layer2, model.layer3, model.layer4)

    def normalise(self, images: Tensor) -> Tensor:
        pixels = images.to(torch.float32).div_(255)
        mean, std = (torch.tensor(values).to(pixels)[:, None, None] for values in (MEAN, STD))
        return pixels.sub_(mean).div_(std)

    def origin(self) -> dict[str, Any] | None:
        if self._weights == RANDOM:
            return None
        url = self._url()
        return {"url": url} if url else {"content": content_digest(self._weights)}

    def initial_weights(self) -> dict[str, Tensor]:
        url = self._url()
        try:
            content = _published(url) if url else Path(self._weights).read_bytes()
            return self._renamed(content)
        except Exception as error:
            raise WeightsError(
                f"network.weights: {self._weights} cannot be used ({type(error).__name__}: {error}); "
                + (f"download {url} elsewhere, and " if url else "")
                + "give a file with a state dict of torchvision's layout, of torch or safetensors: network.weights=FILE"
            ) from error

    def _url(self) -> str | None:
        """The address of published weights; None for a file."""
        version = PUBLISHED.get(self._weights)
        return self._published[version].url if version else None

    def _renamed(self, content: bytes) -> dict[str, Tensor]:
        """The state dict of torchvision's model in a file as one of `blocks`, without the classifier. Raises
        `ValueError` if an entry is missing or unknown."""
        with torch.device("meta"):
            model = self._make(weights=None)
        model.fc = nn.Identity()
        found = weight_files.state_dict(content, model.state_dict())
        state = {name: tensor for name, tensor in found.items() if not name.startswith("fc.")}
        missing, unknown = model.load_state_dict(state, strict=False, assign=True)
        for what, names in (("lacks", missing), ("has the unknown", unknown)):
            if names:
                raise ValueError(f"the state dict {what} {names[0]} and {len(names) - 1} more")
        parts = ((*name.partition("."), tensor) for name, tensor in state.items())
        return {f"{PLACES[part]}.{rest}": tensor for part, _, rest, tensor in parts}


def backbone(network: NetworkSettings) -> ResNet:
    return ResNet(network.backbone, network.weights)


def _published(url: str) -> bytes:
    """A file that torchvision publishes, downloaded or from torch's folder of downloads. Raises `ValueError` if its
    SHA-256 does not start with the digits at the end of its name, `OSError` if it cannot be downloaded."""
    name = url.rpartition("/")[2]
    kept = Path(torch.hub.get_dir(), "checkpoints", name)
    try:
        content = kept.read_bytes() if kept.exists() else _downloaded(url)
    except http.client.HTTPException as error:
        raise OSError(f"{url}: {error}") from None
    digest = hashlib.sha256(content).hexdigest()
    if not digest.startswith(Path(name).stem.rpartition("-")[2]):
        raise ValueError(
            f"the SHA-256 of {kept if kept.exists() else url} is {digest}, which is not what its name says"
        )
    return content


def _downloaded(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return answer.read()
