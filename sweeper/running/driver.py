"""What trials report, passed on to the record, the queue, the display and the studies."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import signal
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray import tune

from ..planning.capacity import room
from ..planning.costs import cost_key
from ..planning.plan import Plan
from ..planning.studies import Studies
from ..recording.tracker import Tracker
from ..spaces.search import Result
from ..spaces.space import Trial
from .cluster import nodes
from .messages import reported
from .progress import Progress
from .queue import Queue
from .trial import traceback_file

# A worker or node that is lost says nothing of the trial: it is tried again this often.
INFRASTRUCTURE_RETRIES = 2


class Driver(tune.Callback):
    """What Ray Tune tells of its trials, passed on to the record and the display. Runs in the controller's one
    thread."""

    def __init__(
        self,
        waiting: list[Trial],
        planned: Plan,
        tracker: Tracker,
        display: Progress,
        queue: Queue,
        studies: Studies | None,
        most_epochs: int | None,
        folder: Path,
    ):
        self._trials = {trial.id: trial for trial in waiting}
        self._planned, self._tracker, self._display, self._queue = planned, tracker, display, queue
        self._studies, self._most_epochs, self._folder = studies, most_epochs, folder
        self._reported: dict[str, int] = {}
        self._hanging: dict[str, str] = {}
        self._noted: set[str] = set()
        self.failed: dict[Trial, str] = {}
        self.epochs = self.reused = 0
        self.at_work = self.gpus = 0.0  # seconds of all trials together, and what part of the GPUs each has
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.sizes: dict[str, dict[str, int]] = defaultdict(dict)
        self.peaks: dict[str, int] = defaultdict(int)
        self.open = set(self._trials)

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its callbacks for a restore that is never asked for.
        return {}

    @contextlib.contextmanager
    def within(self, seconds: float | None) -> Iterator[None]:
        """Inside, the sweep is ended after so long."""
        timer = threading.Timer(seconds or 0, self._end, ["--time-budget"])
        timer.daemon = True
        if seconds is not None:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _end(self, budget: str) -> None:
        self._display.note(f"{budget} is used up")
        os.kill(os.getpid(), signal.SIGINT)  # which Ray Tune ends a sweep by

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ours = self._trials[trial.config["trial"]]
        self._queue.started(ours)
        self._tracker.start(ours)
        self._display.started(ours)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        ours = self._trials[trial.config["trial"]]
        report = reported(result)
        epochs, trained = report["epochs"], report["trained"]
        self.at_work += result["time_this_iter_s"]
        if not {"failure", "refused"} & report.keys():
            self._queue.reached(ours, max(epochs, default=0))
        for epoch in epochs:
            # A trial that was lost and tried again reports its first epochs a second time.
            if epoch > self._reported.get(ours.id, 0):
                self._reported[ours.id] = epoch
                self.reused += not trained
        if trained:
            self.epochs += 1
            self._display.epoch(ours)
            if self.epochs == self._most_epochs:
                self._end("--max-epochs")
            # The first trained epoch may build data and features; it says nothing of the others.
            cost = cost_key(ours.config)
            if self.epochs > 1:
                self.seconds[cost].append(result["time_this_iter_s"])
            if peak := report.get("gpu_memory"):
                self.peaks[cost] = max(self.peaks[cost], peak)
        if report["written"]:
            self.sizes[cost_key(ours.config)] |= report["written"]
        for note in report["notes"]:
            if note not in self._noted:
                self._noted.add(note)
                self._display.note(note)
        if "refused" in report:
            self._elsewhere(ours, report["refused"], trial.placement_group_factory.bundles[0])
        elif "failure" in report:
            self._tracker.report(ours, epochs)
            self._fail(ours, **report["failure"])
        elif report["done"]:
            files = {name: base64.b64decode(content) for name, content in report["artifacts"].items()}
            epoch = self._tracker.finish(ours, epochs, files)
            self._queue.ended(ours)
            self.open.discard(ours.id)
            self._display.finished(ours, epoch, self._tracker.selected(ours))
            self._learn(ours, self._result(ours))
        else:
            self._tracker.report(ours, epochs)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ours = self._trials[trial.config["trial"]]
        # It did not say that it was done: a rule has stopped it.
        if ours.id in self.open and "refused" not in reported(trial.last_result):
            epoch = self._tracker.stop(ours)
            self._queue.ended(ours)
            self.open.discard(ours.id)
            self._display.stopped(ours, epoch)
            self._learn(ours, self._result(ours, epoch))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ours = self._trials[trial.config["trial"]]
        self._display.note(f"{ours.title}: {self._hung(ours) or 'its worker was lost'}; it is tried again")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ours = self._trials[trial.config["trial"]]
        if ours.id in self.open:
            error = trial.get_pickled_error() or "lost, with nothing said"
            hung = self._hung(ours)
            lost = f"the worker was lost more than {INFRASTRUCTURE_RETRIES} times: {hung or error}"
            self._fail(ours, lost, self._hanging.get(ours.id) or str(error))

    def _elsewhere(self, trial: Trial, refused: str, asked: Mapping[str, float]) -> None:
        """A node that is unlike this machine has refused a trial: it waits for another one, if there is any."""
        there = {node.id: node for node in nodes()}
        name = there[refused].name if refused in there else f"node {refused[:6]}, which has gone,"
        why = (
            f"{name} computes something else than the driver's machine: its data, code or platform are not the same; "
            "`sweeper doctor --address` says which"
        )
        if not room(asked, [node for id, node in there.items() if id not in {refused, *self._queue.avoided}]):
            self._fail(trial, why, "")
            return
        if refused not in self._queue.avoided:
            self._display.note(f"{why}. No more trials are put there")
        self._queue.avoided.add(refused)
        self._queue.again(trial)

    def _hung(self, trial: Trial) -> str | None:
        """In words, that a trial's worker has ended itself because it hung, where it left word of it."""
        left = traceback_file(self._folder, trial.id)
        try:
            self._hanging[trial.id] = left.read_text()
            left.unlink()
        except OSError:
            return None
        # Of all threads, the one that was at a step, the innermost call first.
        for thread in re.split(r"\n(?=.*hread 0x)", self._hanging[trial.id]):
            where = re.search(r'File "(.*)", line (\d+) in (.+)', thread)
            if where and "trial.py" in thread:
                return f"it hung in {where[3]} ({where[1]}:{where[2]})"
        return None  # it was lost in another way

    def _fail(self, trial: Trial, reason: str, traceback: str) -> None:
        self._queue.ended(trial)
        self._tracker.fail(trial, reason, traceback)
        self.failed[trial] = reason
        self.open.discard(trial.id)
        self._display.failed(trial, reason)
        self._learn(trial, Result(None))

    def _result(self, trial: Trial, stopped: int | None = None) -> Result:
        """What a search learns of a trial that has not failed."""
        search, measured = self._planned.space.search, self._tracker.selected(trial)
        if search is None:
            return Result(None)
        for name in search.objectives.keys() - measured.keys():
            self._display.note(f"{trial.title}: {name} is not in the store; with `--fresh` it is measured")
        return search.result(measured, stopped)

    def _learn(self, trial: Trial, result: Result) -> None:
        """Tell a search how a trial ended, and let what it suggests now run as well."""
        if self._studies is None:
            return
        new = self._studies.advance({trial.id: result})
        for suggested in new:
            self._trials[suggested.id] = suggested
            self._planned.keys[suggested.id] = keys = suggested.config.keys()
            self._planned.keep[suggested.id] = [len(keys) - 1]
        self.open.update(suggested.id for suggested in new)
        if new:
            self._tracker.grow(new)
            self._display.grow(new)
        self._queue.grow(new, more=not self._studies.exhausted)
