"""What goes to a worker and what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def reported(result: Mapping[str, Any]) -> dict[str, Any]:
    """A step's report: `epochs` (metrics by epoch; with those of the last also SECONDS, of them all), whether they were
    `trained` now, `done`, `written` (bytes by record), `notes` for people, `artifacts` (base64 by name), of an epoch
    that was trained `gpu_memory` (bytes of a GPU that the trial has had at most), and `failure` (reason, traceback) if
    there is one, and `refused`, the node's id, where it would compute something else than the keys stand for."""
    report = json.loads(result["report"])
    return {**report, "epochs": {int(epoch): metrics for epoch, metrics in report["epochs"].items()}}
