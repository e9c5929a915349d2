"""The runs of a sweep's trials in MLflow: finds them, decides which count as results, and writes to them.

A run is looked up by (sweep, trial) before one is created, and what it has is not logged again. So if a command is
killed at any point and run again, there is one complete run for each trial.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param, Run

from analysis.record import names
from analysis.record.client import where

from ..spaces.trial import Trial
from .provenance import made_by, measured_by, platform_of
from .sweep_run import SweepRun

# MLflow's limits per batch, and per value of a param.
METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
PARAM_LENGTH = 6000


@dataclass
class TrialRun:
    """A trial's run in MLflow: the last logged step of each metric, and the names of its params."""

    id: str
    steps: dict[str, int] = field(default_factory=dict)
    params: frozenset[str] = frozenset()
    new: bool = False


class TrialRuns:
    """`complete` are ids of trials with a complete run under today's keys; the caller that completes a run adds its
    trial. With `fresh`, no existing run counts.

    Used from one thread at a time: first the driver's, then the outbox's.
    """

    def __init__(self, sweep: SweepRun, trials: Sequence[Trial], fresh: bool) -> None:
        self._sweep, self._client = sweep, sweep.client
        self._runs: dict[str, TrialRun] = {}
        # Trials with a failed write. It is not known which part of the write has arrived.
        self._doubtful: set[str] = set()
        self._made_by = made_by()
        self.complete: set[str] = set()
        self._find({trial.id: trial for trial in trials}, fresh)

    def write(self, trial: Trial, write: Callable[[TrialRun], None]) -> None:
        """Call `write` with the trial's run. After an error, the run is looked up again before the next write."""
        try:
            write(self._of(trial))
        except Exception:
            self._doubtful.add(trial.id)
            raise

    def _of(self, trial: Trial) -> TrialRun:
        """The trial's run. It is looked up again after a failed write, and made if there is none."""
        if trial.id in self._doubtful:
            self._runs.pop(trial.id, None)
            for run in self._sweep.search(names.OF_TRIAL, f" and {where({names.TRIAL: trial.id})}")[:1]:
                self._runs[trial.id] = self._left(run)
            self._doubtful.discard(trial.id)
        if trial.id not in self._runs:
            tags = {
                names.RUN_NAME: trial.title,
                names.PARENT: self._sweep.id,
                **self._sweep.common_tags(names.OF_TRIAL),
                names.VARIANT: trial.variant,
                names.SEED: str(trial.config.seed),
                names.TRIAL: trial.id,
                names.KEY: trial.keys[-1],
                **measured_by(trial),
                **self._made_by,
                names.PLATFORM: platform_of(trial.config.train.device),
            }
            run_id = self._client.create_run(self._sweep.experiment, tags=tags).info.run_id
            self._runs[trial.id] = TrialRun(run_id, new=True)
        return self._runs[trial.id]

    def start(self, run: TrialRun, trial: Trial) -> None:
        """Set the run RUNNING, log its params, and remove the failure of an earlier attempt."""
        if not run.new:
            self._client.update_run(run.id, status="RUNNING")
            if names.FAILURE in self._client.get_run(run.id).data.tags:
                self._client.delete_tag(run.id, names.FAILURE)
        params = [Param(name, _text(value)) for name, value in trial.config.flat().items() if name not in run.params]
        for start in range(0, len(params), PARAMS_PER_BATCH):
            self._client.log_batch(run.id, params=params[start : start + PARAMS_PER_BATCH])
        run.params |= {param.key for param in params}

    def log(self, run: TrialRun, values: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Log metrics by step, in order, in one batch. Steps that the run already has are left out."""
        now = int(time.time() * 1000)
        points = [
            Metric(name, value, now, step)
            for step, metrics in values
            for name, value in metrics.items()
            if step > run.steps.get(name, 0)
        ]
        for start in range(0, len(points), METRICS_PER_BATCH):
            self._client.log_batch(run.id, metrics=points[start : start + METRICS_PER_BATCH])
        run.steps |= {point.key: point.step for point in points}

    def log_file(self, run: TrialRun, name: str, content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(content)
            self._client.log_artifact(run.id, str(path))

    def kill_open(self) -> None:
        """Set runs that are still RUNNING to KILLED."""
        for trial, run in self._runs.items():
            if trial not in self.complete and self._client.get_run(run.id).info.status == "RUNNING":
                self._client.set_terminated(run.id, status="KILLED")

    def _find(self, trials: Mapping[str, Trial], fresh: bool) -> None:
        for run in self._sweep.search(names.OF_TRIAL):
            trial, run_id, tags = run.data.tags[names.TRIAL], run.info.run_id, run.data.tags
            known = trial in self._runs or trial in self.complete
            current = trial in trials and tags[names.KEY] == trials[trial].keys[-1]
            # Runs from before tags of diagnostics lack these tags. A missing tag does not mean other code.
            current = current and all(tags.get(n, text) == text for n, text in measured_by(trials[trial]).items())
            if fresh or known or not current:
                # Other code or another platform made it. Keep it for people to read, but not as this sweep's result.
                self._client.set_tag(run_id, names.KIND, names.SUPERSEDED)
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run_id, status="KILLED")
            elif run.info.status == "FINISHED" or names.STOPPED in tags:
                self.complete.add(trial)
            else:
                self._runs[trial] = self._left(run)

    def _left(self, run: Run) -> TrialRun:
        """The state in which an earlier driver left a trial's run."""
        id = run.info.run_id
        steps = {
            name: max(point.step for point in self._client.get_metric_history(id, name)) for name in run.data.metrics
        }
        return TrialRun(id, steps, frozenset(run.data.params))


def _text(value: Any) -> str:
    return names.NULL if value is None else str(value)[:PARAM_LENGTH]
