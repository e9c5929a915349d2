"""YAML 1.2 with the place of every value: what error messages need. Duplicate keys are refused, and 1e-3 is a number.

Values are texts, numbers, true, false, null, lists and mappings; a date is a text. Nothing here knows what they mean.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node, ScalarNode, SequenceNode

from ..errors import UserError

_TEXTS = ("str", "timestamp", "value")
_OTHERS = ("int", "float", "bool", "null")


class SpaceError(UserError):
    """Bad input: where it stands, what was given, what is allowed."""


@dataclass(frozen=True)
class Where:
    """A place in a file, or an option of the command line."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"

    def error(self, message: str) -> SpaceError:
        """A `SpaceError` with this place in front of the message. It is returned; the caller raises it."""
        return SpaceError(f"{self}: {message}")


@dataclass(frozen=True)
class Located:
    """A value and where it stands: a scalar, a dict of text to `Located`, or a list of `Located`."""

    value: Any
    where: Where

    def plain(self) -> Any:
        """The value alone, with dicts and lists of plain values."""
        if isinstance(self.value, dict):
            return {name: part.plain() for name, part in self.value.items()}
        return [part.plain() for part in self.value] if isinstance(self.value, list) else self.value

    def mapping(self, what: str) -> dict[str, Located]:
        """The entries of a mapping, in a dict of one's own; null has none. Raises `SpaceError` for anything else."""
        if self.value is None:
            return {}
        if not isinstance(self.value, dict):
            raise self.error(f"{what}: a mapping is needed (name: value); given was {shown(self.plain())}")
        return dict(self.value)

    def error(self, message: str) -> SpaceError:
        """A `SpaceError` with the place of this value in front of the message, for the caller to raise."""
        return self.where.error(message)


def read_yaml(path: Path) -> Located:
    """The whole file. Raises `SpaceError` where it cannot be read or parsed, or where a key stands twice."""
    file = Where(str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise file.error(f"cannot be read: {error.strerror if isinstance(error, OSError) else error}") from None
    return _parse(text, file, lambda mark: Where(file.source, mark.line + 1))


def parse_value(text: str, where: Where) -> Located:
    """The value of a `--set`: YAML in one line, such as 2, [1, 2] or null."""
    return _parse(text, where, lambda mark: where)


def shown(value: Any) -> str:
    """A plain value for a message: as YAML has it in one line, cut where it is long."""
    if isinstance(value, dict):
        text = "{" + ", ".join(f"{name}: {shown(part)}" for name, part in value.items()) + "}"
    elif isinstance(value, list):
        text = "[" + ", ".join(map(shown, value)) + "]"
    elif value is None or isinstance(value, bool):
        text = "null" if value is None else str(value).lower()
    else:
        text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def check_names(values: Mapping[str, Located], known: Iterable[str], what: str) -> None:
    """Raises `SpaceError` for the first name that is not a known one."""
    for name, value in values.items():
        if name not in known:
            raise value.error(unknown(what, name, known))


def unknown(what: str, given: Any, known: Iterable[Any]) -> str:
    """That `given` is not known, the nearest to it that is, and all that are."""
    names = ["null" if name is None else name for name in known]
    # data.labels, data.known, … are not spelled out unless the name points there.
    section = str(given).partition(".")[0]
    parts = (name.partition(".") for name in names)
    listed = dict.fromkeys(f"{head}.*" if dot and head != section else head + dot + tail for head, dot, tail in parts)
    return f"unknown {what} {shown(given)}{nearest(str(given), names)}; allowed is {', '.join(listed)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for the end of a message: epoch may mean epochs, or train.epochs. Empty where nothing is near."""
    whole = {candidate.rpartition(".")[2]: candidate for candidate in known}
    whole |= {candidate: candidate for candidate in whole.values()}
    found = difflib.get_close_matches(name, whole, n=1)
    return f" (did you mean {whole[found[0]]!r}?)" if found else ""


def _parse(text: str, source: Where, place: Callable[[Any], Where]) -> Located:
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = place(mark) if mark else source
        raise where.error(f"this is not YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise source.error(f"this is not YAML: {str(error).splitlines()[0]}") from None
    return Located(None, source) if root is None else _located(root, yaml, place)


def _located(node: Node, yaml: YAML, place: Callable[[Any], Where]) -> Located:
    where = place(node.start_mark)
    if isinstance(node, SequenceNode):
        return Located([_located(item, yaml, place) for item in node.value], where)
    if isinstance(node, ScalarNode):
        return Located(_scalar(node, yaml, where), where)
    values: dict[str, Located] = {}
    for key_node, value_node in node.value:
        where_key = place(key_node.start_mark)
        if not isinstance(key_node, ScalarNode) or _kind(key_node) == "merge":
            raise where_key.error("a key must be a plain text; merging with << is not supported")
        # Keys are texts: a variant may be called 0.5.
        key = key_node.value
        if key in values:
            line = values[key].where.line
            raise where_key.error(f"key {key!r} stands twice" + (f"; the first is in line {line}" if line else ""))
        values[key] = Located(_located(value_node, yaml, place).value, where_key)
    return Located(values, where)


def _scalar(node: ScalarNode, yaml: YAML, where: Where) -> Any:
    kind = _kind(node)
    if kind in _TEXTS:
        return node.value
    if kind not in _OTHERS:
        raise where.error(f"the tag {node.tag} is not supported; allowed are texts, numbers, true, false and null")
    try:
        return yaml.constructor.construct_object(node)
    except ValueError:
        raise where.error(f"{node.value!r} is not of the kind {kind}") from None


def _kind(node: ScalarNode) -> str:
    return str(node.tag).rpartition(":")[2]
