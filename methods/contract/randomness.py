"""Counter-based randomness: each generator is seeded by its purpose, so no draw depends on an earlier draw.

No function here reads or changes the global generators of Python, NumPy or torch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch


def fold_in(*parts: int | str) -> int:
    """A 64-bit seed from the purpose of a draw, such as `fold_in(seed, epoch, "order")`."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """A NumPy generator for one purpose; Philox is itself counter-based."""
    return np.random.Generator(np.random.Philox(key=fold_in(*parts)))


def torch_generator(*parts: int | str) -> torch.Generator:
    """A torch generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(fold_in(*parts))


@contextlib.contextmanager
def seeded(*parts: int | str) -> Iterator[None]:
    """Seed torch's global generator for one purpose within the block, and restore its state afterwards. Used for module
    constructors, because torch's initialisers take no generator."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(fold_in(*parts))
        yield
