"""What a table says of itself: the caption above it and the remarks below it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.names import NO_VALUE, of_all_epochs, several
from analysis.reading import comparability, selection
from analysis.reading.records import Record
from analysis.tables.chosen import seeds_in_words
from analysis.tables.layout import METRIC, can_be_chosen, columns_title, hidden_axes


def without_number(trials: pd.DataFrame) -> bool:
    """Whether all have finished and none has a value, as the precision of modifications where none were made."""
    return bool(trials["value"].isna().all() and (trials["status"] == "FINISHED").all())


def remarks(at: Mapping[Any, pd.DataFrame], rows: Iterable[str], columns: Iterable[str]) -> Iterator[str]:
    """Which cells of a row are one computation, and which have no number though their runs have finished."""
    for row in rows:
        of_row = {column: at[row, column] for column in columns if (row, column) in at}
        without = [column for column, trials in of_row.items() if without_number(trials)]
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


def caption_of(record: Record, columns: tuple[str, ...], over: tuple[str, ...]) -> str:
    """The caption: what is measured, on which data, over which seeds, and by which rule epochs were selected."""
    space, select, layout, seeds = record.space, record.space["select"], record.space["table"], record.space["seeds"]
    axes, metrics, metric = several(layout.get("columns")), several(layout["value"]), select["metric"]
    spread = "mean ± sd (n − 1)" if len(seeds) > 1 else "one seed, so no sd"
    measured = ", ".join(dict.fromkeys(what for what, _ in map(record.names.metric_parts, metrics)))
    sentences = [
        space["title"],
        f"{_capital(measured)}, {spread}, {seeds_in_words(seeds)} (n = {len(seeds)})",
        *record.names.explained(metrics),
        f"Data set: {_in_words(record, 'data.dataset')}; labels: {_in_words(record, 'data.labels')}" + _scenes(record),
    ]
    if not all(map(of_all_epochs, metrics)):
        labels = f" (val labels: {_in_words(record, 'data.val_labels')})"
        sentences.append(f"Selected {selection.in_words(space)}{'' if selection.is_oracle(select) else labels}")
    if "titles" not in space:
        sentences.append("Recorded by code that kept no titles, so settings and metrics have their names in files")
    settings = [axis for axis in axes if axis != METRIC]
    if settings:
        without = f", {NO_VALUE} for variants without it" if any(NO_VALUE in column for column in columns) else ""
        sentences.append(f"Columns: {columns_title(record, settings)}{without}")
    if len(over) > 1:
        average = layout["average"]
        where = "Average" if average in axes else "Every cell is an average"
        sentences.append(f"{where}: of each seed, the mean over {record.names.setting_name(average)} {', '.join(over)}")
    if can_be_chosen(record, axes) or hidden_axes(record, axes):
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


def _scenes(record: Record) -> str:
    """Which scenes the embedded data set has, unless they are the usual ones, draw 1: "; scenes: draw 7"."""
    draws = comparability.draws(record.params)
    if comparability.follows_seed(record.space, comparability.DRAW, draws, record.trials):
        return "; scenes: a draw per seed"
    if not {*draws} - {"1"}:
        return ""
    texts = draws.map({"0": "draw 0, which was used to choose defaults"}).fillna("draw " + draws)
    return f"; scenes: {_in_words(replace(record, params=texts.to_frame(comparability.DRAW)), comparability.DRAW)}"


def _in_words(record: Record, setting: str) -> str:
    """The value of most trials, then the variants that differ: "single_positive (Full label: full)"; all of an axis."""
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
