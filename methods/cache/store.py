"""The store: results by key. An entry is one key with its named records.

It is a cache: deleting it costs time, never results. It is a folder, which several machines may share: all writers of a
record write the same content, so it does not matter who is last. Records are written atomically and checked when they
are read; a damaged one is deleted. Nothing here knows the meaning of a key, or decides which records to keep.

A record is one file, `KK/KEY/RECORD`: a line with a checksum and a length, then the content. Reading unpickles tensors
only.
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


class StoreWarning(UserWarning):
    """A fault of the store that costs time, but no results."""


class DamagedRecordWarning(StoreWarning):
    """A record with a wrong checksum or content. It is deleted and computed again."""


class NotKeptWarning(StoreWarning):
    """The store cannot be written, so a result is not kept and must be computed again next time."""


def default_folder() -> Path:
    """The folder in the environment variable `SWEEPER_STORE`, or `./runs/store`."""
    return Path(os.environ.get("SWEEPER_STORE") or "runs/store").absolute()


@dataclass(frozen=True)
class Record:
    """A file of the store: the record `name` of `key`. `size` is in bytes, `used` are seconds since its last use."""

    key: str
    name: str
    size: int
    used: float
    path: Path


class Store:
    """Records by key in a folder. Writing raises `OSError` if the folder cannot be written or the disk is full."""

    def __init__(self, folder: Path):
        self.folder = folder / "entries"

    def has(self, key: str, record: str) -> bool:
        """Whether a record exists. Its checksum is tested only when it is read."""
        return self._path(key, record).exists()

    def names(self, key: str) -> frozenset[str]:
        """The names of a key's records."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return frozenset(os.listdir(self._path(key, "")))
        return frozenset()

    def write_json(self, key: str, record: str, value: Any) -> int:
        """Write a JSON-able value. Returns the number of bytes."""
        return self._write(key, record, json.dumps(value).encode())

    def read_json(self, key: str, record: str) -> Any | None:
        """The value, or None if the record is missing or damaged."""
        return self._read(key, record, json.loads)

    def write_tensors(self, key: str, record: str, tensors: dict[str, Any]) -> int:
        """Write tensors by name. Returns the number of bytes."""
        import torch

        content = io.BytesIO()
        # Through memory, because torch.save to a full disk raises its own error in place of OSError.
        torch.save(tensors, content)
        return self._write(key, record, content.getvalue())

    def read_tensors(self, key: str, record: str) -> dict[str, Any] | None:
        """The tensors by name, or None if the record is missing or damaged."""
        import torch

        return self._read(key, record, lambda content: torch.load(io.BytesIO(content), weights_only=True))

    def made_once(self, key: str, record: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The tensors of a record. If it is missing, `make` is called and its result is written and returned. If the
        store cannot be written, it warns and returns the result anyway."""
        tensors = self.read_tensors(key, record)
        if tensors is None:
            tensors = make()
            try:
                self.write_tensors(key, record, tensors)
            except OSError as error:
                self._not_kept(record, error)
        return tensors

    def mapped(self, key: str, record: str, rows: int, make: Callable[[], Iterator[Any]]) -> Any:
        """A float32 array (rows, ...), mapped into memory: processes share its pages, and none must hold all of it.

        If the record is missing, `make` is called and its pieces (n, ...) are written one after the other; together
        they must have `rows` rows. The checksum is tested each time the array is opened. If the store cannot be
        written, it warns and returns an array in memory.
        """
        array = self._map(key, record)
        if array is None:
            try:
                self._write_array(key, record, rows, make())
            except OSError as error:
                import numpy as np

                self._not_kept(record, error)
                return np.concatenate(list(make()))
            array = self._map(key, record)
        return array

    def delete(self, key: str, record: str) -> None:
        """Delete a record, if it is there."""
        self._path(key, record).unlink(missing_ok=True)

    def records(self) -> Iterator[Record]:
        """All records. A record that another process deletes meanwhile is left out."""
        return (record for record in self._files() if not record.name.startswith("."))

    def leftovers(self) -> Iterator[Record]:
        """Temporary files: of writers that are still at work, or that were killed."""
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

    def _write_array(self, key: str, record: str, rows: int, pieces: Iterator[Any]) -> None:
        import numpy as np

        digest, length = hashlib.sha256(), 0
        with replacing(self._path(key, record)) as file:
            # The header is overwritten at the end, when the checksum is known. So its width is fixed.
            start = file.write(_array_header("0" * 64, 0))
            for piece in pieces:
                if length == 0:
                    shape = (rows, *piece.shape[1:])
                    head = io.BytesIO()
                    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": shape})
                    content = head.getvalue()
                    digest.update(content)
                    length += file.write(content)
                content = np.ascontiguousarray(piece, dtype="<f4").tobytes()
                digest.update(content)
                length += file.write(content)
            file.seek(0)
            file.write(_array_header(digest.hexdigest(), length))
            file.seek(start + length)

    def _map(self, key: str, record: str) -> Any | None:
        import numpy as np

        path = self._path(key, record)
        try:
            with open(path, "rb") as file:
                header = file.readline()
                start = file.tell()
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                if header != _array_header(digest, file.tell() - start):
                    raise ValueError("its checksum is another")
                file.seek(start)
                np.lib.format.read_magic(file)
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
                # Mode "c" (copy on write): torch warns about read-only memory, although nothing writes to it.
                array = np.memmap(path, dtype, "c", file.tell(), shape)
        except FileNotFoundError:
            return None
        except ValueError as error:
            self._take_away(path, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return array

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
        except Exception as error:  # damaged content can raise anything
            self._take_away(path, error)
            return None
        # The time of last use, by which a full store is cleaned. It cannot be set in a read-only store.
        with contextlib.suppress(OSError):
            os.utime(path)
        return value

    def _not_kept(self, record: str, error: OSError) -> None:
        text = f"{self.folder} cannot be written ({error.strerror}); {record} not kept"
        warnings.warn(text, NotKeptWarning, stacklevel=3)

    def _take_away(self, path: Path, error: Exception) -> None:
        warnings.warn(f"{path} is damaged; it is computed again ({error})", DamagedRecordWarning, stacklevel=4)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _array_header(digest: str, length: int) -> bytes:
    return b"%s %s %020d\n" % (MAGIC, digest.encode(), length)


def _listed(folder: Path) -> list[Path]:
    """The content of a folder; empty if it is not a folder or no longer there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []
