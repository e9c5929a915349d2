"""A world so small that a configuration trains in a tenth of a second, and the check that epochs are pure functions.

`run` trains one configuration and keeps every epoch. `violations` says in which ways a method breaks the rule
state[e] = train_epoch(state[e-1], recipe(e), task, seed, e): an empty list for every method that we ship, and something
for each dishonest one of `test_contract_catches`.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

from methods.contract.objective import Batch
from methods.contract.randomness import seeded
from methods.contract.settings import Field, SettingError
from methods.data.registry import EMBEDDED, IN_FILES
from methods.training import clip_features
from methods.training.config import SECTIONS, Config, resolve, setting_fields
from methods.training.features import prepare
from methods.training.fit import Metrics, Training
from methods.training.loop import State
from methods.training.registry import methods
from tests.methods import miniatures

TINY: dict[str, Any] = {
    "data.labels": "proportion",
    "data.train_images": 40,  # two batches, and a smaller one
    "data.val_images": 16,
    "data.test_images": 16,
    "network.pretrain_epochs": 1,
    "network.pretrain_images": 64,
    "network.weights": "random",
    "train.batch_size": 16,
    "train.epochs": 4,
    "train.schedule": "constant",
    "train.step_every": 2,
}
# What makes every part of a method act on so few images and in so few epochs, where its defaults would not.
ACTING: dict[str, dict[str, Any]] = {
    # From epoch 3 on more entries than are unobserved, so that protecting the observed ones matters.
    "large_loss": {"delta_rel": 30.0},
    "curriculum": {"warmup_epochs": 1, "threshold": 0.2},
    "imcl": {"warmup_epochs": 1, "dictionary_size": 12},
    # Prototypes made twice, of classes with fewer known positives than prototypes among others.
    "sarb": {"start_epoch": 2, "prototypes_every": 2, "prototypes": 4},
    "dsrb": {"start_epoch": 2, "prototypes_every": 2},
    "mixup": {"start_epoch": 2},
    # Scores so early are low within images, and high across them.
    "sst": {
        "start_epoch": 2,
        "theta_intra_start": 0.5,
        "theta_intra_step": 0.1,
        "theta_intra_min": 0.3,
        "theta_inter_start": 0.97,
        "theta_inter_step": 0.02,
        "theta_inter_min": 0.95,
        "bank_size": 3,
    },
    "prompt_learning": {"network.backbone": "digit_clip", "prompt_length": 3},
    "hst": {
        "start_epoch": 2,
        "margin_intra_start": 0.4,
        "margin_inter_start": 0.95,
        "prototypes": 3,
        "prototypes_every": 2,
    },
}
# A head under which a batch's features are its logits.
IDENTITY: dict[str, nn.Module] = {"classifier": nn.Identity()}
# Choices that the tiny world leaves out: models as large as a paper's are trained by tests of their own.
# And what not every machine has.
LARGE = {
    "network.backbone": ("open_clip", "resnet50", "resnet101"),
    "train.device": ("auto", "cuda"),
    "train.compile": (True,),
}
HORIZON = 50  # epochs in which a method's activations are looked for
LONGEST = 10  # epochs that a check may train

_folder = tempfile.TemporaryDirectory(prefix="tiny-")
os.environ.setdefault("SWEEPER_IMAGES", f"{_folder.name}/images")


class Kind(StrEnum):
    """The ways in which an epoch can fail to be a pure function of what its key names."""

    UNHASHED = "equal keys, different results"
    INERT = "a setting that changes no key and is not declared free"
    HASHED_THOUGH_FREE = "a setting that is declared free and changes a key"
    GLOBAL_RANDOMNESS = "results depend on the global random generators"
    HIDDEN_MEMORY = "results depend on what was trained before, beyond the state"
    MODIFIED_INPUT = "the state given to an epoch is modified"
    SEED_IGNORED = "another seed gives the same key or the same state"
    UNNAMED_REPORT = "something is reported that the method's `reports` do not name"


class Violation(NamedTuple):
    kind: Kind
    where: str


class Run(NamedTuple):
    """key[0] … key[E], state[0] … state[E], and the metrics of epochs 1 … E (metrics[e - 1])."""

    keys: list[str]
    states: list[State]
    metrics: list[Metrics]


def tiny(method: str, **own: Any) -> dict[str, Any]:
    """Values for `resolve`: a method in the tiny world, with settings of its own."""
    return {**TINY, **ACTING.get(method, {}), "method": method, **own}


def run(config: Config, disturbance: int = 0) -> Run:
    """Train a configuration on its own: a `Training` and network features that no other run has seen.

    Before every epoch the global generators are set to numbers named by `disturbance`, which must not matter.
    """
    prepare.cache_clear()
    clip_features.prepare.cache_clear()
    training = new_training(config)
    disturb(disturbance, epoch=0)
    states, metrics = [training.initial_state()], []
    for epoch in range(1, config.train.epochs + 1):
        disturb(disturbance, epoch)
        state, measured = training.advance(states[-1], epoch)
        states.append(state)
        metrics.append(measured)
    return Run(config.keys(), states, metrics)


def new_training(config: Config) -> Training:
    return Training(config, Path(_folder.name))


def batch(features: Tensor, labels: Tensor, first: int = 0) -> Batch:
    """A batch of images `first`, `first` + 1, … of the training split."""
    return Batch(features, labels, torch.arange(first, first + len(features)))


def disturb(disturbance: int, epoch: int) -> None:
    """Set the global generators of Python, NumPy and torch."""
    number = 1000 * disturbance + epoch
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def saved_and_loaded(state: State) -> State:
    """What a file makes of a state."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def digest(state: State) -> str:
    """Hash of every tensor of a state, to the bit."""
    result = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        result.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        result.update(tensor.numpy().tobytes())
    return result.hexdigest()


