"""A trial: one configuration with one seed. What runs it, and what it has reported, stands elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from methods.cache.keys import digest
from methods.training.config import Config, Records


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
        """key[0] … key[E]. Computed once, on first use: keys depend on files, which may change while the trial runs."""
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
