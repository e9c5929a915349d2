"""The papers' claims, judged on paired differences over seeds.

A claim has parts, a part one or more tests (LL-R against WAN, end-to-end, is one). A claim is

* reproduced, if every test shows what it says: the p-value of the claim is the largest of its tests' (each must hold,
  so nothing is gained by their number), corrected by Holm's procedure for the claims of its paper, and below 0.05;
* contradicted, if a test shows the opposite, its p-value corrected for all tests of the paper, and below 0.05;
* not run, if a sweep it needs is not in the record or lacks trials; undecided in all other cases.

What is claimed stands in `claims.yaml`, with how it is judged. Verdicts hold for the data set that was run and name it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from analysis.names import higher_is_better, metric_title, setting_name, several, value_name
from analysis.records import Record, RecordError, histories, load
from analysis.statistics import Estimate, equivalence_p, estimate, holm, paired, roughness, slope
from analysis.tables import chosen_by_the_other_seeds

FILE = Path(__file__).with_name("claims.yaml")
LEVEL = 0.05
MARGIN = 0.5
REPRODUCED, CONTRADICTED, UNDECIDED, NOT_RUN = "reproduced", "contradicted", "undecided", "not run"
KINDS = ("greater", "equivalent", "inner_optimum", "interaction", "trend", "smoother")


@dataclass(frozen=True)
class Test:
    """One comparison: what is subtracted from what, seed by seed; the estimate of the mean difference, positive where
    it is as claimed; `p` of what is claimed and `against`, of its opposite."""

    name: str
    differences: dict[int, float]
    found: Estimate
    p: float
    against: float


@dataclass(frozen=True)
class Judged:
    """A claim with its tests and verdict; `p` is corrected for the paper's claims. `reason`: why it was not run."""

    paper: str
    number: str
    text: str
    source: str
    space: str
    profile: str
    data: str = ""
    sweep: str = ""
    verdict: str = NOT_RUN
    p: float | None = None
    tests: tuple[Test, ...] = ()
    reason: str = ""
    command: str = ""


class ClaimError(RecordError):
    """`claims.yaml` asks for what is no claim; the message names the entry, what was given and what is allowed."""


def judge(*, tracking_uri: str | None = None, profile: str = "claims", file: Path = FILE) -> list[Judged]:
    """Every claim of a file, in its order, by the newest sweeps of a profile. Raises `ClaimError` for a bad file."""
    claims = YAML(typ="safe").load(file.read_text("utf-8"))
    records: dict[str, Record | str] = {}
    judged: list[Judged] = []
    for paper, entries in claims.items():
        tested = [_tested(paper, str(n), entry, records, tracking_uri, profile) for n, entry in entries.items()]
        judged += _verdicts(tested)
    return judged


def markdown(judged: list[Judged]) -> str:
    """All claims: a table of verdicts, then each claim with its tests."""
    lines = ["| claim | text | verdict | p (Holm) | data set |", "| --- | --- | --- | ---: | --- |"]
    lines += [f"| {c.number} | {c.text} | **{c.verdict}** | {_p(c.p)} | {c.data} |" for c in judged]
    for claim in judged:
        lines += [
            "",
            f"### Claim {claim.number}: {claim.verdict}",
            "",
            f"{claim.text} ({claim.paper}, {claim.source}).",
        ]
        if claim.reason:
            lines += ["", f"{claim.reason} Run it: `{claim.command}`"]
            continue
        lines += ["", f"On {claim.data}; `{claim.space}`, profile {claim.profile}, sweep {claim.sweep}.", ""]
        lines += ["| test | mean difference | 95 % interval | n | p |", "| --- | ---: | ---: | ---: | ---: |"]
        for test in claim.tests:
            found = test.found
            interval = "—" if math.isinf(found.low) else f"{found.low:+.2f} … {found.high:+.2f}"
            p = _p(min(test.p, test.against))
            lines.append(f"| {test.name} | {found.mean:+.2f} | {interval} | {found.n} | {p} |")
        lines += ["", f"More seeds: `{claim.command}`"]
    return "\n".join(lines) + "\n"


def as_json(judged: list[Judged]) -> str:
    return json.dumps([asdict(claim) for claim in judged], ensure_ascii=False, indent=2) + "\n"


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _tested(
    paper: str,
    number: str,
    entry: Mapping[str, Any],
    records: dict[str, Record | str],
    uri: str | None,
    profile: str,
) -> Judged:
    where = f"claim {number} of {paper}"
    _refuse_unknown(where, entry, ("text", "source", "space", "value", "parts"))
    space = entry["space"]
    claim = Judged(paper, number, entry["text"], entry["source"], space, profile)
    command = f"python -m sweeper run search_spaces/{space}.yaml --profile {profile}"
    if space not in records:
        try:
            records[space] = load(space, tracking_uri=uri, profile=profile)
        except RecordError as error:
            records[space] = _sentence(str(error).partition("; run ")[0])
    record = records[space]
    if isinstance(record, str):
        return replace(claim, reason=record, command=command)
    seeds = sorted(record.space["seeds"])
    more = list(range(1, max(seeds) + 6))
    tests: list[Test] = []
    try:
        for part in entry["parts"]:
            tests += _tests(where, part, entry.get("value", "test/map"), record)
    except ClaimError:
        raise
    except RecordError as error:
        return replace(claim, reason=_sentence(str(error)), command=command)
    return replace(
        claim,
        tests=tuple(tests),
        data=", ".join(sorted(set(record.params["data.dataset"]))),
        sweep=record.sweep[:12],
        command=f'{command} --set "seeds={json.dumps(more)}"',
    )


