"""Methods of multi-label recognition with partial labels. Each module here is one method; the packages have the data,
networks, losses, metrics and training that methods share.

The package can be used alone (`from methods import fit`). Nothing in it may depend on Ray, Optuna, MLflow or YAML.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .training.fit import Result, fit

__all__ = ["Result", "fit"]


def __getattr__(name: str) -> Any:
    # Importing torch takes a second, so it is imported only when it is needed.
    if name in __all__:
        import importlib

        return getattr(importlib.import_module(".training.fit", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
