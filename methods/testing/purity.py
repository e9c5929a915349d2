"""The conformance kit: checks that a method keeps the rule of pure epochs and its own declarations.

    from methods.testing import purity
    assert not purity.check(MyMethod)

The rule is state[e] = train_epoch(state[e-1], recipe(e), task, seed, e). The class may be defined anywhere. It is
trained on a few digit scenes, a tenth of a second per configuration, with its `quick` settings, and with each of its
own settings at two values or more. Settings that all methods have act in code that is independent of the method, so
they are not varied here.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import itertools
import random
import re
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ..contract.method import Method
from ..contract.settings import SettingError, fields
from ..training import clip_features, features
from ..training.config import SECTIONS, Config, resolve, setting_fields
from ..training.fit import Metrics, Training
from ..training.loop import REPORTS, State
from ..training.registry import methods, registered
from . import unseen_code

WORLD: dict[str, Any] = {
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
HORIZON = 50  # number of epochs in which activations of a method are searched
LONGEST = 10  # the largest number of epochs that a check trains
KEPT_RUNS = 24  # as many as a method has configurations; some megabytes each
PARTS = 3  # parts of a batch; their numbers of known labels usually differ
RELEASED = re.compile(r"\b(released?|releases|code)\b", re.IGNORECASE)  # in the `source` of a setting
_OTHER = 1_000_001  # a disturbance that no configuration has


class Kind(StrEnum):
    """The ways in which a method can break the rule, or not keep what it declares."""

    UNHASHED = "equal keys, different results"
    INERT = "a setting that changes no key and is not declared free"
    HASHED_THOUGH_FREE = "a setting that is declared free and changes a key"
    GLOBAL_RANDOMNESS = "results depend on the global random generators"
    HIDDEN_MEMORY = "results depend on what was trained before, beyond the state"
    MODIFIED_INPUT = "the state given to an epoch is modified"
    SEED_IGNORED = "another seed gives the same key or the same state"
    UNNAMED_REPORT = "something is reported that the method's `reports` do not name"
    MISSING_REPORT = "something that the method's `reports` name is reported under none of its settings"
    UNTITLED_REPORT = "a report without a description, which tables and figures print"
    UNSHARED = "no setting shares an epoch with another configuration, and `unshared` does not say why"
    INSEPARABLE = "a loss with a `part_weight` whose parts of a batch do not give the gradient of the whole"
    UNEXPLAINED = "a loss that does not separate, without a reason"
    TOO_LATE = "a part that acts too late to be trained here: give `quick` settings under which it acts earlier"
    UNSEEN = "code or files that no key sees, so that a change of them would give stale results"
    UNPUBLISHED = "a setting whose `source` speaks of released code, without a `published` value"
    REFUSED = "a `published` value that the setting does not allow"
    ONE_VALUE = "a setting without a second value that is accepted and acts early enough: give it `typical` ones"


class Violation(NamedTuple):
    kind: Kind
    where: str


class UntestableError(ValueError):
    """A method cannot be tested. The text says what is missing."""

    def __init__(self, violation: Violation):
        super().__init__(f"{violation.where}: {violation.kind}")
        self.violation = violation


class Run(NamedTuple):
    """key[0] … key[E], state[0] … state[E], and the metrics of epochs 1 … E (metrics[e - 1])."""

    keys: list[str]
    states: list[State]
    metrics: list[Metrics]


def check(method: type[Method]) -> list[Violation]:
    """Every way in which the method breaks the rule, or does not keep what it declares, as far as its own settings show
    it. It need not be registered. Sets the global generators of Python, NumPy and torch."""
    _kept_run.cache_clear()  # the name may have been another class's
    last_activation.cache_clear()
    with registered(method):
        name = method.name
        try:
            base_configuration(name)  # raises `SettingError` where `quick` is not right
            found = [v for field in own_fields(name) for v in field_violations(field, configurations(name, field))]
            for config in own_configurations(name):
                found += run_violations(config)
            for violations in (
                publication_violations,
                seed_violations,
                report_violations,
                sharing_violations,
                separability_violations,
                code_violations,
            ):
                found += violations(name)
        except UntestableError as error:
            return [error.violation]
    return found


def world(method: str, **own: Any) -> dict[str, Any]:
    """Values for `resolve`: a method in the tiny world with its `quick` settings and the values of `own`."""
    return {**WORLD, **methods()[method].quick, "method": method, **own}


def run(config: Config, disturbance: int = 0) -> Run:
    """Train a configuration on its own: a `Training` and network features that no other run has seen.

    Before every epoch the global generators are set to numbers named by `disturbance`, which must not matter.
    """
    forget_features()
    training = new_training(config)
    disturb(disturbance, epoch=0)
    states, metrics = [training.initial_state()], []
    for epoch in range(1, config.train.epochs + 1):
        disturb(disturbance, epoch)
        state, measured = training.advance(states[-1], epoch)
        states.append(state)
        metrics.append(measured)
    return Run(config.keys(), states, metrics)


def forget_features() -> None:
    """The next training makes the features of its network anew."""
    features.prepare.cache_clear()
    clip_features.prepare.cache_clear()


def new_training(config: Config) -> Training:
    return Training(config, folder())


@functools.cache
def _temporary() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="purity-")


def folder() -> Path:
    """The folder for pre-trained weights and feature maps of the tiny world, deleted at the end of the process."""
    return Path(_temporary().name)


def disturb(disturbance: int, epoch: int) -> None:
    """Set the global generators of Python, NumPy and torch."""
    number = 1000 * disturbance + epoch
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


def saved_and_loaded(state: State) -> State:
    """A state after it was saved to a file and loaded again."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def digest(state: State) -> str:
    """The hash of all tensors of a state, exact to the bit."""
    result = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        result.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        result.update(tensor.numpy().tobytes())
    return result.hexdigest()


