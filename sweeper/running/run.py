"""Running a sweep: Ray Tune schedules its trials, this driver records what they report.

The driver neither trains nor loads data. Before the trials start it sees to what they are made of: files of data sets
and of weights.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Read by Ray when it is imported. Our own progress and record replace its loggers and its reports.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")
# A machine whose cores are all at work starts Ray slowly.
os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")
os.environ.setdefault("TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S", "0")

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from methods import data
from methods.training.clip_features import made_once
from methods.training.fit import Training

from ..planning.capacity import Placement, PlacementError, nodes, place, request, room
from ..planning.plan import Plan, cost_key, peak_memory, plan, remember_costs, stored_prefix
from ..planning.studies import Result, Studies, so_far
from ..recording.runs import has_begun, recorded
from ..recording.tracker import Tracker
from ..spaces.space import Space, Trial
from .progress import Progress
from .queue import Queue
from .retention import FAILURE, Store, default_folder, fresh_folder, limit_bytes, sweep_away
from .trial import EPOCH, SCORE, TrialActor, reported, traceback_file

# A worker or node that is lost says nothing of the trial: it is tried again this often.
INFRASTRUCTURE_RETRIES = 2
HOOK_SECONDS = 60.0


@dataclass(frozen=True)
class Budget:
    """What a run may take before it is ended as by Ctrl-C: `seconds`, `epochs` trained, `trials` started; None: all."""

    seconds: float | None = None
    epochs: int | None = None
    trials: int | None = None


@dataclass(frozen=True)
class Outcome:
    """How a sweep ended. `failed` maps trials to reasons; `interrupted`: a signal or its budget ended it early."""

    plan: Plan
    succeeded: int
    failed: Mapping[Trial, str]
    epochs_trained: int
    epochs_reused: int
    seconds: float
    interrupted: bool

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some trials failed, 3 stopped by a signal or a budget."""
        return 3 if self.interrupted else 1 if self.failed else 0

    def as_json(self) -> dict[str, Any]:
        return {
            "space": self.plan.space.name,
            "sweep": self.plan.space.sweep,
            "trials": len(self.plan.space.trials),
            "succeeded": self.succeeded,
            "failed": len(self.failed),
            "epochs_trained": self.epochs_trained,
            "epochs_reused": self.epochs_reused,
            "seconds": round(self.seconds, 1),
        }


