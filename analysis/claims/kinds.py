"""The kinds of tests of which the parts of a claim consist.

Common to all kinds: a row's value of a seed is paired with that of the other row under the same seed. The seed is the
unit of replication: each gives one difference, and Student's t test asks whether their mean is above 0. A test with
p < 0.05 supports what is claimed, one whose opposite has p < 0.05 contradicts it, and any other leaves it undecided.
`analysis.claims.judging` corrects these p-values and makes the verdict. A docstring of a kind says what its difference
is, and where its test is another one.

`over_epochs: mean` takes the mean of a metric over the epochs that have it, in place of the selected epoch's value.
`over_epochs: per epoch` divides what a trial needed for all its epochs by their number, since it may end early.

Where a row was run with several values of a setting that the part does not name, each seed takes the value that the
other seeds found best on val.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from analysis.names import higher_is_better, several
from analysis.reading.records import Record, histories
from analysis.reading.runs import RecordError
from analysis.statistics import Estimate, above, estimate, in_most, paired, roughness, slope, within
from analysis.tables.chosen import chosen_by_the_other_seeds
from analysis.tables.layout import is_given

MARGIN = 0.5
FEWEST_SETTINGS = 3  # of which "most" is less than all
_DATA = "data.dataset"
_LOSS = "train/loss"  # every trial has it in each of its epochs
_OVER_EPOCHS = {None: "", "mean": ", mean over the epochs", "per epoch": ", per epoch"}

BySeed = dict[int, float]


@dataclass(frozen=True)
class Test:
    """One test of a claim. `name` says what is compared, `differences` has the difference for each seed, and `found` is
    the estimate of the mean difference: for a claim with a direction, positive values support it. `p` is the p-value
    for the claim, `against` the p-value for its opposite. `reason`: why it can decide nothing.
    """

    name: str
    differences: BySeed
    found: Estimate
    p: float
    against: float
    reason: str = ""


class ClaimError(RecordError):
    """`claims.yaml` has a wrong entry; the message names it, what was given and what is allowed."""


@dataclass(frozen=True)
class Part:
    """What a part of a claim is judged on: `trials` at one place (a value of each axis of `each`), which `suffix` names
    (", known proportion 10%"), with what is taken over the epochs; `what`, the part as written in the file;
    `of_metric`, the name of the metric if it is not the claim's."""

    record: Record
    trials: pd.DataFrame
    metric: str
    what: Mapping[str, Any]
    suffix: str
    of_metric: str

    def by_seed(
        self, row: str, at: Mapping[str, Any] | None = None, over: list[str] | None = None, metric: str | None = None
    ) -> BySeed:
        """A row's value of each seed: the mean over the axes `over` (default: those of the part). Raises `RecordError`
        where a trial is missing."""
        metric = metric or self.metric
        own = self.of(row, at, over)
        own = own.assign(measured=self._measured(metric, own))
        if own["measured"].isna().any():
            raise RecordError(f"no {metric} of {row} in {self.record.space['name']}")
        return own.groupby("seed")["measured"].mean().to_dict()

    def _measured(self, metric: str, trials: pd.DataFrame) -> pd.Series:
        """The metric of each trial, taken `over_epochs` as the part says; NaN where there is none."""
        over_epochs = self.what.get("over_epochs")
        if over_epochs == "mean":  # an epoch without a value, as of modifications in the first one, does not count
            return trials["trial"].map(histories(self.record, metric, trials).groupby("trial")["value"].mean())
        measured = trials[metric] if metric in trials else pd.Series(math.nan, trials.index)
        if over_epochs == "per epoch":
            return measured / trials["trial"].map(histories(self.record, _LOSS, trials).groupby("trial")["epoch"].max())
        return measured

    def of(self, row: str, at: Mapping[str, Any] | None = None, over: list[str] | None = None) -> pd.DataFrame:
        """The trials of a row with these values of axes (default: those of the part). Of several values of an axis that
        is neither in `at` nor in `over`, each seed has the one that the other seeds chose on val."""
        own, name = self.trials[self.trials["variant"] == row], self.record.space["name"]
        for axis, value in (self.what.get("at", {}) | (at or {})).items():
            own = own[own[axis].isin(several(value))]
        over = several(self.what.get("mean_over")) if over is None else over
        if own.empty:
            raise RecordError(f"no trial of {row} in {name}")
        if lacking := (own["status"] != "FINISHED").sum():
            raise RecordError(f"{lacking} of {len(own)} trials of {row} in {name} have no result")
        free = [axis for axis in self.record.axes if axis not in over and own[axis].nunique() > 1]
        if not free:
            return own
        score = self.record.space["select"]["metric"]
        settings = [" ".join(f"{axis}={trial[axis]}" for axis in free) for trial in own.to_dict("records")]
        own = own.assign(setting=settings, score=own[score])
        groups = [group for _, group in own.groupby(over)] if over else [own]
        chosen = pd.concat([chosen_by_the_other_seeds(group, higher_is_better(score)) for group in groups])
        if chosen.empty:
            raise RecordError(f"one seed cannot choose among the settings of {row} in {name}")
        return chosen

    def of_classes(self, row: str) -> dict[str, BySeed]:
        """For each class that has a value of the metric in all trials of a row, the row's value of each seed."""
        own = self.of(row)
        classes = [name for name in own if name.startswith(f"{self.metric}/")]
        return own.groupby("seed")[classes].mean().dropna(axis="columns").to_dict()

    def values(self, row: str, axis: str) -> list[Any]:
        """The values of an axis at which a row was run, in order."""
        return sorted(self.trials.loc[self.trials["variant"] == row, axis].dropna().unique())

    def curves(
        self, row: str, fewest: int, since: int = 1, until: int | None = None
    ) -> dict[int, tuple[list[float], list[float]]]:
        """For each seed of a row, the epochs from `since` to `until` (None: the last one) and their values; a place
        within an epoch, 3.25 say, is in the epoch that ends with 4. Raises `RecordError` for fewer than `fewest`."""
        own, name = self.trials[self.trials["variant"] == row], self.record.space["name"]
        if (own["status"] != "FINISHED").any():
            raise RecordError(f"trials of {row} in {name} have no result")
        frame = histories(self.record, self.metric, own).dropna(subset="value")  # none in the first epoch
        frame = frame[(frame["epoch"] > since - 1) & (frame["epoch"] <= (until or frame["epoch"].max()))]
        curves = {int(str(seed)): ([*of["epoch"]], [*of["value"]]) for seed, of in frame.groupby("seed")}
        if len(curves) < len(own) or any(len(values) < fewest for _, values in curves.values()):
            raise RecordError(f"no history of {self.metric} of every seed of {row} in {name}")
        return curves

    def place(self, values: Mapping[str, Any]) -> str:
        """Values of axes in words: "known proportion 10% and 20%"."""
        names = self.record.names
        return ", ".join(
            f"{names.setting_name(axis)} {' and '.join(names.value_name(one, axis) for one in several(value))}"
            for axis, value in values.items()
        )


