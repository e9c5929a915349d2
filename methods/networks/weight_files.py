"""Files of weights as people have them: a state dict, alone or in a checkpoint, of torch or of safetensors.

Only tensors and plain values are read. A file that would need other objects is refused, because making them executes
code of the file. Nothing here knows an architecture.
"""

from __future__ import annotations

import argparse
import io
import pickle
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

# Under which key checkpoints keep the state dict, the first that is there: Lightning and most scripts, others.
_KEYS = ("state_dict", "model_state_dict", "model")


def state_dict(content: bytes, names: Collection[str]) -> dict[str, Tensor]:
    """The entries of a file that belong to a model with these `names` of parameters and buffers.

    The file has the state dict itself, or a mapping with it under one of `_KEYS`. If all names have a prefix there, as
    in `module.conv1.weight` or `model.backbone.conv1.weight`, it is taken off, and entries without it are left out;
    otherwise all entries are returned, also unknown ones. Raises `ValueError` for anything else.
    """
    found: Any = _read(content)
    while isinstance(found, Mapping) and (inner := [key for key in _KEYS if isinstance(found.get(key), Mapping)]):
        found = found[inner[0]]
    if not isinstance(found, Mapping) or not all(
        isinstance(v, Tensor) and isinstance(n, str) for n, v in found.items()
    ):
        what = f"keys {', '.join(map(str, list(found)[:5]))}" if isinstance(found, Mapping) else type(found).__name__
        raise ValueError(f"no state dict is in it, alone or under {' | '.join(_KEYS)}; it has {what}")
    found = {str(name): tensor for name, tensor in found.items()}
    prefix = "" if next(iter(names)) in found else _prefix(found, names)
    return {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}


def _prefix(found: Collection[str], names: Collection[str]) -> str:
    """What stands before the model's names in the file; "" if most of them are not there."""
    first = next(iter(names))
    candidates = (name.removesuffix(first) for name in found if name.endswith(f".{first}"))
    prefixes = [one for one in candidates if 2 * sum(f"{one}{name}" in found for name in names) > len(names)]
    if len(prefixes) > 1:
        raise ValueError(f"several models are in it, at {' and '.join(map(repr, prefixes))}; keep one of them")
    return prefixes[0] if prefixes else ""


def _read(content: bytes) -> Any:
    # A file of safetensors begins with the length of its header, which is JSON.
    if content[8:9] == b"{" and int.from_bytes(content[:8], "little") < len(content):
        from safetensors.torch import load

        return load(content)
    with torch.serialization.safe_globals([argparse.Namespace]):  # torchvision's scripts keep their options with it
        try:
            return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            named = re.search(r"(?:GLOBAL|global) ([\w.]+\.\w+)", str(error))
            which = f" ({named[1]})" if named else ""
            raise ValueError(
                f"it has objects{which} besides tensors and plain values; save the tensors alone"
            ) from None
