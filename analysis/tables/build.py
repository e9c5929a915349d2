"""A sweep as a table: rows are variants, columns the values of settings or metrics, each cell a mean over seeds.

A cell says what it is made of: how many seeds there are of how many expected, which runs, and, where a setting was
chosen, that it was chosen on val by other seeds than the one reported.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.names import CHOSEN, higher_is_better, several
from analysis.reading import selection
from analysis.reading.records import Record
from analysis.tables import published
from analysis.tables.caption import caption_of, remarks, without_number
from analysis.tables.chosen import choice, chosen_by_the_other_seeds, seeds_in_words
from analysis.tables.layout import METRIC, can_be_chosen, check, laid_out, metrics_of
from analysis.tables.table import Cell, Table


def build(record: Record) -> Table:
    """Lay a sweep out as its space's `table` says.

    Columns are the values of the settings `table.columns` in the space's order, crossed; before them one for variants
    that do not have the setting. `metric` among them stands for the metrics `table.value`; where the rows are `metric`
    too, a row is the part that is measured (TP, TN, FN) and a column is what is measured. If the columns of every row
    are values of one setting of a method, a last column reports the row at the value chosen on val. Settings that the
    table does not show are chosen in the same way, inside the cell.

    `table.average` is a setting that is averaged over, seed by seed: in a column after its values where it is among the
    columns, else in every cell. An average is over all the values of the axis; a seed that lacks one has none.

    Raises `RecordError` where the table leaves out an axis of the data or protocol, or asks for something that a
    table cannot show.
    """
    record = selection.confirmed(record)
    layout, high_score = record.space["table"], higher_is_better(record.space["select"]["metric"])
    axes, metrics = several(layout.get("columns")), metrics_of(record)
    check(record, axes, layout)
    made = laid_out(record, axes, metrics)
    trials, rows, columns, over = made.trials, made.rows, made.columns, made.over
    at = dict(list(trials.groupby(["row", "column"])))
    cells = dict.fromkeys(itertools.product(rows, columns), Cell())
    cells |= {place: _cell(of_place, high_score, over) for place, of_place in at.items()}
    if can_be_chosen(record, axes) and len(columns) > 1 and trials["seed"].nunique() > 1:
        cells |= {(row, CHOSEN): _cell(trials[trials["row"] == row], high_score, over) for row in rows}
        columns = (*columns, CHOSEN)

    shown = {
        column: tuple(trials[trials["column"] == column]["metric"].unique()) or (metrics[0],) for column in columns
    }
    references = tuple(layout.get("reference") or ())
    # Rows are compared within a column, where they have the same task and settings; rows that are metrics are not.
    rivals: dict[tuple[Any, ...], dict[str, Cell]] = {}
    for row, column in cells if layout.get("rows") != METRIC else ():
        of_row = trials[trials["row"] == row] if column == CHOSEN else at.get((row, column), trials[:0])
        alike = (frozenset(of_row["task"]) - {""}, frozenset(of_row["shown"]) if column != CHOSEN else ())
        if row not in references:
            rivals.setdefault((column, *alike), {})[row] = cells[row, column]
    for (column, *_), compared in rivals.items():
        for row in _best(compared, higher_is_better(shown[column][0])):
            cells[row, column] = replace(cells[row, column], bold=True)
    better = {higher_is_better(metric) for metric in metrics}
    table = Table(
        name=record.space["name"],
        caption=caption_of(record, columns, over),
        rows=rows,
        columns=columns,
        columns_title=made.title,
        cells=cells,
        higher_is_better=better.pop() if len(better) == 1 else None,
        references=references,
        selected=selection.printed(record.space["select"]),
        remarks=tuple(remarks(at, rows, columns)),
    )
    return replace(table, published=published.beside(record, table, shown))


def _cell(trials: pd.DataFrame, high_score: bool, over: Sequence[str]) -> Cell:
    """Mean over the seeds of `trials`; of several settings, each seed reports the one that the other seeds chose.

    Where there is something to average, a seed's number is its mean over the points `over`, if it has all of them.
    If all runs have finished and none has a number, the cell is empty: nothing is missing.
    """
    if without_number(trials):
        return Cell()
    points = over if (trials["point"] != "").any() else ("",)
    parts, notes = [], []
    for point in points:
        at = trials[trials["point"] == point]
        if at.empty:  # no combination of the space
            return Cell()
        several = at["setting"].nunique() > 1
        parts.append(chosen_by_the_other_seeds(at, high_score) if several else at)
        note = choice(at, parts[-1]) if several else _shortfall(at)
        notes += [f"{point}: {note}" if len(points) > 1 else note] if note else []
    reported = pd.concat(parts)
    values: dict[int, list[float]] = defaultdict(list)
    for seed, value in sorted(zip(reported["seed"], reported["value"], strict=True)):
        values[seed] += [] if math.isnan(value) else [value]
    # A seed that lacks a point has no average.
    means = {seed: fmean(of_seed) for seed, of_seed in values.items() if len(of_seed) == len(points)}
    return Cell.of(
        means,
        expected=trials["seed"].nunique(),
        runs=tuple(reported[reported["seed"].isin(means)]["run_id"]),
        note="; ".join(notes),
    )


def _shortfall(trials: pd.DataFrame) -> str:
    lacking: dict[str, list[int]] = {}
    unfinished = trials[trials["value"].isna()]
    for trial in unfinished.to_dict("records") if len(unfinished) else ():
        state = "finished without a result" if trial["status"] == "FINISHED" else trial["status"].lower()
        reason = f" ({' '.join(trial['failure'].split())})" if isinstance(trial["failure"], str) else ""
        lacking.setdefault(state + reason, []).append(trial["seed"])
    return "; ".join(f"{seeds_in_words(seeds)} {state}" for state, seeds in lacking.items())


def _best(compared: dict[str, Cell], high: bool) -> list[str]:
    """The rows with the best printed mean. A mean that lacks seeds is left out; one row alone is not the best."""
    means = {
        row: round(cell.value, 1)
        for row, cell in compared.items()
        if cell.value is not None and cell.n == cell.expected
    }
    best = (max if high else min)(means.values(), default=None)
    return [row for row, mean in means.items() if mean == best] if len(means) > 1 else []
