"""Typed, documented, validated settings: the field helper and the base class.

Each method, data set and network declares its settings in its own module, as a subclass of `Settings`. Nothing here
depends on one of them, or on where the values come from (a YAML file, a call of `fit`, a test).
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import UserError


class SettingError(UserError):
    """A value that a setting does not take: which setting, what was given, what is allowed."""

    def __init__(self, name: str, given: Any, allowed: str):
        super().__init__(name, given, allowed)
        self.name, self.given, self.allowed = name, given, allowed

    def __str__(self) -> str:
        return f"{self.name}: {self.given!r} is not allowed; allowed is {self.allowed}"


def setting(
    default: Any = MISSING,
    doc: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    typical: tuple[Any, ...] = (),
    when: Mapping[str, tuple[Any, ...]] | None = None,
    source: str = "",
    title: str = "",
    unit: str = "",
    values: Mapping[Any, str] | None = None,
    follows_seed: bool = False,
    evaluation_only: bool = False,
    result_free: bool = False,
) -> Any:
    """A dataclass field with a description (`doc`) and its allowed values.

    `minimum`, `maximum` are inclusive bounds, `above` an exclusive lower one. `typical` are values worth sweeping.
    `when` names the values of other fields under which this one acts; elsewhere it is left out of every key. `source`
    is the equation, or the line of released code, that it comes from. `title` is its name in tables and figures, `unit`
    what stands in brackets after it ("%": the value is a share, printed in percent), `values` the names of some of its
    values there. `follows_seed`: where it is None, the trial's seed is taken. `evaluation_only`: it changes what is
    measured and no trained state. `result_free`: it changes nothing that is measured either.
    """
    metadata = {
        "doc": doc,
        "minimum": minimum,
        "maximum": maximum,
        "above": above,
        "typical": typical,
        "when": dict(when or {}),
        "source": source,
        "title": title,
        "unit": unit,
        "values": dict(values or {}),
        "follows_seed": follows_seed,
        "evaluation_only": evaluation_only,
        "result_free": result_free,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Field:
    """One field of a settings class, for `sweeper methods`, the JSON schema and the contract tests."""

    name: str
    type: Any
    default: Any
    metadata: Mapping[str, Any]

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def choices(self) -> tuple[Any, ...]:
        """All values of a `Literal` or bool field; () for other types."""
        values: list[Any] = []
        for kind in _alternatives(self.type):
            if get_origin(kind) is Literal:
                values += get_args(kind)
            elif kind is bool:
                values += [False, True]
        return tuple(values)

    @property
    def allowed(self) -> str:
        """What the field takes, in words."""
        return " or ".join(self._allowed(kind) for kind in _alternatives(self.type))

    def _allowed(self, kind: Any) -> str:
        if get_origin(kind) is Literal:
            return " | ".join(map(str, get_args(kind)))
        if kind is types.NoneType:
            return "null"
        if kind is bool:
            return "true | false"
        word = {int: "an integer", float: "a number", str: "a text"}[kind]
        low, high, above = (self.metadata.get(k) for k in ("minimum", "maximum", "above"))
        bounds = [f"above {above}"] * (above is not None) + [f"at least {low}"] * (low is not None)
        bounds += [f"at most {high}"] * (high is not None)
        return " ".join([word, " and ".join(bounds)]).strip()

    def check(self, value: Any) -> Any:
        """`value` as the field holds it (an integer becomes a float where a float is meant), or `SettingError`."""
        for kind in _alternatives(self.type):
            if get_origin(kind) is Literal:
                if any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
                    return value
            elif kind is float and type(value) in (int, float):
                if self._inside(value):
                    return float(value) + 0.0  # -0.0 becomes 0.0: equal values have one text, and one key
            elif type(value) is kind and (kind is not int or self._inside(value)):
                return value
        raise SettingError(self.name, value, self.allowed)

    def _inside(self, value: float) -> bool:
        low, high, above = (self.metadata.get(k) for k in ("minimum", "maximum", "above"))
        return (
            abs(value) < float("inf")
            and (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
        )


@dataclass(frozen=True)
class Settings:
    """Base of every settings class: a frozen dataclass. Its constructor raises `SettingError` for a value that is not
    allowed."""

    def __post_init__(self) -> None:
        for field in fields(type(self)):
            object.__setattr__(self, field.name, field.check(getattr(self, field.name)))

    def acting(self, *, evaluation: bool = False) -> dict[str, Any]:
        """The values that can change a trained state; with `evaluation`, also those that can change a measured value. A
        field whose `when` is not met is left out."""
        values = {}
        for field in fields(type(self)):
            meta = field.metadata
            if meta.get("result_free") or (meta.get("evaluation_only") and not evaluation):
                continue
            if all(getattr(self, name) in allowed for name, allowed in meta.get("when", {}).items()):
                values[field.name] = getattr(self, field.name)
        return values


def fields(cls: type[Settings]) -> tuple[Field, ...]:
    """The fields of a settings class, in order, with their resolved types."""
    if cls not in _FIELDS:
        hints = get_type_hints(cls)
        _FIELDS[cls] = tuple(Field(f.name, hints[f.name], f.default, f.metadata) for f in dataclasses.fields(cls))
    return _FIELDS[cls]


_FIELDS: dict[type, tuple[Field, ...]] = {}


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
