"""What a run may take before it ends, cleanly, as by Ctrl-C."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ..spaces.trial import Trial
from .events import Listener
from .messages import Report


@dataclass(frozen=True)
class Budget:
    """`seconds`, `epochs` trained, `trials` started; None: all."""

    seconds: float | None = None
    epochs: int | None = None
    trials: int | None = None


UNLIMITED = Budget()


class Spending(Listener):
    """Ends the sweep when its epochs are trained, or, `within`, when its time is over. (The queue counts trials.)"""

    def __init__(self, budget: Budget, note: Callable[[str], None]) -> None:
        self._budget, self._note = budget, note
        self._epochs = 0

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
        self._epochs += report.trained
        if report.trained and self._epochs == self._budget.epochs:
            self._end("--max-epochs")

    def _end(self, option: str) -> None:
        self._note(f"{option} is used up")
        os.kill(os.getpid(), signal.SIGINT)  # by which executors end a sweep
