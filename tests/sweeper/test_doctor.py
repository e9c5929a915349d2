"""A cluster of two nodes on one machine: what the doctor says of it, and where trials run on it."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from methods.cache.store import Store
from sweeper.cli import main
from sweeper.commands.doctor import (
    CLOCK_SECONDS,
    _ahead,
    _other_data,
    _other_gpus,
    _other_keys,
    _other_time,
    _other_versions,
    _write_artifact,
    examine,
)
from sweeper.planning.capacity import Node, Placement, PlacementError
from sweeper.running.cluster import place
from sweeper.running.tune import ray, start_ray

pytestmark = pytest.mark.slow

SPACE = """
data: {dataset: labels_csv, image_size: 32, val_fraction: 0.25}
network: {pretrain_images: 64, pretrain_epochs: 1}
train: {epochs: 1, batch_size: 4}
variants: {AN: {method: assume_negative}}
seeds: [1]
resources: {cpu: 1, kind: big}
"""


def make_data(folder: Path) -> None:
    """A few pictures, the same wherever they are made."""
    images = folder / "labels_csv"
    images.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        rows = ["image,class,label"]
        for index in range(count):
            pixels = draws.integers(0, 255, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f"{split}{index}.png")
            rows += [f"{split}{index}.png,cat,{1 - 2 * (index % 2)}", f"{split}{index}.png,dog,{2 * (index % 2) - 1}"]
        (images / f"{split}.csv").write_text("\n".join(rows) + "\n")


class TwoNodes:
    """Two raylets: `head` offers a CPU; `worker` two, two GPUs that are not there, and `big`. Each, and the driver, has
    a SWEEPER_DATA of its own, and the worker another SWEEPER_STORE."""

    def __init__(self, folder: Path):
        from ray.cluster_utils import Cluster

        self.folder = folder
        for name in ("head", "worker", "driver"):
            make_data(folder / name)
        self.cluster = Cluster()
        self.cluster.add_node(num_cpus=1, env_vars={"SWEEPER_DATA": str(folder / "head")}, include_dashboard=False)
        worker = {"SWEEPER_DATA": str(folder / "worker"), "SWEEPER_STORE": str(folder / "elsewhere")}
        self.cluster.add_node(num_cpus=2, num_gpus=2, resources={"big": 1}, env_vars=worker)
        self.address = self.cluster.address
        self.ids = {"worker" if "GPU" in node["Resources"] else "head": node["NodeID"][:6] for node in self._nodes()}

    @contextlib.contextmanager
    def other_data_on_the_worker(self):
        files = {path: path.read_text() for path in (self.folder / "worker" / "labels_csv").glob("*.csv")}
        for path, text in files.items():
            path.write_text(text.replace("cat", "cow"))
        yield
        for path, text in files.items():
            path.write_text(text)

    def _nodes(self) -> list:
        import ray

        ray.init(address=self.address, log_to_driver=False)
        nodes = ray.nodes()
        ray.shutdown()
        return nodes


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory):
    here = tempfile.TemporaryDirectory(prefix="two-", ignore_cleanup_errors=True)
    with here as scratch, pytest.MonkeyPatch.context() as patched:
        # Ray joins the cluster that it finds a note of; here nobody else does. The path of a socket is short.
        patched.setenv("RAY_TMPDIR", scratch)
        patched.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        nodes = TwoNodes(tmp_path_factory.mktemp("nodes"))
        yield nodes
        nodes.cluster.shutdown()


@pytest.fixture
def driver(two_nodes, tmp_path, monkeypatch):
    """The driver's machine: a folder of its own, and data of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWEEPER_DATA", str(two_nodes.folder / "driver"))
    monkeypatch.setenv("SWEEPER_STORE", str(two_nodes.folder / "store"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "small.yaml").write_text(SPACE)
    return tmp_path


def found(address: str | None) -> dict[str, tuple[bool, str]]:
    return {check.name: (check.ok, check.found) for check in examine(address=address)}


def test_each_failure_names_the_node_and_what_to_do(two_nodes, driver):
    with two_nodes.other_data_on_the_worker():
        checks = found(two_nodes.address)
    good = {name for name, (ok, _) in checks.items() if ok}
    assert {"ray", "store", "nodes", "packages", "code and platform", "shared store", "clocks"} <= good, checks
    assert checks["nodes"][1].startswith("2 of 2 answered: ")
    failed = {name: what for name, (ok, what) in checks.items() if not ok}
    (data,) = (what for name, what in failed.items() if name.startswith("data") and two_nodes.ids["worker"] in name)
    assert data.startswith(f"labels_csv is another, SWEEPER_DATA being {two_nodes.folder / 'worker'}; set it before")
    (gpus,) = (what for name, what in failed.items() if name.startswith("GPUs") and two_nodes.ids["worker"] in name)
    assert gpus.startswith("Ray counts 2, torch sees 0; ")
    assert len(failed) == 2
    assert not (two_nodes.folder / "store").exists()  # it was made for the check


def test_a_store_that_nodes_do_not_see_is_said_of_each(two_nodes, driver, monkeypatch):
    # A path that means another folder in each process, as one that is not mounted does on each machine.
    monkeypatch.setenv("SWEEPER_STORE", "/proc/self/cwd/store")
    failed = [(name, what) for name, (ok, what) in found(two_nodes.address).items() if name.startswith("shared store")]
    assert [id in name for (name, _), id in zip(sorted(failed), sorted(two_nodes.ids.values()))] == [True, True]
    for _, what in failed:
        assert what.startswith("/proc/self/cwd/store is not the driver's store here (No such file or directory); mount")
    assert list(driver.iterdir()) == [driver / "small.yaml"]


@pytest.fixture
def run(two_nodes, driver, capfd):
    """The command `run` on the cluster, in this process: its exit code, stdout and stderr."""

    def run(*options: str) -> tuple[int, str, str]:
        code = main(["run", "small.yaml", "--json", "--address", two_nodes.address, *options])
        return code, *capfd.readouterr()

    return run


def test_workers_read_their_own_data_and_write_into_the_drivers_store(two_nodes, run):
    code, _, err = run("--set", "resources.gpu=0.5")
    assert code == 0, err
    assert list(Store(two_nodes.folder / "store").records())
    assert not (two_nodes.folder / "elsewhere").exists()


def test_a_node_with_other_data_puts_nothing_under_the_drivers_keys_and_data_root_wins(two_nodes, run):
    root = f"variants.Rooted={{method: assume_negative, data.root: {two_nodes.folder / 'head' / 'labels_csv'}}}"
    with two_nodes.other_data_on_the_worker():
        _, out, err = run("--set", root, "--set", "seeds=[2]")
    assert json.loads(out)["succeeded"] == 1, err
    (failed,) = (line for line in err.splitlines() if line.startswith("failed: "))
    assert failed.startswith("failed: AN seed=2: ") and f", {two_nodes.ids['worker']}) computes" in failed
    assert "computes something else than the driver's machine: its data, code or platform" in failed


def test_trials_that_a_node_with_other_data_refuses_run_on_another_and_it_is_named_once(two_nodes, run):
    with two_nodes.other_data_on_the_worker():
        _, out, err = run("--set", "resources.kind=null", "--set", "seeds=[3, 4, 5, 6]")
    assert json.loads(out)["succeeded"] == 4, err
    (said,) = (line for line in err.splitlines() if "computes something else" in line)
    assert f", {two_nodes.ids['worker']}) computes" in said and "No more trials are put there" in said


@pytest.fixture
def joined(two_nodes):
    start_ray(two_nodes.address)
    yield
    ray.shutdown()


def test_trials_are_placed_on_nodes_that_can_hold_them_whole(joined):
    def placed(**resources):
        return place({"cpu": 1, "gpu": 0, **resources}, "cpu", None, elsewhere=True)

    assert placed() == Placement({"CPU": 1}, 3)
    assert placed(cpu=2) == Placement({"CPU": 2}, 1)
    assert placed(gpu=0.5, cpu=0.25) == Placement({"CPU": 0.25, "GPU": 0.5}, 4)
    assert placed(kind="big") == Placement({"CPU": 1, "big": 0.0001}, 2)
    for resources, message in (
        ({"cpu": 3}, "no node can hold a trial of {cpu: 3} "),  # the cluster has three, on two nodes
        ({"gpu": 3}, "no node can hold a trial of {cpu: 1, gpu: 3} "),
        ({"kind": "huge"}, "2 CPUs, 2 GPUs, big"),
    ):
        with pytest.raises(PlacementError, match=re.escape(message)):
            placed(**resources)


def test_a_trial_that_no_node_can_hold_is_bad_input_before_anything_starts(run, driver):
    code, _, err = run("--set", "resources.gpu=3")
    assert code == 2
    assert "error: resources: no node can hold a trial of {cpu: 1, gpu: 3, kind: big} (" in err
    assert "); ask for less, such as --set resources.gpu=0, or start nodes that have it" in err
    assert not (driver / "runs").exists()


def test_a_single_machine_is_examined_as_well_and_left_as_it_was(driver):
    from mlflow import MlflowClient

    database = driver / "runs" / "mlflow.db"
    database.parent.mkdir()
    MlflowClient(tracking_uri=f"sqlite:///{database}").create_experiment("mine")
    checks = found(None)
    assert all(ok for ok, _ in checks.values()), checks
    assert list(checks) == ["versions", "machine", "gpu", "ray", "mlflow", "store", "data"]
    assert checks["mlflow"][1].endswith("writable")
    with sqlite3.connect(database) as opened:
        assert opened.execute("select count(*) from experiment_tags").fetchone() == (0,)


def test_an_artifact_is_written_and_taken_away_again(tmp_path):
    _write_artifact(str(tmp_path / "artifacts"), f"sqlite:///{tmp_path / 'mlflow.db'}", "probe")
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_clocks_are_off_by_what_the_way_of_the_answer_does_not_explain():
    assert _ahead(100.0, 101.0, 102.0) == 0
    assert _ahead(100.0, 110.0, 102.0) == 8
    assert _ahead(100.0, 40.0, 102.0) == -60


HERE = {"versions": {"Python": "3.11.7", "torch": "2.7.0"}, "code": "a", "commit": "1", "platform": {"vendor": "AMD"}}
HERE |= {"data": {"voc2007": "x", "coco2014": "y"}, "data_folder": "/data", "gpus": []}


@pytest.mark.parametrize(
    ("check", "its", "said"),
    [
        (_other_versions, {"versions": {"Python": "3.11.7", "torch": "2.6.0"}}, "torch 2.6.0, here 2.7.0; install"),
        (_other_keys, {"code": "b", "commit": "2"}, "other code (at 2, here 1), so other keys; bring it to the same"),
        (_other_keys, {"platform": {"vendor": "Intel"}}, "vendor Intel, here AMD, so other keys; bring it"),
        (_other_keys, {"platform": {"vendor": "AMD", "gpu": "A100"}}, "gpu A100, here none, so other keys; bring it"),
        (_other_gpus, {"gpus": [("A100", 80)] * 4}, "Ray counts 2, torch sees 4; mend driver or torch there, or"),
        (
            _other_data,
            {"data": {"voc2007": "z"}, "data_folder": "/d"},
            "voc2007 is another, coco2014 is not there, SWE",
        ),
        (_other_time, {"ahead": -60.0}, "60 s behind; synchronise it"),
    ],
)
def test_what_is_amiss_on_a_node_is_said_with_what_to_do(check, its, said):
    node = Node("id", "name", {"CPU": 4, "GPU": 2})
    well = HERE | {"gpus": [("A100", 80)] * 2, "ahead": CLOCK_SECONDS}
    assert check(node, HERE, well) == ""
    assert check(node, HERE, well | its).startswith(said)


def test_a_node_that_offers_no_cpu_holds_no_trial_and_may_be_of_another_platform():
    assert _other_keys(Node("id", "name", {"GPU": 1}), HERE, HERE | {"platform": {"vendor": "Intel"}}) == ""
