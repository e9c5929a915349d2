"""Weights of golden cases put into our networks, whose layers the release names otherwise."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

# What the release calls our layers, where not the same.
GRAPH = {
    "update_w": "fc_1_w",
    "update_u": "fc_1_u",
    "reset_w": "fc_2_w",
    "reset_u": "fc_2_u",
    "candidate_w": "fc_3_w",
    "candidate_u": "fc_3_u",
}
HEAD = {"weight": "classifiers_weight", "bias": "classifiers_bias"}
PAIRS = {
    "fc1": "intra_fc_1",
    "fc2": "intra_fc_2",
    "fc3": "intra_fc_3",
    "weight": "intra_classifiers_weight",
    "bias": "intra_classifiers_bias",
}
SAM = {"transform": "conv_transform"}
GCN = {"gc1": "gc1_weight", "gc2": "gc2_weight"}


def released(name: str, names: dict[str, str]) -> str:
    """The name in the files of one of our parameters."""
    layer, _, kind = name.partition(".")
    return "_".join(part for part in (names.get(layer, layer), kind) if part)


def given(network: nn.Module, case: SimpleNamespace, names: dict[str, str], prefix: str = "weight_") -> nn.Module:
    """`network` with the weights of the file, all of its own found there."""
    weights = {
        name: torch.tensor(getattr(case, prefix + released(name, names))) for name, _ in network.named_parameters()
    }
    network.double().load_state_dict(weights)
    return network
