"""One page with everything that a record holds: claims, tables, figures, what failed, and where it all came from.

The page is one file and loads nothing. What cannot be shown says why in its place, and the rest stands.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.figure import Figure

from analysis.claims import judging
from analysis.figures import drawing as figures
from analysis.figures import importance as importance_figures
from analysis.figures import pareto
from analysis.names import several, signed
from analysis.reading import records, runs
from analysis.reading.records import Record
from analysis.reading.runs import MlflowClient, RecordError, Run
from analysis.report import html
from analysis.statistics import Estimate
from analysis.tables import build, importance
from analysis.tables.published import PAPERS, published
from analysis.tables.table import Table

_PROFILES = ("default", "claims", "paper")  # in this order; then others
_PAPERS = ("large_loss_matters", "sst", "sarb", "clip_semantic")
_COST = "cost.json"
# What matplotlib writes for white and black, greys, and a blue that is too dark on black; the page gives them by theme.
_COLOURS = {
    "#000000": "currentColor", "#ffffff": "var(--paper)", "#0072b2": "var(--blue)", "#dddddd": "var(--rule)",
    "#333333": "var(--grey-1)", "#555555": "var(--grey-2)", "#777777": "var(--grey-3)", "#bbbbbb": "var(--grey-4)",
}  # fmt: skip
_Made = TypeVar("_Made")


@dataclass
class Sweep:
    """What the page shows of one sweep. `problems` say what could not be shown, and why."""

    name: str
    profile: str
    hash: str
    started: datetime
    status: str
    record: Record | None = None
    table: Table | None = None
    importance: Table | None = None
    figures: list[tuple[str, Markup]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    environment: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)

    @property
    def anchor(self) -> str:
        return f"{self.name}-{self.profile}"

    @property
    def title(self) -> str:
        return self.record.space["title"] if self.record else self.name

    def caption(self, table: Table) -> str:
        """A table's, without the title that stands above it."""
        return table.caption.removeprefix(f"{self.title.rstrip('.')}. ")

    @property
    def paper(self) -> str:
        return str((self.record.space.get("source") or {}).get("paper", "")) if self.record else ""

    @cached_property
    def states(self) -> Counter[str]:
        """How many trials are FINISHED, FAILED, MISSING, …"""
        return Counter(self.record.trials["status"]) if self.record else Counter()

    @property
    def failures(self) -> list[tuple[str, int, str, str]]:
        """Variant, seed, what became of it and the reason, of every trial without a result."""
        if not self.record:
            return []
        lacking = self.record.trials[self.record.trials["status"] != "FINISHED"]
        return [
            (t["variant"], t["seed"], t["status"].lower(), t["failure"] if isinstance(t["failure"], str) else "")
            for t in lacking.to_dict("records")
        ]


@dataclass(frozen=True)
class Section:
    """The sweeps of one paper: by space, its profiles."""

    title: str
    anchor: str
    spaces: dict[str, list[Sweep]]


def page(tracking_uri: str | None = None, *, mlflow_url: str | None = None, smoke: bool = False) -> str:
    """The page as HTML: the newest sweep of every space and profile, without the profile `smoke` unless asked for.

    `mlflow_url` is where MLflow's pages are, for links to runs; by default the tracking server, where there is one.
    Raises `RecordError` where there is no record, or no sweep in it.
    """
    uri = records.resolve(tracking_uri)
    sweeps = [_sweep(uri, run) for run in _parents(uri, smoke)]
    judged, complaint = _or_why(lambda: judging.judge(tracking_uri=uri), "the claims cannot be judged")
    return (
        html.environment()
        .get_template("report.html")
        .render(
            sections=_sections(sweeps),
            sweeps=sorted(sweeps, key=lambda sweep: sweep.started),
            titles=_titles(),
            claims=judging.by_paper(judged or []),
            family=judging.family,
            verdicts=Counter(claim.verdict for claim in judged or []),
            complaint=complaint,
            versions=_versions(sweeps),
            made=datetime.now(UTC),
            uri=re.sub(r"//[^/@]*@", "//", uri),  # no passwords
            mlflow=html.pages_of(uri, mlflow_url),
            style=html.part("table.css") + html.part("report.css"),
            script=html.part("table.js") + html.part("report.js"),
            signed=signed,
            interval=judging.interval,
            p_of_verdict=judging.p_of_verdict,
            p_of_test=judging.p_of_test,
            p_head=judging.P_OF_TEST,
            reach_of=_reach,
            whisker=_whisker,
        )
    )


