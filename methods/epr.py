"""EPR, expected positive regularisation (Cole et al., CVPR 2021): known positives, and a penalty on their number.

With p = sigmoid(x) in (0, 1), k the expected number of positives in an image, and l = -log(p + log_eps):

    loss = 1/(B K) sum_{known positives} l + weight R,    R = ((1/B sum_b sum_c p_bc) - k)^2 / K^2

Other labels are not used, so only R lowers a score. Known negatives have no loss, as in the release: the method is made
for single positive labels.

k is knowledge about the data set that is not in the training labels. The release sets 1.5 for VOC, 2.9 for COCO, 1.9
for NUS-WIDE and 31.4 for CUB. The default is that of digit scenes, 2.4 labels per image.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass

from torch import Tensor

from .components.losses import sigmoid_cross_entropy
from .contract.method import Method
from .contract.objective import Batch, InseparableError, Modules, Objective
from .contract.settings import Settings, setting


def expected_positive_penalty(logits: Tensor, expected_positives: float) -> Tensor:
    """R, a scalar: the squared difference of the mean predicted number of positives per image, from logits (B, K), and
    the expected number, divided by K^2."""
    return ((logits.sigmoid().sum(1).mean() - expected_positives) / logits.shape[1]) ** 2


def positives_loss(logits: Tensor, labels: Tensor, log_eps: float) -> Tensor:
    """The scalar loss of the known positives, divided by B K; logits (B, K), labels (B, K) of +1, -1, 0."""
    positive = (labels > 0).to(logits.dtype)
    return (positive * sigmoid_cross_entropy(logits, positive, log_eps)).mean()


@dataclass(frozen=True)
class EPRObjective(Objective):
    """Known positives and the penalty on the number of positives. `log_eps` None: BCE is computed from logits."""

    expected_positives: float
    weight: float
    log_eps: float | None = None

    def part_weight(self, labels: Tensor) -> float:
        raise InseparableError("its penalty is on how many positives the whole batch has")

    def loss(self, batch: Batch, modules: Modules, state: MutableMapping[str, Tensor]) -> Tensor:
        logits = self.logits(batch.features, modules)
        penalty = expected_positive_penalty(logits, self.expected_positives)
        return positives_loss(logits, batch.labels, self.log_eps or 0.0) + self.weight * penalty


@dataclass(frozen=True)
class ExpectedPositivesSettings(Settings):
    """Settings that EPR and ROLE share."""

    expected_positives: float = setting(
        2.4,
        "expected number of positives in an image (digit scenes: 2.4)",
        minimum=0,
        typical=(1.5, 1.9, 2.4, 2.9, 31.4),
        source="Cole et al. 2021, counted in full labels: 1.5 (VOC), 2.9 (COCO), 1.9 (NUS-WIDE), 31.4 (CUB)",
    )
    log_eps: float = setting(
        1e-5,
        "0: BCE on logits; above 0: -log(p + log_eps) on probabilities, as released",
        published=1e-5,
        minimum=0,
        maximum=0.1,
        typical=(1e-5, 0.0),
        source="single-positive release, losses.py neg_log",
    )


@dataclass(frozen=True)
class EPRSettings(ExpectedPositivesSettings):
    weight: float = setting(
        1.0,
        "weight of the penalty",
        published=1.0,
        above=0,
        typical=(0.1, 1.0, 10.0),
        source="Cole et al. 2021; released: 1",
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
