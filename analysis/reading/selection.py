"""Which epoch a trial reports: rules by name, applied to the histories in the record.

A space names its rule, and its trials logged the results of the epoch that this rule selects. For any other rule the
histories are read, in one query for each metric and each hundred trials.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from analysis.names import MAPS, ORACLE, RULES, of_all_epochs, several
from analysis.reading.records import Record, RecordError, histories
from analysis.record.names import EPOCH

_OF_EPOCH = {"last": "last", "best": "best_val", "oracle": ORACLE}  # what a space's `select.epoch` is called


def rule_of(select: Mapping[str, Any]) -> str:
    """The rule of a space's `select`; an oracle with its metric: "best_test:test/map"."""
    rule = _OF_EPOCH[select.get("epoch", "best")]
    return f"{rule}:{select['by']}" if rule == ORACLE else rule


def is_oracle(select: Mapping[str, Any]) -> bool:
    """Whether that rule has seen the test labels."""
    return rule_of(select).startswith(ORACLE)


def printed(select: Mapping[str, Any]) -> str:
    """The printed name of that rule."""
    return rule_of(select) + " (oracle)" * is_oracle(select)


def in_words(space: Mapping[str, Any]) -> str:
    """ "at the best val/map epoch"."""
    select = space["select"]
    below = select.get("end_below_best")
    oracle = ", an oracle: it has seen the test labels" if is_oracle(select) else ""
    ended = f"; trials end where {select['metric']} is more than {below:g} below its best so far" if below else ""
    epoch = "last" if rule_of(select) == "last" else f"best {select.get('by', select['metric'])}"
    return f"at the {epoch} epoch{oracle}{ended}"


def shown(record: Record, rule: str | None, value: str | None) -> Record:
    """The sweep with another metric in its table (`value`) and under another rule, if these are given."""
    if value:
        record = replace(record, space=record.space | {"table": record.space["table"] | {"value": value}})
    return under(record, rule) if rule else record


def under(record: Record, rule: str) -> Record:
    """The sweep as if its space had named `rule`. Replaces the results that its table shows and those that choose.

    Under the space's own rule, they are compared with the results that the trials logged. Settings are always chosen on
    val, at the epochs that the rule selects. Raises `RecordError` for another rule than `RULES`, and for a metric
    without a history.
    """
    if rule not in RULES:
        raise RecordError(f"{rule!r} is no rule that selects an epoch; the rules are {', '.join(RULES)}")
    select, own = record.space["select"], rule_of(record.space["select"])
    named, _, by = rule.partition(":")
    by = by or _chooses(record.space, named)
    chosen = _epochs(record, named, by)
    trials = record.trials.copy()
    for metric in dict.fromkeys([select["metric"], *several(record.space["table"]["value"])]):
        if of_all_epochs(metric):
            continue
        points = histories(record, metric)
        if points.empty and rule == own:
            continue  # only the logged result exists
        _refuse_empty(record, metric, points)
        at = points[points["epoch"] == points["trial"].map(chosen)].set_index("trial")["value"]
        trials[metric] = trials["trial"].map(at)
        if rule == own:
            _check_logged(record, metric, trials[metric])
    epoch = next(epoch for epoch, called in _OF_EPOCH.items() if called == named)
    return replace(record, trials=trials, space=record.space | {"select": select | {"epoch": epoch, "by": by}})


def _chooses(space: Mapping[str, Any], rule: str) -> str:
    """The metric by which a rule selects that names none: the space's, on val; or the first mAP on test that the table
    reports, by the same definition. A table without one has the space's metric, on test."""
    metric = space["select"]["metric"]
    if rule != ORACLE:
        return metric
    reported = (name for name in several(space["table"]["value"]) if name in MAPS)
    return next(reported, f"test/{metric.partition('/')[2]}")


def _epochs(record: Record, rule: str, metric: str) -> pd.Series:
    """The selected epoch of each finished trial: the earliest best one, or the last if the metric is always NaN."""
    points = histories(record, metric)
    _refuse_empty(record, metric, points)
    last = points.groupby("trial")["epoch"].max()
    if rule == "last":
        return last
    numbers = points.dropna(subset="value")
    if numbers.empty:
        raise RecordError(f"{metric} of {record.space['name']!r} is no number in any epoch, so {rule} selects none")
    best = numbers.loc[numbers.groupby("trial")["value"].idxmax()]
    return best.set_index("trial")["epoch"].reindex(last.index).fillna(last)


def _refuse_empty(record: Record, metric: str, points: pd.DataFrame) -> None:
    finished = record.trials[record.trials["status"] == "FINISHED"]
    if points.empty and len(finished):
        logged = record.client.get_run(finished["run_id"].iloc[0]).data.metrics
        known = sorted(name.removeprefix(EPOCH) for name in logged if name.startswith(EPOCH))
        raise RecordError(
            f"{metric} of {record.space['name']!r} has no history, so the space's own rule alone "
            f"({rule_of(record.space['select'])}) gives it; there are those of {', '.join(known)}"
        )


def _check_logged(record: Record, metric: str, selected: pd.Series) -> None:
    logged = record.trials[metric].where(record.trials["status"] == "FINISHED")
    wrong = record.trials["run_id"][(selected != logged) & (selected.notna() | logged.notna())]
    if len(wrong):
        raise RecordError(
            f"{len(wrong)} runs of {record.space['name']!r} have another {metric} than at the epoch that "
            f"{rule_of(record.space['select'])} selects; the first is {wrong.iloc[0]}"
        )


def confirmed(record: Record) -> Record:
    """The sweep with the trials that it reports. A search that confirms its best points reports the confirming trials
    alone, whose seeds took no part in the search; any other sweep reports all."""
    confirm = (record.space.get("search") or {}).get("confirm")
    if not confirm:
        return record
    trials = record.trials[record.trials["seed"].isin(confirm["seeds"])]
    of_trials = {name: getattr(record, name) for name in ("params", "versions")}
    kept = {name: frame[frame.index.isin(trials["trial"])] for name, frame in of_trials.items()}
    return replace(record, trials=trials, **kept, space=record.space | {"seeds": confirm["seeds"]})


def searched(space: Mapping[str, Any]) -> list[str]:
    """How a search came to its points, in sentences for a caption; none for any other sweep."""
    search = space.get("search")
    if not search:
        return []
    how = f"{search['trials']} points of each row by {search['algorithm']} search"
    if not search["confirm"]:
        return [f"{how}; found and reported on the same seeds, so the values are too high"]
    best = "those on the Pareto front, at most" if search.get("objectives") else "the best"
    return [f"{how}; reported are {best} {search['confirm']['top']} under these seeds, which did not find them"]
