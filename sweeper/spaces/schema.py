"""The JSON schema of search space files, made from their declaration: completion and checks in editors."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from methods.contract.settings import Field, fields, is_section
from methods.training.config import SECTIONS
from methods.training.registry import methods

from .search import RANGES
from .sections import FILE
from .vocabulary import Known

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", types.NoneType: "null"}


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a search space file."""
    known = Known([*methods()])
    top = {name: _field(field, known) for name, field in FILE.items()}
    sections = {section: top[section] for section in SECTIONS}
    dotted = {f"{name}.{key}": field for name, part in sections.items() for key, field in part["properties"].items()}
    single = {**_own_settings(known), **dotted}
    settings, points = {**single, **sections}, _object({name: _axis(field) for name, field in single.items()})
    method = {"enum": [*methods()]}
    switched = {**_object(single), "minProperties": 1, "maxProperties": 1}
    # What holds the settings of methods, which the methods declare.
    top["variants"]["additionalProperties"] = _object({"method": method, **settings, "axes": points}, ["method"])
    top["axes"] |= points
    top["one_at_a_time"] |= points
    top["leave_one_out"]["items"] = {"anyOf": [{"enum": [*single]}, switched]}
    override = top["overrides"]["items"]["properties"]
    matched = {"method": method, "variant": {"type": "string"}, "seed": {"type": "integer"}}
    override["when"] |= _object({**settings, **matched})
    override["set"] |= _object(settings)
    top["figure"]["anyOf"].append(_object({}))
    # In a profile anything may be changed, and null takes an entry out.
    top["profiles"]["additionalProperties"] = {"type": "object", "properties": {"from": {"type": "string"}}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "search space",
        **_object({**top, **dotted}, ["variants"]),
    }


def _own_settings(known: Known) -> dict[str, Any]:
    """The settings of all methods; where several have one of the same name, what any of them takes."""
    found: dict[str, list[Any]] = {}
    for method in methods().values():
        for field in fields(method.Settings):
            described = _field(field, known)
            if described not in found.setdefault(field.name, []):
                found[field.name].append(described)
    return {name: taken[0] if len(taken) == 1 else {"anyOf": taken} for name, taken in found.items()}


def _object(properties: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **needed}


def _axis(field: dict[str, Any]) -> dict[str, Any]:
    points = {"type": "array", "items": field, "minItems": 1, "uniqueItems": True}
    lists = [points, _object({"grid": points}), _object({"choice": points})]
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return {"anyOf": [*lists, *(_object({kind: ends}) for kind in RANGES)]}


def _field(field: Field, known: Known) -> dict[str, Any]:
    options = [_kind(kind, field, known) for kind in field.kinds if not (kind is int and float in field.kinds)]
    described = options[0] if len(options) == 1 else {"anyOf": options}
    default = field.default
    written = not field.required and not is_section(type(default)) and (default is not None or not field.optional)
    shown = {"default": list(default) if isinstance(default, tuple) else default} if written else {}
    return {"description": field.metadata["doc"], **described, **shown}


def _kind(kind: Any, field: Field, known: Known) -> dict[str, Any]:
    """What one of the types of a field takes."""
    meta, form, least = field.metadata, get_origin(kind) or kind, field.metadata["min_items"]
    if form is Literal:
        return {"enum": list(get_args(kind))}
    if form is tuple:
        items = _kind(get_args(kind)[0], field, known)
        return {"type": "array", "items": items, "minItems": least, "uniqueItems": meta["unique"]}
    if form is dict:
        each, names = {} if get_args(kind)[1] is Any else _kind(get_args(kind)[1], field, known), field.names(known)
        entries = _object(dict.fromkeys(names, each)) if names else {"type": "object", "additionalProperties": each}
        return {**entries, "minProperties": least}
    if is_section(kind):
        inner = fields(kind)
        return _object({part.name: _field(part, known) for part in inner}, [p.name for p in inner if p.required])
    if kind is Any:
        return {}
    if kind is str:
        names = field.names(known)
        pattern = {"pattern": f"^{meta['pattern']}$"} if meta["pattern"] else {}
        return {"enum": list(names)} if names else {"type": "string", **pattern}
    bounds = {"minimum": meta["minimum"], "maximum": meta["maximum"], "exclusiveMinimum": meta["above"]}
    bounded = {name: bound for name, bound in bounds.items() if bound is not None and kind in (int, float)}
    if (whole := meta["whole_above"]) is not None:
        return {"anyOf": [{"type": "number", **bounded, "maximum": whole}, {"type": "integer", "minimum": whole}]}
    return {"type": _TYPES[kind], **bounded}
