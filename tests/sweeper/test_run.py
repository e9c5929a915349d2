"""A real small sweep through Ray and MLflow, run as a user runs it; and what is done with its results, without Ray."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from analysis.record.names import SECONDS
from methods import fit
from methods.cache.store import Store
from methods.training.config import resolve
from methods.training.fit import Training
from tests.sweeper.commands import Sweep

pytestmark = pytest.mark.slow

SPACE = """
title: a small sweep
data: {labels: single_positive, train_images: 64, val_images: 32, test_images: 32}
network: {pretrain_images: 64, pretrain_epochs: 1}
train: {epochs: 3, batch_size: 16}
variants:
  Naive AN: {method: assume_negative}
  LL-Cp: {method: large_loss, scheme: correct_permanent}
  Diverges: {method: assume_negative, train.optimizer: sgd, train.learning_rate: 1e+30}
axes:
  delta_rel: [1, 5]
seeds: [1, 2]
table: {columns: delta_rel}
"""
both_executors = pytest.mark.parametrize("on_ray", [True, False], ids=["ray", "inline"])
NAMES = {"map", "map_interpolated", "map_absent_zero", "of1", "cf1"}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, empty_database):
    """Run in a process of its own, with as many workers as there are cores."""
    sweep = Sweep(tmp_path_factory.mktemp("sweep"), SPACE, empty_database)
    process = sweep.start()
    out, err = process.communicate(timeout=240)
    sweep.result = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    return sweep


def test_a_sweep_with_failures_ends_with_exit_code_1_and_lists_them(sweep):
    numbers = json.loads(sweep.result.stdout.splitlines()[-1])
    assert sweep.result.returncode == 1
    assert numbers | {"seconds": 0, "sweep": ""} == {
        "space": "small", "sweep": "", "trials": 8, "succeeded": 6, "failed": 2,
        "epochs_trained": 14, "epochs_reused": 4, "seconds": 0,  # LL-Cp starts from the first epoch of Naive AN
    }  # fmt: skip
    assert "failed: Diverges seed=2: NotFiniteError: the loss is" in sweep.result.stderr


def test_output_that_is_no_terminal_gets_plain_lines_and_nothing_of_rays(sweep):
    assert "[8/8] " in sweep.result.stderr
    assert "\x1b" not in sweep.result.stderr
    for chatter in ("raylet", "Trial status", "WARNING", "Traceback", "alembic"):
        assert chatter not in sweep.result.stderr


def test_mlflow_holds_one_parent_and_one_child_per_trial(sweep):
    (parent,) = sweep.runs("sweep")
    children = sweep.runs("trial")
    assert parent.info.status == "FAILED"
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    assert len({run.data.tags["sweeper.trial"] for run in children}) == len(children) == 8
    for run in children:
        expected = "FAILED" if run.data.tags["sweeper.variant"] == "Diverges" else "FINISHED"
        assert run.info.status == expected
        assert {"sweeper.space", "sweeper.sweep", "sweeper.seed", "sweeper.key"} <= set(run.data.tags)
        assert len(run.data.tags["sweeper.code"]) == 16
        assert "torch " in run.data.tags["sweeper.platform"]
        assert run.data.params["data.labels"] == "single_positive"


def test_histories_have_every_epoch_once_and_results_are_single_points(sweep):
    for run in sweep.runs("trial"):
        histories = sweep.histories(run)
        if run.info.status == "FAILED":
            assert histories == {}
            continue
        for name, history in histories.items():
            if name.startswith("epoch/"):
                assert [step for step, _ in history] == [1, 2, 3]
        assert {f"epoch/{split}/{name}" for split in ("val", "test") for name in NAMES} < set(histories)
        chosen = int(histories["selected_epoch"][0][1])
        best = max(value for _, value in histories["epoch/val/map"])
        assert histories["epoch/val/map"][chosen - 1][1] == best
        for name in (
            "val/map",
            "test/map",
            "test/map_interpolated",
            "test/of1",
            "test/cf1",
            "test/top3_or",
            "train/known_labels",
            "train/parameters",
            "train/images",
            "val/images",
            "test/images",
        ):
            assert [step for step, _ in histories[name]] == [chosen]
        assert histories["test/map"][0][1] == histories["epoch/test/map"][chosen - 1][1]
        assert histories["train/known_labels"][0][1] == 64  # a label an image
        assert [histories[f"{split}/images"][0][1] for split in ("train", "val", "test")] == [64, 32, 32]
        assert not {"epoch/train/known_labels", "epoch/train/parameters", "epoch/test/images"} & set(histories)


def test_a_failed_trial_keeps_its_reason_and_traceback(sweep):
    run = next(run for run in sweep.runs("trial") if run.info.status == "FAILED")
    assert run.data.tags["sweeper.failure"].startswith("NotFiniteError: the loss is")
    path = sweep.client.download_artifacts(run.info.run_id, "traceback.txt")
    assert "train_epoch" in Path(path).read_text()


def test_the_parent_carries_the_resolved_space_and_the_environment(sweep):
    (parent,) = sweep.runs("sweep")
    texts = {
        name: sweep.client.download_artifacts(parent.info.run_id, f"{name}.json") for name in ("space", "environment")
    }
    space, environment = (json.loads(Path(path).read_text()) for path in texts.values())
    assert [trial["variant"] for trial in space["trials"]].count("LL-Cp") == 4
    assert space["axes"] == {"delta_rel": [1, 5]}
    assert {"torch", "ray", "mlflow"} < set(environment["packages"])
    assert {"commit", "platform", "machine"} < set(environment)


def test_a_trial_has_the_same_metrics_to_the_last_bit_alone_and_inside_a_sweep(sweep):
    run = next(
        r for r in sweep.runs("trial") if r.data.params.get("delta_rel") == "5.0" and r.data.params["seed"] == "2"
    )
    settings = {
        "scheme": "correct_permanent", "delta_rel": 5, "data.labels": "single_positive", "data.train_images": 64,
        "data.val_images": 32, "data.test_images": 32, "network.pretrain_images": 64, "network.pretrain_epochs": 1,
        "train.epochs": 3, "train.batch_size": 16,
    }  # fmt: skip
    # A store of its own: the pre-training is made again too.
    result = fit("large_loss", settings, seed=2, cache_folder=sweep.folder / "alone")
    histories = sweep.histories(run)
    for name in ("train/loss", "val/map", "test/map", "test/cf1"):
        assert [value for _, value in histories[f"epoch/{name}"]] == [metrics[name] for metrics in result.history]


def test_analysis_reads_what_the_sweep_wrote(sweep):
    # With the rule named, the results of every trial are checked against its histories.
    command = [sys.executable, "-m", "analysis", "table", "small", "--select", "best_val"]
    result = subprocess.run(command, cwd=sweep.folder, capture_output=True, text=True, check=True)
    assert "| LL-Cp |" in result.stdout
    assert "Diverges, —: seeds 1, 2 failed (NotFiniteError" in result.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory, empty_database):
    sweep = Sweep(tmp_path_factory.mktemp("finished"), SPACE.replace("  Diverges", "  # Diverges"), empty_database)
    assert sweep.run("--set", "seeds=[1]").returncode == 0
    return sweep


def test_running_a_finished_sweep_again_trains_nothing_and_changes_nothing(finished):
    before = finished.content()
    again = finished.run("--set", "seeds=[1]")
    assert again.returncode == 0
    assert json.loads(again.stdout)["epochs_trained"] == 0
    assert finished.content() == before


def test_metrics_on_other_labels_of_the_same_images_are_measured_from_the_scores(finished):
    result = json.loads(finished.run("--set", "seeds=[1]", "--set", "data.val_labels=observed").stdout)
    assert (result["epochs_trained"], result["epochs_reused"], result["succeeded"]) == (0, 9, 3)


def test_another_space_with_the_same_baseline_does_not_train_it_again(finished):
    other = SPACE.replace("  LL-Cp", "  # LL-Cp").replace("  Diverges", "  # Diverges").replace("Naive AN", "Baseline")
    other = other.replace("axes:\n  delta_rel: [1, 5]\n", "").replace("table: {columns: delta_rel}\n", "")
    (finished.folder / "other.yaml").write_text(other)
    result = json.loads(finished.command("run", "other.yaml", "--json", "--inline", "--set", "seeds=[1]").stdout)
    assert (result["epochs_trained"], result["epochs_reused"], result["succeeded"]) == (0, 3, 1)


def test_verify_trains_again_in_processes_of_their_own_and_finds_the_same(finished):
    same = finished.command("verify", "small.yaml", "--set", "seeds=[1]", "--sample", "2")
    assert same.returncode == 0, same.stderr
    everything = "metrics in the store, state, histories in MLflow, results in MLflow"
    assert [line.split(": ")[1] for line in same.stdout.splitlines()] == [everything] * 2


def test_verify_names_what_differs(finished, monkeypatch):
    monkeypatch.setattr("sweeper.commands.verify.in_processes", lambda at_once: map)
    store = Store(finished.folder / "runs" / "store")
    for record in list(store.records()):
        if record.name.startswith("metrics"):
            metrics = store.read_json(record.key, record.name)
            store.write_json(record.key, record.name, metrics | {"test/map": metrics["test/map"] + 1e-14})
    different = finished.command("verify", "small.yaml", "--set", "seeds=[1]", "--sample", "2")
    assert different.returncode == 1
    assert different.stdout.count("DIFFERENT") == 2
    assert "metrics in the store: epoch 3, test/map" in different.stdout
    assert "MLflow" not in different.stdout


def test_verify_trains_nothing_where_there_is_nothing_to_compare(finished, monkeypatch):
    trained = []

    def over(function, jobs):
        trained.extend(jobs)
        return map(function, jobs)

    monkeypatch.setattr("sweeper.commands.verify.in_processes", lambda at_once: over)
    nothing = finished.command("verify", "small.yaml", "--set", "seeds=[7]", "--sample", "1")
    assert nothing.returncode == 1
    assert nothing.stdout.startswith("n/a ")
    assert not trained


def test_export_writes_the_selected_epochs_weights_whether_or_not_the_store_still_has_them(finished):
    run = next(run for run in finished.runs("trial") if run.data.tags["sweeper.variant"] == "LL-Cp")
    trial, epoch = run.data.tags["sweeper.trial"], run.data.metrics["selected_epoch"]
    assert finished.command("export", trial).returncode == 0
    weights = (finished.folder / "exports" / trial / "weights.pt").read_bytes()
    described = json.loads((finished.folder / "exports" / trial / "config.json").read_text())
    assert (described["variant"], described["epoch"], described["config"]["seed"]) == ("LL-Cp", epoch, 1)
    assert described["metrics"]["test/map"] == run.data.metrics["test/map"]

    shutil.rmtree(finished.folder / "runs" / "store" / "entries")
    again = finished.command("export", run.info.run_id, "--out", "again")
    assert f"training epochs 1 to {epoch:.0f} again" in again.stderr
    assert (finished.folder / "again" / "weights.pt").read_bytes() == weights


def test_what_is_exported_scores_as_the_trial_did(finished):
    (folder,) = (finished.folder / "exports").iterdir()
    described = json.loads((folder / "config.json").read_text())
    state = {f"module/{name}": t for name, t in torch.load(folder / "weights.pt").items() if name[:5] != "trunk"}
    training = Training(resolve(described["config"]), finished.folder / "runs" / "store")
    measured = training.measure(training.scores(state, described["epoch"]))
    assert {name: described["metrics"][name] for name in measured} == pytest.approx(measured, abs=0, nan_ok=True)


def test_export_of_an_unknown_trial_is_bad_input(finished):
    result = finished.command("export", "0123456789abcdef")
    assert result.returncode == 2
    assert "error: '0123456789abcdef': sqlite" in result.stderr


def test_fresh_trains_everything_again_comes_to_the_same_and_leaves_the_store_alone(finished):
    before, stored = finished.content(), sorted((finished.folder / "runs" / "store").rglob("*"))
    fresh = json.loads(finished.run("--set", "seeds=[1]", "--fresh").stdout)
    assert (fresh["epochs_trained"], fresh["succeeded"]) == (7, 3)
    trials = {repr(row) for row in before if "sweeper.trial" in row[2] and row[1]["data.val_labels"] == "clean"}
    assert trials < {repr(row) for row in finished.content()}
    assert len(finished.runs("superseded")) == 3
    assert sorted((finished.folder / "runs" / "store").rglob("*")) == stored


@both_executors
def test_an_interrupted_sweep_leaves_no_run_open_and_the_same_command_completes_it(tmp_path, empty_database, on_ray):
    sweep = Sweep(tmp_path, SPACE.replace("  Diverges", "  # Diverges"), empty_database)
    options = ["--set", "train.epochs=40", "--set", "seeds=[1]", "--set", "axes.delta_rel=[1]"]
    process = sweep.start(*options, "--max-concurrent", "1", ray=on_ray)
    while not any(run.data.metrics for run in _runs_so_far(sweep)):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    assert json.loads(out)["succeeded"] < 2
    states = {run.info.status for run in [*sweep.runs("sweep"), *sweep.runs("trial")]}
    assert "RUNNING" not in states
    assert "KILLED" in states

    assert sweep.run(*options, ray=on_ray).returncode == 0
    (parent,), children = sweep.runs("sweep"), sweep.runs("trial")
    assert [run.info.status for run in [parent, *children]] == ["FINISHED"] * 3
    for run in children:
        assert [step for step, _ in sweep.histories(run)["epoch/val/map"]] == list(range(1, 41))


@both_executors
def test_in_the_background_of_a_script_where_ctrl_c_is_ignored_sigterm_ends_even_what_is_made_once(
    tmp_path, empty_database, on_ray
):
    sweep = Sweep(tmp_path, SPACE, empty_database)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which a new process inherits
    try:
        process = sweep.start("--set", "network.pretrain_epochs=100000", ray=on_ray)
    finally:
        signal.signal(signal.SIGINT, before)
    while not _runs_so_far(sweep):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=200)
    assert process.returncode == 3, out
    assert {run.info.status for run in [*sweep.runs("sweep"), *sweep.runs("trial")]} == {"KILLED"}


def test_what_the_store_has_is_not_trained_again_and_looks_as_if_it_had_been(tmp_path, empty_database):
    sweep = Sweep(tmp_path, SPACE, empty_database)
    assert json.loads(sweep.run().stdout)["epochs_trained"] == 14
    took = seconds(sweep)
    assert len(took) == 6 and min(took.values()) > 0
    (tmp_path / "again").mkdir()
    again = Sweep(tmp_path / "again", SPACE, empty_database)
    (tmp_path / "runs" / "store").rename(tmp_path / "again" / "runs" / "store")
    told = json.loads(again.run().stdout)
    assert (told["epochs_trained"], told["epochs_reused"], told["failed"]) == (0, 18, 2)
    assert again.content() == sweep.content()
    assert seconds(again) == took


def test_one_more_value_on_an_axis_trains_only_what_is_new(tmp_path, empty_database):
    sweep = Sweep(tmp_path, SPACE.replace("  Diverges", "  # Diverges"), empty_database)
    options = ["--set", "seeds=[1]"]
    assert json.loads(sweep.run(*options).stdout)["epochs_trained"] == 7
    more = json.loads(sweep.run(*options, "--set", "axes.delta_rel=[1, 5, 9]").stdout)
    assert (more["epochs_trained"], more["epochs_reused"]) == (2, 10)


def test_a_remembered_failure_is_repeated_at_once_until_it_is_to_be_retried(tmp_path, empty_database, on_ray):
    sweep = Sweep(
        tmp_path,
        SPACE.replace("  LL-Cp", "  # LL-Cp")
        .replace("axes:\n  delta_rel: [1, 5]\n", "")
        .replace("table: {columns: delta_rel}", ""),
        empty_database,
    )
    options = ["--set", "seeds=[1]"]
    assert sweep.run(*options, ray=on_ray).returncode == 1
    (failure,) = (tmp_path / "runs" / "store").rglob("failure")
    written = failure.stat().st_mtime_ns
    assert sweep.run(*options, ray=on_ray).returncode == 1
    assert failure.read_bytes()
    before = failure.stat().st_ino
    (tmp_path / "kept").hardlink_to(failure)  # no other file gets its number
    assert sweep.run(*options, "--retry-failed", ray=on_ray).returncode == 1
    assert failure.stat().st_ino != before
    assert failure.stat().st_mtime_ns > written


def seconds(sweep: Sweep) -> dict[str, float]:
    """By trial, what its training took."""
    return {
        run.data.tags["sweeper.trial"]: run.data.metrics[SECONDS] for run in sweep.runs("trial") if run.data.metrics
    }


def _runs_so_far(sweep: Sweep) -> list:
    experiment = sweep.client.get_experiment_by_name("small")
    return [] if experiment is None else sweep.runs("trial")
