"""From key to what was computed under it: named records, each written whole, checked when read, and never trusted if
damaged.

A cache: deleting it costs time, never results. It may be a folder on any file system that several machines share;
writers of the same record write the same content, so the last one wins without harm. Nothing here knows what a key
stands for, nor what becomes of records that are no longer wanted.

A record is one file, `KK/KEY/RECORD`: a line with a checksum and a length, then the content. Tensors are read without
unpickling anything but tensors.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .files import replacing

MAGIC = b"sweeper-record-1"
T = TypeVar("T")


class DamagedRecordWarning(UserWarning):
    """A record that is not what was written. It is taken away and computed again."""


def default_folder() -> Path:
    """`SWEEPER_STORE`, or `./runs/store`."""
    return Path(os.environ.get("SWEEPER_STORE") or "runs/store").absolute()


@dataclass(frozen=True)
class Record:
    """A record as it lies in the store: `key`, `name`, `size` in bytes, seconds since it was `used` last."""

    key: str
    name: str
    size: int
    used: float
    path: Path


class Store:
    """Records under keys in a folder. Writing raises `OSError` where the folder cannot be written or is full."""

    def __init__(self, folder: Path):
        self.folder = folder / "entries"

    def has(self, key: str, record: str) -> bool:
        """Whether a record is there; whether it is sound shows when it is read."""
        return self._path(key, record).exists()

    def names(self, key: str) -> frozenset[str]:
        """The names of a key's records."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return frozenset(os.listdir(self._path(key, "")))
        return frozenset()

    def write_json(self, key: str, record: str, value: Any) -> int:
        """Bytes written, as of `write_tensors`."""
        return self._write(key, record, json.dumps(value).encode())

    def read_json(self, key: str, record: str) -> Any | None:
        """The value, or None where there is none, or none that can be trusted."""
        return self._read(key, record, json.loads)

    def write_tensors(self, key: str, record: str, tensors: dict[str, Any]) -> int:
        import torch

        content = io.BytesIO()
        # By way of memory: where the disk is full, torch.save hides the OSError behind an error of its own.
        torch.save(tensors, content)
        return self._write(key, record, content.getvalue())

    def read_tensors(self, key: str, record: str) -> dict[str, Any] | None:
        """The tensors by name, or None where there are none, or none that can be trusted."""
        import torch

        return self._read(key, record, lambda content: torch.load(io.BytesIO(content), weights_only=True))

    def made_once(self, key: str, record: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The tensors under a key, made and written if they are not there. A store that cannot be written is reported,
        and what was made is returned all the same."""
        tensors = self.read_tensors(key, record)
        if tensors is None:
            tensors = make()
            try:
                self.write_tensors(key, record, tensors)
            except OSError as error:
                warnings.warn(f"{self.folder} cannot be written ({error.strerror}); {record} not kept", stacklevel=2)
        return tensors

    def delete(self, key: str, record: str) -> None:
        self._path(key, record).unlink(missing_ok=True)

    def records(self) -> Iterator[Record]:
        """Every record; those that vanish meanwhile are left out."""
        return (record for record in self._files() if not record.name.startswith("."))

    def leftovers(self) -> Iterator[Record]:
        """What writers are writing, or were killed over."""
        return (record for record in self._files() if record.name.startswith("."))

    def _files(self) -> Iterator[Record]:
        now = time.time()
        for shard in _listed(self.folder):
            for folder in _listed(shard):
                for path in _listed(folder):
                    with contextlib.suppress(FileNotFoundError):
                        status = path.stat()
                        yield Record(folder.name, path.name, status.st_size, now - status.st_mtime, path)

    def _path(self, key: str, record: str) -> Path:
        return self.folder / key[:2] / key / record

    def _write(self, key: str, record: str, content: bytes) -> int:
        with replacing(self._path(key, record)) as file:
            header = b"%s %s %d\n" % (MAGIC, hashlib.sha256(content).hexdigest().encode(), len(content))
            file.write(header)
            file.write(content)
        return len(header) + len(content)

    def _read(self, key: str, record: str, decode: Callable[[bytes], T]) -> T | None:
        path = self._path(key, record)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            return None
        header, _, content = raw.partition(b"\n")
        try:
            if header != b"%s %s %d" % (MAGIC, hashlib.sha256(content).hexdigest().encode(), len(content)):
                raise ValueError("its checksum is another")
            value = decode(content)
        except Exception as error:  # whatever is wrong with it, it is no record of ours
            warnings.warn(f"{path} is damaged; it is computed again ({error})", DamagedRecordWarning, stacklevel=3)
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        # Least recently used goes first when the store is full; a store that cannot be written keeps its order.
        with contextlib.suppress(OSError):
            os.utime(path)
        return value


def _listed(folder: Path) -> list[Path]:
    """What is in a folder; nothing if it is none, or no longer there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []
