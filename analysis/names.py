"""How settings, metrics and their values are printed."""

from __future__ import annotations

import json

NO_VALUE = "—"

# setting: (name in print, unit); a setting that is not here prints as its dotted name
_SETTINGS = {
    "delta_rel": ("Δrel", "percent per epoch"),
    "epoch": ("epoch", ""),
    "data.dataset": ("data set", ""),
    "data.known": ("known proportion", ""),
    "data.labels": ("labels", ""),
}
_MEASURES = {"map": "mAP", "map_interpolated": "interpolated mAP"} | {
    name: name.upper() for name in ("op", "or", "of1", "cp", "cr", "cf1")
}


def setting_name(name: str) -> str:
    """`delta_rel` is "Δrel"."""
    return _SETTINGS.get(name, (name, ""))[0]


def setting_title(name: str) -> str:
    """`delta_rel` is "Δrel (percent per epoch)"."""
    printed, unit = _SETTINGS.get(name, (name, ""))
    return f"{printed} ({unit})" if unit else printed


def metric_title(name: str) -> str:
    """`test/map` is "test mAP (%)"; a metric that is no measure in percent stays as it is."""
    *split, measure = name.removeprefix("epoch/").split("/")
    return f"{' '.join([*split, _MEASURES[measure]])} (%)" if measure in _MEASURES else name


def value_name(value: object) -> str:
    """One text per value: 1 and 1.0 are both "1"; None and NaN are the dash that stands for "has no such setting"."""
    if value is None or value != value:
        return NO_VALUE
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{value:.12g}"
    return json.dumps(value)


def higher_is_better(metric: str) -> bool:
    """Losses and errors are better low, every other metric high."""
    return not any(word in metric for word in ("loss", "error"))
