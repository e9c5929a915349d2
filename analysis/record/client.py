"""How MLflow is asked: where its store is, a client to read it with, and a search that reads all pages."""

from __future__ import annotations

import os
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run


def tracking_uri(given: str | None = None) -> str:
    """`given`, or MLFLOW_TRACKING_URI, or the database in ./runs."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('runs/mlflow.db').absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite store; None for any other."""
    return Path(uri.removeprefix("sqlite:///")).absolute() if uri.startswith("sqlite:///") else None


def reader(uri: str) -> MlflowClient | None:
    """A client to read with; None where that would make a new, empty database."""
    path = sqlite_path(uri)
    return None if path and not path.exists() else MlflowClient(tracking_uri=uri)


def search(client: MlflowClient, experiments: list[str], wanted: str) -> list[Run]:
    """All runs, the oldest first."""
    runs: list[Run] = []
    token = None
    while True:
        order = ["attributes.start_time ASC"]
        page = client.search_runs(experiments, wanted, max_results=1000, order_by=order, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
