"""Keys of epochs: a chain of hashes of everything that acts in the epochs.

key[0] = H(task, network, seed, platform, fingerprints of loop, data and network modules)
key[e] = H(key[e-1], recipe(e), fingerprints of the modules that implement the recipe)

A fingerprint covers all that a module imports, wherever it lies: modules of this project and of the user by their code,
installed distributions by their version. What is imported by a name that is computed, or read from another file, cannot
be seen here: a module names such files in `code`.

Equal keys mean equal states, bit for bit, on one platform. Nothing here trains or loads data: a plan needs the keys
without either.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import functools
import hashlib
import importlib.util
import inspect
import itertools
import json
import re
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from ..contract.errors import UserError

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
    modules = sorted(set(implementing(recipe)))
    return digest([canonical(recipe), {name: fingerprint(name) for name in modules}])


def explained(values: Any, modules: Iterable[str]) -> dict[str, str]:
    """What is in a hash of these JSON-able values and of the code of these modules: values by dotted name, then
    `sources`."""
    flat: dict[str, str] = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key, part in value.items():
                add(f"{name}.{key}" if name else key, part)
        else:
            flat[name] = json.dumps(value)

    add("", values)
    acting = {name: hashed[:16] for module in modules for name, hashed in sources(module).items()}
    return flat | dict(sorted(acting.items()))


def chain(start: str, recipes: list[Any]) -> list[str]:
    """key[0], key[1], ... key[E] from key[0] and the recipes of epochs 1 to E."""
    keys = [start]
    for recipe in recipes:
        keys.append(hashlib.sha256(f"{keys[-1]}{recipe_digest(recipe)}".encode()).hexdigest())
    return keys


def implementing(value: Any) -> Iterator[str]:
    """The modules of the dataclasses in a recipe, and of their base classes."""
    if dataclasses.is_dataclass(value):
        for base in inspect.getmro(type(value)):
            if base.__module__ not in ("builtins", "abc"):
                yield base.__module__
        for field in dataclasses.fields(value):
            yield from implementing(getattr(value, field.name))
    elif isinstance(value, tuple):
        for item in value:
            yield from implementing(item)


@functools.cache
def fingerprint(module: str) -> str:
    """The hash of `sources(module)`."""
    return digest(sources(module))


@functools.cache
def sources(module: str) -> dict[str, str]:
    """All code that acts when `module` does: the module and what it imports, there and further on.

    * `module NAME`: a module of this project, or one in a file of the user's: the hash of its syntax tree, without
      docstrings and comments. A compiled one has the hash of its file. An editable install counts as files of the
      user's, and a package as imported if a module of the user's lies in it.
    * `distribution NAME`: an installed distribution, with its version.
    * `file MODULE NAME`: a file that a module names in `code = ("table.npy", ...)`, at its top level or in a class,
      from its own folder: the hash of its content.

    Python's own modules are left out: the platform has Python's version. Raises `ModuleNotFoundError` if `module` has
    no source, and `CodeError` for a file in `code` that cannot be read.
    """
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if f"module {name}" in found or name in WITHOUT_EFFECT:
            continue
        found[f"module {name}"], imported, files = _code(name)
        for file in files:
            found[f"file {name} {file.name}"] = hashlib.sha256(_read(file, name)).hexdigest()
        for other in imported:
            if _followed(other):
                waiting += _with_parents(other)
            elif other not in sys.stdlib_module_names:
                distribution, version = _distribution(other)
                found[f"distribution {distribution}"] = version
    return found


@functools.cache
def code_of(module: str) -> str:
    """The hash of one module's code, without what it imports."""
    return _code(module)[0]


def declared_files(module: str) -> list[Path]:
    """The files that a module names in `code`."""
    return _code(module)[2]


class CodeError(UserError):
    """A file that a module names in `code` cannot be read."""


