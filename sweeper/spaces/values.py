"""The given values of a space file, as its readers hand them on: nested or flat, axes with their points, each checked.

Every value knows its place in a file, for the messages. Nothing here knows which sections a space has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from methods.contract.settings import Field, SettingError
from methods.training.config import SECTIONS, setting_fields

from .search import RANGES, Distribution
from .yaml_file import Located, Where, shown, unknown

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


def axes_of(given: Values) -> Axes:
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


def _range(name: str, kind: str, given: Located) -> Distribution:
    ends = given.plain()
    numbers = (int,) if kind == "int" else (int, float)
    fine = isinstance(ends, list) and len(ends) == 2 and all(type(end) in numbers for end in ends)
    if not fine or not ends[0] < ends[1] or (kind == "loguniform" and ends[0] <= 0):
        allowed = {"int": "two integers", "loguniform": "two numbers above 0"}.get(kind, "two numbers")
        raise given.error(not_allowed(f"axis {name}: {kind}", ends, f"{allowed}, the smaller first"))
    return Distribution(kind, low=ends[0], high=ends[1])


def part(top: Values, name: str) -> Values:
    """The mapping of this name; empty where there is none."""
    return top[name].mapping(name) if name in top else {}


# `data.labels: full` and `data: {labels: full}` are the same.


def nested(values: Values) -> Values:
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


def nested_variants(top: Values) -> Values:
    if "variants" not in top:
        return top
    variants = top["variants"].mapping("variants")
    for name, value in variants.items():
        if value.value is not None:  # in a profile, null takes the variant out
            variants[name] = Located(nested(value.mapping(f"variant {name}")), value.where)
    return {**top, "variants": Located(variants, top["variants"].where)}


def flat(values: Values) -> Values:
    flat: Values = {}
    for name, value in values.items():
        if name in SECTIONS:
            flat |= {f"{name}.{key}": part for key, part in value.mapping(name).items()}
        else:
            flat[name] = value
    return flat


def merge(below: Values, above: Values) -> Values:
    """`above` wins; mappings are merged, and null takes an entry out."""
    merged = dict(below)
    for name, value in above.items():
        old = merged.get(name)
        if value.value is None:
            merged.pop(name, None)
        elif old is not None and isinstance(old.value, dict) and isinstance(value.value, dict):
            merged[name] = Located(merge(old.value, value.value), value.where)
        else:
            merged[name] = value
    return merged


def check(name: str, field: Field, value: Located) -> Any:
    """The value as the field holds it."""
    try:
        return field.check(value.plain())
    except SettingError as error:
        raise value.error(not_allowed(name, error.given, error.allowed)) from None


def check_choice(name: str, value: Located | None, choices: Iterable[Any]) -> None:
    if value is not None and value.plain() not in choices:
        raise value.error(f"{name}: {unknown('value', value.plain(), choices)}")


def check_choices(name: str, value: Located | None, choices: Sequence[Any], alone: Sequence[Any] = ()) -> None:
    """One of the choices, a list of different ones, or one that stands `alone`."""
    if value is None or not isinstance(value.value, list):
        return check_choice(name, value, [*alone, *choices])
    if not value.value:
        raise value.error(f"{name}: the list is empty; take it out or put something in it")
    for item in value.value:
        check_choice(name, item, choices)
        if value.plain().count(item.plain()) > 1:
            raise item.error(f"{name}: {shown(item.plain())} stands in it twice")
    return None


def several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def not_allowed(name: str, given: Any, allowed: str) -> str:
    return f"{name}: {shown(given)} is not allowed; allowed is {allowed}"


def settings_of(rows: Mapping[str, Row]) -> list[str]:
    """Every setting that some row's method has."""
    names = (name for values, _ in rows.values() for name, _ in setting_fields(values["method"].value))
    return list(dict.fromkeys(names))
