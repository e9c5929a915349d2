"""The image cache: decoded images in one memory-mapped file, (N, 3, 512, 512) uint8, made once per list of image files.

A folder under its final name is complete. Until then it is called `….partial`. Its index lists the images that are
done, with the checksums of their pixels, so that an interrupted run continues where it stopped. A process checks the
checksum of an image when it first reads it. No format of annotations is read here.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np

from ..cache.files import replacing
from ..cache.keys import fingerprint
from ..cache.store import default_folder
from . import pixels
from .listing import DataError, few

_SHAPE = (3, pixels.SIDE, pixels.SIDE)
BYTES = int(np.prod(_SHAPE))  # of one image
_AT_ONCE = 256  # images between two writes of the index: a kill loses at most these


def images_folder() -> Path:
    """The folder in the environment variable `SWEEPER_IMAGES`, or the folder `images` of the store."""
    return Path(os.environ.get("SWEEPER_IMAGES") or default_folder() / "images").absolute()


class Cache:
    """The decoded images `names` below `source`, in this order. A hash of both and of the decoder names its folder."""

    def __init__(self, dataset: str, source: Path, names: tuple[str, ...]):
        how = (fingerprint("methods.data.pixels"), str(source), *names)
        digest = hashlib.sha256("\0".join(how).encode()).hexdigest()[:16]
        self.dataset, self.source, self.names = dataset, source, names
        self.folder = images_folder() / f"{dataset}-{digest}"
        self._partial = self.folder.with_name(f"{self.folder.name}.partial")

    @property
    def size(self) -> int:
        """Bytes of all images."""
        return len(self.names) * BYTES

    @property
    def complete(self) -> bool:
        return (self.folder / "index").exists()

    def make(self, progress: Callable[[int, int], None] = lambda done, of: None, workers: int | None = None) -> int:
        """Decode the images that are missing, damaged, or changed since. Returns their number.

        Waits if another process makes the same cache. `progress` gets the number of finished images and their total.
        Raises `DataError` with all images that cannot be decoded, or if the disk is too small.
        """
        try:
            with self._locked():
                return self._make(progress, workers)
        except OSError as error:
            raise DataError(f"{self.folder}: cannot be written: {error.strerror}; what is done is kept") from None

    def images(self, names: tuple[str, ...], side: int) -> Images:
        """The images `names`, scaled to `side` x `side` pixels. Raises `DataError` if the cache is damaged."""
        place = {name: row for row, name in enumerate(self.names)}
        rows = np.array([place[name] for name in names], np.int64)
        return Images(self._opened(), rows, side)

    def _opened(self) -> _File:
        index = _index(self.folder / "index")
        path = self.folder / "pixels"
        size = path.stat().st_size if path.exists() else 0
        if sorted(index) != list(range(len(self.names))) or size != self.size:
            raise DataError(
                f"{path}: is damaged ({size} bytes of {self.size}, and {len(index)} images of {len(self.names)} in the "
                f"index); {self._mend}"
            )
        checksums = np.array([index[row][0] for row in range(len(index))], np.uint32)
        return _File(np.memmap(path, np.uint8, "r", shape=(len(index), *_SHAPE)), checksums, path, self._mend)

    @property
    def _mend(self) -> str:
        return f"`python -m sweeper data cache {self.dataset} --root {self.source}` decodes again what is damaged"

    def _make(self, progress: Callable[[int, int], None], workers: int | None) -> int:
        done = self._sound(self.folder if self.folder.exists() else self._partial)
        waiting = [row for row in range(len(self.names)) if row not in done]
        if self.complete and not waiting:
            progress(len(done), len(self.names))
            return 0
        if self.folder.exists():
            os.replace(self.folder, self._partial)
        self._partial.mkdir(exist_ok=True)
        self._refuse_unless_room(len(waiting))
        progress(len(done), len(self.names))
        failed = self._decode(waiting, done, progress, workers)
        if failed:
            raise DataError(
                f"{self.dataset}: {len(failed)} of {len(self.names)} images cannot be used, the others are kept: "
                f"{few(failed)}"
            )
        self._write_index(done)
        os.replace(self._partial, self.folder)
        return len(waiting)

    def _sound(self, folder: Path) -> dict[int, tuple[int, int, int]]:
        """Index entries of the images with right checksums whose files have not changed since they were read."""
        index = _index(folder / "index")
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(folder / "pixels", "rb", buffering=0))
            except FileNotFoundError:
                return {}
            return {
                row: entry
                for row, entry in index.items()
                if row < len(self.names)
                and entry[1:] == _version(self.source / self.names[row])
                and zlib.crc32(os.pread(file.fileno(), BYTES, row * BYTES)) == entry[0]
            }

    def _decode(
        self,
        rows: list[int],
        done: dict[int, tuple[int, int, int]],
        progress: Callable[[int, int], None],
        workers: int | None,
    ) -> list[str]:
        """Decode rows into the file and add them to `done`. Returns the errors of images that cannot be decoded."""
        failed: dict[int, str] = {}
        self._write_index(done)
        descriptor = os.open(self._partial / "pixels", os.O_RDWR | os.O_CREAT, 0o644)

        def one(row: int) -> tuple[int, int, int]:
            path = self.source / self.names[row]
            version = _version(path)
            content = pixels.decoded(path).tobytes()
            # Not through a memory map: with a full disk it would kill the process, while pwrite raises OSError.
            if os.pwrite(descriptor, content, row * BYTES) != BYTES:
                raise DataError(f"{self._partial}: the disk is full; the same command goes on from here")
            return zlib.crc32(content), *version

        try:
            # Threads are enough: Pillow releases Python's global lock when it decodes and scales.
            with ThreadPoolExecutor(workers or len(os.sched_getaffinity(0))) as pool:
                for start in range(0, len(rows), _AT_ONCE):
                    fresh: dict[int, tuple[int, int, int]] = {}
                    tasks = {pool.submit(one, row): row for row in rows[start : start + _AT_ONCE]}
                    try:
                        for task in as_completed(tasks):
                            try:
                                fresh[tasks[task]] = task.result()
                            except pixels.ImageError as error:
                                failed[tasks[task]] = str(error)
                            progress(len(done) + len(fresh), len(self.names))
                    finally:  # also after an interruption
                        for task in tasks:
                            task.cancel()
                        os.fsync(descriptor)
                        done |= fresh
                        self._append(fresh)
        finally:
            os.close(descriptor)
        return [failed[row] for row in sorted(failed)]

    def _append(self, entries: dict[int, tuple[int, int, int]]) -> None:
        with open(self._partial / "index", "a", encoding="ascii") as file:
            file.writelines(_line(row, entry) for row, entry in entries.items())
            file.flush()
            os.fsync(file.fileno())

    def _write_index(self, entries: dict[int, tuple[int, int, int]]) -> None:
        with replacing(self._partial / "index") as file:
            file.write("".join(_line(row, entries[row]) for row in sorted(entries)).encode())

    def _refuse_unless_room(self, images: int) -> None:
        free = shutil.disk_usage(self._partial).free
        if images * BYTES > free:
            raise DataError(
                f"{self._partial}: {images} images need {images * BYTES / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
                "free; SWEEPER_IMAGES puts decoded images elsewhere"
            )

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Allows one writer at a time. The lock of a killed process is released."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with open(self.folder.with_name(f".{self.folder.name}.lock"), "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


class _File:
    """Pixels and their checksums. The checksum of an image is tested before its first use."""

    def __init__(self, memory: np.memmap, checksums: np.ndarray, path: Path, mend: str):
        self._memory, self._checksums, self._path, self._mend = memory, checksums, path, mend
        self._checked = np.zeros(len(checksums), bool)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Copies of the images of rows, (B, 3, 512, 512). Raises `DataError` for a damaged image."""
        content = self._memory[rows]
        for place in np.flatnonzero(~self._checked[rows]):
            if zlib.crc32(content[place]) != self._checksums[rows[place]]:
                raise DataError(f"{self._path}: image {rows[place]} is damaged; {self._mend}")
        self._checked[rows] = True
        return content


