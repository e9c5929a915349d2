"""Train one configuration from Python, epoch by epoch or to the end.

    from methods import fit
    result = fit("large_loss", {"scheme": "reject", "data.labels": "single_positive", "train.epochs": 4}, seed=1)
    print(result.history[-1]["test/map"])

Nothing here knows of sweeps, of Ray or of MLflow; the sweeper drives `Training` one epoch at a time.
"""

from __future__ import annotations

import contextlib
import functools
import io
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
from ..data.registry import IN_FILES
from ..evaluation import diagnostics
from ..evaluation.diagnostics import Diagnosis, Watch, maxima
from ..evaluation.metrics import GROUPED_REGIMES, evaluate, per_class
from ..networks import backbones
from ..networks.backbones import WeightsError
from ..networks.settings import CLIP
from . import clip_features, loop
from .config import Config, resolve
from .features import Prepared, initial_weights, prepare, refuse_too_small, weights_key
from .loop import State
from .platforms import deterministic, memory, out_of_memory

Metrics = dict[str, float]


class TooLargeError(MemoryError):
    """An epoch needs more memory than there is. The text says what does not fit and which settings need less."""


class Training:
    """Trains and measures one configuration. `advance` is pure: its result depends on state and epoch alone."""

    def __init__(self, config: Config, cache_folder: Path | None = None):
        self.config = config
        self._cache_folder = cache_folder or default_folder()

    @functools.cached_property
    def _task(self) -> data.Task:
        return data.load(self.config.data)

    @functools.cached_property
    def _prepared(self) -> Prepared:
        pictures = data.pictures_only(self.config.data)
        network, compute = self.config.network, self.config.train.compute()
        if network.backbone in CLIP:
            return clip_features.prepare(pictures, network, self._cache_folder, compute)
        # Weights that are the same for every seed are prepared once for all of them.
        seed = self.config.seed if weights_key(network) is None else 0
        return prepare(pictures, network, seed, self._cache_folder, compute)

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
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

        Raises `DataError` for files of a data set that are not there or not as they must be, `WeightsError` for initial
        weights that cannot be had, and `SettingError` for images that are too small for the network.
        """
        data.prepare(self.config.data, progress)
        network = self.config.network
        if network.backbone not in CLIP:
            refuse_too_small(network, self.config.data.side)
            if not backbones.of(network).computed:
                initial_weights(network, self._cache_folder)
            return
        if network.backbone == "digit_clip":
            return
        try:
            clip_features.encoder(network, self._cache_folder)
        except Exception as error:  # whatever open_clip meets in a name, a download or a file
            raise WeightsError(
                f"network.clip_model: {network.clip_model} with network.clip_weights={network.clip_weights} cannot be "
                f"used ({type(error).__name__}: {error}); allowed is a model of open_clip with one of its tags, which "
                "is downloaded, or with the path of a file of its weights"
            ) from error

    def make(self) -> None:
        """Make what is computed once and kept in the store: weights of the embedded networks, and the feature maps of a
        frozen CLIP. What is missing is made where it is needed anyhow."""
        with self._computing():
            prepared = self._prepared
            if isinstance(prepared, clip_features.Frozen):
                for split in clip_features.splits_seen(views=self.config.train.augmentation != "none"):
                    prepared.trunk_features(split)

    def initial_state(self) -> State:
        """state[0]."""
        return loop.initial_state(self._prepared)

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
        """To be given to `train` and then to `diagnose`, where a diagnostic needs it."""
        return Watch(*self._task.observed.shape) if self.config.diagnostics.modifications else None

    def train(self, state: State, epoch: int, watch: Watch | None = None) -> tuple[State, Metrics]:
        """state[epoch] from state[epoch - 1], and what training says of itself: `train/loss`, `train/known_labels`,
        and what the method reports."""
        with self._computing():
            recipe = self.config.recipe(epoch)
            state, said = loop.train_epoch(state, recipe, self._task, self._prepared, self.config.seed, epoch, watch)
        return state, {f"train/{name}": value for name, value in said.items()}

    def scores(self, state: State, epoch: int) -> dict[str, Tensor]:
        """Logits (N, K) float32 of val and test under state[epoch]."""
        with self._computing():
            recipe = self.config.recipe(epoch)
            frozen = recipe.learning_rate_backbone is None
            parts = (recipe.objective, self._task, self._prepared, self.config.seed)
            return {split: loop.scores(state, *parts, split, frozen) for split in ("val", "test")}

    def measure(self, scores: Mapping[str, Tensor]) -> Metrics:
        """The metrics `val/map`, `test/map`, … of logits."""
        labels = self._measured_on()
        measured = {
            f"{split}/{name}": value
            for split in labels
            for name, value in evaluate(scores[split].numpy(), labels[split], self._annotations()).items()
        }
        if self.config.diagnostics.per_class:
            each = per_class(scores["test"].numpy(), labels["test"], self._task.classes)
            measured |= {f"test/{name}": value for name, value in each.items()}
        return measured

    def diagnose(
        self, state: State, epoch: int, watch: Watch | None, before: Mapping[str, Diagnosis]
    ) -> dict[str, Diagnosis]:
        """The diagnostics that are on, of state[epoch]; `before` are those of the epoch before."""
        settings, task = self.config.diagnostics, self._task
        truth = torch.from_numpy(task.train.labels)
        found: dict[str, Diagnosis] = {}
        with self._computing():
            if settings.memorization:
                logits = self._over("train", state, epoch, self.config.recipe(epoch).objective.logits)
                kept = before["memorization"].kept if epoch > 1 else {}
                found["memorization"] = diagnostics.memorization(
                    kept, logits, torch.from_numpy(task.observed), truth, epoch, settings.warmup_epochs
                )
            if watch is not None:
                kept = before["modifications"].kept if epoch > 1 else {}
                found["modifications"] = diagnostics.modifications(kept, watch.entries(MODIFIED), truth, epoch)
            if settings.pointing_game:
                points = self._attention("test", state, epoch, task.test.labels == 1)
                found["pointing_game"] = diagnostics.pointing_game(
                    points, task.test.boxes, task.test.labels, settings.tolerance
                )
        return found

    def pictures(self, state: State, since: Tensor) -> bytes:
        """Training scenes with what became of their labels, as an npz file: the first `diagnostics.pictures` of those
        with the most labels modified in the end; `since` (N, K) as the diagnostic `modifications` keeps it.

        Arrays: `images` (M, 3, H, W) uint8; `boxes` as of a `Split`; `classes`; `given` and `truth` (M, K) int8;
        `positive_since` (M, K) int16, 0 never; `attention` (M, K, 2) int16, pixel (x, y) of the activation maximum.
        """
        rows = np.sort((-(since > 0).sum(1).numpy()).argsort(kind="stable")[: self.config.diagnostics.pictures])
        shown = np.zeros(self._task.observed.shape, dtype=bool)
        shown[rows] = True
        with self._computing():
            points = self._attention("train", state, self.config.train.epochs, shown)
        return self._scenes(rows, positive_since=since.numpy()[rows], attention=points[rows])

    def cooccurrence(self, state: State) -> bytes | None:
        """Training scenes with how their labels are completed, as an npz file: the first `diagnostics.cooccurrence` of
        those with the most completed labels (`_most_completed`). None where the last epoch's objective predicts no
        co-occurrence.

        Arrays: as of `pictures` up to `truth`; `cooccurrence` (M, K, K) float32, see `Completion`; `rules` (R,) names;
        `scores` (M, R, K) float32; `thresholds` (R,) of the rules; `completed` (M, R, K) int8 labels by each. All is
        under the state after the last epoch, without augmentation.
        """
        epoch, number = self.config.train.epochs, self.config.diagnostics.cooccurrence
        objective, observed = self.config.recipe(epoch).objective, torch.from_numpy(self._task.observed)
        device = self._prepared.device
        memory = {name.removeprefix("method/"): t.to(device) for name, t in state.items() if name.startswith("method/")}
        chunks = iter(torch.arange(len(observed)).split(self._prepared.chunk))
        kept: list[dict[str, np.ndarray]] = []
        thresholds: dict[str, float] = {}

        def look(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
            rows = next(chunks)
            found = objective.completion(features, observed[rows].to(device), modules, memory)
            if found is not None:
                thresholds.update({name: rule.threshold for name, rule in found.rules.items()})
                tensors = {
                    "rows": rows,
                    "cooccurrence": found.cooccurrence,
                    "scores": torch.stack([rule.scores for rule in found.rules.values()], 1),
                    "completed": torch.stack([rule.labels for rule in found.rules.values()], 1),
                }
                # Of each chunk what may be shown: the matrices of a whole data set are gigabytes.
                kept.append(self._most_completed({name: t.cpu().numpy() for name, t in tensors.items()}, number))
            return rows

        with self._computing():
            self._over("train", state, epoch, look)
        if not kept:
            return None
        together = {name: np.concatenate([arrays[name] for arrays in kept]) for name in kept[0]}
        arrays = self._most_completed(together, number)
        rules = {"rules": np.array([*thresholds]), "thresholds": np.array([*thresholds.values()])}
        return self._scenes(arrays.pop("rows"), **arrays, **rules)

    def _most_completed(self, arrays: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
        """The best `number` rows of arrays (N, ...): with most labels `completed` by the rule that completes fewest,
        then with a known positive, then with most labels in all, the earlier of equals; in the order of the split."""
        given = self._task.observed[arrays["rows"]]
        added = arrays["completed"] != given[:, None]
        keys = -added.any(1).sum(1), -(given > 0).any(1).astype(int), -added.sum(2).min(1)
        best = np.sort(np.lexsort(keys)[:number])
        return {name: array[best] for name, array in arrays.items()}

    def attended(self, state: State) -> bytes:
        """Test scenes with what is seen in them, as an npz file: the first `diagnostics.attention` with at least three
        classes, then those with fewer.

        Arrays: `images`, `boxes` and `classes` as of `pictures`; `truth` (M, K) int8; `scores` (M, K) float32, each
        class's probability; `attention` (M, K, h, w) float32, see `Objective.attention`. All is under the state after
        the last epoch.
        """
        epoch, labels = self.config.train.epochs, self._task.test.labels
        objective = self.config.recipe(epoch).objective
        rows = np.argsort(-np.minimum((labels > 0).sum(1), 3), kind="stable")[: self.config.diagnostics.attention]
        rows.sort()
        chunks = iter(torch.from_numpy(np.isin(np.arange(len(labels)), rows)).split(self._prepared.chunk))
        maps: list[Tensor] = []

        def look(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
            shown = features[next(chunks)]
            maps.append(objective.attention(shown, modules))
            return objective.logits(shown, modules).sigmoid()

        with deterministic(self.config.train.threads):
            scores = self._over("test", state, epoch, look)
        seen = {"truth": labels[rows], "scores": scores.numpy(), "attention": torch.cat(maps).numpy()}
        return self._npz(self._task.test.part(rows), **seen)

    def _scenes(self, rows: np.ndarray, **arrays: Any) -> bytes:
        """Training scenes and more about each as an npz file."""
        part = self._task.train.part(rows)
        return self._npz(part, given=self._task.observed[rows], truth=part.labels, **arrays)

    def _npz(self, part: data.Split, **arrays: Any) -> bytes:
        content = io.BytesIO()
        classes = np.array(self._task.classes)
        np.savez_compressed(content, images=part.images, boxes=part.boxes, classes=classes, **arrays)
        return content.getvalue()

    def _attention(self, split: str, state: State, epoch: int, wanted: np.ndarray) -> np.ndarray:
        """Pixels (N, K, 2) of the activation maxima of the classes that are `wanted` (N, K); -1 of the others."""
        objective, upsampling = self.config.recipe(epoch).objective, self.config.diagnostics.upsampling
        height, width = self._task.test.images.shape[2:]
        # Enlarging maps is what takes the time: only those of the wanted classes are, chunk by chunk.
        chunks = iter(torch.from_numpy(wanted).split(self._prepared.chunk))

        def look(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
            maps, chosen = objective.attention(features, modules), next(chunks)
            points = torch.full((*maps.shape[:2], 2), -1, dtype=torch.int16)
            points[chosen] = maxima(maps[chosen], (height, width), upsampling).cpu()
            return points

        return self._over(split, state, epoch, look).numpy()

    def _over(
        self, split: str, state: State, epoch: int, function: Callable[[Tensor, dict[str, nn.Module]], Tensor]
    ) -> Tensor:
        recipe = self.config.recipe(epoch)
        return loop.over_split(
            state,
            recipe.objective,
            self._task,
            self._prepared,
            self.config.seed,
            split,
            function,
            frozen=recipe.learning_rate_backbone is None,
        )

    def weights(self, state: State) -> State:
        """All that inference needs, by module: the backbone, frozen blocks included, and what stands on top of it."""
        frozen = {f"trunk/{name}": tensor.cpu() for name, tensor in self._prepared.trunk.state_dict().items()}
        trained = {name.removeprefix("module/"): t for name, t in state.items() if name.startswith("module/")}
        return frozen | trained

    def _annotations(self) -> Any:
        """Labels given to training of each class, (K,), where they are what classes are grouped by."""
        return self._task.annotations if self.config.data.labels in GROUPED_REGIMES else None

    def _measured_on(self) -> dict[str, Any]:
        clean = self.config.data.val_labels == "clean"
        val = self._task.val.labels if clean else self._task.observed_val
        return {"val": val, "test": self._task.test.labels}


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
