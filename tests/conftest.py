"""What tests of several rooms need."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

LEFT_OUT = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="run the tests marked slow too, as CI does")


def pytest_configure(config: pytest.Config) -> None:
    """Leave out the slow tests where nobody asked for any in particular, and not in CI."""
    named = config.args_source is pytest.Config.ArgsSource.ARGS
    config.stash[LEFT_OUT] = not (
        named or config.option.all or config.option.markexpr or os.environ.get("CI") == "true"
    )
    if config.stash[LEFT_OUT]:
        config.option.markexpr = "not slow"  # which workers are given too


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of a module to one worker, which makes what they share once: slow modules first, so that all
    workers are busy to the end. Tests marked `alone` share nothing and go wherever there is room."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, item.get_closest_marker("alone") is not None))
    for item in items:
        if item.get_closest_marker("alone") is None and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.stash[LEFT_OUT]:
        terminalreporter.write_line("tests marked slow were left out; --all runs them too, as CI does")


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
