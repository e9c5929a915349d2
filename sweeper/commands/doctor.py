"""Checks that all that a sweep needs is there. Each check says what it found, and changes as little as possible."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.cache.store import default_folder
from methods.data import DataSettings, content, digit_scenes, registry
from methods.training.platforms import default_device, identity

from ..planning.capacity import Node, gpus, this_machine
from ..recording.provenance import environment
from ..running import tune
from ..running.cluster import ask, differs, failure, node_fingerprint, nodes

# Clocks must agree, because times of files say which records were used last and which are abandoned.
CLOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    found: str


def examine(*, address: str | None = None, uri: str | None = None) -> list[Check]:
    """All checks, in order. A check that raises has failed; its message says why. With an `address`, checks of the
    cluster's nodes follow: one check if it is passed on all nodes, else one for each node that fails it."""
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "machine": _machine,
        "gpu": _gpu,
        "ray": lambda: _ray(address),
        "mlflow": lambda: _mlflow(uri),
        "store": _store,
        "data": _data,
    }
    done = [_checked(name, check) for name, check in checks.items()]
    if address and all(check.ok for check in done if check.name in ("ray", "store")):
        done += _nodes(address)
    return done


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:  # any error is the result of the check
        return Check(name, False, failure(error))


def _versions() -> str:
    found = environment()
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    return f"Python {found['python']}, {packages}; code at {found['commit'] or 'no commit'}"


def _machine() -> str:
    platform = identity()
    return f"{this_machine().offers['CPU']} cores, {platform['machine']}, {platform['capability']}"


def _gpu() -> str:
    return ", ".join(f"{name} with {size / 1e9:.0f} GB" for name, size in gpus()) or "none; trials run on the CPU"


@contextlib.contextmanager
def _joined(address: str | None) -> Iterator[Any]:
    """Ray, started on this machine, or the cluster at `address` joined."""
    owned = tune.start_ray(address)
    try:
        yield tune.ray
    finally:
        if owned:
            tune.ray.shutdown()


def _ray(address: str | None) -> str:
    with _joined(address) as ray:
        answer = ray.get(ray.remote(lambda: "a task ran").remote(), timeout=60)
        there = ray.cluster_resources()
        return f"{answer}; {there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs on {len(nodes())} node(s)"


def _mlflow(uri: str | None) -> str:
    from mlflow import MlflowClient

    from analysis.record.client import sqlite_path, tracking_uri

    uri = tracking_uri(uri)
    path = sqlite_path(uri)
    if path and not path.exists():
        return f"{uri} (will be made by the first sweep)"
    client = MlflowClient(tracking_uri=uri)
    experiments = client.search_experiments()
    if not experiments:
        return f"{uri}, no experiment yet"
    # Try to write a tag and a file, because these can be deleted again completely.
    probe = f"sweeper.probe.{os.getpid()}"
    client.set_experiment_tag(experiments[0].experiment_id, probe, "")
    client.delete_experiment_tag(experiments[0].experiment_id, probe)
    if not path:
        _write_artifact(experiments[0].artifact_location, uri, probe)
    return f"{uri}, {len(experiments)} experiment(s), writable"


def _write_artifact(location: str, uri: str, name: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    files = get_artifact_repository(location, tracking_uri=uri)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, name).touch()
        files.log_artifact(str(Path(folder, name)))
    files.delete_artifacts(name)


def _store() -> str:
    folder = default_folder()
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    with tempfile.TemporaryFile(dir=existing):
        return f"{folder}, writable" + ("" if folder.exists() else " (will be made by the first sweep)")


def _data() -> str:
    digits = sum(len(rows) for part in digit_scenes.instances().values() for rows in part)
    there = ", ".join(_contents()) or "none"
    return f"{registry.EMBEDDED} (brings its own {digits} digits); under SWEEPER_DATA {there}"


def _contents() -> dict[str, str]:
    """Hashes of the annotations, by name, of the data sets under SWEEPER_DATA."""
    found = {name: content.annotation_digest(DataSettings(dataset=name)) for name in registry.IN_FILES}  # type: ignore[arg-type]
    return {name: content for name, content in found.items() if content}


# The nodes of a cluster. Their answers are compared with those of this machine, on which the driver runs.