def run(
    space: Space,
    *,
    max_concurrent: int | None = None,
    address: str | None = None,
    tracking_uri: str | None = None,
    retry_failed: bool = False,
    fresh: bool = False,
    budget: Budget = Budget(),
    epoch_limit: float | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    progress: bool = False,
) -> Outcome:
    """Run every trial of a space that MLflow does not hold yet, and record it there.

    `retry_failed` forgets the deterministic failures that the store remembers. `fresh` trains everything as if there
    were neither store nor runs in MLflow, which are superseded. `budget` ends it cleanly. A trial that takes more than
    `epoch_limit` seconds for an epoch hangs: its worker is ended, and it is tried again. `max_concurrent` bounds the
    trials that run at once; `address` joins a Ray cluster instead of starting one; `progress` draws on stderr. Trials
    that fail are recorded and the sweep goes on. Must be called from the main thread for signals to end it cleanly.

    Raises `TakenError` while another driver runs this sweep, `PlacementError` where no node can hold a trial or one
    that can is unlike this machine, `LimitError` for a wrong SWEEPER_STORE_LIMIT, and `AwayError` where MLflow has gone
    and not come back at the end; all results are in the store then.
    """
    started = time.monotonic()
    limit = limit_bytes()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(fresh_folder())) if fresh else default_folder()
        store = Store(folder)
        space, studies = so_far(
            space, recorded(space, tracking_uri, histories=False) if space.search and not fresh else {}
        )
        nodes = stack.enter_context(contextlib.ExitStack())
        placed = functools.cache(functools.partial(_placed, space, address, nodes))
        slots = placed().slots if address else None
        planned = plan(space, max_concurrent=max_concurrent, store=store, slots=slots)
        if on_plan:
            on_plan(planned)
        display = Progress(space, live=progress)
        stack.callback(display.close)
        begun = has_begun(space, tracking_uri)
        if not begun:  # all trials are waiting, and what is wrong with nodes or data leaves no run behind
            placed()
            _prepare(space.trials, folder, display)
        tracker = Tracker(space, planned.keys, tracking_uri, fresh=fresh, say=display.note)
        waiting = [trial for trial in space.trials if trial.id not in tracker.finished]
        display.found_finished(len(space.trials) - len(waiting))
        if retry_failed:
            for key in {key for chain in planned.keys.values() for key in chain}:
                store.delete(key, FAILURE)
        more = studies is not None and not studies.exhausted
        queue = _queue(planned, waiting, folder, more, budget.trials, epoch_limit)
        driver = _Driver(waiting, planned, tracker, display, queue, studies, budget.epochs, folder)
        status = "KILLED"
        try:
            if waiting:
                with _terminated_as_interrupted(), driver.within(budget.seconds):
                    placement = placed()
                    driver.gpus = placement.asks.get("GPU", 0.0)
                    if begun:
                        _prepare(waiting, folder, display)
                    _tune(space, driver, queue, placement.asks, max_concurrent or placement.slots)
            status = "KILLED" if driver.open else "FAILED" if driver.failed else "FINISHED"
        finally:
            nodes.close()
            remember_costs(driver.seconds, driver.sizes, peaks=driver.peaks)
            _within(limit, planned, display)
            tracker.close(status, driver.epochs, driver.at_work, driver.gpus)
    outcome = Outcome(
        plan=dataclasses.replace(planned, space=tracker.space),
        succeeded=len(tracker.finished),
        failed=driver.failed,
        epochs_trained=driver.epochs,
        epochs_reused=driver.reused + planned.naive_epochs - sum(t.config.train.epochs for t in waiting),
        seconds=time.monotonic() - started,
        interrupted=bool(driver.open),
    )
    if space.on_finish:
        _tell(space.on_finish, outcome, display)
    return outcome


