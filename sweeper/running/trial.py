"""One trial: it continues after the longest prefix in the store, trains an epoch per step, and stores each epoch.

Runs on a worker, or in the driver's own process. Nothing here writes to MLflow, knows Ray, or decides what runs next.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from analysis.record.names import SECONDS
from methods.cache.store import Store, StoreWarning
from methods.evaluation.diagnostics import Diagnosis
from methods.training import artifacts
from methods.training.config import resolve
from methods.training.fit import Metrics, Training, flattened
from methods.training.loop import State

from ..planning.stored import FAILURE, STATE, TRAINING
from .hanging import limited
from .messages import Failure, Job, Report

# Time limit, in epochs, for what is made once for many trials (pre-trained weights, feature maps).
MADE_ONCE = 100
# A long trial stores a state at least this often, so that a lost node costs no more than that.
RECOVERY_SECONDS = 180.0


class TrialRunner:
    """Runs the trial of a job, one `step` after the other, until its report says `done`.

    The first step reports the epochs that the store has, and makes what many trials share (feature maps, say). Each
    further step trains an epoch. A step that takes longer than the job's `epoch_limit` (`MADE_ONCE` times as long for
    what is shared) ends the process. The traceback is then written to the file `traceback`, or to stderr without one.

    An exception inside an epoch is deterministic, because epochs are pure. So it is a result, a `Failure`, kept under
    the epoch's key and not tried again.
    """

    def __init__(self, job: Job, traceback: Path | None = None) -> None:
        self._job, self._keys, self._traceback = job, job.keys, traceback
        self._folder = Path(job.store)
        self._store = Store(self._folder)
        self._training: Training | None = None
        self._history: list[Metrics] = []
        # Seconds of each epoch, where known. They are kept apart from metrics, which must not depend on the machine.
        self._seconds: dict[int, float] = {}
        self._state: State = {}
        self._diagnoses: dict[str, Diagnosis] = {}
        # The best epoch so far and its state; None once that state is written.
        self._best: tuple[int, State] | None = None
        self._restored = False
        self._saved_at = time.monotonic()
        self._written: dict[str, int] = {}
        self._notes: list[str] = []
        if torch.cuda.is_initialized():  # do not count the memory of the trial before
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def step(self) -> Report:
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StoreWarning)
            if self._restored:
                with self._limited():
                    report = self._advance()
            else:
                report = self._start()
        notes = [str(one.message) for one in caught if issubclass(one.category, StoreWarning)]
        return dataclasses.replace(
            report,
            written=dict(self._written),
            notes=[*notes, *self._notes],
            seconds=time.perf_counter() - started,
        )

    def _limited(self, epochs: int = 1) -> AbstractContextManager[None]:
        limit = self._job.epoch_limit
        return limited(None if limit is None else epochs * limit, self._traceback)

    def _start(self) -> Report:
        """Report the trial if the store has all of it. Otherwise get ready to train on from the last stored state."""
        try:
            with self._limited():
                ended = self._ended()
            if ended is not None:
                return ended
            with self._limited(MADE_ONCE):
                self._runnable().make()
            with self._limited():
                self._restore()
        except Exception as error:
            return self._failed(0, error)
        self._restored = True
        return self._result(1)

    def _ended(self) -> Report | None:
        """The report of a trial that needs no training, or must not be trained here; None if it must be trained."""
        self._config = resolve(self._job.values)
        self._records = self._config.records()
        self._history = self._stored_history()
        if self._is_over():
            return self._result(1, done=True)
        failure = self._store.read_json(self._keys[len(self._history) + 1], FAILURE)
        if failure:
            return self._result(1, done=True, failure=Failure(**failure))
        if self._config.keys() != self._keys:
            return Report(done=True, refused=True)
        return None

    def _advance(self) -> Report:
        epoch = len(self._history) + 1
        training = self._runnable()
        try:
            watch = training.watch()
            started = time.perf_counter()
            self._state, trained = training.train(self._state, epoch, watch)
            seconds = time.perf_counter() - started
            scores = training.scores(self._state, epoch)
        except Exception as error:
            return self._failed(epoch, error)
        try:
            measured = training.measure(scores)
            self._diagnoses = training.diagnose(self._state, epoch, watch, self._diagnoses)
            self._history.append(trained | measured | flattened(self._diagnoses))
            self._seconds[epoch] = seconds
            self._write(epoch, {**trained, SECONDS: seconds}, scores, measured)
            gpu_memory = torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0
            return self._result(epoch, done=self._is_over(), trained=True, gpu_memory=gpu_memory)
        except Exception as error:
            # Measuring failed, not training: no failure is stored, since another trial may measure it without error.
            return self._failed(0, error)

    def _is_over(self) -> bool:
        """Whether the trial has all its epochs, or its own history ends it."""
        return len(self._history) == len(self._keys) - 1 or self._job.select.ends(self._history) is not None

    def _result(self, first: int, done: bool = False, failure: Failure | None = None, **more: Any) -> Report:
        reported = {epoch: self._history[epoch - 1] for epoch in range(first, len(self._history) + 1)}
        ended = done and failure is None
        if ended and self._seconds:
            # Estimated from the median epoch, because the first epoch in a process also loads data and makes features.
            whole = len(self._history) * statistics.median(self._seconds.values())
            reported[len(self._history)] = {**self._history[-1], SECONDS: whole}
        return Report(reported, done=done, artifacts=self._artifacts() if ended else {}, failure=failure, **more)

    def _artifacts(self) -> dict[str, bytes]:
        """Files for the trial's run, made from its last state; none if the store lacks that state."""
        training, epoch = self._runnable, len(self._history)
        wanted: dict[str, Callable[[State], bytes | None]] = {}
        if self._config.diagnostics.pictures and "modifications" in self._diagnoses:
            since = self._diagnoses["modifications"].kept["since"]
            wanted["corrections.npz"] = lambda state: artifacts.corrections(training(), state, epoch, since)
        if self._config.diagnostics.cooccurrence:
            wanted["cooccurrence.npz"] = lambda state: artifacts.cooccurrence(training(), state, epoch)
        if self._config.diagnostics.similar_images:
            wanted["similar_images.npz"] = lambda state: artifacts.similar_images(training(), state, epoch)
        if self._config.diagnostics.attention:
            wanted["attention.npz"] = lambda state: artifacts.attention(training(), state, epoch)
        if not wanted:
            return {}
        state = self._state or self._store.read_tensors(self._keys[epoch], STATE)
        if not state:
            return {}
        files = {name: make(state) for name, make in wanted.items()}
        return {name: file for name, file in files.items() if file is not None}

    def _runnable(self) -> Training:
        if self._training is None:
            self._training = Training(self._config, self._folder)
        return self._training

    def _stored_history(self) -> list[Metrics]:
        """The metrics of the first epochs, as far as stored and up to the trial's end. Missing metrics are measured
        again from stored scores."""
        history: list[Metrics] = []
        for key in self._keys[1:]:
            trained = self._store.read_json(key, TRAINING)
            measured = self._store.read_json(key, self._records.metrics) if trained is not None else None
            if trained is not None and measured is None:
                scores = self._store.read_tensors(key, self._records.scores)
                if scores is not None:
                    measured = self._runnable().measure(scores)
                    self._tolerant(self._store.write_json, key, self._records.metrics, measured)
            diagnoses = self._stored_diagnoses(key) if measured is not None else None
            if trained is None or measured is None or diagnoses is None:
                break
            self._diagnoses = diagnoses
            if SECONDS in trained:
                self._seconds[len(history) + 1] = trained.pop(SECONDS)
            history.append(trained | measured | flattened(diagnoses))
            if self._job.select.ends(history):
                break
        return history

    def _stored_diagnoses(self, key: str) -> dict[str, Diagnosis] | None:
        """The stored diagnostics that the trial asks for; None if the store lacks one of them."""
        found = {name: self._store.read_tensors(key, record) for name, record in self._records.diagnostics}
        whole = {name: Diagnosis.of(tensors) for name, tensors in found.items() if tensors is not None}
        return whole if len(whole) == len(found) else None

    def _restore(self) -> None:
        for epoch in range(len(self._history), 0, -1):
            state = self._store.read_tensors(self._keys[epoch], STATE)
            if state is not None:
                self._state = state
                break
        else:
            epoch, self._state = 0, self._runnable().initial_state()
        del self._history[epoch:]
        self._diagnoses = (self._stored_diagnoses(self._keys[epoch]) or {}) if epoch else {}

    def _write(self, epoch: int, trained: Metrics, scores: dict[str, torch.Tensor], measured: Metrics) -> None:
        """Write an epoch into the store. Its metrics come last, because an epoch with metrics counts as stored.

        With a state from which training may continue (in another trial, or in a later attempt), the state of the best
        epoch so far is written too, because the trial that continues may select that earlier epoch for its results.
        """
        key = self._keys[epoch]
        if self._job.select.choose(self._history) == epoch:
            self._best = epoch, self._state
        kept = epoch in self._job.keep or self._job.select.ends(self._history) is not None
        if kept or time.monotonic() - self._saved_at > RECOVERY_SECONDS:
            self._tolerant(self._store.write_tensors, key, STATE, self._state)
            if self._best and self._best[0] != epoch:
                self._tolerant(self._store.write_tensors, self._keys[self._best[0]], STATE, self._best[1])
            self._best, self._saved_at = None, time.monotonic()
        for name, record in self._records.diagnostics:
            self._tolerant(self._store.write_tensors, key, record, self._diagnoses[name].tensors())
        self._tolerant(self._store.write_tensors, key, self._records.scores, scores)
        self._tolerant(self._store.write_json, key, TRAINING, trained)
        self._tolerant(self._store.write_json, key, self._records.metrics, measured)

    def _tolerant(self, write: Any, key: str, record: str, value: Any) -> None:
        """Write a record, or note that the store cannot be written: an epoch is trained again, no result is lost."""
        try:
            self._written[record.partition("-")[0]] = write(key, record, value)
        except OSError as error:
            note = f"{self._store.folder}: the store cannot be written ({error.strerror}); MLflow still is"
            self._notes.append(note)

    def _failed(self, epoch: int, error: Exception) -> Report:
        failure = Failure(f"{type(error).__name__}: {error}", traceback.format_exc())
        # Store only errors of the epoch itself. Lack of memory or disk, and errors before an epoch, may not come again.
        if epoch and not isinstance(error, (OSError, MemoryError, torch.OutOfMemoryError)):
            self._tolerant(self._store.write_json, self._keys[epoch], FAILURE, vars(failure))
        return Report(done=True, failure=failure)
