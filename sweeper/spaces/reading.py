"""How a search space file is read: the profile, `--set`, every check, and the expansion into trials.

What a setting is called and what it takes is asked of `methods.training.config`. `Located` values remember where they
stand, for the messages; the first thing that is wrong ends the reading.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from methods.cache.keys import digest
from methods.contract.settings import Field, SettingError, fields
from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.evaluation.metrics import GROUP_METRICS, GROUPED_REGIMES, METRICS
from methods.training.config import SECTIONS, Config, resolve, setting_fields
from methods.training.registry import methods

from ..planning.studies import Studies
from .search import ALGORITHMS, RANGES, WAYS, Distribution, Search
from .space import Select, Space, Stop, Trial
from .vocabulary import (
    CLASSES,
    DEFAULT_PROFILE,
    KEYS,
    MEASURED,
    OBJECTIVES,
    PICTURES,
    RESOURCES,
    RULES,
    TABLE_VALUES,
    curves,
)
from .yaml_file import Located, Where, check_names, nearest, parse_value, read_yaml, shown, unknown

# A profile and `--set` change a space; they choose no profile.
CHANGEABLE = [key for key in KEYS if key != "profiles"]

Values = dict[str, Located]
# Points of each axis, or the range that it is drawn from, and where it stands.
Axes = dict[str, tuple[list[Any] | Distribution, Where]]
# What a variant sets, and the points or ranges of the axes that remain for it.
Row = tuple[Values, dict[str, list[Located] | Distribution]]


@dataclass
class Override:
    """Settings for the trials that match; one that matches none is an error."""

    when: Values
    set: Values
    where: Where
    used: bool = False


@dataclass(frozen=True)
class Change:
    """What an ablation changes in a variant: a setting, to `value` or, where that is None, to what switches it off.
    `left_out`: it is a component, which must have been on."""

    setting: str
    value: Located | None
    where: Where
    left_out: bool = False


class Reader:
    """One pass over one file: `top` is what stands in it under the profile and `--set`, `forced` what `--set` gives to
    the settings of trials, which wins over all."""

    def __init__(self, path: Path, profile: str, sets: Iterable[str]):
        self.path, self.file, self.profile = path, Where(str(path)), profile
        self.top = self._with_profile(_nested(read_yaml(path).mapping("the file")))
        self.forced: Values = {}
        for text in sets:
            self._apply_set(text)

    def space(self) -> Space:
        """Everything checked, expanded into trials."""
        base = {name: value for section, cls in SECTIONS.items() for name, value in self._section(section, cls)}
        axes = _axes(self._part("axes"))
        seeds = self._seeds()
        rows: dict[str, Row] = {}
        for name, value in self._variants(base):
            if name in rows:
                raise value.error(f"variant {name} is there already: an ablation makes a row of this name")
            rows[name] = self._row(name, value, axes, base)
        if not rows:
            where = self.top["variants"].where if "variants" in self.top else self.file
            raise where.error("variants: at least one is needed, such as `LL-R: {method: large_loss}`")
        self._refuse_unused(axes, rows)
        overrides = self._overrides(rows)
        select = self._select()
        search = self._search(rows, seeds, overrides, select) if "search" in self.top else None
        if search:
            trials = tuple(Studies(search, rows, seeds).advance({}))
            overrides = []  # which of them match is seen when all trials are known
        else:
            # Seeds outermost: an interrupted sweep has whole tables of fewer seeds, neighbours share their pictures.
            trials = tuple(
                t for seed in seeds for name in rows for t in self._trials(name, rows[name], seed, overrides)
            )
        for override in overrides:
            if not override.used and not self._is_shared(override.where):
                raise override.where.error("this override matches no trial; take it out or mend its `when`")
        return Space(
            name=self.path.stem,
            title=self._text("title", self.path.stem),
            profile=self.profile,
            source=self._source(),
            note=self._text("note", ""),
            variants={name: {k: v.plain() for k, v in values.items()} for name, (values, _) in rows.items()},
            axes={
                name: points.plain() if isinstance(points, Distribution) else points
                for name, (points, _) in axes.items()
                if name not in self.forced
            },
            seeds=seeds,
            select=select,
            table=self._table(rows, trials),
            figure=self._figure([trial.config.method for trial in trials]),
            resources=self._resources(),
            trials=trials,
            search=search,
            stop=self._stop(search),
            on_finish=self._text("on_finish", ""),
        )

    # Profile and --set

    def _with_profile(self, top: Values) -> Values:
        check_names(top, KEYS, "key")
        profiles = top.pop("profiles", Located(None, self.file)).mapping("profiles")
        changes = {name: value.mapping(f"profile {name}") for name, value in profiles.items()}
        for change in changes.values():
            check_names(change, ["from", *CHANGEABLE], "key")
        allowed = dict.fromkeys([DEFAULT_PROFILE, *profiles])
        if self.profile not in allowed:
            raise self.file.error(unknown("profile", self.profile, allowed))
        change, merged = changes.get(self.profile, {}), _nested_variants(top)
        shared = change.pop("from", None)
        for layer in ([self._shared(shared)] if shared else []) + [change]:
            merged = _merge(merged, _nested_variants(_nested(layer)))
        return merged

    def _shared(self, given: Located) -> Values:
        """What stands in a file of changes that profiles of several spaces have in common."""
        if not isinstance(given.value, str):
            raise given.error(
                f"from: a file is needed, named from {self.path.parent}; given was {shown(given.plain())}"
            )
        path = self.path.parent / given.value
        if not path.is_file():
            raise given.error(f"from: {path} is not there")
        changes = read_yaml(path).mapping("the file")
        check_names(changes, CHANGEABLE, "key")
        return changes

    def _apply_set(self, text: str) -> None:
        """Change what the space itself has, as a profile does, or remember what trials are forced to."""
        where = Where(f"--set {text}")
        name, separator, given = text.partition("=")
        if not separator or not name:
            raise where.error("give it as key=value, such as --set train.epochs=2")
        value = parse_value(given, where)
        first, _, rest = name.partition(".")
        if first in SECTIONS or first not in CHANGEABLE:
            self.forced |= _flat(_nested({name: value}))
        else:
            change = Located({rest: value}, where) if rest else value
            self.top = _merge(self.top, _nested_variants({first: change}))

    def _is_shared(self, where: Where) -> bool:
        """It stands in a file of several spaces: what it says of others may mean nothing here."""
        return where.source != str(self.path) and where.line is not None

    # The parts of a file

    def _part(self, name: str) -> Values:
        return self.top[name].mapping(name) if name in self.top else {}

    def _text(self, name: str, default: str) -> str:
        given = self.top.get(name)
        if given is None:
            return default
        if not isinstance(given.value, str):
            raise given.error(f"{name}: a text is needed; given was {shown(given.plain())}")
        return given.value

    def _source(self) -> dict[str, Any]:
        source = {name: value.plain() for name, value in self._part("source").items()}
        for name, value in source.items():
            try:
                digest(value)
            except ValueError:
                raise self._part("source")[name].error(f"source.{name}: infinity and NaN are not allowed") from None
        return source

    def _section(self, section: str, cls: type) -> Iterator[tuple[str, Located]]:
        known = {field.name: field for field in fields(cls)}
        values = self._part(section)
        check_names(values, known, f"setting of {section}")
        for name, value in values.items():
            _check(f"{section}.{name}", known[name], value)
            yield f"{section}.{name}", value

    def _variants(self, base: Values) -> Iterator[tuple[str, Located]]:
        """The variants as they are written, each followed by its ablations: the same but for one setting."""
        changes, settings = self._changes(), dict[str, Field]()
        for name, node in self._part("variants").items():
            yield name, node
            given = _flat(node.mapping(f"variant {name}"))
            method = given["method"].value if "method" in given else None  # what is wrong with it is said by `_row`
            known = dict(setting_fields(method)) if method in list(methods()) else {}
            settings |= known
            for change in changes:
                key = change.setting
                if key not in known or key in self.forced:
                    continue
                value, before = change.value or _off(change, known[key]), {**base, **given}.get(key)
                now = known[key].default if before is None else _check(key, known[key], before)
                if _check(key, known[key], value) != now:
                    what = f", {key}={value.plain()}" if change.value else f" − {key}"
                    yield name + what, Located({**node.value, key: value}, change.where)
                elif change.left_out:
                    raise change.where.error(f"leave_one_out: {key} of {name} is {shown(now)} already; take one out")
        for change in changes:
            key = change.setting
            if key not in settings:
                raise change.where.error(f"no variant has the setting {key}{nearest(key, settings)}")

    def _changes(self) -> list[Change]:
        node = self.top.get("leave_one_out", Located([], self.file))
        changes = []
        for item in node.value if isinstance(node.value, list) else [node]:
            named = isinstance(item.value, dict) and len(item.value) == 1
            if not named and not isinstance(item.value, str):
                raise item.error(
                    "leave_one_out: give a list of settings, each by its name, or with the value that switches it off: "
                    f"[ilrb, {{decoupling: off}}]; given was {shown(node.plain())}"
                )
            key, value = next(iter(item.value.items())) if named else (item.value, None)
            changes.append(Change(key, value, item.where, left_out=True))
        for key, (points, where) in _axes(self._part("one_at_a_time")).items():
            if isinstance(points, Distribution):
                raise where.error(f"one_at_a_time: give {key} a list of values; ranges are for the axes of a search")
            changes += [Change(key, Located(point, where), where) for point in points]
        return changes

    def _row(self, name: str, node: Located, axes: Axes, base: Values) -> Row:
        """What one variant sets, and the axes that remain for it, each value checked."""
        given = _flat(node.mapping(f"variant {name}"))
        own = _axes(given.pop("axes").mapping("axes")) if "axes" in given else {}
        if "method" not in given:
            raise node.error(f"variant {name} needs a method: {', '.join(methods())}")
        method = given["method"]
        if method.value not in list(methods()):
            raise method.error(unknown("method", method.plain(), methods()))
        known = dict(setting_fields(method.value))
        for key, (_, where) in own.items():
            if key not in known:
                raise where.error(unknown(f"setting of {method.value}", key, known))
            if key in given:
                raise where.error(f"axis {key}: variant {name} sets {key} as well; take one of them out")
        check_names(given, ["method", "axes", *known], f"setting of {method.value}")
        values = {**base, **given, **{key: value for key, value in self.forced.items() if key in known}}
        for key, value in values.items():
            if key != "method":
                _check(key, known[key], value)
        common = {key: axis for key, axis in axes.items() if key in known and key not in given}
        remaining = {key: axis for key, axis in {**common, **own}.items() if key not in self.forced}
        return values, {key: self._points(key, known[key], *axis) for key, axis in remaining.items()}

    def _points(
        self, name: str, field: Field, points: list[Any] | Distribution, where: Where
    ) -> list[Located] | Distribution:
        """The points of an axis, or its range, each value checked."""
        if isinstance(points, list):
            return [Located(_check(name, field, Located(point, where)), where) for point in points]
        if "search" not in self.top:
            raise where.error(f"axis {name}: numbers are drawn from a range by a search; give one, or a list of values")
        for bound in (points.low, points.high):
            _check(name, field, Located(bound, where))
        return points

    def _refuse_unused(self, axes: Axes, rows: Mapping[str, Row]) -> None:
        known = _settings_of(rows)
        check_names(self.forced, [*known, *(key for key in CHANGEABLE if key not in SECTIONS)], "setting or key")
        for name, (_, where) in axes.items():
            if name not in known:
                raise where.error(f"axis {name}: no variant has this setting{nearest(name, known)}")
            if name not in self.forced and not any(name in remaining for _, remaining in rows.values()):
                raise where.error(f"axis {name}: every variant sets {name} itself, so nothing is swept")

    def _overrides(self, rows: Mapping[str, Row]) -> list[Override]:
        if "overrides" not in self.top:
            return []
        node, known = self.top["overrides"], _settings_of(rows)
        if self._is_shared(node.where):  # made for other methods too
            known = list(dict.fromkeys(name for method in methods() for name, _ in setting_fields(method)))
        if not isinstance(node.value, list):
            raise node.error("overrides: give a list of {when: {...}, set: {...}}")
        overrides = []
        for item in node.value:
            parts = item.mapping("an override")
            check_names(parts, ["when", "set"], "key of an override")
            when, change = (_flat(_nested(parts[k].mapping(k))) if k in parts else {} for k in ("when", "set"))
            if not when or not change:
                raise item.error("an override needs both `when` and `set`")
            check_names(when, ["method", "variant", "seed", *known], "condition")
            check_names(change, known, "setting")
            overrides.append(Override(when, change, item.where))
        return overrides

    def _seeds(self) -> tuple[int, ...]:
        return _checked_seeds("seeds", self.top["seeds"]) if "seeds" in self.top else (1, 2, 3)

    def _search(
        self, rows: Mapping[str, Row], seeds: Sequence[int], overrides: Sequence[Override], select: Select
    ) -> Search:
        given, confirm = self._part("search"), {}
        check_names(given, ["algorithm", "trials", "lag", "startup", "objectives", "confirm"], "key of search")
        algorithm = given.get("algorithm", Located("tpe", self.file))
        if algorithm.value not in ALGORITHMS:
            raise algorithm.error(_not_allowed("search.algorithm", algorithm.plain(), " | ".join(ALGORITHMS)))
        if "confirm" in given:
            confirm = given["confirm"].mapping("confirm")
            check_names(confirm, ["top", "seeds"], "key of search.confirm")
            if "seeds" not in confirm:
                raise given["confirm"].error("search.confirm: it needs seeds that the search does not have")
        objectives = _objectives(given["objectives"]) if "objectives" in given else {select.metric: "max"}
        numbers = {"trials": 20, "lag": 4, "startup": 10, "top": 1 if confirm else 0}
        for name, value in {**given, **confirm}.items():
            if name in numbers:
                if type(value.value) is not int or value.value < 1:
                    raise value.error(_not_allowed(f"search.{name}", value.plain(), "an integer at least 1"))
                numbers[name] = value.value
        if len(objectives) > 1 and confirm and "top" not in confirm:
            numbers["top"] = numbers["trials"]  # the whole front
        confirm_seeds = _checked_seeds("search.confirm.seeds", confirm["seeds"]) if confirm else ()
        if both := sorted({*seeds}.intersection(confirm_seeds)):
            raise confirm["seeds"].error(
                f"search.confirm.seeds: {', '.join(map(str, both))} searched already; what is found best is reported "
                "on seeds that did not find it"
            )
        axes = {name: _distributions(values, points) for name, (values, points) in rows.items()}
        for name, of_variant in axes.items():
            if not of_variant and numbers["trials"] > 1:
                numbers_of = f"variant {name} has no axis, so there is nothing to search"
                raise self.top["search"].error(f"search: {numbers_of}; take it out, or give it one")

        def make(variant: str, point: Mapping[str, Any], seed: int) -> Trial:
            swept = {axis: Located(value, self.file) for axis, value in point.items()}
            return self._trial(variant, rows[variant][0], swept, seed, overrides)

        for name in objectives:
            diagnostic = name.partition("/")[0]
            for row in rows if diagnostic in DIAGNOSTICS else ():
                if diagnostic not in make(row, {}, seeds[0]).config.diagnostics.on():
                    needed = f"diagnostics.{diagnostic}: true in every trial"
                    raise given["objectives"].error(f"search.objectives: {name} needs {needed}")
        fixed = self.top["overrides"].plain() if "overrides" in self.top else None
        return Search(
            algorithm=algorithm.value,
            trials=numbers["trials"],
            lag=numbers["lag"],
            startup=numbers["startup"],
            confirm_top=numbers["top"],
            confirm_seeds=confirm_seeds,
            objectives=objectives,
            axes=axes,
            make=make,
            fixed=[fixed, {name: make(name, {}, seeds[0]).config.identity() for name in rows}],
        )

    def _stop(self, search: Search | None) -> Stop | None:
        node = self.top.get("stop")
        if node is None:
            return None
        given = node.mapping("stop") if isinstance(node.value, dict) else {"rule": node}
        check_names(given, ["rule", "grace", "reduction", "force"], "key of stop")
        rule = given.get("rule", node)
        if rule.value not in (*RULES, "none"):
            raise rule.error(_not_allowed("stop", rule.plain(), " | ".join((*RULES, "none"))))
        for name, least in {"grace": 1, "reduction": 2}.items():
            if name in given and (type(given[name].value) is not int or given[name].value < least):
                raise given[name].error(_not_allowed(f"stop.{name}", given[name].plain(), f"an integer from {least}"))
        if rule.value == "none":
            return None
        if "search" not in self.top and not ("force" in given and given["force"].value is True):
            raise node.error(
                "stop: trials of a table that are stopped early bias it: which are, depends on the others and on which "
                "machine is faster; it is for a `search`, or give {rule: ..., force: true}"
            )
        if search and len(search.objectives) > 1:
            raise node.error(
                f"stop: {rule.value} ends trials that are behind the others on one metric, which with several "
                "objectives says nothing of them; take it out, or search.objectives"
            )
        return Stop(rule.value, **{name: given[name].value for name in ("grace", "reduction") if name in given})

    def _select(self) -> Select:
        values = self._part("select")
        allowed = {"metric": [f"val/{name}" for name in METRICS], "epoch": ["best", "last"]}
        check_names(values, allowed, "key of select")
        for name, value in values.items():
            if value.value not in allowed[name]:
                raise value.error(_not_allowed(f"select.{name}", value.plain(), " | ".join(allowed[name])))
        return Select(**{name: value.value for name, value in values.items()})

    def _table(self, rows: Mapping[str, Row], trials: Sequence[Trial]) -> dict[str, Any]:
        given = self._part("table")
        table: dict[str, Any] = {"rows": "variant", "columns": None, "value": "test/map", "reference": []}
        check_names(given, [*table, "average"], "key of table")
        table |= {name: value.plain() for name, value in given.items()}
        # Any setting: one that is not swept (any more) is a table of one column.
        columns = ["metric", *_settings_of(rows)]
        _check_choice("table.rows", given.get("rows"), ["variant", "metric"])
        _check_choices("table.columns", given.get("columns"), columns, alone=[None, "epoch"])
        _check_choices("table.value", given.get("value"), TABLE_VALUES)
        _check_choice("table.average", given.get("average"), _settings_of(rows))
        if "average" in given and table["columns"] == "epoch":
            raise given["average"].error(
                "table.average: the columns are epochs, which a figure shows and nothing averages"
            )
        several = isinstance(table["value"], list) or table["value"] == CLASSES
        for name, differ in {"value": several, "rows": table["rows"] == "metric"}.items():
            if differ and "metric" not in _several(table["columns"]):
                raise given[name].error(f"table.{name}: several metrics need a place; give them one by columns: metric")
        for name in _several(table["value"]):
            if name.partition("/")[2] in GROUP_METRICS:
                if any(trial.config.data.labels not in GROUPED_REGIMES for trial in trials):
                    regimes = " | ".join(GROUPED_REGIMES)
                    raise given["value"].error(f"table.value: {name} needs data.labels: {regimes} in every trial")
            diagnostic = name.partition("/")[0]
            if diagnostic in DIAGNOSTICS and any(diagnostic not in trial.config.diagnostics.on() for trial in trials):
                needed = f"diagnostics.{diagnostic}: true"
                raise given["value"].error(f"table.value: {name} needs {needed} in every trial")
            if name == CLASSES and not all(trial.config.diagnostics.per_class for trial in trials):
                raise given["value"].error(f"table.value: {name} needs diagnostics.per_class: true in every trial")
        table["reference"] = _several(table["reference"])
        for name in table["reference"]:
            if name not in list(rows):
                raise given["reference"].error(f"table.reference: {unknown('variant', name, rows)}")
        return table

    def _figure(self, used: Iterable[str]) -> dict[str, Any]:
        """Curves, points or pictures; empty where the table is what is drawn."""
        given = self._part("figure")
        check_names(given, ["x", "y", "pictures", "images"], "key of figure")
        if not given:
            return {}
        if "y" in given and given.keys() <= {"x", "y"}:
            _check_choice("figure.x", given.get("x"), ["epoch", *TABLE_VALUES])
            x = given["x"].plain() if "x" in given else "epoch"
            if x == "epoch":
                _check_choices("figure.y", given["y"], curves(used))
            else:
                _check_choice("figure.y", given["y"], TABLE_VALUES)
            return {"x": x, "y": given["y"].plain()}
        if "pictures" not in given or not given.keys() <= {"pictures", "images"}:
            raise self.top["figure"].error(
                "figure: give it curves, {x: epoch, y: train/loss}, points, {x: train/known_labels, y: test/map}, or "
                "pictures, {pictures: corrections.npz, images: 6}"
            )
        figure: dict[str, Any] = {"images": 6} | {name: value.plain() for name, value in given.items()}
        if not isinstance(figure["pictures"], str) or not re.fullmatch(PICTURES, figure["pictures"]):
            allowed = "an artifact of a trial such as corrections.npz"
            raise given["pictures"].error(_not_allowed("figure.pictures", figure["pictures"], allowed))
        if type(figure["images"]) is not int or figure["images"] < 1:
            raise given["images"].error(_not_allowed("figure.images", figure["images"], "an integer at least 1"))
        return figure

    def _resources(self) -> dict[str, Any]:
        resources: dict[str, Any] = {"cpu": 1, "gpu": 0}
        values = self._part("resources")
        check_names(values, RESOURCES, "key of resources")
        for name, value in values.items():
            given = value.plain()
            number = type(given) in (int, float) and 0 <= given < math.inf
            fine, allowed = {
                "cpu": (number, "a number at least 0"),
                "gpu": (number and (given < 1 or given % 1 == 0), "a number from 0 to 1, or a whole one"),
                "gpu_memory": ((number and given > 0) or given == MEASURED, f"a number of GB above 0, or {MEASURED}"),
                "kind": (isinstance(given, str) and bool(given), "what such nodes are started with, a name"),
            }[name]
            if not fine:
                raise value.error(_not_allowed(f"resources.{name}", given, allowed))
            resources[name] = given
        if "gpu_memory" in resources and resources["gpu"] not in (0, 1):
            raise values["gpu_memory"].error(
                f"resources.gpu_memory: the share of a GPU follows from it; take out gpu: {resources['gpu']}"
            )
        return resources

    # Trials

    def _trials(self, variant: str, row: Row, seed: int, overrides: Sequence[Override]) -> Iterator[Trial]:
        values, axes = row
        for point in itertools.product(*axes.values()):  # type: ignore[arg-type]  # ranges are for searches
            yield self._trial(variant, values, dict(zip(axes, point, strict=True)), seed, overrides)

    def _trial(self, variant: str, values: Values, swept: Values, seed: int, overrides: Sequence[Override]) -> Trial:
        given = {**values, **swept}
        config = _resolved(given, seed)
        if overrides:
            given |= self._overridden({**config.flat(), "variant": variant}, overrides, swept)
            config = _resolved(given, seed)
        return Trial(variant, config, {key: value.value for key, value in swept.items()})

    def _overridden(self, facts: Mapping[str, Any], overrides: Sequence[Override], swept: Values) -> Values:
        """What the overrides set that match a trial of these settings. Swept and forced settings stay as they are."""
        known = dict(setting_fields(facts["method"]))
        changed: Values = {}
        for override in overrides:
            if all(key in facts and facts[key] == value.value for key, value in override.when.items()):
                override.used = True
                check_names(override.set, known, f"setting of {facts['method']}")
                changed |= {k: Located(_check(k, known[k], value), value.where) for k, value in override.set.items()}
        return {key: value for key, value in changed.items() if key not in swept and key not in self.forced}


def _axes(given: Values) -> Axes:
    axes: Axes = {}
    for name, value in given.items():
        points = value.value
        kind = next(iter(points)) if isinstance(points, dict) and len(points) == 1 else None
        if kind in RANGES:
            axes[name] = _range(name, kind, points[kind]), value.where
            continue
        if kind in ("grid", "choice"):
            points = points[kind].value
        if not isinstance(points, list) or not points:
            raise value.error(
                f"axis {name}: give a list of values, or for a search a range such as {{uniform: [0, 1]}}; given was "
                f"{shown(value.plain())}"
            )
        plain = [point.plain() for point in points]
        for index, point in enumerate(plain):
            if point in plain[:index]:
                raise points[index].error(f"axis {name}: {shown(point)} stands in it twice")
        axes[name] = (plain, value.where)
    return axes


def _off(change: Change, field: Field) -> Located:
    """false of a switch, `off` where that is a choice, 0 of a weight; of other settings it has to be said."""
    if any(choice is False for choice in field.choices):
        return Located(False, change.where)
    if "off" in field.choices:
        return Located("off", change.where)
    if field.name.endswith("weight") and field.metadata["minimum"] == 0:
        return Located(0, change.where)
    raise change.where.error(
        f"leave_one_out: {change.setting} has no value that is off; write {{{change.setting}: VALUE}}; allowed is "
        f"{field.allowed}"
    )


def _range(name: str, kind: str, given: Located) -> Distribution:
    ends = given.plain()
    numbers = (int,) if kind == "int" else (int, float)
    fine = isinstance(ends, list) and len(ends) == 2 and all(type(end) in numbers for end in ends)
    if not fine or not ends[0] < ends[1] or (kind == "loguniform" and ends[0] <= 0):
        allowed = {"int": "two integers", "loguniform": "two numbers above 0"}.get(kind, "two numbers")
        raise given.error(_not_allowed(f"axis {name}: {kind}", ends, f"{allowed}, the smaller first"))
    return Distribution(kind, low=ends[0], high=ends[1])


def _distributions(values: Values, axes: Mapping[str, list[Located] | Distribution]) -> dict[str, Distribution]:
    """The axes of a variant as what is drawn from, each with when it acts."""
    known = dict(setting_fields(values["method"].value))
    found = {}
    for name, axis in axes.items():
        section = name.rpartition(".")[0]
        acts = known[name].metadata.get("when") or {}
        when = {f"{section}.{other}" if section else other: tuple(allowed) for other, allowed in acts.items()}
        drawn = axis if isinstance(axis, Distribution) else Distribution("choice", tuple(p.value for p in axis))
        found[name] = replace(drawn, when=when)
    return found


def _objectives(node: Located) -> dict[str, str]:
    given = node.mapping("search.objectives")
    for name, way in given.items():
        if name.startswith("test/"):
            raise way.error(f"search.objectives: {name} is what is reported, so nothing is chosen by it; take val/...")
        if name not in OBJECTIVES:
            raise way.error(f"search.objectives: {unknown('result', name, OBJECTIVES)}")
        if way.value not in WAYS:
            raise way.error(_not_allowed(f"search.objectives.{name}", way.plain(), " | ".join(WAYS)))
    if len(given) < 2:
        raise node.error("search.objectives: give several, such as {val/map: max, train/seconds: min}; one is `select`")
    return {name: way.value for name, way in given.items()}


def _checked_seeds(name: str, given: Located) -> tuple[int, ...]:
    seeds = given.plain()
    fine = isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 1 for seed in seeds)
    if not fine or len(set(seeds)) < len(seeds):
        raise given.error(
            f"{name}: give a list of different integers from 1, such as [1, 2, 3]; given was {shown(seeds)} "
            "(0 was used to choose defaults and is never reported)"
        )
    return tuple(seeds)


def _resolved(given: Values, seed: int) -> Config:
    try:
        return resolve({**{name: value.value for name, value in given.items()}, "seed": seed})
    except SettingError as error:  # settings that are fine one by one and not together, or a file that is not
        raise given.get(error.name, given["method"]).error(str(error)) from None


def _settings_of(rows: Mapping[str, Row]) -> list[str]:
    """Every setting that some row's method has."""
    names = (name for values, _ in rows.values() for name, _ in setting_fields(values["method"].value))
    return list(dict.fromkeys(names))