def _verdicts(claims: list[Judged]) -> list[Judged]:
    """The claims of one paper with their verdicts."""
    run = [claim for claim in claims if claim.tests]
    of_claims = holm([max(test.p for test in claim.tests) for claim in run])
    against = iter(holm([test.against for claim in run for test in claim.tests]))
    verdicts = {}
    for claim, p in zip(run, of_claims, strict=True):
        opposed = min([next(against) for _ in claim.tests])
        verdict = CONTRADICTED if opposed < LEVEL else REPRODUCED if p < LEVEL else UNDECIDED
        verdicts[claim.number] = replace(claim, verdict=verdict, p=p)
    return [verdicts.get(claim.number, claim) for claim in claims]


def _tests(where: str, part: Mapping[str, Any], value: str, record: Record) -> Iterator[Test]:
    """The tests of one part."""
    if len(part) != 1 or next(iter(part)) not in KINDS:
        raise ClaimError(f"{where}: a part is one of {', '.join(KINDS)}; given is {', '.join(part)}")
    kind, what = next(iter(part.items()))
    common = ("rows", "value", "at", "each", "mean_over")
    own = {
        "greater": ("than", "margin"),
        "equivalent": ("than", "margin"),
        "inner_optimum": ("axis", "among"),
        "interaction": ("than", "axis", "larger_at", "smaller_at"),
        "trend": ("direction",),
        "smoother": ("than", "since"),
    }
    _refuse_unknown(f"{where}, {kind}", what, (*common, *own[kind]))
    metric = what.get("value", value)
    known = record.space["variants"]
    others = [other for other in several(what.get("than")) if isinstance(other, str)]
    for name in [*what["rows"], *others]:
        if name not in known:
            raise ClaimError(f"{where}: {record.space['name']} has no row {name!r}; its rows are {', '.join(known)}")
    for place, trials in _places(record, what):
        suffix = f", {place}" if place else ""
        for row in what["rows"]:
            if kind == "trend":
                yield _trend(
                    f"{row}{suffix}: {metric_title(metric)} {what['direction']}", record, row, trials, metric, what
                )
            elif kind == "inner_optimum":
                yield from _inner_optimum(f"{row}{suffix}", record, row, trials, metric, what)
            else:
                for than in several(what["than"]):
                    name = f"{row} − {than}{suffix}"
                    if metric != value:
                        name += f" ({metric_title(metric)})"
                    if kind == "interaction":
                        yield _interaction(name, record, row, than, trials, metric, what)
                    elif kind == "smoother":
                        yield _smoother(suffix, record, row, than, trials, metric, what["since"])
                    else:
                        yield _compared(name, record, row, than, trials, metric, what, kind)


def _places(record: Record, what: Mapping[str, Any]) -> Iterator[tuple[str, pd.DataFrame]]:
    """The trials that a part is about; where it is judged at each value of an axis, those of each, with its name."""
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
        yield f"{setting_name(axis)} {value_name(value, axis)}", trials[(trials[axis] == value) | trials[axis].isna()]


def _by_seed(record: Record, row: str, trials: pd.DataFrame, metric: str, mean_over: list[str]) -> dict[int, float]:
    """A row's value for each seed: the mean over the axes that are named, at the values of all others that the other
    seeds chose on val. Raises `RecordError` where a trial is missing."""
    own = trials[trials["variant"] == row].copy()
    if metric not in own or own.loc[own["status"] == "FINISHED", metric].isna().any() or own.empty:
        raise RecordError(f"no {metric} of {row} in {record.space['name']}")
    if (own["status"] != "FINISHED").any():
        lacking = (own["status"] != "FINISHED").sum()
        raise RecordError(f"{lacking} of {len(own)} trials of {row} in {record.space['name']} have no result")
    free = [axis for axis in record.axes if axis not in mean_over and own[axis].nunique() > 1]
    own["setting"] = [" ".join(f"{axis}={trial[axis]}" for axis in free) for trial in own.to_dict("records")]
    own["score"] = own[record.space["select"]["metric"]]
    if own["setting"].nunique() > 1:
        high = higher_is_better(record.space["select"]["metric"])
        groups = [group for _, group in own.groupby(mean_over)] if mean_over else [own]
        own = pd.concat([chosen_by_the_other_seeds(group, high) for group in groups])
    return own.groupby("seed")[metric].mean().to_dict()


