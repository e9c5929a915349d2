"""Large Loss Matters (Kim et al., CVPR 2022): reject or correct the unobserved labels with the largest losses.

Unobserved labels are first taken as negatives (Naive AN), with l = BCE(x, 0). In epoch t the unobserved labels with the
k largest losses of a batch are modified; losses equal to the k-th are included:

* LL-R (`reject`): their loss counts 0; the denominator stays B K.
* LL-Ct (`correct_temporary`): their loss becomes BCE(x, 1), with its own gradient.
* LL-Cp (`correct_permanent`): like LL-Ct, and these labels stay +1 in all later epochs.

LL-R and LL-Ct modify (t - 1) delta_rel percent of the labels in epoch t, LL-Cp delta_rel percent from epoch 2 on. In
epoch 1 nothing is modified. The percentage is computed by repeated subtraction in double precision, as in the release:
with 0.5 percent in epoch 6, k is larger by one than in exact arithmetic.

Text and release differ. The slides take the percentage of the *unobserved* labels, the code that of *all* B K labels of
the batch (`fraction_of`). The release of July 2022 compares strings by identity, so its LL-Cp acts like LL-Ct. The
release of March 2022 uses a strict comparison, so it never makes the k-th label permanent (`permanent`). The default
is what the text means.
"""

from __future__ import annotations

import math
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .assume_negative import AssumeNegativeObjective
from .components.losses import sigmoid_cross_entropy
from .contract.method import Method
from .contract.objective import MODIFIED, Batch, InseparableError, Modules, Objective
from .contract.settings import Settings, setting
from .contract.task import Task

Scheme = Literal["reject", "correct_temporary", "correct_permanent"]
FractionOf = Literal["all", "unobserved"]


@dataclass(frozen=True)
class Modification:
    """The result of `modify_large_losses`: the scalar `loss`, the `threshold` of modified losses (NaN without any), the
    entries `modified` and those `written` permanently, both (B, K) bool, and `k`."""

    loss: Tensor
    threshold: Tensor
    modified: Tensor
    written: Tensor
    k: int


def modify_large_losses(
    logits: Tensor,
    labels: Tensor,
    *,
    scheme: Scheme,
    fraction: float,
    fraction_of: FractionOf = "all",
    protect_observed: bool = True,
    strict_write: bool = False,
) -> Modification:
    """The loss of logits (B, K) with labels (B, K) of +1, -1, 0, with large losses rejected or corrected.

    `fraction` in [0, 1] is that of all or of unobserved labels (`fraction_of`). With `protect_observed` False, as in
    the release, a k larger than the number of unobserved labels gives the threshold 0: all labels are modified, also
    observed ones. `strict_write`: entries equal to the threshold are not in `written`.
    """
    targets = (labels > 0).to(logits.dtype)
    entries = sigmoid_cross_entropy(logits, targets)
    unobserved = labels == 0
    counted = int(unobserved.sum()) if fraction_of == "unobserved" else labels.numel()
    k = min(math.ceil(counted * fraction), labels.numel())
    if k == 0:
        nothing = torch.zeros_like(unobserved)
        return Modification(entries.mean(), logits.new_tensor(math.nan), nothing, nothing, 0)
    candidates = torch.where(unobserved, entries.detach(), 0.0)
    threshold = candidates.flatten().topk(k).values[-1]
    modified = candidates >= threshold
    if protect_observed:
        modified &= unobserved
    corrected = torch.zeros_like(entries) if scheme == "reject" else sigmoid_cross_entropy(logits, 1 - targets)
    written = torch.zeros_like(modified)
    if scheme == "correct_permanent":
        written = (modified & (candidates > threshold if strict_write else True)) & (labels != 1)
    return Modification(torch.where(modified, corrected, entries).mean(), threshold, modified, written, k)


@dataclass(frozen=True)
class LargeLossObjective(Objective):
    """One epoch of LL-R, LL-Ct or LL-Cp with a `fraction` of modified labels."""

    scheme: Scheme
    fraction: float
    fraction_of: FractionOf
    protect_observed: bool
    strict_write: bool | None = None

    def initial_state(self, task: Task) -> dict[str, Tensor]:
        if self.scheme != "correct_permanent":
            return {}
        return {"labels": torch.from_numpy(task.observed.copy())}

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("its threshold is one of the whole batch")

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        permanent = self.scheme == "correct_permanent"
        labels = state["labels"][batch.indices] if permanent else batch.labels
        result = modify_large_losses(
            self.logits(batch.features, modules),
            labels,
            scheme=self.scheme,
            fraction=self.fraction,
            fraction_of=self.fraction_of,
            protect_observed=self.protect_observed,
            strict_write=bool(self.strict_write),
        )
        if permanent:
            rows, classes = result.written.nonzero(as_tuple=True)
            state["labels"][batch.indices[rows], classes] = 1
        batch.note(MODIFIED, result.modified | (labels != batch.labels))
        return result.loss


@dataclass(frozen=True)
class LargeLossSettings(Settings):
    scheme: Scheme = setting(
        "reject", "how large losses are modified: LL-R, LL-Ct or LL-Cp", source="slides, LL-R to LL-Cp"
    )
    delta_rel: float = setting(
        0.2,
        "percent of labels modified more per epoch (LL-Cp: percent modified)",
        published=0.2,
        minimum=0,
        maximum=100,
        typical=(0.1, 0.2, 0.4, 0.8, 1.6, 3.2),
        source="slides, R(t); release config.py:48",
        title="Δrel",
        unit="percent per epoch",
    )
    fraction_of: FractionOf = setting(
        "all",
        "labels of the batch to which the percentage refers: all (release), or unobserved ones (text)",
        published="all",
        source="release losses.py:43-50; slides, R(t)",
    )
    protect_observed: bool = setting(
        True, "false: if k exceeds the number of unobserved labels, all labels are modified, as in the release"
    )
    permanent: Literal["corrected", "release_2022_03", "release_2022_07"] = setting(
        "corrected",
        "variant of LL-Cp. corrected: as the text means. release_2022_03: the k-th label is never made permanent. "
        "release_2022_07: same as LL-Ct",
        published="corrected",
        when={"scheme": ("correct_permanent",)},
        source="release losses.py:43-51, train.py:82",
    )


class LargeLoss(Method[LargeLossSettings]):
    """Large losses among unobserved labels are rejected or corrected (LL-R, LL-Ct, LL-Cp)."""

    name = "large_loss"
    source = "Kim et al., Large Loss Matters in Weakly Supervised Multi-Label Classification, CVPR 2022"
    Settings = LargeLossSettings
    # From epoch 3 on more entries than are unobserved, so that protecting the observed ones matters.
    quick: ClassVar = {"delta_rel": 30.0}

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        scheme, strict = s.scheme, None
        if scheme == "correct_permanent" and s.permanent == "release_2022_07":
            scheme = "correct_temporary"
        if scheme == "correct_permanent" and s.permanent == "release_2022_03":
            strict = True
        fraction = modified_fraction(scheme, s.delta_rel, epoch)
        if fraction == 0:
            return AssumeNegativeObjective()
        return LargeLossObjective(scheme, fraction, s.fraction_of, s.protect_observed, strict)


def modified_fraction(scheme: Scheme, delta_rel: float, epoch: int) -> float:
    """The fraction in [0, 1] of labels that are modified in `epoch` (from 1), with the release's arithmetic."""
    if epoch == 1:
        return 0.0
    if scheme == "correct_permanent":
        return delta_rel / 100
    clean_rate = 1.0
    for _ in range(epoch - 1):
        clean_rate -= delta_rel / 100
    return min(1 - clean_rate, 1.0)
