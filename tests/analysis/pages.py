"""A few sweeps to make the report's page from, in a database of their own: other tests add to the shared one."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tests.analysis.conftest import LL_DELTA, Axes, Results, log_sweep

RATES, DELTAS, SEEDS = (0.001, 0.01), (0.1, 0.4, 1.6), (1, 2, 3)
TITLE = "A title with <script>alert(1)</script> & more"


def two_settings() -> Results:
    """A factorial of two settings over three seeds."""
    results: Results = {}
    for row, (variant, rate, delta) in enumerate(itertools.product(("LL-R", "LL-Ct"), RATES, DELTAS)):
        values = [60 + 500 * rate - 4 * (delta - 0.4) ** 2 + 0.5 * seed + 0.3 * ((row * seed) % 3) for seed in SEEDS]
        results[variant, Axes({"train.learning_rate": rate, "delta_rel": delta})] = [(v, v + 1) for v in values]
    return results


def make(folder: Path) -> str:
    """The store's URI."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts artifacts
        client = MlflowClient(uri)

        def log(name: str, sweep: str, results: Results, started: int, **changes: Any) -> str:
            return log_sweep(client, name, sweep, results, started=started, logged={"train.epochs": 2}, **changes)

        log("ll_delta", "01d5", {key: [(1, 1.0)] * 3 for key in LL_DELTA}, 1_000)
        newest = log("ll_delta", "ae4f", LL_DELTA, 2_000, title=TITLE)
        cost = {"epochs_trained": 30, "seconds": 7200.0, "gpu_seconds": 900.0}
        client.log_text(newest, json.dumps(cost), "cost.json")
        client.log_text(newest, json.dumps({"commit": "c0ffee" * 6, "packages": {"torch": "2.9"}}), "environment.json")
        inner = {("LL-R", d): [(50 + v + s, 50.0 + v + 1.1 * s) for s in SEEDS] for d, v in zip(DELTAS, (0, 9, 1))}
        inner = {(row, d): results for row in ("LL-R", "LL-Ct", "LL-Cp") for (_, d), results in inner.items()}
        log("ll_delta", "c1a1", inner, 3_000, profile="claims")
        log("ll_delta", "5m0c", LL_DELTA, 4_000, profile="smoke")
        log("two", "2222", two_settings(), 5_000, axes={"train.learning_rate": list(RATES), "delta_rel": list(DELTAS)})
        plain: Results = {("Naive AN", None): LL_DELTA["Naive AN", None]}
        log("over_epochs", "e90c", plain, 6_000, table={"rows": "variant", "columns": "epoch", "value": "test/map"})
        nothing = {("Naive AN", None): [None, None, "missing"]}
        log("all_failed", "fa11", nothing, 7_000, table={"rows": "variant", "value": "test/map"})
        tags = {"sweeper.kind": "sweep", "sweeper.space": "unreadable", "sweeper.sweep": "0000"}
        experiment = client.create_experiment("unreadable")
        client.create_run(experiment, start_time=8_000, tags={**tags, "sweeper.profile": "default"})
    return uri
