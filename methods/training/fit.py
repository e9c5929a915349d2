"""Train one configuration from Python, epoch by epoch or to the end.

    from methods import fit
    result = fit("large_loss", {"scheme": "reject", "data.labels": "single_positive", "train.epochs": 4}, seed=1)
    print(result.history[-1]["test/map"])

Nothing here knows of sweeps, of Ray or of MLflow; the sweeper drives `Training` one epoch at a time.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import data
from ..cache.store import default_folder
from ..contract.objective import MODIFIED
from ..contract.settings import SettingError
from ..data import DataSettings
from ..data.registry import IN_FILES
from ..evaluation import diagnostics
from ..evaluation.diagnostics import Diagnosis, Watch, maxima
from ..evaluation.metrics import GROUPED_REGIMES, evaluate, per_class
from ..networks.settings import CLIP, NetworkSettings
from . import loop
from .clip_features import ClipFeatureCache
from .config import Config, resolve
from .features import FeatureCache
from .loop import State
from .platforms import Compute, deterministic, memory, out_of_memory

Metrics = dict[str, float]


class TooLargeError(MemoryError):
    """An epoch needs more memory than there is. The text says what does not fit and which settings need less."""


class Training:
    """Trains and measures one configuration. `advance` is pure: its result depends on state and epoch alone."""

    def __init__(self, config: Config, cache_folder: Path | None = None):
        self.config = config
        self._cache_folder = cache_folder or default_folder()

    @functools.cached_property
    def task(self) -> data.Task:
        """The splits of the data set, and the labels given to training."""
        return data.load(self.config.data)

    @functools.cached_property
    def feature_cache(self) -> FeatureCache:
        """The cache that all trials on these images with this backbone share."""
        config, train = self.config, self.config.train
        pictures = data.pictures_only(config.data)
        return _kind(config.network).of(pictures, config.network, config.seed, self._cache_folder, train.compute())

    @contextlib.contextmanager
    def computing(self) -> Iterator[None]:
        """Within the block torch uses the trial's threads and precision. Raises `TooLargeError` if memory runs out."""
        with deterministic(self.config.train.threads, self.config.train.precision):
            try:
                yield
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise TooLargeError(f"{self._too_large()} ({str(error).strip().splitlines()[0]})") from error

    def _too_large(self) -> str:
        """The text of `TooLargeError`."""
        train, network = self.config.train, self.config.network
        device, size = memory(train.device)
        part = -(-train.batch_size // train.micro_batches)
        smaller = {
            "train.micro_batches (where the loss separates)": part > 1,
            "a smaller train.batch_size": part > 1,
            "train.precision=bf16": train.precision != "bf16",
            "a smaller data.image_size": self.config.data.dataset in IN_FILES,
        }
        return (
            f"{part} images of {self.config.data.side} x {self.config.data.side} pixels at a time, on "
            f"{network.backbone} in {train.precision}, do not fit into the {size / 1e9:.1f} GB of {device}; less is "
            f"needed with {', '.join(name for name, helps in smaller.items() if helps)}"
        )

    def prepare(self, progress: Callable[[int, int], None] = lambda done, of: None) -> None:
        """Decode the images of a data set in files, and read or download weights. `make` does what must be computed.

        `progress` gets the number of decoded images and their total, if any must be decoded. Raises `DataError` for
        missing or wrong files of a data set, and the errors of `FeatureCache.check`.
        """
        data.prepare(self.config.data, progress)
        _kind(self.config.network).check(self.config.network, self.config.data.side, self._cache_folder)

    def make(self) -> None:
        """Compute what the store keeps for all trials (`made_once`): weights of the embedded networks, feature maps of
        a CLIP. Calling it is optional: what is missing is computed when it is needed."""
        with self.computing():
            self.feature_cache.make(views=self.config.train.augmentation != "none")

    def initial_state(self) -> State:
        """The state before epoch 1."""
        return loop.initial_state(self.feature_cache)

    def epochs(self) -> Iterator[tuple[State, Metrics]]:
        """The state and the metrics of each epoch, from 1 to the last: `train/loss`, `val/map`, `test/map`, … Metrics
        of val and test are in percent. Raises `NotFiniteError` if a loss or a score is not finite."""
        state = self.initial_state()
        diagnoses: dict[str, Diagnosis] = {}
        for epoch in range(1, self.config.train.epochs + 1):
            watch = self.watch()
            state, metrics = self.train(state, epoch, watch)
            metrics |= self.measure(self.scores(state, epoch))
            diagnoses = self.diagnose(state, epoch, watch, diagnoses)
            yield state, metrics | flattened(diagnoses)

    def advance(self, state: State, epoch: int) -> tuple[State, Metrics]:
        """The state after `epoch` from the state before it, and the epoch's metrics without diagnostics. Pure."""
        state, metrics = self.train(state, epoch)
        return state, metrics | self.measure(self.scores(state, epoch))

    def watch(self) -> Watch | None:
        """A `Watch` to pass to `train` and then to `diagnose`; None if no diagnostic needs one."""
        on = self.config.diagnostics
        return Watch(torch.tensor(self.task.observed)) if on.modifications or on.known_loss else None

    def train(self, state: State, epoch: int, watch: Watch | None = None) -> tuple[State, Metrics]:
        """The state after `epoch` from the state before it, and its metrics `train/NAME`; see `loop.train_epoch`."""
        with self.computing():
            recipe = self.config.recipe(epoch)
            state, report = loop.train_epoch(
                state, recipe, self.task, self.feature_cache, self.config.seed, epoch, watch
            )
        return state, {f"train/{name}": value for name, value in report.items()}

    def scores(self, state: State, epoch: int) -> dict[str, Tensor]:
        """Logits (N, K) float32 of val and test, under the state after `epoch`."""
        with self.computing():
            return loop.scores(state, self.config.recipe(epoch), self.task, self.feature_cache, self.config.seed)

    def measure(self, scores: Mapping[str, Tensor]) -> Metrics:
        """The metrics `val/map`, `test/map`, … of logits, and `val/images` and `test/images`, the numbers of images."""
        task, clean = self.task, self.config.data.val_labels == "clean"
        labels = {"val": task.val.labels if clean else task.observed_val, "test": task.test.labels}
        measured = {
            f"{split}/{name}": value
            for split in labels
            for name, value in evaluate(scores[split].numpy(), labels[split], self._annotations()).items()
        }
        measured |= {f"{split}/images": float(len(of)) for split, of in labels.items()}
        if self.config.diagnostics.per_class:
            each = per_class(scores["test"].numpy(), labels["test"], task.classes)
            measured |= {f"test/{name}": value for name, value in each.items()}
        return measured

    def diagnose(
        self, state: State, epoch: int, watch: Watch | None, before: Mapping[str, Diagnosis]
    ) -> dict[str, Diagnosis]:
        """The diagnostics that are on, for the state after `epoch`. `before` are those of the previous epoch."""
        settings, task = self.config.diagnostics, self.task
        truth = torch.from_numpy(task.train.labels)
        found: dict[str, Diagnosis] = {}
        with self.computing():
            if settings.memorization:
                logits = self.over_split("train", state, epoch, self.config.recipe(epoch).objective.logits)
                kept = before["memorization"].kept if epoch > 1 else {}
                found["memorization"] = diagnostics.memorization(
                    kept, logits, torch.from_numpy(task.observed), truth, epoch, settings.warmup_epochs
                )
            if watch is not None and settings.known_loss:
                found["known_loss"] = watch.known_loss()
            if watch is not None and settings.modifications:
                kept = before["modifications"].kept if epoch > 1 else {}
                labels = torch.from_numpy(task.observed), truth
                found["modifications"] = diagnostics.modifications(kept, watch.entries(MODIFIED), *labels, epoch)
            if settings.pointing_game:
                points = self.attention_maxima("test", state, epoch, task.test.labels == 1)
                found["pointing_game"] = diagnostics.pointing_game(
                    points, task.test.boxes, task.test.labels, settings.tolerance
                )
        return found

    def attention_maxima(self, split: str, state: State, epoch: int, wanted: np.ndarray) -> np.ndarray:
        """Pixels (N, K, 2) of the maxima of attention maps for the classes `wanted` (N, K) bool; -1 for the others."""
        objective, upsampling = self.config.recipe(epoch).objective, self.config.diagnostics.upsampling
        height, width = self.task.test.images.shape[2:]
        # Enlarging maps takes most of the time, so only maps of wanted classes are enlarged.
        chunks = iter(torch.from_numpy(wanted).split(self.feature_cache.chunk))

        def wanted_maxima(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
            maps, chosen = objective.attention(features, modules), next(chunks)
            points = torch.full((*maps.shape[:2], 2), -1, dtype=torch.int16)
            points[chosen] = maxima(maps[chosen], (height, width), upsampling).cpu()
            return points

        return self.over_split(split, state, epoch, wanted_maxima).numpy()

    def over_split(
        self, split: str, state: State, epoch: int, function: Callable[[Tensor, dict[str, nn.Module]], Tensor]
    ) -> Tensor:
        """Apply `function` to a split's feature maps, under the state after `epoch`; see `loop.over_split`."""
        recipe = self.config.recipe(epoch)
        return loop.over_split(state, recipe, self.task, self.feature_cache, self.config.seed, split, function)

    def weights(self, state: State) -> State:
        """All weights for inference, by module: the backbone with its frozen blocks, and the modules on top of it."""
        frozen = {f"trunk/{name}": tensor.cpu() for name, tensor in self.feature_cache.trunk.state_dict().items()}
        trained = {name.removeprefix("module/"): t for name, t in state.items() if name.startswith("module/")}
        return frozen | trained

    def _annotations(self) -> Any:
        """The number of known training labels of each class, (K,), if metrics are grouped by it; else None."""
        return self.task.annotations if self.config.data.labels in GROUPED_REGIMES else None


def made_once(
    settings: DataSettings, network: NetworkSettings, compute: Compute, views: bool
) -> frozenset[tuple[str, str]]:
    """(key, record) of all that is computed once for all trials with these settings, by `Training.make`. `views`: with
    augmentation, which differs in each epoch."""
    return _kind(network).made_once(data.pictures_only(settings), network, compute, views)


def _kind(network: NetworkSettings) -> type[FeatureCache]:
    return ClipFeatureCache if network.backbone in CLIP else FeatureCache


@dataclass(frozen=True)
class Result:
    """The result of `fit`: `history[e - 1]` are the metrics of epoch e, `state` is that after the last epoch."""

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
    """Train one configuration for all of its epochs. `settings` have dotted names, as in a search space: the method's
    own (`delta_rel`), `data.…`, `network.…`, `train.…`. `on_epoch` is called with the epoch (from 1) and its metrics.
    Raises `SettingError` for bad settings, before training starts."""
    settings = dict(settings or {})
    for name in ("method", "seed"):
        if name in settings:
            raise SettingError(name, settings[name], f"to give it as an argument of fit: {name}=…")
    training = Training(resolve({**settings, "method": method, "seed": seed}), cache_folder)
    history: list[Metrics] = []
    for epoch, result in enumerate(training.epochs(), start=1):
        state, metrics = result
        history.append(metrics)
        if on_epoch:
            on_epoch(epoch, metrics)
    return Result(training.config, history, state)


def flattened(diagnoses: Mapping[str, Diagnosis]) -> Metrics:
    """The metrics of all diagnostics by full name: `memorization/tp_loss`, …"""
    return {f"{name}/{metric}": v for name, diagnosis in diagnoses.items() for metric, v in diagnosis.metrics.items()}
