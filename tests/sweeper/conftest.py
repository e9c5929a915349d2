"""What takes a second or more to make or to start, once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import ray
from mlflow import MlflowClient

from sweeper.running.tune import start_ray


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """Ray for all sweeps of a module that run in this process, whose workers see the environment as it is now."""
    assert start_ray()
    yield
    ray.shutdown()


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.slow), False], ids=["ray", "inline"])
def on_ray(request: pytest.FixtureRequest) -> bool:
    """Whether the trials of a sweep in this process run on Ray; a test with it runs under both executors."""
    if request.param:
        request.getfixturevalue("ray_here")
    return request.param
