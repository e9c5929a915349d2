"""The search space: a YAML file, read with its line numbers, checked whole before anything starts, expanded into trials.

Nothing here schedules, trains or writes. What a setting is called and what it takes is asked of `methods.config`.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.config import SECTIONS, Config, resolve, setting_fields
from methods.keys import digest
from methods.metrics import METRICS
from methods.registry import methods
from methods.settings import SettingError, fields

from .yaml_file import Located, Where, YamlError, parse_scalar, read_yaml

KEYS = {
    "title": "one line: what is swept",
    "source": "paper and item that it reproduces",
    "data": "data settings of every variant",
    "network": "network settings of every variant",
    "train": "training settings of every variant",
    "variants": "rows: a name and what it sets",
    "axes": "settings with the values they take, crossed with the variants that have them",
    "overrides": "list of {when, set}: settings for the trials that match",
    "seeds": "list of integers from 1",
    "select": "metric and epoch that a trial reports",
    "table": "rows, columns, value and reference rows of its table",
    "resources": "cpu and gpu of one trial",
    "profiles": "named changes to all of the above",
}
DEFAULT_PROFILE = "default"


class SpaceError(ValueError):
    """Bad input: where it stands, what was given, what is allowed."""


@dataclass(frozen=True)
class Select:
    """Which epoch a trial reports: the one best on `metric` (the earliest of equals), or the last."""

    metric: str = "val/map"
    epoch: str = "best"

    def choose(self, history: Sequence[Mapping[str, float]]) -> int:
        """The selected epoch, from 1, of the metrics of epochs 1 … E. A metric that is NaN everywhere selects the last."""
        if self.epoch == "last":
            return len(history)
        values = [metrics[self.metric] for metrics in history]
        best = max((value for value in values if value == value), default=None)
        return len(history) if best is None else values.index(best) + 1


@dataclass(frozen=True, eq=False)
class Trial:
    """One resolved configuration with one seed, in one row; `axes` are the swept values that led to it."""

    variant: str
    config: Config
    axes: Mapping[str, Any]

    @functools.cached_property
    def id(self) -> str:
        """Hash of the variant's name and the fully resolved configuration, without what cannot change a result."""
        return digest([self.variant, self.config.identity()])[:16]

    @property
    def point(self) -> str:
        """Where on the axes it is, for people: `delta_rel=0.4`."""
        return " ".join(f"{name}={value}" for name, value in self.axes.items())

    @property
    def title(self) -> str:
        """For people: `LL-R delta_rel=0.4 seed=1`."""
        return " ".join(filter(None, [self.variant, self.point, f"seed={self.config.seed}"]))


@dataclass(frozen=True)
class Space:
    """A search space with its profile applied: everything a sweep does follows from it."""

    name: str
    title: str
    profile: str
    source: Mapping[str, Any]
    variants: Mapping[str, Mapping[str, Any]]
    axes: Mapping[str, Sequence[Any]]
    seeds: tuple[int, ...]
    select: Select
    table: Mapping[str, Any]
    resources: Mapping[str, float]
    trials: tuple[Trial, ...]

    def resolved(self) -> dict[str, Any]:
        """The space as JSON-able data: what analysis reads, and what names the sweep."""
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain["select"] = dataclasses.asdict(self.select)
        plain["trials"] = [
            {"trial": t.id, "variant": t.variant, "seed": t.config.seed, "axes": dict(t.axes)} for t in self.trials
        ]
        return plain

    @functools.cached_property
    def sweep(self) -> str:
        """Hash of the resolved space. Resources cannot change a result and are not in it."""
        return digest({key: value for key, value in self.resolved().items() if key != "resources"})[:16]


def load_space(path: str | Path, profile: str | None = None, sets: Iterable[str] = ()) -> Space:
    """Read, check and expand a search space file.

    `profile` is one of the file's `profiles`; `sets` are `key=value` texts that win over everything. Raises `SpaceError`
    with file and line for the first thing that is wrong.
    """
    path = Path(path)
    try:
        return _Reader(path, profile or DEFAULT_PROFILE).read(list(sets))
    except YamlError as error:
        raise SpaceError(str(error)) from None


Values = dict[str, Located]
# Points of each axis, and where it stands.
Axes = dict[str, tuple[list[Any], Where]]
# What a variant sets, and the points of the axes that remain for it.
Row = tuple[Values, dict[str, list[Any]]]