def tests_of(where: str, part: Mapping[str, Any], value: str, record: Record) -> Iterator[Test]:
    """The tests of one part, of the metric `value` unless the part names its own."""
    if len(part) != 1 or next(iter(part)) not in KINDS:
        raise ClaimError(f"{where}: a part is one of {', '.join(KINDS)}; given is {', '.join(part)}")
    name, what = next(iter(part.items()))
    kind = KINDS[name]
    refuse_unknown(f"{where}, {name}", what, ("rows", "value", "at", "each", "mean_over", *kind.needs, *kind.may))
    if lacking := [key for key in ("rows", *kind.needs) if key not in what]:
        raise ClaimError(f"{where}, {name}: {', '.join(lacking)} must be given")
    known, thans = record.space["variants"], several(what.get("than")) or [None]
    for row in [*what["rows"], *thans]:
        if isinstance(row, str) and row not in known:  # a sweep that is older than the row, say
            rows = ", ".join(known)
            raise RecordError(f"the sweep of {record.space['name']} has no row {row!r}; its rows are {rows}")
    if (over_epochs := what.get("over_epochs")) not in _OVER_EPOCHS:
        raise ClaimError(f"{where}, {name}: over_epochs is mean or per epoch; given is {over_epochs}")
    each = _each(where, record, what)
    for metric in several(what.get("value", value)):
        of_metric = f" ({record.names.metric_title(metric)})" if metric != value else ""
        parts = [
            Part(record, trials, metric, what, (f", {place}" if place else "") + _OVER_EPOCHS[over_epochs], of_metric)
            for place, trials in _places(record, each)
        ]
        if kind.of_all_places:
            for row in what["rows"]:
                yield kind.test(parts, row, thans)
        else:
            for one, row, than in itertools.product(parts, what["rows"], thans):
                yield from kind.test(one, row, than)


