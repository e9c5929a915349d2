"""How settings, metrics and their values are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

NO_VALUE = "—"
CHOSEN = "chosen on val"
AVERAGE = "average"

# setting: (name in print, unit); a setting that is not here prints as its dotted name
_SETTINGS = {
    "delta_rel": ("Δrel", "percent per epoch"),
    "epoch": ("epoch", ""),
    "gamma_neg": ("γ−", ""),
    "gamma_pos": ("γ+", ""),
    "theta_intra_min": ("smallest θ", ""),
    "theta_inter_min": ("smallest θ", ""),
    "data.dataset": ("data set", ""),
    "data.known": ("known proportion", ""),
    "data.labels": ("labels", ""),
    "data.train_fraction": ("share of the training images", ""),
    "train.linear_init": ("training", ""),
}
_VALUES = {
    "train.linear_init": {"off": "end-to-end", "first_epochs": "LinearInit", "separate": "LinearInit (separate run)"}
}
_SHARES = ("data.known", "data.train_fraction")  # in percent
_MEASURES = {"map": "mAP", "ap": "AP", "map_interpolated": "interpolated mAP"} | {
    name: name.upper() for name in ("op", "or", "of1", "cp", "cr", "cf1")
}
_GROUPS = {f"map_g{group}": f"G{group}" for group in range(1, 6)}
_KINDS = ("tp", "tn", "fn")

# metric: (what is measured, of which part); a metric that is neither here nor a measure prints as its name
_METRICS = {
    "train/loss": ("training loss", ""),
    "train/known_labels": ("known labels", ""),
    "train/seconds": ("training time (s)", ""),
    "selected_epoch": ("selected epoch", ""),
    "train/alpha": ("learned share of the own feature", "α"),
    "train/beta": ("learned share of the own feature", "β"),
    "train/theta_intra": ("threshold of pseudo labels", "IST"),
    "train/theta_inter": ("threshold of pseudo labels", "CST"),
    "train/pseudo_intra": ("pseudo labels per image", "IST"),
    "train/pseudo_inter": ("pseudo labels per image", "CST"),
    "modifications/precision": ("precision of modification (%)", ""),
    "modifications/count": ("modified labels", ""),
    "modifications/per_image": ("modified labels per image", ""),
    "pointing_game/hits": ("pointing game hits (%)", ""),
    **{f"memorization/{kind}_loss": ("mean loss of training labels", kind.upper()) for kind in _KINDS},
    **{f"memorization/{kind}_warmup": ("highest loss in warm-up (%)", kind.upper()) for kind in _KINDS},
    **{f"memorization/{kind}_later": ("highest loss later (%)", kind.upper()) for kind in _KINDS},
}
_PARTS = {
    "G1": "G1 to G5: fifths of the classes, from the most rarely to the most often annotated",
    "FN": "Unobserved labels count as negative: TP are observed positives, TN true negatives, FN unobserved positives",
}


def setting_name(name: str) -> str:
    """`delta_rel` is "Δrel"."""
    return _SETTINGS.get(name, (name, ""))[0]


def setting_title(name: str) -> str:
    """`delta_rel` is "Δrel (percent per epoch)"."""
    printed, unit = _SETTINGS.get(name, (name, ""))
    return f"{printed} ({unit})" if unit else printed


def metric_parts(name: str) -> tuple[str, str]:
    """What is measured, with its unit, and of which part: `test/map_g1` is "test mAP (%)" of "G1"."""
    name = name.removeprefix("epoch/")
    whole, per_class, of = name.partition("/ap/")
    if per_class:
        return metric_parts(f"{whole}/ap")[0], of
    *split, measure = name.split("/")
    part = _GROUPS.get(measure, "")
    measure = "map" if part else measure
    if measure in _MEASURES:
        return f"{' '.join([*split, _MEASURES[measure]])} (%)", part
    return _METRICS.get(name, (name, ""))


def metric_title(name: str) -> str:
    """`test/map` is "test mAP (%)"; a metric that is no measure in percent stays as it is."""
    return ", ".join(filter(None, metric_parts(name)))


def told_apart(metrics: Sequence[str]) -> tuple[str, list[str]]:
    """What metrics have in common, if anything, and what each is besides: "test mAP (%)" and "G1", "G2", …, "all"."""
    titles, whats = [metric_title(metric) for metric in metrics], {what for what, _ in map(metric_parts, metrics)}
    if len(metrics) > 1 and len(whats) == 1:
        return whats.pop(), [part or "all" for _, part in map(metric_parts, metrics)]
    return "", titles


def explained(metrics: Sequence[str]) -> list[str]:
    """What the parts that metrics are of mean."""
    present = {part for _, part in map(metric_parts, metrics)}
    return [text for part, text in _PARTS.items() if part in present]


def value_name(value: object, setting: str = "") -> str:
    """One text per value: 1 and 1.0 are both "1", a share of 0.1 is "10%"; None and NaN are the dash that stands for
    "has no such setting"."""
    if value is None or value != value:
        return NO_VALUE
    if isinstance(value, str):
        return _VALUES.get(setting, {}).get(value, value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"{100 * value:.12g}%" if setting in _SHARES else f"{value:.12g}"
    return json.dumps(value)


def higher_is_better(metric: str) -> bool:
    """Losses, errors and costs are better low, every other metric high."""
    costs = ("loss", "error", "seconds", "selected_epoch")
    return not any(word in metric.partition("/ap/")[0] for word in costs)


def of_all_epochs(metric: str) -> bool:
    """Whether a result says something of all epochs, whichever is selected."""
    return metric.startswith("memorization/") or metric in ("train/known_labels", "train/seconds")


def several(value: Any) -> list[Any]:
    """What stands in a layout as one, several or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def signed(value: float) -> str:
    """A difference as it is printed: +1.23, −0.45, +∞."""
    return f"{value:+.2f}".replace("-", "−").replace("inf", "∞")
