"""Cost of the driver for many simulated trials on many slots: each trial reports made-up metrics for every epoch.
Queue, driver and record in MLflow (SQLite) are the real ones; Ray Tune and the training are left out.

    python benchmarks/driver.py --trials 10000 --slots 1000
    python benchmarks/driver.py --trials 100000 --slots 1000 --recorded 1000    the record of the first 1,000 only

Trials that share prefixes wait for one another, as in a sweep. Times are processor time, of the driver's thread and,
for the record, of the one that writes it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from methods.cache.store import Store  # noqa: E402
from methods.evaluation.metrics import METRICS  # noqa: E402
from sweeper import load_space, plan  # noqa: E402
from sweeper.recording.tracker import Tracker  # noqa: E402
from sweeper.running.budget import UNLIMITED, Spending  # noqa: E402
from sweeper.running.driver import Driver  # noqa: E402
from sweeper.running.events import Listener  # noqa: E402
from sweeper.running.messages import Report  # noqa: E402
from sweeper.running.progress import Progress  # noqa: E402
from sweeper.running.run import _queue  # noqa: E402
from sweeper.spaces.trial import Trial  # noqa: E402

SPACE = """
data: {{labels: single_positive}}
variants: {{LL-R: {{method: large_loss}}, LL-Ct: {{method: large_loss, scheme: correct_temporary}}}}
axes: {{delta_rel: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]}}
seeds: [{seeds}]
"""
POINTS = 20


class First(Listener):
    """Passes events of the first so many trials that start on to a tracker."""

    def __init__(self, tracker: Tracker, most: int) -> None:
        self._tracker, self._most, self.begun = tracker, most, set[str]()

    def started(self, trial: Trial) -> None:
        if len(self.begun) < self._most:
            self.begun.add(trial.id)
            self._tracker.started(trial)

    def reported(self, trial: Trial, report: Report) -> None:
        if trial.id in self.begun:
            self._tracker.reported(trial, report)

    def finished(self, trial: Trial, results: Mapping[str, float]) -> None:
        if trial.id in self.begun:
            self._tracker.finished(trial, results)


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

    tracker = Tracker(space, f"sqlite:///{os.getcwd()}/mlflow.db") if recorded else None
    waiting, folder, display = list(space.trials), Path("store"), Progress(space)
    started = time.process_time()
    queue = _queue(waiting, cache(Store(folder).names))
    print(f"queue                       {time.process_time() - started:8.1f} s")
    driver = Driver(space, waiting, planned.keep, folder)
    first = [First(tracker, recorded)] if tracker else []
    driver.listeners += [*first, queue, display, Spending(UNLIMITED, print)]
    chance = random.Random(1)
    names = [f"{split}/{name}" for split in ("val", "test") for name in METRICS]
    running: dict[Trial, int] = {}
    handed, reports, suggesting, reporting = 0, 0, 0.0, 0.0
    all_threads, this_thread = time.process_time(), time.thread_time()
    while True:
        while len(running) < slots:
            before = time.thread_time()
            trial = queue.next()
            if trial is not None:
                driver.job(trial).text()
            suggesting += time.thread_time() - before
            if trial is None:
                break
            handed += 1
            running[trial] = 0
            driver.started(trial)
        if not running:
            break
        # Each slot ends an epoch, in any order.
        for trial in chance.sample(list(running), len(running)):
            running[trial] += 1
            epoch, done = running[trial], running[trial] == trial.config.train.epochs
            metrics = {name: chance.random() for name in names} | {"train/loss": chance.random()}
            text = Report({epoch: metrics}, trained=True, done=done, written={"metrics": 1000}, seconds=1.0).text()
            before = time.thread_time()
            driver.reported(trial, Report.read(text))
            reporting += time.thread_time() - before
            reports += 1
            if done:
                del running[trial]
    print(f"a trial handed out          {1000 * suggesting / handed:8.2f} ms")
    print(f"a report                    {1000 * reporting / reports:8.2f} ms, of {reports:,}")
    if tracker:
        tracker.flush()
        written = time.process_time() - all_threads - (time.thread_time() - this_thread)
        epochs = len(first[0].begun) * planned.naive_epochs // len(space.trials)
        print(f"the record of a report      {1000 * written / epochs:8.2f} ms, of {epochs:,}")
        tracker.close("FINISHED")
    print(f"memory                      {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:8.2f} GB at most")


if __name__ == "__main__":
    main()
