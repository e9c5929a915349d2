"""What a method of multi-label recognition with partial labels is: settings in, one objective per epoch out.

It describes and does not act: what acts in an epoch is the objective. So this module is in no key, and the contract can
grow without renaming results.
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
        """What acts in `epoch` (from 1). Must depend on the settings and the epoch alone."""
