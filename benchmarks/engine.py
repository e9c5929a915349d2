"""Cost and savings of the engine, compared with Ray Tune as in its tutorials. Both times of a ratio are from one run.

    python benchmarks/engine.py thresholds    trials that share prefixes, against the same ones under reused actors
    python benchmarks/engine.py nothing       trials in which nothing is left to compute
    python benchmarks/engine.py ll_delta      the trials of one seed of search_spaces/ll_delta.yaml
    python benchmarks/engine.py plan          planning 10,000 trials: seconds and memory

It works in a temporary folder. The pre-trained backbone is made and Ray is started before anything is timed. Two trials
run at once.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])

from benchmarks.falling_threshold import register  # noqa: E402
from methods.cache.store import default_folder  # noqa: E402
from methods.training.config import resolve  # noqa: E402
from methods.training.fit import Training  # noqa: E402
from sweeper import load_space, plan, run  # noqa: E402
from sweeper.running import driver  # noqa: E402
from sweeper.running.tune import ray, tune  # noqa: E402  (with the settings of Ray that a sweep has)
from sweeper.spaces.space import Space  # noqa: E402
from sweeper.spaces.trial import Trial  # noqa: E402

SLOTS = 2
THRESHOLDS = """
data: {{labels: proportion, known: 0.1, train_images: {images}, val_images: 200, test_images: 200}}
network: {{frozen_blocks: 0}}
train: {{epochs: 20}}
variants: {{Pseudo labels: {{method: falling_threshold}}}}
axes: {{minimum: [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8]}}
seeds: [1, 2]
"""
NOTHING = """
data: {{labels: single_positive, train_images: 32, val_images: 16, test_images: 16}}
train: {{epochs: 3}}
variants: {{Naive AN: {{method: assume_negative}}}}
seeds: [{seeds}]
"""
MANY = """
data: {labels: single_positive}
variants: {LL-R: {method: large_loss}, LL-Ct: {method: large_loss, scheme: correct_temporary}}
axes:
  delta_rel: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
  train.learning_rate: [0.001, 0.002, 0.003, 0.004, 0.005]
seeds: [SEEDS]
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("thresholds", "nothing", "ll_delta", "plan"))
    parser.add_argument("--images", type=int, default=2000, help="thresholds: training images, for longer epochs")
    parser.add_argument("--trials", type=int, default=100, help="nothing: how many")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        os.environ["SWEEPER_STORE"] = f"{folder}/store"
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        register()
        if options.what == "plan":
            plan_many()
            return
        ray.init(
            include_dashboard=False,
            num_cpus=SLOTS,
            log_to_driver=False,
            logging_level="ERROR",
            runtime_env={"worker_process_setup_hook": register},
        )
        if options.what == "thresholds":
            thresholds(options.images)
        elif options.what == "nothing":
            nothing(options.trials)
        else:
            ll_delta()


def thresholds(images: int) -> None:
    space = _space(THRESHOLDS.format(images=images))
    _prepare(space)
    planned = plan(space)
    print(f"{planned.unique_epochs} unique epochs of {planned.naive_epochs}")
    ours, driver = [], []
    # Measured before and after Ray Tune, each time with an empty store, because the machine's speed may change.
    for when in ("before", "after"):
        os.environ["SWEEPER_STORE"] = f"{os.getcwd()}/store {when}"
        _prepare(space)
        with _reports_timed() as reports:
            seconds, outcome = _timed(partial(run, space, max_concurrent=SLOTS, tracking_uri=_record(when)))
        assert outcome.exit_code == 0 and outcome.epochs_trained == planned.unique_epochs, outcome
        ours.append(seconds)
        driver += reports
        if when == "before":
            plain, histories = _tuned(space.trials, PlainTrial, reuse=True, loggers=False)
    _assert_identical(space, histories, _record("before"))
    _assert_identical(space, histories, _record("after"))
    print("metrics of all epochs identical, bit for bit")
    print(f"sweeper: {ours[0]:.1f} s before, {ours[1]:.1f} s after; {1e3 * sum(driver) / len(driver):.1f} ms a report")
    epochs = planned.naive_epochs
    print(f"Ray Tune, reused actors, no loggers, no record: {plain:.1f} s, {plain * SLOTS / epochs:.2f} s an epoch")
    print(f"ratio: {2 * plain / sum(ours):.2f} times faster; {epochs / planned.unique_epochs:.2f} is the bound")


