"""Training one configuration from Python, epoch by epoch or to the end.

    from methods import fit
    result = fit("large_loss", {"scheme": "reject", "data.labels": "single_positive", "train.epochs": 4}, seed=1)
    print(result.history[-1]["test/map"])

Nothing here knows of sweeps, of Ray or of MLflow; the sweeper drives `Training` one epoch at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from . import data, epochs
from .config import Config, resolve
from .epochs import State
from .metrics import GROUPED_REGIMES, evaluate
from .platforms import deterministic
from .prepared import Prepared, prepare, pretrained_weights
from .settings import SettingError
from .store import default_folder

Metrics = dict[str, float]


class Training:
    """A configuration made runnable. `advance` is pure: the same state and epoch give the same result anywhere."""

    def __init__(self, config: Config, cache_folder: Path | None = None):
        self.config = config
        self._cache_folder = cache_folder or default_folder()

    @functools.cached_property
    def _task(self) -> data.Task:
        return data.load(self.config.data)

    @functools.cached_property
    def _prepared(self) -> Prepared:
        pictures = data.pictures_only(self.config.data)
        return prepare(pictures, self.config.network, self.config.seed, self._cache_folder)

    def prepare(self) -> None:
        """Make what is made once per recipe and kept on disk (pre-trained weights)."""
        if self.config.network.pretrain_epochs:
            pretrained_weights(self.config.network, self._cache_folder)

    def initial_state(self) -> State:
        """state[0]."""
        return epochs.initial_state(self._prepared)

    def advance(self, state: State, epoch: int) -> tuple[State, Metrics]:
        """state[epoch] from state[epoch - 1], and the epoch's metrics: `train/loss`, `val/map`, `test/map`, …

        `train`, `scores` and `measure` one after the other. Metrics of val and test are in percent. Raises
        `NotFiniteError` where a loss or a score is not finite.
        """
        state, training = self.train(state, epoch)
        return state, training | self.measure(self.scores(state, epoch))

    def train(self, state: State, epoch: int) -> tuple[State, Metrics]:
        """state[epoch] from state[epoch - 1], and what training says of itself: `train/loss`."""
        with deterministic(self.config.train.threads):
            recipe = self.config.recipe(epoch)
            state, loss = epochs.train_epoch(state, recipe, self._task, self._prepared, self.config.seed, epoch)
        return state, {"train/loss": loss}

    def scores(self, state: State, epoch: int) -> dict[str, Tensor]:
        """Logits (N, K) float32 of val and test under state[epoch]."""
        with deterministic(self.config.train.threads):
            recipe = self.config.recipe(epoch)
            frozen = recipe.learning_rate_backbone is None
            parts = (recipe.objective, self._task, self._prepared, self.config.seed)
            return {split: epochs.scores(state, *parts, split, frozen) for split in ("val", "test")}

    def measure(self, scores: Mapping[str, Tensor]) -> Metrics:
        """`val/map`, `test/map`, … of logits."""
        return {
            f"{split}/{name}": value
            for split, labels in self._measured_on().items()
            for name, value in evaluate(scores[split].numpy(), labels, self._annotations()).items()
        }

    def weights(self, state: State) -> State:
        """All that inference needs, by module: the backbone, frozen blocks included, and what stands on top of it."""
        frozen = {f"trunk/{name}": tensor for name, tensor in self._prepared.trunk.state_dict().items()}
        trained = {name.removeprefix("module/"): t for name, t in state.items() if name.startswith("module/")}
        return frozen | trained

    def _annotations(self) -> Any:
        """Labels given to training of each class, (K,), where they are what classes are grouped by."""
        return (self._task.observed != 0).sum(axis=0) if self.config.data.labels in GROUPED_REGIMES else None

    def _measured_on(self) -> dict[str, Any]:
        clean = self.config.data.val_labels == "clean"
        val = self._task.val.labels if clean else self._task.observed_val
        return {"val": val, "test": self._task.test.labels}


@dataclass(frozen=True)
class Result:
    """`history[e - 1]` are the metrics of epoch e; `state` is the last epoch's; `config` is fully resolved."""

    config: Config
    history: list[Metrics]
    state: State


def fit(
    method: str,
    settings: Mapping[str, Any] | None = None,
    *,
    seed: int = 1,
    cache_folder: Path | None = None,
    on_epoch: Callable[[int, Metrics], None] | None = None,
) -> Result:
    """Train one configuration to its end.

    `settings` are by dotted name, as in a search space: the method's own (`delta_rel`), `data.…`, `network.…`,
    `train.…`. `on_epoch` is called with the epoch (from 1) and its metrics. Raises `SettingError` for bad settings
    before anything starts.
    """
    settings = dict(settings or {})
    for name in ("method", "seed"):
        if name in settings:
            raise SettingError(name, settings[name], f"to give it as an argument of fit: {name}=…")
    training = Training(resolve({**settings, "method": method, "seed": seed}), cache_folder)
    state, history = training.initial_state(), []
    for epoch in range(1, training.config.train.epochs + 1):
        state, metrics = training.advance(state, epoch)
        history.append(metrics)
        if on_epoch:
            on_epoch(epoch, metrics)
    return Result(training.config, history, state)
