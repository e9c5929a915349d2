"""The record in MLflow: a parent run per sweep, a child run per trial. Written by the driver alone.

A run is looked up by (sweep, trial) before one is created, and what it has is not logged again, so that running the
same command twice leaves one complete run per trial, wherever the first was killed. While a driver lives it holds the
sweep's lease, and no other driver writes to its runs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import platform
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run
from mlflow.exceptions import MlflowException

from .lease import HEARTBEAT_SECONDS, Lease, wait_for
from .search import SECONDS, SELECTED
from .space import HISTORY, KNOWN_LABELS, Space, Trial

# MLflow's limits per batch, and per value of a param.
METRICS_PER_BATCH = 1000
PARAMS_PER_BATCH = 100
PARAM_LENGTH = 6000

LEASE = "sweeper.lease"
STOPPED = "sweeper.stopped"
COST = "cost.json"  # artifact of the sweep's run
_DESCRIPTION = "mlflow.note.content"  # what MLflow shows of a run

# Said of all epochs up to the last, whichever is selected.
WHOLE = ("memorization/", SECONDS)

for _name in ("alembic", "mlflow"):
    logging.getLogger(_name).setLevel(logging.ERROR)


def tracking_uri(given: str | None = None) -> str:
    """`given`, or MLFLOW_TRACKING_URI, or the database in ./runs."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('runs/mlflow.db').absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite store; None for any other."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


@dataclass
class _Child:
    """A trial's run: the last step that each of its metrics has, and the names of its params."""

    run_id: str
    steps: dict[str, int] = field(default_factory=dict)
    params: frozenset[str] = frozenset()
    history: list[Mapping[str, float]] = field(default_factory=list)


