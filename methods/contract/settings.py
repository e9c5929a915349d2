"""Typed, documented, validated settings: the field helper and the base class.

Each method, data set and network declares its settings in its own module, as a subclass of `Settings`. Nothing here
depends on one of them, or on where the values come from (a YAML file, a call of `fit`, a test).
"""

from __future__ import annotations

import dataclasses
import functools
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .errors import UserError

# A value of settings with `follows_seed`: the trial's seed.
FOLLOWS_SEED = "follows_seed"


class SettingError(UserError):
    """A value that a setting does not allow. Holds the setting's name, the given value and what is allowed.

    `at` is the path from the value to its wrong part: keys, and places in lists. For an unknown name, `known` are the
    known names and `noun` is what they name. `problem` is the text to print, by default what is
    allowed; `{given}` in it stands for the value.
    """

    def __init__(
        self,
        name: str,
        given: Any,
        allowed: str,
        *,
        at: tuple[str | int, ...] = (),
        noun: str = "value",
        known: Sequence[Any] = (),
        problem: str = "",
    ):
        super().__init__(name, given, allowed)
        self.name, self.given, self.allowed = name, given, allowed
        self.at, self.noun, self.known = at, noun, known
        self.problem = problem or f"{{given}} is not allowed; allowed is {allowed}"

    def __str__(self) -> str:
        return f"{self.name}: {self.problem.replace('{given}', repr(self.given), 1)}"