def _nodes(address: str) -> list[Check]:
    folder = default_folder()
    with _joined(address), _probe(folder) as probe:
        there, here = nodes(), _report(probe)
        answers = ask(there, _report, probe)
        sent = time.time()
        times = ask(there, _clock)  # second question: torch is loaded now, so answers are quick
        received = time.time()
    lost = [Check(f"node {node.name}", False, failure(its)) for node, its in zip(there, answers) if _is_error(its)]
    reached = [
        (node, {**its, "ahead": 0.0 if _is_error(at) else _ahead(sent, at, received)})
        for node, its, at in zip(there, answers, times)
        if not _is_error(its)
    ]
    names = ", ".join(node.name for node, _ in reached)
    found = [Check("nodes", not lost, f"{len(reached)} of {len(there)} answered: {names}"), *lost]
    aspects: dict[str, tuple[str, Callable[[Node, Mapping[str, Any], Mapping[str, Any]], str]]] = {
        "packages": ("versions as here", _other_versions),
        "code and platform": ("as here", _other_keys),
        "GPUs": ("torch sees those that Ray counts", _other_gpus),
        "shared store": (f"{folder} is seen and writable", lambda node, here, its: its["store"]),
        "data of nodes": (f"{', '.join(here['data']) or 'none here; none'} as here", _other_data),
        "clocks": ("as here", _other_time),
    }
    for name, (well, amiss) in aspects.items():
        wrong = [(node.name, what) for node, its in reached if (what := amiss(node, here, its))]
        found += [Check(f"{name}, {node}", False, what) for node, what in wrong] or [Check(name, True, well)]
    return found


def _is_error(answer: Any) -> bool:
    return isinstance(answer, Exception)


def _report(probe: Path) -> dict[str, Any]:
    """Versions, code and devices of a node. Runs on the node."""
    made_of = environment()
    return {
        **node_fingerprint(default_device()),
        "versions": {"Python": made_of["python"], **made_of["packages"]},
        "commit": made_of["commit"] or "no commit",
        "store": _try_store(probe),
        "data": _contents(),
        "data_folder": os.environ.get("SWEEPER_DATA") or "not set",
    }


def _clock() -> float:
    return time.time()


@contextlib.contextmanager
def _probe(folder: Path) -> Iterator[Path]:
    """A new file in the store. It is deleted afterwards, with the files of nodes beside it and new folders."""
    made = [parent for parent in [folder, *folder.parents] if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="probe-", dir=folder) as name:
            probe = Path(name, "driver")
            probe.write_text(name)
            yield probe
    finally:
        for parent in made:
            parent.rmdir()


def _try_store(probe: Path) -> str:
    """What is wrong with the store as this machine sees it; empty if nothing."""
    try:
        probe.read_text()
    except OSError as error:
        return (
            f"{probe.parent.parent} is not the driver's store here ({error.strerror}); mount that under the same path"
        )
    try:
        with tempfile.NamedTemporaryFile(dir=probe.parent):
            return ""
    except OSError as error:
        return f"{probe.parent.parent} cannot be written ({error.strerror}); let the user that Ray runs as write there"


def _ahead(sent: float, at: float, received: float) -> float:
    """Seconds by which a clock is ahead at least (negative: behind). It read `at` between our `sent` and `received`."""
    return max(at - received, 0.0) - max(sent - at, 0.0)


# Each function below says what is wrong on a node and what to do about it; empty if nothing is wrong.


def _other_versions(node: Node, here: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    pairs = ((name, its["versions"][name], version) for name, version in here["versions"].items())
    found = [f"{name} {there}, here {version}" for name, there, version in pairs if there != version]
    return f"{', '.join(found)}; install the same there" if found else ""


def _other_keys(node: Node, here: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    found = differs(here, its)
    if not found or not node.offers.get("CPU"):  # no trial runs on a node without CPUs
        return ""
    commits = f" (at {its['commit']}, here {here['commit']})" if its["code"] != here["code"] else ""
    return f"{found}{commits}, so other keys; bring it to the same code, or keep trials to one kind (resources.kind)"


def _other_gpus(node: Node, here: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    offered, seen = int(node.offers.get("GPU", 0)), len(its["gpus"])
    if offered == seen:
        return ""
    return f"Ray counts {offered}, torch sees {seen}; mend driver or torch there, or start it with --num-gpus {seen}"


def _other_data(node: Node, here: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    found = [
        f"{name} {'is another' if name in its['data'] else 'is not there'}"
        for name, content in here["data"].items()
        if its["data"].get(name) != content
    ]
    folder = its["data_folder"]
    return (
        f"{', '.join(found)}, SWEEPER_DATA being {folder}; set it before `ray start`, copy the files" if found else ""
    )


def _other_time(node: Node, here: Mapping[str, Any], its: Mapping[str, Any]) -> str:
    ahead = its["ahead"]
    if abs(ahead) <= CLOCK_SECONDS:
        return ""
    return f"{abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}; synchronise it (chrony, ntpd)"
