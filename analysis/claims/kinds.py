"""The kinds of claims: which paired differences each is tested on, and by which test."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from analysis.names import higher_is_better, several
from analysis.reading.records import Record, histories
from analysis.reading.runs import RecordError
from analysis.statistics import Estimate, equivalence_p, estimate, paired, roughness, slope
from analysis.tables.chosen import chosen_by_the_other_seeds

MARGIN = 0.5


@dataclass(frozen=True)
class Test:
    """One test of a claim. `name` says what is compared, `differences` has the difference for each seed, and `found` is
    the estimate of the mean difference: for a claim with a direction, positive values support it. `p` is the p-value
    for the claim, `against` the p-value for its opposite."""

    name: str
    differences: dict[int, float]
    found: Estimate
    p: float
    against: float


class ClaimError(RecordError):
    """`claims.yaml` has a wrong entry; the message names it, what was given and what is allowed."""


@dataclass(frozen=True)
class _Part:
    """What a part of a claim is judged on: `trials` at one value of an axis, which `suffix` names (", known proportion
    10%"); `what`, the part as written in the file; `of_metric`, the name of the metric if it is not the claim's."""

    record: Record
    trials: pd.DataFrame
    metric: str
    what: Mapping[str, Any]
    suffix: str
    of_metric: str

    def by_seed(self, row: str, trials: pd.DataFrame | None = None, over: list[str] | None = None) -> dict[int, float]:
        """A row's value for each seed: the mean over the axes that are named, at the values of all others that the
        other seeds chose on val. Raises `RecordError` where a trial is missing."""
        trials = self.trials if trials is None else trials
        over = several(self.what.get("mean_over")) if over is None else over
        own, name = trials[trials["variant"] == row].copy(), self.record.space["name"]
        lacking = (own["status"] != "FINISHED").sum()
        if self.metric not in own or own.empty or own.loc[own["status"] == "FINISHED", self.metric].isna().any():
            raise RecordError(f"no {self.metric} of {row} in {name}")
        if lacking:
            raise RecordError(f"{lacking} of {len(own)} trials of {row} in {name} have no result")
        free = [axis for axis in self.record.axes if axis not in over and own[axis].nunique() > 1]
        own["setting"] = [" ".join(f"{axis}={trial[axis]}" for axis in free) for trial in own.to_dict("records")]
        own["score"] = own[self.record.space["select"]["metric"]]
        if own["setting"].nunique() > 1:
            high = higher_is_better(self.record.space["select"]["metric"])
            groups = [group for _, group in own.groupby(over)] if over else [own]
            own = pd.concat([chosen_by_the_other_seeds(group, high) for group in groups])
        return own.groupby("seed")[self.metric].mean().to_dict()

    def curves(self, row: str, fewest: int, since: int = 1) -> dict[int, pd.Series]:
        """For each seed of a row, the value by epoch from `since` on. Raises `RecordError` for fewer than `fewest`."""
        own, name = self.trials[self.trials["variant"] == row], self.record.space["name"]
        if (own["status"] != "FINISHED").any():
            raise RecordError(f"trials of {row} in {name} have no result")
        frame = histories(self.record, self.metric, own).dropna(subset="value")  # none in the first epoch
        frame = frame[frame["epoch"] >= since].set_index("epoch")
        curves = {int(str(seed)): of["value"] for seed, of in frame.groupby("seed")}
        if len(curves) < len(own) or any(len(curve) < fewest for curve in curves.values()):
            raise RecordError(f"no history of {self.metric} of every seed of {row} in {name}")
        return curves


def tests_of(where: str, part: Mapping[str, Any], value: str, record: Record) -> Iterator[Test]:
    """The tests of one part."""
    if len(part) != 1 or next(iter(part)) not in KINDS:
        raise ClaimError(f"{where}: a part is one of {', '.join(KINDS)}; given is {', '.join(part)}")
    kind, what = next(iter(part.items()))
    test, own = KINDS[kind]
    refuse_unknown(f"{where}, {kind}", what, ("rows", "value", "at", "each", "mean_over", *own))
    known, thans = record.space["variants"], several(what.get("than")) or [None]
    for name in [*what["rows"], *thans]:
        if isinstance(name, str) and name not in known:
            raise ClaimError(f"{where}: {record.space['name']} has no row {name!r}; its rows are {', '.join(known)}")
    metric = what.get("value", value)
    of_metric = f" ({record.names.metric_title(metric)})" if metric != value else ""
    for place, trials in _places(record, what):
        terms = _Part(record, trials, metric, what, f", {place}" if place else "", of_metric)
        for row, than in itertools.product(what["rows"], thans):
            yield from test(terms, row, than)


def _places(record: Record, what: Mapping[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The trials that a part is about, with a name; where it is judged at each value of an axis, one by one."""
    trials = record.trials
    for axis in [*what.get("at", {}), *several(what.get("each")), *several(what.get("mean_over"))]:
        if axis not in record.axes:
            raise ClaimError(f"{record.space['name']} has no axis {axis!r}; its axes are {', '.join(record.axes)}")
    for axis, value in what.get("at", {}).items():
        trials = trials[trials[axis] == value]
    axis = what.get("each")
    if axis is None:
        yield "", trials
        return
    for value in trials[axis].dropna().unique():
        # A row that does not have the axis is compared everywhere.
        place = f"{record.names.setting_name(axis)} {record.names.value_name(value, axis)}"
        yield place, trials[(trials[axis] == value) | trials[axis].isna()]


def _minus(part: _Part, row: str, than: Any) -> tuple[str, dict[int, float]]:
    """The name and the differences of a row minus another one, or minus a number."""
    ours = part.by_seed(row)
    theirs = part.by_seed(than) if isinstance(than, str) else dict.fromkeys(ours, float(than))
    return f"{row} − {than}{part.suffix}{part.of_metric}", paired(ours, theirs)


def _greater(part: _Part, row: str, than: Any) -> Iterator[Test]:
    name, differences = _minus(part, row, than)
    margin = part.what.get("margin", 0)
    yield _directed(f"{name} (above −{margin:g})" if margin else name, differences, margin)


def _equivalent(part: _Part, row: str, than: Any) -> Iterator[Test]:
    name, by_seed = _minus(part, row, than)
    margin, differences = part.what.get("margin", MARGIN), list(by_seed.values())
    # The opposite of "within the margin": outside of it, on one side or the other.
    beyond = [estimate([side * d - margin for d in differences]) for side in (1, -1)]
    against = min(1.0, 2 * min(one.p / 2 if one.mean > 0 else 1 - one.p / 2 for one in beyond))
    p = equivalence_p(differences, margin)
    yield Test(f"{name} (within ± {margin:g})", by_seed, estimate(differences), p, against)


def _inner_optimum(part: _Part, row: str, _: None) -> Iterator[Test]:
    axis, trials, names = part.what["axis"], part.trials, part.record.names
    values = sorted(trials.loc[trials["variant"] == row, axis].dropna().unique())
    values = [value for value in values if value in part.what.get("among", values)]
    if len(values) < 3:
        raise RecordError(f"{row} has {len(values)} values of {axis} to compare, so none inside")
    inner = part.by_seed(row, trials[trials[axis].isin(values[1:-1])], [])
    for end in (values[0], values[-1]):
        name = f"{row}{part.suffix}: best inner {names.setting_name(axis)} − {names.value_name(end, axis)}"
        yield _directed(name, paired(inner, part.by_seed(row, trials[trials[axis] == end], [])))


def _interaction(part: _Part, row: str, than: Any) -> Iterator[Test]:
    axis, names, gains, places = part.what["axis"], part.record.names, [], []
    for values in (part.what["larger_at"], part.what["smaller_at"]):
        there = part.trials[part.trials[axis].isin(values)]
        gains.append(paired(part.by_seed(row, there, [axis]), part.by_seed(than, there, [axis])))
        places.append(" and ".join(names.value_name(value, axis) for value in values))
    gain = f"({row} − {than}{part.suffix}{part.of_metric})"
    yield _directed(f"{gain} at {names.setting_name(axis)} {places[0]} − the same at {places[1]}", paired(*gains))


def _trend(part: _Part, row: str, _: None) -> Iterator[Test]:
    direction = part.what["direction"]
    sign = {"falls": -1, "rises": 1}[direction]
    slopes = {seed: sign * slope([*curve.index], [*curve]) for seed, curve in part.curves(row, 2).items()}
    title = part.record.names.metric_title(part.metric)
    yield _directed(f"{row}{part.suffix}: {title} {direction} (per epoch)", slopes)


def _smoother(part: _Part, row: str, than: Any) -> Iterator[Test]:
    since = part.what["since"]
    rough, smooth = (
        {seed: 100 * roughness([*curve]) for seed, curve in part.curves(variant, 3, since).items()}
        for variant in (than, row)
    )
    title = f"roughness of {part.record.names.metric_title(part.metric)} from epoch {since} on (%)"
    yield _directed(f"{title}: {than} − {row}{part.suffix}", paired(rough, smooth))


def _directed(name: str, differences: dict[int, float], margin: float = 0) -> Test:
    """The test of the claim that the differences are above −margin."""
    found = estimate(list(differences.values()))
    above = estimate([difference + margin for difference in differences.values()])
    return Test(name, differences, found, above.p if above.mean > 0 else 1.0, above.p if above.mean < 0 else 1.0)


# By kind of part: the function that judges it, and the keys that it may have besides those of all kinds.
KINDS: dict[str, tuple[Callable[[_Part, str, Any], Iterator[Test]], tuple[str, ...]]] = {
    "greater": (_greater, ("than", "margin")),
    "equivalent": (_equivalent, ("than", "margin")),
    "inner_optimum": (_inner_optimum, ("axis", "among")),
    "interaction": (_interaction, ("than", "axis", "larger_at", "smaller_at")),
    "trend": (_trend, ("direction",)),
    "smoother": (_smoother, ("than", "since")),
}


def refuse_unknown(where: str, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    unknown = [key for key in given if key not in allowed]
    if unknown:
        raise ClaimError(f"{where}: unknown {', '.join(map(repr, unknown))}; allowed are {', '.join(allowed)}")
