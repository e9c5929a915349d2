"""One page with everything that a record holds: claims, tables, figures, what failed, and where it all came from.

The page is one file and loads nothing. Where something cannot be shown, the page says why and shows the rest.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from analysis.claims import judging, printing
from analysis.names import signed
from analysis.reading import records
from analysis.record.names import PROFILE, SPACE, SWEEP
from analysis.report import html
from analysis.report.drawing import reach, whisker
from analysis.report.sweeps import PROFILES, Sweep, or_why, parents, sweep_of, versions
from analysis.tables import build
from analysis.tables.published import PAPERS, published

_PAPERS = ("large_loss_matters", "sst", "sarb", "clip_semantic")


@dataclass(frozen=True)
class Section:
    """The sweeps of one paper: by space, its profiles."""

    title: str
    anchor: str
    spaces: dict[str, list[Sweep]]


def html_page(tracking_uri: str | None = None, *, mlflow_url: str | None = None, smoke: bool = False) -> str:
    """The page as HTML: the newest sweep of every space and profile, without the profile `smoke` unless asked for.

    `mlflow_url` is where MLflow's pages are, for links to runs; by default the tracking server, where there is one.
    Raises `RecordError` where there is no record, or no sweep in it.
    """
    uri = records.resolve(tracking_uri)
    sweeps = [sweep_of(uri, run) for run in parents(uri, smoke)]
    judged, complaint = or_why(lambda: judging.judge(tracking_uri=uri), "the claims cannot be judged")
    return (
        html.environment()
        .get_template("report.html")
        .render(
            sections=_sections(sweeps),
            sweeps=sorted(sweeps, key=lambda sweep: sweep.started),
            titles=_titles(),
            claims=printing.by_paper(judged or []),
            family=printing.family,
            verdicts=Counter(claim.verdict for claim in judged or [] if claim.paper != judging.OBSERVATIONS),
            complaint=complaint,
            versions=versions(sweeps),
            made=datetime.now(UTC),
            uri=re.sub(r"//[^/@]*@", "//", uri),  # no passwords
            mlflow=html.pages_of(uri, mlflow_url),
            style=html.part("table.css") + html.part("report.css"),
            script=html.part("table.js") + html.part("report.js"),
            signed=signed,
            interval=printing.interval,
            p_of_verdict=printing.p_of_verdict,
            p_of_test=printing.p_of_test,
            p_head=printing.P_OF_TEST,
            reach_of=reach,
            whisker=whisker,
        )
    )


def latex_document(tracking_uri: str | None = None, *, smoke: bool = False) -> str:
    """The tables of the same sweeps as a LaTeX document; for a sweep without a table, a comment says why.

    Raises `RecordError` as `html_page` does.
    """
    uri = records.resolve(tracking_uri)
    made = []
    for tags in (parent.tags for parent in parents(uri, smoke)):
        name, sweep, profile = (tags[tag] for tag in (SPACE, SWEEP, PROFILE))

        def table(name: str = name, sweep: str = sweep, profile: str = profile) -> str:
            found = build.build(records.load(name, tracking_uri=uri, sweep=sweep))
            return replace(found, name=f"{name}-{profile}").latex()  # a label of its own

        text, why = or_why(table, f"{name}, sweep {sweep}")
        made.append(text or f"% {' '.join(why.split())}\n")
    head, foot = r"\documentclass{article}\usepackage{booktabs}\begin{document}", r"\end{document}"
    return "\n\\clearpage\n".join([head, *made, foot]) + "\n"


def _sections(sweeps: list[Sweep]) -> list[Section]:
    """A section for each paper, in the order of the papers; its spaces in the order of their first runs."""
    known = _titles()
    sections = []
    for paper in [*known, *sorted({sweep.paper for sweep in sweeps} - set(known))]:
        of_paper = sorted((sweep for sweep in sweeps if sweep.paper == paper), key=lambda sweep: sweep.started)
        spaces: dict[str, list[Sweep]] = {}
        for sweep in of_paper:
            spaces.setdefault(sweep.name, []).append(sweep)
        for profiles in spaces.values():
            profiles.sort(key=lambda s: PROFILES.index(s.profile) if s.profile in PROFILES else len(PROFILES))
        if spaces:
            sections.append(Section(known.get(paper, paper or "Other spaces"), f"paper-{paper or 'none'}", spaces))
    return sections


def _titles() -> dict[str, str]:
    """Titles of the papers, by the names that spaces and claims give them."""
    others = sorted({file.stem for file in PAPERS.glob("*.yaml")} - set(_PAPERS))
    return {name: known["title"] for name in [*_PAPERS, *others] if (known := published(name))}
