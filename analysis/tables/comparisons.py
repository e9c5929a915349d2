"""Tables of paired differences: every row against one of them, or one sweep against another.

Seeds are paired by design (the same data, masks, initial weights and batch order), so what is compared is always the
difference seed by seed, over the seeds that both sides have.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.names import NO_VALUE, several, signed
from analysis.reading.comparability import follows_seed
from analysis.reading.records import Record, RecordError
from analysis.reading.selection import printed
from analysis.statistics import FEWEST, bootstrap, estimate, holm, paired
from analysis.tables.build import build
from analysis.tables.layout import METRIC
from analysis.tables.table import Cell, Table

LEVEL = 0.05
_COLUMNS = ("difference", "95 % interval", "bootstrap", "p (Holm)", "effect", "n")
_EXPLAINED = (
    "Differences are paired over the n seeds that both have. 95 % interval: Student's t; bootstrap: percentiles, 95 %; "
    "p: two-sided paired t test, corrected by Holm's procedure for {tests} distinct comparisons; effect: mean over "
    f"sd. Bold: p below {LEVEL:g}"
)


def against(record: Record, row: str) -> Table:
    """The sweep's table as differences of its rows from `row`, column by column, its references left out.

    Where `row` does not have the setting of the columns, its one value is compared with all of them. Raises
    `RecordError` if the table has no such row, or its rows are metrics.
    """
    table = build(record)
    if record.space["table"].get("rows") == METRIC or row not in table.rows:
        rows = "metrics" if record.space["table"].get("rows") == METRIC else ", ".join(table.rows)
        raise RecordError(f"the table of {table.name!r} has no row {row!r} to compare with; its rows are {rows}")
    base = {column: table.cells[row, column] for column in table.columns}
    base = {column: cell if cell.expected else base.get(NO_VALUE, cell) for column, cell in base.items()}
    pairs = {
        _place(other, column, table): (base[column], table.cells[other, column])
        for other in table.rows
        for column in table.columns
        if other not in (row, *table.references) and table.cells[other, column].expected and base[column].expected
    }
    if not pairs:
        raise RecordError(f"no other row of {table.name!r} has results in the columns of {row!r}")
    made = _differences(table, pairs, (row, "row"), f"{table.caption} Rows minus {row}.", _keys(record))
    return replace(made, name=f"{table.name}-against")


def compare(a: Record, b: Record) -> Table:
    """The cells that two sweeps have in common, with what differs between the sweeps in settings, code and platform.

    Of an axis that both have, only the values that both have are read, so that averages and choices are over the same
    values. Raises `RecordError` where the tables show other metrics, or have no cell in common.
    """
    measured = [several(record.space["table"]["value"]) for record in (a, b)]
    if measured[0] != measured[1]:
        shown = " and ".join(", ".join(metrics) for metrics in measured)
        raise RecordError(f"the two tables show other metrics, {shown}; name one for both with --value")
    tables = [build(record) for record in _in_common(a, b)]
    common = [place for place in tables[0].cells if place in tables[1].cells]
    pairs = {
        _place(row, column, tables[0]): (tables[0].cells[row, column], tables[1].cells[row, column])
        for row, column in common
        if tables[0].cells[row, column].expected and tables[1].cells[row, column].expected
    }
    if not pairs:
        rows = "; ".join(f"{', '.join(table.rows)} by {', '.join(table.columns)}" for table in tables)
        raise RecordError(f"the two tables have no cell in common: {rows}")
    caption = " ".join(f"{side}: {table.caption}" for side, table in zip("AB", tables, strict=True))
    made = _differences(tables[0], pairs, ("A", "B"), f"{caption} Differences are B minus A.", _keys(a) | _keys(b))
    return replace(
        made,
        name=f"{a.space['name']}-{b.space['name']}",
        selected=" and ".join(dict.fromkeys(table.selected for table in tables)),
        remarks=tuple(_what_differs(a, b)),
    )


def _in_common(a: Record, b: Record) -> Iterator[Record]:
    shared = {axis: set(a.trials[axis].dropna()) & set(b.trials[axis].dropna()) for axis in a.axes if axis in b.axes}
    for record in (a, b):
        trials = record.trials
        for axis, values in shared.items():
            trials = trials[trials[axis].isin(values) | trials[axis].isna()]
        axes = {
            axis: [value for value in values if value in shared.get(axis, values)]
            for axis, values in record.space["axes"].items()
        }
        kept = record.params.index.isin(trials["trial"])
        yield replace(
            record,
            space=record.space | {"axes": axes},
            trials=trials.reset_index(drop=True),
            params=record.params[kept],
            versions=record.versions[kept],
        )


def _place(row: str, column: str, table: Table) -> str:
    return row if len(table.columns) == 1 else f"{row}, {column}"


def _keys(record: Record) -> dict[str, str]:
    """The last state key of each run, by run id, if it is recorded. Equal keys mean equal computations."""
    keys = record.trials["trial"].map(record.versions["key"].dropna())
    return {run: key for run, key in zip(record.trials["run_id"], keys, strict=True) if isinstance(key, str)}


def _differences(
    table: Table,
    pairs: Mapping[str, tuple[Cell, Cell]],
    names: tuple[str, str],
    caption: str,
    keys: Mapping[str, str],
) -> Table:
    """A line per pair: both means, and the second minus the first. Equal computations count as one comparison."""
    differences = {place: paired(other.seeds, base.seeds) for place, (base, other) in pairs.items()}
    found = {place: estimate(list(by_seed.values())) for place, by_seed in differences.items() if len(by_seed) > 1}
    computed = {
        place: tuple(
            (frozenset(keys.get(run, run) for run in c.runs), frozenset(c.seeds.items())) for c in pairs[place]
        )
        for place in found
    }
    p_values = {computed[place]: one.p for place, one in found.items()}
    corrected = dict(zip(p_values, holm([*p_values.values()]), strict=True))
    cells: dict[tuple[str, str], Cell] = {}
    for place, both in pairs.items():
        by_seed, n = differences[place], len(differences[place])
        few = f"{n} seeds in both, too few to say anything" if n < FEWEST else ""
        whose: dict[str, list[str]] = {}
        for name, cell in zip(names, both, strict=True):
            whose.setdefault(cell.note, []).append(name)
        notes = [note if of == ["row"] else f"{' and '.join(of)}: {note}" for note, of in whose.items() if note]
        note = "; ".join(filter(None, [few, *notes]))
        runs = tuple(run for cell in both for run in cell.runs)
        difference = Cell.of(by_seed, max(cell.expected for cell in both), runs, note)
        texts = {"difference": "X" if difference.value is None else signed(difference.value), "n": str(n)}
        if place in found:
            one, p = found[place], corrected[computed[place]]
            difference = replace(difference, bold=p < LEVEL)
            texts["95 % interval"] = _interval(one.low, one.high)
            texts["bootstrap"] = _interval(*bootstrap(list(by_seed.values())))
            texts["p (Holm)"] = "< 0.001" if p < 0.001 else f"{p:.3f}"
            texts["effect"] = signed(one.effect)
        cells |= {(place, name): replace(cell, bold=False, note="") for name, cell in zip(names, both, strict=True)}
        cells |= {(place, column): Cell(shown=texts.get(column, NO_VALUE)) for column in _COLUMNS}
        cells[place, "difference"] = replace(difference, shown=texts["difference"])
    better = {None: "", True: " Higher is better.", False: " Lower is better."}[table.higher_is_better]
    return replace(
        table,
        caption=f"{caption}{better} {_EXPLAINED.format(tests=len(corrected))}.",
        rows=tuple(pairs),
        columns=(*names, *_COLUMNS),
        columns_title="",
        cells=cells,
        higher_is_better=None,
        published=None,
    )


def _interval(low: float, high: float) -> str:
    return f"{signed(low)} … {signed(high)}"


def _what_differs(a: Record, b: Record) -> list[str]:
    """In what the sweeps differ, for the rows that both have, each as "train.epochs: 6 in A, 12 in B (LL-R)"."""
    rows = [row for row in a.space["variants"] if row in b.space["variants"]]
    of_rows: dict[str, list[str]] = {}
    for row in rows:
        logged = [_values(record, row) for record in (a, b)]
        for setting in dict.fromkeys([*logged[0], *logged[1]]):
            values = [side.get(setting, NO_VALUE) for side in logged]
            if values[0] != values[1]:
                of_rows.setdefault(f"{setting}: {values[0]} in A, {values[1]} in B", []).append(row)
    remarks = [f"{text} ({'all rows' if of == rows else ', '.join(of)})" for text, of in of_rows.items()]
    for what in ("code", "platform", "commit"):
        values = [_listed(record.versions[what], "not recorded") for record in (a, b)]
        if values[0] != values[1]:
            remarks.append(f"{what}: {values[0]} in A, {values[1]} in B")
    rules = [printed(record.space["select"]) for record in (a, b)]
    if rules[0] != rules[1]:
        remarks.append(f"selected by: {rules[0]} in A, {rules[1]} in B")
    keys = pd.concat([a.versions["key"].rename("a"), b.versions["key"].rename("b")], axis="columns", join="inner")
    same = int((keys["a"] == keys["b"]).sum())
    remarks.append(
        f"{len(keys)} trials of both have the same settings, and {same} of these the same key: the same computation"
    )
    return remarks


def _values(record: Record, row: str) -> dict[str, str]:
    """What each setting is in a row's runs, "follows_seed" if it does."""
    trials = record.trials.loc[record.trials["variant"] == row, "trial"]
    params = record.params.loc[record.params.index.isin(trials)].dropna(axis="columns", how="all")
    return {
        name: "follows_seed"
        if follows_seed(record.space, name, params[name].dropna(), record.trials)
        else _listed(params[name])
        for name in params
    }


def _listed(values: Iterable[Any], none: str = NO_VALUE) -> str:
    return ", ".join(sorted({str(value) for value in values if value is not None and value == value})) or none
