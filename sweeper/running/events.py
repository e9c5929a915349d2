"""The events of a sweep's trials, and the listeners that receive them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..spaces.trial import Trial
from .messages import Failure, Report


class Listener(Protocol):
    """Receives the events of a sweep's trials. Listeners are the queue, the record in MLflow, the display, the search,
    and those given to `run(listeners=…)`.

    A subclass defines the methods of the events that it needs; the others do nothing. Listeners are called one after
    the other, in one thread, before the next event, so a method should be short. An exception in it ends the sweep.
    """

    def started(self, trial: Trial) -> None:
        """A trial begins to run. Called again if the trial lost its worker and is run again."""
        return

    def reported(self, trial: Trial, report: Report) -> None:
        """A step has ended. After a lost worker, epochs that were already reported are reported again."""
        return

    def finished(self, trial: Trial, results: Mapping[str, float]) -> None:
        """A trial has all its epochs. `results` are the metrics of the epoch that the space's rule selects, those of
        all epochs together, and `selected_epoch`."""
        return

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        """A rule has stopped a trial after `epoch`; `results` are of its epochs up to there."""
        return

    def failed(self, trial: Trial, failure: Failure) -> None:
        """A trial has failed, and is not tried again in this sweep."""
        return

    def grown(self, trials: Sequence[Trial], more: bool) -> None:
        """A search has suggested these trials, perhaps none; `more`: others may follow."""
        return
