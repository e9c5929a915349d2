"""Training views: what each image looks like in one epoch.

* `shift`: moved by up to 3 pixels each way, for digit scenes.
* `flip`: mirrored with probability one half (single-positive and Large Loss releases).
* `crops`: a square of 8, 7, 6, 5 or 4 eighths of the stored image's side (512, 448, 384, 320 or 256 of 512 pixels), at
  a random place, scaled to the size that the network sees, and mirrored as by `flip` (SST and SARB releases,
  dataloader.py:68-83).

What is drawn for an image is a function of (seed, epoch, row of the image) alone, whatever batch it comes in and
wherever views are made: draws are made on the CPU, pixels are moved on their own device.

A crop is scaled as Pillow scales it (bicubic with a = -0.5, smoothed where it shrinks, rounded after each direction):
on photographs and at 448 pixels the mean absolute difference is 0.002 of 255 levels on the CPU and 0.01 elsewhere, and
no pixel is more than 2 levels away. The releases scale files to 512 pixels with the bicubic filter too, the image cache
bilinearly: views differ from theirs by 0.4 to 2.1 levels in the mean.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..contract.randomness import torch_generator

# Pixels that `shift` moves an image at most, each way.
SHIFT = 3
# Sides of the squares of `crops`, in eighths of the image's.
EIGHTHS = (8, 7, 6, 5, 4)
# Views that are made of images as they are stored, not of those that are scaled to what the network sees.
OF_STORED = ("crops",)
# Devices on which torch scales bytes, in whole numbers as Pillow does; elsewhere it scales floats alone.
SCALES_BYTES = ("cpu",)

Views = Callable[[Tensor, Tensor], Tensor]


def views(augmentation: str, images: int, size: int, seed: int, epoch: int) -> Views:
    """A function from uint8 images (B, 3, H, W) and their rows (B,), of `images` in all, to their views in an epoch,
    uint8 on the same device; `crops` makes them (B, 3, size, size)."""
    if augmentation == "shift":
        generator = torch_generator(seed, epoch, "augmentation")
        offsets = torch.randint(-SHIFT, SHIFT + 1, (images, 2), generator=generator)
        return lambda pixels, rows: shifted(pixels, offsets[rows])
    flips = torch.rand(images, generator=torch_generator(seed, epoch, "augmentation", "flip")) < 0.5
    if augmentation == "flip":
        return lambda pixels, rows: flipped(pixels, flips[rows])
    # In double precision: in single precision a draw just below 1 becomes 1 when it is scaled.
    draws = torch.rand(images, 3, generator=torch_generator(seed, epoch, "augmentation", "crops"), dtype=torch.float64)

    def crops(pixels: Tensor, rows: Tensor) -> Tensor:
        return flipped(cropped(pixels, *squares(draws[rows], pixels.shape[-1]), size), flips[rows])

    return crops


def shifted(images: Tensor, offsets: Tensor) -> Tensor:
    """Each image (B, 3, H, W) moved by its own (dy, dx) pixels, (B, 2) int64; edges are repeated."""
    height, width = images.shape[2:]
    rows = (torch.arange(height) - offsets[:, :1]).clamp_(0, height - 1).to(images.device)
    columns = (torch.arange(width) - offsets[:, 1:]).clamp_(0, width - 1).to(images.device)
    image = torch.arange(len(images), device=images.device)[:, None, None]
    # Advanced indices around a slice put the channels last: (B, H, W, 3).
    return images[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def flipped(images: Tensor, flips: Tensor) -> Tensor:
    """Images (B, 3, H, W), mirrored left to right where `flips` (B,) bool says so."""
    return torch.where(flips.to(images.device)[:, None, None, None], images.flip(3), images)


def squares(draws: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Sides (B,) and top left corners (y, x), (B, 2), int64, of squares in images `side` pixels wide and high, from
    draws (B, 3) in [0, 1): all of `EIGHTHS` are as likely, and all places of a square."""
    sides = side * torch.tensor(EIGHTHS)[(draws[:, 0] * len(EIGHTHS)).long()] // 8
    return sides, (draws[:, 1:] * (side - sides + 1)[:, None]).long()


def cropped(images: Tensor, sides: Tensor, corners: Tensor, size: int) -> Tensor:
    """Of each uint8 image (B, 3, H, W) its own square, by side (B,) and top left corner (y, x), (B, 2), scaled to
    (B, 3, size, size)."""
    views = images.new_empty((len(images), 3, size, size))
    for side in sides.unique().tolist():
        chosen = (sides == side).nonzero()[:, 0]
        places = zip(chosen.tolist(), corners[chosen].tolist(), strict=True)
        parts = torch.stack([images[row, :, y : y + side, x : x + side] for row, (y, x) in places])
        views[chosen.to(images.device)] = scaled(parts, size)
    return views


def scaled(images: Tensor, size: int) -> Tensor:
    """uint8 images (B, 3, H, W) with both sides scaled to `size`, as Pillow's bicubic filter does it."""
    if images.shape[2:] == (size, size):
        return images
    if images.device.type in SCALES_BYTES:
        return _bicubic(images, size, size)
    # As there, what is scaled in width is rounded before it is scaled in height.
    wide = _bicubic(images.to(torch.float32), images.shape[2], size).round_().clamp_(0, 255)
    return _bicubic(wide, size, size).round_().clamp_(0, 255).to(torch.uint8)


def _bicubic(images: Tensor, height: int, width: int) -> Tensor:
    return nn.functional.interpolate(images, (height, width), mode="bicubic", antialias=True)
