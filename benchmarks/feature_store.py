"""Epochs per second on a frozen CLIP, with feature maps from the store and with all images through the encoder.

python benchmarks/feature_store.py
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from methods.training import clip_features
from methods.training.config import resolve
from methods.training.fit import Training

EPOCHS = 2
VALUES = {
    "method": "prompt_learning",
    "network.backbone": "digit_clip",
    "network.pretrain_epochs": 0,  # untrained weights need the same time
    "data.labels": "proportion",
    "train.epochs": EPOCHS,
}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        first = Training(resolve(VALUES), Path(folder))
        started = time.process_time()
        first.feature_cache.trunk_features("train")
        print(f"feature maps of {len(first.task.train)} images, once: {time.process_time() - started:.2f} s")
        clip_features.prepare.cache_clear()
        stored = Training(resolve(VALUES), Path(folder))
        started = time.process_time()
        stored.feature_cache.trunk_features("train")
        print(f"the same from the store, by a second trial: {time.process_time() - started:.2f} s")
        print(f"from the store: {_epochs_per_second(stored):.2f} epochs per second")
        # With augmentation nothing can be stored: every image passes through the encoder in every epoch.
        through = Training(resolve({**VALUES, "train.augmentation": "shift"}), Path(folder))
        print(f"through the encoder: {_epochs_per_second(through):.2f} epochs per second")


def _epochs_per_second(training: Training) -> float:
    state = training.initial_state()
    started = time.process_time()
    for epoch in range(1, EPOCHS + 1):
        state, _ = training.train(state, epoch)
    return EPOCHS / (time.process_time() - started)


if __name__ == "__main__":
    main()
