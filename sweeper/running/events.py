"""What happens to the trials of a sweep, and who hears of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from ..spaces.trial import Trial
from .messages import Failure, Report


class Listener(Protocol):
    """Hears of a sweep's trials: queue, record in MLflow, display and search do, and those of `run(listeners=…)`.

    A subclass has the methods of the events that it needs; the others do nothing. All listeners hear of an event, one
    after the other in one thread, before the next event happens, so a method should be short. What it raises ends the
    sweep.
    """

    def started(self, trial: Trial) -> None:
        """A trial runs; once more if it had lost its worker."""
        return

    def reported(self, trial: Trial, report: Report) -> None:
        """A step has ended. After a lost worker, epochs that were reported before come again."""
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
        """A search has come to these trials as well, if any; `more`: others may follow."""
        return
