"""Number of trainable parameters of the CLIP framework on ResNet-101, for each reading of the paper's sizes.

python benchmarks/clip_parameters.py > docs/clip_parameters.md
"""

from __future__ import annotations

import dataclasses

import numpy as np

from methods.contract.head import FeatureMap
from methods.data import Task, load
from methods.networks.clip import ClipFeatureMap, pretrained
from methods.training.config import resolve

CLASSES = {"COCO": 80, "VOC 2007": 20}
GLOVE = 300  # dimensions
READINGS = {
    "CoOp": {"prompts": "shared", "decoupling": "off"},
    "CoOp w/ csp": {"decoupling": "off"},
    "CoOp w/ sd": {"prompts": "shared"},
    "Ours, 2048 channels, linear map 2048 to 512": {},
    "Ours, 1 × 1 convolution to 1024, linear map 1024 to 512": {"feature_width": 1024},
    "Ours, the same with an attention of 512": {"attention_width": 512, "feature_width": 1024},
    "Ours with SA, 2048 channels": {"decoupling": "semantic_attention"},
    "Ours with SA, 1 × 1 convolution to 1024": {"decoupling": "semantic_attention", "feature_width": 1024},
}
HEAD = """# Trainable parameters of the CLIP framework

Counted by `python benchmarks/clip_parameters.py` for CLIP's ResNet-101, with prompts of 16 words, word vectors of 300
dimensions, a fixed temperature and no bias. The paper (section 4.2) states 4.8 million in total, for an unnamed data
set. Its sizes are an attention mapped from 1024 to 1 and a linear map from 1024 to 512; they do not say how 2048
channels become 1024. No reading has 4.8 million. "Ours, 2048 channels" has the published settings
alone, and is what the CLIP spaces train with `--profile paper`.
"""


def table() -> str:
    """Millions of parameters, one row per reading, in Markdown."""
    clip = pretrained("RN101-quickgelu", "random", 448)
    features = ClipFeatureMap(clip.width, "mean", clip)
    lines = [f"| | {' | '.join(CLASSES)} |", f"| --- |{' ---: |' * len(CLASSES)}"]
    for name, own in READINGS.items():
        counts = [f"{count(own, features, classes) / 1e6:.2f} M" for classes in CLASSES.values()]
        lines.append(f"| {name} | {' | '.join(counts)} |")
    return "\n".join(lines)


def count(own: dict[str, object], features: FeatureMap, classes: int) -> int:
    values = {**own, "bias_learned": False, "network.backbone": "open_clip", "method": "prompt_learning"}
    modules = resolve(values, published=True).recipe(1).objective.modules(features, _task(classes))
    return sum(parameter.numel() for make in modules.values() for parameter in make().parameters())


def _task(classes: int) -> Task:
    small = {"data.train_images": 2, "data.val_images": 2, "data.test_images": 2, "method": "assume_negative"}
    names = tuple(f"class {number}" for number in range(classes))
    words = np.zeros((classes, GLOVE), np.float32)
    return dataclasses.replace(load(resolve(small).data), classes=names, word_vectors=words)


if __name__ == "__main__":
    print(f"{HEAD}\n{table()}")
