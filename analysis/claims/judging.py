"""The papers' claims, judged on paired differences over seeds.

A claim has parts, a part one or more tests (LL-R against WAN, end-to-end, is one). A claim is

* reproduced, if every test shows what it says: the p-value of the claim is the largest of its tests' (each must hold,
  so nothing is gained by their number), corrected by Holm's procedure for the claims of its paper, and below 0.05;
* contradicted, if a test shows the opposite, its p-value corrected for all tests of the paper, and below 0.05;
* not run, if a sweep it needs is not in the record or lacks trials; undecided in all other cases. A test of fewer than
  three seeds decides nothing: its p-values count as 1. Sweeps of draw 0 are not judged: defaults were chosen on it.

What is claimed stands in `claims.yaml`, with how it is judged. Verdicts hold for the data set that was run and name it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from analysis.claims.kinds import ClaimError, Test, refuse_unknown, tests_of
from analysis.reading import comparability
from analysis.reading.records import Record, load
from analysis.reading.runs import MlflowClient, MlflowException, RecordError, answering, resolve, sweeps
from analysis.record.names import PROFILE
from analysis.statistics import FEWEST, holm

FILE = Path(__file__).parents[1] / "claims.yaml"
LEVEL = 0.05
# Of the file: what readers say of the papers' tables. It is judged like the claims of a paper of its own.
OBSERVATIONS = "observations"
REPRODUCED, CONTRADICTED, UNDECIDED, NOT_RUN = "reproduced", "contradicted", "undecided", "not run"


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


def judge(*, tracking_uri: str | None = None, profile: str = "claims", file: Path = FILE) -> list[Judged]:
    """Every claim of a file, in its order, by the newest sweeps of a profile. Raises `ClaimError` for a bad file, and
    `RecordError` where there is no record, it does not answer, or no sweep in it has the profile."""
    uri = resolve(tracking_uri)
    _refuse_unrecorded(profile, uri)

    @functools.cache
    def newest(space: str) -> Record | str:
        try:
            return load(space, tracking_uri=uri, profile=profile)
        except RecordError as error:
            if isinstance(error.__cause__, MlflowException):  # no answer of MLflow: it concerns all claims
                raise
            return _sentence(str(error).partition("; run ")[0])

    return judged(YAML(typ="safe").load(file.read_text("utf-8")), newest, profile)


def judged(
    claims: Mapping[str, Mapping[str, Any]], newest: Callable[[str], Record | str], profile: str
) -> list[Judged]:
    """Every claim, by paper and number. `newest` has the sweep of a space, or a sentence that says why there is none.
    Raises `ClaimError` for a bad entry."""
    return [
        claim
        for paper, entries in claims.items()
        for claim in verdicts([_tested(paper, str(n), entry, newest, profile) for n, entry in entries.items()])
    ]


def _tested(
    paper: str, number: str, entry: Mapping[str, Any], newest: Callable[[str], Record | str], profile: str
) -> Judged:
    where = f"claim {number} of {paper}"
    refuse_unknown(where, entry, ("text", "source", "space", "value", "parts"))
    space = entry["space"]
    claim = Judged(paper, number, entry["text"], entry["source"], space, profile)
    command = f"python -m sweeper run search_spaces/{space}.yaml --profile {profile}"
    record = newest(space)
    if isinstance(record, str):
        return replace(claim, reason=record, command=command)
    if (comparability.draws(record.params) == "0").any():
        reason = f"Sweep {record.sweep[:12]} of {space} has scenes of data.draw 0, on which defaults were chosen."
        return replace(claim, reason=reason, command=command)
    seeds = sorted(record.space["seeds"])
    more = list(range(1, max(seeds) + 6))
    tests: list[Test] = []
    try:
        for part in entry["parts"]:
            tests += tests_of(where, part, entry.get("value", "test/map"), record)
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


def verdicts(claims: list[Judged]) -> list[Judged]:
    """The claims of one paper with their verdicts."""
    run = [claim for claim in claims if claim.tests]
    of_claims = holm([max(_deciding(test, test.p) for test in claim.tests) for claim in run])
    against = iter(holm([_deciding(test, test.against) for claim in run for test in claim.tests]))
    decided = {}
    for claim, p in zip(run, of_claims, strict=True):
        opposed = min([next(against) for _ in claim.tests])
        verdict = CONTRADICTED if opposed < LEVEL else REPRODUCED if p < LEVEL else UNDECIDED
        seeds = min(test.found.n for test in claim.tests)
        reason = f"n = {seeds}: fewer than {FEWEST} seeds decide nothing." if seeds < FEWEST else ""
        reason = reason or next((test.reason for test in claim.tests if test.reason), "")
        reason = reason if verdict == UNDECIDED else ""
        decided[claim.number] = replace(claim, verdict=verdict, p=p, against=opposed, reason=reason)
    return [replace(decided.get(claim.number, claim), of_claims=len(run)) for claim in claims]


def _deciding(test: Test, p: float) -> float:
    return p if test.found.n >= FEWEST else 1.0


def _refuse_unrecorded(profile: str, uri: str) -> None:
    with answering(uri):
        profiles = {run.tags.get(PROFILE, "") for run in sweeps(MlflowClient(uri))}
    if profile not in profiles:
        others = f"; there are sweeps with {', '.join(sorted(profiles))}" if profiles else ""
        command = f"python -m sweeper run search_spaces/NAME.yaml --profile {profile}"
        raise RecordError(f"no sweep with profile {profile!r} is recorded at {uri}{others}; run one: {command}")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
