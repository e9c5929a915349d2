"""The search space: what a YAML file amounts to, its trials, and the rule by which a trial's epoch is selected.

Nothing here schedules, trains or writes. How a file is read and checked stands in `reading`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.cache.keys import digest
from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.evaluation.metrics import GROUP_METRICS, METRICS, PER_CLASS
from methods.training.config import Config
from methods.training.registry import methods

from ..planning.studies import SECONDS, SELECTED, Search
from .yaml_file import SpaceError, read_yaml

__all__ = ["DEFAULT_PROFILE", "KEYS", "Select", "Space", "SpaceError", "Trial", "load_space", "profiles_of"]

KEYS = {
    "title": "one line: what is swept",
    "source": "paper and item that it reproduces",
    "note": "what readers of its table should know, such as what it simplifies",
    "data": "data settings of every variant",
    "network": "network settings of every variant",
    "train": "training settings of every variant",
    "diagnostics": "what is looked at beside the metrics, of every variant",
    "variants": "rows: a name and what it sets",
    "axes": "settings with the values they take, crossed with the variants that have them",
    "leave_one_out": "settings that are switched off, one in each of as many more rows of every variant that has them",
    "one_at_a_time": "settings with the values they take, one in each of as many more rows, the others as they are",
    "search": "algorithm, trials per variant, objectives, seeds that confirm the best; axes are then distributions",
    "stop": "a rule that ends trials of a search early: asha, median, or {rule, grace, reduction}",
    "overrides": "list of {when, set}: settings for the trials that match",
    "seeds": "list of integers from 1",
    "select": "metric and epoch that a trial reports",
    "table": "rows, columns, value, average and reference rows of its table",
    "figure": "curves (x, y), points (x, y) or pictures (pictures, images); without it the table is drawn",
    "resources": "of one trial: cpu, gpu or gpu_memory (GB, or `measured`), and the kind of node it must be on",
    "on_finish": "shell command that is run when a sweep has ended; it gets the line of `run --json` on stdin",
    "profiles": "named changes to all of the above; `from: FILE` makes those of a file first",
}
DEFAULT_PROFILE = "default"
# Kept per epoch as `epoch/val/map`, …; the selected epoch has every metric, and diagnostics have every epoch.
HISTORY = ("loss", "map", "map_interpolated", "of1", "cf1")
_MEASURED = tuple(f"{split}/{name}" for split in ("test", "val") for name in (*METRICS, *GROUP_METRICS))
_DIAGNOSED = tuple(f"{diagnostic}/{name}" for diagnostic, names in DIAGNOSTICS.items() for name in names)
# What a table can show, and what a figure can draw over the epochs, whatever the methods.
KNOWN_LABELS = "train/known_labels"  # the same in every epoch
# A metric per class: those of all classes.
CLASSES = f"test/{PER_CLASS}"
TABLE_VALUES = (*_MEASURED, *_DIAGNOSED, KNOWN_LABELS, SECONDS, CLASSES)
# What a search can look at: nothing that is reported.
OBJECTIVES = (*(f"val/{name}" for name in METRICS), *_DIAGNOSED, SECONDS, SELECTED)
CURVES = ("train/loss", *(name for name in _MEASURED if name.partition("/")[2] in HISTORY), *_DIAGNOSED)
# How a sweep is shown and where it runs: not what it is.
_SHOWN = ("title", "source", "note", "table", "figure", "resources", "on_finish")
RULES = ("asha", "median")
# Pictures are drawn from a file that a trial leaves as an artifact.
PICTURES = r"[\w-]+\.npz"


@dataclass(frozen=True)
class Select:
    """Which epoch a trial reports: the one best on `metric` (the earliest of equals), or the last."""

    metric: str = "val/map"
    epoch: str = "best"

    def choose(self, history: Sequence[Mapping[str, float]]) -> int:
        """The selected epoch, from 1, of the metrics of epochs 1 … E; the last where the metric is NaN everywhere."""
        if self.epoch == "last":
            return len(history)
        values = [metrics[self.metric] for metrics in history]
        best = max((value for value in values if value == value), default=None)
        return len(history) if best is None else values.index(best) + 1


@dataclass(frozen=True)
class Stop:
    """A rule that ends trials early: `asha` lets one in `reduction` go on after `grace` epochs, after `reduction` times
    as many, and so on; `median` those that are, after `grace` epochs, above the median of the others' means."""

    rule: str
    grace: int = 1
    reduction: int = 3


@dataclass(frozen=True, eq=False)
class Trial:
    """One resolved configuration with one seed, in one row; `axes` are the swept values that led to it."""

    variant: str
    config: Config
    axes: Mapping[str, Any]

    @functools.cached_property
    def id(self) -> str:
        """Hash of the variant's name and the fully resolved configuration, without what cannot change a result."""
        return digest([self.variant, self.config.identity()])[:16]

    @property
    def point(self) -> str:
        """Where on the axes it is, for people: `delta_rel=0.4`."""
        return " ".join(f"{name}={value}" for name, value in self.axes.items())

    @property
    def title(self) -> str:
        """For people: `LL-R delta_rel=0.4 seed=1`."""
        return " ".join(filter(None, [self.variant, self.point, f"seed={self.config.seed}"]))


@dataclass(frozen=True)
class Space:
    """A search space with its profile applied: everything a sweep does follows from it. With a `search`, `trials` are
    those that are known so far."""

    name: str
    title: str
    profile: str
    source: Mapping[str, Any]
    note: str
    variants: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Sequence[Any] | Mapping[str, Any]]
    seeds: tuple[int, ...]
    select: Select
    table: Mapping[str, Any]
    figure: Mapping[str, Any]
    resources: Mapping[str, Any]
    trials: tuple[Trial, ...]
    search: Search | None = None
    stop: Stop | None = None
    on_finish: str = ""

    def resolved(self) -> dict[str, Any]:
        """The space as JSON-able data: what analysis reads, and what names the sweep."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["select"] = dataclasses.asdict(self.select)
        plain["search"] = self.search.plain() if self.search else None
        plain["stop"] = dataclasses.asdict(self.stop) if self.stop else None
        plain["trials"] = [
            {"trial": t.id, "variant": t.variant, "seed": t.config.seed, "axes": dict(t.axes)} for t in self.trials
        ]
        return plain

    @functools.cached_property
    def sweep(self) -> str:
        """Hash of the resolved space, without what cannot change a result."""
        left_out = {*_SHOWN, "trials" if self.search else "search", *(() if self.stop else ("stop",))}
        return digest({key: value for key, value in self.resolved().items() if key not in left_out})[:16]


def curves(used: Iterable[str]) -> list[str]:
    """What a figure of these methods can draw over the epochs: also what they report while they train."""
    reported = (f"train/{name}" for method in used for name in methods()[method].reports)
    return list(dict.fromkeys([*CURVES, *reported]))


def load_space(path: str | Path, profile: str | None = None, sets: Iterable[str] = ()) -> Space:
    """Read, check and expand a search space file.

    `profile` is one of the file's `profiles`; `sets` are `key=value` texts that win over everything. Raises
    `SpaceError`, with file and line, for the first thing that is wrong.
    """
    from .reading import Reader  # it makes what is defined here

    return Reader(Path(path), profile or DEFAULT_PROFILE, sets).space()


def profiles_of(path: str | Path) -> list[str]:
    """The profiles of a search space file, `default` first. Raises `SpaceError` as `load_space`."""
    given = read_yaml(Path(path)).mapping("the file").get("profiles")
    return list(dict.fromkeys([DEFAULT_PROFILE, *(given.mapping("profiles") if given else ())]))
