"""Finds the methods: every module directly in `methods/` that defines a `Method`."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import pkgutil
from collections.abc import Iterator, Mapping

import methods as methods_package

from ..contract.method import Method
from ..contract.settings import Settings


def methods() -> dict[str, type[Method]]:
    """Every registered method by name, in alphabetical order."""
    return dict(sorted(_registered().items()))


def register(method: type[Method]) -> None:
    """Register a method in this process; its class may be defined anywhere. Registering it again changes nothing.

    Raises `TypeError` for an incomplete class, or if another method has its name.
    """
    _add(_registered(), method)


@contextlib.contextmanager
def registered(method: type[Method]) -> Iterator[None]:
    """Registers `method` within the block; see `register`."""
    known = _registered()
    before = set(known)
    register(method)
    try:
        yield
    finally:
        for name in known.keys() - before:
            del known[name]


@functools.cache
def _registered() -> dict[str, type[Method]]:
    found: dict[str, type[Method]] = {}
    for info in pkgutil.iter_modules(methods_package.__path__):
        if info.ispkg:
            continue
        module = importlib.import_module(f"{methods_package.__name__}.{info.name}")
        for value in vars(module).values():
            is_method = isinstance(value, type) and issubclass(value, Method) and value is not Method
            if is_method and value.__module__ == module.__name__:
                _add(found, value)
    return found


def _add(known: dict[str, type[Method]], method: type[Method]) -> None:
    own_settings = getattr(method, "Settings", None)
    needed = {
        "name = a text": isinstance(getattr(method, "name", None), str),
        "source = a text": isinstance(getattr(method, "source", None), str),
        "Settings = a subclass of Settings": isinstance(own_settings, type) and issubclass(own_settings, Settings),
        "reports = {name: description}": isinstance(method.reports, Mapping),
        "def objective(self, epoch)": not inspect.isabstract(method),
    }
    if lacking := [what for what, given in needed.items() if not given]:
        raise TypeError(f"{_place(method)}: method {method.__qualname__} needs {', '.join(lacking)}")
    other = known.setdefault(method.name, method)
    if other is not method:
        raise TypeError(f"{_place(method)}: a method is called {method.name!r} already: {_place(other)}")


def _place(method: type[Method]) -> str:
    """File and line of a class, or its module if there is no source."""
    try:
        return f"{inspect.getsourcefile(method)}:{inspect.getsourcelines(method)[1]}"
    except (OSError, TypeError):
        return method.__module__
