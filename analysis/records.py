"""What a sweep left in MLflow, as a tidy frame with one row per trial.

The parent run says what was expected (`space.json`), its children say what came. A trial that was expected and left no
run is a row with status MISSING, so that nothing downstream can average over a hole without seeing it. This module only
reads: it creates no database and writes no run.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import gc
import json
import logging
import math
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read by MLflow when it is imported. Its seven retries keep a mistyped address waiting for four minutes.
for _name, _value in {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}.items():
    os.environ.setdefault(_name, _value)

import pandas as pd  # noqa: E402
from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Experiment, Run  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from mlflow.utils.rest_utils import http_request  # noqa: E402

from analysis import mixing  # noqa: E402

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

_PAGE = 50_000  # the most runs MLflow returns at once
# The most runs that a server tells the histories of at once, and the most points.
_RUNS_AT_ONCE, _POINTS_AT_ONCE = 100, 25_000
_HISTORIES = "/ajax-api/2.0/mlflow/metrics/get-history-bulk"
SMOKE = "smoke"
VERSIONS = ("key", "code", "platform", "commit")


class RecordError(ValueError):
    """The record does not hold what was asked for; the message says what it does hold, or what to do."""


@dataclass(frozen=True)
class Record:
    """One sweep.

    `trials` has the columns trial, variant, seed, one per axis (a variant without the axis has no value there), status,
    run_id, failure, seconds (from the run's start to its end), and one per metric: the single point at the selected
    epoch, as logged (measures are in percent). Status is MLflow's (FINISHED, FAILED, RUNNING, KILLED, SCHEDULED) or
    MISSING. `params` has a row per trial with a run, indexed by trial, and every setting as text; what was logged as
    "null" has no value. `versions`, in the same way, has what made the run: `key` (its last state key), `code`,
    `platform` and `commit`, where they were recorded. `mixed` says in which settings or versions its runs differ that
    should not, though this was allowed.
    """

    space: dict[str, Any]
    sweep: str
    axes: tuple[str, ...]
    trials: pd.DataFrame
    params: pd.DataFrame
    versions: pd.DataFrame
    client: MlflowClient = field(repr=False)
    mixed: tuple[str, ...] = ()


def load(
    name: str,
    *,
    tracking_uri: str | None = None,
    sweep: str | None = None,
    profile: str | None = None,
    allow: Collection[str] = (),
) -> Record:
    """Read the newest sweep of space `name`, of `profile` if one is named, or the one whose hash starts with `sweep`.
    With neither, one of the profile smoke is only read where there is no other: a look at everything replaces nothing.

    Where no sweep's hash does, `sweep` may be the start of a commit: the sweep is read as it was when that commit had
    last run it, with the runs that later code has superseded. A sweep's age is its parent run's start; one that was
    resumed keeps its first. There are two queries (three for a commit), for the sweeps and for all trials of one,
    whatever their number. Raises `RecordError` where there is no such record, and where its runs cannot stand in one
    table because of a setting or version that is not in `allow` (see `analysis.mixing`).
    """
    uri = resolve(tracking_uri)
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise RecordError(_unknown(name, (e.name for e in client.search_experiments()), uri))
        parents = _of_profile(_runs(client, experiment, "tags.`sweeper.kind` = 'sweep'"), profile, sweep)
        of_commit = _of_commit(client, experiment, parents, sweep)
        parent = _pick(parents, name, of_commit[0].data.tags["sweeper.sweep"] if of_commit else sweep, uri, profile)
        space = _space(client, parent)
        sweep = parent.data.tags["sweeper.sweep"]
        kind = "!= 'sweep'" if of_commit else "= 'trial'"
        runs = _runs(client, experiment, f"tags.`sweeper.kind` {kind} and tags.`sweeper.sweep` = '{sweep}'")
        until = max((run.info.start_time for run in of_commit), default=math.inf)
        children = _one_run_per_trial([run for run in runs if run.info.start_time <= until])
    except MlflowException as error:
        raise RecordError(f"MLflow at {uri} does not answer as it should: {error}") from error

    axes = tuple(dict.fromkeys([*space.get("axes", {}), *(axis for t in space["trials"] for axis in t["axes"])]))
    trials = pd.DataFrame([_row(expected, axes, children.get(expected["trial"])) for expected in space["trials"]])
    in_order = [expected["trial"] for expected in space["trials"] if expected["trial"] in children]
    params = {trial: children[trial].data.params for trial in in_order}
    params = pd.DataFrame.from_dict(params, orient="index", dtype=object).replace("null", None)
    made_by = {t: {v: children[t].data.tags.get(f"sweeper.{v}") for v in VERSIONS} for t in in_order}
    versions = pd.DataFrame.from_dict(made_by, orient="index", columns=list(VERSIONS))
    mixed = mixing.differences(space, trials[["trial", "variant", *axes]], params, versions)
    _refuse_mixed(name, mixed, allow, [*params, *mixing.VERSIONS])
    return Record(space, sweep, axes, trials, params, versions, client, tuple(mixed.values()))


@functools.lru_cache(maxsize=10_000)
def logged_value(text: Any) -> Any:
    """The value of a param: as Python writes it where it is a truth value, else as JSON, else the text that it is."""
    if text in ("True", "False"):
        return text == "True"
    try:
        return json.loads(text)
    except (TypeError, ValueError):  # a name, or no value
        return text


def histories(record: Record, metric: str, trials: pd.DataFrame | None = None) -> pd.DataFrame:
    """The history of `metric` in every finished one of `trials` (default: all): trial, variant, seed, the axes, epoch
    (from 1), value."""
    finished = (record.trials if trials is None else trials).query("status == 'FINISHED'")
    identity = finished[["trial", "variant", "seed", *record.axes, "run_id"]]
    points = [
        point
        for start in range(0, len(finished), _RUNS_AT_ONCE)
        for point in _points(record.client, finished["run_id"].to_list()[start : start + _RUNS_AT_ONCE], metric)
    ]
    frame = pd.DataFrame(points, columns=["run_id", "epoch", "value"]).sort_values("epoch", kind="stable")
    return identity.merge(frame, on="run_id").drop(columns="run_id")


def _points(client: MlflowClient, runs: list[str], metric: str) -> list[tuple[str, int, float]]:
    """Run, step and value of every point of a metric in these runs.

    MLflow's client asks for one run at a time, a thousand queries for a thousand runs. Its store, and the address that
    a server's own pages read from, know of many; where neither answers, it is one run at a time.
    """
    store = client._tracking_client.store
    points = None
    with _uncollected(), contextlib.suppress(AttributeError, MlflowException, ValueError, KeyError):
        if hasattr(store, "get_metric_history_bulk"):
            points = [point.to_dict() for point in store.get_metric_history_bulk(runs, metric, _POINTS_AT_ONCE)]
        else:
            asked = {"run_id": runs, "metric_key": metric, "max_results": _POINTS_AT_ONCE}
            answer = http_request(store.get_host_creds(), _HISTORIES, "GET", params=asked)
            points = answer.json()["metrics"]
    if points is None or len(points) == _POINTS_AT_ONCE:  # perhaps cut off
        return [(run, point.step, point.value) for run in runs for point in client.get_metric_history(run, metric)]
    return [(point["run_id"], int(point["step"]), float(point["value"])) for point in points]


def artifact(record: Record, run_id: str, name: str) -> bytes | None:
    """The content of one of a run's artifacts; None where it has no such file."""
    if name not in (file.path for file in record.client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(record.client.download_artifacts(run_id, name, folder)).read_bytes()


def resolve(tracking_uri: str | None) -> str:
    """As given, else MLFLOW_TRACKING_URI, else the database in ./runs. Raises `RecordError` where that is no file."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('runs', 'mlflow.db').absolute()}"
    file = uri.removeprefix("sqlite:///").split("?")[0]
    if file != uri and not Path(file).exists():  # MLflow would create an empty database and report no experiments
        raise RecordError(
            f"there is no MLflow database at {file}; run a sweep first (python -m sweeper run search_spaces/NAME.yaml),"
            " or give the address of its record (--tracking-uri or MLFLOW_TRACKING_URI)"
        )
    return uri


def _unknown(name: str, recorded: Iterable[str], uri: str) -> str:
    known = sorted(set(recorded) - {"Default"})
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.75)
    hint = f"the nearest are {', '.join(near)}" if near else f"there are {', '.join(known) or 'none at all'}"
    return f"no sweep of {name!r} is recorded at {uri}; {hint}"


def _runs(client: MlflowClient, experiment: Experiment, where: str) -> list[Run]:
    """Newest first."""
    order, token = ["attributes.start_time DESC"], None
    runs: list[Run] = []
    while True:
        with _uncollected():
            page = client.search_runs(
                [experiment.experiment_id], where, max_results=_PAGE, order_by=order, page_token=token
            )
        runs += page
        token = page.token
        if not token:
            return runs


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection: MLflow makes 130 objects a run, and looking through them for waste takes longer than the
    query."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _of_profile(parents: list[Run], profile: str | None, sweep: str | None) -> list[Run]:
    profiles = [run.data.tags.get("sweeper.profile") for run in parents]  # compared here: names may have quotes
    if profile:
        return [run for run, of in zip(parents, profiles, strict=True) if of == profile]
    others = [run for run, of in zip(parents, profiles, strict=True) if of != SMOKE]
    return parents if sweep else others or parents


def _pick(parents: list[Run], name: str, prefix: str | None, uri: str, profile: str | None) -> Run:
    newest: dict[str, Run] = {}
    for run in parents:
        newest.setdefault(run.data.tags["sweeper.sweep"], run)
    if not newest:
        of_profile, option = (f" with profile {profile}", f" --profile {profile}") if profile else ("", "")
        command = f"python -m sweeper run search_spaces/{name}.yaml{option}"
        raise RecordError(f"no sweep of {name!r}{of_profile} is recorded at {uri}; run one: {command}")
    matching = [sweep for sweep in newest if sweep.startswith(prefix or "")]
    if not matching or (prefix and len(matching) > 1):
        fault = "several sweeps" if matching else "no sweep"
        listed = ", ".join(matching or newest)
        raise RecordError(f"{fault} of {name!r} has a hash that starts with {prefix!r}; newest first: {listed}")
    return newest[matching[0]]


def _of_commit(client: MlflowClient, experiment: Experiment, parents: list[Run], prefix: str | None) -> list[Run]:
    """The runs of a commit that starts so, of the sweep that it ran last; none where the text is that of a sweep."""
    sweeps = [run.data.tags["sweeper.sweep"] for run in parents]
    if not prefix or not prefix.isalnum() or any(sweep.startswith(prefix) for sweep in sweeps):
        return []
    runs = _runs(client, experiment, f"tags.`sweeper.commit` LIKE '{prefix}%'")
    last = next((run.data.tags["sweeper.sweep"] for run in runs if run.data.tags["sweeper.sweep"] in sweeps), None)
    return [run for run in runs if run.data.tags["sweeper.sweep"] == last]


def _space(client: MlflowClient, parent: Run) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        space = json.loads(Path(client.download_artifacts(parent.info.run_id, "space.json", folder)).read_text("utf-8"))
    if not space["trials"]:
        raise RecordError(
            f"sweep {parent.data.tags['sweeper.sweep']} of {space['name']!r} lists no trials in its space.json"
        )
    return space


def _one_run_per_trial(newest_first: list[Run]) -> dict[str, Run]:
    """A trial that was run again after a failure has several runs: the newest finished one counts, else the newest."""
    chosen: dict[str, Run] = {}
    for run in sorted(newest_first, key=lambda run: run.info.status != "FINISHED"):
        chosen.setdefault(run.data.tags["sweeper.trial"], run)
    return chosen


def _refuse_mixed(name: str, mixed: Mapping[str, str], allow: Collection[str], known: Collection[str]) -> None:
    for key in allow:
        if key not in known:
            near = ", ".join(difflib.get_close_matches(key, known, n=3, cutoff=0.4)) or "code, platform"
            raise RecordError(f"runs of {name!r} have no setting {key!r} that could differ; the nearest are {near}")
    refused = {key: text for key, text in mixed.items() if key not in allow}
    if refused:
        raise RecordError(
            f"runs of {name!r} differ in what is neither a row, a column nor a seed: {'; '.join(refused.values())}. "
            f"To have them in one table all the same: {' '.join(f'--allow {key}' for key in refused)}"
        )


def _row(expected: dict[str, Any], axes: tuple[str, ...], run: Run | None) -> dict[str, Any]:
    identity = {name: expected[name] for name in ("trial", "variant", "seed")}
    identity |= {axis: expected["axes"].get(axis) for axis in axes}
    if run is None:
        return identity | {"status": "MISSING", "run_id": None, "failure": None, "seconds": None}
    outcome = {"status": run.info.status, "run_id": run.info.run_id, "failure": run.data.tags.get("sweeper.failure")}
    outcome["seconds"] = ((run.info.end_time or run.info.start_time) - run.info.start_time) / 1000
    results = {name: value for name, value in run.data.metrics.items() if not name.startswith("epoch/")}
    return identity | outcome | results
