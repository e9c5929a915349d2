"""How a search space file is read: its rows, axes and overrides are checked and expanded into trials.

The names of settings and what they take come from `methods.training.config`. The first error ends the reading.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, get_origin

from methods.cache.keys import digest
from methods.contract.settings import Field, SettingError, fields, is_section
from methods.training.config import SECTIONS, Config, resolve, setting_fields
from methods.training.registry import methods

from .ablations import with_ablations
from .layers import CHANGEABLE, layered
from .search import Distribution, Search
from .sections import FILE, OverrideSettings, check_table, figure, made_search, stop_rule
from .space import Select, Space
from .trial import Trial
from .values import Axes, Override, Points, Row, Values, axes_of, check, flat, nested, part, several
from .vocabulary import DEFAULT_PROFILE, Known
from .yaml_file import Located, Where, check_names, nearest, read_yaml, unknown

_OVERRIDE = replace(FILE["overrides"], type=OverrideSettings, metadata={})


class Reader:
    """Reads one file. `top`: its keys under the profile and `--set`. `forced`: the settings of trials that `--set`
    gives; they win over all others."""

    def __init__(self, path: Path, profile: str, sets: Iterable[str]):
        self.path, self.file, self.profile = path, Where(str(path)), profile
        self.top, self.forced = layered(path, profile, sets)
        self.published = self._declared("defaults") == "published"

    def space(self) -> Space:
        """Everything checked, expanded into trials."""
        base = {name: value for section, cls in SECTIONS.items() for name, value in self._section(section, cls)}
        axes = axes_of(part(self.top, "axes"))
        seeds = self._declared("seeds")
        rows: dict[str, Row] = {}
        for name, value in with_ablations(self.top, base, self.forced, self.published):
            if name in rows:
                raise value.error(f"variant {name} is there already: an ablation makes a row of this name")
            rows[name] = self._row(name, value, axes, base)
        if not rows:
            where = self.top["variants"].where if "variants" in self.top else self.file
            raise where.error("variants: at least one is needed, such as `LL-R: {method: large_loss}`")
        known = Known([values["method"].value for values, _ in rows.values()], list(rows))
        self._refuse_unused(axes, rows, known)
        overrides = self._overrides(known)
        select = self._declared("select", known)
        search = self._search(rows, seeds, overrides, select)
        # Seeds outermost: an interrupted sweep has whole tables of fewer seeds, neighbours share their pictures.
        every = [] if search else [(seed, name) for seed in seeds for name in rows]
        trials = tuple(trial for seed, name in every for trial in self._trials(name, rows[name], seed, overrides))
        for override in [] if search else overrides:  # those of a search are known when it has ended
            if not override.used and not self._is_shared(override.where):
                raise override.where.error("this override matches no trial; take it out or mend its `when`")
        table = self._declared("table", known)
        examples = [search.make(name, {}, seeds[0]) for name in rows] if search else trials
        check_table(part(self.top, "table"), table, [trial.config for trial in examples])
        return Space(
            name=self.path.stem,
            title=self._declared("title") or self.path.stem,
            profile=self.profile,
            source=self._source(),
            note=self._declared("note"),
            variants={name: {k: v.plain() for k, v in values.items()} for name, (values, _) in rows.items()},
            axes={
                name: points.plain() if isinstance(points, Distribution) else points
                for name, (points, _) in axes.items()
                if name not in self.forced
            },
            seeds=seeds,
            select=select,
            table=table.plain() | {"reference": several(table.reference)},
            figure=figure(self.top["figure"], known) if "figure" in self.top else {},
            resources=self._declared("resources").plain(),
            trials=trials,
            search=search,
            stop=stop_rule(self.top.get("stop"), self._declared("stop"), search),
            on_finish=self._declared("on_finish"),
        )

    def _is_shared(self, where: Where) -> bool:
        """It stands in a file of several spaces: what it says of others may mean nothing here."""
        return where.source != str(self.path) and where.line is not None

    def _declared(self, name: str, known: Known | None = None) -> Any:
        """The value of a key as its declaration holds it, or its default."""
        field, node = FILE[name], self.top.get(name)
        if node is None:
            return field.default
        if all(is_section(kind) or get_origin(kind) is dict for kind in field.kinds):
            node = Located(node.mapping(name), node.where)  # null is an empty one
        return check(name, field, node, known)

    def _source(self) -> dict[str, Any]:
        for name, value in (source := part(self.top, "source")).items():
            try:
                digest(value.plain())
            except ValueError:
                raise value.error(f"source.{name}: infinity and NaN are not allowed") from None
        return {name: value.plain() for name, value in source.items()}

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

    def _points(self, name: str, field: Field, points: Points, where: Where) -> Points:
        """The points of an axis, or its range, each value checked."""
        if isinstance(points, list):
            return [Located(check(name, field, Located(point, where)), where) for point in points]
        if "search" not in self.top:
            raise where.error(f"axis {name}: numbers are drawn from a range by a search; give one, or a list of values")
        for bound in (points.low, points.high):
            check(name, field, Located(bound, where))
        return points

    def _refuse_unused(self, axes: Axes, rows: Mapping[str, Row], of_rows: Known) -> None:
        known = of_rows.settings()
        check_names(self.forced, [*known, *(key for key in CHANGEABLE if key not in SECTIONS)], "setting or key")
        for name, (_, where) in axes.items():
            if name not in known:
                raise where.error(f"axis {name}: no variant has this setting{nearest(name, known)}")
            if name not in self.forced and not any(name in remaining for _, remaining in rows.values()):
                raise where.error(f"axis {name}: every variant sets {name} itself, so nothing is swept")

    def _overrides(self, known: Known) -> list[Override]:
        node = self.top.get("overrides")
        if node is None:
            return []
        if self._is_shared(node.where):  # made for other methods too
            known = Known(methods())
        overrides = []
        for item in node.value if isinstance(node.value, list) else self._declared("overrides"):
            check("an override", _OVERRIDE, Located(item.mapping("an override"), item.where))
            when, change = (flat(nested(item.value[name].mapping(name))) for name in ("when", "set"))
            check_names(when, ["method", "variant", "seed", *known.settings()], "condition")
            check_names(change, known.settings(), "setting")
            overrides.append(Override(when, change, item.where))
        return overrides

    def _search(
        self, rows: Mapping[str, Row], seeds: Sequence[int], overrides: Sequence[Override], select: Select
    ) -> Search | None:
        if "search" not in self.top:
            return None

        def make(variant: str, point: Mapping[str, Any], seed: int) -> Trial:
            swept = {axis: Located(value, self.file) for axis, value in point.items()}
            return self._trial(variant, rows[variant][0], swept, seed, overrides)

        written = self.top["overrides"].plain() if "overrides" in self.top else None
        return made_search(self.top["search"], select.metric, rows, seeds, make, written)

    def _trials(self, variant: str, row: Row, seed: int, overrides: Sequence[Override]) -> Iterator[Trial]:
        values, axes = row
        for point in itertools.product(*axes.values()):  # type: ignore[arg-type]  # ranges are for searches
            yield self._trial(variant, values, dict(zip(axes, point, strict=True)), seed, overrides)

    def _trial(self, variant: str, values: Values, swept: Values, seed: int, overrides: Sequence[Override]) -> Trial:
        given = {**values, **swept}
        config = self._resolved(given, seed)
        if overrides:
            given |= self._overridden({**config.flat(), "variant": variant}, overrides, swept)
            config = self._resolved(given, seed)
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

    def _resolved(self, given: Values, seed: int) -> Config:
        values = {name: value.value for name, value in given.items()}
        try:
            return resolve({**values, "seed": seed}, published=self.published)
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
