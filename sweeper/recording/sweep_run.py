"""The run of a sweep in MLflow, the parent of its trials' runs: its lease, its resolved space, what it cost.

While a driver lives it holds the sweep's lease, and no other driver writes to the sweep's runs.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from analysis.record import names
from analysis.record.client import search, sqlite_path, tracking_uri

from ..spaces.space import Space
from ..spaces.trial import Trial
from .lease import Lease, wait_for
from .provenance import environment
from .runs import query


class SweepRun:
    """Finds the sweep's run or makes one, and takes its lease. `client` writes to MLflow at `uri`, in the `experiment`
    of the space; `id` is the id of the run.

    Raises `TakenError` if another living driver runs the sweep. `say` gets messages for people.
    """

    def __init__(self, space: Space, uri: str | None, say: Callable[[str], None]) -> None:
        self._space = space
        self.uri = tracking_uri(uri)
        path = sqlite_path(self.uri)
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.client = MlflowClient(tracking_uri=self.uri)
        self.experiment = self._experiment_id()
        self.id = self._open(say)
        self._cost_before = self._cost()

    def search(self, kind: str, also: str = "") -> list[Run]:
        """The sweep's runs of a kind, `sweep` or `trial`, the oldest first; `also` is a further condition."""
        return search(self.client, [self.experiment], query(self._space, kind) + also)

    def common_tags(self, kind: str) -> dict[str, str]:
        return {
            names.KIND: kind,
            names.SPACE: self._space.name,
            names.SWEEP: self._space.sweep,
            names.PROFILE: self._space.profile,
        }

    def lease(self) -> Lease | None:
        return Lease.read(self.client.get_run(self.id).data.tags.get(names.LEASE))

    def take(self, lease: Lease) -> None:
        self.client.set_tag(self.id, names.LEASE, lease.text())

    def log_space(self, trials: Sequence[Trial]) -> None:
        """Write the resolved space; `trials` are those that are known so far."""
        resolved = dataclasses.replace(self._space, trials=tuple(trials)).resolved()
        self.client.log_text(self.id, json.dumps(resolved, indent=1, ensure_ascii=False), names.SPACE_FILE)

    def close(self, status: str, cost: Mapping[str, float]) -> None:
        """End the run and give the lease back. `cost` is added to the costs that earlier drivers have recorded."""
        before = self._cost_before
        total = {name: before[name] + value for name, value in cost.items() if name in before}
        self.client.log_text(self.id, json.dumps(total), names.COST)
        self.client.set_terminated(self.id, status=status)
        if names.LEASE in self.client.get_run(self.id).data.tags:
            self.client.delete_tag(self.id, names.LEASE)

    def _experiment_id(self) -> str:
        experiment = self.client.get_experiment_by_name(self._space.name)
        if experiment is not None:
            return experiment.experiment_id
        path = sqlite_path(self.uri)
        artifacts = (path.parent / "artifacts" / self._space.name).as_uri() if path else None
        # With this kind, MLflow's pages open on runs and metrics, not on traces.
        tags = {names.EXPERIMENT_KIND: "custom_model_development"}
        try:
            return self.client.create_experiment(self._space.name, artifact_location=artifacts, tags=tags)
        except MlflowException:  # another driver has just made it
            experiment = self.client.get_experiment_by_name(self._space.name)
            if experiment is None:
                raise
            return experiment.experiment_id

    def _open(self, say: Callable[[str], None]) -> str:
        runs = self.search(names.OF_SWEEP)
        if runs:
            self.id = runs[0].info.run_id
            wait_for(self.lease, say)
            self.take(Lease.mine())
            self.client.set_tag(self.id, names.DESCRIPTION, self._space.title)
            self.client.update_run(self.id, status="RUNNING")
        else:
            tags = {
                names.RUN_NAME: f"{self._space.name} ({self._space.profile})",
                names.DESCRIPTION: self._space.title,
                **self.common_tags(names.OF_SWEEP),
                names.LEASE: Lease.mine().text(),
            }
            self.id = self.client.create_run(self.experiment, tags=tags).info.run_id
            first = self.search(names.OF_SWEEP)[0].info.run_id
            if first != self.id:  # another driver has made its run at the same moment, a little earlier
                self.client.delete_run(self.id)
                self.id = first
                wait_for(self.lease, say)
        # Write these for an existing run too: they may be missing after a kill, or the space's names may have changed.
        self.log_space(self._space.trials)
        self.client.log_text(self.id, json.dumps(environment(), indent=1), names.ENVIRONMENT)
        return self.id

    def _cost(self) -> dict[str, float]:
        """The costs that earlier drivers have recorded. A driver that was killed has recorded none, and early versions
        did not record GPUs."""
        if names.COST not in (file.path for file in self.client.list_artifacts(self.id)):
            return {"epochs_trained": 0, "seconds": 0.0, "gpu_seconds": 0.0}
        with tempfile.TemporaryDirectory() as folder:
            return json.loads(Path(self.client.download_artifacts(self.id, names.COST, folder)).read_text("utf-8"))
