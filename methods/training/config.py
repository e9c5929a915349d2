"""One trial's configuration, fully resolved: every default filled in, nothing left to follow something else."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..cache.keys import canonical, chain, digest, fingerprint
from ..contract.method import Method
from ..contract.objective import InseparableError, Recipe
from ..contract.settings import Field, SettingError, Settings, fields
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
# What interprets a recipe, and what makes labels and features: a change there changes every key. What makes the
# pictures of a data set is in the keys of that one.
LOOP = (
    "methods.training.loop",
    "methods.training.features",
    "methods.data.label_regimes",
)
# What a CLIP backbone adds to it.
FROZEN = ("methods.training.clip_features",)


@dataclass(frozen=True)
class Records:
    """Names: of the `scores` of val and test images, of the `metrics` of these scores, and of each diagnostic that is
    on, as (diagnostic, record)."""

    scores: str
    metrics: str
    diagnostics: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Config:
    """A method with its settings, data, network, training and seed: what `fit` trains."""

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
        """`flat` without what can change no result: what names a trial."""
        known = dict(setting_fields(self.method))
        free = {name for name, field in known.items() if field.metadata.get("result_free")}
        return {name: value for name, value in self.flat().items() if name not in free}

    def recipe(self, epoch: int) -> Recipe:
        """Everything that acts in `epoch`, from 1."""
        return recipe(self._method(), self.train, epoch)

    def keys(self) -> list[str]:
        """key[0] … key[epochs]: 64 hex digits each; see `methods.cache.keys`."""
        method = self._method()
        start = {
            "data": self.data.acting(),
            "network": self.network.acting(),
            "seed": self.seed,
            "threads": self.train.threads,
            "compute": vars(self.train.compute()),
            "platform": identity(self.train.device),
            "code": {name: fingerprint(name) for name in self._code()},
        }
        recipes = [recipe(method, self.train, epoch) for epoch in range(1, self.train.epochs + 1)]
        return chain(digest(canonical(start)), recipes)

    def records(self) -> Records:
        """The names of what is measured after an epoch, by what it is measured with and on, which no key holds."""
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
        """Names of the modules that act in every epoch."""
        backbone = self.network.backbone
        return LOOP + registry.code(self.data.dataset) + backbones.code(backbone) + FROZEN * (backbone in CLIP)

    def _method(self) -> Method:
        return methods()[self.method](self.settings)


@functools.cache
def setting_fields(method: str) -> tuple[tuple[str, Field], ...]:
    """Dotted name and field of everything that can be set for a method, its own settings first."""
    own = [(field.name, field) for field in fields(methods()[method].Settings)]
    shared = [(f"{section}.{field.name}", field) for section, cls in SECTIONS.items() for field in fields(cls)]
    return (*own, *shared)


@functools.cache
def follow_seed(method: str) -> tuple[str, ...]:
    """Dotted names of the settings that take the trial's seed where they are not set."""
    return tuple(name for name, field in setting_fields(method) if field.metadata.get("follows_seed"))


def resolve(values: Mapping[str, Any]) -> Config:
    """The configuration of dotted values, every default filled in. `method` is required; `seed` is 1 unless given.

    Raises `SettingError`, naming the dotted field, for an unknown name or a value that is not allowed.
    """
    values = {"seed": 1, **values}
    method, seed = values.pop("method", None), values.pop("seed")
    if not isinstance(method, str) or method not in methods():
        raise SettingError("method", method, " | ".join(methods()))
    if type(seed) is not int or not 0 <= seed < 2**32:
        raise SettingError("seed", seed, "an integer at least 0 and below 2**32")
    known = dict(setting_fields(method))
    for name, value in values.items():
        if name not in known:
            raise SettingError(name, value, f"one of the settings of {method}: {', '.join(known)}")
        try:
            known[name].check(value)
        except SettingError as error:
            raise SettingError(name, error.given, error.allowed) from None
    values |= {name: seed for name in follow_seed(method) if values.get(name) is None}
    parts: dict[str, dict[str, Any]] = {"": {}, **{section: {} for section in SECTIONS}}
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        parts[section][field] = value
    device = parts["train"].get("device", "auto")
    if device == "cuda" and default_device() != "cuda":
        raise SettingError("train.device", device, "auto | cpu: torch sees no GPU here")
    if device == "auto":  # resolved here, so that it is the same for whoever runs the trial
        parts["train"]["device"] = default_device()
    settings = methods()[method].Settings(**parts[""])
    sections = {section: _section(section, parts[section]) for section in SECTIONS}
    # Not in the contract, whose code is part of every key.
    backbones = getattr(methods()[method], "backbones", None)
    given = sections["network"].backbone  # type: ignore[attr-defined]
    if backbones and given not in backbones:
        raise SettingError("network.backbone", given, f"{' | '.join(backbones)}, which {method} needs")
    if backbones and given == "digit_clip" and sections["data"].dataset != registry.EMBEDDED:  # type: ignore[attr-defined]
        raise SettingError(
            "network.backbone", given, f"open_clip; the words of digit_clip are those of {registry.EMBEDDED}"
        )
    config = Config(method, settings, seed=seed, **sections)  # type: ignore[arg-type]
    if backbones and getattr(settings, "decoupling", None) == "off":
        config.network.refuse_unpoolable()
    if config.train.micro_batches > 1:
        _refuse_inseparable(config)
    return config


def _refuse_inseparable(config: Config) -> None:
    """Raises `SettingError` where the batches of an epoch cannot be computed in parts."""
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
    except SettingError as error:  # what no single field can see
        raise SettingError(f"{name}.{error.name}", error.given, error.allowed) from None
