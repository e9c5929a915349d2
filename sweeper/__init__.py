"""The engine: spaces, plans, scheduling and the record of sweeps. It knows nothing of labels or losses."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .planning.plan import plan
    from .running.run import run
    from .spaces.reading import load_space

__all__ = ["load_space", "plan", "run"]

_HOMES = {"load_space": "spaces.reading", "plan": "planning.plan", "run": "running.run"}


def __getattr__(name: str) -> Any:
    # Ray, MLflow and torch take seconds to import: only what needs them pays for them.
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
