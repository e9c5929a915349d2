"""Methods, settings and data sets as text for people."""

from __future__ import annotations

import inspect
from typing import Any

from methods.contract.settings import Field, SettingError, fields
from methods.data.registry import ABOUT
from methods.training.config import SECTIONS
from methods.training.registry import methods


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


def list_datasets() -> str:
    """Each data set and what it is."""
    return "\n".join(f"{name}: {text}" for name, text in ABOUT.items())


def _settings(title: str, prefix: str, cls: type) -> str:
    return "\n".join([title, *(_entry(prefix, field) for field in fields(cls))])


def _entry(prefix: str, field: Field) -> str:
    meta = field.metadata
    default = "required" if field.required else _yaml(field.default)
    lines = [f"  {prefix}{field.name} = {default}    ({field.allowed})", f"      {meta['doc']}"]
    if meta["when"]:
        conditions = " and ".join(f"{prefix}{name} is {' or '.join(map(_yaml, v))}" for name, v in meta["when"].items())
        lines.append(f"      acts when {conditions}")
    if meta["typical"]:
        lines.append(f"      worth trying: {', '.join(map(_yaml, meta['typical']))}")
    if meta["source"]:
        lines.append(f"      source: {meta['source']}")
    return "\n".join(lines)


def _yaml(value: Any) -> str:
    return (
        {None: "null", True: "true", False: "false"}[value]
        if value is None or value is True or value is False
        else str(value)
    )
