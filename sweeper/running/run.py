"""Running a sweep: an executor runs its trials, listeners record what they report.

The driver neither trains nor loads data, unless trials run inline. Before trials start, it prepares the files of data
sets and weights that they need.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import subprocess
import time
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from methods import data
from methods.cache.store import Store, default_folder
from methods.training.fit import Training, made_once

from ..planning.capacity import Placement
from ..planning.plan import Plan, plan
from ..planning.stored import FAILURE, stored_prefix
from ..planning.studies import so_far
from ..recording.runs import has_begun, recorded
from ..recording.tracker import Tracker
from ..spaces.space import Space
from ..spaces.trial import Trial
from .budget import UNLIMITED, Budget, Spending
from .driver import Driver
from .events import Listener
from .progress import Progress
from .queue import Queue
from .retention import fresh_folder, limit_bytes, sweep_away
from .signals import terminated_as_interrupted
from .suggestions import Suggestions

HOOK_SECONDS = 60.0


class Executor(Protocol):
    """Runs trials. `placement` says where, and raises `PlacementError`. `slots` is how many at once, for the plan;
    None: as many as this machine holds. `run` returns when the queue is exhausted or a signal ends the sweep."""

    @property
    def placement(self) -> Placement: ...

    @property
    def slots(self) -> int | None: ...

    def run(self, driver: Driver, queue: Queue) -> None: ...

    def close(self) -> None: ...


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
    budget: Budget = UNLIMITED,
    epoch_limit: float | None = None,
    on_plan: Callable[[Plan], None] | None = None,
    progress: bool = False,
    inline: bool = False,
    listeners: Sequence[Listener] = (),
) -> Outcome:
    """Run every trial of a space that MLflow does not hold yet, and record it there.

    `retry_failed` forgets the deterministic failures that the store remembers. `fresh` trains everything as if there
    were neither store nor runs in MLflow, which are superseded. `budget` ends it cleanly. A trial that takes more than
    `epoch_limit` seconds for an epoch hangs: its worker is ended, and it is tried again. `max_concurrent` bounds the
    trials that run at once; `address` joins a Ray cluster instead of starting one; `progress` draws on stderr.
    `inline` runs one trial after the other in this process, without Ray (`sweeper.running.inline` says what differs).
    `listeners` get the same events as the record in MLflow. Trials that fail are recorded and the sweep goes on.
    Signals end it cleanly only if it is called from the main thread.

    Raises `TakenError` while another driver runs this sweep; `PlacementError` if no node can hold a trial, or if one
    that can would compute other results than this machine; `InlineError` if the sweep needs Ray and `inline` is set;
    `LimitError` for a wrong SWEEPER_STORE_LIMIT; `AwayError` if MLflow does not answer at the end.
    The store has all results then.
    """
    started = time.monotonic()
    limit = limit_bytes()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(fresh_folder())) if fresh else default_folder()
        store = Store(folder)
        space, studies = so_far(
            space, recorded(space, tracking_uri, histories=False) if space.search and not fresh else {}
        )
        executor = _executor(space, inline, address, max_concurrent)
        # Last, when no other thread runs: one that frees an object of Ray's while Ray ends would end this process.
        stack.callback(executor.close)
        names = functools.cache(store.names)
        planned = plan(space, max_concurrent=max_concurrent, slots=executor.slots, names=names)
        if on_plan:
            on_plan(planned)
        display = Progress(space, live=progress)
        stack.callback(display.close)
        begun = has_begun(space, tracking_uri)
        if not begun:  # check nodes and data first, so that an error leaves no empty run in MLflow
            _ = executor.placement
            _prepare(space.trials, folder, display)
        tracker = Tracker(space, tracking_uri, fresh=fresh, say=display.note)
        waiting = [trial for trial in space.trials if trial.id not in tracker.complete]
        display.found_finished(len(space.trials) - len(waiting))
        if retry_failed:
            for key in {key for trial in space.trials for key in trial.keys}:
                store.delete(key, FAILURE)
        more = studies is not None and not studies.exhausted
        queue = _queue(waiting, names, more, budget.trials)
        spending = Spending(budget, display.note)
        driver = Driver(space, waiting, planned.keep, folder, epoch_limit, display.note)
        # The record comes first: an event is recorded before the queue lets other trials start.
        driver.listeners += [tracker, queue, display, spending, *listeners]
        if studies:
            driver.listeners.append(Suggestions(studies, driver))
        status, gpus = "KILLED", 0.0
        try:
            if waiting:
                with terminated_as_interrupted(), spending.within():
                    gpus = executor.placement.request.get("GPU", 0.0)
                    if begun:
                        _prepare(waiting, folder, display)
                    executor.run(driver, queue)
            status = "KILLED" if driver.open else "FAILED" if driver.failures else "FINISHED"
        finally:
            spending.remember()
            _within(limit, {*space.trials, *driver.trials.values()}, display)
            tracker.close(status, spending.epochs, spending.at_work, gpus)
    known = {trial.id: trial for trial in space.trials} | driver.trials
    outcome = Outcome(
        plan=dataclasses.replace(planned, space=dataclasses.replace(space, trials=tuple(known.values()))),
        succeeded=len(tracker.complete),
        failed=driver.failures,
        epochs_trained=spending.epochs,
        epochs_reused=spending.reused + planned.naive_epochs - sum(t.config.train.epochs for t in waiting),
        seconds=time.monotonic() - started,
        interrupted=bool(driver.open),
    )
    if space.on_finish:
        _run_hook(space.on_finish, outcome, display)
    return outcome


def _executor(space: Space, inline: bool, address: str | None, max_concurrent: int | None) -> Executor:
    if inline:
        from .inline import Inline

        return Inline(space, address, max_concurrent)
    from .tune import RayTune  # imports Ray

    return RayTune(space, address, max_concurrent)


def _run_hook(command: str, outcome: Outcome, display: Progress) -> None:
    """Run the space's command `on_finish`, with the outcome on its stdin. A failure of it is only noted."""
    text = json.dumps(outcome.as_json() | {"exit_code": outcome.exit_code})
    try:
        subprocess.run(command, shell=True, input=text, text=True, check=True, timeout=HOOK_SECONDS)
    except (OSError, subprocess.SubprocessError) as error:
        display.note(f"on_finish: {error}")