def different(one: State, other: State) -> list[str]:
    """Names of the tensors that only one state has, or that are not equal bit for bit."""
    return [name for name in sorted({*one, *other}) if not (name in one and name in other and _equal(one, other, name))]


def different_metrics(one: Metrics, other: Metrics) -> list[str]:
    # Compared as texts, because a metric without a value is NaN.
    return [name for name in sorted({*one, *other}) if repr(one.get(name)) != repr(other.get(name))]


def own_fields(method: str) -> list[str]:
    """Names of the method's own settings that have two values or more."""
    return [name for name, field in setting_fields(method) if "." not in name and len(field.choices) != 1]


def configurations(method: str, name: str) -> list[Config]:
    """One configuration for each value of a field, all else equal. The field acts, and training is long enough."""
    base = where_acting(method, name)
    variants = [variant for value in values(base, name) if _accepted(variant := {**base, name: value})]
    if len(variants) < 2:
        raise UntestableError(Violation(Kind.ONE_VALUE, f"{method}, {name}"))
    return long_enough(variants)


def where_acting(method: str, name: str) -> dict[str, Any]:
    """Values for `resolve` under which a field acts: those that its `when` names, and those that theirs name."""
    known, base = dict(setting_fields(method)), world(method)
    waiting = [name]
    while waiting:
        name = waiting.pop()
        section = name.rpartition(".")[0]
        for sibling, allowed in known[name].metadata["when"].items():
            sibling = f"{section}.{sibling}" if section in SECTIONS else sibling
            if base.get(sibling, known[sibling].default) not in allowed:
                base[sibling] = allowed[0]
            waiting.append(sibling)
    return base


def values(base: Mapping[str, Any], name: str) -> list[Any]:
    """All of a field's choices, or the current value and one more: a typical one, or the nearest that is allowed, under
    which nothing acts too late."""
    field = dict(setting_fields(base["method"]))[name]
    current = base.get(name, field.default)
    if field.choices:
        return [*field.choices, *[None] * (field.default is None)]
    candidates = [value for value in field.metadata["typical"] if value != current]
    if current is None:
        candidates += [2, 0.5]
    elif isinstance(current, int | float):
        candidates += [current + 1, current - 1, current / 2]
    for value in candidates:
        with contextlib.suppress(SettingError, UntestableError):
            _epochs(resolve({**base, name: value}))
            return [current, value]
    raise UntestableError(Violation(Kind.ONE_VALUE, f"{base['method']}, {name}"))


def long_enough(variants: Sequence[Mapping[str, Any]]) -> list[Config]:
    """Configurations of these values with enough epochs: two more than the last activation of any of them."""
    epochs = max(_epochs(resolve(variant)) for variant in variants)
    return [resolve({**variant, "train.epochs": epochs}) for variant in variants]


def base_configuration(method: str) -> Config:
    """The method with its `quick` settings, trained long enough."""
    return long_enough([world(method)])[0]


def own_configurations(method: str, names: Sequence[str] | None = None) -> list[Config]:
    """The method with each value of its own settings (or of `names`), one changed at a time."""
    names = own_fields(method) if names is None else names
    varied = [config for name in names for config in configurations(method, name)]
    return list(dict.fromkeys([base_configuration(method), *varied]))