class Tracker:
    """One sweep's runs. Not safe to use from several threads.

    Raises `TakenError` where a living driver runs the sweep. `fresh` supersedes the runs that there are; `say` gets
    messages for people.
    """

    def __init__(
        self,
        space: Space,
        keys: Mapping[str, Sequence[str]],
        uri: str | None = None,
        *,
        fresh: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ):
        self.space, self.keys = space, keys
        self.uri = tracking_uri(uri)
        path = sqlite_path(self.uri)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._client = MlflowClient(tracking_uri=self.uri)
        self._experiment = self._experiment_id()
        self._children: dict[str, _Child] = {}
        self._finished: set[str] = set()
        self._made_by = _made_by()
        self.parent = self._open_parent(say)
        self._closing = threading.Event()
        self._lost = False
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()
        self._find_children(fresh)

    @property
    def finished(self) -> frozenset[str]:
        """Trials with a complete run under today's keys: there is nothing left to do for them."""
        return frozenset(self._finished)

    def grow(self, trials: Sequence[Trial]) -> None:
        """A search has come to these trials as well: they are expected from now on."""
        self.space = dataclasses.replace(self.space, trials=(*self.space.trials, *trials))
        self._log_space()

    def start(self, trial: Trial) -> None:
        """The trial's run exists and is RUNNING, with its tags and params."""
        child = self._children.get(trial.id)
        if child is not None:
            self._client.update_run(child.run_id, status="RUNNING")
            if "sweeper.failure" in self._client.get_run(child.run_id).data.tags:
                self._client.delete_tag(child.run_id, "sweeper.failure")
        else:
            tags = {
                "mlflow.runName": trial.title,
                "mlflow.parentRunId": self.parent,
                **self._common_tags("trial"),
                "sweeper.variant": trial.variant,
                "sweeper.seed": str(trial.config.seed),
                "sweeper.trial": trial.id,
                "sweeper.key": self.keys[trial.id][-1],
                **_measured_by(trial),
                **self._made_by,
            }
            child = _Child(self._client.create_run(self._experiment, tags=tags).info.run_id)
            self._children[trial.id] = child
        params = [Param(name, _text(v)) for name, v in trial.config.flat().items() if name not in child.params]
        for start in range(0, len(params), PARAMS_PER_BATCH):
            self._client.log_batch(child.run_id, params=params[start : start + PARAMS_PER_BATCH])
        child.params |= {param.key for param in params}

    def report(self, trial: Trial, epochs: Mapping[int, Mapping[str, float]]) -> None:
        """Metrics by epoch, in order. What the run has already is not logged again."""
        child = self._children[trial.id]
        self._log(child, self._history(child, epochs))

    def finish(
        self, trial: Trial, epochs: Mapping[int, Mapping[str, float]], artifacts: Mapping[str, bytes] | None = None
    ) -> int:
        """The last epochs, the values of the selected one as single points, and FINISHED. Returns the selected."""
        child = self._children[trial.id]
        points = self._history(child, epochs)
        epoch = self.space.select.choose(child.history)
        chosen = {name: value for name, value in child.history[epoch - 1].items() if _is_result(name)}
        chosen |= {name: value for name, value in child.history[-1].items() if name.startswith(WHOLE)}
        for name, content in (artifacts or {}).items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, name)
                path.write_bytes(content)
                self._client.log_artifact(child.run_id, str(path))
        self._log(child, [*points, (epoch, {**chosen, SELECTED: epoch})])
        self._client.set_terminated(child.run_id, status="FINISHED")
        self._finished.add(trial.id)
        return epoch

    def stop(self, trial: Trial) -> int:
        """KILLED, by a rule for which it was not good enough: what it had at its best up to there, and a tag with the
        epoch after which it was stopped, which is returned."""
        child = self._children[trial.id]
        chosen = {name: value for name, value in self.selected(trial).items() if _is_result(name)}
        last = len(child.history)
        self._log(child, [(self.space.select.choose(child.history), chosen)])
        self._client.set_tag(child.run_id, STOPPED, str(last))
        self._client.set_terminated(child.run_id, status="KILLED")
        self._finished.add(trial.id)
        return last

    def _history(self, child: _Child, epochs: Mapping[int, Mapping[str, float]]) -> list[tuple[int, dict[str, float]]]:
        for epoch, metrics in epochs.items():
            if epoch == len(child.history) + 1:
                child.history.append(metrics)
        return [
            (epoch, {f"epoch/{name}": value for name, value in metrics.items() if _in_history(name)})
            for epoch, metrics in epochs.items()
        ]

    def selected(self, trial: Trial) -> Mapping[str, float]:
        """The metrics of the epoch that the space's rule selects, which epoch that is, and what is of them all."""
        history = self._children[trial.id].history
        epoch = self.space.select.choose(history)
        whole = {name: value for name, value in history[-1].items() if name.startswith(WHOLE)}
        return {**history[epoch - 1], **whole, SELECTED: epoch}

    def fail(self, trial: Trial, reason: str, trace: str = "") -> None:
        """FAILED, with the reason as a tag and the traceback as an artifact."""
        if trial.id not in self._children:
            self.start(trial)
        run_id = self._children[trial.id].run_id
        self._client.set_tag(run_id, "sweeper.failure", reason[:PARAM_LENGTH])
        if trace:
            self._client.log_text(run_id, trace, "traceback.txt")
        self._client.set_terminated(run_id, status="FAILED")

    def close(self, status: str, epochs_trained: int = 0, seconds: float = 0.0) -> None:
        """End the sweep's run, and as KILLED every trial's run that is still open; give the lease back.

        What this driver's trials cost is added to what is recorded of the sweep's: epochs trained, and seconds in which
        a trial was at work, be it training, reading the store or loading data.
        """
        self._closing.set()
        self._heart.join()
        if self._lost:
            return  # another driver's by now
        for trial_id, child in self._children.items():
            if trial_id not in self._finished and self._client.get_run(child.run_id).info.status == "RUNNING":
                self._client.set_terminated(child.run_id, status="KILLED")
        before = self._cost()
        cost = {"epochs_trained": before["epochs_trained"] + epochs_trained, "seconds": before["seconds"] + seconds}
        self._client.log_text(self.parent, json.dumps(cost), COST)
        self._client.set_terminated(self.parent, status=status)
        self._client.delete_tag(self.parent, LEASE)

    def _cost(self) -> dict[str, float]:
        """What the drivers before this one have recorded; one that was killed has recorded none."""
        if COST not in (file.path for file in self._client.list_artifacts(self.parent)):
            return {"epochs_trained": 0, "seconds": 0.0}
        with tempfile.TemporaryDirectory() as folder:
            return json.loads(Path(self._client.download_artifacts(self.parent, COST, folder)).read_text("utf-8"))

    def _log(self, child: _Child, values: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        """Metrics by step, in order, in one batch; what the run has already is left out."""
        now = int(time.time() * 1000)
        points = [
            Metric(name, value, now, step)
            for step, metrics in values
            for name, value in metrics.items()
            if step > child.steps.get(name, 0)
        ]
        for start in range(0, len(points), METRICS_PER_BATCH):
            self._client.log_batch(child.run_id, metrics=points[start : start + METRICS_PER_BATCH])
        child.steps |= {point.key: point.step for point in points}

    # The lease

    def _lease(self) -> Lease | None:
        return Lease.read(self._client.get_run(self.parent).data.tags.get(LEASE))

    def _beat(self) -> None:
        """Renew the lease until the end. Should another driver have taken it, stop as on Ctrl-C."""
        while not self._closing.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(MlflowException):  # the next beat may get through
                if not Lease.mine().same_driver(self._lease()):
                    self._lost = True
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
        resolved = json.dumps(self.space.resolved(), indent=1, ensure_ascii=False)
        self._client.log_text(self.parent, resolved, "space.json")

    def _find_children(self, fresh: bool) -> None:
        measured_by = {trial.id: _measured_by(trial) for trial in self.space.trials}
        for run in self._search("trial"):
            trial, run_id, tags = run.data.tags["sweeper.trial"], run.info.run_id, run.data.tags
            known = trial in self._children or trial in self._finished
            current = trial in self.keys and tags["sweeper.key"] == self.keys[trial][-1]
            # A run of before there were tags of diagnostics has none, and is not of other code for that.
            current = current and all(tags.get(name, text) == text for name, text in measured_by[trial].items())
            if fresh or known or not current:
                # Made by other code or on another platform: kept to look at, no longer this sweep's result.
                self._client.set_tag(run_id, "sweeper.kind", "superseded")
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run_id, status="KILLED")
            elif run.info.status == "FINISHED" or STOPPED in tags:
                self._finished.add(trial)
            else:
                self._children[trial] = self._left(run)

    def _left(self, run: Run) -> _Child:
        """What a driver left of a trial's run."""
        id = run.info.run_id
        steps = {
            name: max(point.step for point in self._client.get_metric_history(id, name)) for name in run.data.metrics
        }
        return _Child(id, steps, frozenset(run.data.params))

    def _search(self, kind: str) -> list[Run]:
        return _search(self._client, [self._experiment], _query(self.space, kind))

    def _common_tags(self, kind: str) -> dict[str, str]:
        return {
            "sweeper.kind": kind,
            "sweeper.space": self.space.name,
            "sweeper.sweep": self.space.sweep,
            "sweeper.profile": self.space.profile,
        }


