"""A sweep as a table: rows are variants, columns the values of settings or metrics, each cell a mean over seeds.

A cell never hides what it is made of: how many seeds came of how many expected, which runs, and, where a setting was
chosen, that it was chosen on val by seeds other than the one reported.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import pandas as pd

from analysis.names import (
    AVERAGE,
    CHOSEN,
    NO_VALUE,
    explained,
    higher_is_better,
    metric_parts,
    of_all_epochs,
    setting_name,
    setting_title,
    several,
    told_apart,
    value_name,
)
from analysis.reading import selection
from analysis.reading.comparability import OF_SEED
from analysis.reading.records import Record, RecordError, logged_value
from analysis.tables import published
from analysis.tables.table import Cell, Table

METRIC = "metric"  # stands among columns, or for rows, where it is metrics that differ
# What a task or a protocol is made of: shown, averaged over or fixed, but never chosen on val, where it would be
# choosing the easiest.
_GIVEN = ("data.", "train.linear_init")


@dataclass(frozen=True)
class _Layout:
    """What stands where: `trials` has a line per trial, metric and column, with its row and column in print, in `point`
    what is averaged in that column, "" where nothing is, and in `shown` which settings the column is a value of; `over`
    are the points of an average, in order."""

    trials: pd.DataFrame
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    title: str
    over: tuple[str, ...]


def build(record: Record) -> Table:
    """Lay a sweep out as its space's `table` says.

    Columns are the values of the settings `table.columns` in the space's order, crossed; before them one for variants
    that do not have the setting. `metric` among them stands for the metrics `table.value`; where it is also the rows,
    these are what metrics are of (TP, TN, FN), and columns what is measured. Where they are, in each row, of one
    setting of a method, a last column reports each row at the value chosen on val. Settings that the table does not
    show are chosen in the same way, inside the cell.

    `table.average` is a setting that is averaged over, seed by seed: in a column after its values where it is among the
    columns, else in every cell. An average is over all the values that the axis has, or it is none.

    Raises `RecordError` where the table leaves out an axis of the data or protocol, or asks for what a table cannot
    show.
    """
    record = selection.confirmed(record)
    layout, high_score = record.space["table"], higher_is_better(record.space["select"]["metric"])
    axes, metrics = several(layout.get("columns")), _metrics(record)
    _check(record, axes, layout)
    made = _laid_out(record, axes, metrics)
    trials, rows, columns, over = made.trials, made.rows, made.columns, made.over
    at = dict(list(trials.groupby(["row", "column"])))
    cells = dict.fromkeys(itertools.product(rows, columns), Cell())
    cells |= {place: _cell(of_place, high_score, over) for place, of_place in at.items()}
    if _can_be_chosen(record, axes) and len(columns) > 1 and trials["seed"].nunique() > 1:
        cells |= {(row, CHOSEN): _cell(trials[trials["row"] == row], high_score, over) for row in rows}
        columns = (*columns, CHOSEN)

    shown = {
        column: tuple(trials[trials["column"] == column]["metric"].unique()) or (metrics[0],) for column in columns
    }
    references = tuple(layout.get("reference") or ())
    # Rivals have one task, and in a column values of one setting; rows of different metrics are none.
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
        caption=_caption(record, columns, over),
        rows=rows,
        columns=columns,
        columns_title=made.title,
        cells=cells,
        higher_is_better=better.pop() if len(better) == 1 else None,
        references=references,
        selected=selection.printed(record.space["select"]),
        remarks=tuple(_remarks(at, rows, columns)),
    )
    return replace(table, published=published.beside(record, table, shown))


def reported(record: Record) -> dict[str, tuple[pd.DataFrame, str]]:
    """By variant, one trial per seed as a table reports it, at the setting that the other seeds chose on val where
    there are several; and the settings taken, "" where there was no choice.

    Raises `RecordError` for an axis of the data or protocol, which nothing is chosen from, and for one seed, which has
    no others.
    """
    record = selection.confirmed(record)
    refuse_given(record, record.axes)
    found = {}
    for variant, of_variant in _with_scores(record).groupby("variant", sort=False):
        taken = ""
        if of_variant["setting"].nunique() > 1:
            of_variant = chosen_by_the_other_seeds(of_variant, higher_is_better(record.space["select"]["metric"]))
            taken = " or ".join(of_variant["setting"].unique())
            if not taken:
                raise RecordError(
                    f"one seed cannot choose among the settings of {variant}; run more seeds, or --set the axes to one"
                )
        found[str(variant)] = of_variant, taken
    return found


def refuse_given(record: Record, hidden: Iterable[str]) -> None:
    """Raise `RecordError` for axes of the data or protocol among those that are not shown."""
    hidden = [axis for axis in hidden if _is_given(axis)]
    if hidden:
        name = record.space["name"]
        raise RecordError(
            f"the layout of {name!r} leaves no place for {', '.join(hidden)}; name it in table.columns or table.average"
        )


def _metrics(record: Record) -> list[str]:
    """The metrics of `table.value`, in place of `test/ap` those of all classes, from the lowest mean to the highest."""
    metrics = []
    for name in several(record.space["table"]["value"]):
        of_classes = [metric for metric in record.trials if metric.startswith(f"{name}/")]
        metrics += list(record.trials[of_classes].mean().sort_values(kind="stable").index) or [name]
    return metrics


def _is_given(axis: str) -> bool:
    return axis.startswith(_GIVEN)


def _can_be_chosen(record: Record, axes: Sequence[str]) -> bool:
    """Whether the columns are, in each row, the values of one setting of a method."""
    places = record.trials[[axis for axis in axes if axis in record.axes]].notna()
    no_settings = (METRIC, record.space["table"].get("average"))
    one = len(axes) == 1 or (len(axes) > 1 and places.sum(axis="columns").max() == 1)
    return bool(one) and not any(axis in no_settings or _is_given(axis) for axis in axes)


def _check(record: Record, axes: Sequence[str], layout: dict[str, Any]) -> None:
    name, rows = record.space["name"], layout.get("rows", "variant")
    if rows not in ("variant", METRIC):
        raise RecordError(f"table.rows of {name!r} is {rows!r}; the rows of a table are its variants: rows: variant")
    if "epoch" in axes:
        raise RecordError(f"the columns of {name!r} are epochs, which a figure shows: python -m analysis figure {name}")
    if METRIC not in axes and (rows == METRIC or len(several(layout["value"])) > 1):
        raise RecordError(f"the table of {name!r} has several metrics and no place for them: columns: metric")
    refuse_given(record, _hidden(record, axes))


def _hidden(record: Record, axes: Sequence[str]) -> list[str]:
    """What the space sweeps and its table neither shows nor averages over."""
    return [axis for axis in record.axes if axis not in (*axes, record.space["table"].get("average"))]


def _laid_out(record: Record, axes: Sequence[str], metrics: Sequence[str]) -> _Layout:
    rows_are_metrics, average = record.space["table"].get("rows") == METRIC, record.space["table"].get("average")
    common, labels = told_apart(metrics)
    whats, kinds = zip(*map(metric_parts, metrics), strict=True)
    labels = list(whats) if rows_are_metrics else labels
    base, variants = _with_scores(record), list(record.space["variants"])

    def row(variant: str, kind: str) -> str:
        return variant if not rows_are_metrics else kind if len(variants) == 1 else f"{variant}, {kind}"

    # Per axis, the text of every trial, and all texts in order.
    settings = dict.fromkeys([*(axis for axis in axes if axis != METRIC), *filter(None, [average])])
    texts = {axis: _columns(record, axis) for axis in settings}
    listed = {axis: [value_name(v, axis) for v in record.space.get("axes", {}).get(axis, ())] for axis in settings}
    orders = {axis: _in_order(texts[axis], listed[axis]) for axis in settings}
    orders[METRIC] = tuple(dict.fromkeys(labels))
    over = tuple(text for text in orders.get(average, ()) if text in (listed[average] or texts[average]))
    over = tuple(text for text in over if text != NO_VALUE)
    # Whether there are columns of single trials, and of averages: of one value there is nothing to average in a column.
    if average in axes:
        kinds_of_column = [False, True] if len(over) > 1 else [False]
        orders[average] = (*orders[average], AVERAGE)
    else:
        kinds_of_column = [bool(over)]
    parts = []
    for averaged, (metric, kind, label) in itertools.product(kinds_of_column, zip(metrics, kinds, labels, strict=True)):
        places = texts | {METRIC: [label] * len(base)} | ({average: [AVERAGE] * len(base)} if averaged else {})
        crossed = list(zip(*(places[axis] for axis in axes or [METRIC]), strict=True))
        part = base.assign(metric=metric, value=_finished(record, metric), column=[*map(_joined, crossed)])
        part["shown"] = [tuple(text != NO_VALUE for text in place) for place in crossed]
        parts.append(
            part.assign(
                row=[row(variant, kind) for variant in base["variant"]], point=texts[average] if averaged else ""
            )
        )
    trials = pd.concat(parts, ignore_index=True)

    in_order = dict.fromkeys(map(_joined, itertools.product(*(orders[axis] for axis in axes or [METRIC]))))
    titles = [setting_title(axis) if axis != METRIC else "" if rows_are_metrics else common for axis in axes]
    return _Layout(
        trials=trials,
        rows=tuple(dict.fromkeys(row(variant, kind) for variant in variants for kind in kinds)),
        columns=tuple(column for column in in_order if column in set(trials["column"])),
        title=_crossed_titles(titles, [texts.get(axis, [common] * len(base)) for axis in axes]),
        over=over,
    )


def _crossed_titles(titles: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    """What columns are of: all of it together, or one or the other where no trial has two."""
    together = any(sum(text != NO_VALUE for text in place) > 1 for place in zip(*texts))
    return (" × " if together else " or ").join(dict.fromkeys(filter(None, titles)))


def columns_title(record: Record, axes: Sequence[str]) -> str:
    """The settings, no metric, among the axes of columns."""
    settings = [axis for axis in axes if axis != METRIC]
    return _crossed_titles([*map(setting_title, settings)], [_columns(record, axis) for axis in settings])


def _joined(place: Sequence[str]) -> str:
    """A crossed column. What only other rows have (a threshold of their own, say) leaves no mark in it."""
    return ", ".join(text for text in place if text != NO_VALUE) or NO_VALUE


def _with_scores(record: Record) -> pd.DataFrame:
    """The trials with the score that they select by, their point on the axes in words, the key of what they computed,
    and their task: all settings of the data, "" without a run."""
    trials = record.trials.assign(score=_finished(record, record.space["select"]["metric"]))
    data = record.params[[name for name in record.params if name.startswith("data.") and name not in OF_SEED]]
    trials["key"] = trials["trial"].map(record.versions["key"])
    trials["task"] = trials["trial"].map({trial: str(task) for trial, task in data.to_dict("index").items()}).fillna("")
    trials["setting"] = [setting_in_words(trial, record.axes) for trial in trials.to_dict("records")]
    return trials


def _finished(record: Record, metric: str) -> pd.Series:
    finished = record.trials["status"] == "FINISHED"
    if metric in record.trials:
        return record.trials[metric].where(finished)
    if finished.any():
        known = sorted(name for name in record.trials if "/" in name)
        raise RecordError(f"no run of {record.space['name']!r} logged {metric!r}; they logged {', '.join(known)}")
    return pd.Series(float("nan"), index=record.trials.index)


def setting_in_words(trial: Mapping[str, Any], axes: tuple[str, ...]) -> str:
    """Where on the axes a trial is: "Δrel 0.4, train.learning_rate 0.001"."""
    values = [(setting_name(axis), value_name(trial[axis], axis)) for axis in axes]  # two may have one name
    return ", ".join(f"{name} {value}" for name, value in values if value != NO_VALUE)


def _columns(record: Record, axis: str) -> list[str]:
    """The value in force: the trial's own on the axis, else its variant's, else what its run logged. Of an axis that
    only some variants have, the others have no value: it may not even act in them."""
    variants, logged = record.space["variants"], {}
    of_some = axis in record.axes and axis not in record.space.get("axes", {})
    if axis in record.params and not of_some:
        logged = {trial: logged_value(text) for trial, text in record.params[axis].items()}
    names = []
    for trial in record.trials.to_dict("records"):
        own = value_name(trial[axis], axis) if axis in record.axes else NO_VALUE
        inherited = variants[trial["variant"]].get(axis, logged.get(trial["trial"]))
        names.append(value_name(inherited, axis) if own == NO_VALUE else own)
    return names


def _in_order(found: Iterable[str], listed: Iterable[str]) -> tuple[str, ...]:
    """The dash, the axis in the space's order, then what only some variant has."""
    present = list(found)
    return tuple(name for name in dict.fromkeys([NO_VALUE, *listed, *present]) if name in set(present))


