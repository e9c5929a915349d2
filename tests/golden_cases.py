"""Golden vectors: inputs and the results that public research code gives for them (golden/README.md says which).

Parity tests find the files by case, so further files in the folder are tested without a change here.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

GOLDEN_DIR = Path(os.environ.get("GOLDEN_DIR") or Path(__file__).with_name("golden"))


def cases(name: str) -> list[Any]:
    """The files `<name>-<n>.npz`, as parameters of a test, in order of n; `FileNotFoundError` if there are none.

    A parity test without cases would pass, having compared nothing; so its collection fails instead.
    """
    numbered = {path: re.fullmatch(rf"{re.escape(name)}-(\d+)", path.stem) for path in GOLDEN_DIR.glob("*.npz")}
    found = sorted((int(match[1]), path) for path, match in numbered.items() if match)
    if not found:
        raise FileNotFoundError(f"no {name}-<n>.npz in {GOLDEN_DIR}; GOLDEN_DIR names the folder of golden vectors")
    return [pytest.param(path, id=path.stem) for _, path in found]


def load(path: Path) -> SimpleNamespace:
    """The arrays of one file by name (`in_*`, `param_*`, `weight_*`, `out_*`), scalars as Python's."""
    with np.load(path) as file:
        return SimpleNamespace(**{name: file[name] if file[name].ndim else file[name].item() for name in file.files})
