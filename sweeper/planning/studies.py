"""Which points a search tries: one Optuna study per variant, with numbered suggestions.

Suggestion i uses exactly the results of suggestions 0 … i − lag, in the order of their numbers. It does not depend on
how many trials run at once, or which ends first. So a search is reproducible, and a resumed search goes on with the
same suggestions. Random search uses no results. Nothing here runs a trial, or knows Ray or MLflow.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from methods.cache.keys import digest
from methods.data import content

from ..spaces.search import Distribution, Result, Search

if TYPE_CHECKING:
    from ..recording.runs import Recorded  # would import MLflow
    from ..spaces.space import Space
    from ..spaces.trial import Trial


class Study:
    """The suggestions of one variant: `points` and their `results` by number."""

    def __init__(self, search: Search, variant: str):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = int(digest(["search", variant])[:8], 16)
        if search.settings.algorithm == "random":
            sampler: Any = optuna.samplers.RandomSampler(seed)
        else:
            sampler = optuna.samplers.TPESampler(n_startup_trials=search.settings.startup, seed=seed)
        self._search, self._variant = search, variant
        self._study = optuna.create_study(directions=["maximize"] * len(search.objectives), sampler=sampler)
        self._asked: list[Any] = []
        self._told = 0
        self.points: list[dict[str, Any]] = []
        self.results: dict[int, Result] = {}

    def suggest(self) -> dict[str, Any] | None:
        """The next point; None if all have been suggested, or while results that it needs are missing."""
        number, search = len(self.points), self._search
        seen = 0 if search.settings.algorithm == "random" else max(number - search.settings.lag + 1, 0)
        if number == search.settings.trials or any(earlier not in self.results for earlier in range(self._told, seen)):
            return None
        while self._told < seen:
            self._tell(self._told)
            self._told += 1
        trial = self._study.ask()
        point: dict[str, Any] = {}
        for axis, distribution in self._ordered():
            if self._acts(distribution, point):
                point[axis] = _drawn(trial, axis, distribution)
        self._asked.append(trial)
        self.points.append(point)
        return point

    def best(self, count: int) -> list[dict[str, Any]]:
        """At most `count` different points with the best results, without points that a rule has stopped. Of equal
        results, the earlier is first. With several objectives: the Pareto front, in order of the first objective."""
        whole = ((result.values, number) for number, result in self.results.items() if result.stopped is None)
        scored = [(values, number) for values, number in whole if values is not None]
        if len(self._search.objectives) > 1:
            scored = [one for one in scored if not any(_dominates(other, one[0]) for other, _ in scored)]
        found: list[dict[str, Any]] = []
        for _, number in sorted(scored, key=lambda one: (-one[0][0], one[1])):
            if self.points[number] not in found:
                found.append(self.points[number])
        return found[:count]

    def _tell(self, number: int) -> None:
        import optuna

        result, trial = self.results[number], self._asked[number]
        if result.values is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif result.stopped is not None:
            trial.report(result.values[0], step=result.stopped)
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            self._study.tell(trial, result.values)

    def _ordered(self) -> list[tuple[str, Distribution]]:
        """The axes, each after those that it depends on."""
        left, ordered = dict(self._search.axes[self._variant]), []
        while left:
            free = [axis for axis, distribution in left.items() if left.keys().isdisjoint(distribution.when)] or [*left]
            ordered += [(axis, left.pop(axis)) for axis in free]
        return ordered

    def _acts(self, distribution: Distribution, point: Mapping[str, Any]) -> bool:
        if not distribution.when:
            return True
        values = self._search.make(self._variant, point, 1).config.flat()
        return all(values.get(name) in allowed for name, allowed in distribution.when.items())


class Studies:
    """A `search` over all variants: suggests trials from the results so far."""

    def __init__(self, search: Search, variants: Iterable[str], seeds: Iterable[int]):
        self.search, self._seeds = search, tuple(seeds)
        self._studies = {variant: Study(search, variant) for variant in variants}
        # Points without a result, by number.
        self._open: dict[str, dict[int, list[Trial]]] = {variant: {} for variant in self._studies}
        self._results: dict[str, Result] = {}
        self._known: set[str] = set()
        self._confirmed = False

    def advance(self, results: Mapping[str, Result]) -> list[Trial]:
        """New trials, after results by trial id."""
        self._results |= results
        new: dict[str, Trial] = {}
        grown = True
        while grown:  # a repeated point has its result already, so more may be suggested
            grown = False
            for variant, study in self._studies.items():
                self._tell(variant, study)
                while (point := study.suggest()) is not None:
                    trials = [self.search.make(variant, point, seed) for seed in self._seeds]
                    self._open[variant][len(study.points) - 1] = trials
                    new |= {trial.id: trial for trial in trials}
                    self._tell(variant, study)
                    grown = True
        if self.search.confirm_top and not self._confirmed and self._searched():
            self._confirmed = True
            for variant, study in self._studies.items():
                for point in study.best(self.search.confirm_top):
                    trials = [self.search.make(variant, point, seed) for seed in self.search.confirm_seeds]
                    new |= {trial.id: trial for trial in trials}
        fresh = [trial for id, trial in new.items() if id not in self._known]
        self._known.update(new)
        return fresh

    def replay(self, result: Callable[[Trial], Result | None]) -> list[Trial]:
        """All trials that an earlier run has suggested. `result` is how a trial ended there; None if it did not end."""
        known = new = self.advance({})
        while new:
            found = {trial.id: result(trial) for trial in new}
            new = self.advance({id: one for id, one in found.items() if one is not None})
            known = known + new
        return known

    @property
    def exhausted(self) -> bool:
        """Whether no result can lead to another trial."""
        return self._searched() and (self._confirmed or not self.search.confirm_top)

    def _searched(self) -> bool:
        return all(len(study.results) == self.search.settings.trials for study in self._studies.values())

    def _tell(self, variant: str, study: Study) -> None:
        open_points = self._open[variant]
        for number, trials in list(open_points.items()):
            if all(trial.id in self._results for trial in trials):
                study.results[number] = _together([self._results[trial.id] for trial in trials])
                del open_points[number]


def so_far(space: Space, found: Mapping[str, Recorded]) -> tuple[Space, Studies | None]:
    """The space with all trials that follow from the recorded results of its search, and the search to continue."""
    if space.search is None:
        return space, None
    search, studies = space.search, Studies(space.search, space.variants, space.seeds)

    def result(trial: Trial) -> Result | None:
        """The recorded result of a trial, if today's code would compute the same."""
        run = found.get(trial.id)
        if run is None or run.key != trial.keys[-1]:
            return None
        return search.result(run.results, run.stopped)

    with content.steady():
        return dataclasses.replace(space, trials=tuple(studies.replay(result))), studies


def _together(results: Sequence[Result]) -> Result:
    """The mean result of a point over its seeds. The point failed or was stopped if one of its seeds was."""
    values = [result.values for result in results if result.values is not None]
    if len(values) < len(results):
        return Result(None)
    means = tuple(map(statistics.fmean, zip(*values, strict=True)))
    return Result(means, min((r.stopped for r in results if r.stopped is not None), default=None))


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """At least as good in all objectives, and better in one."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _drawn(trial: Any, axis: str, distribution: Distribution) -> Any:
    if distribution.kind == "choice":
        # Give Optuna the position of a choice, because it cannot store choices of every type.
        return distribution.choices[trial.suggest_categorical(axis, list(range(len(distribution.choices))))]
    if distribution.kind == "int":
        return trial.suggest_int(axis, int(distribution.low), int(distribution.high))
    drawn = trial.suggest_float(axis, distribution.low, distribution.high, log=distribution.kind == "loguniform")
    return min(max(float(f"{drawn:.4g}"), distribution.low), distribution.high)  # four digits are enough to read
