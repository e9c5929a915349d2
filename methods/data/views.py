"""Augmentation: the views of training images in one epoch.

* `shift`: moved by up to 3 pixels in each direction, for digit scenes.
* `flip`: mirrored with probability one half (single-positive and Large Loss releases).
* `crops`: a square of 8, 7, 6, 5 or 4 eighths of the stored image's side (512, 448, 384, 320 or 256 of 512 pixels), at
  a random place, scaled to the network's image size, and mirrored as by `flip` (SST and SARB releases,
  dataloader.py:68-83).

The random numbers of an image depend only on (seed, epoch, row of the image), not on its batch or the device: draws are
made on the CPU, pixels are changed on their own device.

Crops are scaled like in Pillow (bicubic with a = -0.5, smoothed when shrunk, rounded after each direction). On
photographs at 448 pixels the mean absolute difference from Pillow is 0.002 of 255 levels on the CPU and 0.01 elsewhere,
and never more than 2 levels. The releases scale files to 512 pixels with the bicubic filter, the image cache with the
bilinear one: views differ from those of the releases by 0.4 to 2.1 levels on average.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..contract.randomness import torch_generator

# The largest shift of `shift` in each direction, in pixels.
SHIFT = 3
# Sides of the squares of `crops`, in eighths of the side of the image.
EIGHTHS = (8, 7, 6, 5, 4)
# Augmentations that need images in their stored size, not scaled to the network's image size.
OF_STORED = ("crops",)
# Devices on which torch scales uint8 images with integers, as Pillow does. Elsewhere it scales only floats.
SCALES_BYTES = ("cpu",)

Views = Callable[[Tensor, Tensor], Tensor]


def views(augmentation: str, images: int, size: int, seed: int, epoch: int) -> Views:
    """A function from uint8 images (B, 3, H, W) and their rows (B,) to their views, uint8 on the same device. `images`
    is the number of all training images. The views of `crops` are (B, 3, size, size)."""
    if augmentation == "shift":
        generator = torch_generator(seed, epoch, "augmentation")
        offsets = torch.randint(-SHIFT, SHIFT + 1, (images, 2), generator=generator)
        return lambda pixels, rows: shifted(pixels, offsets[rows])
    flips = torch.rand(images, generator=torch_generator(seed, epoch, "augmentation", "flip")) < 0.5
    if augmentation == "flip":
        return lambda pixels, rows: flipped(pixels, flips[rows])
    # In double precision, because a float32 draw just below 1 can become 1 when it is scaled.
    draws = torch.rand(images, 3, generator=torch_generator(seed, epoch, "augmentation", "crops"), dtype=torch.float64)

    def crops(pixels: Tensor, rows: Tensor) -> Tensor:
        return flipped(cropped(pixels, *squares(draws[rows], pixels.shape[-1]), size), flips[rows])

    return crops


def shifted(images: Tensor, offsets: Tensor) -> Tensor:
    """Images (B, 3, H, W), each moved by its own `offsets` (dy, dx) in pixels, (B, 2) int64. Edges are repeated."""
    height, width = images.shape[2:]
    rows = (torch.arange(height) - offsets[:, :1]).clamp_(0, height - 1).to(images.device)
    columns = (torch.arange(width) - offsets[:, 1:]).clamp_(0, width - 1).to(images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    # NumPy-style indexing with arrays around a slice puts the channels last: (B, H, W, 3).
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flipped(images: Tensor, flips: Tensor) -> Tensor:
    """Images (B, 3, H, W); those with True in `flips` (B,) are mirrored left to right."""
    return torch.where(flips.to(images.device)[:, None, None, None], images.flip(3), images)


def squares(draws: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Sides (B,) and top left corners (y, x), (B, 2), int64, of random squares in images of `side` x `side` pixels.

    `draws` (B, 3) are uniform in [0, 1). All sizes in `EIGHTHS` are equally likely, and so are all places of a square.
    """
    sides = side * torch.tensor(EIGHTHS)[(draws[:, 0] * len(EIGHTHS)).long()] // 8
    return sides, (draws[:, 1:] * (side - sides + 1)[:, None]).long()


def cropped(images: Tensor, sides: Tensor, corners: Tensor, size: int) -> Tensor:
    """One square of each uint8 image (B, 3, H, W), with sides (B,) and top left corners (y, x), (B, 2), scaled to
    (B, 3, size, size)."""
    views = images.new_empty((len(images), 3, size, size))
    for side in sides.unique().tolist():
        chosen = (sides == side).nonzero()[:, 0]
        places = zip(chosen.tolist(), corners[chosen].tolist(), strict=True)
        parts = torch.stack([images[row, :, y : y + side, x : x + side] for row, (y, x) in places])
        views[chosen.to(images.device)] = scaled(parts, size)
    return views


def scaled(images: Tensor, size: int) -> Tensor:
    """uint8 images (B, 3, H, W) scaled to (B, 3, size, size) like with Pillow's bicubic filter."""
    if images.shape[2:] == (size, size):
        return images
    if images.device.type in SCALES_BYTES:
        return _bicubic(images, size, size)
    # Like in Pillow, values are rounded after the width is scaled, before the height is scaled.
    wide = _bicubic(images.to(torch.float32), images.shape[2], size).round_().clamp_(0, 255)
    return _bicubic(wide, size, size).round_().clamp_(0, 255).to(torch.uint8)


def _bicubic(images: Tensor, height: int, width: int) -> Tensor:
    return nn.functional.interpolate(images, (height, width), mode="bicubic", antialias=True)
