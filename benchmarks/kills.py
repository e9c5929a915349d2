"""Kills the driver, a worker, or both with -9 at random moments of a sweep, and runs the same command again each time.

    python benchmarks/kills.py [--kills 20] [--seed 1]

At the end MLflow's content and the table must equal those of the same sweep without kills; if not, it exits with 1.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
SPACE = REPOSITORY / "search_spaces" / "ll_delta.yaml"
RUN = [sys.executable, "-m", "sweeper", "run", str(SPACE), "--profile", "smoke"]
RUN += ["--set", "train.epochs=30", "--set", "seeds=[1, 2, 3, 4]"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of the moments and of who is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        peaceful, disturbed = Path(folder, "peaceful"), Path(folder, "disturbed")
        for each in (peaceful, disturbed):
            each.mkdir()
        started = time.monotonic()
        subprocess.run(RUN, cwd=peaceful, check=True, stderr=subprocess.DEVNULL)
        print(f"left in peace: {time.monotonic() - started:.0f} s", flush=True)
        _disturb(disturbed, options.kills, random.Random(options.seed), time.monotonic() - started)
        same = _content(peaceful) == _content(disturbed)
        tables = [_table(each) for each in (peaceful, disturbed)]
        print(f"MLflow's content identical: {same}; tables identical: {tables[0] == tables[1]}")
        print(tables[1])
        return 0 if same and tables[0] == tables[1] else 1


def _disturb(folder: Path, kills: int, chance: random.Random, whole: float) -> None:
    done = 0
    while True:
        process = subprocess.Popen(RUN, cwd=folder, stderr=subprocess.PIPE, text=True)
        while done < kills and process.poll() is None:
            time.sleep(chance.uniform(0, 0.35 * whole))
            if process.poll() is not None:
                break
            whom = chance.choice(("driver", "worker", "both"))
            workers = [pid for pid in _descendants(process.pid) if _title(pid).startswith("ray::")]
            victims = [chance.choice(workers)] if workers and whom != "driver" else []
            victims += [process.pid] if whom != "worker" or not victims else []
            for pid in victims:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            done += 1
            names = ["driver" if pid == process.pid else "worker" for pid in victims]
            print(f"kill {done}: {' and '.join(sorted(names))}", flush=True)
            if process.pid in victims:
                break
        _, err = process.communicate()
        if process.returncode == 0:
            print(f"done after {done} kills: {err.splitlines()[-2]}", flush=True)
            if done < kills:
                raise SystemExit(f"the sweep was over after {done} of {kills} kills; take another --seed")
            return
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"exit code {process.returncode}\n{err}")


def _descendants(root: int) -> list[int]:
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found, grew = found | more, bool(more)
    return sorted(found - {root})


def _title(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text()
    return ""


def _content(folder: Path) -> list[Any]:
    """The content of MLflow without ids and times."""
    from mlflow import MlflowClient

    from analysis.record.names import SECONDS

    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("ll_delta")
    assert experiment is not None
    rows = []
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.parentRunId"}
        names = run.data.metrics.keys() - {SECONDS}
        histories = {name: client.get_metric_history(run.info.run_id, name) for name in names}
        points = {name: [(one.step, repr(one.value)) for one in history] for name, history in histories.items()}
        artifacts = [artifact.path for artifact in client.list_artifacts(run.info.run_id)]
        rows.append((run.info.status, tags, run.data.params, points, artifacts))
    return sorted(rows, key=repr)


def _table(folder: Path) -> str:
    command = [sys.executable, "-m", "analysis", "table", "ll_delta"]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
