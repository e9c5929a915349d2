"""How much the store may hold, and what is deleted from it. `methods.cache.store` says what a record is."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Set

from methods.cache.store import Record, Store, default_folder

from ..errors import UserError

# Seconds after which a half-written file counts as left by a killed writer. No record takes that long to write, even if
# the clocks of two machines differ by hours.
ABANDONED_SECONDS = 86400.0
# Gigabytes that the store holds, unless SWEEPER_STORE_LIMIT says otherwise.
LIMIT = 100.0
FRESH = "fresh-"


class LimitError(UserError):
    """SWEEPER_STORE_LIMIT is not a size in GB."""


def limit_bytes() -> int:
    """The store's size limit, `SWEEPER_STORE_LIMIT` in GB."""
    given = os.environ.get("SWEEPER_STORE_LIMIT") or str(LIMIT)
    try:
        limit = float(given)
    except ValueError:
        limit = float("nan")
    if not limit > 0:
        raise LimitError(f"SWEEPER_STORE_LIMIT: {given!r} is not allowed; allowed is a number of GB above 0")
    return int(min(limit * 1e9, 2**62))


def fresh_folder() -> tempfile.TemporaryDirectory[str]:
    """An empty store inside the store's folder, so that the same machines can read it. It is deleted afterwards."""
    default_folder().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=FRESH, dir=default_folder(), ignore_cleanup_errors=True)


def sweep_away(
    store: Store,
    *,
    older_than: float | None = None,
    max_bytes: int | None = None,
    needed: Iterable[str] | None = None,
    in_use: Set[str] = frozenset(),
) -> tuple[int, int]:
    """Delete records that were not used for `older_than` seconds, and those of keys that are not `needed`. Then delete
    the least recently used until `max_bytes` are left, but none of keys `in_use`. Files that killed writers have left
    are deleted too. Returns how many records and bytes were deleted."""
    for leftover in store.leftovers():
        if leftover.used > ABANDONED_SECONDS:
            leftover.path.unlink(missing_ok=True)
    for folder in store.folder.parent.glob(f"{FRESH}*"):
        if time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            shutil.rmtree(folder, ignore_errors=True)
    wanted = None if needed is None else set(needed)
    kept: list[Record] = []
    gone: list[Record] = []
    for record in store.records():
        old = older_than is not None and record.used > older_than
        unneeded = wanted is not None and record.key not in wanted
        (gone if old or unneeded else kept).append(record)
    if max_bytes is not None:
        kept.sort(key=lambda record: (record.key not in in_use, record.used))
        left = 0
        for record in kept:
            left += record.size
            if left > max_bytes and record.key not in in_use:
                gone.append(record)
    for record in gone:
        record.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            record.path.parent.rmdir()  # only if it is empty
    return len(gone), sum(record.size for record in gone)