def nothing(trials: int) -> None:
    space = _space(NOTHING.format(seeds=", ".join(str(seed) for seed in range(1, trials + 1))))
    _prepare(space)
    few = _space(NOTHING.format(seeds="1"), "few")
    for warming in (space, few):
        run(warming, max_concurrent=SLOTS, tracking_uri=_record("first"))
    rows = []
    once, _ = _timed(lambda: run(few, max_concurrent=SLOTS, tracking_uri=_record("few")))
    with _reports_timed() as reports:
        seconds, outcome = _timed(lambda: run(space, max_concurrent=SLOTS, tracking_uri=_record("again")))
    assert outcome.exit_code == outcome.epochs_trained == 0, outcome
    rows.append(
        (f"sweeper, {trials} trials whose 3 epochs are stored, recorded in MLflow", (seconds - once) / (trials - 1))
    )
    print(f"driver's time per trial {1e3 * sum(reports) / trials:.1f} ms, start and end of a sweep {once:.1f} s")
    for name, reuse, loggers, mlflow, trainable in (
        ("Ray Tune, reused actors, no loggers, no record", True, False, False, NoTrial),
        ("Ray Tune, reused actors, default loggers", True, True, False, NoTrial),
        ("Ray Tune, a function, as in the tutorial", False, True, False, no_trial),
        ("Ray Tune, a function, and MLflow's callback", False, True, True, no_trial),
    ):
        # Start and end are measured separately; slow variants get fewer trials.
        count = trials if reuse else max(trials // 5, 2)
        once, _ = _tuned(space.trials[:1], trainable, reuse=reuse, loggers=loggers, mlflow=mlflow)
        plain, _ = _tuned(space.trials[:count], trainable, reuse=reuse, loggers=loggers, mlflow=mlflow)
        rows.append((name, (plain - once) / (count - 1)))
    for name, each in rows:
        print(f"{1e3 * each:7.0f} ms a trial, {each / rows[0][1]:5.1f} times: {name}")


def ll_delta() -> None:
    space = load_space(REPOSITORY / "search_spaces" / "ll_delta.yaml", sets=["seeds=[1]"])
    _prepare(space)
    planned = plan(space)
    seconds, outcome = _timed(lambda: run(space, max_concurrent=SLOTS))
    assert outcome.exit_code == 0
    rows = [(f"sweeper, {outcome.epochs_trained} of {planned.naive_epochs} epochs, recorded in MLflow", seconds)]
    plain, histories = _tuned(space.trials, plain_trial, reuse=False, loggers=True)
    rows.append(("Ray Tune, a function, as in the tutorial", plain))
    _assert_identical(space, histories, os.environ["MLFLOW_TRACKING_URI"])
    plain, _ = _tuned(space.trials, plain_trial, reuse=False, loggers=True, mlflow=True)
    rows.append(("Ray Tune, a function, and MLflow's callback", plain))
    plain, _ = _tuned(space.trials, PlainTrial, reuse=True, loggers=False)
    rows.append(("Ray Tune, reused actors, no loggers, no record", plain))
    for name, each in rows:
        print(f"{each:7.1f} s, {each / seconds:5.2f} times: {name}")


def plan_many() -> None:
    """Measured in its own process, because of the memory."""
    Path("many.yaml").write_text(MANY.replace("SEEDS", ", ".join(map(str, range(1, 101)))))
    script = (
        "import resource, time; from sweeper import load_space, plan; started = time.perf_counter()\n"
        "planned = plan(load_space('many.yaml'))\n"
        "seconds, peak = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6\n"
        "print(f'{len(planned.space.trials)} trials, {planned.unique_epochs} of {planned.naive_epochs} epochs: '\n"
        "      f'{seconds:.1f} s, {peak:.2f} GB at most')\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# Ray Tune as its tutorials use it


class PlainTrial(tune.Trainable):
    """The trial as a class whose actors can be reused, with one epoch per step."""

    def setup(self, config: dict) -> None:
        self._training = Training(resolve(config["trial"]["values"]), Path(config["trial"]["store"]))
        self._state, self._epoch = self._training.initial_state(), 0

    def reset_config(self, new_config: dict) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict:
        self._epoch += 1
        self._state, metrics = self._training.advance(self._state, self._epoch)
        return {**metrics, "done": self._epoch == self._training.config.train.epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        return None


def plain_trial(config: dict) -> None:
    """The trial as a function."""
    training = Training(resolve(config["trial"]["values"]), Path(config["trial"]["store"]))
    state = training.initial_state()
    for epoch in range(1, training.config.train.epochs + 1):
        state, metrics = training.advance(state, epoch)
        tune.report(metrics)


class NoTrial(PlainTrial):
    """Three reports of nothing."""

    def setup(self, config: dict) -> None:
        self._epoch = 0

    def step(self) -> dict:
        self._epoch += 1
        return {"val/map": 50.0 + self._epoch, "test/map": 50.0, "train/loss": 0.5, "done": self._epoch == 3}


def no_trial(config: dict) -> None:
    """Three reports of nothing."""
    for epoch in (1, 2, 3):
        tune.report({"val/map": 50.0 + epoch, "test/map": 50.0, "train/loss": 0.5})


def _tuned(
    trials: Sequence[Trial], trainable: Any, *, reuse: bool, loggers: bool, mlflow: bool = False
) -> tuple[float, list[list[dict]]]:
    """Seconds that Ray Tune takes, and the reports of all epochs of all trials."""
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = str(int(not loggers))
    recorder = _Recorder()
    callbacks: list[tune.Callback] = [recorder]
    if mlflow:
        from ray.air.integrations.mlflow import MLflowLoggerCallback

        callbacks.append(
            MLflowLoggerCallback(tracking_uri=f"sqlite:///{os.getcwd()}/plain.db", experiment_name="plain")
        )
    configs = [{"values": trial.config.flat(), "store": str(default_folder())} for trial in trials]
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={"trial": tune.grid_search(configs)},
        tune_config=tune.TuneConfig(reuse_actors=reuse, trial_dirname_creator=lambda trial: trial.trial_id),
        run_config=tune.RunConfig(storage_path=f"{os.getcwd()}/ray", verbose=0, callbacks=callbacks),
    )
    seconds, results = _timed(tuner.fit)
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    assert not results.errors, results.errors[0]
    order = {_identity(config): index for index, config in enumerate(configs)}
    return seconds, [
        recorder.histories[_identity(config)] for config in sorted(configs, key=lambda c: order[_identity(c)])
    ]


class _Recorder(tune.Callback):
    """Keeps all reports."""

    def __init__(self) -> None:
        self.histories: dict[str, list[dict]] = {}

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        self.histories.setdefault(_identity(trial.config["trial"]), []).append(result)

    def __getstate__(self) -> dict[str, Any]:
        return {}


def _identity(config: dict) -> str:
    return repr(sorted(config["values"].items()))


def _assert_identical(space: Space, histories: list[list[dict]], uri: str) -> None:
    """Checks that the sweeper's metrics in MLflow equal Ray Tune's reports exactly, in every epoch."""
    from sweeper.recording.runs import recorded

    ours = recorded(space, uri)
    for trial, theirs in zip(space.trials, histories, strict=True):
        assert len(ours[trial.id].history) == trial.config.train.epochs
        for mine, reported in zip(ours[trial.id].history, theirs, strict=False):
            for name, value in mine.items():
                assert value == reported[name] or (math.isnan(value) and math.isnan(reported[name])), (
                    trial.title,
                    name,
                )


def _record(name: str) -> str:
    return f"sqlite:///{os.getcwd()}/{name}.db"


def _space(text: str, name: str = "space") -> Space:
    Path(f"{name}.yaml").write_text(text)
    return load_space(f"{name}.yaml")


def _prepare(space: Space) -> None:
    Training(space.trials[0].config).make()


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


@contextlib.contextmanager
def _reports_timed() -> Iterator[list[float]]:
    """Seconds that the driver needs for each report of a trial, MLflow included."""
    seconds: list[float] = []
    before = driver.Driver.reported

    def timed(self: Any, *arguments: Any, **named: Any) -> None:
        started = time.perf_counter()
        before(self, *arguments, **named)
        seconds.append(time.perf_counter() - started)

    driver.Driver.reported = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        driver.Driver.reported = before  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
