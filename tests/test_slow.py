"""A plain `python -m pytest` leaves out the slow tests and says so; CI leaves out nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests/conftest.py", tmp_path / "tests")
    (tmp_path / "tests/test_both.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-vv", *options]
    result = subprocess.run(command, cwd=tmp_path, env={**os.environ, "CI": ci}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert [which for which in ("fast", "slow") if f"test_that_is_{which}" in result.stdout] == run
    said = "tests marked slow were left out; --all runs them too" in result.stdout
    assert said == (run == ["fast"])
