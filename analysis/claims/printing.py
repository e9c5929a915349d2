"""Judged claims as Markdown and JSON, and the words that the report shares."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from analysis.claims.judging import CONTRADICTED, OBSERVATIONS, Judged
from analysis.claims.kinds import Test
from analysis.names import NO_VALUE, signed
from analysis.statistics import Estimate

P_OF_TEST = "p of the side seen, uncorrected"


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
    entries = "claims" if claims[0].paper != OBSERVATIONS else "entries"
    claims_run = f"{run} of its {len(claims)} {entries} {'has' if run == 1 else 'have'} been run"
    if not run:
        return f"{claims_run}."
    tests = sum(len(claim.tests) for claim in claims)
    return f"{claims_run}; p is corrected for {run}, that of an opposite for {tests} tests, by Holm's procedure."


def interval(found: Estimate) -> str:
    return NO_VALUE if math.isinf(found.low) else f"{signed(found.low)} … {signed(found.high)}"


def p_of_verdict(claim: Judged) -> str:
    """The p-value of what is claimed; for a contradicted claim, that of the opposite."""
    if claim.verdict == CONTRADICTED:
        return f"{_p(claim.against)} (opposite)"
    return _p(claim.p)


def p_of_test(test: Test) -> str:
    return _p(min(test.p, test.against))


def as_json(judged: list[Judged]) -> str:
    """All claims as JSON. A number that is not finite, such as the end of an interval of one seed, is null."""
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
