"""Which trial runs next.

A trial waits while a running trial computes epochs that both need, so that no epoch is trained twice. It is free when
the running trial has passed these epochs, has ended, or is lost. Of the free trials, the one with most epochs left is
next. Trials wait only for running trials, so there is no deadlock. What is made once for many trials (pre-trained
weights, feature maps) counts like epochs: the first trial that needs it makes it, and only others that need it wait.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from ..spaces.trial import Trial
from .events import Listener
from .messages import Failure, Report


class Queue(Listener):
    """The trials that wait. `stored` says how many epochs of a trial need not be computed again. `makes` gives the keys
    of what a trial makes for many trials before its first epoch. `more`: `grown` may add trials. `most`: the largest
    number of trials to hand out. Used from one thread.

    The number of epochs left of a trial only decreases. So free trials stand in heaps by epochs left, and an entry is
    corrected only when it is at the top. Other trials are listed under the key that they wait for. So the time to find
    the next trial hardly depends on the number of trials.
    """

    def __init__(
        self,
        waiting: Sequence[Trial],
        stored: Callable[[Trial], int],
        makes: Callable[[Trial], Collection[str]] = lambda trial: (),
        more: bool = False,
        most: int | None = None,
    ):
        self._stored_epochs, self._makes = stored, makes
        self._left_to_give = most
        self._stored: dict[str, int] = {}
        self._made: dict[str, list[str]] = {}
        # Trials that have not been handed out, by number; heaps of (-epochs left, number), by key[0].
        self._waiting: dict[int, Trial] = {}
        self._free: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._parked: dict[str, list[int]] = defaultdict(list)
        self._numbers = itertools.count()
        # The last epoch that each running trial has finished; -1 before its first report.
        self._running: dict[str, int] = {}
        # How many running trials will compute a key; the keys that some trial has finished.
        self._computing: Counter[str] = Counter()
        self._passed: set[str] = set()
        self._at_hand = ""
        self.grown(waiting, more)

    @property
    def exhausted(self) -> bool:
        """Whether no more trials will be handed out."""
        return self._left_to_give == 0 or not (self._waiting or self._more or self._running)

    def next(self) -> Trial | None:
        """The trial to run now; None if all that are left wait for running ones, or the queue is exhausted."""
        if self.exhausted:
            return None
        tops = [(start, *top) for start in list(self._free) if (top := self._top(start))]
        if not tops:
            return None
        # Of equally long trials, prefer the data (key[0]) of the trial that has just ended: a worker has them loaded.
        start, _, number = min(tops, key=lambda top: (top[1], top[0] != self._at_hand, top[2]))
        heapq.heappop(self._free[start])
        chosen = self._waiting.pop(number)
        if self._left_to_give is not None:
            self._left_to_give -= 1
        self.started(chosen)
        return chosen

    def grown(self, trials: Sequence[Trial], more: bool) -> None:
        """Add these trials to those that wait; `more`: others may follow."""
        for trial in trials:
            self._stored[trial.id] = stored = self._stored_epochs(trial)
            whole = stored == len(trial.keys) - 1
            self._made[trial.id] = [] if whole else list(self._makes(trial))
            number = next(self._numbers)
            self._waiting[number] = trial
            self._push(number)
        self._more = more

    def again(self, trial: Trial) -> None:
        """Put back a trial that was handed out and could not begin."""
        self.ended(trial)
        if self._left_to_give is not None:
            self._left_to_give += 1
        self.grown([trial], self._more)

    def started(self, trial: Trial) -> None:
        """A trial runs, for the first time or again after its worker was lost."""
        self.ended(trial)
        self._running[trial.id] = -1
        self._made[trial.id] = [key for key in self._made[trial.id] if key not in self._passed]
        self._computing.update(self._until(trial, len(trial.keys) - 1))

    def reached(self, trial: Trial, epoch: int) -> None:
        """A running trial has finished `epoch`; 0: it is about to train its first."""
        self._passed.update(self._until(trial, epoch))
        self._release(trial, epoch)

    def ended(self, trial: Trial) -> None:
        """A trial is done, has failed, or is lost."""
        if trial.id in self._running:
            self._release(trial, len(trial.keys) - 1)
            del self._running[trial.id]
            self._at_hand = trial.keys[0]

    def reported(self, trial: Trial, report: Report) -> None:
        if report.failure is None:
            self.reached(trial, max(report.epochs, default=0))

    def finished(self, trial: Trial, results: Mapping[str, float]) -> None:
        self.ended(trial)

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        self.ended(trial)

    def failed(self, trial: Trial, failure: Failure) -> None:
        self.ended(trial)

    def _release(self, trial: Trial, epoch: int) -> None:
        """The trial has finished `epoch`: free the trials that wait for its epochs up to that one."""
        for key in self._until(trial, epoch):
            self._computing[key] -= 1
            if not self._computing[key]:
                del self._computing[key]
                for number in self._parked.pop(key, ()):
                    self._push(number)
        self._running[trial.id] = max(epoch, self._running[trial.id])

    def _until(self, trial: Trial, epoch: int) -> Sequence[str]:
        """Keys that a running trial still has to compute until it has finished `epoch`."""
        before = self._running[trial.id]
        made = self._made[trial.id] if before < 0 <= epoch else ()
        return [*made, *trial.keys[max(before, 0) + 1 : epoch + 1]]

    def _push(self, number: int) -> None:
        trial = self._waiting[number]
        heapq.heappush(self._free[trial.keys[0]], (-self._left(trial), number))

    def _top(self, start: str) -> tuple[int, int] | None:
        """The top of a heap, with a correct number of epochs left. Trials that must wait are moved out of the heap."""
        heap = self._free[start]
        while heap:
            left, number = heap[0]
            trial = self._waiting[number]
            chain = itertools.chain(self._made[trial.id], trial.keys)
            awaited = next((key for key in chain if key in self._computing), None)
            if awaited is not None:
                heapq.heappop(heap)
                self._parked[awaited].append(number)
            elif left != -self._left(trial):
                heapq.heapreplace(heap, (-self._left(trial), number))
            else:
                return heap[0]
        del self._free[start]
        return None

    def _left(self, trial: Trial) -> int:
        """How many epochs of a trial are neither stored nor passed by a trial of this sweep."""
        keys = trial.keys
        return len(keys) - 1 - max(self._stored[trial.id], len(self._passed.intersection(keys)))
