"""The papers' claims, judged on paired differences over seeds.

A claim has parts, a part one or more tests (LL-R against WAN, end-to-end, is one). A claim is

* reproduced, if every test shows what it says: the p-value of the claim is the largest of its tests' (each must hold,
  so nothing is gained by their number), corrected by Holm's procedure for the claims of its paper, and below 0.05;
* contradicted, if a test shows the opposite, its p-value corrected for all tests of the paper, and below 0.05;
* not run, if a sweep it needs is not in the record or lacks trials; undecided in all other cases. A test of fewer than
  three seeds decides nothing: its p-values count as 1.

What is claimed stands in `claims.yaml`, with how it is judged. Verdicts hold for the data set that was run and name it.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from analysis.names import NO_VALUE, higher_is_better, metric_title, setting_name, several, signed, value_name
from analysis.reading.records import Record, histories, load
from analysis.reading.runs import MlflowClient, MlflowException, RecordError, answering, resolve, sweeps
from analysis.statistics import FEWEST, Estimate, equivalence_p, estimate, holm, paired, roughness, slope
from analysis.tables.build import chosen_by_the_other_seeds

FILE = Path(__file__).parents[1] / "claims.yaml"
LEVEL = 0.05
MARGIN = 0.5
P_OF_TEST = "p of the side seen, uncorrected"
REPRODUCED, CONTRADICTED, UNDECIDED, NOT_RUN = "reproduced", "contradicted", "undecided", "not run"


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
    """A claim with its tests and verdict. `p` is corrected for the `of_claims` claims of its paper that have been run;
    `against` is the smallest p of a test's opposite, corrected for all their tests. `reason`: why it was not run, or
    cannot be decided."""

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
    against: float | None = None
    of_claims: int = 0
    tests: tuple[Test, ...] = ()
    reason: str = ""
    command: str = ""


class ClaimError(RecordError):
    """`claims.yaml` asks for what is no claim; the message names the entry, what was given and what is allowed."""


def judge(*, tracking_uri: str | None = None, profile: str = "claims", file: Path = FILE) -> list[Judged]:
    """Every claim of a file, in its order, by the newest sweeps of a profile. Raises `ClaimError` for a bad file, and
    `RecordError` where there is no record, it does not answer, or no sweep in it has the profile."""
    claims = YAML(typ="safe").load(file.read_text("utf-8"))
    uri = resolve(tracking_uri)
    _refuse_unrecorded(profile, uri)
    records: dict[str, Record | str] = {}
    judged: list[Judged] = []
    for paper, entries in claims.items():
        tested = [_tested(paper, str(n), entry, records, uri, profile) for n, entry in entries.items()]
        judged += _verdicts(tested)
    return judged


def markdown(judged: list[Judged]) -> str:
    """All claims: a table of verdicts, then each claim with its tests."""
    lines = ["| claim | text | verdict | p (Holm) | data set |", "| --- | --- | --- | ---: | --- |"]
    lines += [f"| {c.number} | {c.text} | **{c.verdict}** | {p_of_verdict(c)} | {c.data} |" for c in judged]
    lines += ["", *(f"* {paper}: {family(claims)}" for paper, claims in by_paper(judged).items())]
    for claim in judged:
        lines += [
            "",
            f"### Claim {claim.number}: {claim.verdict}",
            "",
            f"{claim.text} ({claim.paper}, {claim.source}).",
        ]
        if not claim.tests:
            lines += ["", f"{claim.reason} Run it: `{claim.command}`"]
            continue
        lines += ["", f"On {claim.data}; `{claim.space}`, profile {claim.profile}, sweep {claim.sweep}.", ""]
        lines.append(f"| test | mean difference | 95 % interval | n | {P_OF_TEST} |")
        lines.append("| --- | ---: | ---: | ---: | ---: |")
        for test in claim.tests:
            found = test.found
            lines.append(f"| {test.name} | {signed(found.mean)} | {interval(found)} | {found.n} | {p_of_test(test)} |")
        lines += ["", f"{claim.reason} More seeds: `{claim.command}`".lstrip()]
    return "\n".join(lines) + "\n"


def by_paper(judged: Iterable[Judged]) -> dict[str, list[Judged]]:
    of_papers: dict[str, list[Judged]] = {}
    for claim in judged:
        of_papers.setdefault(claim.paper, []).append(claim)
    return of_papers


def family(claims: list[Judged]) -> str:
    """A sentence on what the p-values of a paper's claims are corrected for."""
    run = claims[0].of_claims
    claims_run = f"{run} of its {len(claims)} claims {'has' if run == 1 else 'have'} been run"
    if not run:
        return f"{claims_run}."
    tests = sum(len(claim.tests) for claim in claims)
    return f"{claims_run}; p is corrected for {run}, that of an opposite for {tests} tests, by Holm's procedure."


