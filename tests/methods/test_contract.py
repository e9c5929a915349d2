"""An epoch is a pure function: every registered method is held to the conformance kit, part by part, and every field
that methods share is tried with one of them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from methods.assume_negative import AssumeNegativeObjective
from methods.contract.head import FeatureMap
from methods.contract.method import Method
from methods.contract.settings import Settings
from methods.contract.task import Task
from methods.testing import purity
from methods.training.config import resolve
from methods.training.registry import methods, registered
from tests.methods import tiny

pytestmark = pytest.mark.slow

ALL = list(methods())
TRAIN_ELSEWHERE = """
import json, sys
from methods.testing import purity
from methods.training.config import resolve
from tests.methods import tiny
for values in json.loads(sys.argv[1]):
    result = tiny.run(resolve(values), disturbance=3)
    print(result.keys[-1], tiny.digest(result.states[-1]))
"""


def memorising(method: str) -> dict:
    """Of each method the settings under which it starts with the most in its state."""

    def numbers(config) -> int:
        task = tiny.new_training(config).task
        starts = [config.recipe(epoch).objective.initial_state(task) for epoch in range(1, config.train.epochs + 1)]
        return max(sum(tensor.numel() for tensor in start.values()) for start in starts)

    config = max(purity.own_configurations(method), key=numbers)  # the first of equals
    return {name: value for name, value in config.flat().items() if name != "train.epochs"}


# What every method has acts in the loop, which knows none of them: tried with the one that has the most to lose, a
# memory of the size of the training split.
SHARED = ("role",)
FIELDS = [
    (m, field)
    for m in ALL
    for field in tiny.all_fields(m)
    if (field in tiny.introduced_fields(m) if "." not in field else m in SHARED)
]


@pytest.mark.parametrize(("method", "field"), FIELDS)
def test_equal_keys_mean_equal_results_and_a_field_changes_keys_unless_it_is_declared_free(method, field):
    assert not purity.field_violations(field, tiny.configurations(method, field))


@pytest.mark.parametrize(
    "config",
    [c for m in ALL for c in purity.own_configurations(m, tiny.introduced_fields(m))],
    ids=lambda c: f"{c.method}-{c.settings}",
)
def test_an_epoch_depends_on_the_state_before_it_and_on_nothing_else_that_happened(config):
    assert not purity.run_violations(config)


@pytest.mark.parametrize("method", ALL)
def test_nor_where_everything_else_is_set_to_its_other_value(method):
    others = {
        "data.labels": "single_positive",
        "data.train_fraction": 0.6,
        "network.batch_norm": "train",
        "network.frozen_blocks": 2,
        "network.pooling": "max",
        "train.augmentation": "shift",
        "train.backbone_multiplier": 0.3,
        "train.linear_init": "first_epochs",
        "train.optimizer": "sgd",
        "train.schedule": "cosine",
        "train.weight_decay": 5e-4,
    }
    assert not purity.run_violations(resolve(memorising(method) | others))


@pytest.mark.parametrize("method", ALL)
def test_a_field_that_a_method_inherits_is_in_its_keys(method):
    for field in set(purity.own_fields(method)) - set(tiny.introduced_fields(method)):
        keys = [config.keys()[-1] for config in tiny.configurations(method, field)]
        assert len(set(keys)) == len(keys), field


@pytest.mark.parametrize("method", ALL)
def test_what_cites_a_release_has_its_published_value(method):
    assert not purity.publication_violations(method)


@pytest.mark.parametrize("method", ALL)
def test_another_seed_is_another_key_and_another_result(method):
    assert not purity.seed_violations(method)


@pytest.mark.parametrize("method", [method for method in ALL if methods()[method].reports])
def test_whatever_a_method_says_it_reports_it_does_under_some_setting(method):
    assert not purity.report_violations(method)


@pytest.mark.parametrize("method", ALL)
def test_every_method_trains_two_epochs_past_its_last_activation(method):
    for field in tiny.all_fields(method):
        for config in tiny.configurations(method, field):
            assert config.train.epochs >= purity.last_activation(config) + 2


@pytest.mark.parametrize("method", ALL)
def test_every_method_shares_a_prefix_with_another_configuration_or_says_why_not(method):
    assert not purity.sharing_violations(method)


@pytest.mark.parametrize("method", ALL)
def test_parts_of_a_batch_give_the_gradient_of_the_whole_or_the_method_says_why_not(method):
    assert not purity.separability_violations(method)


@pytest.mark.parametrize("method", ALL)
def test_no_code_or_file_that_acts_is_unseen_by_keys(method):
    assert not purity.code_violations(method)


def test_methods_that_share_a_prefix_have_equal_states_in_it():
    runs = {method: tiny.run(purity.base_configuration(method), disturbance) for disturbance, method in enumerate(ALL)}
    shared = 0
    for one in ALL:
        for other in ALL:
            epochs = tiny.shared_epochs(runs[one].keys, runs[other].keys)
            shared += epochs
            for epoch in range(epochs + 1):
                if runs[one].keys[epoch] == runs[other].keys[epoch]:
                    assert not tiny.different(runs[one].states[epoch], runs[other].states[epoch])
    assert shared


@pytest.fixture(scope="module")
def elsewhere():
    """Last key and state of every method, trained in another process, one after the other and last method first."""
    root = Path(__file__).parents[2]
    order = ALL[::-1]
    command = [sys.executable, "-c", TRAIN_ELSEWHERE, json.dumps([memorising(method) for method in order])]
    # Another order of sets, and pre-training made anew.
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    run = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=True, timeout=600)
    return dict(zip(order, map(str.split, run.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("method", ALL)
def test_a_trial_in_another_process_gives_the_same_key_and_the_same_state(method, elsewhere):
    here = tiny.run(resolve(memorising(method)))
    assert elsewhere[method] == [here.keys[-1], tiny.digest(here.states[-1])]


@dataclass(frozen=True)
class OneModuleMore(AssumeNegativeObjective):
    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        return {"projection": lambda: nn.Linear(features.width, 3), **super().modules(features, task)}


class ModuleBesideTheClassifier(Method):
    name = "module_beside"
    source = "none"
    Settings = Settings

    def objective(self, epoch: int) -> OneModuleMore:
        return OneModuleMore()


def test_with_one_seed_every_method_sees_the_same_views_in_the_same_order_from_the_same_weights(monkeypatch):
    with registered(ModuleBesideTheClassifier):
        known, seen = methods(), {}
        for disturbance, method in enumerate(known):
            config = resolve(tiny.tiny(method, **{"train.augmentation": "shift"}))
            batches, starts = seen[method] = [], []
            for kind in {type(config.recipe(epoch).objective) for epoch in range(1, config.train.epochs + 1)}:
                monkeypatch.setattr(kind, "loss", recording(kind.loss, batches, starts))
            tiny.run(config, disturbance)
            monkeypatch.undo()
    batches, starts = seen.pop("assume_negative")
    assert len({tuple(indices.tolist()) for indices in batches}) == len(batches) == 12
    for method, (other_batches, other_starts) in seen.items():
        assert all(torch.equal(a, b) for a, b in zip(batches, other_batches, strict=True)), method
        common = starts[0].keys() & other_starts[0].keys()
        assert "the first batch's features" in common
        if known[method].backbones:  # its features are another network's
            common.remove("the first batch's features")
        assert all(torch.equal(starts[0][name], other_starts[0][name]) for name in common), method
    beside = seen["module_beside"][1][0]
    assert "classifier.linear.weight" in starts[0].keys() & beside.keys()
    assert "projection.weight" in beside


def recording(loss: Callable, batches: list, starts: list) -> Callable:
    def recorded(self, batch, modules, state):
        if not starts:
            weights = {
                f"{module}.{name}": tensor.clone()
                for module, parts in modules.items()
                for name, tensor in parts.state_dict().items()
            }
            starts.append({"the first batch's features": batch.features.detach().clone(), **weights})
        batches.append(batch.indices)
        return loss(self, batch, modules, state)

    return recorded
