"""Tensors made once and kept on disk under the hash of their recipe (pre-trained weights).

A cache, never a record: deleting it costs time and nothing else.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from .files import replacing

Tensors = dict[str, Tensor]


def default_folder() -> Path:
    """`SWEEPER_STORE`, or `./runs/store`."""
    return Path(os.environ.get("SWEEPER_STORE") or "runs/store").absolute()


def cached(folder: Path, key: str, make: Callable[[], Tensors]) -> Tensors:
    """The tensors under `key`, made and written if they are not there. A damaged file is reported and made again."""
    path = folder / f"{key}.pt"
    if path.exists():
        try:
            return torch.load(path, weights_only=True)
        except Exception as error:  # any damage at all: what is in the file cannot be trusted, and can be made again
            warnings.warn(f"{path} is damaged ({error}); it is made again", stacklevel=2)
    tensors = make()
    # By way of memory: where the disk is full, torch.save hides the OSError behind an error of its own.
    content = io.BytesIO()
    torch.save(tensors, content)
    try:
        with replacing(path) as file:
            file.write(content.getbuffer())
    except OSError as error:
        warnings.warn(f"{folder} cannot be written ({error.strerror}); what is made is not kept", stacklevel=2)
    return tensors