def document(tracking_uri: str | None = None, *, smoke: bool = False) -> str:
    """The same sweeps' tables as a LaTeX document, with what can be no table, and why, as comments.

    Raises `RecordError` as `page` does.
    """
    uri = records.resolve(tracking_uri)
    made = []
    for tags in (parent.tags for parent in _parents(uri, smoke)):
        name, sweep, profile = (tags[f"sweeper.{what}"] for what in ("space", "sweep", "profile"))

        def table(name: str = name, sweep: str = sweep, profile: str = profile) -> str:
            found = build.build(records.load(name, tracking_uri=uri, sweep=sweep))
            return replace(found, name=f"{name}-{profile}").latex()  # a label of its own

        text, why = _or_why(table, f"{name}, sweep {sweep}")
        made.append(text or f"% {' '.join(why.split())}\n")
    head, foot = r"\documentclass{article}\usepackage{booktabs}\begin{document}", r"\end{document}"
    return "\n\\clearpage\n".join([head, *made, foot]) + "\n"


def _parents(uri: str, smoke: bool) -> list[Run]:
    """The newest parent run of each space and profile."""
    newest: dict[tuple[str, str], Run] = {}
    with runs.answering(uri):
        for run in runs.sweeps(MlflowClient(uri)):
            profile = run.tags["sweeper.profile"]
            if smoke or profile != records.SMOKE:
                newest.setdefault((run.tags["sweeper.space"], profile), run)
    if not newest:
        raise RecordError(f"no sweep is recorded at {uri}; run one: python -m sweeper run search_spaces/NAME.yaml")
    return list(newest.values())


def _sweep(uri: str, parent: Run) -> Sweep:
    tags = parent.tags
    sweep = Sweep(
        name=tags["sweeper.space"],
        profile=tags["sweeper.profile"],
        hash=tags["sweeper.sweep"],
        started=datetime.fromtimestamp(parent.started / 1000, UTC),
        status=parent.status,
    )
    record, why = _or_why(
        lambda: records.load(sweep.name, tracking_uri=uri, sweep=sweep.hash), "this sweep cannot be read"
    )
    sweep.record = record
    if record is None:
        sweep.problems.append(why)
        return sweep
    files = {name: runs.artifact(record.client, parent.run_id, name) for name in ("environment.json", _COST)}
    sweep.environment = json.loads(files["environment.json"] or b"{}")
    sweep.cost = _cost(record, json.loads(files[_COST] or b"{}"))

    layout, columns = record.space.get("figure") or {}, several(record.space["table"].get("columns"))
    if columns != ["epoch"] and "pictures" not in layout:  # what only a figure shows is no table
        sweep.table, why = _or_why(lambda: build.build(record), "no table")
        sweep.problems += [why] if why else []
    drawing: list[tuple[str, str, Callable[[Record], Figure]]] = [("", "no figure", figures.draw)]
    if any(len(importance.swept(record, of)) > 1 for _, of in record.trials.groupby("variant")):
        sweep.importance, why = _or_why(lambda: importance.table(record), "no importance of settings")
        sweep.problems += [why] if why else []
        if sweep.importance:
            drawing.append(("Importance of settings, and responses to them", "", importance_figures.draw))
        drawing.append(("Parallel coordinates", "no parallel coordinates", importance_figures.draw_parallel))
    if (record.space.get("search") or {}).get("objectives"):
        drawing.append(("Pareto fronts", "no Pareto fronts", pareto.draw))
    for title, trouble, draw in drawing:
        figure, why = _or_why(lambda draw=draw: draw(record), trouble)  # type: ignore[misc]
        # What leaves no table mostly leaves no figure either, and is said once.
        told = any(problem.endswith(why.partition(": ")[2]) for problem in sweep.problems)
        sweep.problems += [why] if why and not told else []
        if figure is not None:
            pictures = draw is figures.draw and "pictures" in layout
            image = (
                _png(figure, sweep.title)
                if pictures
                else _svg(figure, f"{sweep.anchor}-{len(sweep.figures)}", sweep.title)
            )
            sweep.figures.append((title, image))
    return sweep


def _or_why(make: Callable[[], _Made], trouble: str) -> tuple[_Made | None, str]:
    """What is made, or a sentence on why it cannot be. One sweep's trouble, whatever it is, must not cost the page."""
    try:
        return make(), ""
    except Exception as error:
        text = str(error) if isinstance(error, RecordError) else f"{type(error).__name__}: {error}"
        return None, f"{trouble[:1].upper()}{trouble[1:]}: {text}"


def _cost(record: Record, recorded: dict[str, float]) -> dict[str, float]:
    """Epochs of the finished trials, how many were trained, hours of CPUs and GPUs, and what is not known is left out.

    A trial that has a share of a GPU, by `gpu` or `gpu_memory`, counts as that share. Sweeps of before costs were
    recorded have the times of their runs alone, and no GPU hours under `gpu_memory`.
    """
    finished = record.trials[record.trials["status"] == "FINISHED"]
    if "train.epochs" not in record.params:
        return {}
    epochs = record.params["train.epochs"].reindex(finished["trial"]).astype(float).sum()
    cost = {"epochs": float(epochs)}
    seconds = recorded.get("seconds", float(record.trials["seconds"].sum()))
    resources = record.space.get("resources", {})
    hours = {name: resources.get(name, 0) * seconds / 3600 for name in ("cpu", "gpu")}
    if "gpu_seconds" in recorded:
        hours["gpu"] = recorded["gpu_seconds"] / 3600
    cost |= {f"{name} hours": value for name, value in hours.items() if value}
    if "epochs_trained" in recorded:
        cost["trained"] = recorded["epochs_trained"]
        cost["shared"] = max(cost["epochs"] - cost["trained"], 0.0)
    return cost