def _cell(trials: pd.DataFrame, high_score: bool, over: Sequence[str]) -> Cell:
    """Mean over the seeds of `trials`; of several settings, each seed reports the one that the other seeds chose.

    Where there is something to average, a seed's number is its mean over the points `over`, if it has all of them.
    What no run failed to give is no number that is lacking.
    """
    if _without_number(trials):
        return Cell()
    points = over if (trials["point"] != "").any() else ("",)
    parts, notes = [], []
    for point in points:
        at = trials[trials["point"] == point]
        if at.empty:  # no combination of the space
            return Cell()
        several = at["setting"].nunique() > 1
        parts.append(chosen_by_the_other_seeds(at, high_score) if several else at)
        note = _choice(at, parts[-1]) if several else _shortfall(at)
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


def chosen_by_the_other_seeds(trials: pd.DataFrame, high_score: bool) -> pd.DataFrame:
    """For each seed, its trial at the setting with the best mean score over the other seeds; the first of equals."""
    scores = trials.pivot(index="setting", columns="seed", values="score").reindex(trials["setting"].unique())
    choice = {}
    for seed in scores:
        means = scores.drop(columns=seed).mean(axis="columns").dropna()
        if not means.empty:
            choice[seed] = means.idxmax() if high_score else means.idxmin()
    return trials[trials["setting"] == trials["seed"].map(choice)]