def _each(where: str, record: Record, what: Mapping[str, Any]) -> list[str]:
    """The axes at whose values the part is judged, one by one. Data sets are always among them: a claim is to hold on
    each. Raises `ClaimError` for an axis that the sweep lacks, and for one of the data or protocol that the part does
    not name, because from such an axis nothing may be chosen."""
    each = several(what.get("each"))
    named = [*what.get("at", {}), *what.get("than_at", {}), *each, *several(what.get("mean_over"))]
    named += several(what.get("axis"))
    for axis in named:
        if axis not in record.axes:
            raise ClaimError(f"{record.space['name']} has no axis {axis!r}; its axes are {', '.join(record.axes)}")
    given = [axis for axis in record.axes if axis not in named and is_given(axis) and axis != _DATA]
    if given:
        raise ClaimError(f"{where}: {record.space['name']} has the axis {given[0]!r}; name it in at, each or mean_over")
    return [*each, *(axis for axis in record.axes if axis == _DATA and axis not in named)]


def _places(record: Record, each: Iterable[str]) -> list[tuple[str, pd.DataFrame]]:
    """The trials at each combination of the values of these axes, with a name; all trials if there are none."""
    places = [("", record.trials)]
    for axis in each:
        # A row that does not have the axis is compared everywhere.
        places = [
            (
                f"{place}, {name}".removeprefix(", "),
                trials[(trials[axis] == value) | trials[axis].isna()],
            )
            for place, trials in places
            for value in record.trials[axis].dropna().unique()
            for name in [f"{record.names.setting_name(axis)} {record.names.value_name(value, axis)}"]
        ]
    return places


def _minus(part: Part, row: str, than: Any) -> tuple[str, BySeed]:
    """The name and the differences of a row minus another one, a number, or another metric of the same row."""
    what, ours = part.what, part.by_seed(row)
    own = other = ""
    if than is None and "than_value" not in what:
        raise ClaimError(f"{row} in {part.record.space['name']} is compared with nothing: give than or than_value")
    if than is None:
        than, theirs = part.record.names.metric_title(what["than_value"]), part.by_seed(row, metric=what["than_value"])
        row = f"{row}: {part.record.names.metric_title(part.metric)}"
    elif isinstance(than, str):
        theirs = part.by_seed(than, what.get("than_at"))
        if "than_at" in what:
            own, other = f" at {part.place(what['at'])}", f" at {part.place(what['than_at'])}"
    else:
        theirs = dict.fromkeys(ours, float(than))
    of_metric = part.of_metric if "than_value" not in what else ""
    name = f"{row}{own} − {than}{other}{part.suffix}{of_metric}"
    if what.get("relative"):
        return f"{name}, in percent", {s: 100 * d / theirs[s] for s, d in paired(ours, theirs).items()}
    return name, paired(ours, theirs)


def greater(part: Part, row: str, than: Any) -> Iterator[Test]:
    """`rows` are above `than`: each row minus each other one, minus a number, or with `than_value` minus another metric
    of its own. With a `margin`, a row is not that much below: the test is of the mean difference above −margin."""
    name, differences = _minus(part, row, than)
    margin = part.what.get("margin", 0)
    yield _directed(f"{name} (above −{margin:g})" if margin else name, differences, margin)


