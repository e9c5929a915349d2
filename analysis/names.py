"""How settings, metrics and their values are printed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from analysis.record.names import EPOCH, KNOWN_LABELS, PARAMETERS, SECONDS, SELECTED, SIZES, WHOLE

NO_VALUE = "—"
CHOSEN = "chosen on val"
AVERAGE = "average"

_MEASURES = {
    "map": "mAP",
    "ap": "AP",
    "map_interpolated": "interpolated mAP",
    "map_absent_zero": "mAP with 0 for absent classes",
} | {name: name.upper() for name in ("op", "or", "of1", "cp", "cr", "cf1")}
# The definitions of mAP over all classes
MAPS = ("test/map", "test/map_interpolated", "test/map_absent_zero")
# Rules that select the epoch that a trial reports. The oracle selects on test, by the mAP that it may name.
ORACLE = "best_test"
RULES = ("last", "best_val", ORACLE, *(f"{ORACLE}:{metric}" for metric in MAPS))
_GROUPS = {f"map_g{group}": f"G{group}" for group in range(1, 6)}
# Metrics of every sweep, which no method declares
_METRICS = {
    "train/loss": "training loss",
    KNOWN_LABELS: "known labels",
    PARAMETERS: "trained parameters",
    SECONDS: "training time (s)",
    SELECTED: "selected epoch",
}
_PARTS = {
    "G1": "G1 to G5: fifths of the classes, from the most rarely to the most often annotated",
    "FN": "Unobserved labels count as negative: TP are observed positives, TN true negatives, FN unobserved positives",
}


@dataclass(frozen=True)
class Names:
    """How settings, their values and metrics are printed, as the sweep's record says in its `titles`.

    `settings` has for a dotted name `title`, `unit` and `values` (text by value); the unit "%" marks a share, which is
    printed in percent. `metrics` has "what is measured" or "what is measured, of which part". A setting or metric that
    has no title is printed as its name.
    """

    settings: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, str]

    @classmethod
    def of(cls, space: Mapping[str, Any]) -> Names:
        """The names in a space. A space that older code has recorded has no titles."""
        titles = space.get("titles", {})
        return cls(titles.get("settings", {}), titles.get("metrics", {}))

    def setting_name(self, name: str) -> str:
        """`delta_rel` is "Δrel"."""
        return self.settings.get(name, {}).get("title") or name

    def setting_title(self, name: str) -> str:
        """`delta_rel` is "Δrel (percent per epoch)"."""
        unit = self.settings.get(name, {}).get("unit")
        return f"{self.setting_name(name)} ({unit})" if unit and not self.is_share(name) else self.setting_name(name)

    def is_share(self, name: str) -> bool:
        """Whether values of a setting are printed in percent."""
        return self.settings.get(name, {}).get("unit") == "%"

    def value_name(self, value: object, setting: str) -> str:
        """As `as_text`, but a share of 0.1 is "10%", and a value that has a text of its own is that text."""
        text = as_text(value)
        if self.is_share(setting) and _is_number(value) and text != NO_VALUE:
            return f"{100 * value:.12g}%"
        return self.settings.get(setting, {}).get("values", {}).get(text, text)

    def metric_parts(self, name: str) -> tuple[str, str]:
        """What is measured, with its unit, and of which part: `test/map_g1` is "test mAP (%)" of "G1"."""
        name = name.removeprefix(EPOCH)
        if name in self.metrics:
            what, _, part = self.metrics[name].rpartition(", ")
            return (what, part) if what else (part, "")
        whole, per_class, of = name.partition("/ap/")
        if per_class:
            return self.metric_parts(f"{whole}/ap")[0], of
        *split, measure = name.split("/")
        part = _GROUPS.get(measure, "")
        measure = "map" if part else measure
        if measure in _MEASURES:
            return f"{' '.join([*split, _MEASURES[measure]])} (%)", part
        return _METRICS.get(name, name), ""

    def metric_title(self, name: str) -> str:
        """`test/map` is "test mAP (%)"."""
        return ", ".join(filter(None, self.metric_parts(name)))

    def told_apart(self, metrics: Sequence[str]) -> tuple[str, list[str]]:
        """What metrics have in common ("test mAP (%)"), if anything, and what each is besides: "G1", "G2", …, "all"."""
        parts = [self.metric_parts(metric) for metric in metrics]
        common = {what for what, _ in parts}
        if len(metrics) > 1 and len(common) == 1:
            return common.pop(), [part or "all" for _, part in parts]
        return "", [self.metric_title(metric) for metric in metrics]

    def explained(self, metrics: Sequence[str]) -> list[str]:
        """Sentences on the parts that metrics are of."""
        present = {self.metric_parts(metric)[1] for metric in metrics}
        return [text for part, text in _PARTS.items() if part in present]


def as_text(value: object) -> str:
    """One text per value: 1 and 1.0 are both "1"; None and NaN are the dash for "has no such setting"."""
    if value is None or value != value:
        return NO_VALUE
    if isinstance(value, str):
        return value
    return f"{value:.12g}" if _is_number(value) else json.dumps(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def higher_is_better(metric: str) -> bool:
    """Losses, errors and costs are better low, every other metric high."""
    costs = ("loss", "error", "seconds", PARAMETERS, SELECTED)
    return not any(word in metric.partition("/ap/")[0] for word in costs)


def of_all_epochs(metric: str) -> bool:
    """Whether a result is measured over all epochs, whichever is selected."""
    return metric.startswith(WHOLE) or metric in (KNOWN_LABELS, *SIZES)


def several(value: Any) -> list[Any]:
    """A value of a layout as a list: of one, several or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def signed(value: float) -> str:
    """A difference as it is printed: +1.23, −0.45, +∞."""
    return f"{value:+.2f}".replace("-", "−").replace("inf", "∞")
