"""From an image file to pixels: what is kept of every image of a data set in files.

Nothing else may stand here: this module's code is in the name of every image cache.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

SIDE = 512  # pixels


class ImageError(ValueError):
    """An image that is not there, or cannot be decoded to its end."""


def decoded(path: Path) -> np.ndarray:
    """An image as (3, 512, 512) uint8, both sides scaled on their own, as the released code does (bilinear, smoothed).

    Grey, CMYK, palette and 16-bit images become RGB, transparency becomes white, and an image that its EXIF data says
    is rotated is turned upright. Raises `ImageError`.
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
    # Pillow raises whatever it meets in a damaged file: OSError, SyntaxError, ValueError, struct.error, …
    except Exception as error:
        raise ImageError(f"{path}: cannot be decoded: {error}") from None
    return np.ascontiguousarray(np.asarray(small).transpose(2, 0, 1))


def _eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of 16 bits or more, of which plain conversion would cut off all above 255."""
    values = np.asarray(image, np.float64)
    return Image.fromarray(np.clip(values / 257 if values.max() > 255 else values, 0, 255).astype(np.uint8))
