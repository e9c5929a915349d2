"""Time of an epoch: seconds per training image, and the ratio of the training loop to the bare tensor work.

    python benchmarks/epoch.py [--repeats 5]

Both sides alternate in one process, and the ratio is taken for each pair, so that a machine with changing speed favours
neither side.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

import torch
from torch import nn

from methods.contract.head import PooledClassifier
from methods.training.config import resolve
from methods.training.fit import Training
from methods.training.platforms import deterministic

SETTINGS = {"method": "assume_negative", "data.labels": "single_positive", "data.draw": 0, "train.schedule": "constant"}


def bare_epoch(training: Training, backbone: nn.Module, head: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Only forward, loss, backward and update for all training images, then the scores of val and test."""
    cache, task, train = training.feature_cache, training.task, training.config.train
    features, labels = cache.trunk_features("train"), torch.from_numpy(task.observed)
    for rows in torch.randperm(len(features)).split(train.batch_size):
        logits = head(backbone(features[rows]))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, (labels[rows] > 0).to(logits.dtype))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        for split in ("val", "test"):
            for chunk in cache.trunk_features(split).split(cache.chunk):
                head(backbone(chunk))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    training = Training(resolve(SETTINGS))
    state, _ = training.advance(training.initial_state(), 1)  # builds data and features
    cache, task = training.feature_cache, training.task
    backbone = copy.deepcopy(cache.tail)
    head = PooledClassifier(cache.feature_map.width, task.num_classes, cache.feature_map.pooling)
    optimizer = torch.optim.Adam([*backbone.parameters(), *head.parameters()], lr=1e-3, fused=True)
    ours, bare = [], []
    for repeat in range(repeats + 1):
        started = time.perf_counter()
        state, _ = training.advance(state, repeat + 2)
        middle = time.perf_counter()
        with deterministic(threads=1):
            bare_epoch(training, backbone, head, optimizer)
        ended = time.perf_counter()
        if repeat:  # the first pair warms up
            ours.append(middle - started)
            bare.append(ended - middle)
    images = training.config.data.train_images
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    print(f"epoch {statistics.median(ours):.3f} s, bare tensor work {statistics.median(bare):.3f} s")
    print(f"ratio, pair by pair: median {statistics.median(ratios):.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    print(f"{statistics.median(ours) / images:.2e} s per training image and epoch")


if __name__ == "__main__":
    main()
