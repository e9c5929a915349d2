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
import sysconfig
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
            if base.__module__.partition(".")[0] not in sys.stdlib_module_names or base.__module__ == "__main__":
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

    Python's own modules are left out: the platform has Python's version. Raises `CodeError` if `module` has no source,
    and for a file in `code` that cannot be read.
    """
    found: dict[str, str] = {}
    waiting = [*_with_parents(module)]
    if not waiting:
        raise CodeError(f"no source to fingerprint for module {module}; a class of a notebook needs a file of its own")
    while waiting:
        name = waiting.pop()
        if f"module {name}" in found or name in WITHOUT_EFFECT:
            continue
        found[f"module {name}"], imported, files = _code(name)
        for file, path in zip(files, declared_files(name), strict=True):
            found[f"file {name} {file}"] = hashlib.sha256(_read(path, name)).hexdigest()
        for other in imported:
            if ours(other) or _users(other):
                waiting += _with_parents(other)
            elif not _of_python(root := other.partition(".")[0]):
                found |= {f"distribution {distribution}": version for distribution, version in _distributions(root)}
    return found


@functools.cache
def code_of(module: str) -> str:
    """The hash of one module's code, without what it imports."""
    return _code(module)[0]


def declared_files(module: str) -> list[Path]:
    """The files that a module names in `code`."""
    file, _ = source_file(module)
    return [file.parent / name for name in _code(module)[2]]


class CodeError(UserError):
    """Code that acts has no source, or a file that a module names in `code` cannot be read."""


@functools.cache
def _code(module: str) -> tuple[str, list[str], list[str]]:
    """The hash of a module, the names of the modules that it imports, and of the files that it names in `code`."""
    file, package = source_file(module)
    content = file.read_bytes()
    try:
        tree = ast.parse(content) if file.suffix == ".py" else None
    except (SyntaxError, ValueError):  # a module that cannot be imported either, in a `try`
        tree = None
    if tree is None:
        return hashlib.sha256(content).hexdigest(), [], []
    executed = [node for statement in tree.body for node in _executed(statement)]
    imported = [name for node in executed for name in _imports(node, module, package)]
    files = list(_declared(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if ast.get_docstring(node, clean=False) is not None:
                node.body[:1] = [] if len(node.body) > 1 or isinstance(node, ast.Module) else [ast.Pass()]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), imported, files


def source_file(module: str) -> tuple[Path, bool]:
    """The file of a module, and whether it is a package. Raises `CodeError` if there is none."""
    if module == "__main__":  # a script
        file, package = getattr(sys.modules[module], "__file__", None), False
    else:
        spec = importlib.util.find_spec(module)
        file = spec.origin if spec else None
        package = bool(spec and spec.submodule_search_locations is not None)
    if file is None or not Path(file).is_file():
        raise CodeError(f"no source to fingerprint for module {module}")
    return Path(file), package


def _declared(tree: ast.Module) -> Iterator[str]:
    """The texts in each `code = (...)`, a tuple or list of texts, at the top level or in a class."""
    bodies = [tree.body, *(node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef))]
    for statement in itertools.chain(*bodies):
        yield from _texts_named("code", statement)


def _texts_named(name: str, statement: ast.stmt) -> list[str]:
    """The texts of a tuple or list that a statement gives this name; none for any other statement."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    value = getattr(statement, "value", None)
    if not isinstance(value, ast.Tuple | ast.List) or not any(
        isinstance(t, ast.Name) and t.id == name for t in targets
    ):
        return []
    texts = [part.value for part in value.elts if isinstance(part, ast.Constant)]
    return [text for text in texts if isinstance(text, str)]


def _read(file: Path, module: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        where, _ = source_file(module)
        raise CodeError(f"{where}: code names {file}, which cannot be read: {error.strerror}") from None


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """A statement and all in it, without what is there for type checkers alone."""
    if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
        parts: Iterable[ast.AST] = node.orelse
    else:
        yield node
        parts = ast.iter_child_nodes(node)
    for part in parts:
        yield from _executed(part)


def _imports(node: ast.AST, module: str, package: bool) -> Iterator[str]:
    """The modules that a statement imports; of those that are not followed, the top-level ones."""
    parent = module if package else module.rpartition(".")[0]
    if isinstance(node, ast.Import):
        candidates = [alias.name for alias in node.names]
    elif isinstance(node, ast.Call) and (name := imported_by_name(node)):
        # Of this project, a relative name is one that a package imports when it is asked for it.
        candidates = [] if name.startswith(".") and ours(module) else [_absolute(name, parent)]
    elif isinstance(node, ast.ImportFrom):
        prefix = _absolute("." * node.level + (node.module or ""), parent)
        names = [alias.name for alias in node.names]
        names += _starred(prefix) if "*" in names else []
        candidates = [prefix, *(f"{prefix}.{name}" for name in names)]
    else:
        return
    for name in candidates:
        if not (ours(name) or _users(name) or _in_parts(name.partition(".")[0])):
            name = name.partition(".")[0]  # finding a module executes the packages above it, which takes long
        while name and not _is_module(name):
            name = name.rpartition(".")[0]  # a module that is not there: an import executes the packages above it
        if name:
            yield name


def _absolute(name: str, parent: str) -> str:
    """A name as it is imported in the package `parent`; empty if it is above the top."""
    try:
        return importlib.util.resolve_name(name, parent)
    except ImportError:
        return ""


def _starred(module: str) -> list[str]:
    """What `__all__` of a user's package names, which `import *` imports where it is a module."""
    if not _users(module) or not _is_module(module):
        return []
    try:
        tree = ast.parse(source_file(module)[0].read_bytes())
    except (CodeError, SyntaxError, ValueError):
        return []
    return [name for statement in tree.body for name in _texts_named("__all__", statement)]


