"""Methods, settings and data sets as text for people."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from typing import Any, get_args, get_origin

from methods.contract.settings import Field, SettingError, fields, is_section
from methods.data.registry import ABOUT
from methods.training.config import SECTIONS
from methods.training.registry import methods

from ..spaces.sections import EXAMPLES, FILE, SpaceFile
from ..spaces.vocabulary import Known


def list_methods() -> str:
    """A line per method, and what to call next."""
    known = methods()
    width = max(map(len, known))
    lines = [f"{name:<{width}}  {inspect.getdoc(method) or ''}".rstrip() for name, method in known.items()]
    return "\n".join([*lines, "", "settings and equations of one: python -m sweeper methods NAME"])


def method_settings(name: str) -> str:
    """A method's equations, then each of its settings and of those that every method has."""
    known = methods()
    if name not in known:
        raise SettingError("method", name, " | ".join(known))
    method = known[name]
    module = inspect.getmodule(method)
    parts = [inspect.getdoc(module) or "", f"source: {method.source}", _settings("settings", "", method.Settings)]
    parts += [_settings(f"{section}, for every method", f"{section}.", cls) for section, cls in SECTIONS.items()]
    return "\n\n".join(parts)


def space_file() -> str:
    """The reference of a space file, in Markdown: every key, and every setting of its sections."""
    parts = [
        f"# The search space file\n\n{inspect.getdoc(SpaceFile)} Keys that are not required may be left out.",
        "`python -m sweeper methods NAME` prints what a method can be told beside this. This page is what "
        "`python -m sweeper schema --format md` prints.",
    ]
    for name, field in FILE.items():
        items = [get_args(kind)[0] if get_origin(kind) is tuple else kind for kind in field.kinds]
        sections = [_settings(inspect.getdoc(kind) or "", f"{name}.", kind) for kind in items if is_section(kind)]
        shown = "\n\n".join(sections or [_entry("", field)])
        heading = f"## {name}\n\n{field.metadata['doc']}\n" if sections else f"## {name}\n"
        parts.append(f"{heading}\n```text\n{shown}\n```")
        if name in EXAMPLES:
            parts.append(f"Example:\n\n```yaml\n{EXAMPLES[name]}\n```")
    return "\n\n".join(parts)


def list_datasets() -> str:
    """Each data set and what it is."""
    return "\n".join(f"{name}: {text}" for name, text in ABOUT.items())


def _settings(title: str, prefix: str, cls: type) -> str:
    lines = [title]
    for field in fields(cls):
        inner = [_settings("", f"{prefix}{field.name}.", kind) for kind in field.kinds if is_section(kind)]
        lines += [_entry(prefix, field), *(text.removeprefix("\n") for text in inner)]
    return "\n".join(lines)


def _entry(prefix: str, field: Field) -> str:
    meta = field.metadata
    default = (
        "required" if field.required else "left out" if field.optional or field.default == "" else _yaml(field.default)
    )
    known = replace(field, metadata={**meta, "one_of": field.names(Known(()))})  # names that need no method
    lines = [f"  {prefix}{field.name} = {default}    ({known.allowed})", f"      {meta['doc']}"]
    if meta["when"]:
        conditions = " and ".join(f"{prefix}{name} is {' or '.join(map(_yaml, v))}" for name, v in meta["when"].items())
        lines.append(f"      acts when {conditions}")
    if meta["typical"]:
        lines.append(f"      worth trying: {', '.join(map(_yaml, meta['typical']))}")
    if meta["published"] is not None:
        lines.append(f"      published: {_yaml(meta['published'])}")
    if meta["source"]:
        lines.append(f"      source: {meta['source']}")
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)