def setting(
    default: Any = MISSING,
    doc: str = "",
    *,
    published: Any = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    whole_above: float | None = None,
    pattern: str = "",
    one_of: Sequence[str] | Callable[[Any], Sequence[str]] = (),
    noun: str = "value",
    unique: bool = False,
    min_items: int = 0,
    allowed: str = "",
    problem: str = "",
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

    `minimum`, `maximum` are inclusive bounds, `above` an exclusive lower one; a number over `whole_above` has no
    fraction. A text matches `pattern` and is `one_of` these names, or of those that a function gives (see
    `Field.check`); `noun` is what they name. In a list, all this holds for each item; a mapping's keys are `one_of` the
    names. `unique`: no item is repeated; `min_items`: the least number of items or entries. `allowed` describes the
    allowed values, in place of the description made from the type. `problem` is the error message for a value that is
    wrong as a whole; `{given}` in it stands for the value. Where the default is None and the type does not allow None,
    the field is optional: None means that it was left out.

    `published` is the value of the paper, or of its released code where the paper is silent; it takes the place of the
    default where published values are asked for. None: there is none, or not one (a paper tunes it for each data set;
    settings of data, network and training differ between papers). Then the profiles of spaces give it.
    `typical` are values worth sweeping. `when` names the values of other fields under which this one acts; elsewhere it
    is left out of every key. `source` is the equation, or the line of released code, that it comes from. `title` is its
    name in tables and figures, `unit` what stands in brackets after it ("%": the value is a share, printed in percent),
    `values` the names of some of its values there. `follows_seed`: where it is None or `FOLLOWS_SEED`, the trial's seed
    is taken. `evaluation_only`: it changes what is measured and no trained state. `result_free`: it changes nothing
    that is measured either.
    """
    metadata = {name: value for name, value in locals().items() if name != "default"}
    metadata |= {"when": dict(when or {}), "values": dict(values or {})}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Field:
    """One field of a settings class, for `sweeper methods`, the JSON schema and the contract tests."""

    name: str
    type: Any
    default: Any
    metadata: Mapping[str, Any]

    @functools.cached_property
    def kinds(self) -> tuple[Any, ...]:
        """The types of its values."""
        return get_args(self.type) if get_origin(self.type) in (Union, types.UnionType) else (self.type,)

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def optional(self) -> bool:
        """Whether the field may be left out. It is None then; None cannot be given as a value."""
        return self.default is None and types.NoneType not in self.kinds

    def default_of(self, published: bool) -> Any:
        """The value where none is given: the default, or with `published` the published value if there is one."""
        stated = self.metadata.get("published") if published else None
        return self.default if stated is None else stated

    @property
    def choices(self) -> tuple[Any, ...]:
        """All values of a `Literal` or bool field; () where other values are allowed too."""
        closed = all(get_origin(kind) is Literal or kind in (bool, types.NoneType) for kind in self.kinds)
        return self._named_values() if closed else ()

    def _named_values(self) -> tuple[Any, ...]:
        values: list[Any] = []
        for kind in self.kinds:
            if get_origin(kind) is Literal:
                values += get_args(kind)
            elif kind is bool:
                values += [False, True]
        return tuple(values)

    def names(self, among: Any = None) -> Sequence[str]:
        """The allowed names (`one_of`); those of a function depend on `among`. Empty: any name."""
        one_of = self.metadata.get("one_of", ())
        if callable(one_of):
            return () if among is None else one_of(among)
        return one_of

    @property
    def allowed(self) -> str:
        """The allowed values, in words."""
        integers = (int,) if float in self.kinds else ()  # they are numbers
        words = (self._allowed(kind) for kind in self.kinds if kind not in integers)
        return self.metadata.get("allowed") or " or ".join(words)

    def _allowed(self, kind: Any) -> str:
        form = get_origin(kind) or kind
        if form is Literal:
            return " | ".join(map(str, get_args(kind)))
        if form is tuple:
            item = get_args(kind)[0]
            each = "of them" if item in self.kinds else f"of values, each {self._allowed(item)}"
            return f"a list {each}{', all different' if self.metadata.get('unique') else ''}"
        if form is dict:
            names = f" of {' | '.join(self.names())} to {self._allowed(get_args(kind)[1])}" if self.names() else ""
            return f"a mapping{names}"
        if is_section(kind):
            return f"a mapping of {', '.join(field.name for field in fields(kind))}"
        if kind is str and self.names():
            return " | ".join(self.names())
        low, high, above = (self.metadata.get(k) for k in ("minimum", "maximum", "above"))
        bounds = [f"above {above}"] * (above is not None) + [f"at least {low}"] * (low is not None)
        bounds += [f"at most {high}"] * (high is not None)
        return " ".join([_WORDS[kind], " and ".join(bounds) if kind in (int, float) else ""]).strip()

    def check(self, value: Any, among: Any = None) -> Any:
        """The value to store: in a float field an integer becomes a float; a list becomes a tuple; a mapping becomes a
        section's settings. Raises `SettingError` if it is not allowed. If `one_of` is a function, names are checked
        only if `among`, its argument, is given."""
        problem = self.metadata.get("problem")
        try:
            return self._checked(value, among)
        except SettingError as error:
            if problem and error.name == self.name and not error.known:
                raise SettingError(self.name, value, self.allowed, problem=problem) from None
            raise

    def _checked(self, value: Any, among: Any) -> Any:
        for kind in self.kinds:
            form = get_origin(kind) or kind
            if form is Literal:
                if any(value == choice and type(value) is type(choice) for choice in get_args(kind)):
                    return value
            elif kind is float and type(value) in (int, float):
                if self._inside(value):
                    return float(value) + 0.0  # -0.0 becomes 0.0: equal values have one text, and one key
            elif kind is Any:
                return value
            elif (form is tuple and isinstance(value, list | tuple)) or (form is dict and isinstance(value, Mapping)):
                return self._several(get_args(kind), value, among)
            elif is_section(kind) and isinstance(value, Mapping | kind):
                return value if isinstance(value, kind) else self._section(kind, value, among)
            elif type(value) is kind and self._fits(value, among):
                return value
        names = self.names(among)
        alone = [None] * (types.NoneType in self.kinds) + list(self._named_values())
        known = [*alone, *names] if names else ()
        raise SettingError(self.name, value, self.allowed, noun=self.metadata.get("noun", "value"), known=known)

    def _fits(self, value: Any, among: Any) -> bool:
        if isinstance(value, str):
            names, pattern = self.names(among), self.metadata.get("pattern")
            return (not names or value in names) and (not pattern or re.fullmatch(pattern, value) is not None)
        return type(value) is not int or self._inside(value)

    def _inside(self, value: float) -> bool:
        bounds = ("minimum", "maximum", "above", "whole_above")
        low, high, above, whole_above = (self.metadata.get(bound) for bound in bounds)
        return (
            abs(value) < float("inf")
            and (low is None or value >= low)
            and (high is None or value <= high)
            and (above is None or value > above)
            and (whole_above is None or value <= whole_above or value % 1 == 0)
        )

    def _section(self, cls: type[Settings], values: Mapping[str, Any], among: Any) -> Settings:
        known = {field.name: field for field in fields(cls)}
        self._refuse_unknown(values, known, "key")
        for name, field in known.items():
            if field.required and name not in values:
                raise SettingError(self.name, values, self.allowed, problem=f"it needs {name}: {field.metadata['doc']}")
        checked = {name: self._part(name, known[name], value, among) for name, value in values.items()}
        try:
            return cls(**checked)
        except SettingError as error:  # what no single field can see
            error.at, error.name = (error.name,) * (error.name in values), f"{self.name}.{error.name}"
            raise

    def _several(self, kind: Any, values: Any, among: Any) -> Any:
        """A list as a tuple, or a mapping."""
        what, each = ("mapping", kind[1]) if isinstance(values, Mapping) else ("list", kind[0])
        if len(values) < self.metadata["min_items"]:
            problem = f"the {what} is empty; take it out or put something in it"
            raise SettingError(self.name, values, self.allowed, problem=problem)
        if isinstance(values, Mapping):
            self._refuse_unknown(values, self.names(among), self.metadata["noun"])
            entry = Field("", each, MISSING, {})
            return {
                name: self._part(name, dataclasses.replace(entry, name=name), values[name], among) for name in values
            }
        item = dataclasses.replace(self, type=each)
        checked = tuple(self._part(place, item, value, among) for place, value in enumerate(values))
        for place, value in enumerate(checked):
            if self.metadata["unique"] and value in checked[place + 1 :]:
                problem = "{given} stands in it twice"
                raise SettingError(self.name, value, self.allowed, at=(place,), problem=problem)
        return checked

    def _part(self, step: str | int, field: Field, value: Any, among: Any) -> Any:
        try:
            return field.check(value, among)
        except SettingError as error:
            error.at = (step, *error.at)
            error.name = f"{self.name}.{error.name}" if isinstance(step, str) else error.name
            raise

    def _refuse_unknown(self, given: Mapping[str, Any], known: Collection[str], noun: str) -> None:
        for name in given:
            if known and name not in known:
                raise SettingError(self.name, name, ", ".join(known), at=(name,), noun=noun, known=[*known])


@dataclass(frozen=True)
class Settings:
    """Base of every settings class: a frozen dataclass. Its constructor raises `SettingError` for a value that is not
    allowed."""

    def __post_init__(self) -> None:
        for field in fields(type(self)):
            value = getattr(self, field.name)
            if value is not None or not field.optional:
                object.__setattr__(self, field.name, field.check(value))

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

    def plain(self) -> dict[str, Any]:
        """The values as JSON has them, without what may be left out and was."""
        values = ((field, getattr(self, field.name)) for field in fields(type(self)))
        given = {field.name: value for field, value in values if value is not None or not field.optional}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}


def fields(cls: type[Settings]) -> tuple[Field, ...]:
    """The fields of a settings class, in order, with their resolved types."""
    if cls not in _FIELDS:
        hints = get_type_hints(cls)
        _FIELDS[cls] = tuple(Field(f.name, hints[f.name], f.default, f.metadata) for f in dataclasses.fields(cls))
    return _FIELDS[cls]


_FIELDS: dict[type, tuple[Field, ...]] = {}


_WORDS: dict[Any, str] = {int: "an integer", float: "a number", str: "a text", bool: "true | false"}
_WORDS |= {types.NoneType: "null", Any: "anything"}


def is_section(kind: Any) -> bool:
    """Whether values of this type are settings themselves: a nested section."""
    return isinstance(kind, type) and issubclass(kind, Settings)
