"""How the settings and metrics of a sweep are called in print: what its methods, and all methods, declare."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.training.config import setting_fields
from methods.training.registry import methods


def titles(used: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Of the methods `used`: `settings`, by dotted name their `title`, `unit` and the names of their `values`; and
    `metrics`, by the name that they are recorded under (without `epoch/`) their description.

    What declares nothing is left out, and so is what two methods call differently.
    """
    settings: dict[str, list[dict[str, Any]]] = {}
    metrics: dict[str, list[str]] = {
        f"{diagnostic}/{name}": [text]
        for diagnostic, measured in DIAGNOSTICS.items()
        for name, text in measured.items()
    }
    for method in sorted(set(used)):
        for name, field in setting_fields(method):
            declared = {key: field.metadata[key] for key in ("title", "unit", "values")}
            settings.setdefault(name, []).append(declared)
        for name, text in methods()[method].reports.items():
            metrics.setdefault(f"train/{name}", []).append(text)
    return {
        "settings": {name: given[0] for name, given in settings.items() if _agreed(given) and any(given[0].values())},
        "metrics": {name: given[0] for name, given in metrics.items() if _agreed(given)},
    }


def _agreed(given: list[Any]) -> bool:
    return all(one == given[0] for one in given)