# `data.labels: full` and `data: {labels: full}` are the same.


def _nested(values: Values) -> Values:
    """Dotted names of the sections as mappings, which profiles can be merged with."""
    nested: Values = {}
    for name, value in values.items():
        section, _, field = name.partition(".")
        if section not in SECTIONS or not field:
            section, inner = name, value
        else:
            inner = Located({field: value}, value.where)
        if section in nested:
            parts = nested[section].mapping(section)
            for key, part in inner.mapping(section).items():
                if key in parts:
                    raise part.error(f"{section}.{key} is set twice")
                parts[key] = part
            inner = Located(parts, nested[section].where)
        nested[section] = inner
    return nested


def _nested_variants(top: Values) -> Values:
    if "variants" not in top:
        return top
    variants = top["variants"].mapping("variants")
    for name, value in variants.items():
        if value.value is not None:  # in a profile, null takes the variant out
            variants[name] = Located(_nested(value.mapping(f"variant {name}")), value.where)
    return {**top, "variants": Located(variants, top["variants"].where)}


def _flat(values: Values) -> Values:
    flat: Values = {}
    for name, value in values.items():
        if name in SECTIONS:
            flat |= {f"{name}.{key}": part for key, part in value.mapping(name).items()}
        else:
            flat[name] = value
    return flat


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


