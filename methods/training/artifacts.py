"""Artifacts of a trial: npz files with images, labels and attention maps, from which figures are drawn.

Each function gets a `Training`, the trial's last epoch, and the state after it. Nothing here has an effect on training.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import data
from .fit import Training
from .loop import State
from .platforms import deterministic


def corrections(training: Training, state: State, epoch: int, since: Tensor) -> bytes:
    """Training images and their modified labels, as an npz file: the `diagnostics.pictures` images with the most labels
    modified in the last epoch. `since` (N, K) is that of the diagnostic `modifications`.

    Arrays: `images` (M, 3, H, W) uint8; `boxes` like in `Split`; `classes`; `given` and `truth` (M, K) int8;
    `positive_since` (M, K) int16, the epoch, 0 never; `attention` (M, K, 2) int16, pixel (x, y) of the map's maximum.
    """
    rows = np.sort((-(since > 0).sum(1).numpy()).argsort(kind="stable")[: training.config.diagnostics.pictures])
    shown = np.zeros(training.task.observed.shape, dtype=bool)
    shown[rows] = True
    with training.computing():
        points = training.attention_maxima("train", state, epoch, shown)
    return _training_scenes(training, rows, positive_since=since.numpy()[rows], attention=points[rows])


def cooccurrence(training: Training, state: State, epoch: int) -> bytes | None:
    """Training images and their completed labels, as an npz file: the `diagnostics.cooccurrence` images with the most
    completed labels (`_most_completed`). None if the last epoch's objective predicts no co-occurrence.

    Arrays: those of `corrections` up to `truth`; `cooccurrence` (M, K, K) float32, see `Completion`; `rules` (R,)
    names; `scores` (M, R, K) float32; `thresholds` (R,) of the rules; `completed` (M, R, K) int8, the labels by each
    rule. The state is that after the last epoch; images have no augmentation.
    """
    number = training.config.diagnostics.cooccurrence
    objective, observed = training.config.recipe(epoch).objective, training.task.observed
    given = torch.from_numpy(observed)
    device = training.feature_cache.device
    memory = {name.removeprefix("method/"): t.to(device) for name, t in state.items() if name.startswith("method/")}
    chunks = iter(torch.arange(len(given)).split(training.feature_cache.chunk))
    kept: list[dict[str, np.ndarray]] = []
    thresholds: dict[str, float] = {}

    def complete(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
        rows = next(chunks)
        found = objective.completion(features, given[rows].to(device), modules, memory)
        if found is not None:
            thresholds.update({name: rule.threshold for name, rule in found.rules.items()})
            tensors = {
                "rows": rows,
                "cooccurrence": found.cooccurrence,
                "scores": torch.stack([rule.scores for rule in found.rules.values()], 1),
                "completed": torch.stack([rule.labels for rule in found.rules.values()], 1),
            }
            # Only the best images of each chunk are kept: the matrices of a whole data set take gigabytes.
            kept.append(_most_completed(observed, {name: t.cpu().numpy() for name, t in tensors.items()}, number))
        return rows

    with training.computing():
        training.over_split("train", state, epoch, complete)
    if not kept:
        return None
    together = {name: np.concatenate([arrays[name] for arrays in kept]) for name in kept[0]}
    arrays = _most_completed(observed, together, number)
    rules = {"rules": np.array([*thresholds]), "thresholds": np.array([*thresholds.values()])}
    return _training_scenes(training, arrays.pop("rows"), **arrays, **rules)


def _most_completed(observed: np.ndarray, arrays: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    """The best `number` rows of arrays (N, ...), in the order of the split. Best are the images with the most labels
    from the rule that completes fewest; then those with a known positive; then those with the most completed labels in
    total. Of equal images, the earlier one is taken."""
    given = observed[arrays["rows"]]
    added = arrays["completed"] != given[:, None]
    keys = -added.any(1).sum(1), -(given > 0).any(1).astype(int), -added.sum(2).min(1)
    best = np.sort(np.lexsort(keys)[:number])
    return {name: array[best] for name, array in arrays.items()}


def attention(training: Training, state: State, epoch: int) -> bytes:
    """Test images with attention maps and scores, as an npz file: the first `diagnostics.attention` images with at
    least three classes, then those with fewer.

    Arrays: `images`, `boxes` and `classes` like in `corrections`; `truth` (M, K) int8; `scores` (M, K) float32, the
    probability of each class; `attention` (M, K, h, w) float32, see `Objective.attention`. The state is that after the
    last epoch.
    """
    labels = training.task.test.labels
    objective = training.config.recipe(epoch).objective
    rows = np.argsort(-np.minimum((labels > 0).sum(1), 3), kind="stable")[: training.config.diagnostics.attention]
    rows.sort()
    chunks = iter(torch.from_numpy(np.isin(np.arange(len(labels)), rows)).split(training.feature_cache.chunk))
    maps: list[Tensor] = []

    def attend(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
        shown = features[next(chunks)]
        maps.append(objective.attention(shown, modules))
        return objective.logits(shown, modules).sigmoid()

    with deterministic(training.config.train.threads):
        scores = training.over_split("test", state, epoch, attend)
    seen = {"truth": labels[rows], "scores": scores.numpy(), "attention": torch.cat(maps).numpy()}
    return _npz(training, training.task.test.part(rows), **seen)


def _training_scenes(training: Training, rows: np.ndarray, **arrays: Any) -> bytes:
    """Training images with their labels and further arrays, as an npz file."""
    part = training.task.train.part(rows)
    return _npz(training, part, given=training.task.observed[rows], truth=part.labels, **arrays)


def _npz(training: Training, part: data.Split, **arrays: Any) -> bytes:
    content = io.BytesIO()
    classes = np.array(training.task.classes)
    np.savez_compressed(content, images=part.images, boxes=part.boxes, classes=classes, **arrays)
    return content.getvalue()
