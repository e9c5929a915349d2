"""The training settings of all methods, and how they become the recipe of an epoch: optimiser, learning rates, batches,
augmentation, and an optional linear phase at the start.

LinearInit: in the first epochs the backbone is frozen and only the modules on top of it are trained. There are two
readings (`linear_init`). In both, these epochs are the first of the trial's `epochs`:

* `first_epochs` (Large Loss Matters): normal epochs of the method, with its batches, augmentation and learning rates,
  except for the frozen backbone. Epoch t of the trial is the method's epoch t. Only the last layer is trained in "the
  first epoch" on one of the paper's slides, in "the first few epochs" on another; `linear_epochs` says in how many.
* `separate` (Cole et al., single-positive release): a run of its own before the method's run, on features of the frozen
  backbone, with its own batch size, a constant learning rate and no augmentation. Each run counts its epochs from 1 and
  has its own optimiser. No loss in that release depends on the epoch. For a loss that does, the linear phase uses the
  objective of the method's epoch 1 (with Large Loss nothing is rejected yet), and the next epoch is the method's epoch
  1, where its schedules start. So `epochs: 35` with `linear_epochs: 25` is the release's 25 and 10 epochs; with 25 and
  25 there is only the linear phase. The release continues from the head that was best on val. Here it is the last head,
  because val is only measured on, never used for training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..contract.method import Method
from ..contract.objective import Recipe
from ..contract.schedules import cosine, product, step
from ..contract.settings import Settings, setting
from .platforms import Compute

_WITH_MOMENTUM = {"optimizer": ("sgd", "rmsprop")}


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Training. Learning rates are constant within an epoch."""

    epochs: int = setting(12, "number of epochs, including a linear phase", minimum=1)
    batch_size: int = setting(32, "images per step", minimum=1, typical=(8, 16, 32))
    drop_last: bool = setting(
        False,
        "leave out the last batch of an epoch if it is smaller than the others, unless it is the only one",
        source="SST, SARB and single-positive releases: dropped; Large Loss release: kept",
    )
    micro_batches: int = setting(
        1,
        "number of parts in which a batch is computed, one after the other, to save memory; only for methods whose "
        "loss is a mean over the images or labels of a batch",
        minimum=1,
        typical=(2, 4),
    )
    images_per_epoch: int = setting(
        0,
        "number of images in an epoch, for data sets where a pass over all images takes hours: the next images of the "
        "current pass, then of a new one; 0: an epoch is one pass",
        minimum=0,
    )
    optimizer: Literal["adam", "sgd", "rmsprop"] = setting(
        "adam",
        "Adam, SGD with momentum, or RMSProp with momentum, decay 0.9 and epsilon 1",
        source="rmsprop: IMCL release",
    )
    learning_rate: float = setting(3e-3, "base learning rate in epoch 1", above=0, typical=(1e-5, 3e-3))
    backbone_multiplier: float = setting(
        1.0, "factor of the base learning rate for the backbone", minimum=0, typical=(0.3, 1.0)
    )
    classifier_multiplier: float = setting(
        1.0,
        "factor of the base learning rate for everything on top of the backbone",
        above=0,
        typical=(1.0, 10.0),
        source="Large Loss release: 10",
    )
    momentum: float = setting(0.9, "momentum", minimum=0, maximum=1, typical=(0.9, 0.5), when=_WITH_MOMENTUM)
    weight_decay: float = setting(0.0, "L2 penalty, added to the gradient", minimum=0, typical=(5e-4,))
    schedule: Literal["constant", "cosine", "step"] = setting("cosine", "schedule of the learning rate over the epochs")
    step_every: int = setting(10, "epochs between steps", minimum=1, typical=(2, 10), when={"schedule": ("step",)})
    step_factor: float = setting(
        0.1, "factor of each step", above=0, maximum=1, typical=(0.1, 0.5), when={"schedule": ("step",)}
    )
    warmup: Literal["off", "constant"] = setting(
        "off", "a constant learning rate in the first epochs; the schedule starts after them and keeps its full length"
    )
    warmup_epochs: int = setting(1, "epochs of warm-up", minimum=1, typical=(1, 2), when={"warmup": ("constant",)})
    warmup_learning_rate: float = setting(
        5e-4,
        "base learning rate in the warm-up",
        above=0,
        typical=(1e-5, 5e-4),
        when={"warmup": ("constant",)},
        source="Ruan et al. 2024, section 4.2: 5e-4; CoOp release: 1e-5",
    )
    augmentation: Literal["none", "shift", "flip", "crops"] = setting(
        "none",
        "augmentation of training images. none: no change. shift: moved by up to 3 pixels in each direction. flip: "
        "mirrored with probability 1/2 (not suitable for digits). crops: a random square of 512, 448, 384, 320 or 256 "
        "of 512 pixels (in proportion on scenes), scaled to the usual size and mirrored with probability 1/2",
        source="flip: single-positive and Large Loss releases; crops: SST release, dataloader.py:68-83",
    )
    linear_init: Literal["off", "first_epochs", "separate"] = setting(
        "off",
        "LinearInit: the first epochs train the head only; first_epochs: as epochs of the method; separate: as a run "
        "of their own before it",
        source="slides, LinearInit; single-positive release, train.py linear_init",
        title="training",
        values={"off": "end-to-end", "first_epochs": "LinearInit", "separate": "LinearInit (separate run)"},
    )
    linear_epochs: int = setting(
        1,
        "how many of `epochs` belong to the linear phase",
        minimum=1,
        typical=(1, 25),
        when={"linear_init": ("first_epochs", "separate")},
        source="slides: the first epoch, or the first few; single-positive release: 25",
    )
    linear_batch_size: int = setting(
        16,
        "images per step in the linear phase",
        minimum=1,
        typical=(8, 16),
        when={"linear_init": ("separate",)},
        source="single-positive release: 8 or 16",
    )
    linear_learning_rate: float = setting(
        1e-3,
        "learning rate in the linear phase, for everything on top of the backbone",
        above=0,
        typical=(1e-4, 1e-3),
        when={"linear_init": ("separate",)},
        source="single-positive release: 1e-4 (LSAN), 1e-3 (ROLE)",
    )
    threads: int = setting(1, "number of CPU threads of a trial; part of its identity", minimum=1)
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "device of a trial; auto: cuda if torch sees a GPU, else cpu; part of its identity"
    )
    precision: Literal["fp32", "tf32", "bf16"] = setting(
        "fp32",
        "fp32: single precision; tf32: on a GPU, inputs of products are rounded to 10 bits; bf16: the backbone under "
        "autocast, on any device, the head and the loss in single precision",
    )
    channels_last: bool = setting(False, "memory format channels_last for the backbone: channels of a pixel together")
    compile: bool = setting(False, "compile the backbone with torch.compile; the first steps then take minutes")

    def compute(self) -> Compute:
        """Device and number format of the computation; `device` must be resolved."""
        return Compute(self.device, self.precision, self.channels_last, self.compile)


