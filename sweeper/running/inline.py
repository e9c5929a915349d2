"""Trials one after the other in this process, without Ray: for debuggers, notebooks, tests, and where Ray cannot start.

Signals, budgets and failures act as on Ray Tune. Three things differ. `resources` are ignored, because there are no
nodes. An early-stopping rule is refused, because it compares trials that run at the same time. A step that hangs ends
the whole process, with a traceback and exit code 1; the same command then continues the sweep.
"""

from __future__ import annotations

import traceback

from ..errors import UserError
from ..planning.capacity import Placement
from ..spaces.space import Space
from ..spaces.trial import Trial
from .driver import Driver
from .messages import Failure
from .queue import Queue
from .signals import Interruptible
from .trial import TrialRunner

REFUSED = "the trial has another key than it was planned with: data, code or platform have changed; run it again"


class InlineError(UserError):
    """The user asked for something that needs Ray."""


class Inline:
    """The executor without Ray."""

    def __init__(self, space: Space, address: str | None, max_concurrent: int | None) -> None:
        """Raises `InlineError` for what needs Ray."""
        for option, given in (
            (f"--address {address}", address is not None),
            (f"--max-concurrent {max_concurrent}", (max_concurrent or 1) > 1),
            (f"{space.name}: stop: {space.stop.rule if space.stop else ''}", space.stop is not None),
        ):
            if given:
                raise InlineError(
                    f"{option} needs Ray, which --inline does without; allowed is one trial at a time, on this "
                    "machine, trained to its end"
                )
        on_gpu = any(trial.config.train.device == "cuda" for trial in space.trials)
        self.placement = Placement({"GPU": 1.0} if on_gpu else {}, 1)
        self.slots = 1

    def run(self, driver: Driver, queue: Queue) -> None:
        with Interruptible() as signals:
            while not signals.interrupted and (trial := queue.next()):
                _run(trial, driver, signals)

    def close(self) -> None:
        return None


def _run(trial: Trial, driver: Driver, signals: Interruptible) -> None:
    driver.started(trial)
    runner: TrialRunner | None = None
    while trial.id in driver.open and not signals.interrupted:
        try:
            runner = runner or TrialRunner(driver.job(trial))
            report = signals.step(runner.step)
        except Exception as error:  # an error inside an epoch would be a report
            driver.failed(trial, Failure(f"{type(error).__name__}: {error}", traceback.format_exc()))
            continue
        if report is not None:
            if report.refused:
                driver.failed(trial, Failure(REFUSED))
            else:
                driver.reported(trial, report)
