"""The search space: what a YAML file amounts to, its trials, and the rule by which a trial's epoch is selected.

Nothing here schedules, trains or writes. How a file is read and checked stands in `reading`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from methods.cache.keys import digest
from methods.training.config import Config, Records

from .search import Search
from .yaml_file import SpaceError

__all__ = ["Select", "Space", "SpaceError", "Trial"]

# How a sweep is shown and where it runs: not what it is.
_SHOWN = ("title", "source", "note", "table", "figure", "resources", "on_finish")


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

    @functools.cached_property
    def keys(self) -> list[str]:
        """key[0] … key[E], as of the first time that they are asked for: they name files that may change."""
        return self.config.keys()

    @functools.cached_property
    def records(self) -> Records:
        """The names of what is measured after an epoch."""
        return self.config.records()

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
