"""Trials that hang, for both executors."""

from __future__ import annotations

import dataclasses
import time

from sweeper.running.messages import Report
from sweeper.running.trial import TrialRunner


class Hanging(TrialRunner):
    """Hangs in its second epoch, so many times. Its limit is short only where it hangs: no other step is a race."""

    times = 1

    def step(self) -> Report:
        self._job = dataclasses.replace(self._job, epoch_limit=0.2 if self._hangs() else None)
        return super().step()

    def _advance(self) -> Report:
        if self._hangs():
            with (self._folder / "hung.txt").open("a") as file:
                file.write("once\n")
            for_ever()
        return super()._advance()

    def _hangs(self) -> bool:
        so_far = self._folder / "hung.txt"
        return len(self._history) == 1 and (not so_far.exists() or so_far.read_text().count("\n") < self.times)


class HangingAgain(Hanging):
    times = 10


def for_ever() -> None:
    while True:
        time.sleep(1)
