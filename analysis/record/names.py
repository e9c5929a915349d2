"""What things are called in MLflow: tags, params, metrics, artifacts. Who writes the record and who reads it import it.

Nothing here asks MLflow, and nothing here knows what a value means.
"""

from __future__ import annotations

from collections.abc import Mapping

# Tags of every run: is it of a sweep or of a trial, and which sweep is it
KIND = "sweeper.kind"
SPACE = "sweeper.space"
SWEEP = "sweeper.sweep"
PROFILE = "sweeper.profile"
# Values of KIND. A superseded run is a trial's run that newer code has replaced.
OF_SWEEP, OF_TRIAL, SUPERSEDED = "sweep", "trial", "superseded"

# Tags of a trial's run
TRIAL = "sweeper.trial"
VARIANT = "sweeper.variant"
SEED = "sweeper.seed"
KEY = "sweeper.key"  # of the last state
CODE = "sweeper.code"
PLATFORM = "sweeper.platform"
COMMIT = "sweeper.commit"
METRICS = "sweeper.metrics"
DIAGNOSTICS = "sweeper.diagnostics"
STOPPED = "sweeper.stopped"
FAILURE = "sweeper.failure"

# Tag of a sweep's run
LEASE = "sweeper.lease"

# Tags that MLflow's pages read
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
DESCRIPTION = "mlflow.note.content"
EXPERIMENT_KIND = "mlflow.experimentKind"

# Artifacts of a sweep's run
SPACE_FILE = "space.json"
ENVIRONMENT = "environment.json"
COST = "cost.json"
# Artifact of a failed trial's run
TRACEBACK = "traceback.txt"

# A param whose value is None
NULL = "null"

# Metrics
EPOCH = "epoch/"  # prefix of a history: `epoch/val/map` has a point for every epoch, `val/map` has one point
MEMORIZATION = "memorization/"
KNOWN_LABELS = "train/known_labels"  # the same in every epoch
SIZES = ("train/images", "val/images", "test/images")  # numbers of images; also the same in every epoch
PARAMETERS = "train/parameters"  # how many numbers the last epoch trains
# How long all epochs of a trial took to train, wherever they were trained, and which epoch was selected.
SECONDS, SELECTED = "train/seconds", "selected_epoch"
# Kept per epoch as `epoch/val/map`, …; the selected epoch has every metric, and diagnostics have every epoch.
HISTORY = ("loss", "map", "map_interpolated", "map_absent_zero", "of1", "cf1")
# The histories `epoch/known_loss/window_1`, … as one: an epoch has several windows of training steps.
LOSS_WINDOWS = "known_loss/windows"
# Measured over all epochs up to the last, whichever is selected.
WHOLE = (MEMORIZATION, SECONDS, PARAMETERS)
# The metrics of training that are results of a trial.
RESULTS = (KNOWN_LABELS, SECONDS, PARAMETERS, *SIZES)


def in_history(name: str) -> bool:
    """Whether a metric is kept for every epoch."""
    kind, _, metric = name.partition("/")
    return (kind not in ("val", "test") or metric in HISTORY) and name not in RESULTS


def results_of(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of the selected epoch's metrics, those that are a trial's results."""
    return {name: value for name, value in metrics.items() if name in RESULTS or not name.startswith("train/")}


def without_histories(metrics: Mapping[str, float]) -> dict[str, float]:
    """Of a run's metrics, those that are one point: the results."""
    return {name: value for name, value in metrics.items() if not name.startswith(EPOCH)}
