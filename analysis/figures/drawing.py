"""A sweep as a figure: its table drawn, histories over the epochs, or pictures.

What is drawn of a table is what it prints, cell by cell, so that the two cannot disagree. A figure is as wide as one
column of a paper (pictures: as the page) and is read without colour too: every line has a marker of its own.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.figures import attention, cooccurrence, pictures, similar
from analysis.files import replacing
from analysis.names import CHOSEN, NO_VALUE, several
from analysis.reading.records import Record, RecordError, histories
from analysis.tables.build import build
from analysis.tables.chosen import reported
from analysis.tables.layout import columns_title
from analysis.tables.table import Cell

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, told apart by readers with any common colour blindness; their yellow is too pale for a line
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# The eighth line has the colour of the first, dashed and with another marker.
LINES = (
    *((colour, marker, "-") for colour, marker in zip(_COLOURS, _MARKERS, strict=True)),
    *((colour, marker, "--") for colour, marker in zip(_COLOURS, _MARKERS[3:] + _MARKERS[:3], strict=True)),
)
_UPRIGHT, _PAGE = 12, 7.2  # more names than these stand upright; inches: the widest figure
_GREYS = (("#333333", "--"), ("#777777", ":"), ("#555555", "-."))
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


def draw(record: Record) -> Figure:
    """Draw what the space's `figure` says: curves over the epochs, points of one metric against another, or pictures;
    without it, the table, against the setting or metrics that it has as columns, or row by row.

    Lines are means over seeds; bars (bands over epochs) are ± one standard deviation with n − 1; an open marker lacks
    seeds. Variants without the setting are horizontal lines. Raises `RecordError` where there is nothing to draw.
    """
    space = record.space
    layout, columns = space.get("figure") or {}, several(space["table"].get("columns"))
    if "pictures" in layout:
        with rc_context(STYLE):
            name, images = layout["pictures"], layout["images"]
            if name == attention.NAME:
                return attention.draw(record, name, images, layout.get("failures", 0))
            kinds = {cooccurrence.NAME: cooccurrence.draw, similar.NAME: similar.draw}
            return kinds.get(name, pictures.draw)(record, name, images)
    against = layout.get("x", "epoch")
    curves = several(layout.get("y")) or (several(space["table"]["value"]) if columns == ["epoch"] else [])
    with rc_context(STYLE):
        figure = Figure(figsize=(3.5, 2.9), dpi=300, layout="constrained")
        axes = figure.add_subplot()
        if curves and against != "epoch":
            spread = _draw_points(axes, record, against, curves[0])
        elif curves:
            spread = _draw_epochs(axes, record, curves)
        else:
            spread = _draw_table(axes, record) if columns else _draw_rows(axes, record)
        axes.set_title("\n".join(textwrap.wrap(space["title"], 45)), loc="left")
        axes.grid(axis="y" if columns or curves else "x", linewidth=0.4, color="#dddddd")
        axes.set_axisbelow(True)
        # Three names of 17 characters are as wide as the figure.
        names = axes.get_legend_handles_labels()[1]
        if names:
            ncols = 3 if max(map(len, names)) <= 16 else 2
            figure.legend(loc="outside lower center", ncols=ncols, frameon=False, title=spread, title_fontsize=7)
        else:
            axes.set_xlabel(f"{axes.get_xlabel()}\n{spread}")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `figure` in the format of the suffix, replacing what was there in one step."""
    check_suffix(path)
    with rc_context(STYLE), replacing(path) as temporary:
        figure.savefig(temporary)


