"""Files that are written atomically, and digests of files. Nothing here knows what is in a file."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A new file, open for writing. It gets the name `path` at the end of the block; after an exception it is deleted.
    Another process sees either the old file or the whole new one, on any file system that renames atomically."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with _created(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _created(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return open(path, "xb")
    except FileNotFoundError:
        # Another process removed the empty folder in between.
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "xb")


def content_digest(path: str) -> str:
    """SHA-256 (64 hex digits) of a file. It is computed again only if the file's time or size has changed."""
    found = Path(path).stat()
    return _digest(path, found.st_mtime_ns, found.st_size)


@functools.lru_cache(maxsize=16)
def _digest(path: str, written: int, size: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