def _sections(sweeps: list[Sweep]) -> list[Section]:
    """By paper, in the order of the papers; by space, in the order of their first runs."""
    known = _titles()
    sections = []
    for paper in [*known, *sorted({sweep.paper for sweep in sweeps} - set(known))]:
        of_paper = sorted((sweep for sweep in sweeps if sweep.paper == paper), key=lambda sweep: sweep.started)
        spaces: dict[str, list[Sweep]] = {}
        for sweep in of_paper:
            spaces.setdefault(sweep.name, []).append(sweep)
        for profiles in spaces.values():
            profiles.sort(key=lambda s: _PROFILES.index(s.profile) if s.profile in _PROFILES else len(_PROFILES))
        if spaces:
            sections.append(Section(known.get(paper, paper or "Other spaces"), f"paper-{paper or 'none'}", spaces))
    return sections


def _titles() -> dict[str, str]:
    """Of the papers, by the names that spaces and claims give them."""
    others = sorted({file.stem for file in PAPERS.glob("*.yaml")} - set(_PAPERS))
    return {name: known["title"] for name in [*_PAPERS, *others] if (known := published(name))}


def _reach(claim: judging.Judged) -> float:
    """How far the intervals of a claim's tests reach from 0."""
    ends = [abs(end) for test in claim.tests for end in (test.found.mean, test.found.low, test.found.high)]
    return max((end for end in ends if math.isfinite(end)), default=0) or 1.0


def _whisker(found: Estimate, reach: float) -> Markup:
    """A difference with its interval beside the line at 0, as claimed to the right."""

    def at(value: float) -> str:
        return f"{60 + 58 * value / reach:.1f}"

    finite = math.isfinite(found.low)
    line = f'<line class="interval" x1="{at(found.low)}" x2="{at(found.high)}" y1="6" y2="6"/>' if finite else ""
    return Markup(
        '<svg class="whisker" width="120" height="12" aria-hidden="true"><line x1="60" x2="60" y1="0" y2="12"/>'
        f'{line}<circle cx="{at(found.mean)}" cy="6" r="2.5"/></svg>'
    )


def _versions(sweeps: list[Sweep]) -> list[tuple[str, str]]:
    """What the sweeps ran on: everything that their environments name, with all its values, the most frequent first."""
    found: dict[str, Counter[str]] = {}
    for sweep in sweeps:
        environment = sweep.environment
        machine = environment.get("machine") or {}
        told = {"commit": environment.get("commit"), "python": environment.get("python")}
        told |= environment.get("packages") or {}
        told |= {name: value for name, value in (environment.get("platform") or {}).items() if name not in told}
        told |= {"system": machine.get("system"), "cores": machine.get("cpus"), "host": machine.get("name")}
        for name, value in told.items():
            if value is not None:
                found.setdefault(name, Counter())[str(value)] += 1
    return [(name, ", ".join(value for value, _ in values.most_common())) for name, values in found.items()]


def _svg(figure: Figure, salt: str, label: str) -> Markup:
    """A figure to stand in the page: in its colours and typeface, with names of parts that no other figure has."""
    for axes in figure.axes[:1]:
        axes.set_title("", loc="left")  # the page has it as a heading
    figure.suptitle("")
    out = io.StringIO()
    with rc_context({**figures.STYLE, "svg.hashsalt": salt}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"#[0-9a-f]{6}\b", lambda colour: _COLOURS.get(colour[0], colour[0]), text)
    text = re.sub(r"(font(?:-family)?:[^;\"]*?)'DejaVu Sans'[^;\"]*", r"\1var(--sans)", text)
    text = re.sub(r' id="(?:figure|axes|patch|line2d|text|legend|matplotlib|xtick|ytick)[^"]*"', "", text)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)  # would hold for the page
    wide = ' class="wide"' if figure.get_figwidth() > 5 else ""
    opening = f'<svg role="img" aria-label="{escape(label)}"{wide} style="width: {figure.get_figwidth() * 8.5:.0f}rem"'
    return Markup(
        re.sub(r'<svg (.*?)width="[\d.]+pt" height="[\d.]+pt"', lambda found: f"{opening} {found[1]}", text, count=1)
    )


def _png(figure: Figure, label: str) -> Markup:
    out = io.BytesIO()
    with rc_context(figures.STYLE):
        figure.savefig(out, format="png", dpi=160, facecolor="white")
    content = base64.b64encode(out.getvalue()).decode()
    return Markup('<img class="wide" alt="{}" src="data:image/png;base64,{}">').format(label, content)
