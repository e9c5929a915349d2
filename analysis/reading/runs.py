"""Reads runs from MLflow, in a few queries for any number of runs.

It creates no database and writes no run. `analysis.reading.records` knows what the runs mean.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Select

# MLflow reads this at import. With its default of seven retries, a wrong address would take four minutes to fail.
for _name, _value in {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}.items():
    os.environ.setdefault(_name, _value)

from mlflow import MlflowClient  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.utils.rest_utils import http_request  # noqa: E402

from analysis.record import client as record  # noqa: E402
from analysis.record.names import KIND, OF_SWEEP, OF_TRIAL, SWEEP  # noqa: E402

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

# The largest number of runs and of points for which a server returns histories at once.
_RUNS_AT_ONCE, _POINTS_AT_ONCE = 100, 25_000
_HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"


class RecordError(ValueError):
    """The record does not have what was asked for. The message says what it has, or what to do."""


@dataclass(frozen=True)
class Run:
    """A run: `status` as MLflow's, `started` and `ended` (None: it has not) in milliseconds since 1970, tags and params
    as text, and the last value of each metric."""

    run_id: str
    status: str
    started: int
    ended: int | None
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


def resolve(tracking_uri: str | None) -> str:
    """Like `record.tracking_uri`. Raises `RecordError` if this is a database file that does not exist."""
    uri = record.tracking_uri(tracking_uri)
    file = record.sqlite_path(uri)
    if file and not file.exists():  # MLflow would create an empty database and report no experiments
        raise RecordError(
            f"there is no MLflow database at {file}; run a sweep first (python -m sweeper run search_spaces/NAME.yaml),"
            " or give the address of its record (--tracking-uri or MLFLOW_TRACKING_URI)"
        )
    return uri


@contextlib.contextmanager
def answering(uri: str) -> Iterator[None]:
    """Turn an error that MLflow raises in the block into a `RecordError`."""
    try:
        yield
    except MlflowException as error:
        raise RecordError(f"MLflow at {uri} does not answer as it should: {error}") from error


def sweeps(client: MlflowClient, experiments: Sequence[str] | None = None) -> list[Run]:
    """The parent runs of sweeps, in these experiments or in all, the newest first."""
    if experiments is None:
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return search(client, experiments, record.where({KIND: OF_SWEEP}))


def trials(client: MlflowClient, experiment: str, sweep: str) -> list[Run]:
    """The runs of a sweep's trials, without those that later code has superseded, the newest first."""
    tags = {KIND: OF_TRIAL, SWEEP: sweep}
    store = client._tracking_client.store
    if hasattr(store, "ManagedSessionMaker"):
        with contextlib.suppress(AttributeError, ImportError):  # another version of MLflow
            return _of_tables(store, experiment, tags)
    return search(client, [experiment], record.where(tags))


def search(client: MlflowClient, experiments: Sequence[str], where: str) -> list[Run]:
    """All runs that MLflow's search finds, the newest first."""
    with _uncollected():
        found = record.search(client, experiments, where, newest_first=True)
    return [
        Run(info.run_id, info.status, info.start_time, info.end_time, data.tags, data.params, data.metrics)
        for info, data in ((run.info, run.data) for run in found)
    ]


def points(client: MlflowClient, runs: Sequence[str], metric: str) -> list[tuple[str, int, float]]:
    """Run, step and value of every point of a metric in these runs."""
    return [
        point
        for start in range(0, len(runs), _RUNS_AT_ONCE)
        for point in _points(client, runs[start : start + _RUNS_AT_ONCE], metric)
    ]


def artifact(client: MlflowClient, run_id: str, name: str) -> bytes | None:
    """The content of one of a run's artifacts; None if it has no such file."""
    if name not in (file.path for file in client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_bytes()


def _of_tables(store: Any, experiment: str, tags: Mapping[str, str]) -> list[Run]:
    """Like `search`, but reads the tables of MLflow's database directly.

    This is faster: MLflow's search makes an object of each of the 140 values of a run (seconds for a thousand runs).
    """
    from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlParam, SqlRun, SqlTag
    from sqlalchemy import and_, select

    chosen: Select = select(SqlRun.run_uuid)
    chosen = chosen.where(SqlRun.experiment_id == int(experiment), SqlRun.lifecycle_stage == "active")
    for tag, value in tags.items():
        chosen = chosen.where(SqlRun.tags.any(and_(SqlTag.key == tag, SqlTag.value == value)))
    infos: Select = select(SqlRun.run_uuid, SqlRun.status, SqlRun.start_time, SqlRun.end_time)
    infos = infos.where(SqlRun.run_uuid.in_(chosen)).order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)
    entries = [
        select(table.run_uuid, table.key, table.value).where(table.run_uuid.in_(chosen))
        for table in (SqlTag, SqlParam, SqlLatestMetric)
    ]
    # The database stores another value instead of NaN.
    none = select(SqlLatestMetric.run_uuid, SqlLatestMetric.key).where(SqlLatestMetric.is_nan)
    none = none.where(SqlLatestMetric.run_uuid.in_(chosen))
    found: list[dict[str, dict[str, Any]]] = []
    with _uncollected(), store.ManagedSessionMaker() as session:
        listed = session.execute(infos).all()
        for statement in entries:
            values: dict[str, dict[str, Any]] = defaultdict(dict)
            for run, key, value in session.execute(statement):
                values[run][key] = value
            found.append(values)
        for run, key in session.execute(none):
            found[-1][run][key] = float("nan")
    # A run that was superseded between the two queries has no tags in the second.
    return [Run(*one, *(values[one[0]] for values in found)) for one in listed if one[0] in found[0]]


def _points(client: MlflowClient, runs: Sequence[str], metric: str) -> list[tuple[str, int, float]]:
    """`points` of a few runs.

    MLflow's client can ask for one run at a time only. Its database store takes many runs at once, and so does the
    address that a server's own pages use. If neither works, the runs are read one at a time.
    """
    store = client._tracking_client.store
    found = None
    with _uncollected(), contextlib.suppress(AttributeError, MlflowException, ValueError, KeyError):
        if hasattr(store, "get_metric_history_bulk"):
            found = [point.to_dict() for point in store.get_metric_history_bulk(list(runs), metric, _POINTS_AT_ONCE)]
        else:
            asked = {"run_id": runs, "metric_key": metric, "max_results": _POINTS_AT_ONCE}
            answer = http_request(store.get_host_creds(), _HISTORIES, "GET", params=asked)
            found = answer.json()["metrics"]
    if found is None or len(found) == _POINTS_AT_ONCE:  # perhaps not all points
        return [(run, point.step, point.value) for run in runs for point in client.get_metric_history(run, metric)]
    return [(point["run_id"], int(point["step"]), float(point["value"])) for point in found]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Switch garbage collection off, because a query makes so many objects that it would take longer than the query."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