def _check(name: str, field: Field, value: Located) -> Any:
    """The value as the field holds it."""
    try:
        return field.check(value.plain())
    except SettingError as error:
        raise value.error(_not_allowed(name, error.given, error.allowed)) from None


def _check_choice(name: str, value: Located | None, choices: Iterable[Any]) -> None:
    if value is not None and value.plain() not in choices:
        raise value.error(f"{name}: {unknown('value', value.plain(), choices)}")


def _check_choices(name: str, value: Located | None, choices: Sequence[Any], alone: Sequence[Any] = ()) -> None:
    """One of the choices, a list of different ones, or one that stands `alone`."""
    if value is None or not isinstance(value.value, list):
        return _check_choice(name, value, [*alone, *choices])
    if not value.value:
        raise value.error(f"{name}: the list is empty; take it out or put something in it")
    for item in value.value:
        _check_choice(name, item, choices)
        if value.plain().count(item.plain()) > 1:
            raise item.error(f"{name}: {shown(item.plain())} stands in it twice")
    return None


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _not_allowed(name: str, given: Any, allowed: str) -> str:
    return f"{name}: {shown(given)} is not allowed; allowed is {allowed}"


def load_space(path: str | Path, profile: str | None = None, sets: Iterable[str] = ()) -> Space:
    """Read, check and expand a search space file.

    `profile` is one of the file's `profiles`; `sets` are `key=value` texts that win over everything. Raises
    `SpaceError`, with file and line, for the first thing that is wrong.
    """
    from .reading import Reader  # it makes what is defined here

    return Reader(Path(path), profile or DEFAULT_PROFILE, sets).space()


def profiles_of(path: str | Path) -> list[str]:
    """The profiles of a search space file, `default` first. Raises `SpaceError` as `load_space`."""
    given = read_yaml(Path(path)).mapping("the file").get("profiles")
    return list(dict.fromkeys([DEFAULT_PROFILE, *(given.mapping("profiles") if given else ())]))
