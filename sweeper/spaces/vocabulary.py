"""The words of a space file: the names that its tables, figures and searches can ask for, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.record.names import HISTORY, KNOWN_LABELS, LOSS_WINDOWS, PARAMETERS, SECONDS, SELECTED
from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.evaluation.metrics import GROUP_METRICS, METRICS, PER_CLASS
from methods.training.config import setting_fields
from methods.training.registry import methods

MEASURED = "measured"
DEFAULT_PROFILE = "default"
_MEASURED = tuple(f"{split}/{name}" for split in ("test", "val") for name in (*METRICS, *GROUP_METRICS))
_DIAGNOSED = tuple(f"{diagnostic}/{name}" for diagnostic, names in DIAGNOSTICS.items() for name in names)
# A metric per class: those of all classes.
CLASSES = f"test/{PER_CLASS}"
TABLE_VALUES = (*_MEASURED, *_DIAGNOSED, KNOWN_LABELS, PARAMETERS, SECONDS, CLASSES)
# What a search can look at: nothing that is reported.
SELECTING = tuple(f"val/{name}" for name in METRICS)
OBJECTIVES = (*SELECTING, *_DIAGNOSED, PARAMETERS, SECONDS, SELECTED)
_OVER_EPOCHS = tuple(name for name in _MEASURED if name.partition("/")[2] in HISTORY)
CURVES = ("train/loss", *_OVER_EPOCHS, *_DIAGNOSED, LOSS_WINDOWS)
# Pictures are drawn from a file that a trial leaves as an artifact.
PICTURES = r"[\w-]+\.npz"


@dataclass(frozen=True)
class Known:
    """What names in a section can stand for: settings and reports of these methods, and these variants (none: any)."""

    methods: Iterable[str]
    variants: Sequence[str] = ()

    def settings(self) -> list[str]:
        return list(dict.fromkeys(name for method in self.methods for name, _ in setting_fields(method)))

    def columns(self) -> list[str]:
        return ["metric", *self.settings()]

    def curves(self) -> list[str]:
        """What a figure can draw over the epochs: also what the methods report while they train."""
        reported = (f"train/{name}" for method in self.methods for name in methods()[method].reports)
        return list(dict.fromkeys([*CURVES, *reported]))


DIFFERENT: dict[str, Any] = {"unique": True, "min_items": 1}
SEEDS = DIFFERENT | {
    "minimum": 1,
    "problem": "give a list of different integers from 1, such as [1, 2, 3]; given was {given} (seeds count "
    "from 1, as the draws of scenes that can follow them do)",
}


def titles(used: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The printed names of the settings and metrics of the methods `used`.

    `settings` maps a dotted name to its `title`, `unit` and names of `values`. `metrics` maps a recorded name (without
    `epoch/`) to its description. A setting without any of these is left out. A setting or metric that two methods
    declare differently is left out too.
    """
    settings: dict[str, list[dict[str, Any]]] = {}
    metrics: dict[str, list[str]] = {
        f"{diagnostic}/{name}": [text]
        for diagnostic, measured in DIAGNOSTICS.items()
        for name, text in measured.items()
    }
    metrics[LOSS_WINDOWS] = [DIAGNOSTICS["known_loss"]["mean"] + ", windows of steps"]
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
