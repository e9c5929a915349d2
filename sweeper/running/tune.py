"""Trials on Ray Tune, in processes of their own, on this machine or a cluster."""

from __future__ import annotations

import functools
import gc
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
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
from ray.tune.search import Searcher

from methods.cache.store import default_folder

from ..planning.capacity import Placement, PlacementError, capacity
from ..planning.costs import peak_memory
from ..spaces.space import Space
from ..spaces.trial import Trial
from . import hanging
from .cluster import nodes, place, request
from .driver import Driver
from .messages import Failure, Job, Report
from .queue import Queue
from .trial import TrialRunner

# What rules that stop trials early see of a result.
EPOCH, SCORE = "epoch", "score"
# A worker or node that is lost says nothing of the trial: it is tried again this often.
INFRASTRUCTURE_RETRIES = 2


class RayTune:
    """The executor on Ray Tune."""

    def __init__(self, space: Space, address: str | None, max_concurrent: int | None) -> None:
        self._space, self._address, self._max_concurrent = space, address, max_concurrent
        self._owned = False

    @functools.cached_property
    def placement(self) -> Placement:
        """Where trials run; Ray is started, or the cluster joined, when this is first asked for."""
        self._owned = start_ray(self._address)
        device = "cuda" if any(trial.config.train.device == "cuda" for trial in self._space.trials) else "cpu"
        space, elsewhere = self._space, self._address is not None
        return place(space.resources, device, peak_memory(space), elsewhere=elsewhere)

    @property
    def slots(self) -> int | None:
        """How many trials the cluster holds at once; None: those of this machine."""
        return self.placement.slots if self._address else None

    def run(self, driver: Driver, queue: Queue) -> None:
        asked, avoided = self.placement.request, set[str]()
        scratch = tempfile.mkdtemp(prefix="sweeper-")
        try:
            tune.Tuner(
                tune.with_resources(TrialActor, lambda config: request(asked, config["avoid"])),
                tune_config=tune.TuneConfig(
                    search_alg=Source(driver, queue, avoided),
                    scheduler=_scheduler(self._space),
                    num_samples=-1,  # until the queue says so
                    max_concurrent_trials=self._max_concurrent or self.placement.slots,
                    reuse_actors=True,
                    trial_dirname_creator=lambda trial: trial.trial_id,
                ),
                run_config=tune.RunConfig(
                    name=self._space.sweep,
                    storage_path=scratch,
                    callbacks=[_Callback(driver, queue, avoided)],
                    failure_config=tune.FailureConfig(max_failures=INFRASTRUCTURE_RETRIES),
                    verbose=0,
                ),
            ).fit()
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def close(self) -> None:
        """Stop Ray, if it was started here."""
        if self._owned:
            gc.collect()  # here, not in another thread while Ray ends
            ray.shutdown()
            self._owned = False


class TrialActor(tune.Trainable):
    """Ray's view of a trial. Actors are reused: data, backbones and features stay in this process between trials.

    An exception inside an epoch is a report. What else is raised here, or that this process dies, is a failure of the
    infrastructure, and the trial is tried again.
    """

    runner = TrialRunner

    def setup(self, config: Mapping[str, Any]) -> None:
        self._job = Job.read(config["job"])
        self._runner = self.runner(self._job, hanging.traceback_file(Path(self._job.store), self._job.trial))

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        del self._runner  # before the memory of a GPU is counted anew
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        report = self._runner.step()
        result: dict[str, Any] = {"done": report.done, "report": report.text()}
        if report.refused:
            result["node"] = ray.get_runtime_context().get_node_id()
        if self._job.stoppable and report.epochs:
            last = max(report.epochs)
            result |= {EPOCH: last, SCORE: report.epochs[last][self._job.select.metric]}
        return result

    # Ray asks for both; what there is to restore is in the store.
    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        return None


class Source(Searcher):
    """Ray Tune's source of trials: the queue. `avoided` are ids of nodes on which no trial is put any more."""

    def __init__(self, driver: Driver, queue: Queue, avoided: set[str]) -> None:
        super().__init__(metric="done", mode="max")
        self._driver, self._queue, self._avoided = driver, queue, avoided

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its searcher for a restore that is never asked for.
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        if self._queue.exhausted:
            return Searcher.FINISHED  # type: ignore[return-value]  # a text that Ray Tune knows
        trial = self._queue.next()
        if trial is None:
            return None
        return {"trial": trial.id, "job": self._driver.job(trial).text(), "avoid": sorted(self._avoided)}

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        return None


class _Callback(tune.Callback):
    """What Ray Tune says of its trials, passed on to the driver. Runs in the controller's one thread."""

    def __init__(self, driver: Driver, queue: Queue, avoided: set[str]) -> None:
        self._driver, self._queue, self._avoided = driver, queue, avoided
        self._tracebacks: dict[str, str] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Ray Tune pickles its callbacks for a restore that is never asked for.
        return {}

    def _trial(self, trial: Any) -> Trial:
        return self._driver.trials[trial.config["trial"]]

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        self._driver.started(self._trial(trial))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        report = Report.read(result["report"])
        if report.refused:
            self._refused(self._trial(trial), result["node"], trial.placement_group_factory.bundles[0])
        else:
            self._driver.reported(self._trial(trial), report)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        # It has not said that it was done: a rule has stopped it.
        if trial.config["trial"] in self._driver.open and "node" not in trial.last_result:
            self._driver.stopped(self._trial(trial))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ours = self._trial(trial)
        self._driver.note(f"{ours.title}: {self._hung(ours) or 'its worker was lost'}; it is tried again")

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        ours = self._trial(trial)
        if ours.id in self._driver.open:
            error = trial.get_pickled_error() or "lost, with nothing said"
            hung = self._hung(ours)
            reason = f"the worker was lost more than {INFRASTRUCTURE_RETRIES} times: {hung or error}"
            self._driver.failed(ours, Failure(reason, self._tracebacks.get(ours.id) or str(error)))

    def _hung(self, trial: Trial) -> str | None:
        """Where a trial's worker has hung, if that is why it has ended."""
        text = hanging.left_by(hanging.traceback_file(self._driver.folder, trial.id))
        if text:
            self._tracebacks[trial.id] = text
        where = hanging.place_in(text)
        return f"it hung in {where}" if where else None

    def _refused(self, trial: Trial, node: str, asked: Mapping[str, float]) -> None:
        """A node that is unlike this machine has refused a trial: it waits for another one, if there is any."""
        there = {one.id: one for one in nodes()}
        name = there[node].name if node in there else f"node {node[:6]}, which has gone,"
        why = (
            f"{name} computes something else than the driver's machine: its data, code or platform are not the same; "
            "`sweeper doctor --address` says which"
        )
        if not capacity(asked, [one for id, one in there.items() if id not in {node, *self._avoided}]):
            self._driver.failed(trial, Failure(why))
            return
        if node not in self._avoided:
            self._driver.note(f"{why}. No more trials are put there")
        self._avoided.add(node)
        self._queue.again(trial)


def _scheduler(space: Space) -> Any:
    """Ray Tune's scheduler for the rule that stops trials early; None without one."""
    if space.stop is None:
        return None
    rule: dict[str, Any] = {"time_attr": EPOCH, "metric": SCORE, "mode": "max", "grace_period": space.stop.grace}
    if space.stop.rule == "median":
        return MedianStoppingRule(**rule, min_samples_required=2)
    # One epoch more than the longest trial has: that one ends by itself.
    longest = max(trial.config.train.epochs for trial in space.trials) + 1
    return ASHAScheduler(**rule, max_t=longest, reduction_factor=space.stop.reduction)


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
