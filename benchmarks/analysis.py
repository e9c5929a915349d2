"""How long tables take over a sweep of 1,000 runs, and the report over the spaces' own sweeps, 1,000 runs and more,
recorded by the driver's own code with made-up numbers.

    python benchmarks/analysis.py [--folder DIR] [--uri URI]

Each is one command as a user gives it, imports included: seconds on the wall and of processor time. `--folder` keeps
the record for another look, and is not filled again; `--uri` is a server to record to and read from in its place.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sweeper.spaces.space import Space

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))
os.environ["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])

SPACE = REPOSITORY / "search_spaces" / "sst_table2.yaml"
SEEDS = list(range(1, 26))  # with 8 rows at 5 proportions: 1,000 trials of 12 epochs
COMMANDS = {
    "import of MLflow and pandas": ["-c", "import analysis.reading.records"],
    "table": ["-m", "analysis", "table", "sst_table2"],
    "table --select best_test": ["-m", "analysis", "table", "sst_table2", "--select", "best_test"],
    "table --against SSGRL": ["-m", "analysis", "table", "sst_table2", "--against", "SSGRL"],
    "compare": ["-m", "analysis", "compare", "sst_table2", "sst_table2"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--uri")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        uri = options.uri or f"sqlite:///{(folder / 'mlflow.db').absolute()}"
        if options.uri or not (folder / "mlflow.db").exists():
            record_large(uri)
        for name, command in COMMANDS.items():
            measure(name, command, uri)
        if not options.uri:  # a server holds what it holds
            many = f"sqlite:///{(folder / 'many.db').absolute()}"
            if not (folder / "many.db").exists():
                record_many(many)
            measure("report", ["-m", "analysis", "report", "--out", str(folder / "report.html")], many)


def measure(name: str, command: list[str], uri: str) -> None:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL, env=environment)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - started
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{name}: {wall:.1f} s, of which processor {busy:.1f} s", flush=True)


def record_many(uri: str) -> None:
    """Spaces as they are by default, from the last of the alphabet on, until there are 1,000 runs."""
    from sweeper import load_space

    runs = 0
    for path in sorted(SPACE.parent.glob("*.yaml"), reverse=True):
        if runs < 1000:
            space = load_space(path)
            record(uri, space)
            runs += len(space.trials)


def record_large(uri: str) -> None:
    """The sweep that the tables are of."""
    from sweeper import load_space

    record(uri, load_space(SPACE, sets=[f"seeds={SEEDS}"]))


def record(uri: str, space: Space) -> None:
    """A finished sweep of a space under `uri`, its metrics drawn at random."""
    from methods.evaluation.metrics import METRICS
    from sweeper.recording.tracker import Tracker
    from sweeper.running.driver import selected
    from sweeper.running.messages import Report

    tracker = Tracker(space, uri)
    draw, started = random.Random(1), time.monotonic()
    for trial in space.trials:
        tracker.started(trial)
        names = ["train/loss", *(f"{split}/{name}" for split in ("val", "test") for name in METRICS)]
        epochs = range(1, trial.config.train.epochs + 1)
        history = {epoch: {name: draw.gauss(50 + epoch, 5) for name in names} for epoch in epochs}
        tracker.reported(trial, Report(history))
        tracker.finished(trial, selected(space.select, list(history.values())))
    tracker.close("FINISHED")
    print(f"{space.name}: {len(space.trials)} runs recorded in {time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
