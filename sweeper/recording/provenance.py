"""Where results come from: tags and artifacts that name code, platform, versions, commit and machine."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from analysis.record import names
from methods.cache.keys import digest, fingerprint
from methods.training.config import LOOP
from methods.training.platforms import default_device, identity

from ..spaces.trial import Trial


def measured_by(trial: Trial) -> dict[str, str]:
    """Tags that name the code and the settings with which a trial's run was measured."""
    records = trial.records
    tags = {names.METRICS: records.metrics}
    if records.diagnostics:
        tags[names.DIAGNOSTICS] = " ".join(record for _, record in records.diagnostics)
    return tags


def made_by() -> dict[str, str]:
    """Tags of the code that made a trial's run: `sweeper.code`, a hash of the modules that all trials use, and
    `sweeper.commit`. A run also has `sweeper.platform`. A table refuses to mix runs that differ in platform or code."""
    tags = {names.CODE: digest({name: fingerprint(name) for name in (*LOOP, "methods.evaluation.metrics")})[:16]}
    commit = _commit()
    return tags | {names.COMMIT: commit} if commit else tags


def platform_of(device: str) -> str:
    """The platform on which results of a trial on `device` depend; for a GPU, with its name."""
    return ", ".join(f"{name} {value}" for name, value in identity(device).items())


def environment() -> dict[str, Any]:
    """What results may depend on: versions, commit, machine."""
    packages = ("ray", "mlflow", "optuna", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas")
    return {
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in packages},
        "platform": identity(default_device()),
        "machine": {"system": platform.platform(), "cpus": os.cpu_count(), "name": platform.node()},
        "commit": _commit(),
    }


def _commit() -> str | None:
    """The commit of this code, with a mark if files have changed since; None outside a checkout."""
    folder = Path(__file__).parent
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
