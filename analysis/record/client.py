"""How MLflow is asked: where its store is, a client to read it with, and a search that reads all pages."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

_PAGE = 50_000  # the most runs that MLflow returns at once


def tracking_uri(given: str | None = None) -> str:
    """`given`, or MLFLOW_TRACKING_URI, or the database in ./runs."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path('runs/mlflow.db').absolute()}"


def sqlite_path(uri: str) -> Path | None:
    """The database file of a sqlite store; None for any other."""
    file = uri.removeprefix("sqlite:///")
    return None if file == uri else Path(file.partition("?")[0]).absolute()


def reader(uri: str) -> MlflowClient | None:
    """A client to read with; None where that would make a new, empty database."""
    path = sqlite_path(uri)
    return None if path and not path.exists() else MlflowClient(tracking_uri=uri)


def where(tags: Mapping[str, str]) -> str:
    """A condition for `search`: a run has these tags with these values."""
    return " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())


def search(client: MlflowClient, experiments: Sequence[str], wanted: str, *, newest_first: bool = False) -> list[Run]:
    """All runs in these experiments for which the condition `wanted` holds, by start, the oldest first by default."""
    order, token = [f"attributes.start_time {'DESC' if newest_first else 'ASC'}"], None
    runs: list[Run] = []
    while True:
        page = client.search_runs(list(experiments), wanted, max_results=_PAGE, order_by=order, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