def check_suffix(path: Path) -> None:
    """Raise `RecordError` for a file type that is not among `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise RecordError(f"cannot draw into {path.name!r}: the name of a figure ends in {', '.join(SUFFIXES)}")


def refuse_own_layout(record: Record) -> None:
    """Raise `RecordError` where the space's figure is not drawn from its table: another metric or rule of the table
    would not change it."""
    name = record.space["name"]
    if record.space.get("figure") or several(record.space["table"].get("columns")) == ["epoch"]:
        raise RecordError(
            f"the figure of {name!r} is none of its table, which --select and --value change; give them to "
            f"python -m analysis table {name}"
        )


def _draw_table(axes: Axes, record: Record) -> str:
    layout = record.space["table"]
    columns, average = several(layout.get("columns")), layout.get("average")
    if average in columns:  # beside its values, an average has no place on the axis
        record, average = replace(record, space=record.space | {"table": layout | {"average": None}}), None
    table = build(record)
    if all(cell.value is None for cell in table.cells.values()):
        raise RecordError(f"no run of {table.name!r} has finished with a result to draw")
    names = [column for column in table.columns if column not in (NO_VALUE, CHOSEN)]
    names, x, apart = _positions(axes, names)
    greys, styles = cycle(_GREYS), cycle(LINES)
    for number, row in enumerate(table.rows):
        flat, line = table.cells.get((row, NO_VALUE), Cell()), [table.cells[row, name] for name in names]
        if flat.value is not None:
            colour, dashes = next(greys)
            spread = flat.spread or 0.0
            axes.axhline(flat.value, color=colour, linestyle=dashes, label=row, zorder=1)
            axes.axhspan(flat.value - spread, flat.value + spread, color=colour, alpha=0.12, linewidth=0, zorder=0)
        if any(cell.expected for cell in line):
            colour, marker, dashes = next(styles)
            last = len(table.rows) - 1
            at = [place + apart * (number - last / 2) / max(last, 1) for place in x]
            dashes = "none" if apart else dashes  # a line from one name to the next would mean nothing
            _draw_line(axes, at, line, row, {"color": colour, "marker": marker, "linestyle": dashes})
    averaged = f"average over {record.names.setting_name(average)}" if average else ""
    _label(axes, record, several(layout["value"]), columns_title(record, columns), averaged)
    return _spread(record, bool((record.trials["status"] != "FINISHED").any()))


def _draw_rows(axes: Axes, record: Record) -> str:
    """A table of one column: a point per row, the first on top, references in grey."""
    table = build(record)
    (column,) = table.columns
    cells = [(row, table.cells[row, column]) for row in table.rows]
    shown = [(row, cell, cell.value) for row, cell in cells if cell.value is not None]
    if not shown:
        raise RecordError(f"no run of {table.name!r} has finished with a result to draw")
    for place, (row, cell, value) in enumerate(shown):
        colour = _GREYS[0][0] if row in table.references else _COLOURS[0]
        fill = colour if cell.n == cell.expected else "white"
        spread = cell.spread or 0.0
        axes.errorbar(value, place, xerr=spread, color=colour, marker="o", markerfacecolor=fill, capsize=2)
    axes.set_yticks(range(len(shown)), [row for row, *_ in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    _label(axes, record, several(record.space["table"]["value"]), "")
    axes.set(xlabel=axes.get_ylabel().replace("\n", " "), ylabel="")
    return _spread(record, any(cell.n < cell.expected for _, cell, _ in shown))


def _draw_points(axes: Axes, record: Record, x: str, y: str) -> str:
    """A line per row through its cells: one metric's mean against another's, over the same seeds."""
    layout = record.space["table"] | {"average": None}
    of_x, of_y = (build(replace(record, space=record.space | {"table": layout | {"value": name}})) for name in (x, y))
    lacking = False
    reached: list[float] = []
    for row, (colour, marker, dashes) in zip(of_y.rows, cycle(LINES), strict=False):
        cells = [
            (of_x.cells[row, column].value, of_y.cells[row, column]) for column in of_y.columns if column != CHOSEN
        ]
        points = [(place, cell) for place, cell in cells if place is not None and cell.value is not None]
        if not points:
            continue
        places, line = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        _draw_line(axes, places, line, row, {"color": colour, "marker": marker, "linestyle": dashes})
        lacking |= any(cell.n < cell.expected for cell in line)
        reached += places
    if not reached:
        raise RecordError(f"no run of {of_y.name!r} has finished with {x} and {y} to draw")
    if min(reached) > 0 and max(reached) >= 10 * min(reached):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,.0f}")
    _label(axes, record, [y], record.names.metric_title(x))
    return _spread(record, lacking)


def _draw_line(axes: Axes, places: Sequence[float], cells: Sequence[Cell], row: str, style: dict[str, Any]) -> None:
    """Cells of a row with their spread; one without a value is a gap, the marker of one that lacks seeds is open."""
    values = [math.nan if cell.value is None else cell.value for cell in cells]
    bars = [cell.spread or 0.0 for cell in cells]
    axes.errorbar(places, values, yerr=bars, **style, capsize=2, elinewidth=0.8, label=row)
    lacking = [value if cell.n < cell.expected else math.nan for value, cell in zip(values, cells, strict=True)]
    axes.plot(places, lacking, **style | {"linestyle": "none"}, markerfacecolor="white", zorder=3)


def _label(axes: Axes, record: Record, metrics: Sequence[str], x: str, averaged: str = "") -> None:
    """Write the labels of the axes, with the data set."""
    measured = " / ".join(dict.fromkeys(what for what, _ in map(record.names.metric_parts, metrics)))
    measured = record.names.metric_title(metrics[0]) if len(metrics) == 1 else measured
    data = " and ".join(record.params["data.dataset"].dropna().unique()) if "data.dataset" in record.params else ""
    axes.set(xlabel=x, ylabel=textwrap.fill(", ".join(filter(None, [measured, averaged, data])), 38))


def _spread(record: Record, lacking: bool) -> str:
    seeds = len(record.space["seeds"])
    return (f"mean ± sd over {seeds} seeds" if seeds > 1 else "one seed") + " (open markers: fewer)" * lacking


def _positions(axes: Axes, columns: list[str]) -> tuple[list[str], list[float], float]:
    """The columns in order, their places on the axis, and the width in which the rows of one place stand apart.

    Numbers and percentages are on a rising scale, logarithmic over a decade if that leaves more room between them; rows
    do not stand apart. Names are side by side, and rows stand apart so that they do not cover one another."""
    apart = 0.0
    try:
        columns = sorted(columns, key=_number)
        x = [_number(column) for column in columns]
    except ValueError:
        x, apart = [float(place) for place in range(len(columns))], 0.4
    else:
        if x and x[0] > 0 and x[-1] >= 10 * x[0] and _least_room([math.log(value) for value in x]) > _least_room(x):
            axes.set_xscale("log")
    turned: dict[str, Any] = {}
    if len(columns) > _UPRIGHT:
        figure = axes.get_figure(root=True)
        assert figure is not None
        figure.set_figwidth(min(max(figure.get_figwidth(), 0.14 * len(columns)), _PAGE))
        turned = {"rotation": 90, "fontsize": min(8, 400 / len(columns))}
    elif sum(map(len, columns)) > 45:  # or they would overlap
        turned = {"rotation": 30, "ha": "right"}
    axes.set_xticks(x, columns, **turned)
    axes.set_xticks([], minor=True)
    return columns, x, apart


def _least_room(x: Sequence[float]) -> float:
    """The smallest step of rising numbers, as a share of the way from the first to the last."""
    return min(b - a for a, b in pairwise(x)) / (x[-1] - x[0])


def _number(column: str) -> float:
    return float(column.removesuffix("%"))


def _draw_epochs(axes: Axes, record: Record, metrics: Sequence[str]) -> str:
    """A line per variant and metric, of the trials that a table reports."""
    trials, curves = reported(record), {}
    for variant, (of_variant, taken) in trials.items():
        for metric, label in zip(metrics, record.names.told_apart(metrics)[1], strict=True):
            frame = histories(record, metric, of_variant)
            curve = frame.groupby("epoch")["value"].agg(["mean", "std", "count"])
            name = f"{variant} ({taken})" if taken else variant
            if len(metrics) > 1:
                name = f"{name}: {label}" if len(trials) > 1 or taken else label
            there = curve.index[curve["count"] > 0]  # NaN counts as none: nothing was modified in an epoch, say
            if len(there):
                # Between the first epoch with a value and the last, one without is a gap.
                whole = range(math.ceil(there.min()), math.floor(there.max()) + 1)
                curves[name] = curve.loc[there].fillna({"std": 0.0}).reindex(there.union(whole))
    if not curves:
        listed = ", ".join(map(repr, metrics))
        raise RecordError(f"no finished run of {record.space['name']!r} has a history of {listed}")
    for (name, curve), (colour, marker, dashes) in zip(curves.items(), cycle(LINES), strict=False):
        mean, std, fewer = curve["mean"], curve["std"], curve["count"] < len(record.space["seeds"])
        every = math.ceil(len(curve) / 15)
        axes.plot(curve.index, mean, color=colour, marker=marker, linestyle=dashes, markevery=every, label=name)
        axes.fill_between(curve.index, mean - std, mean + std, color=colour, alpha=0.15)
        if fewer.any():
            x, y = curve.index[fewer], mean[fewer]
            axes.plot(x, y, color=colour, marker=marker, linestyle="none", markerfacecolor="white", markevery=every)
    means = [value for curve in curves.values() for value in curve["mean"].dropna()]
    if len(metrics) > 1 and min(means) > 0 and max(means) >= 10 * min(means):  # else the small ones would be flat lines
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    elif axes.get_ylim()[0] < 0 <= min(means):  # a band reaches below zero, where no value is
        axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))  # else a single epoch would have fractions
    _label(axes, record, metrics, record.names.setting_title("epoch"))
    whose = f"{next(iter(trials))}: " if len(trials) == 1 and len(metrics) > 1 else ""
    lacking = any((curve["count"] < len(record.space["seeds"])).any() for curve in curves.values())
    return whose + _spread(record, lacking) + ", settings chosen on val" * any(taken for _, taken in trials.values())
