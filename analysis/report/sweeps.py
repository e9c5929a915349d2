"""The sweeps of a record as the report shows them: tables, figures, failures, costs, and what could not be made."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.figures.drawing import draw
from analysis.figures.importance import draw_importance, draw_parallel
from analysis.figures.pareto import draw_fronts
from analysis.names import several
from analysis.reading import records, runs
from analysis.reading.records import Record
from analysis.reading.runs import MlflowClient, RecordError, Run
from analysis.record.names import COST, ENVIRONMENT, PROFILE, SPACE, SWEEP
from analysis.report.drawing import png, svg
from analysis.tables import build, importance
from analysis.tables.table import Table

PROFILES = ("default", "claims", "paper")  # in this order; then others

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
        """A table's caption without the title, which is printed above it."""
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


def parents(uri: str, smoke: bool) -> list[Run]:
    """The newest parent run of each space and profile."""
    newest: dict[tuple[str, str], Run] = {}
    with runs.answering(uri):
        for run in runs.sweeps(MlflowClient(uri)):
            profile = run.tags[PROFILE]
            if smoke or profile != records.SMOKE:
                newest.setdefault((run.tags[SPACE], profile), run)
    if not newest:
        raise RecordError(f"no sweep is recorded at {uri}; run one: python -m sweeper run search_spaces/NAME.yaml")
    return list(newest.values())


def sweep_of(uri: str, parent: Run) -> Sweep:
    tags = parent.tags
    sweep = Sweep(
        name=tags[SPACE],
        profile=tags[PROFILE],
        hash=tags[SWEEP],
        started=datetime.fromtimestamp(parent.started / 1000, UTC),
        status=parent.status,
    )
    record, why = or_why(
        lambda: records.load(sweep.name, tracking_uri=uri, sweep=sweep.hash), "this sweep cannot be read"
    )
    sweep.record = record
    if record is None:
        sweep.problems.append(why)
        return sweep
    files = {name: runs.artifact(record.client, parent.run_id, name) for name in (ENVIRONMENT, COST)}
    sweep.environment = json.loads(files[ENVIRONMENT] or b"{}")
    sweep.cost = _cost(record, json.loads(files[COST] or b"{}"))

    layout, columns = record.space.get("figure") or {}, several(record.space["table"].get("columns"))
    if columns != ["epoch"] and "pictures" not in layout:  # what only a figure shows is no table
        sweep.table, why = or_why(lambda: build.build(record), "no table")
        sweep.problems += [why] if why else []
    drawing: list[tuple[str, str, Callable[[Record], Figure]]] = [("", "no figure", draw)]
    if any(len(importance.swept(record, of)) > 1 for _, of in record.trials.groupby("variant")):
        sweep.importance, why = or_why(lambda: importance.table(record), "no importance of settings")
        sweep.problems += [why] if why else []
        if sweep.importance:
            drawing.append(("Importance of settings, and responses to them", "", draw_importance))
        drawing.append(("Parallel coordinates", "no parallel coordinates", draw_parallel))
    if (record.space.get("search") or {}).get("objectives"):
        drawing.append(("Pareto fronts", "no Pareto fronts", draw_fronts))
    for title, trouble, drawn_by in drawing:
        figure, why = or_why(lambda drawn_by=drawn_by: drawn_by(record), trouble)  # type: ignore[misc]
        # What prevents the table often prevents the figure too: it is said once.
        known = any(problem.endswith(why.partition(": ")[2]) for problem in sweep.problems)
        sweep.problems += [why] if why and not known else []
        if figure is not None:
            pictures = drawn_by is draw and "pictures" in layout
            image = (
                png(figure, sweep.title)
                if pictures
                else svg(figure, f"{sweep.anchor}-{len(sweep.figures)}", sweep.title)
            )
            sweep.figures.append((title, image))
    return sweep


def or_why(make: Callable[[], _Made], trouble: str) -> tuple[_Made | None, str]:
    """The result of `make` and "", or None and a sentence that says why. No error in one sweep, whatever it is, may
    prevent the page."""
    try:
        return make(), ""
    except Exception as error:
        text = str(error) if isinstance(error, RecordError) else f"{type(error).__name__}: {error}"
        return None, f"{trouble[:1].upper()}{trouble[1:]}: {text}"


def _cost(record: Record, recorded: dict[str, float]) -> dict[str, float]:
    """Epochs of the finished trials, how many of them were trained, and hours of CPUs and GPUs, as far as known.

    A trial that has a share of a GPU, by `gpu` or `gpu_memory`, counts as that share. Of old sweeps, without recorded
    costs, only the times of their runs are known, and no GPU hours under `gpu_memory`.
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


def versions(sweeps: list[Sweep]) -> list[tuple[str, str]]:
    """Versions and machines of the sweeps: everything in their environments, with all values, most frequent first."""
    found: dict[str, Counter[str]] = {}
    for sweep in sweeps:
        environment = sweep.environment
        machine = environment.get("machine") or {}
        facts = {"commit": environment.get("commit"), "python": environment.get("python")}
        facts |= environment.get("packages") or {}
        facts |= {name: value for name, value in (environment.get("platform") or {}).items() if name not in facts}
        facts |= {"system": machine.get("system"), "cores": machine.get("cpus"), "host": machine.get("name")}
        for name, value in facts.items():
            if value is not None:
                found.setdefault(name, Counter())[str(value)] += 1
    return [(name, ", ".join(value for value, _ in values.most_common())) for name, values in found.items()]
