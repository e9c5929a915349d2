"""Passes events of trials from the executor, which runs them, to the listeners."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from analysis.record.names import SELECTED, WHOLE

from ..spaces.space import Select, Space
from ..spaces.trial import Trial
from .events import Listener
from .messages import Failure, Job, Report


class Driver:
    """An executor asks it for the `job` of a trial and tells it how the trial goes on. The driver passes this to its
    `listeners` as events. `keep` has, by trial, the epochs whose state is stored. `folder` is the store's folder.
    `note` gets messages for people. Used from one thread.

    `open` holds the ids of trials that have not ended, `failures` the reasons of those that failed.
    """

    def __init__(
        self,
        space: Space,
        waiting: Sequence[Trial],
        keep: Mapping[str, Sequence[int]],
        folder: Path,
        epoch_limit: float | None = None,
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._space, self._keep, self.folder, self._limit = space, keep, folder, epoch_limit
        self.note, self.listeners = note, list[Listener]()
        self.trials = {trial.id: trial for trial in waiting}
        self.open = set(self.trials)
        self.failures: dict[Trial, str] = {}
        self._histories: dict[str, list[Mapping[str, float]]] = {}

    def job(self, trial: Trial) -> Job:
        space = self._space
        return Job(
            trial=trial.id,
            values=trial.config.flat(),
            keys=trial.keys,
            keep=self._keep.get(trial.id, [len(trial.keys) - 1]),  # no trial continues a suggested one: last only
            select=space.select,
            # Trials that confirm the best points (other seeds) are never stopped early.
            stoppable=space.stop is not None and trial.config.seed in space.seeds,
            store=str(self.folder),
            epoch_limit=self._limit,
        )

    def started(self, trial: Trial) -> None:
        self._histories.setdefault(trial.id, [])
        for listener in self.listeners:
            listener.started(trial)

    def reported(self, trial: Trial, report: Report) -> None:
        """Pass on a report. If it is the trial's last, the trial has also finished or failed."""
        history = self._histories[trial.id]
        history += [metrics for epoch, metrics in report.epochs.items() if epoch > len(history)]
        for listener in self.listeners:
            listener.reported(trial, report)
        if report.failure:
            self.failed(trial, report.failure)
        elif report.done:
            self.open.discard(trial.id)
            results = selected(self._space.select, history)
            for listener in self.listeners:
                listener.finished(trial, results)

    def stopped(self, trial: Trial) -> None:
        self.open.discard(trial.id)
        history = self._histories[trial.id]
        results = selected(self._space.select, history)
        for listener in self.listeners:
            listener.stopped(trial, len(history), results)

    def failed(self, trial: Trial, failure: Failure) -> None:
        if trial.id not in self._histories:
            self.started(trial)
        self.open.discard(trial.id)
        self.failures[trial] = failure.reason
        for listener in self.listeners:
            listener.failed(trial, failure)

    def grow(self, trials: Sequence[Trial], more: bool) -> None:
        self.trials |= {trial.id: trial for trial in trials}
        self.open.update(trial.id for trial in trials)
        for listener in self.listeners:
            listener.grown(trials, more)


def selected(select: Select, history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """A trial's results: the metrics of the selected epoch, those of all epochs together, and `selected_epoch`."""
    epoch = select.choose(history)
    whole = {name: value for name, value in history[-1].items() if name.startswith(WHOLE)}
    return {**history[epoch - 1], **whole, SELECTED: epoch}