def different(one: State, other: State) -> list[str]:
    """Names of the tensors that only one state has, or that are not the same to the bit."""
    return [name for name in sorted({*one, *other}) if not (name in one and name in other and _equal(one, other, name))]


def different_metrics(one: Metrics, other: Metrics) -> list[str]:
    # As texts, because a metric without a value is NaN.
    return [name for name in sorted({*one, *other}) if repr(one.get(name)) != repr(other.get(name))]


def own_fields(method: str) -> list[str]:
    """Names of the method's own settings that have two values or more."""
    return [name for name in all_fields(method) if "." not in name]


def all_fields(method: str) -> list[str]:
    """Dotted names of everything that can be set to two values or more, of a backbone that the method can have."""
    fields = [(name, field) for name, field in setting_fields(method) if len(field.choices) != 1]
    fields = [(name, field) for name, field in fields if not _of_other_data(method, name, field)]
    return [name for name, field in fields if not _large(name, field) and not _of_another_backbone(method, field)]


def configurations(method: str, name: str) -> list[Config]:
    """A configuration for each of a field's values, all else equal, where the field acts and trained long enough."""
    known = dict(setting_fields(method))
    base = tiny(method)
    _make_acting(base, known, name)
    current = base.get(name, known[name].default)
    if name == "data.root":
        values = [{**base, name: root} for root in _roots(base["data.dataset"])]
    elif name == "network.weights":
        values = [{**base, name: weights} for weights in ("random", _weights_file())]
    else:
        possible = [value for value in _values(known[name], current) if _possible(method, name, value)]
        values = [_with_files({**base, name: value}) for value in possible]
    if name != "train.epochs":
        epochs = max(_long_enough(resolve(each)) for each in values)
        values = [{**each, "train.epochs": epochs} for each in values]
    return [resolve(each) for each in values]


def _with_files(values: dict[str, Any]) -> dict[str, Any]:
    """With a miniature of the data set where it is one in files, and images of the size of scenes."""
    dataset = values.get("data.dataset")
    if dataset not in IN_FILES:
        return values
    return {"data.image_size": 48, **values, "data.root": _roots(dataset)[0]}


@functools.cache
def _roots(dataset: str) -> tuple[str, str]:
    """Two miniatures of a data set; in the second some labels are others."""
    one, other = (Path(_folder.name, "data", f"{dataset}-{number}") for number in (1, 2))
    miniatures.write(dataset, one)
    miniatures.write(dataset, other)
    miniatures.relabel(dataset, other)
    return str(one), str(other)


@functools.cache
def _weights_file() -> str:
    """A ResNet-18 as torchvision saves one."""
    path = Path(_folder.name, "resnet18.pth")
    with seeded("weights"):
        torch.save(torchvision.models.resnet18().state_dict(), path)
    return str(path)


def own_configurations(method: str, names: list[str] | None = None) -> list[Config]:
    """The method with its own settings (or those of `names`) at each of their values, one at a time."""
    base = tiny(method)
    base["train.epochs"] = _long_enough(resolve(base))
    names = own_fields(method) if names is None else names
    return list(dict.fromkeys([resolve(base), *(c for name in names for c in configurations(method, name))]))


