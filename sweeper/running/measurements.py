"""What the trials of a run took, for its outcome and for later estimates."""

from __future__ import annotations

from collections import defaultdict

from ..planning.costs import cost_key, remember_costs
from ..spaces.trial import Trial
from .events import Listener
from .messages import Report


class Measurements(Listener):
    """`epochs` that were trained, `reused` ones that were not, and the seconds in which trials were `at_work`, of all
    together: training, reading the store or loading data."""

    def __init__(self) -> None:
        self.epochs = self.reused = 0
        self.at_work = 0.0
        self._reported: dict[str, int] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._sizes: dict[str, dict[str, int]] = defaultdict(dict)
        self._peaks: dict[str, int] = defaultdict(int)

    def reported(self, trial: Trial, report: Report) -> None:
        self.at_work += report.seconds
        for epoch in report.epochs:
            # A trial that was lost and tried again reports its first epochs a second time.
            if epoch > self._reported.get(trial.id, 0):
                self._reported[trial.id] = epoch
                self.reused += not report.trained
        cost = cost_key(trial.config) if report.trained or report.written else ""
        if report.trained:
            self.epochs += 1
            # The first trained epoch may build data and features; it says nothing of the others.
            if self.epochs > 1:
                self._seconds[cost].append(report.seconds)
            if report.gpu_memory:
                self._peaks[cost] = max(self._peaks[cost], report.gpu_memory)
        if report.written:
            self._sizes[cost] |= report.written

    def remember(self) -> None:
        remember_costs(self._seconds, self._sizes, peaks=self._peaks)
