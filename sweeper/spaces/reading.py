"""How a search space file is read: the profile, `--set`, every check, and the expansion into trials.

What a setting is called and what it takes is asked of `methods.training.config`. `Located` values remember where they
stand, for the messages; the first thing that is wrong ends the reading.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from methods.cache.keys import digest
from methods.contract.settings import Field, SettingError, fields
from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.evaluation.metrics import GROUP_METRICS, GROUPED_REGIMES, METRICS
from methods.training.config import SECTIONS, Config, resolve, setting_fields
from methods.training.registry import methods

from ..planning.studies import Studies
from .ablations import with_ablations
from .layers import CHANGEABLE, layered
from .search import ALGORITHMS, WAYS, Distribution, Search
from .space import Select, Space, Stop, Trial
from .values import (
    Axes,
    Override,
    Row,
    Values,
    axes_of,
    check,
    check_choice,
    check_choices,
    flat,
    nested,
    not_allowed,
    part,
    settings_of,
    several,
)
from .vocabulary import (
    CLASSES,
    DEFAULT_PROFILE,
    MEASURED,
    OBJECTIVES,
    PICTURES,
    RESOURCES,
    RULES,
    TABLE_VALUES,
    curves,
)
from .yaml_file import Located, Where, check_names, nearest, read_yaml, shown, unknown


class Reader:
    """One pass over one file: `top` is what stands in it under the profile and `--set`, `forced` what `--set` gives to
    the settings of trials, which wins over all."""

    def __init__(self, path: Path, profile: str, sets: Iterable[str]):
        self.path, self.file, self.profile = path, Where(str(path)), profile
        self.top, self.forced = layered(path, profile, sets)

    def space(self) -> Space:
        """Everything checked, expanded into trials."""
        base = {name: value for section, cls in SECTIONS.items() for name, value in self._section(section, cls)}
        axes = axes_of(part(self.top, "axes"))
        seeds = self._seeds()
        rows: dict[str, Row] = {}
        for name, value in with_ablations(self.top, base, self.forced):
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

    def _is_shared(self, where: Where) -> bool:
        """It stands in a file of several spaces: what it says of others may mean nothing here."""
        return where.source != str(self.path) and where.line is not None

    # The parts of a file

    def _text(self, name: str, default: str) -> str:
        given = self.top.get(name)
        if given is None:
            return default
        if not isinstance(given.value, str):
            raise given.error(f"{name}: a text is needed; given was {shown(given.plain())}")
        return given.value

    def _source(self) -> dict[str, Any]:
        source = {name: value.plain() for name, value in part(self.top, "source").items()}
        for name, value in source.items():
            try:
                digest(value)
            except ValueError:
                raise part(self.top, "source")[name].error(f"source.{name}: infinity and NaN are not allowed") from None
        return source

    def _section(self, section: str, cls: type) -> Iterator[tuple[str, Located]]:
        known = {field.name: field for field in fields(cls)}
        values = part(self.top, section)
        check_names(values, known, f"setting of {section}")
        for name, value in values.items():
            check(f"{section}.{name}", known[name], value)
            yield f"{section}.{name}", value

    def _row(self, name: str, node: Located, axes: Axes, base: Values) -> Row:
        """What one variant sets, and the axes that remain for it, each value checked."""
        given = flat(node.mapping(f"variant {name}"))
        own = axes_of(given.pop("axes").mapping("axes")) if "axes" in given else {}
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
                check(key, known[key], value)
        common = {key: axis for key, axis in axes.items() if key in known and key not in given}
        remaining = {key: axis for key, axis in {**common, **own}.items() if key not in self.forced}
        return values, {key: self._points(key, known[key], *axis) for key, axis in remaining.items()}

    def _points(
        self, name: str, field: Field, points: list[Any] | Distribution, where: Where
    ) -> list[Located] | Distribution:
        """The points of an axis, or its range, each value checked."""
        if isinstance(points, list):
            return [Located(check(name, field, Located(point, where)), where) for point in points]
        if "search" not in self.top:
            raise where.error(f"axis {name}: numbers are drawn from a range by a search; give one, or a list of values")
        for bound in (points.low, points.high):
            check(name, field, Located(bound, where))
        return points

    def _refuse_unused(self, axes: Axes, rows: Mapping[str, Row]) -> None:
        known = settings_of(rows)
        check_names(self.forced, [*known, *(key for key in CHANGEABLE if key not in SECTIONS)], "setting or key")
        for name, (_, where) in axes.items():
            if name not in known:
                raise where.error(f"axis {name}: no variant has this setting{nearest(name, known)}")
            if name not in self.forced and not any(name in remaining for _, remaining in rows.values()):
                raise where.error(f"axis {name}: every variant sets {name} itself, so nothing is swept")

    def _overrides(self, rows: Mapping[str, Row]) -> list[Override]:
        if "overrides" not in self.top:
            return []
        node, known = self.top["overrides"], settings_of(rows)
        if self._is_shared(node.where):  # made for other methods too
            known = list(dict.fromkeys(name for method in methods() for name, _ in setting_fields(method)))
        if not isinstance(node.value, list):
            raise node.error("overrides: give a list of {when: {...}, set: {...}}")
        overrides = []
        for item in node.value:
            parts = item.mapping("an override")
            check_names(parts, ["when", "set"], "key of an override")
            when, change = (flat(nested(parts[k].mapping(k))) if k in parts else {} for k in ("when", "set"))
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
        given, confirm = part(self.top, "search"), {}
        check_names(given, ["algorithm", "trials", "lag", "startup", "objectives", "confirm"], "key of search")
        algorithm = given.get("algorithm", Located("tpe", self.file))
        if algorithm.value not in ALGORITHMS:
            raise algorithm.error(not_allowed("search.algorithm", algorithm.plain(), " | ".join(ALGORITHMS)))
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
                    raise value.error(not_allowed(f"search.{name}", value.plain(), "an integer at least 1"))
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
            raise rule.error(not_allowed("stop", rule.plain(), " | ".join((*RULES, "none"))))
        for name, least in {"grace": 1, "reduction": 2}.items():
            if name in given and (type(given[name].value) is not int or given[name].value < least):
                raise given[name].error(not_allowed(f"stop.{name}", given[name].plain(), f"an integer from {least}"))
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
        values = part(self.top, "select")
        allowed = {"metric": [f"val/{name}" for name in METRICS], "epoch": ["best", "last"]}
        check_names(values, allowed, "key of select")
        for name, value in values.items():
            if value.value not in allowed[name]:
                raise value.error(not_allowed(f"select.{name}", value.plain(), " | ".join(allowed[name])))
        return Select(**{name: value.value for name, value in values.items()})

    def _table(self, rows: Mapping[str, Row], trials: Sequence[Trial]) -> dict[str, Any]:
        given = part(self.top, "table")
        table: dict[str, Any] = {"rows": "variant", "columns": None, "value": "test/map", "reference": []}
        check_names(given, [*table, "average"], "key of table")
        table |= {name: value.plain() for name, value in given.items()}
        # Any setting: one that is not swept (any more) is a table of one column.
        columns = ["metric", *settings_of(rows)]
        check_choice("table.rows", given.get("rows"), ["variant", "metric"])
        check_choices("table.columns", given.get("columns"), columns, alone=[None, "epoch"])
        check_choices("table.value", given.get("value"), TABLE_VALUES)
        check_choice("table.average", given.get("average"), settings_of(rows))
        if "average" in given and table["columns"] == "epoch":
            raise given["average"].error(
                "table.average: the columns are epochs, which a figure shows and nothing averages"
            )
        many = isinstance(table["value"], list) or table["value"] == CLASSES
        for name, differ in {"value": many, "rows": table["rows"] == "metric"}.items():
            if differ and "metric" not in several(table["columns"]):
                raise given[name].error(f"table.{name}: several metrics need a place; give them one by columns: metric")
        for name in several(table["value"]):
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
        table["reference"] = several(table["reference"])
        for name in table["reference"]:
            if name not in list(rows):
                raise given["reference"].error(f"table.reference: {unknown('variant', name, rows)}")
        return table

    def _figure(self, used: Iterable[str]) -> dict[str, Any]:
        """Curves, points or pictures; empty where the table is what is drawn."""
        given = part(self.top, "figure")
        check_names(given, ["x", "y", "pictures", "images"], "key of figure")
        if not given:
            return {}
        if "y" in given and given.keys() <= {"x", "y"}:
            check_choice("figure.x", given.get("x"), ["epoch", *TABLE_VALUES])
            x = given["x"].plain() if "x" in given else "epoch"
            if x == "epoch":
                check_choices("figure.y", given["y"], curves(used))
            else:
                check_choice("figure.y", given["y"], TABLE_VALUES)
            return {"x": x, "y": given["y"].plain()}
        if "pictures" not in given or not given.keys() <= {"pictures", "images"}:
            raise self.top["figure"].error(
                "figure: give it curves, {x: epoch, y: train/loss}, points, {x: train/known_labels, y: test/map}, or "
                "pictures, {pictures: corrections.npz, images: 6}"
            )
        figure: dict[str, Any] = {"images": 6} | {name: value.plain() for name, value in given.items()}
        if not isinstance(figure["pictures"], str) or not re.fullmatch(PICTURES, figure["pictures"]):
            allowed = "an artifact of a trial such as corrections.npz"
            raise given["pictures"].error(not_allowed("figure.pictures", figure["pictures"], allowed))
        if type(figure["images"]) is not int or figure["images"] < 1:
            raise given["images"].error(not_allowed("figure.images", figure["images"], "an integer at least 1"))
        return figure

    def _resources(self) -> dict[str, Any]:
        resources: dict[str, Any] = {"cpu": 1, "gpu": 0}
        values = part(self.top, "resources")
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
                raise value.error(not_allowed(f"resources.{name}", given, allowed))
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
                changed |= {k: Located(check(k, known[k], value), value.where) for k, value in override.set.items()}
        return {key: value for key, value in changed.items() if key not in swept and key not in self.forced}


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
            raise way.error(not_allowed(f"search.objectives.{name}", way.plain(), " | ".join(WAYS)))
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


def load_space(path: str | Path, profile: str | None = None, sets: Iterable[str] = ()) -> Space:
    """Read, check and expand a search space file.

    `profile` is one of the file's `profiles`; `sets` are `key=value` texts that win over everything. Raises
    `SpaceError`, with file and line, for the first thing that is wrong.
    """
    return Reader(Path(path), profile or DEFAULT_PROFILE, sets).space()


def profiles_of(path: str | Path) -> list[str]:
    """The profiles of a search space file, `default` first. Raises `SpaceError` as `load_space`."""
    given = read_yaml(Path(path)).mapping("the file").get("profiles")
    return list(dict.fromkeys([DEFAULT_PROFILE, *(given.mapping("profiles") if given else ())]))
