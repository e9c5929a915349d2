"""The contract between a method and the training loop: Objective, Recipe, Batch.

An epoch is a pure function of the state before it, its recipe, the task and (seed, epoch). A method names one objective
for each epoch. The objective does the work; it sees only its own fields, the batch and the state. So the hash of a
recipe covers everything that acts. No code of one method, and no code that runs an epoch, must stand here.

The key of an epoch contains the source of the module that defines its objective, and of all modules that this one
imports. So keep helpers without effect on training out of a method's file.
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

# The modules of an objective by name, and the trained blocks of the backbone.
Modules = Mapping[str, nn.Module]

# Names for `Batch.note`: labels (B, K) bool that an objective rejects or corrects,
MODIFIED = "modified"
# labels (B, K) bool that blending adds,
BLENDED = "blended"
# and the logits (B, K) of the images themselves, not blended, in the training step.
LOGITS = "logits"


@dataclass(frozen=True)
class Batch:
    """The input of one training step. All tensors are on the device of the modules.

    `features` (B, D, H, W) come from the backbone. `labels` (B, K) int8 are those given to training: +1, -1, 0 unknown.
    `indices` (B,) int64 are rows of the task's training split. `progress` in [0, 1) is the share of the epoch's steps
    that are done. `place` is (seed, epoch, step). `watch` receives what the objective notes, if a diagnostic is on.
    `changed` computes features of changed images.
    """

    features: Tensor
    labels: Tensor
    indices: Tensor
    progress: float = 0.0
    place: tuple[int, ...] = ()
    watch: Callable[[str, Tensor, Tensor], None] | None = None
    changed: Callable[[Callable[[Tensor], Tensor]], Tensor] | None = None

    def features_of(self, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Features (B, D, H, W) of the batch's images after `change`, which gets them normalised, (B, 3, H, W) float32.
        This costs another pass through the whole backbone, its frozen part included."""
        assert self.changed is not None, "this batch was made of features alone"
        return self.changed(change)

    def generator(self, purpose: str) -> torch.Generator:
        """A generator for this step and `purpose` alone: no draw from it changes another draw. It and its draws are on
        the CPU, so that they are the same with any device."""
        return torch_generator(*self.place, purpose)

    def note(self, name: str, values: Tensor) -> None:
        """Tell a diagnostic, if one is on, the `values` (B, K) of one of the names above. Has no effect on training."""
        if self.watch is not None:
            self.watch(name, self.indices, values.detach())


@dataclass(frozen=True)
class EpochStart:
    """The input of an objective before the first step of an epoch.

    `over_training(f)` goes through all training images in the order of the split, in chunks of a fixed size. It calls f
    with the feature maps (b, D, H, W) of a chunk and the rows (b,) int64 of its images in the training split. It
    returns the results of f, concatenated along their first dimension. The images have no augmentation, the weights are
    those at the start of the epoch, the modules are in eval mode, and there is no gradient. Maps are on the device of
    the modules; rows and the result are on the CPU. `generator` belongs to this epoch; draw from no other one.
    """

    task: Task
    over_training: Callable[[Callable[[Tensor, Tensor], Tensor]], Tensor]
    generator: torch.Generator


@dataclass(frozen=True)
class Completed:
    """The result of one rule that completes unknown labels: those with `scores` (B, K) of at least `threshold` become
    known in `labels` (B, K) of +1, -1, 0."""

    scores: Tensor
    threshold: float
    labels: Tensor


@dataclass(frozen=True)
class Completion:
    """How unknown labels of a batch become known. `cooccurrence` (B, K, K) in [0, 1]: row i, column j is the
    probability of class i in an image with class j. `rules` has the result of each rule by its name."""

    cooccurrence: Tensor
    rules: Mapping[str, Completed]


class InseparableError(ValueError):
    """The loss of a batch cannot be computed from the losses of its parts. The text says why."""


