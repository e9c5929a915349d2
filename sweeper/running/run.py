"""Running a sweep: Ray Tune schedules its trials, this driver records what they report.

The driver neither trains nor loads data. Before the trials start it sees to what they are made of: files of data sets
and of weights.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
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


from methods import data
from methods.training.fit import Training, made_once

from ..planning.costs import remember_costs
from ..planning.plan import Plan, plan
from ..planning.stored import FAILURE, stored_prefix
from ..planning.studies import so_far
from ..recording.runs import has_begun, recorded
from ..recording.tracker import Tracker
from ..spaces.space import Space, Trial
from .driver import Driver
from .progress import Progress
from .queue import Queue
from .retention import Store, default_folder, fresh_folder, limit_bytes, sweep_away
from .tune import placed_on_ray, run_on_ray, terminated_as_interrupted

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
        placed = functools.cache(functools.partial(placed_on_ray, space, address, nodes))
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
        driver = Driver(waiting, planned, tracker, display, queue, studies, budget.epochs, folder)
        status = "KILLED"
        try:
            if waiting:
                with terminated_as_interrupted(), driver.within(budget.seconds):
                    placement = placed()
                    driver.gpus = placement.asks.get("GPU", 0.0)
                    if begun:
                        _prepare(waiting, folder, display)
                    run_on_ray(space, driver, queue, placement.asks, max_concurrent or placement.slots)
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


def _prepare(trials: Sequence[Trial], folder: Path, display: Progress) -> None:
    """See to the files that these trials need. Raises `DataError` for data that are not as they must be."""
    shared = {(trial.config.network, data.pictures_only(trial.config.data)): trial for trial in trials}
    with terminated_as_interrupted(), warnings.catch_warnings(record=True) as caught:
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

    with data.content.steady():
        return Queue(waiting, planned.keys, stored, configure, makes, more, most)


def print_failures(outcome: Outcome) -> None:
    """The list at the end, on stderr."""
    for trial, reason in outcome.failed.items():
        print(f"failed: {trial.title}: {reason.splitlines()[0]}", file=sys.stderr)
