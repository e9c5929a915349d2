"""Artifacts of a trial: npz files with images, labels and attention maps, from which figures are drawn.

Each function gets a `Training`, the trial's last epoch, and the state after it. Nothing here has an effect on training.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import data
from ..components.contrastive import unit
from ..components.transfer import INTER
from .fit import Training
from .loop import State
from .platforms import deterministic

# Of `similar_images`: classes shown of an image, and images of each class.
CLASSES, SIMILAR = 3, 3


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
    memory = _memory(training, state)
    chunks = iter(torch.arange(len(given)).split(training.feature_cache.chunk))
    kept: list[dict[str, np.ndarray]] = []
    thresholds: dict[str, float] = {}

    def complete(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
        rows = next(chunks)
        found = objective.completion(features, given[rows].to(features.device), modules, memory)
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


def similar_images(training: Training, state: State, epoch: int) -> bytes | None:
    """Training images and, for classes that are unknown in them, the nearest images in which the class is known
    positive, as an npz file. None if the epoch's objective has no class features.

    The images are the first `diagnostics.similar_images` with at least two hidden positives (true, but unknown), then
    those with fewer. The classes of an image are the `CLASSES` unknown ones with the highest mean cosine with the class
    features of all known positives (SST, Eq. 5-6), whether they are true or not.

    Arrays: those of `corrections` up to `truth`, of all images in the file (P); `query` (M,), which of them they are;
    `shown` (M, C) classes; `mean` (M, C), the mean cosine; `nearest` (M, C, S) images in the order of their `cosine`
    (M, C, S); `added` (M, C) bool, whether the method's rule across images, if it has one, makes the label positive. A
    class or an image that does not exist is -1. The state is that after the last epoch; images have no augmentation.
    """
    observed, number = training.task.observed, training.config.diagnostics.similar_images
    objective, given = training.config.recipe(epoch).objective, torch.from_numpy(observed)
    hidden = ((training.task.train.labels > 0) & (observed == 0)).sum(1)
    rows = np.sort(np.argsort(-np.minimum(hidden, 2), kind="stable")[:number])
    memory = _memory(training, state)
    chunks = iter(torch.arange(len(given)).split(training.feature_cache.chunk))
    queries: list[Tensor] = []
    completed: list[Tensor] = []

    def take(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
        part = next(chunks)
        wanted = torch.from_numpy(np.isin(part, rows))
        own = objective.class_features(features, modules)
        if own is not None and wanted.any():
            queries.append(unit(own[wanted]))
            labels = given[part[wanted]]
            found = objective.completion(features[wanted], labels.to(features.device), modules, memory)
            rule = found.rules.get(INTER) if found else None
            completed.append(rule.labels.cpu() if rule else labels)
        return part

    def compare(features: Tensor, modules: dict[str, nn.Module]) -> Tensor:
        own = objective.class_features(features, modules)
        assert own is not None, "there are queries"
        return torch.einsum("mkd,bkd->bmk", torch.cat(queries), unit(own))

    with training.computing():
        training.over_split("train", state, epoch, take)
        if not queries:
            return None
        cosines = training.over_split("train", state, epoch, compare).numpy()
    cosines[np.broadcast_to(observed[:, None] <= 0, cosines.shape)] = np.nan  # (N, M, K), of known positives
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a class without known positives: NaN
        means = np.where(observed[rows] == 0, np.nanmean(cosines, 0), np.nan)
    classes = np.argsort(-means, axis=1)[:, :CLASSES]  # NaN comes last
    mean, added = (np.take_along_axis(of, classes, 1) for of in (means, torch.cat(completed).numpy() != observed[rows]))
    there = ~np.isnan(mean)
    cosines = np.take_along_axis(cosines, classes[None], 2)
    nearest = np.argsort(-cosines, axis=0, kind="stable")[:SIMILAR]
    cosine = np.take_along_axis(cosines, nearest, 0).transpose(1, 2, 0)
    nearest = np.where(np.isnan(cosine) | ~there[:, :, None], -1, nearest.transpose(1, 2, 0))
    pictures = np.unique(np.concatenate([rows, nearest[nearest >= 0]]))
    return _training_scenes(
        training,
        pictures,
        query=np.searchsorted(pictures, rows),
        shown=np.where(there, classes, -1),
        mean=mean,
        nearest=np.where(nearest < 0, -1, np.searchsorted(pictures, nearest)),
        cosine=cosine,
        added=added & there,
    )


def _memory(training: Training, state: State) -> State:
    """The method's part of a state, on the device of computation."""
    own = {name.removeprefix("method/"): tensor for name, tensor in state.items() if name.startswith("method/")}
    return {name: tensor.to(training.feature_cache.device) for name, tensor in own.items()}


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
