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


class StoreWarning(UserWarning):
    """What costs time, and nothing else."""


class DamagedRecordWarning(StoreWarning):
    """A record that is not what was written. It is taken away and computed again."""


class NotKeptWarning(StoreWarning):
    """What was made once, and will have to be made again: the store cannot be written."""


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
                self._not_kept(record, error)
        return tensors

    def mapped(self, key: str, record: str, rows: int, make: Callable[[], Iterator[Any]]) -> Any:
        """A float32 array under a key, mapped into memory: processes share its pages, and none need hold it all.

        Where it is not there `make` is called, whose pieces (n, ...) make up its `rows` rows, and it is written piece
        by piece. Its checksum is checked whenever it is opened. A store that cannot be written is reported, as by
        `made_once`.
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

    def _write_array(self, key: str, record: str, rows: int, pieces: Iterator[Any]) -> None:
        import numpy as np

        digest, length = hashlib.sha256(), 0
        with replacing(self._path(key, record)) as file:
            # The checksum is known last and stands first. A length of fixed width keeps its place.
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
                # Copied where it is written to, which nothing does: torch warns of memory that cannot be.
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
        except Exception as error:  # whatever is wrong with it, it is no record of ours
            self._take_away(path, error)
            return None
        # Least recently used goes first when the store is full; a store that cannot be written keeps its order.
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
    """What is in a folder; nothing if it is none, or no longer there."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return list(folder.iterdir())
    return []
