"""What stands in a space file under a profile and `--set`: layers of changes, the later one wins."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from methods.training.config import SECTIONS

from .sections import FILE
from .values import Values, flat, merge, nested, nested_variants
from .vocabulary import DEFAULT_PROFILE
from .yaml_file import Located, Where, check_names, parse_value, read_yaml, shown, unknown

# A profile and `--set` change a space; they choose no profile.
CHANGEABLE = [key for key in FILE if key != "profiles"]


def layered(path: Path, profile: str, sets: Iterable[str]) -> tuple[Values, Values]:
    """The keys of a file under a profile and `--set`, and the settings that `--set` gives, which win over all."""
    top = _with_profile(nested(read_yaml(path).mapping("the file")), path, profile)
    forced: Values = {}
    for text in sets:
        name, value = _option(text)
        first, _, rest = name.partition(".")
        if first in SECTIONS or first not in CHANGEABLE:
            forced |= flat(nested({name: value}))
        else:
            change = Located({rest: value}, value.where) if rest else value
            top = merge(top, nested_variants({first: change}))
    return top, forced


def _with_profile(top: Values, path: Path, profile: str) -> Values:
    file = Where(str(path))
    check_names(top, FILE, "key")
    profiles = top.pop("profiles", Located(None, file)).mapping("profiles")
    changes = {name: value.mapping(f"profile {name}") for name, value in profiles.items()}
    for change in changes.values():
        check_names(change, ["from", *CHANGEABLE], "key")
    allowed = dict.fromkeys([DEFAULT_PROFILE, *profiles])
    if profile not in allowed:
        raise file.error(unknown("profile", profile, allowed))
    change, merged = changes.get(profile, {}), nested_variants(top)
    shared = change.pop("from", None)
    for layer in ([_shared(path.parent, shared)] if shared else []) + [change]:
        merged = merge(merged, nested_variants(nested(layer)))
    return merged


def _shared(folder: Path, given: Located) -> Values:
    """What stands in a file of changes that profiles of several spaces have in common."""
    if not isinstance(given.value, str):
        raise given.error(f"from: a file is needed, named from {folder}; given was {shown(given.plain())}")
    path = folder / given.value
    if not path.is_file():
        raise given.error(f"from: {path} is not there")
    changes = read_yaml(path).mapping("the file")
    check_names(changes, CHANGEABLE, "key")
    return changes


def _option(text: str) -> tuple[str, Located]:
    """Name and value of a `--set`."""
    where = Where(f"--set {text}")
    name, separator, given = text.partition("=")
    if not separator or not name:
        raise where.error("give it as key=value, such as --set train.epochs=2")
    return name, parse_value(given, where)