def imported_by_name(call: ast.Call) -> str | None:
    """The module that a call like `import_module("market.price")` imports, if its name is written out."""
    if call_name(call) not in ("import_module", "__import__") or not isinstance(
        next(iter(call.args), None), ast.Constant
    ):
        return None
    name, *package = (str(argument.value) for argument in call.args if isinstance(argument, ast.Constant))
    return _absolute(name, package[0]) if name.startswith(".") and package else name


def call_name(call: ast.Call) -> str:
    """The last part of the name of the function that is called; empty where it has no name."""
    return ast.unparse(call.func).rpartition(".")[2] if isinstance(call.func, ast.Name | ast.Attribute) else ""


@functools.cache
def _is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (Exception, SystemExit):  # a package above it is not there, or what it executes fails, in a `try`
        return False


def ours(name: str) -> bool:
    """Whether a module is one of this project's."""
    return name.partition(".")[0] == __name__.partition(".")[0]


@functools.cache
def _users(name: str) -> bool:
    """Whether a module is there, in files of the user's: neither installed, unless as editable, nor Python's own."""
    root = name.partition(".")[0]
    if not _is_module(root) or _of_python(root):
        return False
    if root == "__main__":
        return True
    spec = importlib.util.find_spec(name if _in_parts(root) and _is_module(name) else root)
    if spec is None or not (spec.has_location or spec.submodule_search_locations):
        return False
    places = [spec.origin] if spec.has_location else [*(spec.submodule_search_locations or ())]
    installed = all({"site-packages", "dist-packages"} & {*Path(str(place)).parts} for place in places)
    return not installed or any(_editable(found) for found in _found_in(root))


@functools.cache
def _in_parts(root: str) -> bool:
    """Whether a package has no file of its own, so that it may lie in several folders."""
    spec = importlib.util.find_spec(root) if _is_module(root) else None
    return spec is not None and not spec.has_location and spec.submodule_search_locations is not None


@functools.cache
def _of_python(root: str) -> bool:
    """Whether a top-level module is one of Python's own, and not one of the user's with the same name."""
    if root not in sys.stdlib_module_names:
        return False
    spec = importlib.util.find_spec(root)
    own = [Path(sysconfig.get_path(which)) for which in ("stdlib", "platstdlib")]
    return spec is None or not spec.has_location or any(map(Path(str(spec.origin)).is_relative_to, own))


def _with_parents(name: str) -> Iterator[str]:
    """The module, and the packages of the user's in which it lies, whose code an import executes too. Of this project,
    packages hold nothing that acts in another module. A folder without `__init__.py` has no code. A module that is
    executed as a script has the name under which it would be imported, if it has one."""
    if name == "__main__":
        spec = getattr(sys.modules[name], "__spec__", None)
        if spec is None:
            yield from [name] if getattr(sys.modules[name], "__file__", None) else []
            return
        name = spec.name
    parts = name.split(".")
    for length in range(1 if not ours(name) else len(parts), len(parts) + 1):
        one = ".".join(parts[:length])
        spec = importlib.util.find_spec(one) if _is_module(one) else None
        if spec is not None and spec.has_location:
            yield one


@functools.cache
def _distributions(root: str) -> list[tuple[str, str]]:
    """Names and versions of the installed distributions that a top-level module comes from; usually it is one."""
    if found := sorted({(one.name, one.version) for one in _found_in(root)}):
        return found
    file, _ = source_file(root)
    return [(root, hashlib.sha256(file.read_bytes()).hexdigest())]


@functools.cache
def _found_in(root: str) -> list[metadata.Distribution]:
    entry = re.compile(rf"^{re.escape(root)}(/|[.])", re.MULTILINE)

    def has(found: metadata.Distribution) -> bool:
        files = found.read_text("RECORD") or found.read_text("installed-files.txt") or ""
        return entry.search(files) is not None or (found.read_text("top_level.txt") or "").split() == [root]

    spec = importlib.util.find_spec(root)
    with contextlib.suppress(metadata.PackageNotFoundError):
        # Most have the module's name, and searching takes long. Only packages without code are of several.
        if spec is not None and spec.has_location and has(found := metadata.distribution(root)):
            return [found]
    return [found for found in metadata.distributions() if has(found)]


def _editable(found: metadata.Distribution) -> bool:
    about = json.loads(found.read_text("direct_url.json") or "{}")
    return bool(about.get("dir_info", {}).get("editable"))
