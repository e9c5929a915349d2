"""The contract between a method and everything else: Method, Objective, Recipe, Batch.

An epoch is a pure function of the state before it, its recipe, the task and (seed, epoch). A method says, for each
epoch, which objective acts; the objective does the work and can see nothing but its own fields, the batch and the
state. What is hashed is therefore what acts. Nothing here knows any one method, nor how an epoch is run.

A module of this package is part of the key of every epoch in which an objective defined there acts, together with the
modules that it imports: keep helpers of no effect on training out of a method's file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from .head import FeatureMap, PooledClassifier
from .randomness import torch_generator
from .task import Task

# What objectives call the entries (B, K) that they reject or correct, when they note them.
MODIFIED = "modified"
# And those (B, K) that got a label by blending.
BLENDED = "blended"


@dataclass(frozen=True)
class Batch:
    """What one step sees: `features` (B, D, H, W) from the backbone, `labels` (B, K) int8 as given to training (+1, -1,
    0 unknown), `indices` (B,) int64 rows of the task's training split, `progress` in [0, 1), the share of the epoch's
    steps that came before this one, and `place`, what names this step among all of a trial (seed, epoch, step). All
    tensors are on the device of the modules."""

    features: Tensor
    labels: Tensor
    indices: Tensor
    progress: float = 0.0
    place: tuple[int, ...] = ()
    watch: Callable[[str, Tensor, Tensor], None] | None = None
    changed: Callable[[Callable[[Tensor], Tensor]], Tensor] | None = None

    def features_of(self, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Features (B, D, H, W) of what `change` makes of the batch's images (B, 3, H, W), normalised float32: another
        pass through the whole backbone, the frozen part included."""
        assert self.changed is not None, "this batch was made of features alone"
        return self.changed(change)

    def generator(self, purpose: str) -> torch.Generator:
        """Of this step and `purpose` alone: what is drawn from it does not move what is drawn for anything else. It is
        on the CPU, as what is drawn from it, so that draws are the same on any device."""
        return torch_generator(*self.place, purpose)

    def note(self, name: str, entries: Tensor) -> None:
        """Tell a diagnostic, if one is on, which entries (B, K) bool something was done to. Acts on nothing."""
        if self.watch is not None:
            self.watch(name, self.indices, entries)


@dataclass(frozen=True)
class EpochStart:
    """What an objective sees before the first step of an epoch.

    `over_training(f)` is f of the feature maps (b, D, H, W) of all training images and of their rows (b,) int64 in the
    training split, without augmentation, under the weights that the epoch starts from: in eval mode, without gradient,
    in chunks of a fixed size in the order of the split, what f returns of each concatenated along its first dimension.
    Maps are on the device of the modules, rows and the result on the CPU. `generator` is this epoch's own; from it
    alone may be drawn.
    """

    task: Task
    over_training: Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]
    generator: torch.Generator


@dataclass(frozen=True)
class Completed:
    """Labels (B, K) of +1, -1, 0 as one rule completes them: unknown ones whose `scores` (B, K) reach `threshold`."""

    scores: Tensor
    threshold: float
    labels: Tensor


@dataclass(frozen=True)
class Completion:
    """How unknown labels of images become known: `cooccurrence` (B, K, K) in [0, 1], in row i and column j the
    probability of class i where class j is, and what each rule makes of the labels, by its name."""

    cooccurrence: Tensor
    rules: Mapping[str, Completed]


class InseparableError(ValueError):
    """A batch's loss does not follow from those of its parts; says why."""


@dataclass(frozen=True)
class Objective(ABC):
    """What is minimised in an epoch. A frozen dataclass: its fields are the values in force, and its identity.

    Two objectives that are equal must do the same; what is switched off is None, or another objective. Randomness comes
    only from `batch` and generators handed in, memory only from `state`: anything else breaks the rule of pure epochs.
    """

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        """The modules it needs on top of the backbone: name and constructor. A constructor is called with torch's
        global generator seeded by (seed, name), so that a module's initial weights are the same whatever stands beside
        it. Of the task it may read what training is given, never the true labels."""
        return {"classifier": partial(PooledClassifier, features.width, task.num_classes, features.pooling)}

    def rate_multipliers(self) -> dict[str, float]:
        """Modules whose learning rate is not that of what is on top of the backbone: name and factor of the base
        rate."""
        return {}

    def initial_state(self, task: Task) -> dict[str, Tensor]:
        """Method state (label tables, feature banks) as it is when this objective first acts."""
        return {}

    def begin_epoch(  # noqa: B027 (most objectives have nothing to do here)
        self, start: EpochStart, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]
    ) -> None:
        """Called once before the first step of an epoch, for what needs all training images at once under weights that
        stand still, such as pseudo labels or a dictionary: batch by batch they would depend on the order of the batches
        and on how far the weights had moved. May write to `state`, tensors on any device, and to nothing else."""

    def logits(self, features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        """Inference: scores (B, K) of a feature map (B, D, H, W)."""
        return modules["classifier"](features)

    def attention(self, features: Tensor, modules: Mapping[str, nn.Module]) -> Tensor:
        """Where the classes are seen in a feature map (B, D, H, W): maps (B, K, H, W). Here class activation maps, the
        classifier's weights at every position, without bias."""
        classifier = modules["classifier"]
        assert isinstance(classifier, PooledClassifier), "another classifier needs another attention"
        return torch.einsum("bdhw,kd->bkhw", features, classifier.linear.weight)

    def completion(
        self, features: Tensor, labels: Tensor, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]
    ) -> Completion | None:
        """How labels (B, K) of a feature map (B, D, H, W) are completed by what classes occur together in each image.
        For pictures alone: training never asks. None where an objective predicts no such thing, as here."""
        return None

    @abstractmethod
    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        """The scalar to minimise. May write to the tensors of `state`, which are this epoch's own."""

    def part_weight(self, labels: Tensor) -> float:
        """How much a part of a batch counts, by its labels (B, K): with these weights the mean of the losses of the
        parts is the loss of the batch. Its images, or its known labels.

        Raises `InseparableError` where there are no such weights, as here, where it is not known that there are.
        """
        raise InseparableError("it is not known to be a mean over the images")

    def report(self, modules: Mapping[str, nn.Module], state: Mapping[str, Tensor]) -> dict[str, float]:
        """What is worth a curve besides the loss, after the last step: a threshold in force, a weight that is learned.
        Recorded as `train/NAME`; every name is one of the method's `reports`."""
        return {}


@dataclass(frozen=True)
class Recipe:
    """Everything that acts in one epoch, with the values in force, and nothing that will matter only later.

    Learning rates are constant within the epoch. A `learning_rate_backbone` of None says that the backbone is frozen:
    it is in eval mode and no optimiser knows it. `learning_rates_own` are (name, rate) of the modules that the
    objective trains at a rate of their own, None where there are none. `momentum` is None for Adam.
    `optimizer_restarts`: what the optimiser remembers of the epochs before is dropped. `drop_last`: a last batch that
    is smaller than the others is left out. `micro_batches`: parts that a batch is computed in, one after the other.
    `images`: of how many images an epoch is; None: of all.
    """

    objective: Objective
    batch_size: int
    augmentation: str | None
    optimizer: str
    learning_rate_backbone: float | None
    learning_rate_head: float
    weight_decay: float
    momentum: float | None
    optimizer_restarts: bool | None = None
    learning_rates_own: tuple[tuple[str, float], ...] | None = None
    drop_last: bool | None = None
    micro_batches: int | None = None
    images: int | None = None
