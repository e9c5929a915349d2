"""One trial in a Ray actor: from the longest prefix in the store on, an epoch per step, into the store.

Runs on the workers. Nothing here writes to MLflow or decides what runs next.
"""

from __future__ import annotations

import base64
import contextlib
import faulthandler
import json
import statistics
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

import ray
import torch
from ray import tune

from analysis.record.names import SECONDS
from methods.evaluation.diagnostics import Diagnosis
from methods.training import artifacts
from methods.training.config import resolve
from methods.training.fit import Metrics, Training, flattened
from methods.training.loop import State

from ..planning.stored import FAILURE, STATE, TRAINING
from ..spaces.space import Select
from .retention import Store, StoreWarning

# What rules that stop trials early are told of.
EPOCH, SCORE = "epoch", "score"
# What is made once for all trials may take the time of so many epochs.
MADE_ONCE = 100
# A long trial keeps a state at least this often, so that a lost node costs no more.
RECOVERY_SECONDS = 180.0


def traceback_file(folder: Path, trial: str) -> Path:
    """Where a worker that ends itself because it hangs says what it was doing."""
    return folder / "hanging" / trial


def _gpu_memory() -> int:
    return torch.cuda.max_memory_reserved() if torch.cuda.is_initialized() else 0


class TrialActor(tune.Trainable):
    """Ray's view of a trial. Actors are reused: data, backbones and features stay in this process between trials.

    Configured by `values` (the dotted settings), `keys` (key[0] … key[E]), `keep` (epochs whose state others start
    from), `select` (metric and epoch of the space's rule), `stoppable` (whether a rule may stop it) and `store` (its
    folder). The first step reports what the store has and makes what is made once for all trials, each further one
    trains an epoch: what `reported` reads. An epoch that takes more than `epoch_limit` seconds (what is made once:
    `MADE_ONCE` times as long) ends the process and leaves its traceback beside the store.

    An exception inside an epoch is deterministic (epochs are pure), so it is a result, `failure`, kept under the
    epoch's key and not retried; what Ray sees fail is the infrastructure, and that is.
    """

    def setup(self, config: Mapping[str, Any]) -> None:
        self._keys: list[str] = config["keys"]
        self._keep: list[int] = config["keep"]
        self._values: Mapping[str, Any] = config["values"]
        self._select = Select(*config["select"])
        self._stoppable: bool = config["stoppable"]
        self._folder = Path(config["store"])
        self._trial_id, self._limit = config["trial"], config["epoch_limit"]
        self._store = Store(self._folder)
        self._training: Training | None = None
        self._history: list[Metrics] = []
        # What each epoch took, where the store knows. Not among its metrics, which are the same wherever it is trained.
        self._seconds: dict[int, float] = {}
        self._state: State = {}
        self._diagnoses: dict[str, Diagnosis] = {}
        # Of the best epoch so far, until it is written: the state.
        self._best: tuple[int, State] | None = None
        self._restored = False
        self._saved_at = time.monotonic()
        self._written: dict[str, int] = {}
        self._notes: list[str] = []
        if torch.cuda.is_initialized():  # what the trial before it had is not its own
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", StoreWarning)
            if self._restored:
                with self._limited():
                    result = self._advance()
            else:
                result = self._start()
        notes = [str(one.message) for one in caught if issubclass(one.category, StoreWarning)]
        report = {"trained": 0, "written": self._written, **result, "notes": notes + self._notes}
        # As one text: Ray Tune keeps statistics and a copy of every number that it is shown.
        told = {"done": report["done"], "report": json.dumps(report)}
        if self._stoppable and self._history:
            told |= {EPOCH: len(self._history), SCORE: self._history[-1][self._select.metric]}
        return told

    @contextlib.contextmanager
    def _limited(self, epochs: int = 1) -> Iterator[None]:
        """Ends this process if it is not left in the time of so many epochs, whatever it hangs in; no thread of Python
        has to run for that."""
        if self._limit is None:
            yield
            return
        path = traceback_file(self._folder, self._trial_id)
        with contextlib.ExitStack() as stack:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                file: TextIO = stack.enter_context(path.open("w"))
                stack.callback(path.unlink, missing_ok=True)
            except OSError:  # it cannot be written to: then where the worker's log is
                file = sys.stderr
            faulthandler.dump_traceback_later(epochs * self._limit, exit=True, file=file)
            stack.callback(faulthandler.cancel_dump_traceback_later)
            yield

    def _start(self) -> dict[str, Any]:
        """Where the store is whole it is the trial; else training goes on from the last state that it has."""
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

    def _ended(self) -> dict[str, Any] | None:
        """What there is to report of a trial that needs no training here, or must not have it; None of others."""
        self._config = resolve(self._values)
        self._records = self._config.records()
        self._history = self._stored_history()
        if len(self._history) == len(self._keys) - 1:
            return self._result(1, done=True)
        failure = self._store.read_json(self._keys[len(self._history) + 1], FAILURE)
        if failure:
            return self._result(1, done=True, failure=failure)
        if self._config.keys() != self._keys:
            refused = ray.get_runtime_context().get_node_id()
            return {"epochs": {}, "refused": refused, "done": True, "artifacts": {}}
        return None

    def _advance(self) -> dict[str, Any]:
        epoch = len(self._history) + 1
        training = self._runnable()
        try:
            watch = training.watch()
            started = time.perf_counter()
            self._state, said = training.train(self._state, epoch, watch)
            seconds = time.perf_counter() - started
            scores = training.scores(self._state, epoch)
        except Exception as error:
            return self._failed(epoch, error)
        try:
            measured = training.measure(scores)
            self._diagnoses = training.diagnose(self._state, epoch, watch, self._diagnoses)
            self._history.append(said | measured | flattened(self._diagnoses))
            self._seconds[epoch] = seconds
            self._write(epoch, {**said, SECONDS: seconds}, scores, measured)
            done = epoch == len(self._keys) - 1
            return self._result(epoch, done=done, trained=1, gpu_memory=_gpu_memory())
        except Exception as error:
            # Not the epoch's doing: trials that look at it in another way, or not at all, have their result.
            return self._failed(0, error)

    def _result(self, first: int, done: bool = False, **more: Any) -> dict[str, Any]:
        reported = {epoch: self._history[epoch - 1] for epoch in range(first, len(self._history) + 1)}
        if done and "failure" not in more and self._seconds:
            # By the median epoch: the first in a process loads data and makes features, which the others find there.
            whole = len(self._history) * statistics.median(self._seconds.values())
            reported[len(self._history)] = {**self._history[-1], SECONDS: whole}
        artifacts = self._artifacts() if done and "failure" not in more else {}
        return {"epochs": reported, "done": done, "artifacts": artifacts, **more}

    def _artifacts(self) -> dict[str, str]:
        """Files for the trial's run, base64; left out where the store has all but the state that they need."""
        wanted: dict[str, Callable[[State], bytes | None]] = {}
        if self._config.diagnostics.pictures and "modifications" in self._diagnoses:
            since = self._diagnoses["modifications"].kept["since"]
            wanted["corrections.npz"] = lambda state: artifacts.corrections(self._runnable(), state, since)
        if self._config.diagnostics.cooccurrence:
            wanted["cooccurrence.npz"] = lambda state: artifacts.cooccurrence(self._runnable(), state)
        if self._config.diagnostics.attention:
            wanted["attention.npz"] = lambda state: artifacts.attention(self._runnable(), state)
        if not wanted:
            return {}
        state = self._state or self._store.read_tensors(self._keys[-1], STATE)
        if not state:
            return {}
        files = {name: make(state) for name, make in wanted.items()}
        return {name: base64.b64encode(file).decode() for name, file in files.items() if file is not None}

    def _runnable(self) -> Training:
        if self._training is None:
            self._training = Training(self._config, self._folder)
        return self._training

    def _stored_history(self) -> list[Metrics]:
        """The metrics of the first epochs that the store has, measured again from their scores where need be."""
        history: list[Metrics] = []
        for key in self._keys[1:]:
            said = self._store.read_json(key, TRAINING)
            measured = self._store.read_json(key, self._records.metrics) if said is not None else None
            if said is not None and measured is None:
                scores = self._store.read_tensors(key, self._records.scores)
                if scores is not None:
                    measured = self._runnable().measure(scores)
                    self._tolerant(self._store.write_json, key, self._records.metrics, measured)
            diagnoses = self._stored_diagnoses(key) if measured is not None else None
            if said is None or measured is None or diagnoses is None:
                break
            self._diagnoses = diagnoses
            if SECONDS in said:
                self._seconds[len(history) + 1] = said.pop(SECONDS)
            history.append(said | measured | flattened(diagnoses))
        return history

    def _stored_diagnoses(self, key: str) -> dict[str, Diagnosis] | None:
        """The diagnostics that are on; None unless the store has all of them."""
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

    def _write(self, epoch: int, said: Metrics, scores: dict[str, torch.Tensor], measured: Metrics) -> None:
        """Into the store; last what makes the epoch count as stored.

        With a state that others or a later attempt may start from goes that of the best epoch so far, which is then
        there whoever goes on from here.
        """
        key = self._keys[epoch]
        if self._select.choose(self._history) == epoch:
            self._best = epoch, self._state
        if epoch in self._keep or time.monotonic() - self._saved_at > RECOVERY_SECONDS:
            self._tolerant(self._store.write_tensors, key, STATE, self._state)
            if self._best and self._best[0] != epoch:
                self._tolerant(self._store.write_tensors, self._keys[self._best[0]], STATE, self._best[1])
            self._best, self._saved_at = None, time.monotonic()
        for name, record in self._records.diagnostics:
            self._tolerant(self._store.write_tensors, key, record, self._diagnoses[name].tensors())
        self._tolerant(self._store.write_tensors, key, self._records.scores, scores)
        self._tolerant(self._store.write_json, key, TRAINING, said)
        self._tolerant(self._store.write_json, key, self._records.metrics, measured)

    def _tolerant(self, write: Any, key: str, record: str, value: Any) -> None:
        """A store that cannot be written costs time later, and nothing else: it is reported."""
        try:
            self._written[record.partition("-")[0]] = write(key, record, value)
        except OSError as error:
            note = f"{self._store.folder}: the store cannot be written ({error.strerror}); MLflow still is"
            self._notes.append(note)

    def _failed(self, epoch: int, error: Exception) -> dict[str, Any]:
        failure = {"reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        # What the machine lacks, or what fails before an epoch (a missing file, say), is not the epoch's doing.
        if epoch and not isinstance(error, (OSError, MemoryError, torch.OutOfMemoryError)):
            self._tolerant(self._store.write_json, self._keys[epoch], FAILURE, failure)
        return {"epochs": {}, "failure": failure, "done": True, "artifacts": {}}

    # Ray asks for both; what there is to restore is in the store.
    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        return None
