"""SSGRL (Chen et al., ICCV 2019), trained on known labels only: the baseline of SST, SARB and their successors.

It has the semantic decoupling, the gated graph network and the head of `methods.components.decoupling`, with partial
BCE instead of full BCE. The papers say no more, and no code of this baseline is public. Assumed is the network of the
SST release without SST's additions, but with its batch norm, its graph of known co-occurrence and its mean over known
labels. The SSGRL release differs: its graph counts objects in full annotations, and its reset gate shares weights with
the update gate.
"""

from __future__ import annotations

from .components.decoupling import DecoupledObjective, DecouplingSettings
from .contract.method import Method
from .contract.objective import Objective


class SSGRL(Method[DecouplingSettings]):
    """Semantic decoupling and a graph over the classes, trained on known labels (SSGRL)."""

    name = "ssgrl"
    source = "Chen et al., Learning Semantic-Specific Graph Representation, ICCV 2019; SST (AAAI 2022), baselines"
    Settings = DecouplingSettings
    unshared = "every setting acts from epoch 1 on"

    def objective(self, epoch: int) -> Objective:
        return DecoupledObjective(self.settings.decoupled(), per_image=self.settings.per_image())