def _choice(trials: pd.DataFrame, reported: pd.DataFrame) -> str:
    if reported.empty:
        return f"no other seed to choose among {trials['setting'].nunique()} settings"
    taken = [f"{setting} ({seeds_in_words(of['seed'])})" for setting, of in reported.groupby("setting", sort=False)]
    unfinished = trials["value"].isna().sum()
    shortfall = f"; {unfinished} of {len(trials)} runs to choose from have no result" if unfinished else ""
    return f"{', '.join(taken)}{shortfall}"


def _shortfall(trials: pd.DataFrame) -> str:
    lacking: dict[str, list[int]] = {}
    unfinished = trials[trials["value"].isna()]
    for trial in unfinished.to_dict("records") if len(unfinished) else ():
        state = "finished without a result" if trial["status"] == "FINISHED" else trial["status"].lower()
        reason = f" ({' '.join(trial['failure'].split())})" if isinstance(trial["failure"], str) else ""
        lacking.setdefault(state + reason, []).append(trial["seed"])
    return "; ".join(f"{seeds_in_words(seeds)} {state}" for state, seeds in lacking.items())


def _without_number(trials: pd.DataFrame) -> bool:
    """Whether all have finished and none has what is measured: the precision of modifications that a row never made."""
    return bool(trials["value"].isna().all() and (trials["status"] == "FINISHED").all())


