"""One trial in a Ray actor: from the longest prefix in the store on, an epoch per step, into the store.

Runs on the workers. Nothing here writes to MLflow or decides what runs next.
"""

from __future__ import annotations

import time
import traceback
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ray import tune

from methods.config import resolve
from methods.epochs import State
from methods.training import Training

from .store import FAILURE, STATE, DamagedRecordWarning, Store

# A long trial keeps a state at least this often, so that a lost node costs no more.
RECOVERY_SECONDS = 180.0


class TrialActor(tune.Trainable):
    """Ray's view of a trial. Actors are reused: data, backbones and features stay in this process between trials.

    Configured by `values` (the dotted settings), `keys` (key[0] … key[E]), `keep` (epochs whose state others start
    from), `metrics` (the name of the metrics' record), `store` and `cache_folder`. The first step reports what the
    store has, each further one an epoch.

    An exception inside an epoch is deterministic (epochs are pure), so it is a result, `failure`, kept under the
    epoch's key and not retried; what Ray sees fail is the infrastructure, and that is.
    """

    def setup(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._keys: list[str] = config["keys"]
        self._store = Store(Path(config["store"]))
        self._training: Training | None = None
        self._state: State = {}
        self._epoch = 0
        self._notes: list[str] = []

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        if self._training is None:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DamagedRecordWarning)
                result = self._start()
            damaged = [str(one.message) for one in caught if issubclass(one.category, DamagedRecordWarning)]
            return result | {"notes": damaged}
        epoch = self._epoch + 1
        try:
            self._state, metrics = self._training.advance(self._state, epoch)
        except Exception as error:
            return self._failed(epoch, error)
        self._epoch = epoch
        self._keep(epoch, metrics)
        done = epoch == len(self._keys) - 1
        return {"epochs": {epoch: metrics}, "trained": 1, "done": done, "notes": self._notes}

    def _start(self) -> dict[str, Any]:
        """Where the store is whole it is the trial; else training goes on from the last state that it has."""
        history = self._stored_history()
        if len(history) == len(self._keys) - 1:
            return {"epochs": history, "trained": 0, "done": True}
        failure = self._store.read_json(self._keys[len(history) + 1], FAILURE)
        if failure:
            return {"epochs": history, "failure": failure, "trained": 0, "done": True}
        try:
            self._training = Training(resolve(self._config["values"]), Path(self._config["cache_folder"]))
            self._restore(len(history))
        except Exception as error:
            return self._failed(0, error)
        reported = {epoch: history[epoch] for epoch in range(1, self._epoch + 1)}
        return {"epochs": reported, "trained": 0, "done": False}

    def _stored_history(self) -> dict[int, dict[str, float]]:
        history: dict[int, dict[str, float]] = {}
        for epoch, key in enumerate(self._keys[1:], start=1):
            metrics = self._store.read_json(key, self._config["metrics"])
            if metrics is None:
                break
            history[epoch] = metrics
        return history

    def _restore(self, last: int) -> None:
        assert self._training is not None
        self._saved_at = time.monotonic()
        for epoch in range(last, 0, -1):
            state = self._store.read_tensors(self._keys[epoch], STATE)
            if state is not None:
                self._state, self._epoch = state, epoch
                return
        self._state = self._training.initial_state()

    def _keep(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Into the store. A store that cannot be written costs time later, and nothing else: it is reported."""
        try:
            if epoch in self._config["keep"] or time.monotonic() - self._saved_at > RECOVERY_SECONDS:
                self._store.write_tensors(self._keys[epoch], STATE, self._state)
                self._saved_at = time.monotonic()
            self._store.write_json(self._keys[epoch], self._config["metrics"], metrics)
        except OSError as error:
            self._unwritten(error)

    def _unwritten(self, error: OSError) -> None:
        self._notes.append(f"{self._store.folder}: the store cannot be written ({error.strerror}); MLflow still is")

    def _failed(self, epoch: int, error: Exception) -> dict[str, Any]:
        failure = {"reason": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        # What the machine lacks, or what fails before an epoch (a missing file, say), is not the epoch's doing.
        if epoch and not isinstance(error, (OSError, MemoryError, torch.OutOfMemoryError)):
            try:
                self._store.write_json(self._keys[epoch], FAILURE, failure)
            except OSError as problem:
                self._unwritten(problem)
        return {"epochs": {}, "failure": failure, "trained": 0, "done": True, "notes": self._notes}

    # Ray asks for both; what there is to restore is in the store.
    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        return None
