"""What the README shows works as it stands there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sweeper.spaces.reading import load_space

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_search_space_shown_is_valid(tmp_path):
    shown, search = blocks("yaml")
    path = tmp_path / "shown.yaml"
    path.write_text(shown)
    assert load_space(path).trials
    assert load_space(path, profile="claims").seeds == (1, 2, 3, 4, 5)
    # The search is shown by what it changes.
    path.write_text(shown.rstrip() + "\n  search:\n" + textwrap.indent(search, "    "))
    found = load_space(path, profile="search").search
    assert found and found.settings.trials == 30 and "train.momentum" in found.axes["LL-R"]


def test_exactly_two_commands_do_all_the_set_up():
    commands = [line for block in blocks("bash") for line in block.splitlines() if "pip install" in line]
    assert len(commands) == 2
    assert commands[0].endswith(
        "python -m sweeper run search_spaces/ll_delta.yaml && python -m analysis table ll_delta"
    )
    assert commands[1].endswith("python -m pytest")


@pytest.mark.parametrize("module", ["sweeper", "analysis"])
def test_every_command_listed_exists(module):
    listed = set(re.findall(rf"`python -m {module} (\w+)", README))
    text = subprocess.run([sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True).stdout
    assert listed
    assert listed <= set(re.findall(r"\w+", text))


def test_a_new_method_is_one_new_file_that_passes_the_conformance_kit(tmp_path):
    for package in ("methods", "sweeper"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    source, kit = (next(block for block in blocks("python") if text in block) for text in ("class Weighted(", "purity"))
    (tmp_path / "methods" / "weighted.py").write_text(source)
    settings = {
        "data.train_images": 32, "data.val_images": 16, "data.test_images": 16, "network.pretrain_epochs": 0,
        "train.epochs": 1,
    }  # fmt: skip
    script = (
        f"{kit}\n"
        "from methods import fit\n"
        "from sweeper.commands.listing import list_methods, method_settings\n"
        f"assert 'test/map' in fit('weighted', {settings!r}).history[-1]\n"
        "print(list_methods(), method_settings('weighted'))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("[]\n"), "the kit found something"
    assert "weighted" in run.stdout
    assert "weight of known positives" in run.stdout


def test_fit_is_used_as_shown():
    block = next(block for block in blocks("python") if "from methods import fit" in block)
    small = '"data.train_images": 32, "data.val_images": 16, "data.test_images": 16, "network.pretrain_epochs": 0, '
    shown = block.replace('"train.epochs": 2', small + '"train.epochs": 2')
    assert shown != block
    exec(compile(shown, "README.md", "exec"), {})