def _compared(
    name: str, record: Record, row: str, than: Any, trials: pd.DataFrame, metric: str, what: Mapping, kind: str
) -> Test:
    over = several(what.get("mean_over"))
    ours = _by_seed(record, row, trials, metric, over)
    named = isinstance(than, str)
    theirs = _by_seed(record, than, trials, metric, over) if named else dict.fromkeys(ours, float(than))
    differences = paired(ours, theirs)
    if kind == "greater":
        margin = what.get("margin", 0)
        return _directed(f"{name} (above −{margin:g})" if margin else name, differences, margin)
    margin = what.get("margin", MARGIN)
    found = estimate(list(differences.values()))
    # The opposite of "within the margin": beyond it, to one side or the other.
    beyond = [estimate([side * d - margin for d in differences.values()]) for side in (1, -1)]
    against = min(1.0, 2 * min(_one_sided(one) for one in beyond))
    return Test(
        f"{name} (within ± {margin:g})", differences, found, equivalence_p(list(differences.values()), margin), against
    )


def _directed(name: str, differences: dict[int, float], margin: float = 0) -> Test:
    """The differences are above −margin."""
    found = estimate(list(differences.values()))
    above = estimate([difference + margin for difference in differences.values()])
    return Test(name, differences, found, above.p if above.mean > 0 else 1.0, above.p if above.mean < 0 else 1.0)


def _one_sided(found: Estimate) -> float:
    """p-value of "the mean is above 0"."""
    return found.p / 2 if found.mean > 0 else 1 - found.p / 2


def _inner_optimum(
    name: str, record: Record, row: str, trials: pd.DataFrame, metric: str, what: Mapping[str, Any]
) -> Iterator[Test]:
    axis = what["axis"]
    values = sorted(trials.loc[trials["variant"] == row, axis].dropna().unique())
    if "among" in what:
        values = [value for value in values if value in what["among"]]
    if len(values) < 3:
        raise RecordError(f"{row} has {len(values)} values of {axis} to compare, so none inside")
    inner = _by_seed(record, row, trials[trials[axis].isin(values[1:-1])], metric, [])
    for end in (values[0], values[-1]):
        at_end = _by_seed(record, row, trials[trials[axis] == end], metric, [])
        yield _directed(f"{name}: best inner {setting_name(axis)} − {value_name(end, axis)}", paired(inner, at_end))


def _interaction(
    name: str, record: Record, row: str, than: str, trials: pd.DataFrame, metric: str, what: Mapping[str, Any]
) -> Test:
    axis = what["axis"]
    gains = []
    for values in (what["larger_at"], what["smaller_at"]):
        there = trials[trials[axis].isin(values)]
        ours, theirs = (_by_seed(record, variant, there, metric, [axis]) for variant in (row, than))
        gains.append(paired(ours, theirs))
    places = [" and ".join(value_name(v, axis) for v in what[part]) for part in ("larger_at", "smaller_at")]
    label = f"({name}) at {setting_name(axis)} {places[0]} − the same at {places[1]}"
    return _directed(label, paired(*gains))


def _trend(name: str, record: Record, row: str, trials: pd.DataFrame, metric: str, what: Mapping[str, Any]) -> Test:
    sign = {"falls": -1, "rises": 1}[what["direction"]]
    points = _curves(record, row, trials, metric, 2)
    slopes = {seed: sign * slope(list(curve), list(curve.values())) for seed, curve in points.items()}
    return _directed(f"{name} (per epoch)", slopes)


def _smoother(suffix: str, record: Record, row: str, than: str, trials: pd.DataFrame, metric: str, since: int) -> Test:
    rough = {
        variant: {
            seed: 100 * roughness(list(curve.values()))
            for seed, curve in _curves(record, variant, trials, metric, 3, since).items()
        }
        for variant in (row, than)
    }
    name = f"roughness of {metric_title(metric)} from epoch {since} on (%): {than} − {row}{suffix}"
    return _directed(name, paired(rough[than], rough[row]))


def _curves(
    record: Record, row: str, trials: pd.DataFrame, metric: str, fewest: int, since: int = 1
) -> dict[int, dict[int, float]]:
    """For each seed of a row, the value by epoch from `since` on. Raises `RecordError` for fewer than `fewest`."""
    own = trials[trials["variant"] == row]
    if (own["status"] != "FINISHED").any():
        raise RecordError(f"trials of {row} in {record.space['name']} have no result")
    frame = histories(record, f"epoch/{metric}", own).dropna(subset="value")  # nothing is modified in the first epoch
    frame = frame[frame["epoch"] >= since]
    curves = {seed: dict(zip(of["epoch"], of["value"], strict=True)) for seed, of in frame.groupby("seed")}
    if len(curves) < len(own) or any(len(curve) < fewest for curve in curves.values()):
        raise RecordError(f"no history of {metric} of every seed of {row} in {record.space['name']}")
    return curves


def _refuse_unknown(where: str, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    unknown = [key for key in given if key not in allowed]
    if unknown:
        raise ClaimError(f"{where}: unknown {', '.join(map(repr, unknown))}; allowed are {', '.join(allowed)}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
