"""Does writes in order, in its own thread, and waits while the place that they go to does not answer.

A write that fails half-way is done again from its start, so it must be safe to do twice.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from ..errors import StoppedError

# Between attempts while the place does not answer; and how long the end of a sweep waits for it.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
PATIENCE_SECONDS = 600.0


class AwayError(StoppedError):
    """The place to write to did not answer again in time."""


class Outbox:
    """`put` adds work and returns at once. If `away(error)` is true, the error is temporary, and the work is done again
    until it succeeds. Any other error is raised by the next `put` or `flush`. `say` gets messages for people; `name` is
    the name of the place.
    """

    def __init__(self, name: str, away: Callable[[Exception], bool], say: Callable[[str], None]):
        self._name, self._away, self._say = name, away, say
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue()
        self._error: Exception | None = None
        self._last: Exception | None = None
        self._abandoned = threading.Event()
        self._changed = threading.Condition()
        self._left = 0
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def put(self, work: Callable[[], None]) -> None:
        """Do this after all earlier work. Raises the error if earlier work has failed for good."""
        self._raise()
        with self._changed:
            self._left += 1
        self._waiting.put(work)

    def flush(self, patience: float = PATIENCE_SECONDS) -> None:
        """Return when all is written or abandoned. Raises `AwayError` if that takes more than `patience` seconds."""
        until = time.monotonic() + patience
        with self._changed:
            while self._left and not self._abandoned.is_set() and (remaining := until - time.monotonic()) > 0:
                self._changed.wait(min(remaining, 1.0))  # short waits, so that Ctrl-C works
            left, last = self._left, self._last
        self._raise()
        if left and not self._abandoned.is_set():
            self.abandon()
            away = f"{self._name} is away ({_first_line(last)})"
            raise AwayError(f"{away}; {left} writes are not done, the same command completes them")

    def abandon(self) -> None:
        """Drop the work that is not done yet."""
        self._abandoned.set()
        self._waiting.put(None)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (work := self._waiting.get()) is not None and not self._abandoned.is_set():
            try:
                self._until_done(work)
            except Exception as error:
                self._error = error
                self._abandoned.set()
            with self._changed:
                self._left -= 1
                self._changed.notify_all()

    def _until_done(self, work: Callable[[], None]) -> None:
        pause = FIRST_PAUSE
        while not self._abandoned.is_set():
            try:
                work()
            except Exception as error:
                if not self._away(error):
                    raise
                if self._last is None:
                    self._say(f"{self._name} is away ({_first_line(error)}); results wait until it is back")
                self._last = error
                self._abandoned.wait(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if self._last is not None:
                    self._say(f"{self._name} is back")
                self._last = None
                return


def _first_line(error: BaseException | None) -> str:
    """The first line of the error that caused this one, because it is usually the shortest."""
    while error and (cause := error.__cause__ or error.__context__):
        error = cause
    return (str(error).splitlines() or [""])[0] if error else "it is slow"