@functools.cache
def _code(module: str) -> tuple[str, list[str], list[Path]]:
    """The hash of a module, the names of the modules that it imports, and the files that it names in `code`."""
    file, package = source_file(module)
    if file.suffix != ".py":
        return hashlib.sha256(file.read_bytes()).hexdigest(), [], []
    tree = ast.parse(file.read_text(encoding="utf-8"))
    executed = [node for statement in tree.body if not _for_type_checkers(statement) for node in ast.walk(statement)]
    imported = [name for node in executed for name in _imports(node, module, package)]
    files = [file.parent / name for name in _declared(tree)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body[:1] = [] if len(node.body) > 1 else [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), imported, files


def source_file(module: str) -> tuple[Path, bool]:
    """The file of a module, and whether it is a package. Raises `ModuleNotFoundError` if there is none."""
    if module == "__main__":  # a script; the cells of a notebook are in no file
        file, package = getattr(sys.modules[module], "__file__", None), False
    else:
        spec = importlib.util.find_spec(module)
        file = spec.origin if spec else None
        package = bool(spec and spec.submodule_search_locations is not None)
    if file is None or not Path(file).is_file():
        raise ModuleNotFoundError(f"no source to fingerprint for module {module}")
    return Path(file), package


def _declared(tree: ast.Module) -> Iterator[str]:
    """The texts in each `code = (...)` at the top level or in a class."""
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for statement in itertools.chain(*bodies):
        if isinstance(statement, ast.Assign):
            targets, value = statement.targets, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            targets, value = [statement.target], statement.value
        else:
            continue
        if any(isinstance(target, ast.Name) and target.id == "code" for target in targets):
            constants = (part.value for part in ast.walk(value) if isinstance(part, ast.Constant))
            yield from (name for name in constants if isinstance(name, str))


def _read(file: Path, module: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        where, _ = source_file(module)
        raise CodeError(f"{where}: code names {file}, which cannot be read: {error.strerror}") from None


def _for_type_checkers(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def _imports(node: ast.AST, module: str, package: bool) -> Iterator[str]:
    """The modules that a statement imports; of those that are not followed, the top-level ones."""
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    elif isinstance(node, ast.Call) and (name := imported_by_name(node)) and not ours(module):
        parent = module if package else module.rpartition(".")[0]
        candidates = [importlib.util.resolve_name(name, parent)] if parent or name[0] != "." else []
    elif isinstance(node, ast.ImportFrom):
        # A package is its own parent for relative imports, a plain module is not.
        parents = module.split(".") if package else module.split(".")[:-1]
        base = parents[: len(parents) - node.level + 1] if node.level else []
        prefix = ".".join(base + ([node.module] if node.module else []))
        candidates = [prefix, *(f"{prefix}.{alias.name}" for alias in node.names)]
    else:
        return
    for name in candidates:
        if not _followed(name):
            name = name.partition(".")[0]
        while name and not _is_module(name):
            name = name.rpartition(".")[0]  # a module that is not there: an import executes the packages above it
        if name:
            yield name


def imported_by_name(call: ast.Call) -> str | None:
    """The module that a call like `import_module("market.price")` imports, if its name is written out."""
    if call_name(call) in ("import_module", "__import__") and call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return None


def call_name(call: ast.Call) -> str:
    """The last part of the name of the function that is called; empty where it has no name."""
    return ast.unparse(call.func).rpartition(".")[2] if isinstance(call.func, ast.Name | ast.Attribute) else ""


@functools.cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError, AttributeError):  # its parent is not there, is no package, or fails
        return False


def ours(name: str) -> bool:
    """Whether a module is one of this project's."""
    return name.partition(".")[0] == __name__.partition(".")[0]


def _followed(name: str) -> bool:
    return ours(name) or _users(name.partition(".")[0])


@functools.cache
def _users(root: str) -> bool:
    """Whether a top-level module is there, in files of the user's: neither installed nor Python's own."""
    if root in sys.stdlib_module_names or not _is_module(root):
        return False
    spec = importlib.util.find_spec(root)
    places = [] if spec is None else [spec.origin] if spec.has_location else [*(spec.submodule_search_locations or ())]
    return bool(places) and not any({"site-packages", "dist-packages"} & {*Path(str(place)).parts} for place in places)


def _with_parents(name: str) -> Iterator[str]:
    """The module, and the packages of the user's in which it lies, whose code an import executes too. Of this project,
    packages hold nothing that acts in another module. A folder without `__init__.py` has no code."""
    parts = name.split(".")
    for length in range(1 if not ours(name) else len(parts), len(parts) + 1):
        one = ".".join(parts[:length])
        spec = importlib.util.find_spec(one)
        if spec is not None and spec.has_location:
            yield one


@functools.cache
def _distribution(root: str) -> tuple[str, str]:
    """Name and version of the installed distribution that a top-level module comes from."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return root, metadata.version(root)  # most have the module's name, and searching takes long
    entry = re.compile(rf"^{re.escape(root)}(/|[.])", re.MULTILINE)
    for found in metadata.distributions():
        if entry.search(found.read_text("RECORD") or found.read_text("installed-files.txt") or ""):
            return found.name, found.version
    file, _ = source_file(root)
    return root, hashlib.sha256(file.read_bytes()).hexdigest()
