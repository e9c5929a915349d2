"""The tiny world of the conformance kit, and what tests need beyond the kit: settings that all methods have.

Those of data sets in files take miniatures. Models as large as a paper's are trained by tests of their own.
"""

from __future__ import annotations

import functools
import os
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from methods.contract.objective import Batch
from methods.contract.randomness import seeded
from methods.contract.settings import Field
from methods.data.registry import EMBEDDED, IN_FILES
from methods.testing import purity
from methods.testing.purity import (
    WORLD,
    different,
    different_metrics,
    digest,
    disturb,
    folder,
    new_training,
    own_fields,
    run,
    run_violations,
    shared_epochs,
    world,
)
from methods.training.config import Config, resolve, setting_fields
from methods.training.registry import methods
from tests.methods import miniatures

__all__ = [
    "IDENTITY",
    "TINY",
    "Batch",
    "all_fields",
    "batch",
    "configurations",
    "different",
    "different_metrics",
    "digest",
    "disturb",
    "folder",
    "introduced_fields",
    "new_training",
    "run",
    "run_violations",
    "shared_epochs",
    "tiny",
]

TINY, tiny = WORLD, world
# A head under which a batch's features are its logits.
IDENTITY: dict[str, nn.Module] = {"classifier": nn.Identity()}
# Choices that the tiny world leaves out: models as large as a paper's. And what not every machine has.
LARGE = {
    "network.backbone": ("open_clip", "resnet50", "resnet101"),
    "train.device": ("auto", "cuda"),
    "train.compile": (True,),
}
os.environ.setdefault("SWEEPER_IMAGES", str(folder() / "images"))


def batch(features: Tensor, labels: Tensor, first: int = 0) -> Batch:
    """A batch of images `first`, `first` + 1, … of the training split."""
    return Batch(features, labels, torch.arange(first, first + len(features)))


def all_fields(method: str) -> list[str]:
    """Dotted names of everything that can be set to two values or more, of a backbone that the method can have."""
    fields = [(name, field) for name, field in setting_fields(method) if len(field.choices) != 1]
    fields = [(name, field) for name, field in fields if not _of_other_data(method, name, field)]
    if not purity.in_parts(resolve(world(method))):
        fields = [(name, field) for name, field in fields if name != "train.micro_batches"]
    return [name for name, field in fields if not _large(name, field) and not _of_another_backbone(method, field)]


def introduced_fields(method: str) -> list[str]:
    """Names of the settings of its own that no method before it, in alphabetical order, has inherited from the same
    class: those that several methods share act in code that they share."""
    earlier = [other.Settings for name, other in methods().items() if name < method]
    declared = {
        name: next(cls for cls in methods()[method].Settings.__mro__ if name in vars(cls).get("__annotations__", {}))
        for name in own_fields(method)
    }
    return [name for name, cls in declared.items() if not any(issubclass(other, cls) for other in earlier)]


def configurations(method: str, name: str) -> list[Config]:
    """As those of the kit, also of settings that all methods have."""
    if "." not in name:
        return purity.configurations(method, name)
    base = purity.where_acting(method, name)
    if name == "data.root":
        variants = [{**base, name: root} for root in _roots(base["data.dataset"])]
    elif name == "network.weights":
        variants = [{**base, name: weights} for weights in ("random", _weights_file())]
    else:
        values = [value for value in purity.values(base, name) if _possible(method, name, value)]
        variants = [_with_files({**base, name: value}) for value in values]
    return [resolve(each) for each in variants] if name == "train.epochs" else purity.long_enough(variants)


def _with_files(values: dict[str, Any]) -> dict[str, Any]:
    """With a miniature of the data set where it is one in files, and images of the size of scenes."""
    dataset = values.get("data.dataset")
    if dataset not in IN_FILES:
        return values
    return {"data.image_size": 48, **values, "data.root": _roots(dataset)[0]}


@functools.cache
def _roots(dataset: str) -> tuple[str, str]:
    """Two miniatures of a data set; in the second some labels are others."""
    one, other = (folder() / "data" / f"{dataset}-{number}" for number in (1, 2))
    miniatures.write(dataset, one)
    miniatures.write(dataset, other)
    miniatures.relabel(dataset, other)
    return str(one), str(other)


@functools.cache
def _weights_file() -> str:
    """A ResNet-18 as torchvision saves one."""
    path = folder() / "resnet18.pth"
    with seeded("weights"):
        torch.save(torchvision.models.resnet18().state_dict(), path)
    return str(path)


def _possible(method: str, name: str, value: Any) -> bool:
    if name == "network.backbone" and value not in (methods()[method].backbones or (value,)):
        return False
    return value not in LARGE.get(name, ())


def _of_another_backbone(method: str, field: Field) -> bool:
    own = methods()[method].backbones
    return bool(own) and set(own).isdisjoint(field.metadata["when"].get("backbone", own))


def _of_other_data(method: str, name: str, field: Field) -> bool:
    """Whether it takes another data set, whose words the small CLIP of digit scenes does not know."""
    of = field.metadata["when"].get("dataset", (EMBEDDED,))
    return bool(methods()[method].backbones) and (name == "data.dataset" or EMBEDDED not in of)


def _large(name: str, field: Field) -> bool:
    """Whether a field acts only under choices that are left out."""
    section = name.rpartition(".")[0]
    others = ((LARGE.get(f"{section}.{other}", ()), allowed) for other, allowed in field.metadata["when"].items())
    return any(set(allowed) <= set(left_out) for left_out, allowed in others)