def field_violations(name: str, configs: Sequence[Config]) -> list[Violation]:
    """Violations of one field. `configs` have its values; each two are trained separately and compared where their keys
    agree."""
    method = configs[0].method
    metadata = dict(setting_fields(method))[name].metadata
    measured_only = bool(metadata.get("evaluation_only"))
    free = measured_only or bool(metadata.get("result_free"))
    found = []
    runs = [_kept_run(config) for config in configs]
    for (a, one), (b, other) in itertools.combinations(zip(configs, runs, strict=True), 2):
        where = f"{method}, {name} {a.flat()[name]!r} and {b.flat()[name]!r}"
        if free and one.keys != other.keys:
            found.append(Violation(Kind.HASHED_THOUGH_FREE, where))
        if not free and one.keys == other.keys:
            found.append(Violation(Kind.INERT, where))
        found += [Violation(Kind.UNHASHED, f"{where}: {what}") for what in _unequal(one, other, measured_only)]
    return found


def run_violations(config: Config) -> list[Violation]:
    """Violations of one configuration. It is trained. Then each epoch, the last one first, is trained again from the
    saved state before it, with new features and different global generators."""
    where = f"{config.method}, {config.settings}"
    first = _kept_run(config)
    unnamed = reported(first) - set(methods()[config.method].reports)
    found = [Violation(Kind.UNNAMED_REPORT, f"{where}: {', '.join(sorted(unnamed))}")] * bool(unnamed)
    forget_features()
    disturb(_OTHER, epoch=0)
    if changed := different(new_training(config).initial_state(), first.states[0]):
        found.append(Violation(Kind.GLOBAL_RANDOMNESS, f"{where}: initial state, {changed}"))
    for epoch in range(config.train.epochs, 0, -1):
        state = saved_and_loaded(first.states[epoch - 1])
        if changed := _changed(config, first, epoch, state, _OTHER):
            # Is it the global generators? They are set as they were.
            same = _changed(config, first, epoch, saved_and_loaded(first.states[epoch - 1]), _disturbance(config))
            kind = Kind.HIDDEN_MEMORY if same else Kind.GLOBAL_RANDOMNESS
            found.append(Violation(kind, f"{where}: epoch {epoch} restored, {changed}"))
        if changed := different(state, first.states[epoch - 1]):
            found.append(Violation(Kind.MODIFIED_INPUT, f"{where}: epoch {epoch}, {changed}"))
    return found


def _changed(config: Config, first: Run, epoch: int, state: State, disturbance: int) -> list[str]:
    """In what an epoch that is trained alone from `state` is not what it was in the whole run."""
    training = new_training(config)
    disturb(disturbance, epoch)
    after, metrics = training.advance(state, epoch)
    return different(after, first.states[epoch]) + different_metrics(metrics, first.metrics[epoch - 1])


def reported(trained: Run) -> set[str]:
    """Names of the objectives' reports in a run, without the loop's own metrics."""
    training = (name.removeprefix("train/") for epoch in trained.metrics for name in epoch if name.startswith("train/"))
    return set(training) - {*REPORTS}


def seed_violations(method: str) -> list[Violation]:
    """A violation if the seed changes nothing while scenes and given labels stay the same."""
    fixed = {**world(method), "data.draw": 1, "data.mask_seed": 1}
    one, other = (run(resolve({**fixed, "seed": seed})) for seed in (1, 2))
    same = one.keys[0] == other.keys[0] or not different(one.states[-1], other.states[-1])
    return [Violation(Kind.SEED_IGNORED, method)] * same


def publication_violations(method: str) -> list[Violation]:
    """Own settings that come from released code and have no published value, or a wrong one.

    The rule holds for every setting whose `source` has one of the words of `RELEASED`, also where the default is the
    published value: the default may change, and the published value may not.
    """
    found = []
    for field in fields(methods()[method].Settings):
        published, source = field.metadata["published"], field.metadata["source"]
        if published is None and RELEASED.search(source):
            found.append(Violation(Kind.UNPUBLISHED, f"{method}, {field.name}: {source}"))
        try:
            field.check(field.default_of(published=True))
        except SettingError as error:
            found.append(Violation(Kind.REFUSED, f"{method}, {error}"))
    return found


def report_violations(method: str) -> list[Violation]:
    """Reports without a description, and declared reports that no setting of the method gives."""
    declared = methods()[method].reports
    missing = set(declared)
    for config in own_configurations(method) if missing else ():
        missing -= reported(_kept_run(config)) if missing else set()
    untitled = [name for name, description in declared.items() if not description]
    found = {Kind.MISSING_REPORT: sorted(missing), Kind.UNTITLED_REPORT: untitled}
    return [Violation(kind, f"{method}: {', '.join(names)}") for kind, names in found.items() if names]


