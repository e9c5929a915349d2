"""The class that every method of multi-label recognition with partial labels is derived from.

A method describes; its objectives do the work. So this module is in no key, and it may grow while all stored results
stay valid. Code that changes a result must not stand here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, TypeVar

from .objective import Objective
from .settings import Settings

OwnSettings = TypeVar("OwnSettings", bound=Settings)


class Method(ABC, Generic[OwnSettings]):
    """A method of multi-label recognition with partial labels: settings in, one objective per epoch out.

    `name` is what search spaces call it, `source` where its equations stand, `Settings` the class of its settings.
    `reports` are the names that its objectives report each epoch. `unshared` says why no two settings of it share an
    epoch, where that is so.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    Settings: ClassVar[type[Any]]
    reports: ClassVar[tuple[str, ...]] = ()
    unshared: ClassVar[str] = ""

    def __init__(self, settings: OwnSettings):
        self.settings = settings

    @abstractmethod
    def objective(self, epoch: int) -> Objective:
        """The objective of `epoch`, which counts from 1. It must depend on the settings and the epoch alone."""