def equivalent(part: Part, row: str, than: Any) -> Iterator[Test]:
    """`rows` are within ± `margin` of `than` (default 0.5, in the unit of the metric; `relative`: percent of `than`).
    Two one-sided t tests (TOST). Contradicted: the mean difference is outside of the margin, on either side.
    `than_at`: `than` is taken at these values of axes, the row at those of `at`."""
    name, differences = _minus(part, row, than)
    margin = part.what.get("margin", MARGIN)
    values = [*differences.values()]
    yield Test(f"{name} (within ± {margin:g})", differences, estimate(values), *within(values, margin))


def inner_optimum(part: Part, row: str, _: None) -> Iterator[Test]:
    """Over `axis`, the best inner value is above both ends: its value minus that of either end, two tests. Each seed's
    inner value is the one that the other seeds found best on val, so its own result took no part in the choice.
    `among`: the values of the axis that count. Contradicted: an end is above the best inner value."""
    axis, names = part.what["axis"], part.record.names
    values = part.values(row, axis)
    values = [value for value in values if value in part.what.get("among", values)]
    if len(values) < 3:
        raise RecordError(f"{row} has {len(values)} values of {axis} to compare, so none inside")
    inner = part.by_seed(row, {axis: values[1:-1]}, [])
    for end in (values[0], values[-1]):
        name = f"{row}{part.suffix}: best inner {names.setting_name(axis)} − {names.value_name(end, axis)}"
        yield _directed(name, paired(inner, part.by_seed(row, {axis: end}, [])))


def interaction(part: Part, row: str, than: Any) -> Iterator[Test]:
    """`rows` gain more over `than` where `axis` is in `larger_at` than where it is in `smaller_at`: the difference of
    the two gains, each a mean over its values of the axis."""
    axis = part.what["axis"]
    larger, smaller = ({axis: part.what[key]} for key in ("larger_at", "smaller_at"))
    gains = [paired(part.by_seed(row, at, [axis]), part.by_seed(than, at, [axis])) for at in (larger, smaller)]
    name = f"({row} − {than}{part.suffix}{part.of_metric}) at {part.place(larger)}"
    smaller_place = part.place(smaller).removeprefix(part.record.names.setting_name(axis)).strip()
    yield _directed(f"{name} − the same at {smaller_place}", paired(*gains))


def largest_drop(part: Part, row: str, than: Any) -> Iterator[Test]:
    """`rows` lose more than each of `than` where `axis` goes from the value `from` to the value `to`: the drop of the
    row minus the drop of the other. The row's drop is the largest if all tests hold."""
    axis = part.what["axis"]
    start, end = ({axis: part.what[key]} for key in ("from", "to"))
    drops = [paired(part.by_seed(one, start, [axis]), part.by_seed(one, end, [axis])) for one in (row, than)]
    there = part.place(end).removeprefix(part.record.names.setting_name(axis)).strip()
    name = f"drop of {row} from {part.place(start)} to {there} − that of {than}{part.suffix}{part.of_metric}"
    yield _directed(name, paired(*drops))


def most_settings(parts: list[Part], row: str, thans: list[Any]) -> Test:
    """Each of `rows` is above all of `than` in more than half of the settings, which are the values of `each`.

    In a setting the row must be above each other one by the t test. Over settings: a partial conjunction test by
    Bonferroni (`statistics.in_most`), which allows for settings that share seeds. Contradicted: in so many settings is
    one of `than` above the row that "more than half" cannot be. The difference shown is, for each seed, the number of
    settings in which the row is above all others, minus half of the settings; p is not computed from it.

    Of fewer than three settings "most" would be all, which is more than is claimed: both p are 1.
    """
    gains = [[_minus(part, row, than)[1] for than in thans] for part in parts]
    sides = [[above(estimate([*gain.values()])) for gain in place] for place in gains]
    seeds = [seed for seed in gains[0][0] if all(seed in gain for place in gains for gain in place)]
    best = {seed: sum(all(gain[seed] > 0 for gain in place) for place in gains) for seed in seeds}
    name = f"settings of {len(parts)} in which {row} is above {', '.join(map(str, thans))} − half{parts[0].of_metric}"
    counts = {seed: count - len(parts) / 2 for seed, count in best.items()}
    if len(parts) < FEWEST_SETTINGS:
        reason = f"{len(parts)} settings: most of fewer than {FEWEST_SETTINGS} would be all of them."
        return Test(name, counts, estimate([*counts.values()]), 1.0, 1.0, reason)
    return Test(name, counts, estimate([*counts.values()]), *in_most(sides))


