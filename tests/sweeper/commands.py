"""The command line in a folder of its own, in this process: what takes seconds to import is here once, and so is Ray
where a test has the fixture `ray_here`. Not for sweeps that are to be stopped or killed."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from unittest import mock

from mlflow import MlflowClient
from mlflow.entities import Run

from analysis.record.names import SECONDS
from sweeper.cli import main

_USERS_OWN = ("MLFLOW_TRACKING_URI", "SWEEPER_STORE")


def command(*arguments: object, cwd: Path, **environment: object) -> subprocess.CompletedProcess[str]:
    """`python -m sweeper` with these arguments: its exit code, and what it wrote. An error that it does not catch is
    exit code 1 and a traceback, as in a process of its own."""
    with contextlib.chdir(cwd), mock.patch.dict(os.environ, {name: str(it) for name, it in environment.items()}):
        for name in _USERS_OWN:
            if name not in environment:
                os.environ.pop(name, None)
        line = [str(argument) for argument in arguments]
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            try:
                code = main(line)
            except Exception:
                traceback.print_exc()
                code = 1
    return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())


class Sweep:
    """A folder with a space file; `run` is the command line in it.

    `database` is an empty one of MLflow's, which takes a second to make.
    """

    def __init__(self, folder: Path, space: str, database: Path):
        self.folder = folder
        (folder / "small.yaml").write_text(space)
        (folder / "runs").mkdir()
        self.database = shutil.copy(database, folder / "runs" / "mlflow.db")
        self.client = MlflowClient(tracking_uri=f"sqlite:///{self.database}")

    def start(self, *options: str, ray: bool = True) -> subprocess.Popen[str]:
        """The same in a process of its own."""
        options += () if ray else ("--inline",)
        line = [sys.executable, "-m", "sweeper", "run", "small.yaml", "--json", *options]
        environment = {name: value for name, value in os.environ.items() if name not in _USERS_OWN}
        pipe = subprocess.PIPE
        return subprocess.Popen(line, cwd=self.folder, stdout=pipe, stderr=pipe, text=True, env=environment)

    def run(self, *options: str, ray: bool = False) -> subprocess.CompletedProcess[str]:
        """In this process; with `ray` in one worker of Ray's, which takes seconds to start."""
        where = ("--max-concurrent", "1") if ray else ("--inline",)
        return self.command("run", "small.yaml", "--json", *where, *options)

    def command(self, *options: str) -> subprocess.CompletedProcess[str]:
        return command(*options, cwd=self.folder)

    def runs(self, kind: str) -> list[Run]:
        experiment = self.client.get_experiment_by_name("small")
        assert experiment is not None
        return self.client.search_runs([experiment.experiment_id], f"tags.`sweeper.kind` = '{kind}'")

    def content(self) -> list:
        """Everything that must not change when a finished sweep is run again; ids and times may."""
        rows = []
        for run in [*self.runs("sweep"), *self.runs("trial")]:
            tags = {name: value for name, value in run.data.tags.items() if name != "mlflow.parentRunId"}
            histories = {name: points for name, points in self.histories(run).items() if name != SECONDS}
            rows.append((run.info.status, run.data.params, tags, histories))
        return sorted(rows, key=repr)

    def histories(self, run: Run) -> dict[str, list[tuple[int, float]]]:
        points = {name: self.client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
        return {name: [(point.step, point.value) for point in history] for name, history in points.items()}
