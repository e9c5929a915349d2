"""Importance and response curves of the settings that a sweep varies, and its trials in parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.figures.drawing import LINES, STYLE
from analysis.names import NO_VALUE, Names, several
from analysis.reading.records import Record, RecordError
from analysis.tables.importance import REST, SEED, Importance, measured, response, swept

_WIDTH, _PANEL = 7.17, 2.3  # inches: of the page, the height of a row of panels
_COLUMNS = 3
_TICKS = 8  # the most values that are all named on a scale
_BEHIND = {"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6}  # of a name on a scale
_SHADES = ("#333333", "#bbbbbb")  # of the seed, of the rest


def draw_importance(record: Record) -> Figure:
    """A bar per variant, divided by importance; then a panel per setting: the mean over all others at each of its
    values, with ± one standard deviation over the seeds. Raises `RecordError` as `importance.measured` does."""
    metric = several(record.space["table"]["value"])[0]
    found = measured(record)
    settings = list(dict.fromkeys(axis for one in found for axis in one.settings))
    count = 1 + len(settings)
    columns = 2 if count == 4 else min(count, _COLUMNS)
    rows = math.ceil(count / columns)
    with rc_context(STYLE):
        height = rows * max(_PANEL, 0.25 * len(found)) + 0.15 * len(found) / _COLUMNS + 0.5
        figure = Figure(figsize=(_WIDTH, height), dpi=300, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        _draw_shares(panels[0], found, settings, record.names)
        for axes, setting in zip(panels[1:], settings, strict=False):
            _draw_responses(axes, found, setting, record.names)
            axes.set_ylabel(record.names.metric_title(metric))
        for axes in panels[count:]:
            axes.set_axis_off()
        figure.suptitle(record.space["title"], x=0.01, ha="left", fontsize=8)
        handles = {label: handle for axes in panels[1:] for handle, label in zip(*axes.get_legend_handles_labels())}
        names = list(handles)
        if len(names) > 1:
            figure.legend(handles.values(), names, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_parallel(record: Record) -> Figure:
    """A line per point of the search (means over its seeds) through a scale per setting, coloured by the metric, on the
    last scale; the best are drawn last. Raises `RecordError` for fewer than two settings with several values."""
    metric = several(record.space["table"]["value"])[0]
    settings = swept(record, record.trials)
    if len(settings) < 2:
        raise RecordError(
            f"{record.space['name']!r} has {len(settings)} settings with several values; parallel coordinates need two"
        )
    if metric not in record.trials or record.trials[metric].isna().all():
        raise RecordError(f"no run of {record.space['name']!r} has finished with {metric}")
    trials = record.trials[record.trials["status"] == "FINISHED"].copy()
    variants = ["variant"] if trials["variant"].nunique() > 1 else []
    points = trials.groupby([*variants, *settings], dropna=False, sort=False)[metric].mean().dropna().reset_index()
    points = points.sort_values(metric, kind="stable")
    scales = [*variants, *settings, metric]
    with rc_context(STYLE):
        figure = Figure(figsize=(_WIDTH, 3.2), dpi=300, layout="constrained")
        axes = figure.add_subplot()
        heights = np.column_stack(
            [_scale(axes, place, points[name], trials[name], record.names) for place, name in enumerate(scales)]
        )
        norm = Normalize(points[metric].min(), points[metric].max())
        colours = colormaps["viridis"](norm(points[metric]))
        for line, colour in zip(heights, colours, strict=True):
            axes.plot(range(len(scales)), line, color=colour, linewidth=0.9, alpha=0.75)
        titles = ["variant" if name == "variant" else record.names.setting_title(name) for name in scales[:-1]]
        axes.set_xticks(range(len(scales)), [*titles, record.names.metric_title(metric)])
        axes.set(xlim=(-0.15, len(scales) - 0.75), ylim=(-0.04, 1.04))
        axes.yaxis.set_major_locator(NullLocator())
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.tick_params(axis="x", length=0)
        axes.set_title(record.space["title"], loc="left")
        figure.colorbar(ScalarMappable(norm, "viridis"), ax=axes, fraction=0.025, pad=0.01).outline.set_visible(False)
    return figure


def _draw_shares(axes: Axes, found: Sequence[Importance], settings: Sequence[str], names: Names) -> None:
    variants = [one.variant for one in found]
    start = np.zeros(len(found))
    colours = [colour for colour, *_ in LINES]
    seeds = [SEED] if any(SEED in one.shares for one in found) else []
    greys = dict(zip((SEED, REST), _SHADES, strict=True))
    for number, part in enumerate([*settings, *seeds, REST]):
        widths = np.array([one.rest if part == REST else one.shares.get(part, 0.0) for one in found])
        colour = greys.get(part, colours[number % len(colours)])
        axes.barh(variants, widths, left=start, color=colour, height=0.7, label=names.setting_name(part))
        start += widths
    axes.set(xlim=(0, 100), xlabel="share of the variance (%)")
    axes.invert_yaxis()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, borderaxespad=0.2, handlelength=1)


def _draw_responses(axes: Axes, found: Sequence[Importance], setting: str, names: Names) -> None:
    curves = {one.variant: response(one, setting) for one in found if setting in one.settings}
    styles = {one.variant: style for one, style in zip(found, cycle(LINES), strict=False)}
    values = [value for curve in curves.values() for value in curve.index]
    numbers = all(isinstance(value, int | float) for value in values)
    different = list(dict.fromkeys(values))
    binned = not set(values) <= {value for one in found if setting in one.settings for value in one.runs[setting]}
    for variant, curve in curves.items():
        colour, marker, dashes = styles[variant]
        at = list(curve.index) if numbers else [different.index(value) for value in curve.index]
        axes.plot(at, curve["mean"], color=colour, marker=marker, linestyle=dashes, label=variant)
        spread = curve["std"].fillna(0.0)
        axes.fill_between(at, curve["mean"] - spread, curve["mean"] + spread, color=colour, alpha=0.15, linewidth=0)
    if not numbers:
        axes.set_xticks(range(len(different)), different)
    elif min(values) > 0 and max(values) >= 10 * min(values):
        axes.set_xscale("log")
    if numbers and not binned and len(different) <= _TICKS:
        axes.set_xticks(different, [names.value_name(value, setting) for value in different])
        axes.set_xticks([], minor=True)
    elif numbers and names.is_share(setting):
        axes.xaxis.set_major_formatter(lambda value, _: names.value_name(value, setting))
    axes.set_xlabel(names.setting_title(setting))
    axes.grid(axis="y", linewidth=0.4, color="#dddddd")


def _scale(axes: Axes, place: int, values: pd.Series, in_order: pd.Series, names: Names) -> np.ndarray:
    """Draw one upright scale and return the height of each value on it, 0 … 1. Names are evenly spaced, from the top
    `in_order`; numbers have a scale of their own, logarithmic over a decade; a missing value is at the bottom."""
    there = values.dropna()
    if pd.api.types.is_numeric_dtype(there) and not pd.api.types.is_bool_dtype(there):
        log = there.min() > 0 and there.max() >= 10 * there.min()
        numbers = np.log(values) if log else values.astype(float)
        low, high = numbers.min(), numbers.max()
        lacking = 0.12 if values.isna().any() else 0.0
        heights = lacking + (1 - lacking) * ((numbers - low) / ((high - low) or 1.0))
        ticks = dict(zip(there, heights[there.index], strict=True))
        if len(ticks) > _TICKS:
            even = np.linspace(low, high, 5)
            ticks = dict(zip(np.exp(even) if log else even, np.linspace(lacking, 1, 5), strict=True))
        shown = {names.value_name(float(f"{value:.4g}"), str(values.name)): height for value, height in ticks.items()}
        labels = shown | ({NO_VALUE: 0.0} if lacking else {})
    else:
        setting = str(values.name)
        texts = [names.value_name(value, setting) for value in values]
        listed = list(dict.fromkeys(names.value_name(value, setting) for value in in_order))[::-1]
        labels = {text: number / max(len(listed) - 1, 1) for number, text in enumerate(listed)}
        heights = pd.Series([labels[text] for text in texts])
    axes.axvline(place, color="#777777", linewidth=0.8, zorder=0)
    for text, height in labels.items():
        axes.text(place + 0.02, height, text, fontsize=6, va="center", zorder=3, bbox=_BEHIND)
    return np.asarray(heights.fillna(0.0), dtype=float)
