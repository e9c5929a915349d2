"""The Pareto front of each variant, drawn: one objective against another."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle

from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.figures.drawing import LINES, STYLE
from analysis.reading import selection
from analysis.reading.records import Record, RecordError
from analysis.tables import pareto


def draw_fronts(record: Record) -> Figure:
    """The first objective against the second: a pale dot for each point that was tried, and the front as steps. Where a
    search has confirmed its best points, the front is that of the confirmed ones.

    Raises `RecordError` for more than two objectives.
    """
    names = list(pareto.objectives(record))
    if len(names) != 2:
        raise RecordError(
            f"{record.space['name']!r} has {len(names)} objectives and a figure two axes; its front is printed by "
            f"python -m analysis pareto {record.space['name']}"
        )
    (y, x), way = names, pareto.objectives(record)[names[1]]
    confirmed = selection.confirmed(record)
    tried = record.trials[record.trials["seed"].isin(record.space["seeds"])]
    fronts, found = pareto.points(confirmed), pareto.points(replace(record, trials=tried))
    with rc_context(STYLE):
        figure = Figure(figsize=(3.5, 2.9), dpi=300, layout="constrained")
        axes = figure.add_subplot()
        for variant, (colour, marker, dashes) in zip(record.space["variants"], cycle(LINES), strict=False):
            dots = [(p.cells[x].value, p.cells[y].value) for p in found if p.variant == variant and p.whole]
            front = sorted((p.cells[x].value, p.cells[y].value) for p in fronts if p.variant == variant and p.on_front)
            axes.plot(*zip(*dots, strict=True), ".", color=colour, alpha=0.35, markeredgewidth=0) if dots else None
            if front:
                style = {"color": colour, "marker": marker, "linestyle": dashes, "label": variant}
                steps = "steps-post" if way == "min" else "steps-pre"
                axes.plot(*zip(*front, strict=True), **style, drawstyle=steps)
        if not axes.lines:
            raise RecordError(f"no run of {record.space['name']!r} has finished with {x} and {y} to draw")
        axes.set(xlabel=record.names.metric_title(x), ylabel=record.names.metric_title(y))
        axes.set_title(record.space["title"], loc="left", wrap=True)
        axes.grid(linewidth=0.4, color="#dddddd")
        axes.set_axisbelow(True)
        seeds = len(confirmed.space["seeds"])
        title = f"Pareto fronts, mean over {seeds} seeds" if seeds > 1 else "Pareto fronts, one seed"
        figure.legend(loc="outside lower center", ncols=2, frameon=False, title=title, title_fontsize=7)
    return figure
