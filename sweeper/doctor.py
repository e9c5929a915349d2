"""Is everything there that a sweep needs? Each check says what it found; none changes anything it can leave alone."""

from __future__ import annotations

import dataclasses
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    found: str

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def examine(*, address: str | None = None, uri: str | None = None) -> list[Check]:
    """Every check, in order; one that raises has failed, and says why."""
    checks: dict[str, Callable[[], str]] = {
        "versions": _versions,
        "machine": _machine,
        "gpu": _gpu,
        "ray": lambda: _ray(address),
        "mlflow": lambda: _mlflow(uri),
        "store": _store,
        "data": _data,
    }
    return [_checked(name, check) for name, check in checks.items()]


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except Exception as error:  # whatever it is, it is what the user has to know
        return Check(name, False, f"{type(error).__name__}: {error}".splitlines()[0])


def _versions() -> str:
    from .tracking import environment

    found = environment()
    packages = ", ".join(f"{name} {number}" for name, number in found["packages"].items())
    return f"Python {found['python']}, {packages}; code at {found['commit'] or 'no commit'}"


def _machine() -> str:
    from methods.platforms import identity

    platform = identity()
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return f"{cores} cores, {platform['machine']}, {platform['capability']}"


def _gpu() -> str:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return ", ".join(names) or "none; trials run on the CPU"


def _ray(address: str | None) -> str:
    from . import running  # sets Ray's environment before it is imported

    ray = running.ray
    running.start_ray(address)
    try:
        answer = ray.get(ray.remote(lambda: "a task ran").remote(), timeout=60)
        there = ray.cluster_resources()
        return f"{answer}; {there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs on {len(ray.nodes())} node(s)"
    finally:
        ray.shutdown()


def _mlflow(uri: str | None) -> str:
    from mlflow import MlflowClient

    from .record import sqlite_path, tracking_uri

    uri = tracking_uri(uri)
    path = sqlite_path(uri)
    if path and not path.exists():
        return f"{uri} (will be made by the first sweep)"
    experiments = MlflowClient(tracking_uri=uri).search_experiments()
    return f"{uri}, {len(experiments)} experiment(s)"


def _store() -> str:
    from .store import default_folder

    folder = default_folder()
    existing = next(parent for parent in [folder, *folder.parents] if parent.exists())
    with tempfile.TemporaryFile(dir=existing):
        return f"{folder}, writable" + ("" if folder.exists() else " (will be made by the first sweep)")


def _data() -> str:
    from methods.data import DataSettings, digit_scenes, registry

    digits = sum(len(rows) for part in digit_scenes.instances().values() for rows in part)
    there = [name for name in registry.IN_FILES if registry.content(DataSettings(dataset=name))]  # type: ignore[arg-type]
    return f"{registry.EMBEDDED} (brings its own {digits} digits); under SWEEPER_DATA {', '.join(there) or 'none'}"
