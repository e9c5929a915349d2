"""The backbone for digit scenes: five small convolution blocks, pre-trained on single digits (in place of ImageNet)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..contract.randomness import numpy_generator, seeded, torch_generator
from ..data import digit_scenes
from ..data.views import SHIFT, shifted
from .backbones import Backbone
from .settings import NetworkSettings

# (width, stride): 48 x 48 pixels become a 6 x 6 map.
BLOCKS = ((16, 2), (32, 1), (48, 2), (64, 1), (64, 2))
WIDTH = BLOCKS[-1][0]
BATCH = 64
LEARNING_RATE = 3e-3


class DigitConv(Backbone):
    """The small backbone, pre-trained on `images` single digits for `epochs`; 0 epochs: random weights."""

    width = WIDTH
    re_estimated = True
    computed = True

    def __init__(self, images: int, epochs: int):
        self._images, self._epochs = images, epochs

    def blocks(self, *seed: int | str) -> nn.Sequential:
        """The five conv-BN-ReLU blocks with random weights from `seed`: (B, 3, 48, 48) to (B, 64, 6, 6)."""
        layers = []
        channels = 3
        for index, (width, stride) in enumerate(BLOCKS):
            with seeded(*seed, f"block{index}"):
                convolution = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
            layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width), nn.ReLU()))
            channels = width
        return nn.Sequential(*layers)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 (B, 3, H, W) to float32 in [-1, 1]."""
        return images.to(torch.float32).div_(127.5).sub_(1.0)

    def origin(self) -> dict[str, Any] | None:
        return {"images": self._images, "epochs": self._epochs} if self._epochs else None

    def initial_weights(self) -> dict[str, Tensor]:
        """Weights after training on crops of single digits, classified by digit and colour (40 classes). AdamW with a
        one-cycle learning rate; crops are shifted by up to 3 pixels. Call it on one thread."""
        images, epochs = self._images, self._epochs
        crops, labels = digit_scenes.pretraining_crops(images)
        pixels, targets = torch.from_numpy(crops), torch.from_numpy(labels).long()
        network = self.blocks("pretrain")
        with seeded("pretrain", "classifier"):
            classifier = nn.Linear(WIDTH, int(targets.max()) + 1)
        parameters = [*network.parameters(), *classifier.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
        steps = -(-images // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps * epochs)
        for epoch in range(1, epochs + 1):
            order = torch.from_numpy(numpy_generator("pretrain", epoch, "order").permutation(images))
            generator = torch_generator("pretrain", epoch, "shift")
            offsets = torch.randint(-SHIFT, SHIFT + 1, (images, 2), generator=generator)
            for rows in order.split(BATCH):
                features = network(self.normalise(shifted(pixels[rows], offsets[rows])))
                loss = nn.functional.cross_entropy(classifier(features.mean((2, 3))), targets[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def backbone(network: NetworkSettings) -> DigitConv:
    return DigitConv(network.pretrain_images, network.pretrain_epochs)
