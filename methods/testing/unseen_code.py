"""Code that acts in a method and that keys cannot see: imports by a computed name, and files that are read on import.

Both are allowed if the module names the files in `code = (...)`; see `methods.cache.keys.sources`.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..cache import keys
from ..training.config import Config

# Functions that execute what is not in the module that calls them.
_EXECUTING = ("import_module", "__import__", "exec", "eval", "run_path", "run_module", "spec_from_file_location")
_PYTHON = (".py", ".pyc", ".so", ".pyd")
# Folders whose files belong to Python, to installed distributions or to the system.
_NOT_THE_USERS = tuple(map(Path, {*sysconfig.get_paths().values(), sys.base_prefix, "/proc", "/sys", "/dev"}))

_opened: list[str] | None = None


def found_in(configs: Sequence[Config]) -> Iterator[str]:
    """What no key of these configurations can see, each with its place in a file and what to do about it."""
    recipes = [config.recipe(epoch).objective for config in configs for epoch in range(1, config.train.epochs + 1)]
    objectives = {module for recipe in recipes for module in keys.implementing(recipe)}
    acting = {name for module in objectives for name in keys.sources(module)}
    for kind, _, name in sorted(name.partition(" ") for name in acting):
        file = keys.source_file(name)[0] if kind == "module" else Path()
        # What else there is of this project imports by computed names what keys name apart: backbones, readers.
        if file.suffix == ".py" and (name in objectives or not keys.ours(name)):
            declared = {path.resolve() for path in keys.declared_files(name)}
            yield from (f"{text}; name its files in `code`" for text in _computed(file) if not declared)
            unnamed = (read for read in _read_on_import(name) if read not in declared)
            yield from (f"{file}: reads {read} when it is imported; name it in `code`" for read in unnamed)


def _computed(file: Path) -> Iterator[str]:
    """Calls that execute code under a name that is not written out."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and keys.call_name(node) in _EXECUTING and not keys.imported_by_name(node):
            if not (isinstance(node.func, ast.Attribute) and node.func.attr in ("eval", "exec")):  # model.eval()
                yield f"{file}:{node.lineno}: {ast.unparse(node)} executes code that keys do not see"


@functools.cache
def _read_on_import(module: str) -> list[Path]:
    """The files of the user's that a module reads when it is imported. It is executed once more to see that."""
    global _opened
    _watch()
    file, package = keys.source_file(module)
    inside = [str(file.parent)] if package else None
    spec = importlib.util.spec_from_file_location(module, file, submodule_search_locations=inside)
    if spec is None or spec.loader is None or module == "__main__":
        return []
    again = importlib.util.module_from_spec(spec)
    before, sys.modules[module] = sys.modules.get(module), again  # dataclasses look for their module there
    _opened = []
    try:
        with contextlib.suppress(Exception):  # a module may refuse to be executed again; what it has read counts
            spec.loader.exec_module(again)
    finally:
        opened, _opened = _opened, None
        if before is None:
            del sys.modules[module]
        else:
            sys.modules[module] = before
    paths = {Path(path).resolve() for path in opened if Path(path).suffix not in _PYTHON}
    return sorted(path for path in paths if path.is_file() and not any(map(path.is_relative_to, _NOT_THE_USERS)))


@functools.cache  # a hook stays to the end of the process
def _watch() -> None:
    """Note the files that this process opens, while there is a list for them."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _opened is not None and isinstance(arguments[0], str):
            _opened.append(arguments[0])

    sys.addaudithook(hook)
