"""The configuration of one trial: every default filled in, every value of its own."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..cache.keys import canonical, chain, digest, explained, fingerprint, implementing
from ..contract.method import Method
from ..contract.objective import InseparableError, Recipe
from ..contract.settings import FOLLOWS_SEED, Field, SettingError, Settings, fields
from ..data import registry
from ..data.settings import DataSettings
from ..evaluation.diagnostics import DiagnosticSettings
from ..networks import backbones
from ..networks.settings import CLIP, NetworkSettings
from .platforms import default_device, identity
from .recipes import TrainSettings, recipe
from .registry import methods

SECTIONS: dict[str, type[Settings]] = {
    "data": DataSettings,
    "network": NetworkSettings,
    "train": TrainSettings,
    "diagnostics": DiagnosticSettings,
}
# Modules in every key: they run a recipe, or make labels and features. The modules that read one data set are only in
# the keys of that data set.
LOOP = ("methods.training.loop", "methods.training.features", "methods.data.label_regimes")
# Modules that are also in the keys of trials with a CLIP backbone.
FROZEN = ("methods.training.clip_features",)


@dataclass(frozen=True)
class Records:
    """Names of the records of an epoch in the store: `scores` of val and test, `metrics` of these scores, and
    (diagnostic, record) for each diagnostic that is on."""

    scores: str
    metrics: str
    diagnostics: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Config:
    """All settings of one trial: method, data, network, training, diagnostics and seed."""

    method: str
    settings: Settings
    data: DataSettings
    network: NetworkSettings
    train: TrainSettings
    diagnostics: DiagnosticSettings
    seed: int

    def flat(self) -> dict[str, Any]:
        """Every value by dotted name: `method`, `delta_rel`, `data.labels`, `train.epochs`, …, `seed`."""
        values = {"method": self.method, **vars(self.settings)}
        for section in SECTIONS:
            values |= {f"{section}.{name}": value for name, value in vars(getattr(self, section)).items()}
        return {**values, "seed": self.seed}

    def identity(self) -> dict[str, Any]:
        """`flat` without the settings that cannot change a result. Its hash identifies a trial."""
        known = dict(setting_fields(self.method))
        free = {name for name, field in known.items() if field.metadata.get("result_free")}
        return {name: value for name, value in self.flat().items() if name not in free}

    def recipe(self, epoch: int) -> Recipe:
        """The recipe of `epoch`, which counts from 1."""
        return recipe(self._method(), self.train, epoch)

    def keys(self) -> list[str]:
        """key[0] … key[epochs]: 64 hex digits each; see `methods.cache.keys`."""
        start = self._start() | {"code": {name: fingerprint(name) for name in self._code()}}
        return chain(digest(canonical(start)), self._recipes())

    def explained(self) -> list[dict[str, str]]:
        """By epoch, what is in key[epoch] beside key[epoch - 1]: values by dotted name, and code, versions and files
        that act; see `methods.cache.keys.explained`."""
        recipes = ((canonical(recipe), set(implementing(recipe))) for recipe in self._recipes())
        return [explained(canonical(self._start()), self._code()), *(explained(*recipe) for recipe in recipes)]

    def _start(self) -> dict[str, Any]:
        return {
            "data": self.data.acting(),
            "network": self.network.acting(),
            "seed": self.seed,
            "threads": self.train.threads,
            "compute": vars(self.train.compute()),
            "platform": identity(self.train.device),
        }

    def _recipes(self) -> list[Recipe]:
        return [recipe(self._method(), self.train, epoch) for epoch in range(1, self.train.epochs + 1)]

    def records(self) -> Records:
        """The names of the records of an epoch, with a hash of the data and code of the measurement: keys have none."""
        data = self.data.acting(evaluation=True)
        scored = {name: value for name, value in data.items() if name != "val_labels"}
        measured: dict[str, Any] = {"data": data, "code": fingerprint("methods.evaluation.metrics")}
        if self.diagnostics.per_class:
            measured["per_class"] = True
        looked = {
            name: digest({"on": scored, "by": by, "code": fingerprint("methods.evaluation.diagnostics")})
            for name, by in self.diagnostics.on().items()
        }
        return Records(
            scores=f"scores-{digest(scored)[:16]}",
            metrics=f"metrics-{digest(measured)[:16]}",
            diagnostics=tuple((name, f"{name}-{by[:16]}") for name, by in looked.items()),
        )

    def _code(self) -> tuple[str, ...]:
        """Names of the modules whose fingerprints are in key[0]."""
        backbone = self.network.backbone
        return LOOP + registry.code(self.data.dataset) + backbones.code(backbone) + FROZEN * (backbone in CLIP)

    def _method(self) -> Method:
        return methods()[self.method](self.settings)


def setting_fields(method: str) -> tuple[tuple[str, Field], ...]:
    """Dotted name and field of every setting of a method, its own settings first."""
    own = ((field.name, field) for field in fields(methods()[method].Settings))
    return (*own, *_shared_fields())


@functools.cache
def _shared_fields() -> tuple[tuple[str, Field], ...]:
    return tuple((f"{section}.{field.name}", field) for section, cls in SECTIONS.items() for field in fields(cls))


def follow_seed(method: str, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Dotted names of the settings that take the trial's seed under the values `given` by dotted name."""
    known = setting_fields(method)
    can = {name: given.get(name, field.default) for name, field in known if field.metadata.get("follows_seed")}
    return tuple(name for name, value in can.items() if value in (None, FOLLOWS_SEED))


