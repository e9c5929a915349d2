"""The JSON schema of search space files, made from the settings classes: completion and checks in editors."""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Any, Literal, get_args, get_origin

from methods.contract.settings import Field, fields
from methods.evaluation.metrics import METRICS
from methods.training.config import SECTIONS
from methods.training.registry import methods

from .search import ALGORITHMS, RANGES, WAYS
from .vocabulary import KEYS, MEASURED, OBJECTIVES, PICTURES, RULES, TABLE_VALUES, curves

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", types.NoneType: "null"}


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a search space file."""
    sections = {section: _fields(cls) for section, cls in SECTIONS.items()}
    dotted = {f"{section}.{name}": field for section, inner in sections.items() for name, field in inner.items()}
    anywhere = {**dotted, **{section: _object(inner) for section, inner in sections.items()}}
    own = _own_settings()
    settings = {**own, **anywhere}
    points = {name: _axis(field) for name, field in {**own, **dotted}.items()}
    method = {"enum": list(methods())}
    variant = _object({"method": method, **settings, "axes": _object(points)}, required=["method"])
    select = {"metric": {"enum": [f"val/{name}" for name in METRICS]}, "epoch": {"enum": ["best", "last"]}}
    table = {
        "rows": {"enum": ["variant", "metric"]},
        "columns": _one_or_several(["metric", *own, *dotted], alone=[None, "epoch"]),
        "value": _one_or_several(TABLE_VALUES),
        "average": {"enum": [*own, *dotted]},
        "reference": {"type": ["array", "string"], "items": {"type": "string"}},
    }
    lines = {"x": {"const": "epoch"}, "y": _one_or_several(curves(methods()))}
    dots = {"x": {"enum": list(TABLE_VALUES)}, "y": {"enum": list(TABLE_VALUES)}}
    pictures = {
        "pictures": {"type": "string", "pattern": f"^{PICTURES}$"},
        "images": {"type": "integer", "minimum": 1, "default": 6},
    }
    figures = [_object({}), _object(lines, required=["y"]), _object(dots, required=["x", "y"])]
    figures += [_object(pictures, required=["pictures"])]
    matched = {**settings, "method": method, "variant": {"type": "string"}, "seed": {"type": "integer"}}
    override = {"when": {**_object(matched), "minProperties": 1}, "set": {**_object(settings), "minProperties": 1}}
    seeds = {"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": True, "minItems": 1}
    stop = {
        "rule": {"enum": [*RULES, "none"]},
        "grace": {"type": "integer", "minimum": 1},
        "reduction": {"type": "integer", "minimum": 2},
        "force": {"type": "boolean"},
    }
    named = {"enum": [*own, *dotted]}
    switched = {**_object({**own, **dotted}), "minProperties": 1, "maxProperties": 1}
    parts: dict[str, Any] = {
        "title": {"type": "string"},
        "source": {"type": "object"},
        "note": {"type": "string"},
        "on_finish": {"type": "string"},
        "variants": {"type": "object", "additionalProperties": variant, "minProperties": 1},
        "axes": _object(points),
        "leave_one_out": {"type": "array", "items": {"anyOf": [named, switched]}},
        "one_at_a_time": _object(points),
        "overrides": {"type": "array", "items": _object(override, required=["when", "set"])},
        "search": _object(
            {
                "algorithm": {"enum": list(ALGORITHMS)},
                **{name: {"type": "integer", "minimum": 1} for name in ("trials", "lag", "startup")},
                "objectives": {**_object({name: {"enum": list(WAYS)} for name in OBJECTIVES}), "minProperties": 2},
                "confirm": _object({"top": {"type": "integer", "minimum": 1}, "seeds": seeds}, required=["seeds"]),
            }
        ),
        "stop": {"anyOf": [{"enum": [*RULES, "none"]}, _object(stop, required=["rule"])]},
        "seeds": seeds,
        "select": _object(select),
        "table": _object(table),
        "figure": {"anyOf": figures},
        "resources": _object(
            {
                "cpu": {"type": "number", "minimum": 0},
                "gpu": {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "integer", "minimum": 2}]},
                "gpu_memory": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": MEASURED}]},
                "kind": {"type": "string", "minLength": 1},
            }
        ),
        # In a profile anything may be changed, null takes an entry out, and `from` names a file of changes made first.
        "profiles": {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": {"from": {"type": "string"}}},
        },
        **anywhere,
    }
    described = {
        name: {**({"description": KEYS[name]} if name in KEYS else {}), **part} for name, part in parts.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "search space",
        **_object(described, required=["variants"]),
    }


def _own_settings() -> dict[str, Any]:
    """The settings of all methods; where several have one of the same name, what any of them takes."""
    found: dict[str, list[Any]] = {}
    for method in methods().values():
        for name, field in _fields(method.Settings).items():
            if field not in found.setdefault(name, []):
                found[name].append(field)
    return {name: taken[0] if len(taken) == 1 else {"anyOf": taken} for name, taken in found.items()}


def _fields(cls: type) -> dict[str, Any]:
    return {field.name: _field(field) for field in fields(cls)}


def _object(properties: dict[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    needed = {"required": list(required)} if required else {}
    return {"type": "object", "properties": properties, "additionalProperties": False, **needed}


def _one_or_several(choices: Sequence[str], alone: Sequence[Any] = ()) -> dict[str, Any]:
    several = {"type": "array", "items": {"enum": list(choices)}, "minItems": 1, "uniqueItems": True}
    return {"anyOf": [{"enum": [*alone, *choices]}, several]}


def _axis(field: dict[str, Any]) -> dict[str, Any]:
    points = {"type": "array", "items": field, "minItems": 1, "uniqueItems": True}
    lists = [points, _object({"grid": points}), _object({"choice": points})]
    ends = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
    return {"anyOf": [*lists, *(_object({kind: ends}) for kind in RANGES)]}


def _field(field: Field) -> dict[str, Any]:
    meta = field.metadata
    kinds = get_args(field.type) if get_origin(field.type) is types.UnionType else (field.type,)
    options: list[dict[str, Any]] = []
    for kind in kinds:
        if get_origin(kind) is Literal:
            options.append({"enum": list(get_args(kind))})
            continue
        bounds = {"minimum": meta["minimum"], "maximum": meta["maximum"], "exclusiveMinimum": meta["above"]}
        bounded = {name: bound for name, bound in bounds.items() if bound is not None and kind in (int, float)}
        options.append({"type": _TYPES[kind], **bounded})
    described: dict[str, Any] = options[0] if len(options) == 1 else {"anyOf": options}
    default = {} if field.required else {"default": field.default}
    return {"description": meta["doc"], **described, **default}
