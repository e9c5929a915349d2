"""The class that every method of multi-label recognition with partial labels is derived from.

A method describes; its objectives do the work. So this module is in no key, and it may grow while all stored results
stay valid. Code that changes a result must not stand here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from .objective import Objective
from .settings import Settings

OwnSettings = TypeVar("OwnSettings", bound=Settings)


class Method(ABC, Generic[OwnSettings]):
    """A method of multi-label recognition with partial labels: settings in, one objective per epoch out.

    Required: `name`, used in search spaces; `source`, the paper with its equations; `Settings`, the class of its
    settings. The others have defaults:

    * `reports`: name and description of each number that its objectives report. The description is printed in tables
      and figures: "what is measured, part", such as "threshold of pseudo labels, IST".
    * `backbones`: the only backbones that the method works with; empty: all.
    * `quick`: settings with which all parts act within a few epochs and images, if the defaults do not. The conformance
      kit (`methods.testing.purity`) trains with them.
    * `unshared`: the reason, if no two settings of the method share an epoch.
    """

    name: ClassVar[str]
    source: ClassVar[str]
    Settings: ClassVar[type[Any]]
    reports: ClassVar[Mapping[str, str]] = {}
    backbones: ClassVar[tuple[str, ...]] = ()
    quick: ClassVar[Mapping[str, Any]] = {}
    unshared: ClassVar[str] = ""

    def __init__(self, settings: OwnSettings):
        self.settings = settings

    @classmethod
    def refuse(cls, settings: OwnSettings, data: Any, network: Any) -> None:
        """Raises `SettingError`, with the dotted name, if the method's settings do not fit those of the data
        (`DataSettings`) or the network (`NetworkSettings`). Called before anything is trained."""

    @abstractmethod
    def objective(self, epoch: int) -> Objective:
        """The objective of `epoch`, which counts from 1. It must depend on the settings and the epoch alone."""
