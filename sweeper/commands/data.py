"""The command `data`: what a data set in files holds, and decoding its images once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from methods.contract.settings import SettingError, fields
from methods.data import DataSettings, registry

from ..spaces.yaml_file import Where, parse_value
from ..units import size


def check(name: str, root: str | None, sets: Sequence[str]) -> int:
    """Print what is there; exit code 2 where images are missing."""
    report, whole = registry.module("check").check(_settings(name, root, sets))
    print(report)
    return 0 if whole else 2


def cache(name: str, root: str | None, sets: Sequence[str]) -> int:
    """Decode what is not decoded yet, having said how much room that takes."""
    settings = _settings(name, root, sets)

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    columns = TextColumn("decoding"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("decoding", total=None)
        made, decoded = registry.module("in_files").make_cache(
            settings,
            lambda cache: say(f"{len(cache.names):,} images take {size(cache.size)}: {cache.folder}"),
            lambda done, of: bar.update(task, completed=done, total=of),
        )
    print(f"{made.folder}: {len(made.names):,} images, all as they were written; {decoded:,} decoded now")
    return 0


def _settings(name: str, root: str | None, sets: Sequence[str]) -> DataSettings:
    if name not in registry.IN_FILES:
        raise SettingError("data set", name, " | ".join(registry.IN_FILES))
    given = dict(text.partition("=")[::2] for text in sets)
    values = {key: parse_value(value, Where(f"--set {key}={value}")).plain() for key, value in given.items()}
    known = {field.name for field in fields(DataSettings)}
    for key in values:
        section, _, field = key.rpartition(".")
        if section not in ("", "data") or field not in known:
            raise SettingError("--set", key, ", ".join(f"data.{field}" for field in sorted(known)))
    own = {key.removeprefix("data."): value for key, value in values.items()}
    return DataSettings(**{**({"root": root} if root else {}), **own, "dataset": name})