@dataclass(frozen=True)
class Objective(ABC):
    """The loss of an epoch and what belongs to it. A frozen dataclass; its fields are the values in force.

    Two equal objectives must do the same, because the fields are hashed into the key. A field of a part that is
    switched off is None. To keep epochs pure, draw only from `batch` and the generators that are passed in, and
    remember things only in `state`.
    """

    def modules(self, features: FeatureMap, task: Task) -> dict[str, Callable[[], nn.Module]]:
        """The modules that the objective needs on top of the backbone: a constructor for each name. A constructor is
        called with torch's global generator seeded by (seed, name). So the initial weights of a module do not depend on
        the other modules. From the task, read only what training is given, never the true labels."""
        return {"classifier": partial(PooledClassifier, features.width, task.num_classes, features.pooling)}

    def rate_multipliers(self) -> dict[str, float]:
        """The modules with a learning rate of their own: a factor of the base rate for each name."""
        return {}

    def initial_state(self, task: Task) -> dict[str, Tensor]:
        """The method state (label tables, feature banks) at the start of the first epoch of this objective."""
        return {}

    def begin_epoch(  # noqa: B027 (most objectives have nothing to do here)
        self, start: EpochStart, modules: Modules, state: MutableMapping[str, Tensor]
    ) -> None:
        """Called once before the first step of an epoch, for work on all training images under fixed weights. Pseudo
        labels or a dictionary are made here. Made batch by batch, they would depend on the order of the batches. May
        write tensors on any device to `state`, and to nothing else."""

    def logits(self, features: Tensor, modules: Modules) -> Tensor:
        """Inference: logits (B, K) of a feature map (B, D, H, W)."""
        return modules["classifier"](features)

    def attention(self, features: Tensor, modules: Modules) -> Tensor:
        """Attention maps (B, K, H, W) of the classes in a feature map (B, D, H, W). The default are class activation
        maps: the classifier's weights applied at every position, without bias."""
        classifier = modules["classifier"]
        assert isinstance(classifier, PooledClassifier), "another classifier needs another attention"
        return torch.einsum("bdhw,kd->bkhw", features, classifier.linear.weight)

    def class_features(self, features: Tensor, modules: Modules) -> Tensor | None:
        """The features by which a class is compared between images, (B, K, D), of a feature map (B, D', H, W). Used for
        figures only, never in training. None if the method has none, which is the default."""
        return None

    def completion(
        self, features: Tensor, labels: Tensor, modules: Modules, state: Mapping[str, Tensor]
    ) -> Completion | None:
        """How the method completes the labels (B, K) of a feature map (B, D, H, W) from co-occurrence in each image.
        Used for figures only, never in training. None if the method has no such rule, which is the default."""
        return None

    @abstractmethod
    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        """The scalar to minimise. May write to the tensors of `state`, which belong to this epoch."""

    def part_weight(self, labels: Tensor) -> float:
        """The weight of a part of a batch, from its labels (B, K): for example its number of images or of known labels.
        The weighted mean of the losses of the parts must be the loss of the batch. Raises `InseparableError` if there
        are no such weights. The default raises it too, because nothing is known about the loss."""
        raise InseparableError("it is not known to be a mean over the images")

    def report(self, modules: Modules, state: Mapping[str, Tensor]) -> dict[str, float]:
        """Values to record beside the loss, after the last step of an epoch: a threshold in force, a learned weight.
        They are recorded as `train/NAME`. Every name must be one of the method's `reports`."""
        return {}


@dataclass(frozen=True)
class Recipe:
    """Everything that acts in one epoch, with the values in force. A setting that acts only later is not in it.

    Learning rates are constant within the epoch. `learning_rate_backbone` is None if the backbone is frozen: it is then
    in eval mode and in no optimiser. `learning_rates_own` are (name, rate) of the modules with a rate of their own,
    None if there are none. `momentum` is None for Adam. `optimizer_restarts`: the state of the optimiser is dropped
    first. `drop_last`: a last batch that is smaller than the others is left out. `micro_batches`: a batch is computed
    in this many parts, one after the other. `images`: number of images in the epoch; None for all.
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
