"""The record in MLflow, as a listener: a parent run per sweep, a child run per trial. Written by the driver alone.

While MLflow does not answer, or its disk is full, trials go on and their reports wait.
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
    """The parts of a step's report that are recorded."""

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
    trials with a complete run under today's keys, which need not run again.

    The outbox writes in its own thread, in order; `flush` and `close` wait for it. Raises `TakenError` if another
    living driver runs the sweep. `fresh` marks all existing runs as superseded. `say` gets messages for people.
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
        """Make or find the trial's run and set it RUNNING, with its tags and params."""
        self._put(trial, lambda run: self._runs.start(run, trial))

    def reported(self, trial: Trial, report: Reported) -> None:
        """Log artifacts and the metrics of each epoch, in order. What the run already has is not logged again."""
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
        """Log the results as single points at the selected epoch, and set the run FINISHED. The run of a trial that a
        rule has stopped gets a tag with the epoch of the stop, and is KILLED."""
        chosen = names.results_of(results)

        def write(run: TrialRun) -> None:
            self._runs.log(run, [(int(chosen[names.SELECTED]), chosen)])
            if stopped is not None:
                self._client.set_tag(run.id, names.STOPPED, str(stopped))
            self._client.set_terminated(run.id, status="FINISHED" if stopped is None else "KILLED")

        self._put(trial, write)
        self.complete.add(trial.id)

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        """Log the results up to `epoch`, like those of a finished trial."""
        self.finished(trial, results, stopped=epoch)

    def failed(self, trial: Trial, failure: Failed) -> None:
        """Log the reason as a tag and the traceback as an artifact, and set the run FAILED."""

        def write(run: TrialRun) -> None:
            self._client.set_tag(run.id, names.FAILURE, failure.reason[:PARAM_LENGTH])
            if failure.traceback:
                self._client.log_text(run.id, failure.traceback, names.TRACEBACK)
            self._client.set_terminated(run.id, status="FAILED")

        self._put(trial, write)

    def grown(self, trials: Sequence[Trial], more: bool) -> None:
        """Expect these trials too. The space in MLflow is written again only after the sweep has grown by a tenth."""
        self._trials += trials
        if len(self._trials) > 1.1 * self._logged:
            self._logged = len(self._trials)
            self._outbox.put(lambda: self.sweep.log_space(self._trials))

    def flush(self) -> None:
        """Return when all is written to MLflow. Raises `AwayError` if MLflow does not answer for ten minutes."""
        self._outbox.flush()

    def close(self, status: str, epochs_trained: int = 0, seconds: float = 0.0, gpus: float = 0.0) -> None:
        """End the sweep's run, set open runs of trials KILLED, and give the lease back. Waits like `flush`.

        Also records what this driver's trials have cost: epochs trained, and the seconds that trials spent training,
        reading the store or loading data. `gpus` is the number of GPUs per trial; it may be a share of one.
        """
        try:
            if not self._lost:
                self._outbox.flush()
        finally:
            self._closing.set()
            self.heart.join()
        if self._lost:
            return  # another driver has the lease now

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
        """Renew the lease until the end. If another driver has taken it, write no more and end like Ctrl-C."""
        while not self._closing.wait(lease.HEARTBEAT_SECONDS):
            with contextlib.suppress(MlflowException):  # the next attempt may succeed
                if not lease.Lease.mine().same_driver(self.sweep.lease()):
                    self._lost = True
                    self._outbox.abandon()
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                self.sweep.take(lease.Lease.mine())


def _away(error: Exception) -> bool:
    """Whether the error is temporary: a server that does not answer, a locked database, a full disk."""
    if isinstance(error, MlflowException):
        return error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
    return isinstance(error, OSError)