def introduced_fields(method: str) -> list[str]:
    """Names of the settings of its own that no method before it, in alphabetical order, has inherited from the same
    class: those that several methods share act in code that they share."""
    earlier = [other.Settings for name, other in methods().items() if name < method]
    declared = {
        name: next(cls for cls in methods()[method].Settings.__mro__ if name in vars(cls).get("__annotations__", {}))
        for name in own_fields(method)
    }
    return [name for name, cls in declared.items() if not any(issubclass(other, cls) for other in earlier)]


def violations(method: str) -> list[Violation]:
    """Every way in which the method breaks the rule, as far as its own settings show it."""
    found = [violation for name in own_fields(method) for violation in field_violations(method, name)]
    for config in own_configurations(method):
        found += run_violations(config)
    return found + seed_violations(method)


def assert_pure(method: str) -> None:
    found = violations(method)
    assert not found, "\n".join(f"{violation.kind}: {violation.where}" for violation in found)


def field_violations(method: str, name: str) -> list[Violation]:
    """What is wrong with one field: each two of its values are trained apart and compared where their keys agree."""
    metadata = dict(setting_fields(method))[name].metadata
    measured_only = bool(metadata.get("evaluation_only"))
    free = measured_only or bool(metadata.get("result_free"))
    found = []
    configs = configurations(method, name)
    runs = [_kept_run(config, disturbance) for disturbance, config in enumerate(configs, start=1)]
    for (a, one), (b, other) in itertools.combinations(zip(configs, runs, strict=True), 2):
        where = f"{method}, {name} {a.flat()[name]!r} and {b.flat()[name]!r}"
        if free and one.keys != other.keys:
            found.append(Violation(Kind.HASHED_THOUGH_FREE, where))
        if not free and one.keys == other.keys:
            found.append(Violation(Kind.INERT, where))
        found += [Violation(Kind.UNHASHED, f"{where}: {what}") for what in _unequal(one, other, measured_only)]
    return found


def run_violations(config: Config) -> list[Violation]:
    """What is wrong with one configuration: trained twice with other global generators, and every epoch again from what
    a file kept of the state before it, last epoch first."""
    where = f"{config.method}, {config.settings}"
    first, other = run(config, disturbance=1), run(config, disturbance=2)
    if any(_unequal(first, other)):
        again = run(config, disturbance=1)
        kind = Kind.HIDDEN_MEMORY if any(_unequal(first, again)) else Kind.GLOBAL_RANDOMNESS
        return [Violation(kind, f"{where}: {what}") for what in _unequal(first, other)]
    unnamed = reported(first) - set(config._method().reports)
    found = [Violation(Kind.UNNAMED_REPORT, f"{where}: {', '.join(sorted(unnamed))}")] * bool(unnamed)
    for epoch in range(config.train.epochs, 0, -1):
        state = saved_and_loaded(first.states[epoch - 1])
        disturb(1, epoch)
        after, _ = new_training(config).advance(state, epoch)
        if changed := different(after, first.states[epoch]):
            found.append(Violation(Kind.HIDDEN_MEMORY, f"{where}: epoch {epoch} restored, {changed}"))
        if changed := different(state, first.states[epoch - 1]):
            found.append(Violation(Kind.MODIFIED_INPUT, f"{where}: epoch {epoch}, {changed}"))
    return found


def reported(trained: Run) -> set[str]:
    """What the objectives of a run reported, besides what the loop itself says."""
    training = (name.removeprefix("train/") for epoch in trained.metrics for name in epoch if name.startswith("train/"))
    return set(training) - {"loss", "known_labels"}


def seed_violations(method: str) -> list[Violation]:
    """What is wrong if the seed changes nothing, the scenes and the labels that are given being the same."""
    fixed = {**tiny(method), "data.draw": 1, "data.mask_seed": 1}
    one, other = (run(resolve({**fixed, "seed": seed})) for seed in (1, 2))
    same = one.keys[0] == other.keys[0] or not different(one.states[-1], other.states[-1])
    return [Violation(Kind.SEED_IGNORED, method)] * same


def shared_epochs(one: list[str], other: list[str]) -> int:
    """Epochs of a prefix that two chains of keys share before they part; 0 if they never part."""
    if one == other:
        return 0
    return max(sum(a == b for a, b in zip(one, other, strict=False)) - 1, 0)


