"""What the trials of a run take: for its outcome, for later estimates, and to end it when its budget is used up."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..planning.costs import cost_key, remember_costs
from ..spaces.trial import Trial
from .events import Listener
from .messages import Report


@dataclass(frozen=True)
class Budget:
    """What a run may take before it ends, cleanly, as by Ctrl-C: `seconds`, `epochs` trained, `trials` started; None:
    all."""

    seconds: float | None = None
    epochs: int | None = None
    trials: int | None = None


UNLIMITED = Budget()


class Spending(Listener):
    """`epochs` that were trained, `reused` ones that were not, and the seconds in which trials were `at_work`, of all
    together: training, reading the store or loading data.

    Ends the sweep when the budget's epochs are trained, or, `within`, when its time is over. (The queue counts trials.)
    """

    def __init__(self, budget: Budget, note: Callable[[str], None]) -> None:
        self._budget, self._note = budget, note
        self.epochs = self.reused = 0
        self.at_work = 0.0
        self._reported: dict[str, int] = {}
        self._seconds: dict[str, list[float]] = defaultdict(list)
        self._sizes: dict[str, dict[str, int]] = defaultdict(dict)
        self._peaks: dict[str, int] = defaultdict(int)

    @contextlib.contextmanager
    def within(self) -> Iterator[None]:
        """Inside, time counts."""
        timer = threading.Timer(self._budget.seconds or 0, self._end, ["--time-budget"])
        timer.daemon = True
        if self._budget.seconds is not None:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def reported(self, trial: Trial, report: Report) -> None:
        self.at_work += report.seconds
        for epoch in report.epochs:
            # A trial that was lost and tried again reports its first epochs a second time.
            if epoch > self._reported.get(trial.id, 0):
                self._reported[trial.id] = epoch
                self.reused += not report.trained
        cost = cost_key(trial.config) if report.trained or report.written else ""
        if report.written:
            self._sizes[cost] |= report.written
        if report.trained:
            self.epochs += 1
            # The first trained epoch may build data and features; it says nothing of the others.
            if self.epochs > 1:
                self._seconds[cost].append(report.seconds)
            if report.gpu_memory:
                self._peaks[cost] = max(self._peaks[cost], report.gpu_memory)
            if self.epochs == self._budget.epochs:
                self._end("--max-epochs")

    def remember(self) -> None:
        remember_costs(self._seconds, self._sizes, peaks=self._peaks)

    def _end(self, option: str) -> None:
        self._note(f"{option} is used up")
        os.kill(os.getpid(), signal.SIGINT)  # by which executors end a sweep
