"""Killed before each of its writes, and run again: nothing that was finished is lost, nothing is there twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from analysis.record.names import SECONDS
from methods.cache.store import Store
from sweeper.planning.stored import TRAINING
from tests.conftest import disk
from tests.sweeper import killed

pytestmark = pytest.mark.slow

# More writes than there are would be noticed: the last of these kills nothing.
TRACKER_WRITES = 20
TRIAL_WRITES = 17


def content(folder: Path) -> list:
    """What MLflow holds, without ids and times."""
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    (experiment,) = [one for one in client.search_experiments() if one.name == "small"]
    rows = []
    for run in client.search_runs([experiment.experiment_id]):
        tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.parentRunId"}
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        points = {name: [(one.step, repr(one.value)) for one in history] for name, history in histories.items()}
        artifacts = [artifact.path for artifact in client.list_artifacts(run.info.run_id)]
        rows.append((run.info.status, tags, run.data.params, points, artifacts))
    return sorted(rows, key=repr)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A sweep recorded without trouble: its folder, the names of its writes, and an empty database to start from."""
    folder = tmp_path_factory.mktemp("tracked")
    empty = folder / "empty.db"
    (folder / "runs").mkdir()
    MlflowClient(tracking_uri=f"sqlite:///{empty}").search_experiments()
    shutil.copy(empty, folder / "runs" / "mlflow.db")
    log = folder / "writes.txt"
    assert killed.in_a_process(killed.track, folder, None, log) == 0
    return folder, log.read_text().split("\n")[:-1], empty


def test_the_kills_below_come_before_every_write_and_after_the_last(recorded):
    _, writes, _ = recorded
    assert len(writes) == TRACKER_WRITES - 1
    assert set(writes) == set(killed.WRITES) - {"update_run"}


@pytest.mark.parametrize("kill_at", range(1, TRACKER_WRITES + 1))
def test_a_driver_killed_before_a_write_to_mlflow_is_completed_by_the_next(recorded, tmp_path, kill_at):
    undisturbed, writes, empty = recorded
    (tmp_path / "runs").mkdir()
    shutil.copy(empty, tmp_path / "runs" / "mlflow.db")
    assert killed.in_a_process(killed.track, tmp_path, kill_at) == (-9 if kill_at <= len(writes) else 0)
    assert killed.in_a_process(killed.track, tmp_path) == 0
    assert content(tmp_path) == content(undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """Of MLflow's database and artifacts."""
    yield from disk(tmp_path / "runs", "4m")


def test_a_disk_that_is_full_at_every_write_to_mlflow_at_first_loses_nothing(recorded, small_disk, tmp_path):
    undisturbed, _, empty = recorded
    shutil.copy(empty, small_disk / "mlflow.db")
    said = tmp_path / "said.txt"
    assert killed.in_a_process(killed.track, tmp_path, None, said, True) == 0
    assert content(tmp_path) == content(undisturbed)
    place = f"MLflow at sqlite:///{small_disk}/mlflow.db"
    told = {f"{place} is away (database or disk is full); results wait until it is back", f"{place} is back"}
    assert told <= set(said.read_text().splitlines())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    log = folder / "writes.txt"
    assert killed.in_a_process(killed.train, folder, None, log) == 0
    return folder, log.read_text().split("\n")[:-1]


def records(folder: Path) -> dict:
    """What the store holds, without times."""
    store, found = Store(folder / "store"), {}
    for record in store.records():
        found[record.key, record.name] = record.path.read_bytes()
        if record.name == TRAINING:
            found[record.key, record.name] = store.read_json(record.key, TRAINING) | {SECONDS: None}
    return {(key, name): content for (key, name), content in found.items() if name != "pretrained"}


def test_the_kills_below_come_before_and_within_every_write_of_a_trial(trained):
    _, writes = trained
    assert len(writes) == TRIAL_WRITES - 1
    assert {name.split()[1] for name in writes} == {"state", "scores", "training", "metrics", "its"}


@pytest.mark.parametrize("kill_at", range(1, TRIAL_WRITES + 1))
def test_a_worker_killed_at_a_write_to_the_store_is_completed_by_the_next(trained, tmp_path, kill_at):
    undisturbed, writes = trained
    assert killed.in_a_process(killed.train, tmp_path, kill_at) == (-9 if kill_at <= len(writes) else 0)
    assert killed.in_a_process(killed.train, tmp_path) == 0
    assert (tmp_path / "history.txt").read_text() == (undisturbed / "history.txt").read_text()
    assert records(tmp_path) == records(undisturbed)
