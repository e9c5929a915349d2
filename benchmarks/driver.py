"""Cost of the driver for many simulated trials on many slots: each trial reports made-up metrics for every epoch.
Queue, callback and record in MLflow (SQLite) are the real ones; Ray Tune and the training are left out.

    python benchmarks/driver.py --trials 10000 --slots 1000
    python benchmarks/driver.py --trials 100000 --slots 1000 --recorded 1000    the record of the first 1,000 only

Trials that share prefixes wait for one another, as in a sweep. Times are processor time of the driver's thread; for the
record, of the thread that writes it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from methods.evaluation.metrics import METRICS  # noqa: E402
from sweeper import load_space, plan  # noqa: E402
from sweeper.recording.tracker import Tracker  # noqa: E402
from sweeper.running.driver import Driver  # noqa: E402
from sweeper.running.progress import Progress  # noqa: E402
from sweeper.running.run import _queue  # noqa: E402

SPACE = """
data: {{labels: single_positive}}
variants: {{LL-R: {{method: large_loss}}, LL-Ct: {{method: large_loss, scheme: correct_temporary}}}}
axes: {{delta_rel: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}}
seeds: [{seeds}]
"""
POINTS = 20


class Unrecorded:
    """Takes the place of the tracker when only queue and callback are measured."""

    def __init__(self) -> None:
        self.finished: set[str] = set()

    def start(self, trial: Any) -> None: ...

    def report(self, trial: Any, epochs: Any) -> None: ...

    def finish(self, trial: Any, epochs: Any, files: Any) -> int:
        return 1

    def selected(self, trial: Any) -> dict[str, float]:
        return {"val/map": 50.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=1000)
    parser.add_argument("--recorded", type=int, help="record the first so many trials; default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.chdir(folder)
        seeds = ", ".join(str(seed) for seed in range(1, -(-options.trials // POINTS) + 1))
        Path("many.yaml").write_text(SPACE.format(seeds=seeds))
        measure(options.slots, options.trials if options.recorded is None else options.recorded)


def measure(slots: int, recorded: int) -> None:
    started = time.process_time()
    space = load_space("many.yaml")
    planned = plan(space)
    print(
        f"{len(space.trials):,} trials, {planned.unique_epochs:,} of {planned.naive_epochs:,} epochs; {slots:,} slots"
    )
    print(f"plan                        {time.process_time() - started:8.1f} s")

    tracker = Tracker(space, planned.keys, f"sqlite:///{os.getcwd()}/mlflow.db") if recorded else None
    waiting, folder, display = list(space.trials), Path("store"), Progress(space)
    started = time.process_time()
    queue = _queue(planned, waiting, folder, False, None, None)
    print(f"queue                       {time.process_time() - started:8.1f} s")
    quiet: Any = Unrecorded()
    driver = Driver(waiting, planned, quiet, display, queue, None, None, folder)
    chance = random.Random(1)
    names = [f"{split}/{name}" for split in ("val", "test") for name in METRICS]
    running: dict[str, tuple[Any, int]] = {}
    handed, reports, suggesting, reporting, begun = 0, 0, 0.0, 0.0, set[str]()
    all_threads, this_thread = time.process_time(), time.thread_time()
    while True:
        while len(running) < slots:
            before = time.thread_time()
            config = queue.suggest("")
            suggesting += time.thread_time() - before
            if not isinstance(config, dict):
                break
            handed += 1
            running[config["trial"]] = SimpleNamespace(config=config), 0
            driver._tracker = tracker if tracker and handed <= recorded else quiet
            if driver._tracker is tracker:
                begun.add(config["trial"])
            driver.on_trial_start(0, [], running[config["trial"]][0])
        if not running:
            break
        # Each slot ends an epoch, in random order.
        for id in chance.sample(sorted(running), len(running)):
            trial, epoch = running[id]
            done = epoch + 1 == trial.config["keep"][-1]
            metrics = {name: chance.random() for name in names} | {"train/loss": chance.random()}
            report = {
                "epochs": {epoch + 1: metrics},
                "done": done,
                "trained": 1,
                "written": {"metrics": 1000},
                "notes": [],
                "artifacts": {},
            }
            result = {"done": done, "report": json.dumps(report), "time_this_iter_s": 1.0}
            driver._tracker = tracker if tracker and id in begun else quiet
            before = time.thread_time()
            driver.on_trial_result(0, [], trial, result)
            reporting += time.thread_time() - before
            reports += 1
            if done:
                del running[id]
            else:
                running[id] = trial, epoch + 1
    print(f"a trial handed out          {1000 * suggesting / handed:8.2f} ms")
    print(f"a report                    {1000 * reporting / reports:8.2f} ms, of {reports:,}")
    if tracker:
        tracker.flush()
        written = time.process_time() - all_threads - (time.thread_time() - this_thread)
        epochs = len(begun) * planned.naive_epochs // len(space.trials)
        print(f"the record of a report      {1000 * written / epochs:8.2f} ms, of {epochs:,}")
        tracker.close("FINISHED")
    print(f"memory                      {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:8.2f} GB at most")


if __name__ == "__main__":
    main()
