"""The given values of a space file, as its readers hand them on: nested or flat, axes with their points, each checked.

Every value knows its place in a file, for the messages. Nothing here knows which sections a space has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from methods.contract.settings import Field, SettingError
from methods.training.config import SECTIONS

from .search import RANGES, Distribution
from .yaml_file import Located, Where, shown, unknown

Values = dict[str, Located]
# The points of an axis, or the range that it is drawn from; of each axis of a space also where it stands.
Points = list[Any] | Distribution
Axes = dict[str, tuple[Points, Where]]
# What a variant sets, and the points or ranges of the axes that remain for it.
Row = tuple[Values, dict[str, Points]]


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
        told = f"axis {name}: {kind}: {shown(ends)} is not allowed"
        raise given.error(f"{told}; allowed is {allowed}, the smaller first")
    return Distribution(kind, low=ends[0], high=ends[1])


def part(top: Values, name: str) -> Values:
    """The mapping of this name; empty where there is none."""
    return top[name].mapping(name) if name in top else {}


def nested(values: Values) -> Values:
    """Dotted names of the sections as mappings, which profiles can be merged with: both mean the same."""
    found: Values = {}
    for name, value in values.items():
        section, _, field = name.partition(".")
        if section in SECTIONS and field:
            name, value = section, Located({field: value}, value.where)
        if name in found:
            parts = found[name].mapping(name)
            for key, part in value.mapping(name).items():
                if key in parts:
                    raise part.error(f"{name}.{key} is set twice")
                parts[key] = part
            value = Located(parts, found[name].where)
        found[name] = value
    return found


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


def check(name: str, field: Field, value: Located, among: Any = None) -> Any:
    """The checked value. Raises `SpaceError` at the line of the wrong part, if only a part of the value is wrong."""
    try:
        return field.check(value.plain(), among)
    except SettingError as error:
        place, whole = value, name + error.name.removeprefix(field.name)
        for step in error.at:
            place = place.value[step]
        if error.known and error.noun == "key":
            raise place.error(unknown(f"key of {whole}", error.given, error.known)) from None
        text = error.problem.replace("{given}", shown(error.given), 1)
        text = unknown(error.noun, error.given, error.known) if error.known else text
        raise place.error(f"{whole}: {text}") from None


def several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
