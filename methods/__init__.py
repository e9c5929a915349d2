"""Methods of multi-label recognition with partial labels: data, networks, losses, metrics, training.

Usable alone (`from methods import fit`). Nothing in this package knows of Ray, Optuna, MLflow or YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .training.fit import Result, fit

__all__ = ["Result", "fit"]


def __getattr__(name: str) -> Any:
    # torch takes a second to import: only what trains pays for it.
    if name in __all__:
        import importlib

        return getattr(importlib.import_module(".training.fit", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