def _measured_by(trial: Trial) -> dict[str, str]:
    """Tags that name what a trial's run was measured by, in code and settings."""
    records = trial.config.records()
    tags = {"sweeper.metrics": records.metrics}
    if records.diagnostics:
        tags["sweeper.diagnostics"] = " ".join(record for _, record in records.diagnostics)
    return tags


def _made_by() -> dict[str, str]:
    """Tags of every trial's run that say what made it: `sweeper.code`, a hash of the modules that act in all trials,
    `sweeper.platform` and `sweeper.commit`. A table refuses to mix runs that differ in the first two."""
    from methods.config import LOOP
    from methods.keys import digest, fingerprint
    from methods.platforms import identity

    tags = {
        "sweeper.code": digest({name: fingerprint(name) for name in (*LOOP, "methods.metrics")})[:16],
        "sweeper.platform": ", ".join(f"{name} {value}" for name, value in identity().items()),
    }
    commit = _commit()
    return tags | {"sweeper.commit": commit} if commit else tags


class UnknownTrialError(ValueError):
    """There is no such finished trial."""


def find_run(trial: str, uri: str | None = None) -> Run:
    """The latest finished run of a trial, by the trial's id or the run's. Raises `UnknownTrialError`."""
    uri = tracking_uri(uri)
    client = _reader(uri)
    query = f"tags.`sweeper.kind` = 'trial' and tags.`sweeper.trial` = '{trial}' and attributes.status = 'FINISHED'"
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()] if client else []
    runs = _search(client, everywhere, query) if client and trial.isalnum() else []
    if client and not runs:
        with contextlib.suppress(MlflowException):
            runs = [run for run in [client.get_run(trial)] if "sweeper.trial" in run.data.tags]
    if not runs or "selected_epoch" not in runs[-1].data.metrics:
        raise UnknownTrialError(
            f"{trial!r}: {uri} has no finished trial or run of this id; a run's page in `sweeper ui` shows both"
        )
    return runs[-1]


