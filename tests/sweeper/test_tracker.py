"""Whose runs in MLflow a tracker takes, and whose it leaves alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient

from analysis.record.names import LEASE
from methods.training.platforms import identity
from sweeper.recording import lease, provenance
from sweeper.recording.lease import Lease, TakenError
from sweeper.recording.tracker import Tracker
from sweeper.running.driver import selected
from sweeper.running.messages import Report
from sweeper.spaces.reading import load_space
from tests.sweeper.killed import SPACE
from tests.sweeper.test_kills import content

VALUES = {"train/loss": 0.5, "val/map": 60.0, "test/map": 61.0}


@pytest.fixture
def space(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SPACE)
    return load_space("small.yaml")


def tracker(space, **options) -> Tracker:
    return Tracker(space, f"sqlite:///{os.getcwd()}/runs/mlflow.db", **options)


def complete(space, **options) -> None:
    open_tracker = tracker(space, **options)
    for trial in space.trials:
        if trial.id not in open_tracker.complete:
            open_tracker.started(trial)
            open_tracker.reported(trial, Report({1: VALUES}))
            open_tracker.reported(trial, Report({2: VALUES}, done=True))
            open_tracker.finished(trial, selected(space.select, [VALUES, VALUES]))
    open_tracker.close("FINISHED")


def runs(space, kind="trial"):
    client = MlflowClient(tracking_uri=f"sqlite:///{os.getcwd()}/runs/mlflow.db")
    experiment = client.get_experiment_by_name(space.name)
    return client.search_runs([experiment.experiment_id], f"tags.`sweeper.kind` = '{kind}'")


def test_a_sweep_that_is_shown_in_another_way_is_the_same_and_has_the_new_layout(space):
    complete(space)
    complete(load_space("small.yaml", sets=("title=Another title", "table.columns=null")))
    (parent,) = runs(space, "sweep")
    assert parent.data.tags["mlflow.note.content"] == "Another title"
    client = MlflowClient(tracking_uri=f"sqlite:///{os.getcwd()}/runs/mlflow.db")
    recorded = json.loads(Path(client.download_artifacts(parent.info.run_id, "space.json")).read_text())
    assert (recorded["title"], recorded["table"]["columns"]) == ("Another title", None)
    assert len(runs(space)) == len(space.trials)


def test_runs_say_which_code_platform_and_commit_made_them_and_keep_it(space, monkeypatch):
    monkeypatch.setattr(provenance, "_commit", lambda: "abc1")
    complete(space)
    monkeypatch.setattr(provenance, "_commit", lambda: "def2")
    complete(space)  # nothing acts otherwise, so nothing is run again
    assert {run.data.tags["sweeper.commit"] for run in runs(space)} == {"abc1"}
    made_by = {(run.data.tags["sweeper.code"], run.data.tags["sweeper.platform"]) for run in runs(space)}
    assert len(made_by) == 1


def test_the_platform_of_a_trial_on_a_gpu_names_it_and_that_of_others_says_nothing_of_gpus(monkeypatch):
    identity.cache_clear()
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA Some GPU")
    try:
        assert ", gpu NVIDIA Some GPU, cuda " in provenance.platform_of("cuda")
        assert "gpu" not in provenance.platform_of("cpu")
    finally:
        identity.cache_clear()


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (None, {"epochs_trained": 5, "seconds": 100.0, "gpu_seconds": 40.0}),
        ({"epochs_trained": 1, "seconds": 7.0}, {"epochs_trained": 6, "seconds": 107.0}),  # recorded by an early driver
    ],
)
def test_what_drivers_cost_is_added_up_and_a_share_of_a_gpu_counts_as_that(before, expected, space):
    complete(space)
    (parent,) = runs(space, "sweep")
    client = MlflowClient(tracking_uri=f"sqlite:///{os.getcwd()}/runs/mlflow.db")
    if before:
        client.log_text(parent.info.run_id, json.dumps(before), "cost.json")
    tracker(space).close("FINISHED", 2, 60.0, gpus=0.5)
    tracker(space).close("FINISHED", 3, 40.0, gpus=0.25)
    recorded = json.loads(Path(client.download_artifacts(parent.info.run_id, "cost.json")).read_text())
    assert recorded == expected


def test_outside_a_checkout_no_commit_is_said(space, monkeypatch):
    monkeypatch.setattr(provenance, "_commit", lambda: None)
    complete(space)
    assert not any("sweeper.commit" in run.data.tags for run in runs(space))


def hold(folder, ready) -> None:
    """A driver that has started a trial and lives on."""
    os.chdir(folder)
    space = load_space("small.yaml")
    mine = tracker(space)
    mine.started(space.trials[0])
    mine.flush()
    ready.set()
    signal.pause()


def test_a_living_drivers_runs_are_left_alone_and_a_dead_ones_completed(space, tmp_path):
    spawn = multiprocessing.get_context("spawn")
    ready = spawn.Event()
    other = spawn.Process(target=hold, args=(tmp_path, ready))
    other.start()
    assert ready.wait(120)
    before = content(tmp_path)
    with pytest.raises(TakenError, match=f"process {other.pid} on .* is running this sweep; it is left alone"):
        tracker(space)
    assert content(tmp_path) == before
    assert {run.info.status for run in runs(space)} == {"RUNNING"}
    other.kill()
    other.join()
    complete(space)
    assert [run.info.status for run in runs(space)] == ["FINISHED"] * 2
    assert len(runs(space, "sweep")) == 1


def test_a_driver_that_has_lost_its_lease_stops_and_writes_no_more(space, tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    mine = tracker(space)
    mine.started(space.trials[0])
    mine.flush()
    theirs = Lease("elsewhere 1 2", "4711:1", 2e9)

    # As an exception it could come up inside a client's callback, where it would be swallowed.
    stopped: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: stopped.append(number))
    try:
        while mine.heart.is_alive():  # a beat may be under way, and write its own once more
            mine.sweep.take(theirs)
            mine.heart.join(1)
    finally:
        signal.signal(signal.SIGINT, handler)
    assert stopped == [signal.SIGINT]
    before = content(tmp_path)
    mine.close("KILLED")
    assert content(tmp_path) == before
    (parent,) = runs(space, "sweep")
    assert Lease.read(parent.data.tags[LEASE]) == theirs


def test_a_lease_is_renewed_while_the_driver_lives_and_given_back_at_the_end(space, monkeypatch):
    monkeypatch.setattr(lease, "HEARTBEAT_SECONDS", 0.05)
    mine = tracker(space)
    first = mine.sweep.lease()
    while mine.sweep.lease() == first:
        pass
    mine.close("FINISHED")
    (parent,) = runs(space, "sweep")
    assert LEASE not in parent.data.tags


def test_a_finished_sweep_recorded_again_is_the_same(space, tmp_path):
    complete(space)
    before = content(tmp_path)
    complete(space)
    assert content(tmp_path) == before


def test_fresh_runs_take_the_place_of_the_old_ones(space):
    complete(space)
    old = {run.info.run_id for run in runs(space)}
    complete(space, fresh=True)
    assert {run.info.run_id for run in runs(space, "superseded")} == old
    assert len(runs(space)) == 2
    complete(space)
    assert len(runs(space)) == 2


@pytest.mark.parametrize("tag", ["sweeper.key", "sweeper.metrics"])
def test_runs_of_other_code_are_kept_but_are_no_longer_the_sweeps(space, tag):
    complete(space)
    client = MlflowClient(tracking_uri=f"sqlite:///{os.getcwd()}/runs/mlflow.db")
    old = runs(space)[0]
    client.set_tag(old.info.run_id, tag, "of other code")
    client.update_run(old.info.run_id, status="RUNNING")
    complete(space)
    (superseded,) = runs(space, "superseded")
    assert (superseded.info.run_id, superseded.info.status) == (old.info.run_id, "KILLED")
    assert [run.info.status for run in runs(space)] == ["FINISHED"] * 2


def test_runs_whose_diagnostics_are_of_other_code_are_no_longer_the_sweeps_either(space):
    space = load_space("small.yaml", sets=("diagnostics.pointing_game=true", "diagnostics.memorization=true"))
    complete(space)
    client = MlflowClient(tracking_uri=f"sqlite:///{os.getcwd()}/runs/mlflow.db")
    old, other = runs(space)
    client.set_tag(old.info.run_id, "sweeper.diagnostics", "of other code")
    client.delete_tag(other.info.run_id, "sweeper.diagnostics")  # as before there was this tag
    complete(space)
    assert [run.info.run_id for run in runs(space, "superseded")] == [old.info.run_id]
    assert other.info.run_id in {run.info.run_id for run in runs(space)}


def test_of_two_runs_of_one_trial_the_older_stays(space):
    complete(space)
    client = MlflowClient(tracking_uri=f"sqlite:///{os.getcwd()}/runs/mlflow.db")
    first = min(runs(space), key=lambda run: run.info.start_time)
    double = client.create_run(first.info.experiment_id, tags=first.data.tags)
    complete(space)
    assert [run.info.run_id for run in runs(space, "superseded")] == [double.info.run_id]


@pytest.mark.parametrize("killed_after", [None, 1, 2])
def test_what_a_method_reports_from_some_epoch_on_is_a_history_and_no_result(space, killed_after):
    epochs = {1: VALUES, 2: {**VALUES, "train/alpha": 0.5}, 3: {**VALUES, "train/alpha": 0.25}}
    trial = space.trials[0]
    if killed_after:
        first = tracker(space)
        first.started(trial)
        first.reported(trial, Report({epoch: epochs[epoch] for epoch in range(1, killed_after + 1)}))
        first.close("KILLED")
    second = tracker(space)
    second.started(trial)
    second.reported(trial, Report({epoch: epochs[epoch] for epoch in (1, 2)}))
    second.reported(trial, Report({3: epochs[3]}, done=True))
    second.finished(trial, selected(space.select, list(epochs.values())))
    second.close("FINISHED")
    (run,) = [run for run in runs(space) if run.info.status == "FINISHED"]
    client = MlflowClient(tracking_uri=f"sqlite:///{os.getcwd()}/runs/mlflow.db")
    history = client.get_metric_history(run.info.run_id, "epoch/train/alpha")
    assert [(point.step, point.value) for point in history] == [(2, 0.5), (3, 0.25)]
    assert "train/alpha" not in run.data.metrics