class Images:
    """Images (N, 3, S, S) uint8 that are read when they are indexed. A slice or an array of rows gives an array; a
    tensor of rows gives a tensor. `split` works like that of a tensor. `part` selects rows without reading them."""

    def __init__(self, file: _File, rows: np.ndarray, side: int):
        self._file, self._rows, self._side = file, rows, side
        self.shape, self.dtype = (len(rows), 3, side, side), np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any) -> Any:
        import torch

        given = rows.numpy() if isinstance(rows, torch.Tensor) else rows
        content = torch.from_numpy(self._file.read(self._rows[given]))
        if self._side != pixels.SIDE and len(content):
            size = (self._side, self._side)
            content = torch.nn.functional.interpolate(content, size, mode="bilinear", antialias=True)
        elif self._side != pixels.SIDE:
            content = content.new_empty((0, 3, self._side, self._side))
        return content if isinstance(rows, torch.Tensor) else content.numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def split(self, size: int) -> Iterator[Any]:
        import torch

        return (self[rows] for rows in torch.arange(len(self)).split(size))

    def part(self, rows: np.ndarray) -> Images:
        return Images(self._file, self._rows[rows], self._side)

    @property
    def stored(self) -> Images:
        """The same images in the size in which they are stored, not scaled."""
        return Images(self._file, self._rows, pixels.SIDE)


def _version(path: Path) -> tuple[int, int]:
    """Size and time of a file; (-1, -1) for a missing file, which equals no entry of the index."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _line(row: int, entry: tuple[int, int, int]) -> str:
    return f"{row} {entry[0]} {entry[1]} {entry[2]} .\n"


def _index(path: Path) -> dict[int, tuple[int, int, int]]:
    """Checksum, size and time by row. Incomplete lines, from a killed process, are skipped."""
    entries = {}
    with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii", errors="replace") as file:
        for line in file:
            numbers, end = line.split()[:-1], line.endswith(" .\n")
            if end and len(numbers) == 4 and all(number.lstrip("-").isdecimal() for number in numbers):
                row, *entry = map(int, numbers)
                entries[row] = (entry[0], entry[1], entry[2])
    return entries