def _tell(command: str, outcome: Outcome, display: Progress) -> None:
    """Run the space's `on_finish`. What becomes of it changes nothing but what is said."""
    told = json.dumps(outcome.as_json() | {"exit_code": outcome.exit_code})
    try:
        subprocess.run(command, shell=True, input=told, text=True, check=True, timeout=HOOK_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        display.note(f"on_finish: {error}")


def _placed(space: Space, address: str | None, nodes: contextlib.ExitStack) -> Placement:
    """Start Ray or join the cluster, until `nodes` is closed, and see where the trials can run."""
    if start_ray(address):
        nodes.callback(ray.shutdown)
    device = "cuda" if any(trial.config.train.device == "cuda" for trial in space.trials) else "cpu"
    return place(space.resources, device, peak_memory(space), elsewhere=address is not None)


def _prepare(trials: Sequence[Trial], folder: Path, display: Progress) -> None:
    """See to the files that these trials need. Raises `DataError` for data that are not as they must be."""
    shared = {(trial.config.network, data.pictures_only(trial.config.data)): trial for trial in trials}
    with _terminated_as_interrupted(), warnings.catch_warnings(record=True) as caught:
        display.note("looking at data and weights")
        for trial in shared.values():
            Training(trial.config, folder).prepare(display.decoded)
    for warning in caught:
        display.note(str(warning.message))


def _within(limit: int, planned: Plan, display: Progress) -> None:
    """Let the store's least recently used records go where it has outgrown its limit; this sweep's stay."""
    in_use = {key for chain in planned.keys.values() for key in chain}
    with contextlib.suppress(OSError):  # it cannot be written: it does not grow either
        records, size = sweep_away(Store(default_folder()), max_bytes=limit, in_use=in_use)
        if records:
            display.note(f"the store's limit of {limit / 1e9:g} GB: {records} records deleted, {size / 1e6:.1f} MB")


def _queue(
    planned: Plan, waiting: list[Trial], folder: Path, more: bool, most: int | None, epoch_limit: float | None
) -> Queue:
    names = functools.cache(Store(folder).names)

    def configure(trial: Trial) -> dict[str, Any]:
        return {
            "trial": trial.id,
            "values": trial.config.flat(),
            "keys": planned.keys[trial.id],
            "keep": planned.keep[trial.id],
            "select": (planned.space.select.metric, planned.space.select.epoch),
            # What is confirmed is trained to its end.
            "stoppable": planned.space.stop is not None and trial.config.seed in planned.space.seeds,
            "store": str(folder),
            "epoch_limit": epoch_limit,
        }

    def stored(trial: Trial) -> int:
        return stored_prefix(planned.keys[trial.id], trial.config.records(), names)

    once = functools.cache(made_once)

    def makes(trial: Trial) -> list[str]:
        config, train = trial.config, trial.config.train
        needed = once(config.data, config.network, train.compute(), views=train.augmentation != "none")
        return [f"{key}/{record}" for key, record in needed if record not in names(key)]

    with data.registry.steady():
        return Queue(waiting, planned.keys, stored, configure, makes, more, most)


def _tune(
    space: Space,
    driver: _Driver,
    queue: Queue,
    asked: Mapping[str, float],
    concurrent: int,
) -> None:
    scratch = tempfile.mkdtemp(prefix="sweeper-")
    try:
        tune.Tuner(
            tune.with_resources(TrialActor, lambda config: request(asked, config["avoid"])),
            tune_config=tune.TuneConfig(
                search_alg=queue,
                scheduler=_scheduler(space),
                num_samples=-1,  # until the queue says so
                max_concurrent_trials=concurrent,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=space.sweep,
                storage_path=scratch,
                callbacks=[driver],
                failure_config=tune.FailureConfig(max_failures=INFRASTRUCTURE_RETRIES),
                verbose=0,
            ),
        ).fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _scheduler(space: Space) -> Any:
    """Ray Tune's scheduler for the rule that stops trials early; None without one."""
    if space.stop is None:
        return None
    told: dict[str, Any] = {"time_attr": EPOCH, "metric": SCORE, "mode": "max", "grace_period": space.stop.grace}
    if space.stop.rule == "median":
        return MedianStoppingRule(**told, min_samples_required=2)
    # One epoch more than the longest trial has: that one ends by itself.
    longest = max(trial.config.train.epochs for trial in space.trials) + 1
    return ASHAScheduler(**told, max_t=longest, reduction_factor=space.stop.reduction)


def start_ray(address: str | None = None) -> bool:
    """Start Ray on this machine, or join a cluster, unless this process has done so; whether it was started here.

    Raises `PlacementError` where there is no cluster, or none that lets us in.
    """
    if ray.is_initialized():
        return False
    logging.getLogger("ray").setLevel(logging.ERROR)
    # Unless it is told to, Ray joins whatever cluster was last started on this machine.
    options: dict[str, Any] = {"address": "local", "include_dashboard": False}
    if address:
        # Decoded images lie in the store, unless a node says otherwise.
        options = {"address": address, "runtime_env": {"env_vars": {"SWEEPER_STORE": str(default_folder())}}}
    try:
        ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
    except ConnectionError as error:
        raise PlacementError(
            f"--address {address}: {error}; is it the head of a cluster, and are RAY_AUTH_MODE and the token its own?"
        ) from None
    return True


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does. Ray Tune handles SIGINT itself, so one becomes the other."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as scripts start what is in their background
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Driver(tune.Callback):
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


def print_failures(outcome: Outcome) -> None:
    """The list at the end, on stderr."""
    for trial, reason in outcome.failed.items():
        print(f"failed: {trial.title}: {reason.splitlines()[0]}", file=sys.stderr)
