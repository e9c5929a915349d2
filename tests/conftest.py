"""What tests of several packages need."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LEFT_OUT = pytest.StashKey[bool]()
# Modules in which each test stands alone, and in which those of one method share what is trained. And tests of these
# that share a fixture.
APART = ("tests/methods/test_contract_catches.py", "tests/methods/test_devices.py", "tests/sweeper/test_kills.py")
BY_FIRST_PARAMETER = ("tests/methods/test_contract.py",)
TOGETHER = ("test_a_trial_in_another_process_gives_the_same_key_and_the_same_state",)


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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow modules first, and what any worker can do after them, so that all workers are busy to the end."""
    items.sort(key=lambda item: (item.get_closest_marker("slow") is None, "::" in scope(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope(nodeid)

    return Scheduling(config, log)


def scope(nodeid: str) -> str:
    """Tests of one scope run in one worker. It is their module, whose fixtures are then made once; in large modules
    that share little it is smaller.

    xdist has groups for this (`loadgroup`), but its version 3.8 ignores them with pytest 9.2.
    """
    module, _, test = nodeid.partition("::")
    name, _, parameters = test.partition("[")
    if name in TOGETHER:
        return f"{module}::{name}"
    if module in BY_FIRST_PARAMETER:
        return f"{module}::{re.split('[]-]', parameters)[0]}"
    return nodeid if module in APART else module


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
