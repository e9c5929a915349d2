"""SSGRL (Chen et al., ICCV 2019), trained on known labels alone: the baseline of SST, SARB and their successors.

Semantic decoupling, the gated graph network and the head of `methods.components.decoupling`, with partial BCE in place
of full BCE. The papers say no more than that; no code of this baseline is public. Assumed: it is the network of the SST
release without what SST adds (its batch norm, graph of known co-occurrence and mean over known entries included), not
that of the SSGRL release, whose graph counts objects in full annotations and whose reset gate shares the update gate's
weights.
"""

from __future__ import annotations

from dataclasses import dataclass

from .components.decoupling import DecoupledObjective, DecouplingSettings
from .contract.method import Method
from .contract.objective import Objective


@dataclass(frozen=True)
class SSGRLSettings(DecouplingSettings):
    pass


class SSGRL(Method[SSGRLSettings]):
    """Semantic decoupling and a graph over the classes, trained on known labels (SSGRL)."""

    name = "ssgrl"
    source = "Chen et al., Learning Semantic-Specific Graph Representation, ICCV 2019; SST (AAAI 2022), baselines"
    Settings = SSGRLSettings
    unshared = "every setting acts from epoch 1 on"

    def objective(self, epoch: int) -> Objective:
        return DecoupledObjective(self.settings.decoupled())
