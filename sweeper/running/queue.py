"""Which trial runs next: none whose next epochs another one is computing, of the others the one with most left to do.

A trial waits while a running one is on their common prefix, and is released when that one has passed the branch, has
ended, or was lost. When nothing runs nothing waits, so there is no deadlock. What is made once for many trials
(pre-trained weights, feature maps) is such a prefix too: the first trial that needs it makes it, beside trials that
need something else.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

from ..spaces.space import Trial
from .events import Listener
from .messages import Failure, Report


class Queue(Listener):
    """The trials that wait. `stored` says how many epochs of one need not be computed again, `makes` names what it
    makes once for all, before its first epoch; `more`: others may follow, by `grown`; `most`: so many are handed out at
    most. Used from one thread.

    What a trial has left to do never grows, and what it waits for ends with a key. So heaps that are put in order where
    they are looked at, beside the trials that wait, by key, answer about as fast however many trials there are.
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
        # Trials that have not been given, by number. Heaps of (-epochs left, number), by key[0].
        self._waiting: dict[int, Trial] = {}
        self._free: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._parked: dict[str, list[int]] = defaultdict(list)
        self._numbers = itertools.count()
        # The epoch that each has finished, before its first report -1.
        self._running: dict[str, int] = {}
        # Keys that running trials are going to compute, by how many, and those that a trial has passed.
        self._computing: Counter[str] = Counter()
        self._passed: set[str] = set()
        self._at_hand = ""
        self.grown(waiting, more)

    @property
    def exhausted(self) -> bool:
        """No trial is handed out any more."""
        return self._left_to_give == 0 or not (self._waiting or self._more or self._running)

    def next(self) -> Trial | None:
        """The trial to run now; None if all that are left wait for running ones, or the queue is exhausted."""
        if self.exhausted:
            return None
        tops = [(start, *top) for start in list(self._free) if (top := self._top(start))]
        if not tops:
            return None
        # Of the longest one with the data that the actor has which has just become free, by key[0]; else the first.
        start, _, number = min(tops, key=lambda top: (top[1], top[0] != self._at_hand, top[2]))
        heapq.heappop(self._free[start])
        chosen = self._waiting.pop(number)
        if self._left_to_give is not None:
            self._left_to_give -= 1
        self.started(chosen)
        return chosen

    def grown(self, trials: Sequence[Trial], more: bool) -> None:
        """These wait as well; whether others may follow."""
        for trial in trials:
            self._stored[trial.id] = stored = self._stored_epochs(trial)
            whole = stored == len(trial.keys) - 1
            self._made[trial.id] = [] if whole else list(self._makes(trial))
            number = next(self._numbers)
            self._waiting[number] = trial
            self._push(number)
        self._more = more

    def again(self, trial: Trial) -> None:
        """A trial that was handed out has not begun, and waits as before."""
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
        """This trial is not going to compute its epochs up to `epoch`, or not again."""
        for key in self._until(trial, epoch):
            self._computing[key] -= 1
            if not self._computing[key]:
                del self._computing[key]
                for number in self._parked.pop(key, ()):
                    self._push(number)
        self._running[trial.id] = max(epoch, self._running[trial.id])

    def _until(self, trial: Trial, epoch: int) -> Sequence[str]:
        """Keys of what a running trial has done when it has finished `epoch`, from where it is now on."""
        before = self._running[trial.id]
        made = self._made[trial.id] if before < 0 <= epoch else ()
        return [*made, *trial.keys[max(before, 0) + 1 : epoch + 1]]

    def _push(self, number: int) -> None:
        trial = self._waiting[number]
        heapq.heappush(self._free[trial.keys[0]], (-self._left(trial), number))

    def _top(self, start: str) -> tuple[int, int] | None:
        """The top of a heap as it is today; trials found to wait are put aside."""
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
        """Epochs that neither the store has nor a trial of this sweep has passed."""
        keys = trial.keys
        return len(keys) - 1 - max(self._stored[trial.id], len(self._passed.intersection(keys)))
