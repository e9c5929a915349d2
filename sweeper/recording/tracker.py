"""The record in MLflow: a parent run per sweep, a child run per trial. Written by the driver alone.

A run is looked up by (sweep, trial) before one is created, and what it has is not logged again, so that running the
same command twice leaves one complete run per trial, wherever the first was killed. While a driver lives it holds the
sweep's lease, and no other driver writes to its runs. Where MLflow is away for a while, or its disk is full, trials go
on and what they report waits.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from analysis.record.client import search, sqlite_path, tracking_uri
from analysis.record.names import (
    COST,
    FAILURE,
    LEASE,
    SELECTED,
    STOPPED,
    in_history,
    results_of,
)

from ..spaces.space import Space, Trial
from .lease import HEARTBEAT_SECONDS, Lease, wait_for
from .outbox import Outbox
from .provenance import environment, made_by, measured_by, platform_of
from .runs import query

# MLflow's limits per batch, and per value of a param.
METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
PARAM_LENGTH = 6000

_DESCRIPTION = "mlflow.note.content"  # what MLflow shows of a run


@dataclass
class _Run:
    """A trial's run as it is in MLflow: the last step that each of its metrics has, and the names of its params."""

    run_id: str
    steps: dict[str, int] = field(default_factory=dict)
    params: frozenset[str] = frozenset()
    new: bool = False


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
    """One sweep's runs. Not safe to use from several threads.

    What is recorded here is written by a thread of the outbox, in order; `flush` waits for it, and `close` does.
    Raises `TakenError` where a living driver runs the sweep. `fresh` supersedes the runs that there are; `say` gets
    messages for people.
    """

    def __init__(
        self,
        space: Space,
        uri: str | None = None,
        *,
        fresh: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ):
        self.space, self._trials = space, list(space.trials)
        self._logged = len(space.trials)
        self.uri = tracking_uri(uri)
        path = sqlite_path(self.uri)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=self.uri)
        self._experiment = self._experiment_id()
        # Of the outbox's thread: runs, and the trials of which a write failed, so that nobody knows what has arrived.
        self._runs: dict[str, _Run] = {}
        self._doubtful: set[str] = set()
        self._complete: set[str] = set()
        self._made_by = made_by()
        self.parent = self._open_parent(say)
        self._cost_before = self._cost()
        self._outbox = Outbox(f"MLflow at {self.uri}", _away, say)
        self._closing = threading.Event()
        self._lost = False
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        self._find_runs(fresh)

    @property
    def complete(self) -> frozenset[str]:
        """Trials with a complete run under today's keys: there is nothing left to do for them."""
        return frozenset(self._complete)

    def grown(self, trials: Sequence[Trial], more: bool) -> None:
        """These are expected from now on as well; in MLflow after a tenth more."""
        self._trials += trials
        if len(self._trials) > 1.1 * self._logged:
            self._logged = len(self._trials)
            self._outbox.put(self._log_space)

    def started(self, trial: Trial) -> None:
        """The trial's run exists and is RUNNING, with its tags and params."""

        def write(run: _Run) -> None:
            if not run.new:
                self._client.update_run(run.run_id, status="RUNNING")
                if FAILURE in self._client.get_run(run.run_id).data.tags:
                    self._client.delete_tag(run.run_id, FAILURE)
            params = [Param(name, _text(v)) for name, v in trial.config.flat().items() if name not in run.params]
            for start in range(0, len(params), PARAMS_PER_BATCH):
                self._client.log_batch(run.run_id, params=params[start : start + PARAMS_PER_BATCH])
            run.params |= {param.key for param in params}

        self._put(trial, write)

    def reported(self, trial: Trial, report: Reported) -> None:
        """Artifacts, and metrics by epoch, in order. What the run has already is not logged again."""
        points = [
            (epoch, {f"epoch/{name}": value for name, value in metrics.items() if in_history(name)})
            for epoch, metrics in report.epochs.items()
        ]

        def write(run: _Run) -> None:
            for name, content in report.artifacts.items():
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder, name)
                    path.write_bytes(content)
                    self._client.log_artifact(run.run_id, str(path))
            self._log(run, points)

        self._put(trial, write)

    def finished(self, trial: Trial, results: Mapping[str, float]) -> None:
        """The values of the selected epoch as single points, and FINISHED."""
        chosen = results_of(results)

        def write(run: _Run) -> None:
            self._log(run, [(int(chosen[SELECTED]), chosen)])
            self._client.set_terminated(run.run_id, status="FINISHED")

        self._put(trial, write)
        self._complete.add(trial.id)

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        """KILLED, with the values of the selected epoch up to there, and a tag with the epoch of the stop."""
        chosen = results_of(results)

        def write(run: _Run) -> None:
            self._log(run, [(int(chosen[SELECTED]), chosen)])
            self._client.set_tag(run.run_id, STOPPED, str(epoch))
            self._client.set_terminated(run.run_id, status="KILLED")

        self._put(trial, write)
        self._complete.add(trial.id)

    def failed(self, trial: Trial, failure: Failed) -> None:
        """FAILED, with the reason as a tag and the traceback as an artifact."""

        def write(run: _Run) -> None:
            self._client.set_tag(run.run_id, FAILURE, failure.reason[:PARAM_LENGTH])
            if failure.traceback:
                self._client.log_text(run.run_id, failure.traceback, "traceback.txt")
            self._client.set_terminated(run.run_id, status="FAILED")

        self._put(trial, write)

    def flush(self) -> None:
        """Return when all of this is in MLflow. Raises `AwayError` where it does not come back for ten minutes."""
        self._outbox.flush()

    def close(self, status: str, epochs_trained: int = 0, seconds: float = 0.0, gpus: float = 0.0) -> None:
        """End the sweep's run, and as KILLED every trial's run that is still open; give the lease back. As `flush`.

        What this driver's trials cost is added to what is recorded of the sweep's: epochs trained, and seconds in which
        a trial was at work, be it training, reading the store or loading data; in them each had `gpus`, or a share.
        """
        try:
            if not self._lost:
                self._outbox.flush()
        finally:
            self._closing.set()
            self._heart.join()
        if self._lost:
            return  # another driver's by now
        before = self._cost_before
        own = {"epochs_trained": epochs_trained, "seconds": seconds, "gpu_seconds": gpus * seconds}
        cost = {name: before[name] + value for name, value in own.items() if name in before}

        def write() -> None:
            if len(self._trials) > self._logged:
                self._log_space()
            for trial, run in self._runs.items():
                if trial not in self._complete and self._client.get_run(run.run_id).info.status == "RUNNING":
                    self._client.set_terminated(run.run_id, status="KILLED")
            self._client.log_text(self.parent, json.dumps(cost), COST)
            self._client.set_terminated(self.parent, status=status)
            if LEASE in self._client.get_run(self.parent).data.tags:
                self._client.delete_tag(self.parent, LEASE)

        self._outbox.put(write)
        self._outbox.flush()
        self._outbox.abandon()

    def _put(self, trial: Trial, write: Callable[[_Run], None]) -> None:
        def work() -> None:
            try:
                write(self._run(trial))
            except Exception:
                self._doubtful.add(trial.id)
                raise

        self._outbox.put(work)

    def _run(self, trial: Trial) -> _Run:
        """The trial's run, looked up where a write of it has failed, and made where there is none."""
        if trial.id in self._doubtful:
            self._runs.pop(trial.id, None)
            for run in self._search("trial", f" and tags.`sweeper.trial` = '{trial.id}'")[:1]:
                self._runs[trial.id] = self._left(run)
            self._doubtful.discard(trial.id)
        if trial.id not in self._runs:
            tags = {
                "mlflow.runName": trial.title,
                "mlflow.parentRunId": self.parent,
                **self._common_tags("trial"),
                "sweeper.variant": trial.variant,
                "sweeper.seed": str(trial.config.seed),
                "sweeper.trial": trial.id,
                "sweeper.key": trial.keys[-1],
                **measured_by(trial),
                **self._made_by,
                "sweeper.platform": platform_of(trial.config.train.device),
            }
            run_id = self._client.create_run(self._experiment, tags=tags).info.run_id
            self._runs[trial.id] = _Run(run_id, new=True)
        return self._runs[trial.id]

    def _cost(self) -> dict[str, float]:
        """What the drivers before this one have recorded; one that was killed has recorded none, and early ones none
        of GPUs."""
        if COST not in (file.path for file in self._client.list_artifacts(self.parent)):
            return {"epochs_trained": 0, "seconds": 0.0, "gpu_seconds": 0.0}
        with tempfile.TemporaryDirectory() as folder:
            return json.loads(Path(self._client.download_artifacts(self.parent, COST, folder)).read_text("utf-8"))

    def _log(self, run: _Run, values: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Metrics by step, in order, in one batch; what the run has already is left out."""
        now = int(time.time() * 1000)
        points = [
            Metric(name, value, now, step)
            for step, metrics in values
            for name, value in metrics.items()
            if step > run.steps.get(name, 0)
        ]
        for start in range(0, len(points), METRICS_PER_BATCH):
            self._client.log_batch(run.run_id, metrics=points[start : start + METRICS_PER_BATCH])
        run.steps |= {point.key: point.step for point in points}

    # The lease

    def _lease(self) -> Lease | None:
        return Lease.read(self._client.get_run(self.parent).data.tags.get(LEASE))

    def _beat(self) -> None:
        """Renew the lease until the end. Should another driver have taken it, stop as on Ctrl-C."""
        while not self._closing.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(MlflowException):  # the next beat may get through
                if not Lease.mine().same_driver(self._lease()):
                    self._lost = True
                    self._outbox.abandon()
                    os.kill(os.getpid(), signal.SIGINT)
                    return
                self._client.set_tag(self.parent, LEASE, Lease.mine().text())

    # Looking up what is there

    def _experiment_id(self) -> str:
        experiment = self._client.get_experiment_by_name(self.space.name)
        if experiment is not None:
            return experiment.experiment_id
        path = sqlite_path(self.uri)
        artifacts = (path.parent / "artifacts" / self.space.name).as_uri() if path else None
        # The kind opens MLflow's pages on runs and metrics, not on traces.
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return self._client.create_experiment(self.space.name, artifact_location=artifacts, tags=tags)
        except MlflowException:  # another driver was faster
            experiment = self._client.get_experiment_by_name(self.space.name)
            if experiment is None:
                raise
            return experiment.experiment_id

    def _open_parent(self, say: Callable[[str], None]) -> str:
        runs = self._search("sweep")
        if runs:
            self.parent = runs[0].info.run_id
            wait_for(self._lease, say)
            self._client.set_tag(self.parent, LEASE, Lease.mine().text())
            self._client.set_tag(self.parent, _DESCRIPTION, self.space.title)
            self._client.update_run(self.parent, status="RUNNING")
        else:
            tags = {
                "mlflow.runName": f"{self.space.name} ({self.space.profile})",
                _DESCRIPTION: self.space.title,
                **self._common_tags("sweep"),
                LEASE: Lease.mine().text(),
            }
            self.parent = self._client.create_run(self._experiment, tags=tags).info.run_id
            first = self._search("sweep")[0].info.run_id
            if first != self.parent:
                # Another driver came first by a hair.
                self._client.delete_run(self.parent)
                self.parent = first
                wait_for(self._lease, say)
        # Again: a kill may have left a half of them, and how the sweep is shown may have changed.
        self._log_space()
        self._client.log_text(self.parent, json.dumps(environment(), indent=1), "environment.json")
        return self.parent

    def _log_space(self) -> None:
        space = dataclasses.replace(self.space, trials=tuple(self._trials))
        resolved = json.dumps(space.resolved(), indent=1, ensure_ascii=False)
        self._client.log_text(self.parent, resolved, "space.json")

    def _find_runs(self, fresh: bool) -> None:
        trials = {trial.id: trial for trial in self.space.trials}
        for run in self._search("trial"):
            trial, run_id, tags = run.data.tags["sweeper.trial"], run.info.run_id, run.data.tags
            known = trial in self._runs or trial in self._complete
            current = trial in trials and tags["sweeper.key"] == trials[trial].keys[-1]
            # A run of before there were tags of diagnostics has none, and is not of other code for that.
            current = current and all(tags.get(n, text) == text for n, text in measured_by(trials[trial]).items())
            if fresh or known or not current:
                # Made by other code or on another platform: kept to look at, no longer this sweep's result.
                self._client.set_tag(run_id, "sweeper.kind", "superseded")
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run_id, status="KILLED")
            elif run.info.status == "FINISHED" or STOPPED in tags:
                self._complete.add(trial)
            else:
                self._runs[trial] = self._left(run)

    def _left(self, run: Run) -> _Run:
        """What a driver left of a trial's run."""
        id = run.info.run_id
        steps = {
            name: max(point.step for point in self._client.get_metric_history(id, name)) for name in run.data.metrics
        }
        return _Run(id, steps, frozenset(run.data.params))

    def _search(self, kind: str, also: str = "") -> list[Run]:
        return search(self._client, [self._experiment], query(self.space, kind) + also)

    def _common_tags(self, kind: str) -> dict[str, str]:
        return {
            "sweeper.kind": kind,
            "sweeper.space": self.space.name,
            "sweeper.sweep": self.space.sweep,
            "sweeper.profile": self.space.profile,
        }


def _away(error: Exception) -> bool:
    """Whether it passes by itself: a server that does not answer, a database that is locked, a disk that is full."""
    if isinstance(error, MlflowException):
        return error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
    return isinstance(error, OSError)


def _text(value: Any) -> str:
    return "null" if value is None else str(value)[:PARAM_LENGTH]
