"""How every method is trained: optimiser, learning rates, batches, augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .contract import Method, Recipe
from .schedules import cosine, product, step
from .settings import Settings, setting


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Training. Learning rates are constant within an epoch."""

    epochs: int = setting(12, "epochs", minimum=1)
    batch_size: int = setting(32, "images per step; the last, smaller batch is kept", minimum=1, typical=(8, 16, 32))
    optimizer: Literal["adam", "sgd"] = setting("adam", "Adam, or SGD with momentum")
    learning_rate: float = setting(3e-3, "base learning rate, of epoch 1", above=0, typical=(1e-5, 3e-3))
    backbone_multiplier: float = setting(1.0, "backbone's learning rate over the base", minimum=0, typical=(0.3, 1.0))
    classifier_multiplier: float = setting(
        1.0,
        "learning rate of everything on top of the backbone, over the base",
        above=0,
        typical=(1.0, 10.0),
        source="Large Loss release: 10",
    )
    momentum: float = setting(0.9, "momentum", minimum=0, maximum=1, typical=(0.9, 0.5), when={"optimizer": ("sgd",)})
    weight_decay: float = setting(0.0, "L2 penalty, added to the gradient", minimum=0, typical=(5e-4,))
    schedule: Literal["constant", "cosine", "step"] = setting("cosine", "learning rate over the epochs")
    step_every: int = setting(10, "epochs between steps", minimum=1, typical=(2, 10), when={"schedule": ("step",)})
    step_factor: float = setting(
        0.1, "factor of each step", above=0, maximum=1, typical=(0.1, 0.5), when={"schedule": ("step",)}
    )
    augmentation: Literal["none", "shift"] = setting(
        "none", "training views: the image as it is, or moved by up to 3 pixels each way"
    )
    threads: int = setting(1, "CPU threads that a trial computes with; part of its identity", minimum=1)


def recipe(method: Method, train: TrainSettings, epoch: int) -> Recipe:
    """Everything that acts in `epoch` (from 1), with the values in force."""
    rate = train.learning_rate
    if train.schedule == "cosine":
        rate = cosine(rate, epoch, train.epochs)
    elif train.schedule == "step":
        rate = step(rate, epoch, train.step_every, train.step_factor)
    objective = method.objective(epoch)
    own_rates = tuple((name, product(rate, factor)) for name, factor in sorted(objective.rate_multipliers().items()))
    return Recipe(
        objective=objective,
        batch_size=train.batch_size,
        augmentation=None if train.augmentation == "none" else train.augmentation,
        optimizer=train.optimizer,
        learning_rate_backbone=product(rate, train.backbone_multiplier),
        learning_rate_head=product(rate, train.classifier_multiplier),
        weight_decay=train.weight_decay,
        momentum=train.momentum if train.optimizer == "sgd" else None,
        learning_rates_own=own_rates or None,
    )
