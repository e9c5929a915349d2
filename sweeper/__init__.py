"""The engine: spaces, plans, scheduling and the record of sweeps. It knows nothing of labels or losses."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
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


def _import_those_beside_this(*names: str) -> None:
    """Import these packages from the folder in which this one lies, also where a folder that Python looks in before has
    packages of the same names: `python -m` and Ray's workers begin with the working directory.

    Raises `ImportError` if another package of such a name has been imported already.
    """
    here = Path(__file__).parent.parent
    sys.path.insert(0, str(here))
    try:
        found = {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(here))
    for name, module in found.items():
        where = Path(next(iter(module.__path__)))
        if (here / name).is_dir() and not where.samefile(here / name):
            raise ImportError(f"sweeper needs its own package {name!r}, but {where} was imported before; rename that")


_import_those_beside_this("methods", "analysis")
