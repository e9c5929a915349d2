"""Keys of epochs: a chain of hashes of everything that acts in the epochs.

key[0] = H(task, network, seed, platform, fingerprints of loop, data and network modules)
key[e] = H(key[e-1], recipe(e), fingerprints of the modules that implement the recipe)

Equal keys mean equal states, bit for bit, on one platform. Nothing here trains or loads data: a plan needs the keys
without either.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Modules that are left out of every fingerprint, so that stored results stay valid when they change. Most of them only
# declare settings: the values act through the recipe and key[0]. The store returns what was written, or nothing.
WITHOUT_EFFECT = (
    "methods.contract.errors",
    "methods.contract.method",
    "methods.contract.settings",
    "methods.data.settings",
    "methods.data.registry",
    "methods.networks.settings",
    "methods.networks.backbones",
    "methods.cache.store",
    "methods.cache.files",
)


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical text of a JSON-able value: sorted keys, shortest float repr."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def canonical(value: Any) -> Any:
    """A recipe, or a part of one, as JSON-able data. Fields that are None are off and are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: canonical(getattr(value, field.name)) for field in dataclasses.fields(value)}
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        return {"is": kind, **{name: part for name, part in parts.items() if part is not None}}
    if isinstance(value, tuple):
        return [canonical(item) for item in value]
    return value


@functools.lru_cache(maxsize=100_000)
def recipe_digest(recipe: Any) -> str:
    """The hash of a recipe: its values and the code that implements them."""
    modules = sorted(set(_implementing(recipe)))
    return digest([canonical(recipe), {name: fingerprint(name) for name in modules}])


def chain(start: str, recipes: list[Any]) -> list[str]:
    """key[0], key[1], ... key[E] from key[0] and the recipes of epochs 1 to E."""
    keys = [start]
    for recipe in recipes:
        keys.append(hashlib.sha256(f"{keys[-1]}{recipe_digest(recipe)}".encode()).hexdigest())
    return keys


def _implementing(value: Any) -> Iterator[str]:
    if dataclasses.is_dataclass(value):
        for base in inspect.getmro(type(value)):
            # The modules of the dataclasses in the recipe, and of their base classes.
            if base.__module__ not in ("builtins", "abc"):
                yield base.__module__
        for field in dataclasses.fields(value):
            yield from _implementing(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from _implementing(item)


@functools.cache
def fingerprint(module: str) -> str:
    """The hash of a module's code, without docstrings and comments, and of all modules of this project it imports."""
    sources = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in sources and name not in WITHOUT_EFFECT:
            sources[name], imported = _code(name)
            waiting += imported
    return digest(sources)


@functools.cache
def _code(module: str) -> tuple[str, list[str]]:
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"no source to fingerprint for module {module}")
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    executed = [node for statement in tree.body if not _for_type_checkers(statement) for node in ast.walk(statement)]
    imported = [name for node in executed for name in _imports(node, module, spec.submodule_search_locations)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), imported


def _for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _imports(node: ast.AST, module: str, locations: object) -> Iterator[str]:
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        # A package is its own parent for relative imports, a plain module is not.
        parents = module.split(".") if locations else module.split(".")[:-1]
        base = parents[: len(parents) - node.level + 1] if node.level else []
        prefix = ".".join(base + ([node.module] if node.module else []))
        candidates = [prefix] + [f"{prefix}.{alias.name}" for alias in node.names]
    else:
        return
    root = module.partition(".")[0]
    for name in candidates:
        if name.partition(".")[0] == root and _is_module(name):
            yield name


@functools.cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
