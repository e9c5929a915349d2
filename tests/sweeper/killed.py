"""Work in a process of its own that is killed before its nth write: of a tracker to MLflow, of a trial to the store. Or
the disk is full at each write to MLflow, the first time."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.store.tracking.sqlalchemy_store  # noqa: F401 (takes a second; the processes are copies of this one)
import torch._dynamo  # noqa: F401 (takes seconds; an optimizer needs it)
from mlflow import MlflowClient

from analysis.record.names import SECONDS
from methods.cache import files
from methods.cache.store import Store
from methods.data import digit_scenes
from methods.training.config import resolve
from sweeper.planning.plan import plan
from sweeper.recording import outbox
from sweeper.recording.tracker import Tracker
from sweeper.running.driver import selected
from sweeper.running.messages import Failure, Job, Report
from sweeper.running.trial import TrialRunner
from sweeper.spaces.reading import load_space

SPACE = """
data: {labels: single_positive, train_images: 16, val_images: 8, test_images: 8}
network: {pretrain_epochs: 0}
train: {epochs: 2}
variants: {Naive AN: {method: assume_negative}, LL-R: {method: large_loss, delta_rel: 5}}
seeds: [1]
"""
# Every call of the client that changes what a store of MLflow holds.
WRITES = (
    *("create_experiment", "create_run", "update_run", "set_terminated"),
    *("log_batch", "log_text", "set_tag", "delete_tag"),
)
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([__name__])
digit_scenes.instances()
for _method in ("assume_negative", "large_loss"):
    resolve({"method": _method}).keys()  # their code is read and hashed once


def in_a_process(work: Callable[..., None], *arguments: Any) -> int:
    """Do it, in a process as new as can be had quickly; returns its exit code, -9 if it was killed."""
    process = CONTEXT.Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def track(folder: Path, kill_at: int | None = None, log: Path | None = None, full: bool = False) -> None:
    """Record a sweep of two trials, of which the second fails in epoch 2; killed before write `kill_at`, from 1. The
    names of the writes, or with `full` what is said, go to `log`."""
    os.chdir(folder)
    (folder / "small.yaml").write_text(SPACE)
    fatal = _Counter(kill_at, None if full else log)
    for name in WRITES:
        setattr(MlflowClient, name, _counted(getattr(MlflowClient, name), fatal))
    space = load_space("small.yaml")
    said: list[str] = []
    tracker = Tracker(space, f"sqlite:///{folder}/runs/mlflow.db", say=said.append)
    if full:
        outbox.FIRST_PAUSE = outbox.LONGEST_PAUSE = 0.01
        for name in WRITES:
            setattr(MlflowClient, name, _full_at_first(getattr(MlflowClient, name), folder / "runs" / "filler"))
    for trial in space.trials:
        if trial.id in tracker.complete:
            continue
        tracker.started(trial)
        fails = trial.variant == "LL-R"
        values = {"train/loss": 0.5, "val/map": 60.0, "test/map": 61.0, "test/op": float("nan")}
        tracker.reported(trial, Report({1: values}))
        if fails:
            tracker.failed(trial, Failure("NotFiniteError: the loss is nan", "Traceback: …"))
        else:
            tracker.reported(trial, Report({2: values, 3: values}, done=True))
            tracker.finished(trial, selected(space.select, [values] * 3))
    tracker.close("FAILED")
    if full and log:
        log.write_text("\n".join(said))


def train(folder: Path, kill_at: int | None = None, log: Path | None = None) -> None:
    """Run the second trial as a worker does; killed before, in the middle of, or after a write to the store."""
    os.chdir(folder)
    (folder / "small.yaml").write_text(SPACE)
    fatal = _Counter(kill_at, log)
    write, replace = Store._write, os.replace

    def counted(self: Store, key: str, record: str, content: bytes) -> int:
        fatal(f"before {record.partition('-')[0]}")
        return write(self, key, record, content)

    def renamed(source: Any, target: Any) -> None:
        fatal("before its rename")
        replace(source, target)

    Store._write = counted  # type: ignore[method-assign]
    files.os.replace = renamed  # type: ignore[assignment]
    space = load_space("small.yaml")
    planned = plan(space)
    trial = space.trials[1]
    runner = TrialRunner(
        Job(
            trial=trial.id,
            values=trial.config.flat(),
            keys=trial.keys,
            keep=planned.keep[trial.id],
            select=space.select,
            stoppable=False,
            store=str(folder / "store"),
        )
    )
    history: dict[int, dict[str, float]] = {}
    done = False
    while not done:
        report = Report.read(runner.step().text())
        assert report.failure is None, report.failure
        history |= {epoch: dict(metrics) for epoch, metrics in report.epochs.items()}
        done = report.done
    history[max(history)].pop(SECONDS)  # the one value that is not the same again
    Path("history.txt").write_text(repr(sorted(history.items())))


class _Counter:
    def __init__(self, kill_at: int | None, log: Path | None):
        self._left, self._log = kill_at, log

    def __call__(self, name: str) -> None:
        if self._log:
            with self._log.open("a") as file:
                print(name, file=file)
        if self._left is not None:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _counted(call: Callable[..., Any], fatal: _Counter) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        fatal(call.__name__)
        return call(*arguments, **named)

    return counted


def _full_at_first(call: Callable[..., Any], filler: Path) -> Callable[..., Any]:
    """It with a disk that is full the first time that it is called of a run, with arguments of these names."""
    tried: set[tuple[str, ...]] = set()

    def full_at_first(client: MlflowClient, id: str, *arguments: Any, **named: Any) -> Any:
        if (id, *named) not in tried:
            tried.add((id, *named))
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
        try:
            return call(client, id, *arguments, **named)
        finally:
            filler.unlink(missing_ok=True)

    return full_at_first
