"""The record in MLflow, as a listener: a parent run per sweep, a child run per trial. Written by the driver alone.

Where MLflow is away for a while, or its disk is full, trials go on and what they report waits.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from mlflow.exceptions import MlflowException

from analysis.record import names

from ..spaces.space import Space
from ..spaces.trial import Trial
from . import lease
from .outbox import Outbox
from .sweep_run import SweepRun
from .trial_runs import PARAM_LENGTH, TrialRun, TrialRuns


class Reported(Protocol):
    """Of the report of a step, what is recorded."""

    @property
    def epochs(self) -> Mapping[int, Mapping[str, float]]: ...

    @property
    def artifacts(self) -> Mapping[str, bytes]: ...


class Failed(Protocol):
    """Why a trial failed."""

    @property
    def reason(self) -> str: ...

    @property
    def traceback(self) -> str: ...


class Tracker:
    """Records what happens to a sweep's trials. Not safe to use from several threads. `complete` holds the ids of the
    trials with a complete run under today's keys: there is nothing left to do for them.

    What is recorded is written by a thread of the outbox, in order; `flush` and `close` wait for it. Raises
    `TakenError` where a living driver runs the sweep. `fresh` supersedes the runs that there are; `say` gets messages
    for people.
    """

    def __init__(
        self,
        space: Space,
        uri: str | None = None,
        *,
        fresh: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ):
        self.sweep = SweepRun(space, uri, say)
        self._client = self.sweep.client
        self._trials = list(space.trials)
        self._logged = len(self._trials)
        self._outbox = Outbox(f"MLflow at {self.sweep.uri}", _away, say)
        self._closing = threading.Event()
        self._lost = False
        self.heart = threading.Thread(target=self._beat, daemon=True)
        self.heart.start()
        self._runs = TrialRuns(self.sweep, space.trials, fresh)
        self.complete = self._runs.complete

    def started(self, trial: Trial) -> None:
        """The trial's run exists and is RUNNING, with its tags and params."""
        self._put(trial, lambda run: self._runs.start(run, trial))

    def reported(self, trial: Trial, report: Reported) -> None:
        """Artifacts, and metrics by epoch, in order. What the run has already is not logged again."""
        points = [
            (epoch, {names.EPOCH + name: value for name, value in metrics.items() if names.in_history(name)})
            for epoch, metrics in report.epochs.items()
        ]
        artifacts = report.artifacts

        def write(run: TrialRun) -> None:
            for name, content in artifacts.items():
                self._runs.log_file(run, name, content)
            self._runs.log(run, points)

        self._put(trial, write)

    def finished(self, trial: Trial, results: Mapping[str, float], stopped: int | None = None) -> None:
        """The results as single points at the selected epoch, and FINISHED; of a trial that a rule has stopped KILLED,
        after a tag with the epoch of the stop."""
        chosen = names.results_of(results)

        def write(run: TrialRun) -> None:
            self._runs.log(run, [(int(chosen[names.SELECTED]), chosen)])
            if stopped is not None:
                self._client.set_tag(run.id, names.STOPPED, str(stopped))
            self._client.set_terminated(run.id, status="FINISHED" if stopped is None else "KILLED")

        self._put(trial, write)
        self.complete.add(trial.id)

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        """The results up to there, as those of a finished trial."""
        self.finished(trial, results, stopped=epoch)

    def failed(self, trial: Trial, failure: Failed) -> None:
        """The reason as a tag, the traceback as an artifact, and FAILED."""

        def write(run: TrialRun) -> None:
            self._client.set_tag(run.id, names.FAILURE, failure.reason[:PARAM_LENGTH])
            if failure.traceback:
                self._client.log_text(run.id, failure.traceback, names.TRACEBACK)
            self._client.set_terminated(run.id, status="FAILED")

        self._put(trial, write)

    def grown(self, trials: Sequence[Trial], more: bool) -> None:
        """These are expected from now on as well. The space in MLflow follows when it has grown by a tenth."""
        self._trials += trials
        if len(self._trials) > 1.1 * self._logged:
            self._logged = len(self._trials)
            self._outbox.put(lambda: self.sweep.log_space(self._trials))

    def flush(self) -> None:
        """Return when all of this is in MLflow. Raises `AwayError` where it does not come back for ten minutes."""
        self._outbox.flush()

    def close(self, status: str, epochs_trained: int = 0, seconds: float = 0.0, gpus: float = 0.0) -> None:
        """End the sweep's run, and as KILLED every trial's run that is still open; give the lease back. As `flush`.

        What this driver's trials have cost is recorded: epochs trained, and seconds in which a trial was at work, be it
        training, reading the store or loading data. In these each trial had `gpus`, which may be a share of one.
        """
        try:
            if not self._lost:
                self._outbox.flush()
        finally:
            self._closing.set()
            self.heart.join()
        if self._lost:
            return  # another driver's by now

        def write() -> None:
            if len(self._trials) > self._logged:
                self.sweep.log_space(self._trials)
            self._runs.kill_open()
            cost = {"epochs_trained": epochs_trained, "seconds": seconds, "gpu_seconds": gpus * seconds}
            self.sweep.close(status, cost)

        self._outbox.put(write)
        self._outbox.flush()
        self._outbox.abandon()

    def _put(self, trial: Trial, write: Callable[[TrialRun], None]) -> None:
        self._outbox.put(lambda: self._runs.write(trial, write))

    def _beat(self) -> None:
        """Renew the lease until the end. If another driver has taken it, stop as on Ctrl-C, and write no more."""
        while not self._closing.wait(lease.HEARTBEAT_SECONDS):
            with contextlib.suppress(MlflowException):  # the next beat may get through
                if not lease.Lease.mine().same_driver(self.sweep.lease()):
                    self._lost = True
                    self._outbox.abandon()
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                self.sweep.take(lease.Lease.mine())


def _away(error: Exception) -> bool:
    """Whether it passes by itself: a server that does not answer, a database that is locked, a disk that is full."""
    if isinstance(error, MlflowException):
        return error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
    return isinstance(error, OSError)
