"""What a search is, as the space file says it: algorithm, budget, objectives, ranges. Nothing here asks Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from analysis.record.names import SECONDS
from methods.contract.settings import Settings, setting

from .vocabulary import OBJECTIVES, SEEDS

if TYPE_CHECKING:
    from .trial import Trial

RANGES = ("uniform", "loguniform", "int")


@dataclass(frozen=True)
class Distribution:
    """What an axis is drawn from: one of `choices`, or a number between `low` and `high`, both included.

    `kind` is `choice` or one of `RANGES`. `when`: values that other settings must have for the axis to act; where they
    have others it is not drawn.
    """

    kind: str
    choices: tuple[Any, ...] = ()
    low: float = 0
    high: float = 0
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        if self.kind == "choice":
            return f"{{{', '.join(map(str, self.choices))}}}"
        return f"{self.kind} {self.low} … {self.high}"

    def plain(self) -> dict[str, Any]:
        return {self.kind: list(self.choices) if self.kind == "choice" else [self.low, self.high]}


@dataclass(frozen=True)
class Result:
    """How a trial ended: with these values of the objectives, larger is better, with none because it failed, or, where
    a rule stopped it after epoch `stopped`, with the best value up to there."""

    values: tuple[float, ...] | None
    stopped: int | None = None


@dataclass(frozen=True, eq=False)
class Search:
    """The search of a space file: its `settings`, and what is computed from the rest of the space.

    `objectives` are results of a trial, each with `max` or `min`; usually one, the selection metric. The `confirm_top`
    best of each variant, by the mean over the space's seeds, are trained again under `confirm_seeds`, and only these
    are reported; of several objectives they are the Pareto front, from the best on the first on. `axes` are the
    distributions by variant. `make(variant, point, seed)` gives the trial of a point. `fixed` holds what else the
    trials depend on: the overrides, and the configuration of each variant.
    """

    settings: SearchSettings
    confirm_top: int
    confirm_seeds: tuple[int, ...]
    objectives: Mapping[str, str]
    axes: Mapping[str, Mapping[str, Distribution]]
    make: Callable[[str, Mapping[str, Any], int], Trial] = field(repr=False)
    fixed: Any = None

    def __str__(self) -> str:
        objectives = confirmed = ""
        if len(self.objectives) > 1:
            objectives = f" for {', '.join(f'{way} {name}' for name, way in self.objectives.items())}"
        if self.confirm_top:
            best = "best" if self.confirm_top == 1 else f"best {self.confirm_top}"
            best = f"Pareto front, at most {self.confirm_top}," if objectives else best
            confirmed = f", then the {best} again under seeds {', '.join(map(str, self.confirm_seeds))}"
        timed = "; times are not reproducible, nor is what follows from them" if SECONDS in self.objectives else ""
        number = f"{self.settings.trials} suggestions for each variant"
        return f"search: {self.settings.algorithm}{objectives}, {number}{confirmed}{timed}"

    def result(self, measured: Mapping[str, float], stopped: int | None = None) -> Result:
        """The values of the objectives; none if one of them is NaN or was not measured."""
        signed = [measured.get(name, math.nan) * (1 if way == "max" else -1) for name, way in self.objectives.items()]
        return Result(None if any(map(math.isnan, signed)) else tuple(signed), stopped)

    def plain(self) -> dict[str, Any]:
        """As JSON-able data: with the space, all that the suggestions follow from."""
        return self.settings.plain() | {
            "confirm": {"top": self.confirm_top, "seeds": list(self.confirm_seeds)} if self.confirm_top else None,
            "axes": {name: {axis: d.plain() for axis, d in axes.items()} for name, axes in self.axes.items()},
            "fixed": self.fixed,
        }


@dataclass(frozen=True, kw_only=True)
class ConfirmSettings(Settings):
    """What is found best is trained again, and only that is reported."""

    top: int = setting(None, "points of each variant; left out: 1, or of several objectives the front", minimum=1)
    seeds: tuple[int, ...] = setting(doc="seeds that are not among the seeds of the search", **SEEDS)


@dataclass(frozen=True)
class SearchSettings(Settings):
    """A search draws points from the axes instead of crossing them."""

    algorithm: Literal["random", "tpe"] = setting("tpe", "at random, or by a tree-structured Parzen estimator")
    trials: int = setting(20, "suggestions for each variant", minimum=1)
    lag: int = setting(4, "a suggestion sees the results of those that are so many before it", minimum=1)
    startup: int = setting(10, "first suggestions of tpe that are random", minimum=1)
    objectives: dict[str, Literal["max", "min"]] = setting(
        None,
        "several results, each with max or min; left out: the metric of `select`",
        one_of=OBJECTIVES,
        noun="result",
        min_items=2,
        problem="give several, such as {val/map: max, train/seconds: min}; one is `select`",
    )
    confirm: ConfirmSettings = setting(None, "the best points are trained again under other seeds")
