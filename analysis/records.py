"""What a sweep left in MLflow, as a tidy frame with one row per trial.

The parent run says what was expected (`space.json`), its children say what came. A trial that was expected and left no
run is a row with status MISSING, so that nothing downstream can average over a hole without seeing it. This module only
reads: it creates no database and writes no run.
"""

from __future__ import annotations

import difflib
import json
import logging
import os
import tempfile
from collections.abc import Iterable
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

logging.getLogger("mlflow").setLevel(logging.ERROR)
logging.getLogger("alembic").setLevel(logging.ERROR)

_PAGE = 50_000  # the most runs MLflow returns at once


class RecordError(ValueError):
    """The record does not hold what was asked for; the message says what it does hold, or what to do."""


@dataclass(frozen=True)
class Record:
    """One sweep.

    `trials` has the columns trial, variant, seed, one per axis (a variant without the axis has no value there), status,
    run_id, failure, and one per metric: the single point at the selected epoch, as logged (measures are in percent).
    Status is MLflow's (FINISHED, FAILED, RUNNING, KILLED, SCHEDULED) or MISSING. `params` has a row per trial with a
    run, indexed by trial, and every setting as text; what was logged as "null" has no value.
    """

    space: dict[str, Any]
    sweep: str
    axes: tuple[str, ...]
    trials: pd.DataFrame
    params: pd.DataFrame
    client: MlflowClient = field(repr=False)


def load(name: str, *, tracking_uri: str | None = None, sweep: str | None = None, profile: str | None = None) -> Record:
    """Read the newest sweep of space `name`, of `profile` if one is named, or the one whose hash starts with `sweep`.

    A sweep's age is its parent run's start; one that was resumed keeps its first. There are two queries, for the sweeps
    and for all trials of one, whatever their number. Raises `RecordError` where there is no such record.
    """
    uri = _resolve(tracking_uri)
    try:
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            raise RecordError(_unknown(name, (e.name for e in client.search_experiments()), uri))
        sweeps = "tags.`sweeper.kind` = 'sweep'" + (f" and tags.`sweeper.profile` = '{profile}'" if profile else "")
        parent = _pick(_runs(client, experiment, sweeps), name, sweep, uri, profile)
        space = _space(client, parent)
        sweep = parent.data.tags["sweeper.sweep"]
        of_sweep = f"tags.`sweeper.kind` = 'trial' and tags.`sweeper.sweep` = '{sweep}'"
        children = _one_run_per_trial(_runs(client, experiment, of_sweep))
    except MlflowException as error:
        raise RecordError(f"MLflow at {uri} does not answer as it should: {error}") from error

    axes = tuple(dict.fromkeys([*space.get("axes", {}), *(axis for t in space["trials"] for axis in t["axes"])]))
    trials = pd.DataFrame([_row(expected, axes, children.get(expected["trial"])) for expected in space["trials"]])
    in_order = [expected["trial"] for expected in space["trials"] if expected["trial"] in children]
    params = {trial: children[trial].data.params for trial in in_order}
    params = pd.DataFrame.from_dict(params, orient="index").replace("null", None)
    return Record(space, sweep, axes, trials, params, client)


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
    (from 1), value.

    MLflow has no query for the histories of many runs, so this costs one call per trial: ask only for what is drawn.
    """
    identity = ["trial", "variant", "seed", *record.axes]
    rows = [
        {**{name: row[name] for name in identity}, "epoch": point.step, "value": point.value}
        for row in (record.trials if trials is None else trials).query("status == 'FINISHED'").to_dict("records")
        for point in record.client.get_metric_history(row["run_id"], metric)
    ]
    return pd.DataFrame(rows, columns=[*identity, "epoch", "value"])


def artifact(record: Record, run_id: str, name: str) -> bytes | None:
    """The content of one of a run's artifacts; None where it has no such file."""
    if name not in (file.path for file in record.client.list_artifacts(run_id)):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return Path(record.client.download_artifacts(run_id, name, folder)).read_bytes()


def _resolve(tracking_uri: str | None) -> str:
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
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known[:5]
    hint = f"the nearest are {', '.join(near)}" if near else "it holds no sweep at all"
    return f"no sweep of {name!r} is recorded at {uri}; {hint}"


def _runs(client: MlflowClient, experiment: Experiment, where: str) -> list[Run]:
    """Newest first."""
    order, token = ["attributes.start_time DESC"], None
    runs: list[Run] = []
    while True:
        page = client.search_runs(
            [experiment.experiment_id], where, max_results=_PAGE, order_by=order, page_token=token
        )
        runs += page
        token = page.token
        if not token:
            return runs


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


def _row(expected: dict[str, Any], axes: tuple[str, ...], run: Run | None) -> dict[str, Any]:
    identity = {name: expected[name] for name in ("trial", "variant", "seed")}
    identity |= {axis: expected["axes"].get(axis) for axis in axes}
    if run is None:
        return identity | {"status": "MISSING", "run_id": None, "failure": None}
    outcome = {"status": run.info.status, "run_id": run.info.run_id, "failure": run.data.tags.get("sweeper.failure")}
    results = {name: value for name, value in run.data.metrics.items() if not name.startswith("epoch/")}
    return identity | outcome | results
