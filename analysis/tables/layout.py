"""Where each trial stands in a table: its row, its column, and what is averaged or chosen in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.names import AVERAGE, NO_VALUE, several
from analysis.reading.comparability import of_seed
from analysis.reading.records import Record, RecordError, logged_value

METRIC = "metric"  # among the columns, or as the rows, of a table: its metrics

# Settings of the task and the protocol. A table shows them, averages over them or fixes them, but never chooses them on
# val: that would choose the easiest task.
_GIVEN = ("data.", "train.linear_init")


@dataclass(frozen=True)
class Layout:
    """Where each trial is in the table. `trials` has a line per trial, metric and column, with its row and column in
    print; `point`, its value of the setting that the column averages over ("" without an average); and `shown`, whether
    the trial has a value on each axis of the columns. `over` are the points of an average, in order."""

    trials: pd.DataFrame
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    title: str
    over: tuple[str, ...]


def refuse_given(record: Record, hidden: Iterable[str]) -> None:
    """Raise `RecordError` for axes of the data or protocol among those that are not shown."""
    hidden = [axis for axis in hidden if is_given(axis)]
    if hidden:
        name = record.space["name"]
        raise RecordError(
            f"the layout of {name!r} leaves no place for {', '.join(hidden)}; name it in table.columns or table.average"
        )


def metrics_of(record: Record) -> list[str]:
    """The metrics of `table.value`, in place of `test/ap` those of all classes, from the lowest mean to the highest."""
    metrics = []
    for name in several(record.space["table"]["value"]):
        of_classes = [metric for metric in record.trials if metric.startswith(f"{name}/")]
        metrics += list(record.trials[of_classes].mean().sort_values(kind="stable").index) or [name]
    return metrics


def is_given(axis: str) -> bool:
    """Whether an axis is part of the task or the protocol."""
    return axis.startswith(_GIVEN)


def can_be_chosen(record: Record, axes: Sequence[str]) -> bool:
    """Whether the columns are, in each row, the values of one setting of a method."""
    places = record.trials[[axis for axis in axes if axis in record.axes]].notna()
    no_settings = (METRIC, record.space["table"].get("average"))
    one = len(axes) == 1 or (len(axes) > 1 and places.sum(axis="columns").max() == 1)
    return bool(one) and not any(axis in no_settings or is_given(axis) for axis in axes)


def check(record: Record, axes: Sequence[str], layout: dict[str, Any]) -> None:
    name = record.space["name"]
    if "epoch" in axes:
        raise RecordError(f"the columns of {name!r} are epochs, which a figure shows: python -m analysis figure {name}")
    if METRIC not in axes and (layout.get("rows") == METRIC or len(several(layout["value"])) > 1):
        raise RecordError(f"the table of {name!r} has several metrics and no place for them: columns: metric")
    refuse_given(record, hidden_axes(record, axes))


def hidden_axes(record: Record, axes: Sequence[str]) -> list[str]:
    """The axes that the table neither shows nor averages over."""
    return [axis for axis in record.axes if axis not in (*axes, record.space["table"].get("average"))]


def laid_out(record: Record, axes: Sequence[str], metrics: Sequence[str]) -> Layout:
    rows_are_metrics, average = record.space["table"].get("rows") == METRIC, record.space["table"].get("average")
    names, swept = record.names, record.space.get("axes", {})
    common, labels = names.told_apart(metrics)
    whats, kinds = zip(*map(names.metric_parts, metrics), strict=True)
    labels = list(whats) if rows_are_metrics else labels
    base, variants = with_scores(record), list(record.space["variants"])

    def row(variant: str, kind: str) -> str:
        return variant if not rows_are_metrics else kind if len(variants) == 1 else f"{variant}, {kind}"

    # Per axis, the text of every trial, and all texts in order.
    settings = dict.fromkeys([*(axis for axis in axes if axis != METRIC), *filter(None, [average])])
    texts = {axis: _columns(record, axis) for axis in settings}
    listed = {axis: [names.value_name(value, axis) for value in swept.get(axis, ())] for axis in settings}
    orders = {axis: _in_order(texts[axis], listed[axis]) for axis in settings}
    orders[METRIC] = tuple(dict.fromkeys(labels))
    over = tuple(text for text in orders.get(average, ()) if text in (listed[average] or texts[average]))
    over = tuple(text for text in over if text != NO_VALUE)
    # Whether columns are averages: False, True or both. A single value needs no column for its average.
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
        part["row"] = [row(variant, kind) for variant in base["variant"]]
        part["point"] = texts[average] if averaged else ""
        parts.append(part)
    trials = pd.concat(parts, ignore_index=True)

    in_order = dict.fromkeys(map(_joined, itertools.product(*(orders[axis] for axis in axes or [METRIC]))))
    titles = [names.setting_title(axis) if axis != METRIC else "" if rows_are_metrics else common for axis in axes]
    return Layout(
        trials=trials,
        rows=tuple(dict.fromkeys(row(variant, kind) for variant in variants for kind in kinds)),
        columns=tuple(column for column in in_order if column in set(trials["column"])),
        title=_crossed_titles(titles, [texts.get(axis, [common] * len(base)) for axis in axes]),
        over=over,
    )


def _crossed_titles(titles: Sequence[str], texts: Sequence[Sequence[str]]) -> str:
    """The title of crossed columns: joined by × where a trial has several settings, by "or" where none has."""
    together = any(sum(text != NO_VALUE for text in place) > 1 for place in zip(*texts))
    return (" × " if together else " or ").join(dict.fromkeys(filter(None, titles)))


def columns_title(record: Record, axes: Sequence[str]) -> str:
    """The title of columns: of the settings among the axes, not of the metric."""
    settings = [axis for axis in axes if axis != METRIC]
    return _crossed_titles([*map(record.names.setting_title, settings)], [_columns(record, axis) for axis in settings])


def _joined(place: Sequence[str]) -> str:
    """The name of a crossed column. A setting that the trial does not have is left out."""
    return ", ".join(text for text in place if text != NO_VALUE) or NO_VALUE


def with_scores(record: Record) -> pd.DataFrame:
    """The trials with four more columns: `score`, the metric that selects; `setting`, the values of the axes in words;
    `key`, the key of the last state; and `task`, all settings of the data ("" without a run)."""
    trials = record.trials.assign(score=_finished(record, record.space["select"]["metric"]))
    followed = of_seed(record.space)
    data = record.params[[name for name in record.params if name.startswith("data.") and name not in followed]]
    trials["key"] = trials["trial"].map(record.versions["key"])
    trials["task"] = trials["trial"].map({trial: str(task) for trial, task in data.to_dict("index").items()}).fillna("")
    trials["setting"] = [setting_in_words(record, trial) for trial in trials.to_dict("records")]
    return trials


def _finished(record: Record, metric: str) -> pd.Series:
    finished = record.trials["status"] == "FINISHED"
    if metric in record.trials:
        return record.trials[metric].where(finished)
    if finished.any():
        known = sorted(name for name in record.trials if "/" in name)
        raise RecordError(f"no run of {record.space['name']!r} logged {metric!r}; they logged {', '.join(known)}")
    return pd.Series(float("nan"), index=record.trials.index)


def setting_in_words(record: Record, trial: Mapping[str, Any]) -> str:
    """Where on the axes a trial is: "Δrel 0.4, train.learning_rate 0.001"."""
    names = record.names
    # Not a dictionary: two settings may have one name.
    values = [(names.setting_name(axis), names.value_name(trial[axis], axis)) for axis in record.axes]
    return ", ".join(f"{name} {value}" for name, value in values if value != NO_VALUE)


def _columns(record: Record, axis: str) -> list[str]:
    """For each trial the value in force, in print: its own on the axis, else its variant's, else what its run logged.
    Of an axis that only some variants have, the others have no value: the setting may not act in them."""
    variants, logged = record.space["variants"], {}
    of_some = axis in record.axes and axis not in record.space.get("axes", {})
    if axis in record.params and not of_some:
        logged = {trial: logged_value(text) for trial, text in record.params[axis].items()}
    texts = []
    for trial in record.trials.to_dict("records"):
        own = record.names.value_name(trial[axis], axis) if axis in record.axes else NO_VALUE
        inherited = variants[trial["variant"]].get(axis, logged.get(trial["trial"]))
        texts.append(record.names.value_name(inherited, axis) if own == NO_VALUE else own)
    return texts


def _in_order(found: Iterable[str], listed: Iterable[str]) -> tuple[str, ...]:
    """The dash, the axis in the space's order, then what only some variant has."""
    present = list(found)
    return tuple(name for name in dict.fromkeys([NO_VALUE, *listed, *present]) if name in set(present))
