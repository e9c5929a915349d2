"""EPR, expected positive regularisation (Cole et al., CVPR 2021): known positives, and how many there should be.

With p = sigmoid(x) in (0, 1), k the expected number of positives of an image and l = -log(p + log_eps):

    loss = 1/(B K) sum_{known positives} l + weight R,    R = ((1/B sum_b sum_c p_bc) - k)^2 / K^2

No label is assumed for any other entry, so it is R alone that lowers a score. Known negatives count 0, as released: the
loss is made for single positive labels.

k is knowledge of the data set that training labels do not hold. The release sets 1.5 for VOC, 2.9 for COCO, 1.9 for
NUS-WIDE and 31.4 for CUB; the default is that of digit scenes, 2.4 labels an image.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from torch import Tensor, nn

from .components.losses import sigmoid_cross_entropy
from .contract.method import Method
from .contract.objective import Batch, InseparableError, Objective
from .contract.settings import Settings, setting


def expected_positive_penalty(logits: Tensor, expected_positives: float) -> Tensor:
    """R, a scalar: how far the mean number of positives predicted in a batch, logits (B, K), is from the expected."""
    return ((logits.sigmoid().sum(1).mean() - expected_positives) / logits.shape[1]) ** 2


def positives_loss(logits: Tensor, labels: Tensor, log_eps: float) -> Tensor:
    """Scalar loss of the known positives alone, over all B K entries; logits (B, K), labels (B, K) of +1, -1, 0."""
    positive = (labels > 0).to(logits.dtype)
    return (positive * sigmoid_cross_entropy(logits, positive, log_eps)).mean()


@dataclass(frozen=True)
class EPRObjective(Objective):
    """Known positives and the penalty on the number of positives. `log_eps` None: from logits."""

    expected_positives: float
    weight: float
    log_eps: float | None = None

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("its penalty is on how many positives the whole batch has")

    def loss(self, batch: Batch, modules: Mapping[str, nn.Module], state: MutableMapping[str, Tensor]) -> Tensor:
        logits = self.logits(batch.features, modules)
        penalty = expected_positive_penalty(logits, self.expected_positives)
        return positives_loss(logits, batch.labels, self.log_eps or 0.0) + self.weight * penalty


@dataclass(frozen=True)
class ExpectedPositivesSettings(Settings):
    """What EPR and ROLE have in common."""

    expected_positives: float = setting(
        2.4,
        "expected positives of an image (digit scenes: 2.4)",
        minimum=0,
        typical=(1.5, 1.9, 2.4, 2.9, 31.4),
        source="single-positive release, train.py:235-240",
    )
    log_eps: float = setting(
        1e-5,
        "0: BCE on logits; above 0: -log(p + log_eps) on probabilities, as released",
        minimum=0,
        maximum=0.1,
        typical=(1e-5, 0.0),
        source="single-positive release, losses.py neg_log",
    )


@dataclass(frozen=True)
class EPRSettings(ExpectedPositivesSettings):
    weight: float = setting(
        1.0, "weight of the penalty", above=0, typical=(0.1, 1.0, 10.0), source="Cole et al. 2021; released: 1"
    )


class EPR(Method[EPRSettings]):
    """Known positives, and a penalty on how many positives are predicted (EPR)."""

    name = "epr"
    source = "Cole et al., Multi-Label Learning from Single Positive Labels, CVPR 2021; Large Loss Matters, Table 1"
    Settings = EPRSettings
    unshared = "every setting acts from epoch 1 on"

    def objective(self, epoch: int) -> Objective:
        s = self.settings
        return EPRObjective(s.expected_positives, s.weight, s.log_eps or None)
