"""The search space: what a YAML file amounts to, and its trials.

Nothing here schedules, trains or writes. How a file is read and checked stands in `reading`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from methods.cache.keys import digest
from methods.training.config import Config, Records, follow_seed

from .search import Search
from .sections import Select, Stop
from .titles import titles
from .yaml_file import SpaceError

__all__ = ["Select", "Space", "SpaceError", "Trial"]

# How a sweep is shown and where it runs: not what it is.
_SHOWN = ("title", "titles", "source", "note", "table", "figure", "resources", "on_finish", "follow_seed")


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
    """A search space with its profile applied. Everything a sweep does follows from it.

    With a `search`, `trials` are those that are known so far: none when it is read, see `planning.studies.so_far`."""

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
        plain["select"] = self.select.plain()
        plain["search"] = self.search.plain() if self.search else None
        plain["stop"] = self.stop.acting(evaluation=True) if self.stop else None
        plain["trials"] = [
            {"trial": t.id, "variant": t.variant, "seed": t.config.seed, "axes": dict(t.axes)} for t in self.trials
        ]
        methods = [str(values["method"]) for values in self.variants.values()]
        plain["titles"] = titles(methods)
        plain["follow_seed"] = sorted({name for method in methods for name in follow_seed(method)})
        return plain

    @functools.cached_property
    def sweep(self) -> str:
        """Hash of the resolved space, without what cannot change a result."""
        left_out = {*_SHOWN, "trials" if self.search else "search", *(() if self.stop else ("stop",))}
        return digest({key: value for key, value in self.resolved().items() if key not in left_out})[:16]
