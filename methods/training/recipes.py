"""How every method is trained: optimiser, learning rates, batches, augmentation, and a linear phase before all else.

LinearInit: in the first epochs only what stands on top of the backbone is trained, the backbone is frozen. There are
two readings (`linear_init`), and in both these epochs are epochs of the trial, the first of `epochs`:

* `first_epochs` (Large Loss Matters: "only the last layer in the first epochs"): epochs of the method like any other,
  with its batches, views and learning rates, but for the frozen backbone. The method counts them: its epoch t is the
  trial's epoch t.
* `separate` (Cole et al., single-positive release): a run of its own on features of the frozen backbone, with its own
  batch size and constant learning rate and without augmentation, before the method's. There each run counts its epochs
  from 1 and makes its own optimiser. No loss in that release depends on the epoch; for one that does, the linear phase
  is trained on what acts in the method's epoch 1 (of Large Loss: nothing is rejected yet), and the epoch after it is
  the method's epoch 1 (shares and learning-rate schedules start there). `epochs` of 35 and `linear_epochs` of 25 are
  thus the release's 25 and 10; with 25 and 25 the linear phase is all there is. The release goes on from the head that
  was best on val, here it is the last one: val is measured on, never trained by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..contract.method import Method
from ..contract.objective import Recipe
from ..contract.schedules import cosine, product, step
from ..contract.settings import Settings, setting
from .platforms import Compute


@dataclass(frozen=True)
class TrainSettings(Settings):
    """Training. Learning rates are constant within an epoch."""

    epochs: int = setting(12, "epochs, those of a linear phase included", minimum=1)
    batch_size: int = setting(32, "images per step", minimum=1, typical=(8, 16, 32))
    drop_last: bool = setting(
        False,
        "leave out the last batch of an epoch where it is smaller than the others, unless it is the only one",
        source="SST, SARB and single-positive releases: dropped; Large Loss release: kept",
    )
    micro_batches: int = setting(
        1,
        "parts that a batch is computed in, one after the other, so that less memory is needed; of methods whose loss "
        "is a mean over the images of a batch",
        minimum=1,
        typical=(2, 4),
    )
    images_per_epoch: int = setting(
        0,
        "images of an epoch, where a pass over all takes hours: the next ones of the pass, and where there are fewer "
        "images, of further passes; 0: one pass",
        minimum=0,
    )
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
    warmup: Literal["off", "constant"] = setting(
        "off", "a constant learning rate in the first epochs; the schedule starts after them, as long as without them"
    )
    warmup_epochs: int = setting(1, "epochs of warm-up", minimum=1, typical=(1, 2), when={"warmup": ("constant",)})
    warmup_learning_rate: float = setting(
        5e-4,
        "base learning rate in the warm-up",
        above=0,
        typical=(1e-5, 5e-4),
        when={"warmup": ("constant",)},
        source="CLIP with semantic decoupling, section 4.2: 5e-4; CoOp release: 1e-5",
    )
    augmentation: Literal["none", "shift", "flip", "crops"] = setting(
        "none",
        "training views: the image as it is; moved by up to 3 pixels each way; mirrored with probability 1/2 (which "
        "digits do not bear); or a random square of 512, 448, 384, 320 or 256 of 512 pixels (in proportion on scenes), "
        "scaled to the size of the other images and mirrored with probability 1/2",
        source="flip: single-positive and Large Loss releases; crops: SST release, dataloader.py:68-83",
    )
    linear_init: Literal["off", "first_epochs", "separate"] = setting(
        "off",
        "LinearInit: the first epochs train the head alone, as epochs of the method, or as a run of its own before it",
        source="slides, LinearInit; single-positive release, train.py linear_init",
        title="training",
        values={"off": "end-to-end", "first_epochs": "LinearInit", "separate": "LinearInit (separate run)"},
    )
    linear_epochs: int = setting(
        1,
        "how many of `epochs` are the linear phase",
        minimum=1,
        typical=(1, 25),
        when={"linear_init": ("first_epochs", "separate")},
        source="slides: the first; single-positive release: 25",
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
        "learning rate in the linear phase, of all on top of the backbone",
        above=0,
        typical=(1e-4, 1e-3),
        when={"linear_init": ("separate",)},
        source="single-positive release: 1e-4 (LSAN), 1e-3 (ROLE)",
    )
    threads: int = setting(1, "CPU threads that a trial computes with; part of its identity", minimum=1)
    device: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "what a trial computes on; auto: cuda where torch sees a GPU, else cpu; part of its identity"
    )
    precision: Literal["fp32", "tf32", "bf16"] = setting(
        "fp32",
        "of sums on a GPU: single, or tf32 with inputs rounded to 10 bits; bf16: the backbone under autocast, on any "
        "device, all else and the loss in single precision",
    )
    channels_last: bool = setting(False, "maps of the backbone lie in memory channel by channel of each pixel")
    compile: bool = setting(False, "the backbone goes through torch.compile; the first steps then take minutes")

    def compute(self) -> Compute:
        """Where networks compute, and how; `device` is resolved."""
        return Compute(self.device, self.precision, self.channels_last, self.compile)


def recipe(method: Method, train: TrainSettings, epoch: int) -> Recipe:
    """Everything that acts in `epoch` (from 1), with the values in force."""
    linear = train.linear_init != "off" and epoch <= train.linear_epochs
    separate = train.linear_init == "separate"
    # The method's own epoch: a separate linear phase is trained on what acts in its first one.
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
        momentum=train.momentum if train.optimizer == "sgd" else None,
        learning_rates_own=own_rates or None,
        optimizer_restarts=True if separate and epoch == train.linear_epochs + 1 else None,
    )
