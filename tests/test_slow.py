"""A plain `python -m pytest` leaves out the slow tests and says so; CI leaves out nothing. Which worker runs what."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import scope

ROOT = Path(__file__).parent.parent
TESTS = """
import pytest

def test_that_is_fast():
    pass

@pytest.mark.slow
def test_that_is_slow():
    pass
"""


@pytest.mark.parametrize(
    ("options", "ci", "run"),
    [
        (["-n", "2"], "", ["fast"]),
        (["-n", "2"], "true", ["fast", "slow"]),
        (["--all"], "", ["fast", "slow"]),
        (["tests/test_both.py"], "", ["fast", "slow"]),
        (["-m", "slow"], "", ["slow"]),
    ],
)
def test_what_is_slow_is_run_where_it_is_asked_for(tmp_path, options, ci, run):
    out = pytest_on({"test_both.py": TESTS}, tmp_path, *options, CI=ci)
    assert [which for which in ("fast", "slow") if f"test_that_is_{which}" in out] == run
    said = "tests marked slow were left out; --all runs them too" in out
    assert said == (run == ["fast"])


def test_a_module_runs_in_one_worker(tmp_path):
    seen = "import pytest\n@pytest.mark.parametrize('number', range(12))\ndef test_it(number): pass\n"
    files = ("test_one.py", "test_other.py")
    out = pytest_on(dict.fromkeys(files, seen), tmp_path, "-n", "2", CI="")
    ran = re.findall(r"\[(gw\d)\] .* tests/(.*?)::", out)
    assert len(ran) == 24
    assert [len({worker for worker, other in ran if other == file}) for file in files] == [1, 1]


def test_tests_that_share_nothing_may_run_in_any_worker():
    scopes = {scope(f"tests/sweeper/test_kills.py::test_it[{number}]") for number in range(12)}
    assert len(scopes) == 12


def pytest_on(files: dict[str, str], folder: Path, *options: str, **environment: str) -> str:
    """What pytest writes about these tests under our settings."""
    shutil.copy(ROOT / "pyproject.toml", folder)
    for name, text in files.items():
        (folder / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tests" / name).write_text(text)
    shutil.copy(ROOT / "tests/conftest.py", folder / "tests")
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-vv", *options]
    result = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout
