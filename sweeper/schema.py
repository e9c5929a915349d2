"""The JSON schema of search space files, made from the settings classes: completion and checks in editors."""

from __future__ import annotations

import types
from typing import Any, Literal, get_args, get_origin

from methods.config import SECTIONS
from methods.metrics import METRICS
from methods.registry import methods
from methods.settings import Field, fields

from .space import KEYS

_TYPES = {int: "integer", float: "number", str: "string", bool: "boolean", types.NoneType: "null"}


def schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a search space file."""
    sections = {section: {f.name: _field(f) for f in fields(cls)} for section, cls in SECTIONS.items()}
    dotted = {f"{section}.{name}": field for section, inner in sections.items() for name, field in inner.items()}
    own = {f.name: _field(f) for method in methods().values() for f in fields(method.Settings)}
    settings = {**own, **dotted, **{section: _object(inner) for section, inner in sections.items()}}
    points = {name: _axis(field) for name, field in {**own, **dotted}.items()}
    variant = _object({"method": {"enum": list(methods())}, **settings, "axes": _object(points)})
    select = {"metric": {"enum": [f"val/{name}" for name in METRICS]}, "epoch": {"enum": ["best", "last"]}}
    table = {
        "rows": {"const": "variant"},
        "columns": {"type": ["string", "null"]},
        "value": {"enum": [f"{split}/{name}" for split in ("test", "val") for name in METRICS]},
        "reference": {"type": "array", "items": {"type": "string"}},
    }
    matched = _object(
        {**settings, "method": {"enum": list(methods())}, "variant": {"type": "string"}, "seed": {"type": "integer"}}
    )
    parts: dict[str, Any] = {
        "title": {"type": "string"},
        "source": {"type": "object"},
        **{section: _object(inner) for section, inner in sections.items()},
        "variants": {"type": "object", "additionalProperties": variant, "minProperties": 1},
        "axes": _object(points),
        "overrides": {"type": "array", "items": _object({"when": matched, "set": _object(settings)})},
        "seeds": {"type": "array", "items": {"type": "integer", "minimum": 1}, "uniqueItems": True, "minItems": 1},
        "select": _object(select),
        "table": _object(table),
        "resources": _object({name: {"type": "number", "minimum": 0} for name in ("cpu", "gpu")}),
    }
    described = {name: {"description": KEYS[name], **part} for name, part in parts.items()}
    # In a profile anything may be changed, and null takes an entry out.
    loose = {"description": KEYS["profiles"], "type": "object", "additionalProperties": {"type": "object"}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "search space",
        **_object({**described, "profiles": loose}),
        "required": ["variants"],
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _axis(field: dict[str, Any]) -> dict[str, Any]:
    points = {"type": "array", "items": field, "minItems": 1, "uniqueItems": True}
    return {"anyOf": [points, _object({"grid": points}), _object({"choice": points})]}


def _field(field: Field) -> dict[str, Any]:
    meta = field.metadata
    kinds = get_args(field.type) if get_origin(field.type) is types.UnionType else (field.type,)
    options = []
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