def resolve(values: Mapping[str, Any], *, published: bool = False) -> Config:
    """The configuration from values by dotted name, with defaults filled in. `method` is required; default `seed`: 1.
    `published`: published values take the place of defaults. Raises `SettingError` with the dotted name for an unknown
    name or a value that is not allowed."""
    values = {"seed": 1, **values}
    method, seed = values.pop("method", None), values.pop("seed")
    if not isinstance(method, str) or method not in methods():
        raise SettingError("method", method, " | ".join(methods()))
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise SettingError("seed", seed, "an integer at least 0 and below 2**32")
    known = dict(setting_fields(method))
    if published:
        values = _published(known) | values
    for name, value in values.items():
        if name not in known:
            raise SettingError(name, value, f"one of the settings of {method}: {', '.join(known)}")
        try:
            known[name].check(value)
        except SettingError as error:
            raise SettingError(name, error.given, error.allowed) from None
    values |= dict.fromkeys(follow_seed(method, values), seed)
    parts: dict[str, dict[str, Any]] = {"": {}, **{section: {} for section in SECTIONS}}
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        parts[section][field] = value
    device = parts["train"].get("device", "auto")
    if device == "cuda" and default_device() != "cuda":
        raise SettingError("train.device", device, "auto | cpu: torch sees no GPU here")
    if device == "auto":  # resolved here, so that it does not depend on the machine that runs the trial
        parts["train"]["device"] = default_device()
    chosen = methods()[method]
    sections = {section: _section(section, parts[section]) for section in SECTIONS}
    config = Config(method, chosen.Settings(**parts[""]), seed=seed, **sections)  # type: ignore[arg-type]
    if chosen.backbones and config.network.backbone not in chosen.backbones:
        allowed = f"{' | '.join(chosen.backbones)}, which {method} needs"
        raise SettingError("network.backbone", config.network.backbone, allowed)
    chosen.refuse(config.settings, config.data, config.network)
    if config.train.micro_batches > 1:
        _refuse_inseparable(config)
    return config


def _published(known: Mapping[str, Field]) -> dict[str, Any]:
    stated = {name: field.metadata.get("published") for name, field in known.items()}
    return {name: value for name, value in stated.items() if value is not None}


def _refuse_inseparable(config: Config) -> None:
    """Raises `SettingError` if the batches of an epoch cannot be computed in parts."""
    network = config.network
    if network.batch_norm == "train" and network.backbone not in CLIP:
        allowed = "1 with network.batch_norm: train, which is that of the whole batch"
        raise SettingError("train.micro_batches", config.train.micro_batches, allowed)
    for epoch in range(1, config.train.epochs + 1):
        try:
            config.recipe(epoch).objective.part_weight(torch.zeros(1, 1))
        except InseparableError as error:
            allowed = f"1, because the loss of {config.method} does not separate in epoch {epoch}: {error}"
            raise SettingError("train.micro_batches", config.train.micro_batches, allowed) from None


def _section(name: str, values: Mapping[str, Any]) -> Settings:
    try:
        return SECTIONS[name](**values)
    except SettingError as error:  # from a check over several fields
        raise SettingError(f"{name}.{error.name}", error.given, error.allowed) from None