def sharing_violations(method: str) -> list[Violation]:
    """A violation if no two configurations share an epoch: then no equal keys can be compared."""
    own = [config.keys() for config in own_configurations(method)]
    others = [_base_keys(other) for name, other in methods().items() if name != method]
    shared = any(shared_epochs(one, other) for one in own for other in own + others)
    return [Violation(Kind.UNSHARED, method)] * (not shared and not methods()[method].unshared)


def code_violations(method: str) -> list[Violation]:
    """Code that acts under some setting of the method and is in no key."""
    return [Violation(Kind.UNSEEN, f"{method}: {what}") for what in unseen_code.found_in(own_configurations(method))]


@functools.cache
def _base_keys(method: type[Method]) -> list[str]:
    return base_configuration(method.name).keys()


def separability_violations(method: str) -> list[Violation]:
    """Violations of batches computed in parts, for the method's first configuration that allows it. If none does, the
    method must say why."""
    configs = own_configurations(method)
    if separable := next(filter(in_parts, configs), None):
        return part_violations(separable)
    try:
        resolve({**configs[0].flat(), "train.micro_batches": 2})
    except SettingError as error:
        return [Violation(Kind.UNEXPLAINED, method)] * error.allowed.rstrip().endswith(":")
    raise AssertionError("it was refused before")


def in_parts(config: Config) -> bool:
    """Whether the batches of a configuration can be computed in parts."""
    return _accepted({**config.flat(), "train.micro_batches": 2})


def part_violations(config: Config) -> list[Violation]:
    """A violation if the gradient of a batch in parts differs from that of the whole batch, in one step of SGD in the
    last epoch from the same state."""
    epoch, where = config.train.epochs, f"{config.method}, {config.settings}"
    size = config.data.train_images
    values = {**config.flat(), "train.batch_size": size, "train.optimizer": "sgd", "train.momentum": 0.0}
    start = run(resolve({**values, "train.epochs": epoch - 1})).states[-1]
    names = [name for name in start if name.startswith("module/") and start[name].is_floating_point()]

    def gradient(parts: int) -> State:
        one_step = {**values, "train.learning_rate": 1.0, "train.micro_batches": parts}
        after, _ = new_training(resolve(one_step)).train(start, epoch)
        return {name: start[name] - after[name] for name in names}

    whole, parts = gradient(1), gradient(PARTS)
    if max(tensor.abs().max() for tensor in whole.values()) <= 1e-3:
        return [Violation(Kind.INSEPARABLE, f"{where}: gradients so small that they show nothing")]
    unequal = [name for name in names if not torch.allclose(parts[name], whole[name], rtol=1e-5, atol=1e-6)]
    return [Violation(Kind.INSEPARABLE, f"{where}: {unequal}")] * bool(unequal)


def shared_epochs(one: list[str], other: list[str]) -> int:
    """The number of epochs that two chains of keys share before they differ; 0 if they never differ."""
    if one == other:
        return 0
    return max(sum(a == b for a, b in zip(one, other, strict=False)) - 1, 0)


@functools.lru_cache(maxsize=1000)
def last_activation(config: Config) -> int:
    """The last epoch in which a part is switched on or off. Values that only grow or fall do not count."""
    acting = [_acting(config.recipe(epoch).objective) for epoch in range(1, HORIZON + 1)]
    changes = (epoch for epoch in range(2, HORIZON + 1) if acting[epoch - 1] != acting[epoch - 2])
    return max(changes, default=1)


@functools.lru_cache(maxsize=KEPT_RUNS)
def _kept_run(config: Config) -> Run:
    """`run`, kept for the other checks of the same method."""
    return run(config, _disturbance(config))


def _disturbance(config: Config) -> int:
    """Of each configuration another, so that those that are compared are trained under other global generators."""
    return zlib.crc32(repr(config).encode()) % 1_000_000


def _unequal(one: Run, other: Run, measured_only: bool = False) -> Iterator[str]:
    """Where keys agree but results differ. `measured_only`: metrics other than the loss may differ."""
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


def _accepted(values: Mapping[str, Any]) -> bool:
    try:
        resolve(values)
    except SettingError:
        return False
    return True


def _epochs(config: Config) -> int:
    """Epochs until two after the last activation."""
    epochs = max(config.train.epochs, last_activation(config) + 2)
    if epochs > LONGEST:
        raise UntestableError(Violation(Kind.TOO_LATE, f"{config.method}, {config.settings}: epoch {epochs - 2}"))
    return epochs


def _acting(value: Any) -> Any:
    """The kind of an objective and which of its parts are on, without how strong they are."""
    if is_dataclass(value):
        parts = {name: _acting(part) for name, part in vars(value).items() if part is not None}
        return type(value), tuple(parts.items())
    return type(value)
