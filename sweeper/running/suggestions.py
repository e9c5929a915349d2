"""A search hears how its trials ended, and the sweep grows by what it suggests then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..planning.studies import Studies
from ..spaces.search import Result, Search
from ..spaces.trial import Trial
from .events import Listener
from .messages import Failure


class Suggestions(Listener):
    """`grow` takes new trials, and whether more may follow; `note` gets messages for people."""

    def __init__(
        self,
        search: Search,
        studies: Studies,
        grow: Callable[[Sequence[Trial], bool], None],
        note: Callable[[str], None],
    ) -> None:
        self._search, self._studies, self._grow, self._note = search, studies, grow, note

    def finished(self, trial: Trial, results: Mapping[str, float]) -> None:
        self._learn(trial, results)

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        self._learn(trial, results, epoch)

    def failed(self, trial: Trial, failure: Failure) -> None:
        self._advance(trial, Result(None))

    def _learn(self, trial: Trial, results: Mapping[str, float], stopped: int | None = None) -> None:
        for name in self._search.objectives.keys() - results.keys():
            self._note(f"{trial.title}: {name} is not in the store; with `--fresh` it is measured")
        self._advance(trial, self._search.result(results, stopped))

    def _advance(self, trial: Trial, result: Result) -> None:
        new = self._studies.advance({trial.id: result})
        self._grow(new, not self._studies.exhausted)
