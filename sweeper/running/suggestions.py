"""Passes the results of trials to a search, and adds the trials that it then suggests to the sweep."""

from __future__ import annotations

from collections.abc import Mapping

from ..planning.studies import Studies
from ..spaces.search import Result
from ..spaces.trial import Trial
from .driver import Driver
from .events import Listener
from .messages import Failure


class Suggestions(Listener):
    def __init__(self, studies: Studies, driver: Driver) -> None:
        self._studies, self._driver = studies, driver

    def finished(self, trial: Trial, results: Mapping[str, float]) -> None:
        self._learn(trial, results)

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        self._learn(trial, results, epoch)

    def failed(self, trial: Trial, failure: Failure) -> None:
        self._advance(trial, Result(None))

    def _learn(self, trial: Trial, results: Mapping[str, float], stopped: int | None = None) -> None:
        search = self._studies.search
        for name in search.objectives.keys() - results.keys():
            self._driver.note(f"{trial.title}: {name} is not in the store; with `--fresh` it is measured")
        self._advance(trial, search.result(results, stopped))

    def _advance(self, trial: Trial, result: Result) -> None:
        new = self._studies.advance({trial.id: result})
        self._driver.grow(new, not self._studies.exhausted)