def _remarks(at: Mapping[Any, pd.DataFrame], rows: Iterable[str], columns: Iterable[str]) -> Iterator[str]:
    """Which cells of a row are one computation, and which have no number though their runs have finished."""
    for row in rows:
        of_row = {column: at[row, column] for column in columns if (row, column) in at}
        without = [column for column, trials in of_row.items() if _without_number(trials)]
        computed: dict[frozenset[Any], list[str]] = {}
        for column, trials in of_row.items():
            if trials["key"].notna().all() and column not in without:
                what = frozenset(trials[["metric", "point", "seed", "key"]].itertuples(index=False, name=None))
                computed.setdefault(what, []).append(column)
        yield from (f"{row}: {_and(same)} are one computation" for same in computed.values() if len(same) > 1)
        if without:
            yield f"{row}: the runs of {_and(without)} finished without a number"


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def seeds_in_words(seeds: Iterable[int]) -> str:
    """ "seeds 1, 2, 3"."""
    listed = sorted(set(seeds))
    return f"seed{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"


def _best(compared: dict[str, Cell], high: bool) -> list[str]:
    """Rows with the best printed mean. A mean that lacks seeds is no rival, and a row alone has won nothing."""
    means = {
        row: round(cell.value, 1)
        for row, cell in compared.items()
        if cell.value is not None and cell.n == cell.expected
    }
    best = (max if high else min)(means.values(), default=None)
    return [row for row, mean in means.items() if mean == best] if len(means) > 1 else []