def last_activation(config: Config) -> int:
    """The last epoch in which something is switched on or off; values that only grow or fall do not count."""
    acting = [_acting(config.recipe(epoch).objective) for epoch in range(1, HORIZON + 1)]
    changes = (epoch for epoch in range(2, HORIZON + 1) if acting[epoch - 1] != acting[epoch - 2])
    return max(changes, default=1)


@functools.lru_cache(maxsize=4)
def _kept_run(config: Config, disturbance: int) -> Run:
    """`run`, kept for the next field, whose first value is often the same configuration."""
    return run(config, disturbance)


def _unequal(one: Run, other: Run, measured_only: bool = False) -> Iterator[str]:
    """Where keys agree and results do not. `measured_only`: what is measured may differ, all but the loss."""
    for epoch, (a, b) in enumerate(zip(one.keys, other.keys, strict=False)):
        if a != b:
            return
        if names := different(one.states[epoch], other.states[epoch]):
            yield f"state of epoch {epoch}, {names}"
        if epoch:
            names = different_metrics(one.metrics[epoch - 1], other.metrics[epoch - 1])
            if names := [name for name in names if name == "train/loss" or not measured_only]:
                yield f"metrics of epoch {epoch}, {names}"


def _equal(one: State, other: State, name: str) -> bool:
    return one[name].dtype == other[name].dtype and torch.equal(one[name], other[name])


def _make_acting(base: dict[str, Any], known: dict[str, Field], name: str) -> None:
    """Set the fields that the field's `when` names, and those that theirs name."""
    section = name.rpartition(".")[0]
    for sibling, allowed in known[name].metadata["when"].items():
        sibling = f"{section}.{sibling}" if section in SECTIONS else sibling
        if base.get(sibling, known[sibling].default) not in allowed:
            base[sibling] = allowed[0]
        _make_acting(base, known, sibling)


def _possible(method: str, name: str, value: Any) -> bool:
    if name == "network.backbone" and value not in getattr(methods()[method], "backbones", (value,)):
        return False
    if name == "train.micro_batches" and value > 1 and not separable(method):
        return False
    return value not in LARGE.get(name, ())


def separable(method: str) -> bool:
    """Whether its batches can be computed in parts."""
    try:
        resolve(tiny(method, **{"train.micro_batches": 2}))
    except SettingError:
        return False
    return True


def _of_another_backbone(method: str, field: Field) -> bool:
    own = getattr(methods().get(method), "backbones", None)
    return own is not None and set(own).isdisjoint(field.metadata["when"].get("backbone", own))


def _of_other_data(method: str, name: str, field: Field) -> bool:
    """Whether it takes another data set, whose words the small CLIP of digit scenes does not know."""
    of = field.metadata["when"].get("dataset", (EMBEDDED,))
    return hasattr(methods().get(method), "backbones") and (name == "data.dataset" or EMBEDDED not in of)


def _large(name: str, field: Field) -> bool:
    """Whether a field acts only under choices that are left out."""
    section = name.rpartition(".")[0]
    others = ((LARGE.get(f"{section}.{other}", ()), allowed) for other, allowed in field.metadata["when"].items())
    return any(set(allowed) <= set(left_out) for left_out, allowed in others)


def _values(field: Field, current: Any) -> list[Any]:
    """All of a field's choices, or the current value and one more: a typical one, or the nearest that is allowed."""
    if field.choices:
        return [*field.choices, *[None] * (field.default is None)]
    candidates = [value for value in field.metadata["typical"] if value != current]
    if current is None:
        candidates += [2, 0.5]
    elif isinstance(current, int | float):
        candidates += [current + 1, current - 1, current / 2]
    for value in candidates:
        try:
            return [current, field.check(value)]
        except SettingError:
            continue
    raise AssertionError(f"{field.name}: no second value was found; give the field `typical` ones")


def _long_enough(config: Config) -> int:
    """Epochs until two after the last activation."""
    epochs = max(config.train.epochs, last_activation(config) + 2)
    assert epochs <= LONGEST, f"{config.method} acts from epoch {epochs - 2}: make it act earlier, in tiny.ACTING"
    return epochs


def _acting(value: Any) -> Any:
    """The kind of an objective and which of its parts are on, without how strong they are."""
    if is_dataclass(value):
        parts = {name: _acting(part) for name, part in vars(value).items() if part is not None}
        return type(value), tuple(parts.items())
    return type(value)
