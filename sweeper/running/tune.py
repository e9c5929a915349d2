"""Trials on Ray Tune, in processes of their own, on this machine or a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler, MedianStoppingRule

from ..planning.capacity import Placement, PlacementError
from ..planning.costs import peak_memory
from ..spaces.space import Space
from .cluster import place, request
from .driver import INFRASTRUCTURE_RETRIES, Driver
from .queue import Queue
from .retention import default_folder
from .trial import EPOCH, SCORE, TrialActor


def placed_on_ray(space: Space, address: str | None, nodes: contextlib.ExitStack) -> Placement:
    """Start Ray or join the cluster, until `nodes` is closed, and see where the trials can run."""
    if start_ray(address):
        nodes.callback(ray.shutdown)
    device = "cuda" if any(trial.config.train.device == "cuda" for trial in space.trials) else "cpu"
    return place(space.resources, device, peak_memory(space), elsewhere=address is not None)


def run_on_ray(
    space: Space,
    driver: Driver,
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
def terminated_as_interrupted() -> Iterator[None]:
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