def _caption(record: Record, columns: tuple[str, ...], over: tuple[str, ...]) -> str:
    """What the numbers are, on which data, over which seeds, and by which rule each was selected."""
    space, select, layout, seeds = record.space, record.space["select"], record.space["table"], record.space["seeds"]
    axes, metrics, metric = several(layout.get("columns")), several(layout["value"]), select["metric"]
    spread = "mean ± sd (n − 1)" if len(seeds) > 1 else "one seed, so no sd"
    measured = ", ".join(dict.fromkeys(what for what, _ in map(metric_parts, metrics)))
    sentences = [
        space["title"],
        f"{_capital(measured)}, {spread}, {seeds_in_words(seeds)} (n = {len(seeds)})",
        *explained(metrics),
        f"Data set: {_in_words(record, 'data.dataset')}; labels: {_in_words(record, 'data.labels')}",
    ]
    if not all(map(of_all_epochs, metrics)):
        labels = f" (val labels: {_in_words(record, 'data.val_labels')})"
        oracle = selection.rule_of(select) == selection.ORACLE
        sentences.append(f"Selected {selection.in_words(select)}{'' if oracle else labels}")
    settings = [axis for axis in axes if axis != METRIC]
    if settings:
        without = f", {NO_VALUE} for variants without it" if any(NO_VALUE in column for column in columns) else ""
        sentences.append(f"Columns: {columns_title(record, settings)}{without}")
    if len(over) > 1:
        average = layout["average"]
        where = "Average" if average in axes else "Every cell is an average"
        sentences.append(f"{where}: of each seed, the mean over {setting_name(average)} {', '.join(over)}")
    if _can_be_chosen(record, axes) or _hidden(record, axes):
        rule = f"a value chosen on val has, for each seed, the best mean {metric} over the other seeds"
        sentences.append(_capital(rule if len(seeds) > 1 else "with one seed no value can be chosen on val"))
    sentences += selection.searched(space)
    sentences += [f"Mixed, as was allowed: {text}" for text in record.mixed]
    if layout.get("reference"):
        sentences.append(f"Not compared: {', '.join(layout['reference'])}")
    if space.get("note"):
        sentences.append(space["note"])
    sentences.append(f"Profile {space.get('profile', 'default')}, sweep {record.sweep[:12]}")
    return ". ".join(sentence.rstrip(".") for sentence in sentences) + "."


def _in_words(record: Record, setting: str) -> str:
    """What most trials have, then the variants that differ: "single_positive (Full label: full)"; of an axis, all."""
    if setting not in record.params:
        return "not recorded"
    texts = record.params[setting].fillna(NO_VALUE)
    if setting in record.axes:
        return ", ".join(texts.unique())
    usual = texts.mode().iloc[0]
    variants = record.trials.set_index("trial")["variant"].reindex(texts.index)
    others = texts[texts != usual].groupby(variants, sort=False).unique()
    listed = "; ".join(f"{variant}: {', '.join(values)}" for variant, values in others.items())
    return f"{usual} ({listed})" if listed else usual


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
