"""What tests of several rooms need."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB: what no permission bit can imitate for root."""
    yield from disk(tmp_path / "disk", "64k")


def disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of that size while the caller is at it; its test is skipped without the rights, and fails in CI."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no file system could be mounted: {mounted.stderr.decode()}")
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # MLflow keeps its database open


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
