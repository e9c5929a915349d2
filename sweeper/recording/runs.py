"""Reading runs of MLflow: which runs a sweep has, and what is recorded in them. Nothing here writes."""

from __future__ import annotations

import contextlib
import logging
import os
from dataclasses import dataclass

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from analysis.record import names
from analysis.record.client import reader, search, tracking_uri, where

from ..errors import UserError
from ..spaces.space import Space

# The client does not retry by itself, because it cannot know if the first attempt of a write has arrived.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
# Switch off progress bars for artifacts (stderr) and links to runs that end (stdout).
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
for _name in ("alembic", "mlflow"):
    logging.getLogger(_name).setLevel(logging.ERROR)
# Switch off tracebacks for a full or locked database: the exception has them as well.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)


class UnknownTrialError(UserError):
    """There is no such finished trial."""


def find_run(trial: str, uri: str | None = None) -> Run:
    """The latest finished run of a trial, by the trial's id or the run's. Raises `UnknownTrialError`."""
    uri = tracking_uri(uri)
    client = reader(uri)
    wanted = f"{where({names.KIND: names.OF_TRIAL, names.TRIAL: trial})} and attributes.status = 'FINISHED'"
    everywhere = [experiment.experiment_id for experiment in client.search_experiments()] if client else []
    runs = search(client, everywhere, wanted) if client and trial.isalnum() else []
    if client and not runs:
        with contextlib.suppress(MlflowException):
            runs = [run for run in [client.get_run(trial)] if names.TRIAL in run.data.tags]
    if not runs or names.SELECTED not in runs[-1].data.metrics:
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
    """The finished trials of a space, by id. With `histories`, there is a query for each metric of each run; without,
    the histories are empty."""
    client = reader(tracking_uri(uri))
    experiment = client.get_experiment_by_name(space.name) if client else None
    if client is None or experiment is None:
        return {}
    found = {}
    for run in search(client, [experiment.experiment_id], query(space, names.OF_TRIAL)):
        metrics, stopped = run.data.metrics, run.data.tags.get(names.STOPPED)
        if run.info.status != "FINISHED" and stopped is None:
            continue
        history: list[dict[str, float]] = []
        for name in (name for name in metrics if histories and name.startswith(names.EPOCH)):
            for point in client.get_metric_history(run.info.run_id, name):
                history += [{} for _ in range(point.step - len(history))]
                history[point.step - 1][name.removeprefix(names.EPOCH)] = point.value
        found[run.data.tags[names.TRIAL]] = Recorded(
            run.data.tags[names.KEY], history, names.without_histories(metrics), int(stopped) if stopped else None
        )
    return found


def has_begun(space: Space, uri: str | None = None) -> bool:
    """Whether there is a run of this sweep, with any status."""
    client = reader(tracking_uri(uri))
    experiment = client.get_experiment_by_name(space.name) if client else None
    return bool(client and experiment and search(client, [experiment.experiment_id], query(space, names.OF_SWEEP)))


def query(space: Space, kind: str) -> str:
    return where({names.SWEEP: space.sweep, names.KIND: kind})
