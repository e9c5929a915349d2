"""A folder with packages named as ours: a sweep runs there all the same, with workers that begin with that folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SPACE = """
data: {labels: single_positive, train_images: 64, val_images: 32, test_images: 32}
network: {pretrain_epochs: 0}
train: {epochs: 1}
variants: {AN: {method: assume_negative}}
seeds: [1]
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("methods", "analysis"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('another package of this name')\n")
    (tmp_path / "small.yaml").write_text(SPACE)
    return tmp_path


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    # The working directory comes first, as with `python -m`; ours are found after it.
    environment = {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{Path(__file__).parents[2]}"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=240
    )


@pytest.mark.slow
def test_a_sweep_runs_in_a_folder_with_packages_of_its_own_that_are_named_as_ours(folder):
    result = python(folder, "-m", "sweeper", "run", "small.yaml")
    assert result.returncode == 0, result.stderr
    assert "1 of 1 trials done, 0 failed" in result.stderr


def test_where_such_a_package_was_imported_before_it_is_named(folder):
    (folder / "methods" / "__init__.py").write_text("")
    result = python(folder, "-c", "import methods, sweeper")
    assert f"sweeper needs its own package 'methods', but {folder / 'methods'} was imported before" in result.stderr
