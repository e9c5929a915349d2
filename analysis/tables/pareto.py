"""The Pareto front of each variant: the points that no other point of it beats, under several objectives.

A search names its objectives; for any other sweep they are the metric that selects and the training time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from analysis.names import several
from analysis.reading import selection
from analysis.reading.records import Record, RecordError
from analysis.record.names import SECONDS
from analysis.tables.chosen import seeds_in_words
from analysis.tables.layout import setting_in_words
from analysis.tables.table import Cell, Table

WAYS = {"max": 1, "min": -1}


@dataclass(frozen=True)
class Point:
    """A variant at one point of its axes, in words, with a cell for each metric: the mean over its seeds. `on_front`:
    no point of the variant is at least as good in all objectives and better in one. A point that lacks a seed is
    neither on the front nor beats another."""

    variant: str
    setting: str
    cells: Mapping[str, Cell]
    whole: bool
    on_front: bool


def objectives(record: Record) -> dict[str, str]:
    """The metrics that decide, each with `max` or `min`."""
    search = record.space.get("search") or {}
    return search.get("objectives") or {record.space["select"]["metric"]: "max", SECONDS: "min"}


def points(record: Record) -> list[Point]:
    """All points of a sweep, those of a variant together. Raises `RecordError` for an objective that no run logged."""
    decide = objectives(record)
    metrics = list(dict.fromkeys([*decide, *several(record.space["table"]["value"])]))
    for metric in metrics:
        if metric not in record.trials:
            raise RecordError(f"no run of {record.space['name']!r} logged {metric!r}, so it has no Pareto front")
    settings = [setting_in_words(record, trial) for trial in record.trials.to_dict("records")]
    found: list[Point] = []
    for variant, of_variant in record.trials.assign(setting=settings).groupby("variant", sort=False):
        cells = {
            str(setting): {metric: _cell(of_point, metric) for metric in metrics}
            for setting, of_point in of_variant.groupby("setting", sort=False)
        }
        values = {
            setting: tuple(WAYS[way] * (at[metric].value or 0.0) for metric, way in decide.items())
            for setting, at in cells.items()
            if all(at[metric].n == at[metric].expected for metric in decide)
        }
        for setting, at in cells.items():
            front = setting in values and not any(_beats(other, values[setting]) for other in values.values())
            found.append(Point(str(variant), setting, at, setting in values, front))
    return found


def table(record: Record) -> Table:
    """Rows are the points on the fronts, variant by variant, the best on the first objective first; columns are the
    objectives, then what the space's table shows."""
    record, names = selection.confirmed(record), record.names
    decide, found = objectives(record), points(record)
    first, way = next(iter(decide.items()))
    front = [point for point in found if point.on_front]
    if not front:
        name = record.space["name"]
        raise RecordError(f"no point of {name!r} has results of {' and '.join(decide)} under each seed")
    order = list(record.space["variants"])
    front.sort(key=lambda p: (order.index(p.variant), -WAYS[way] * (p.cells[first].value or 0.0)))
    rows = {": ".join(filter(None, [point.variant, point.setting])): point.cells for point in front}
    columns = {names.metric_title(metric): metric for metric in front[0].cells}
    wanted = " and ".join(f"{'high' if way == 'max' else 'low'} {names.metric_title(m)}" for m, way in decide.items())
    sentences = [
        record.space["title"].rstrip("."),
        f"Pareto front for {wanted}: points of a variant that no other one of it beats, mean ± sd (n − 1), "
        f"{seeds_in_words(record.space['seeds'])}",
        *selection.searched(record.space),
        f"Profile {record.space.get('profile', 'default')}, sweep {record.sweep[:12]}",
    ]
    return Table(
        name=f"{record.space['name']}_pareto",
        caption=". ".join(sentences) + ".",
        rows=tuple(rows),
        columns=tuple(columns),
        columns_title="point",
        cells={(row, title): cells[metric] for row, cells in rows.items() for title, metric in columns.items()},
        higher_is_better=None,
        selected=selection.printed(record.space["select"]),
        remarks=tuple(_remarks(found)),
    )


def _cell(trials: pd.DataFrame, metric: str) -> Cell:
    there = trials[(trials["status"] == "FINISHED") & trials[metric].notna()]
    seeds = {int(seed): float(value) for seed, value in zip(there["seed"], there[metric], strict=True)}
    return Cell.of(seeds, expected=trials["seed"].nunique(), runs=tuple(there["run_id"]))


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _remarks(found: list[Point]) -> list[str]:
    remarks = []
    for variant in dict.fromkeys(point.variant for point in found):
        own = [point for point in found if point.variant == variant]
        lacking = sum(not point.whole for point in own)
        text = f"{variant}: {sum(point.on_front for point in own)} of {len(own)} points are on the front"
        remarks.append(text + (f"; {lacking} not compared, for lack of results" if lacking else ""))
    return remarks
