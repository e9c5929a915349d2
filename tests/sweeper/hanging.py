"""Trials that hang, for both executors."""

from __future__ import annotations

import dataclasses
import time

from sweeper.running.messages import Report
from sweeper.running.trial import TrialRunner


class Hanging(TrialRunner):
    """Hangs in its second epoch: once with seed 1, each time with another seed. Its limit is short only where it hangs:
    no other step is a race."""

    def step(self) -> Report:
        self._job = dataclasses.replace(self._job, epoch_limit=0.2 if self._hangs() else None)
        return super().step()

    def _advance(self) -> Report:
        if self._hangs():
            self._hung.touch()
            for_ever()
        return super()._advance()

    def _hangs(self) -> bool:
        self._hung = self._folder / f"hung-{self._job.trial}"
        return len(self._history) == 1 and (self._job.values["seed"] != 1 or not self._hung.exists())


def for_ever() -> None:
    while True:
        time.sleep(1)
