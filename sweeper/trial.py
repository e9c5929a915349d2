"""One trial in a Ray actor: an epoch per step, everything that can be shared kept between trials.

Runs on the workers. Nothing here writes to MLflow or decides what runs next.
"""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import tune

from methods.config import resolve
from methods.training import Training


class TrialActor(tune.Trainable):
    """Ray's view of a trial. Actors are reused: data, backbones and features stay in this process between trials.

    An exception inside an epoch is deterministic (epochs are pure), so it is a result, `failure`, and not retried; what
    Ray sees fail is the infrastructure, and that is.
    """

    def setup(self, config: Mapping[str, Any]) -> None:
        self._training: Training | None = None
        self._config = config
        self._epoch = 0

    def reset_config(self, new_config: Mapping[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self._training is None:
                self._training = Training(resolve(self._config["values"]), Path(self._config["cache_folder"]))
                self._state = self._training.initial_state()
            self._epoch += 1
            self._state, metrics = self._training.advance(self._state, self._epoch)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            return {"failure": {"reason": reason, "traceback": traceback.format_exc()}, "done": True}
        done = self._epoch == self._training.config.train.epochs
        return {"epoch": self._epoch, "metrics": metrics, "done": done}

    # Ray asks for both; what there is to restore will be in the store.
    def save_checkpoint(self, checkpoint_dir: str) -> None:
        return None

    def load_checkpoint(self, checkpoint: Any) -> None:
        return None
