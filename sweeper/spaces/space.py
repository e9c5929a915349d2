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
from methods.training.config import follow_seed

from .search import Search
from .sections import Select, Stop
from .trial import Trial
from .vocabulary import titles

__all__ = ["Select", "Space", "Trial"]

# How a sweep is shown and where it runs: not what it is.
_SHOWN = ("title", "titles", "source", "note", "table", "figure", "resources", "on_finish", "follow_seed")


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
        given = [(str(values["method"]), values) for values in self.variants.values()]
        plain["titles"] = titles(method for method, _ in given)
        plain["follow_seed"] = sorted({name for method, values in given for name in follow_seed(method, values)})
        return plain

    @functools.cached_property
    def sweep(self) -> str:
        """Hash of the resolved space, without what cannot change a result."""
        left_out = {*_SHOWN, "trials" if self.search else "search", *(() if self.stop else ("stop",))}
        return digest({key: value for key, value in self.resolved().items() if key not in left_out})[:16]
