"""What dies, hangs or goes away in the middle of a sweep, on two nodes and with a tracking server: nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from ray.cluster_utils import Cluster

from sweeper.running import run as running
from sweeper.running import tune
from sweeper.running.tune import TrialActor
from sweeper.spaces.reading import load_space
from tests.sweeper.hanging import Hanging

SPACE = """
data: {labels: single_positive, train_images: 200, val_images: 32, test_images: 32}
network: {pretrain_images: 64, pretrain_epochs: 1}
train: {epochs: 16, batch_size: 8}
variants: {Naive AN: {method: assume_negative}, LL-R: {method: large_loss}}
axes: {delta_rel: [5]}
seeds: [1, 2]
"""
# Two sweeps in processes of their own and a server, one after the other.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
# What differs between two recordings of the same sweep.
MADE_BY = ("mlflow.parentRunId", "mlflow.user", "mlflow.source.name", "mlflow.source.type", "sweeper.commit")

# The command on a machine of its own, as far as processes can tell: one with this name, none of whose they see but
# theirs, and which ends with the first of them. It waits 2 s for a sign of life, not 60.
MACHINE = """
import socket, sys
from sweeper.recording import lease
socket.sethostname(sys.argv.pop(1))
lease.LEASE_SECONDS, lease.HEARTBEAT_SECONDS = 2.0, 0.5
from sweeper.cli import main
sys.exit(main())
"""
ALONE = ["unshare", "--map-root-user", "--uts", "--pid", "--mount-proc", "--fork", "--kill-child"]


def until(holds: Callable[[], object], what: str) -> None:
    """Wait for it; a state that is never reached fails by name, and nothing is asserted of how long it takes."""
    for _ in range(6000):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(f"never: {what}")


class Server:
    """An `mlflow server` on a folder, that can be stopped and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> Server:
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        with (self.folder / "server.log").open("a") as log:
            without_jobs = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # eight processes that wait
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=without_jobs, start_new_session=True)
        until(self._answers, f"the server answers, see {self.folder}/server.log")
        return self

    def _answers(self) -> bool:
        with socket.socket() as caller:
            return caller.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Site:
    """A tracking server, a shared folder, and drivers on it, each a process of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "small.yaml").write_text(SPACE)
        self.server = Server(folder).start()

    def start(self, address: str | None = None, machine: str | None = None) -> subprocess.Popen:
        """A driver on the Ray cluster of that address, or, without one, of trials in its own process."""
        sweeper = [*ALONE, sys.executable, "-c", MACHINE, machine] if machine else [sys.executable, "-m", "sweeper"]
        command = [*sweeper, "run", "small.yaml", "--json", "--tracking-uri", self.server.uri]
        command += ["--address", address] if address else ["--inline"]
        environment = {**os.environ, "SWEEPER_STORE": str(self.folder / "store")}
        out = (self.folder / "driver.log").open("a")
        return subprocess.Popen(command, cwd=self.folder, stdout=out, stderr=out, env=environment)

    def epochs(self) -> int:
        """How many epochs the store has."""
        return len(list((self.folder / "store").glob("entries/*/*/training")))

    def log(self) -> str:
        return (self.folder / "driver.log").read_text()

    def content(self) -> list:
        """All that MLflow holds of the sweep, but ids, times, what training took, and who made it."""
        client = MlflowClient(tracking_uri=self.server.uri)
        (experiment,) = client.search_experiments(filter_string="name = 'small'")
        rows = []
        for run in client.search_runs([experiment.experiment_id]):
            tags = {name: text for name, text in run.data.tags.items() if name not in MADE_BY}
            histories = {name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics}
            histories.pop("train/seconds", None)
            points = {name: [(one.step, repr(one.value)) for one in found] for name, found in histories.items()}
            rows.append((run.info.status, tags, run.data.params, points))
        return sorted(rows, key=repr)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list:
    """What MLflow holds after the sweep on one node."""
    site = Site(tmp_path_factory.mktemp("undisturbed"))
    assert site.start().wait() == 0, site.log()
    content = site.content()
    site.server.stop()
    assert {status for status, *_ in content} == {"FINISHED"}
    return content


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.server.stop()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield cluster
    # All at once, so that no process waits for another one that is dead: Ray ends them one by one, and waits for each.
    for node in [*cluster.worker_nodes, cluster.head_node]:
        for process in (one.process for kind in node.all_processes.values() for one in kind):
            process.kill()
    cluster.shutdown()


def trains(node) -> bool:
    """Whether a trial runs on the node."""
    (raylet,) = node.all_processes["raylet"]
    workers = ["ps", "--ppid", str(raylet.process.pid), "-o", "args="]
    return b"Trainable.train" in subprocess.run(workers, capture_output=True).stdout


def test_a_node_that_dies_a_server_that_is_away_and_a_killed_driver_cost_a_sweep_nothing_but_time(
    site, cluster, undisturbed
):
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    driver = site.start(cluster.address)
    busy: list = []
    until(lambda: busy.extend(filter(trains, nodes)) or busy, "a trial runs")
    cluster.remove_node(busy[0], allow_graceful=False)
    until(lambda: "its worker was lost; it is tried again" in site.log(), "the driver has noticed")
    before = site.epochs()
    site.server.stop()
    until(lambda: site.epochs() >= before + 3, "epochs are trained while the server is away")
    until(lambda: "is away" in site.log(), "the driver has noticed")
    site.server.start()
    until(lambda: "is back" in site.log(), "the driver has noticed")
    driver.kill()
    driver.wait()
    assert site.start(cluster.address).wait() == 0, site.log()
    assert "View run" not in site.log()  # what MLflow's client would print
    assert site.content() == undisturbed


@pytest.fixture
def machines() -> None:
    """There can be `MACHINE`s."""
    tried = subprocess.run([*ALONE, "true"], capture_output=True)
    if tried.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"processes cannot have a machine of their own: {tried.stderr.decode()}")
        pytest.skip("a machine of their own for processes needs rights that are not here")


def test_a_driver_on_another_machine_takes_over_from_one_that_died_with_its_machine(site, machines, undisturbed):
    machine = site.start(machine="the-first")
    until(lambda: site.epochs() >= 3, "epochs are in the store")
    machine.kill()
    machine.wait()
    assert site.start(machine="the-second").wait() == 0, site.log()
    assert "waiting 2 s for a sign of life of process 1 on the-first, which ran this sweep last" in site.log()
    assert site.content() == undisturbed


class HangingActor(TrialActor):
    runner = Hanging


def test_a_trial_that_hangs_is_ended_and_tried_again_and_at_last_fails_with_where_it_hung(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SWEEPER_STORE", raising=False)
    monkeypatch.setattr(tune, "TrialActor", HangingActor)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # where Ray's workers find the actor
    (tmp_path / "two.yaml").write_text(SPACE)
    sets = ("variants.LL-R=null", "axes=null", "data.train_images=16", "train.epochs=2")
    told = tmp_path / "told.json"
    space = load_space("two.yaml", sets=(*sets, f"on_finish=cat > {told}; false"))
    outcome = running.run(space, progress=True)
    said = capfd.readouterr().err
    assert "Naive AN seed=1: it hung in for_ever (" in said and "hanging.py" in said
    assert outcome.exit_code == 1 and outcome.succeeded == 1
    ((failed, reason),) = outcome.failed.items()
    assert failed.config.seed == 2
    assert reason.startswith("the worker was lost more than 2 times: it hung in for_ever (")
    assert not list((tmp_path / "runs" / "store" / "hanging").iterdir())
    assert '"failed": 1' in told.read_text()  # and how the command ends changes nothing