@dataclass
class Override:
    """Settings for the trials that match; one that matches none is an error."""

    when: Values
    set: Values
    where: Where
    used: bool = False


class _Reader:
    """One pass over one file. `Located` values remember where they stand, for the messages."""

    def __init__(self, path: Path, profile: str):
        self.path, self.profile = path, profile

    def read(self, sets: list[str]) -> Space:
        top = self._mapping(read_yaml(self.path), "the file")
        top = self._with_profile(top)
        self._check_names(top, KEYS, "key")
        forced = self._apply_sets(top, sets)
        base = {name: value for section in SECTIONS for name, value in self._section(top, section)}
        axes = self._axes(top.get("axes"))
        seeds = self._seeds(top.get("seeds"))
        variants = self._variants(top)
        rows = {name: self._row(name, values, axes, base, forced) for name, values in variants.items()}
        self._refuse_unused(axes, forced, rows)
        overrides = self._overrides(top.get("overrides"), rows)
        # Seeds outermost: an interrupted sweep has whole tables of fewer seeds, and trials in turn share their pictures.
        trials = tuple(
            trial
            for seed in seeds
            for name, row in rows.items()
            for trial in self._trials(name, row, seed, overrides, forced)
        )
        for override in overrides:
            if not override.used:
                raise self._error(override.where, "this override matches no trial; take it out or mend its `when`")
        return Space(
            name=self.path.stem,
            title=self._text(top, "title", self.path.stem),
            profile=self.profile,
            source=_plain(top["source"]) if "source" in top else {},
            variants={n: {k: v.value for k, v in values.items()} for n, (values, _) in rows.items()},
            axes={name: values for name, (values, _) in axes.items()},
            seeds=seeds,
            select=self._select(top.get("select")),
            table=self._table(top.get("table"), rows, trials),
            resources=self._resources(top.get("resources")),
            trials=trials,
        )

    # Profile and --set

    def _with_profile(self, top: Values) -> Values:
        profiles = self._mapping(top.pop("profiles", None), "profiles")
        if self.profile == DEFAULT_PROFILE and self.profile not in profiles:
            return top
        if self.profile not in profiles:
            allowed = ", ".join([DEFAULT_PROFILE, *profiles])
            raise SpaceError(f"{self.path}: there is no profile {self.profile!r}; allowed is {allowed}")
        return _merge(top, self._mapping(profiles[self.profile], f"profile {self.profile}"))

    def _apply_sets(self, top: Values, sets: list[str]) -> Values:
        """Put `--set` values of the space itself in place; return those of trials' settings, which win over all."""
        forced: Values = {}
        for text in sets:
            where = Where(f"--set {text}")
            name, separator, value = text.partition("=")
            if not separator or not name:
                raise SpaceError(f"{where}: give it as key=value, such as --set train.epochs=2")
            located = parse_scalar(value, where)
            first, _, rest = name.partition(".")
            if first in SECTIONS or first not in KEYS:
                forced[name] = located
            elif rest:
                section = dict(self._mapping(top.get(first), first))
                top[first] = Located({**section, rest: located}, where)
            else:
                top[first] = located
        return forced

    # The parts of a file

    def _section(self, top: Values, section: str) -> Iterator[tuple[str, Located]]:
        known = {field.name: field for field in fields(SECTIONS[section])}
        values = self._mapping(top.get(section), section)
        self._check_names(values, known, f"setting of {section}")
        for name, value in values.items():
            self._check(f"{section}.{name}", known[name].check, value)
            yield f"{section}.{name}", value

    def _variants(self, top: Values) -> dict[str, Values]:
        variants = self._mapping(top.get("variants"), "variants")
        if not variants:
            raise self._error(
                top.get("variants"), "variants: at least one is needed, such as `LL-R: {method: large_loss}`"
            )
        return {name: self._flat(self._mapping(value, f"variant {name}"), name) for name, value in variants.items()}

    def _flat(self, values: Values, variant: str) -> Values:
        """`data: {labels: full}` and `data.labels: full` are the same."""
        flat: Values = {}
        for name, value in values.items():
            parts = self._mapping(value, name) if name in SECTIONS else None
            inner = {name: value} if parts is None else {f"{name}.{key}": part for key, part in parts.items()}
            for key, part in inner.items():
                if key in flat:
                    raise self._error(part, f"variant {variant} sets {key} twice")
                flat[key] = part
        return flat

    def _row(self, name: str, given: Values, axes: Axes, base: Values, forced: Values) -> Row:
        """What one variant sets, and the axes that remain for it, each value checked."""
        given = dict(given)
        own = self._axes(given.pop("axes", None))
        if "method" not in given:
            raise self._error(
                given.get(next(iter(given), "")), f"variant {name} needs a method: {', '.join(methods())}"
            )
        method = given["method"]
        if method.value not in methods():
            raise self._error(method, _unknown("method", method.value, methods()))
        known = dict(setting_fields(method.value))
        self._check_names({k: v for k, v in given.items() if k != "method"}, known, f"setting of {method.value}")
        values = {**base, **given, **{key: value for key, value in forced.items() if key in known}}
        for key, value in values.items():
            if key != "method":
                self._check(key, known[key].check, value)
        remaining = {key: axis for key, axis in {**axes, **own}.items() if key in known or key in own}
        remaining = {k: a for k, a in remaining.items() if (k not in given or k in own) and k not in forced}
        self._check_names({key: Located(None, where) for key, (_, where) in own.items()}, known, "axis")
        for key, (points, where) in remaining.items():
            for point in points:
                self._check(key, known[key].check, Located(point, where))
        return values, {key: [known[key].check(point) for point in points] for key, (points, _) in remaining.items()}

    def _axes(self, node: Located | None) -> Axes:
        axes: Axes = {}
        for name, value in self._mapping(node, "axes").items():
            points = value.value
            if isinstance(points, dict) and set(points) in ({"grid"}, {"choice"}):
                points = next(iter(points.values())).value
            if not isinstance(points, list) or not points:
                raise self._error(
                    value, f"axis {name}: give a list of values, or {{grid: [...]}}; given was {_plain(value)!r}"
                )
            plain = [_plain(point) for point in points]
            for index, point in enumerate(plain):
                if point in plain[:index]:
                    raise self._error(points[index], f"axis {name}: {point!r} stands in it twice")
            axes[name] = (plain, value.where)
        return axes

    def _seeds(self, node: Located | None) -> tuple[int, ...]:
        if node is None:
            return (1, 2, 3)
        seeds = _plain(node)
        fine = isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 1 for seed in seeds)
        if not fine or len(set(seeds)) < len(seeds):
            raise self._error(
                node,
                f"seeds: give a list of different integers from 1, such as [1, 2, 3]; given was {seeds!r} "
                "(0 was used to choose defaults and is never reported)",
            )
        return tuple(seeds)

    def _select(self, node: Located | None) -> Select:
        values = self._mapping(node, "select")
        self._check_names(values, {"metric": "", "epoch": ""}, "key of select")
        allowed = {"metric": [f"val/{name}" for name in METRICS], "epoch": ["best", "last"]}
        for name, value in values.items():
            if value.value not in allowed[name]:
                raise self._error(
                    value, f"select.{name}: {value.value!r} is not allowed; allowed is {' | '.join(allowed[name])}"
                )
        return Select(**{name: value.value for name, value in values.items()})

    def _table(self, node: Located | None, rows: Mapping[str, Any], trials: Sequence[Trial]) -> dict[str, Any]:
        values = self._mapping(node, "table")
        self._check_names(values, {"rows": "", "columns": "", "value": "", "reference": ""}, "key of table")
        table = {"rows": "variant", "columns": None, "value": "test/map", "reference": []}
        table |= {name: _plain(value) for name, value in values.items()}
        columns = {axis for trial in trials for axis in trial.axes}
        allowed: dict[str, Iterable[Any]] = {
            "rows": ["variant"],
            "columns": [None, *sorted(columns)],
            "value": [f"{split}/{name}" for split in ("test", "val") for name in METRICS],
        }
        for name, choices in allowed.items():
            if table[name] not in list(choices):
                raise self._error(values[name], f"table.{name}: " + _unknown("value", table[name], map(str, choices)))
        for name in table["reference"] if isinstance(table["reference"], list) else [table["reference"]]:
            if name not in rows:
                raise self._error(values["reference"], "table.reference: " + _unknown("variant", name, rows))
        return table

    def _resources(self, node: Located | None) -> dict[str, float]:
        values = self._mapping(node, "resources")
        self._check_names(values, {"cpu": "", "gpu": ""}, "key of resources")
        for name, value in values.items():
            if type(value.value) not in (int, float) or value.value < 0:
                raise self._error(
                    value, f"resources.{name}: {value.value!r} is not allowed; allowed is a number at least 0"
                )
        return {"cpu": 1, "gpu": 0, **{name: value.value for name, value in values.items()}}

    def _overrides(self, node: Located | None, rows: Mapping[str, Row]) -> list[Override]:
        items = node.value if node else []
        if not isinstance(items, list):
            raise self._error(node, "overrides: give a list of {when: {...}, set: {...}}")
        known = ["method", "variant", "seed", *_settings_of(rows)]
        overrides = []
        for item in items:
            parts = self._mapping(item, "overrides")
            self._check_names(parts, {"when": "", "set": ""}, "key of an override")
            when, change = (self._flat(self._mapping(parts.get(key), key), "override") for key in ("when", "set"))
            if not when or not change:
                raise self._error(item, "an override needs both `when` and `set`")
            self._check_names(when, known, "setting")
            self._check_names(change, known, "setting")
            overrides.append(Override(when, change, item.where))
        return overrides

    # Trials

    def _trials(
        self, variant: str, row: Row, seed: int, overrides: Sequence[Override], forced: Values
    ) -> Iterator[Trial]:
        values, axes = row
        for point in itertools.product(*axes.values()):
            swept = dict(zip(axes, point, strict=True))
            flat = {**{key: value.value for key, value in values.items()}, **swept, "seed": seed}
            config = resolve(flat)
            facts = {**config.flat(), "variant": variant}
            known = dict(setting_fields(config.method))
            for override in overrides:
                if all(key in facts and facts[key] == value.value for key, value in override.when.items()):
                    override.used = True
                    self._check_names(override.set, known, f"setting of {config.method}")
                    for key, value in override.set.items():
                        self._check(key, known[key].check, value)
                        if key not in swept and key not in forced:
                            flat[key] = value.value
            yield Trial(variant, resolve(flat), swept)

    def _refuse_unused(self, axes: Axes, forced: Values, rows: Mapping[str, Row]) -> None:
        known = _settings_of(rows)
        for name, value in forced.items():
            if name not in known:
                raise self._error(value, _unknown("setting or key", name, [*known, *KEYS]))
        for name, (_, where) in axes.items():
            if name not in known:
                raise self._error(where, f"axis {name}: no variant has this setting" + _nearest(name, known))
            if name not in forced and not any(name in remaining for _, remaining in rows.values()):
                raise self._error(where, f"axis {name}: every variant sets {name} itself, so nothing is swept")

    # Checks

    def _mapping(self, node: Located | None, what: str) -> Values:
        if node is None or node.value is None:
            return {}
        if not isinstance(node.value, dict):
            raise self._error(node, f"{what}: a mapping is needed (name: value); given was {_plain(node)!r}")
        return dict(node.value)

    def _text(self, top: Values, name: str, default: str) -> str:
        node = top.get(name)
        if node is not None and not isinstance(node.value, str):
            raise self._error(node, f"{name}: a text is needed; given was {_plain(node)!r}")
        return default if node is None else node.value

    def _check_names(self, values: Mapping[str, Located], known: Iterable[str], what: str) -> None:
        for name, value in values.items():
            if name not in known:
                raise self._error(value, _unknown(what, name, known))

    def _check(self, name: str, check: Any, value: Located) -> None:
        try:
            check(_plain(value))
        except SettingError as error:
            raise self._error(value, f"{name}: {error.given!r} is not allowed; allowed is {error.allowed}") from None

    def _error(self, node: Located | Where | None, message: str) -> SpaceError:
        where = node.where if isinstance(node, Located) else node
        return SpaceError(f"{where or self.path}: {message}")


def _settings_of(rows: Mapping[str, Row]) -> list[str]:
    """Every setting that some row's method has."""
    return list(
        dict.fromkeys(name for values, _ in rows.values() for name, _ in setting_fields(values["method"].value))
    )


def _merge(below: Values, above: Values) -> Values:
    """`above` wins; mappings are merged, and null takes an entry out."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if value.value is None:
            merged.pop(name, None)
        elif old is not None and isinstance(old.value, dict) and isinstance(value.value, dict):
            merged[name] = Located(_merge(old.value, value.value), value.where)
        else:
            merged[name] = value
    return merged


def _plain(node: Any) -> Any:
    value = node.value if isinstance(node, Located) else node
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _unknown(what: str, name: Any, known: Iterable[str]) -> str:
    known = list(known)
    return f"unknown {what} {name!r}{_nearest(str(name), known)}; allowed is {', '.join(map(str, known))}"


def _nearest(name: str, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""