@dataclass(frozen=True)
class Recorded:
    """A finished trial's record: its last key, the kept metrics of each epoch, all metrics of the selected one, and the
    epoch after which a rule stopped it, if one did."""

    key: str
    history: list[dict[str, float]]
    results: dict[str, float]
    stopped: int | None = None


def recorded(space: Space, uri: str | None = None, *, histories: bool = True) -> dict[str, Recorded]:
    """The finished trials of a space, by id; without `histories`, which take a query for each metric of each run, these
    are empty."""
    client = _reader(tracking_uri(uri))
    experiment = client.get_experiment_by_name(space.name) if client else None
    if client is None or experiment is None:
        return {}
    found = {}
    for run in _search(client, [experiment.experiment_id], _query(space, "trial")):
        metrics, stopped = run.data.metrics, run.data.tags.get(STOPPED)
        if run.info.status != "FINISHED" and stopped is None:
            continue
        history: list[dict[str, float]] = []
        for name in (name for name in metrics if histories and name.startswith("epoch/")):
            for point in client.get_metric_history(run.info.run_id, name):
                history += [{} for _ in range(point.step - len(history))]
                history[point.step - 1][name.removeprefix("epoch/")] = point.value
        results = {name: value for name, value in metrics.items() if not name.startswith("epoch/")}
        found[run.data.tags["sweeper.trial"]] = Recorded(
            run.data.tags["sweeper.key"], history, results, int(stopped) if stopped else None
        )
    return found


def has_begun(space: Space, uri: str | None = None) -> bool:
    """Whether there is a run of this sweep, whatever became of it."""
    client = _reader(tracking_uri(uri))
    experiment = client.get_experiment_by_name(space.name) if client else None
    return bool(client and experiment and _search(client, [experiment.experiment_id], _query(space, "sweep")))


def _query(space: Space, kind: str) -> str:
    return f"tags.`sweeper.sweep` = '{space.sweep}' and tags.`sweeper.kind` = '{kind}'"


def _reader(uri: str) -> MlflowClient | None:
    """A client to read with; None where that would make a new, empty database."""
    path = sqlite_path(uri)
    return None if path and not path.exists() else MlflowClient(tracking_uri=uri)


def _search(client: MlflowClient, experiments: list[str], query: str) -> list[Run]:
    """All runs, the oldest first."""
    runs: list[Run] = []
    token = None
    while True:
        order = ["attributes.start_time ASC"]
        page = client.search_runs(experiments, query, max_results=1000, order_by=order, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs


def environment() -> dict[str, Any]:
    """What results may depend on: versions, commit, machine."""
    from methods.platforms import default_device, identity

    packages = ("ray", "mlflow", "optuna", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas")
    return {
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in packages},
        "platform": identity(default_device()),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "name": platform.node()},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this code, marked where it has been changed; None outside a checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _in_history(name: str) -> bool:
    kind, _, metric = name.partition("/")
    return (kind not in ("val", "test") or metric in HISTORY) and name not in (KNOWN_LABELS, SECONDS)


def _is_result(name: str) -> bool:
    return not name.startswith("train/") or name == KNOWN_LABELS


def _text(value: Any) -> str:
    return "null" if value is None else str(value)[:PARAM_LENGTH]
