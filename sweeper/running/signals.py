"""Ctrl-C and SIGTERM: both end a sweep cleanly, with Ray and without."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")


@contextlib.contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """Turn SIGTERM into SIGINT, because Ray Tune already ends cleanly on SIGINT (Ctrl-C)."""
    if not _in_main_thread():
        yield
        return

    def interrupt(*_: Any) -> None:
        if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a script's background processes ignore SIGINT
            raise KeyboardInterrupt
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Interruptible:
    """A context in which SIGINT ends a running `step` at once. Between steps it only sets `interrupted`, because the
    record and the queue must not be left half changed. A second SIGINT always raises `KeyboardInterrupt`."""

    def __init__(self) -> None:
        self.interrupted = self._stepping = False

    def __enter__(self) -> Interruptible:
        self._before = signal.signal(signal.SIGINT, self._interrupt) if _in_main_thread() else None
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def step(self, step: Callable[[], T]) -> T | None:
        """What `step` returns; None if it was interrupted."""
        try:
            try:
                self._stepping = True
                return step()
            finally:
                self._stepping = False
        except KeyboardInterrupt:
            self.interrupted = True
            return None

    def _interrupt(self, *_: object) -> None:
        again, self.interrupted = self.interrupted, True
        if again or self._stepping:
            raise KeyboardInterrupt


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
