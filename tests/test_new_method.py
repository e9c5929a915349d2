"""A method in one new file of the package: found, validated, swept, printed under its titles, held to the kit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
METHOD = '''
"""From `start_epoch` on positives have a weight."""

from dataclasses import dataclass

from .assume_negative import AssumeNegativeObjective
from .components.losses import sigmoid_cross_entropy
from .contract.method import Method
from .contract.objective import Objective
from .contract.settings import Settings, setting


@dataclass(frozen=True)
class LateWeightObjective(Objective):
    weight: float

    def part_weight(self, labels):
        return float(len(labels))

    def loss(self, batch, modules, state):
        positive = batch.labels > 0
        logits = self.logits(batch.features, modules)
        entries = sigmoid_cross_entropy(logits, positive.to(logits.dtype))
        return (entries * (1 + (self.weight - 1) * positive)).mean()

    def report(self, modules, state):
        return {"weight": self.weight}


@dataclass(frozen=True)
class LateWeightSettings(Settings):
    start_epoch: int = setting(20, "first epoch with a weight", minimum=1, typical=(10, 20))
    weight: float = setting(2.0, "weight of positives", above=0, typical=(2.0, 4.0), title="w+", unit="times")


class LateWeight(Method[LateWeightSettings]):
    """Positives weigh more, in the end."""

    name = "late_weight"
    source = "a test"
    Settings = LateWeightSettings
    reports = {"weight": "weight of a label, positives"}
    quick = {"start_epoch": 2}

    def objective(self, epoch):
        if epoch < self.settings.start_epoch:
            return AssumeNegativeObjective()
        return LateWeightObjective(self.settings.weight)
'''
SPACE = """
title: weights
data: {labels: single_positive, train_images: 32, val_images: 16, test_images: 16}
network: {pretrain_epochs: 0}
train: {epochs: 3, batch_size: 16, micro_batches: 2}
variants:
  Naive AN: {method: assume_negative}
  Late: {method: late_weight, start_epoch: 2}
axes: {weight: [2, 4]}
seeds: [1]
table: {columns: weight}
figure: {x: epoch, y: train/weight}
"""
SWEEP = """
import json
from analysis import table
from sweeper import load_space, run

space = load_space("weights.yaml")
outcome = run(space, inline=True)
print(table("weights").md())
print(json.dumps({**outcome.as_json(), "titles": space.resolved()["titles"]}))
"""


@pytest.fixture
def python(tmp_path):
    """Runs a script on a copy of the packages that has the new file, and returns what it prints."""
    for package in ("methods", "sweeper", "analysis"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "methods" / "late_weight.py").write_text(METHOD)
    own = {"PYTHONPATH": str(tmp_path), "SWEEPER_STORE": str(tmp_path / "store")}
    environment = {**os.environ, **own, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db"}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_it_is_swept_and_printed_under_its_titles(python, tmp_path):
    (tmp_path / "weights.yaml").write_text(SPACE)
    *printed, last = python("-c", SWEEP).splitlines()
    outcome = json.loads(last)
    assert (outcome["trials"], outcome["succeeded"]) == (3, 3)
    assert outcome["epochs_reused"] == 2, "its first epoch is that of Naive AN, for both weights"
    assert outcome["titles"]["settings"]["weight"] == {"title": "w+", "unit": "times", "values": {}}
    assert outcome["titles"]["metrics"]["train/weight"] == "weight of a label, positives"
    assert any(line.startswith("| w+") for line in printed), "\n".join(printed)


def test_it_is_listed_and_validated_and_passes_the_kit(python, tmp_path):
    assert "late_weight" in python("-m", "sweeper", "methods")
    kit = "from methods.testing import purity; from methods.late_weight import LateWeight; "
    assert python("-c", f"{kit} print(purity.check(LateWeight))") == "[]\n"
    (tmp_path / "weights.yaml").write_text(SPACE.replace("[2, 4]", "[0]"))
    refused = (
        "from sweeper import load_space\ntry: load_space('weights.yaml')\nexcept ValueError as error: print(error)"
    )
    assert "a number above 0" in python("-c", refused)
