"""Against a remote `mlflow server`: a real one, on this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from mlflow import MlflowClient

import analysis
from analysis.cli import main
from analysis.reading import records, runs

from .conftest import LL_DELTA, log_sweep

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """Its address, with one sweep that was logged through it."""
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder / 'mlflow.db'}",
        "--artifacts-destination",
        str(folder / "a"),
    ]
    with (folder / "log").open("w") as log:
        without_jobs = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes that wait
        process = subprocess.Popen(
            command, cwd=folder, env=without_jobs, stdout=log, stderr=log, start_new_session=True
        )
        try:
            _wait_for(uri, process, folder / "log")
            results = {place: LL_DELTA[place] for place in [("Naive AN", None), ("LL-R", 0.1), ("LL-R", 1.6)]}
            log_sweep(MlflowClient(uri), "remote", "4e307e", results)
            yield uri
        finally:
            # With its workers, and at once: nothing of it is needed, and it waits long for connections to close.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(uri, process, log):
    for _ in range(600):
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    pytest.fail(f"no server after two minutes: {log.read_text()}")


def test_a_table_is_the_same_from_a_server_as_from_a_file(server, store):
    remote = analysis.table("remote", tracking_uri=server)
    local = analysis.table("ll_delta", tracking_uri=store.uri)
    for row, column in [("Naive AN", "—"), ("LL-R", "0.1"), ("LL-R", "1.6")]:
        assert remote.cells[row, column].text == local.cells[row, column].text


def test_the_trials_come_from_a_server_in_one_search(server, monkeypatch):
    asked, search = [], MlflowClient.search_runs

    def counting(self, experiment_ids, filter_string="", **options):
        asked.append(filter_string)
        return search(self, experiment_ids, filter_string, **options)

    monkeypatch.setattr(MlflowClient, "search_runs", counting)
    analysis.table("remote", tracking_uri=server)
    of_sweeps, of_trials = asked
    assert "'sweep'" in of_sweeps and "'trial'" in of_trials


def test_histories_come_from_a_server_all_at_once_and_are_those_of_its_client(server, monkeypatch):
    record = records.load("remote", tracking_uri=server)
    finished = record.trials.query("status == 'FINISHED'")["run_id"].to_list()
    one_by_one = [
        (run, point.step, point.value)
        for run in finished
        for point in record.client.get_metric_history(run, "epoch/test/map")
    ]
    monkeypatch.setattr(MlflowClient, "get_metric_history", lambda *_: pytest.fail("asked for one run"))
    assert sorted(runs.points(record.client, finished, "epoch/test/map")) == sorted(one_by_one)
    assert len(one_by_one) == 2 * len(finished) == 16


def test_every_command_works_against_a_server(server, capsys, tmp_path):
    for command in (
        ["table", "remote", "--select", "best_test"],
        ["table", "remote", "--against", "Naive AN", "--format", "latex"],
        ["compare", "remote", "remote@4e3:default"],
        ["figure", "remote", "--out", str(tmp_path / "remote.png")],
        ["claims", "--profile", "default", "--format", "json"],
    ):
        assert main([*command, "--tracking-uri", server]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out
    assert main(["table", "elsewhere", "--tracking-uri", server]) == 2
    assert "there are remote" in capsys.readouterr().err