def recipe(method: Method, train: TrainSettings, epoch: int) -> Recipe:
    """The recipe of `epoch` (from 1): everything that acts in it, with the values in force."""
    linear = train.linear_init != "off" and epoch <= train.linear_epochs
    separate = train.linear_init == "separate"
    # The method's own epoch. A separate linear phase uses the objective of the method's epoch 1.
    own = epoch if not separate else max(epoch - train.linear_epochs, 1)
    apart = linear and separate
    rate = train.linear_learning_rate if apart else train.learning_rate
    scheduled = own - (train.warmup_epochs if train.warmup == "constant" else 0)
    if not apart and scheduled < 1:
        rate = train.warmup_learning_rate
    elif train.schedule == "cosine" and not apart:
        rate = cosine(rate, scheduled, train.epochs - (train.linear_epochs if separate else 0))
    elif train.schedule == "step" and not apart:
        rate = step(rate, scheduled, train.step_every, train.step_factor)
    objective = method.objective(own)
    own_rates = tuple((name, product(rate, factor)) for name, factor in sorted(objective.rate_multipliers().items()))
    return Recipe(
        objective=objective,
        batch_size=train.linear_batch_size if apart else train.batch_size,
        drop_last=train.drop_last or None,
        micro_batches=train.micro_batches if train.micro_batches > 1 else None,
        images=train.images_per_epoch or None,
        augmentation=None if apart or train.augmentation == "none" else train.augmentation,
        optimizer=train.optimizer,
        learning_rate_backbone=None if linear else product(rate, train.backbone_multiplier),
        learning_rate_head=rate if apart else product(rate, train.classifier_multiplier),
        weight_decay=train.weight_decay,
        momentum=train.momentum if train.optimizer in _WITH_MOMENTUM["optimizer"] else None,
        learning_rates_own=own_rates or None,
        optimizer_restarts=True if separate and epoch == train.linear_epochs + 1 else None,
    )
