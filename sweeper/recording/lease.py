"""Who runs a sweep now: one driver, which holds a lease and renews it while it lives.

A driver on this machine is alive if its process is. A driver on another machine counts as dead when its lease has not
changed for longer than a renewal takes. Clocks of two machines are not compared, because they may differ. The caller
knows where a lease is kept (a tag of the sweep's run).
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import StoppedError

LEASE_SECONDS = 60.0
HEARTBEAT_SECONDS = 15.0


class TakenError(StoppedError):
    """A living driver runs this sweep."""


@dataclass(frozen=True)
class Lease:
    """`host` and `process` identify a driver; `renewed` differs between one renewal and the next."""

    host: str
    process: str
    renewed: float

    @classmethod
    def mine(cls) -> Lease:
        """This process's lease, renewed now."""
        return cls(_host(), _process(os.getpid()) or "", time.monotonic())

    @classmethod
    def read(cls, text: str | None) -> Lease | None:
        """The lease in `text`; None if there is no text, or if it is not a lease."""
        try:
            return cls(**json.loads(text or ""))
        except (ValueError, TypeError):
            return None

    def text(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def same_driver(self, other: Lease | None) -> bool:
        return other is not None and (self.host, self.process) == (other.host, other.process)

    def here(self) -> bool:
        """Whether its driver is, or was, a process of this machine."""
        return self.host == _host()

    def running(self) -> bool:
        """Whether the driver's process is alive. Only valid if the lease is `here`."""
        return _process(int(self.process.partition(":")[0])) == self.process

    def __str__(self) -> str:
        return f"process {self.process.partition(':')[0]} on {self.host.partition(' ')[0]}"


def wait_for(read: Callable[[], Lease | None], say: Callable[[str], None]) -> None:
    """Return when nobody else holds the lease that `read` returns.

    Raises `TakenError` if its holder is alive: its process runs on this machine, or it renews the lease meanwhile.
    """
    first = read()
    if first is None or first.same_driver(Lease.mine()) or (first.here() and not first.running()):
        return
    if not first.here():
        say(f"waiting {LEASE_SECONDS:.0f} s for a sign of life of {first}, which ran this sweep last")
        until = time.monotonic() + LEASE_SECONDS
        while (lease := read()) == first and time.monotonic() < until:
            time.sleep(HEARTBEAT_SECONDS / 3)
        if lease in (None, first):
            return
        first = lease
    raise TakenError(f"{first} is running this sweep; it is left alone")


def _host() -> str:
    """A name of this machine, new at each start. Containers with their own process numbers get their own name."""
    parts = [platform.node()]
    if Path("/proc/self").exists():
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _process(pid: int) -> str | None:
    """The number and the start time of a process, because numbers are used again; None if it has ended."""
    if not Path("/proc/self").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass
        return f"{pid}:"
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else f"{pid}:{fields[19]}"
