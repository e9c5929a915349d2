"""YAML 1.2 with the place of every value: what error messages need. Duplicate keys are refused, and 1e-3 is a number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode


class YamlError(ValueError):
    """A file that cannot be read: where, and why."""


@dataclass(frozen=True)
class Where:
    """A place in a file, or an option of the command line."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True)
class Located:
    """A value and where it stands: a scalar, a dict of text to `Located`, or a list of `Located`."""

    value: Any
    where: Where


def read_yaml(path: Path) -> Located:
    """The whole file. Raises `YamlError` where it cannot be read or parsed, or where a key stands twice."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise YamlError(f"{path}: cannot be read: {error.strerror if isinstance(error, OSError) else error}") from None
    return _parse(text, str(path))


def parse_scalar(text: str, where: Where) -> Located:
    """The value of a `--set`: YAML in one line, such as 2, [1, 2] or null."""
    parsed = _parse(text, str(where))
    return _moved(parsed, where)


def _parse(text: str, source: str) -> Located:
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise YamlError(f"{source}{line}: this is not YAML: {error.problem or error.context}") from None
    if root is None:
        return Located(None, Where(source))
    return _located(root, yaml, source)


def _located(node: Node, yaml: YAML, source: str) -> Located:
    where = Where(source, node.start_mark.line + 1)
    if isinstance(node, SequenceNode):
        return Located([_located(item, yaml, source) for item in node.value], where)
    if not isinstance(node, MappingNode):
        return Located(yaml.constructor.construct_object(node), where)
    values: dict[str, Located] = {}
    for key_node, value_node in node.value:
        # Keys are texts: a variant may be called 0.5.
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in values:
            first = values[key].where.line
            raise YamlError(f"{source}:{line}: key {key!r} stands twice; the first is in line {first}")
        located = _located(value_node, yaml, source)
        values[key] = Located(located.value, Where(source, line))
    return Located(values, where)


def _moved(node: Located, where: Where) -> Located:
    value = node.value
    if isinstance(value, dict):
        value = {name: _moved(part, where) for name, part in value.items()}
    elif isinstance(value, list):
        value = [_moved(part, where) for part in value]
    return Located(value, where)