def _prepare(trials: Sequence[Trial], folder: Path, display: Progress) -> None:
    """Prepare the files that these trials need. Raises `DataError` for missing or wrong data."""
    shared = {(trial.config.network, data.pictures_only(trial.config.data)): trial for trial in trials}
    with terminated_as_interrupted(), warnings.catch_warnings(record=True) as caught:
        display.note("looking at data and weights")
        for trial in shared.values():
            Training(trial.config, folder).prepare(display.decoded)
    for warning in caught:
        display.note(str(warning.message))


def _within(limit: int, trials: Set[Trial], display: Progress) -> None:
    """Delete the least recently used records if the store is over its limit, but none of these trials."""
    in_use = {key for trial in trials for key in trial.keys}
    with contextlib.suppress(OSError):  # a store that cannot be written does not grow
        records, size = sweep_away(Store(default_folder()), max_bytes=limit, in_use=in_use)
        if records:
            display.note(f"the store's limit of {limit / 1e9:g} GB: {records} records deleted, {size / 1e6:.1f} MB")


def _queue(
    waiting: Sequence[Trial], names: Callable[[str], Set[str]], more: bool = False, most: int | None = None
) -> Queue:
    def stored(trial: Trial) -> int:
        return stored_prefix(trial.keys, trial.records, names)

    once = functools.cache(made_once)

    def makes(trial: Trial) -> list[str]:
        config, train = trial.config, trial.config.train
        needed = once(config.data, config.network, train.compute(), views=train.augmentation != "none")
        return [f"{key}/{record}" for key, record in needed if record not in names(key)]

    with data.content.steady():
        return Queue(waiting, stored, makes, more, most)