def interval(found: Estimate) -> str:
    return NO_VALUE if math.isinf(found.low) else f"{signed(found.low)} … {signed(found.high)}"


def p_of_verdict(claim: Judged) -> str:
    """Of what is claimed; where that is contradicted, of the opposite."""
    if claim.verdict == CONTRADICTED:
        return f"{_p(claim.against)} (opposite)"
    return _p(claim.p)


def p_of_test(test: Test) -> str:
    return _p(min(test.p, test.against))


def as_json(judged: list[Judged]) -> str:
    """A number that is not finite, such as the end of an interval of one seed, is null."""
    finite = _finite([asdict(claim) for claim in judged])
    return json.dumps(finite, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _tested(
    paper: str,
    number: str,
    entry: Mapping[str, Any],
    records: dict[str, Record | str],
    uri: str,
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
            if isinstance(error.__cause__, MlflowException):  # no answer: of all claims, not of this one
                raise
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
        retry = " --retry-failed" if (record.trials["status"] == "FAILED").any() else ""
        return replace(claim, reason=_sentence(str(error)), command=command + retry)
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
    of_claims = holm([max(_deciding(test, test.p) for test in claim.tests) for claim in run])
    against = iter(holm([_deciding(test, test.against) for claim in run for test in claim.tests]))
    verdicts = {}
    for claim, p in zip(run, of_claims, strict=True):
        opposed = min([next(against) for _ in claim.tests])
        verdict = CONTRADICTED if opposed < LEVEL else REPRODUCED if p < LEVEL else UNDECIDED
        seeds = min(test.found.n for test in claim.tests)
        few = verdict == UNDECIDED and seeds < FEWEST
        reason = f"n = {seeds}: fewer than {FEWEST} seeds decide nothing." if few else ""
        verdicts[claim.number] = replace(claim, verdict=verdict, p=p, against=opposed, reason=reason)
    return [replace(verdicts.get(claim.number, claim), of_claims=len(run)) for claim in claims]


def _deciding(test: Test, p: float) -> float:
    return p if test.found.n >= FEWEST else 1.0


@dataclass(frozen=True)
class _Part:
    """What a part of a claim is judged on: the trials of one place, which `suffix` names (", known proportion 10%");
    `what` are the part's own terms, and `of_metric` names the metric where it is not the claim's."""

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
        frame = histories(self.record, f"epoch/{self.metric}", own).dropna(subset="value")  # none in the first epoch
        frame = frame[frame["epoch"] >= since].set_index("epoch")
        curves = {int(str(seed)): of["value"] for seed, of in frame.groupby("seed")}
        if len(curves) < len(own) or any(len(curve) < fewest for curve in curves.values()):
            raise RecordError(f"no history of {self.metric} of every seed of {row} in {name}")
        return curves


def _tests(where: str, part: Mapping[str, Any], value: str, record: Record) -> Iterator[Test]:
    """The tests of one part."""
    if len(part) != 1 or next(iter(part)) not in KINDS:
        raise ClaimError(f"{where}: a part is one of {', '.join(KINDS)}; given is {', '.join(part)}")
    kind, what = next(iter(part.items()))
    test, own = KINDS[kind]
    _refuse_unknown(f"{where}, {kind}", what, ("rows", "value", "at", "each", "mean_over", *own))
    known, thans = record.space["variants"], several(what.get("than")) or [None]
    for name in [*what["rows"], *thans]:
        if isinstance(name, str) and name not in known:
            raise ClaimError(f"{where}: {record.space['name']} has no row {name!r}; its rows are {', '.join(known)}")
    metric = what.get("value", value)
    of_metric = f" ({metric_title(metric)})" if metric != value else ""
    for place, trials in _places(record, what):
        terms = _Part(record, trials, metric, what, f", {place}" if place else "", of_metric)
        for row, than in itertools.product(what["rows"], thans):
            yield from test(terms, row, than)


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


def _minus(part: _Part, row: str, than: Any) -> tuple[str, dict[int, float]]:
    """A row minus another, or minus a number."""
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
    # The opposite of "within the margin": beyond it, to one side or the other.
    beyond = [estimate([side * d - margin for d in differences]) for side in (1, -1)]
    against = min(1.0, 2 * min(one.p / 2 if one.mean > 0 else 1 - one.p / 2 for one in beyond))
    p = equivalence_p(differences, margin)
    yield Test(f"{name} (within ± {margin:g})", by_seed, estimate(differences), p, against)


def _inner_optimum(part: _Part, row: str, _: None) -> Iterator[Test]:
    axis, trials = part.what["axis"], part.trials
    values = sorted(trials.loc[trials["variant"] == row, axis].dropna().unique())
    values = [value for value in values if value in part.what.get("among", values)]
    if len(values) < 3:
        raise RecordError(f"{row} has {len(values)} values of {axis} to compare, so none inside")
    inner = part.by_seed(row, trials[trials[axis].isin(values[1:-1])], [])
    for end in (values[0], values[-1]):
        name = f"{row}{part.suffix}: best inner {setting_name(axis)} − {value_name(end, axis)}"
        yield _directed(name, paired(inner, part.by_seed(row, trials[trials[axis] == end], [])))


def _interaction(part: _Part, row: str, than: Any) -> Iterator[Test]:
    axis, gains, places = part.what["axis"], [], []
    for values in (part.what["larger_at"], part.what["smaller_at"]):
        there = part.trials[part.trials[axis].isin(values)]
        gains.append(paired(part.by_seed(row, there, [axis]), part.by_seed(than, there, [axis])))
        places.append(" and ".join(value_name(value, axis) for value in values))
    gain = f"({row} − {than}{part.suffix}{part.of_metric})"
    yield _directed(f"{gain} at {setting_name(axis)} {places[0]} − the same at {places[1]}", paired(*gains))


def _trend(part: _Part, row: str, _: None) -> Iterator[Test]:
    direction = part.what["direction"]
    sign = {"falls": -1, "rises": 1}[direction]
    slopes = {seed: sign * slope([*curve.index], [*curve]) for seed, curve in part.curves(row, 2).items()}
    yield _directed(f"{row}{part.suffix}: {metric_title(part.metric)} {direction} (per epoch)", slopes)


def _smoother(part: _Part, row: str, than: Any) -> Iterator[Test]:
    since = part.what["since"]
    rough, smooth = (
        {seed: 100 * roughness([*curve]) for seed, curve in part.curves(variant, 3, since).items()}
        for variant in (than, row)
    )
    title = f"roughness of {metric_title(part.metric)} from epoch {since} on (%)"
    yield _directed(f"{title}: {than} − {row}{part.suffix}", paired(rough, smooth))


def _directed(name: str, differences: dict[int, float], margin: float = 0) -> Test:
    """The differences are above −margin."""
    found = estimate(list(differences.values()))
    above = estimate([difference + margin for difference in differences.values()])
    return Test(name, differences, found, above.p if above.mean > 0 else 1.0, above.p if above.mean < 0 else 1.0)


# What judges a kind of part, and the terms that it has besides those of all.
KINDS: dict[str, tuple[Callable[[_Part, str, Any], Iterator[Test]], tuple[str, ...]]] = {
    "greater": (_greater, ("than", "margin")),
    "equivalent": (_equivalent, ("than", "margin")),
    "inner_optimum": (_inner_optimum, ("axis", "among")),
    "interaction": (_interaction, ("than", "axis", "larger_at", "smaller_at")),
    "trend": (_trend, ("direction",)),
    "smoother": (_smoother, ("than", "since")),
}


def _refuse_unrecorded(profile: str, uri: str) -> None:
    with answering(uri):
        profiles = {run.tags.get("sweeper.profile", "") for run in sweeps(MlflowClient(uri))}
    if profile not in profiles:
        others = f"; there are sweeps with {', '.join(sorted(profiles))}" if profiles else ""
        command = f"python -m sweeper run search_spaces/NAME.yaml --profile {profile}"
        raise RecordError(f"no sweep with profile {profile!r} is recorded at {uri}{others}; run one: {command}")


def _refuse_unknown(where: str, given: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
    unknown = [key for key in given if key not in allowed]
    if unknown:
        raise ClaimError(f"{where}: unknown {', '.join(map(repr, unknown))}; allowed are {', '.join(allowed)}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
