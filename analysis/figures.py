"""A sweep as a figure: its table drawn, or histories over the epochs.

What is drawn is what the table prints, cell by cell, so that the two cannot disagree. A figure is as wide as one column
of a paper and is read without colour too: every line has a marker of its own.
"""

from __future__ import annotations

import math
import textwrap
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.cells import Cell, Table
from analysis.files import replacing
from analysis.names import CHOSEN, NO_VALUE, metric_title, setting_title
from analysis.records import Record, RecordError, histories
from analysis.tables import build

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, told apart by readers with any common colour blindness; their yellow is too pale for a line
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = tuple(zip(_COLOURS, ("o", "s", "^", "D", "v", "P", "X"), strict=True))
_GREYS = (("#333333", "--"), ("#777777", ":"), ("#555555", "-."))
_STYLE: dict[Any, Any] = {
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
    """Draw a sweep's metric against the setting that its table has as columns, or against the epoch.

    Lines are means over seeds; bars (bands over epochs) are ± one standard deviation with n − 1; an open marker lacks
    seeds. Variants without the setting are horizontal lines. Raises `RecordError` where there is nothing to draw.
    """
    space = record.space
    axis, metric = space["table"].get("columns"), space["table"]["value"]
    if axis is None:
        raise RecordError(f"{space['name']!r} has no table.columns to draw against; see python -m analysis table")
    with rc_context(_STYLE):
        figure = Figure(figsize=(3.5, 2.9), dpi=300, layout="constrained")
        axes = figure.add_subplot()
        _draw_epochs(axes, record, metric) if axis == "epoch" else _draw_table(axes, build(record))
        data = " and ".join(record.params["data.dataset"].dropna().unique()) if "data.dataset" in record.params else ""
        axes.set(xlabel=setting_title(axis), ylabel=metric_title(metric) + (f", {data}" if data else ""))
        axes.set_title("\n".join(textwrap.wrap(space["title"], 50)), loc="left")
        axes.grid(axis="y", linewidth=0.4, color="#dddddd")
        axes.set_axisbelow(True)
        seeds = len(space["seeds"])
        spread = f"mean ± sd over {seeds} seeds" if seeds > 1 else "one seed"
        if axis != "epoch" and (record.trials["status"] != "FINISHED").any():
            spread += " (open markers: fewer)"
        figure.legend(loc="outside lower center", ncols=3, frameon=False, title=spread, title_fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write `figure` in the format of the suffix, replacing what was there in one step."""
    check_suffix(path)
    with rc_context(_STYLE), replacing(path) as temporary:
        figure.savefig(temporary)


def check_suffix(path: Path) -> None:
    """Raise `RecordError` for a file type that is not among `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise RecordError(f"cannot draw into {path.name!r}: the name of a figure ends in {', '.join(SUFFIXES)}")


def _draw_table(axes: Axes, table: Table) -> None:
    if all(cell.value is None for cell in table.cells.values()):
        raise RecordError(f"no run of {table.name!r} has finished with a result to draw")
    columns = [column for column in table.columns if column not in (NO_VALUE, CHOSEN)]
    columns, x = _positions(axes, columns)
    greys, styles = cycle(_GREYS), cycle(_LINES)
    for row in table.rows:
        flat, line = table.cells.get((row, NO_VALUE), Cell()), [table.cells[row, column] for column in columns]
        if flat.value is not None:
            colour, dashes = next(greys)
            spread = flat.spread or 0.0
            axes.axhline(flat.value, color=colour, linestyle=dashes, label=row, zorder=1)
            axes.axhspan(flat.value - spread, flat.value + spread, color=colour, alpha=0.12, linewidth=0, zorder=0)
        if any(cell.expected for cell in line):
            colour, marker = next(styles)
            values = [math.nan if cell.value is None else cell.value for cell in line]
            bars = [cell.spread or 0.0 for cell in line]
            axes.errorbar(x, values, yerr=bars, color=colour, marker=marker, capsize=2, elinewidth=0.8, label=row)
            lacking = [value if cell.n < cell.expected else math.nan for value, cell in zip(values, line, strict=True)]
            axes.plot(x, lacking, color=colour, marker=marker, markerfacecolor="white", linestyle="none", zorder=3)


def _positions(axes: Axes, columns: list[str]) -> tuple[list[str], list[float]]:
    """The columns and where they stand: numbers on a rising scale, logarithmic over a decade; names side by side."""
    try:
        columns = sorted(columns, key=float)
        x = [float(column) for column in columns]
    except ValueError:
        x = [float(place) for place in range(len(columns))]
    else:
        if x and x[0] > 0 and x[-1] >= 10 * x[0]:
            axes.set_xscale("log")
    axes.set_xticks(x, columns)
    axes.set_xticks([], minor=True)
    return columns, x


def _draw_epochs(axes: Axes, record: Record, metric: str) -> None:
    if record.axes:
        raise RecordError(
            f"{record.space['name']!r} is drawn over epochs and leaves no place for {', '.join(record.axes)}"
        )
    frame = histories(record, f"epoch/{metric.removeprefix('epoch/')}")
    if frame.empty:
        raise RecordError(f"no finished run of {record.space['name']!r} has a history of {metric!r}")
    over_seeds = frame.groupby(["variant", "epoch"])["value"].agg(["mean", "std"]).fillna({"std": 0.0})
    rows = [row for row in record.space["variants"] if row in set(frame["variant"])]
    for row, (colour, marker) in zip(rows, cycle(_LINES), strict=False):
        line = over_seeds.loc[row]
        axes.plot(line.index, line["mean"], color=colour, marker=marker, label=row)
        axes.fill_between(line.index, line["mean"] - line["std"], line["mean"] + line["std"], color=colour, alpha=0.15)
