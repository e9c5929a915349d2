"""What things are called in MLflow: tags, params, prefixes of metrics, artifacts. Who writes and who reads import it.

Nothing here asks MLflow, and nothing here knows what a value means.
"""

from __future__ import annotations

from collections.abc import Mapping

# Tags
STOPPED = "sweeper.stopped"
LEASE = "sweeper.lease"
FAILURE = "sweeper.failure"

# Artifacts of a sweep's run
COST = "cost.json"

# Metrics
KNOWN_LABELS = "train/known_labels"  # the same in every epoch
# How long all epochs of a trial took to train, wherever they were, and which epoch was selected.
SECONDS, SELECTED = "train/seconds", "selected_epoch"
# Kept per epoch as `epoch/val/map`, …; the selected epoch has every metric, and diagnostics have every epoch.
HISTORY = ("loss", "map", "map_interpolated", "of1", "cf1")
# Said of all epochs up to the last, whichever is selected.
WHOLE = ("memorization/", SECONDS)
# Of what training says of itself, what is a result.
RESULTS = (KNOWN_LABELS, SECONDS)


def in_history(name: str) -> bool:
    """Whether a metric is kept for every epoch."""
    kind, _, metric = name.partition("/")
    return (kind not in ("val", "test") or metric in HISTORY) and name not in RESULTS


def results_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of the selected epoch's metrics, those that are a trial's results."""
    return {name: value for name, value in metrics.items() if name in RESULTS or not name.startswith("train/")}
