"""Counter-based randomness: every draw is named by what it is for, none depends on what was drawn before.

No function here reads or moves the global generators of Python, NumPy or torch.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import numpy as np
import torch


def fold_in(*parts: int | str) -> int:
    """A 64-bit seed from what a draw is for, such as `fold_in(seed, epoch, "order")`."""
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
    """Code that can only draw from torch's global generator draws from one for this purpose instead.

    For module constructors: torch's initialisers take no generator. The global state is put back afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(fold_in(*parts))
        yield
