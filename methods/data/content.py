"""The hash of a data set's annotation files, which is part of the keys of every epoch on this data set."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..cache.files import content_digest
from .registry import reader


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Within the block, annotation files are hashed once and taken as unchanged. Thousands of trials ask for the hash,
    and VOC has as many files as images."""
    global _known
    before, _known = _known, {} if _known is None else _known
    try:
        yield
    finally:
        _known = before


_known: dict[tuple[str, str | None], str | None] | None = None


def annotation_digest(settings: Any) -> str | None:
    """SHA-256 of the content of a data set's annotation files, not of their paths; None if they are missing. `settings`
    are `DataSettings`, which import this module."""
    if _known is None:
        return _content(settings)
    place = settings.dataset, settings.root
    if place not in _known:
        _known[place] = _content(settings)
    return _known[place]


def _content(settings: Any) -> str | None:
    try:
        files = reader(settings.dataset).files(settings)
        versions = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in files)
    except (ValueError, OSError):
        return None
    return _digest(tuple(files), versions)


@lru_cache(maxsize=16)
def _digest(files: tuple[Path, ...], versions: tuple[tuple[int, int], ...]) -> str:
    total = hashlib.sha256()
    for path in files:
        total.update(path.name.encode() + b"\0" + bytes.fromhex(content_digest(str(path))))
    return total.hexdigest()
