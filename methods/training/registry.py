"""Finds the methods: every module directly in `methods/` that defines a `Method`."""

from __future__ import annotations

import functools
import importlib
import pkgutil

import methods as methods_package

from ..contract.method import Method


@functools.cache
def methods() -> dict[str, type[Method]]:
    """Every registered method by name, in alphabetical order."""
    found: dict[str, type[Method]] = {}
    for info in pkgutil.iter_modules(methods_package.__path__):
        if info.ispkg:
            continue
        module = importlib.import_module(f"{methods_package.__name__}.{info.name}")
        for value in vars(module).values():
            is_method = isinstance(value, type) and issubclass(value, Method) and value is not Method
            if is_method and value.__module__ == module.__name__:
                if value.name in found:
                    raise TypeError(f"two methods are called {value.name!r}: {found[value.name]} and {value}")
                found[value.name] = value
    return dict(sorted(found.items()))
