"""Decodes an image file to the pixels that the image cache keeps.

Nothing else may stand here: the hash of this module is in the name of every image cache.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIDE = 512  # pixels


class ImageError(ValueError):
    """An image file is missing, or cannot be decoded completely."""


def decoded(path: Path) -> np.ndarray:
    """An image as (3, 512, 512) uint8. Both sides are scaled to 512, as in the released code (bilinear, smoothed).

    Grey, CMYK, palette and 16-bit images become RGB, transparency becomes white, and the rotation in the EXIF data is
    applied. Raises `ImageError`.
    """
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I") or upright.mode == "F":
                upright = _eight_bits(upright)
            if upright.has_transparency_data:
                coloured = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", coloured.size, "white"), coloured)
            small = upright.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    except FileNotFoundError:
        raise ImageError(f"{path}: is not there") from None
    # For a damaged file Pillow raises many kinds: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        raise ImageError(f"{path}: cannot be decoded: {error}") from None
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scales grey values of 16 bits or more to 8 bits. Pillow's own conversion would clip them at 255."""
    values = np.asarray(image, np.float64)
    return Image.fromarray(np.clip(values / 257 if values.max() > 255 else values, 0, 255).astype(np.uint8))