def most_classes(part: Part, row: str, than: Any) -> Iterator[Test]:
    """More than half of the classes are better in `rows` than in `than`: for each seed the percentage of classes with a
    gain, minus 50. Classes of one seed share a network and are no replicates. `value` is a metric of classes, such as
    test/ap; a class without a value in one of the two rows does not count."""
    ours, theirs = (part.of_classes(name) for name in (row, than))
    gains = [paired(ours[name], theirs[name]) for name in ours if name in theirs]
    if not gains:
        raise RecordError(f"no {part.metric} of classes of {row} and {than} in {part.record.space['name']}")
    shares = {seed: 100 * sum(gain[seed] > 0 for gain in gains) / len(gains) - 50 for seed in gains[0]}
    name = f"classes of {len(gains)} in which {row} is above {than}{part.suffix}{part.of_metric} (%) − 50"
    yield _directed(name, shares)


def trend(part: Part, row: str, _: None) -> Iterator[Test]:
    """Over the epochs, up to `until` if it is given, the metric `direction: falls` or `rises`: the least-squares slope
    of each seed's curve, per epoch."""
    direction, until = part.what["direction"], part.what.get("until")
    sign = {"falls": -1, "rises": 1}[direction]
    slopes = {seed: sign * slope(*curve) for seed, curve in part.curves(row, 2, until=until).items()}
    first = f" until epoch {until}" if until else ""
    title = part.record.names.metric_title(part.metric)
    yield _directed(f"{row}{part.suffix}: {title} {direction}{first} (per epoch)", slopes)


def smoother(part: Part, row: str, than: Any) -> Iterator[Test]:
    """The curve of `rows` fluctuates less than that of `than`, from the epoch `since` on: the roughness of `than` minus
    that of the row. Roughness is the mean magnitude of a curve's second differences, in the unit of the metric, so the
    metric must have the same terms in both rows. It is no ratio to the mean, which another term would raise."""
    since = part.what["since"]
    rough, smooth = (
        {seed: roughness(values) for seed, (_, values) in part.curves(variant, 3, since).items()}
        for variant in (than, row)
    )
    title = f"roughness of {part.record.names.metric_title(part.metric)} from epoch {since} on"
    yield _directed(f"{title}: {than} − {row}{part.suffix}", paired(rough, smooth))


def _directed(name: str, differences: BySeed, margin: float = 0) -> Test:
    """The test of the claim that the differences are above −margin."""
    found = estimate([*differences.values()])
    shifted = estimate([difference + margin for difference in differences.values()]) if margin else found
    return Test(name, differences, found, *above(shifted))


class Kind(NamedTuple):
    """What judges a part, and the keys that the part needs and may have besides those of all kinds. `of_all_places`: it
    takes the parts of all places and all rows of `than` at once, and makes one test."""

    test: Callable[..., Any]
    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    of_all_places: bool = False


KINDS = {
    "greater": Kind(greater, may=("than", "than_value", "margin", "over_epochs")),
    "equivalent": Kind(equivalent, ("than",), ("than_at", "margin", "relative", "over_epochs")),
    "inner_optimum": Kind(inner_optimum, ("axis",), ("among",)),
    "interaction": Kind(interaction, ("than", "axis", "larger_at", "smaller_at")),
    "largest_drop": Kind(largest_drop, ("than", "axis", "from", "to")),
    "most_settings": Kind(most_settings, ("than", "each"), of_all_places=True),
    "most_classes": Kind(most_classes, ("than",)),
    "trend": Kind(trend, ("direction",), ("until",)),
    "smoother": Kind(smoother, ("than", "since")),
}


def refuse_unknown(where: str, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    unknown = [key for key in given if key not in allowed]
    if unknown:
        raise ClaimError(f"{where}: unknown {', '.join(map(repr, unknown))}; allowed are {', '.join(allowed)}")
