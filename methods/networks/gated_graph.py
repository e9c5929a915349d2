"""Messages between classes along a graph: the gated graph network of the SST release. The graph itself is given."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GatedGraph(nn.Module):
    """A gated recurrent unit per class that hears its neighbours (SSGRL Eq. 5-7; release, GraphNeuralNetwork.py).

    Per step, with A h and its transpose A^T h as the message: z = sigmoid(fc_1_w m + fc_1_u h), r = sigmoid(fc_2_w m +
    fc_2_u h), c = tanh(fc_3_w m + fc_3_u (r h)), h = (1 - z) h + z c. `adjacency` (K, K), A_ij what i hears from j;
    `width` D. The SSGRL release lets the reset gate use the update gate's fc_u; this is the later, corrected one.
    """

    adjacency: Tensor

    def __init__(self, width: int, adjacency: Tensor, steps: int):
        super().__init__()
        self.steps = steps
        self.register_buffer("adjacency", adjacency, persistent=False)
        self.fc_1_w, self.fc_1_u = nn.Linear(2 * width, width), nn.Linear(width, width)
        self.fc_2_w, self.fc_2_u = nn.Linear(2 * width, width), nn.Linear(width, width)
        self.fc_3_w, self.fc_3_u = nn.Linear(2 * width, width), nn.Linear(width, width)

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, K, D) after all steps, from those before (B, K, D)."""
        state = features
        for _ in range(self.steps):
            message = torch.cat([self.adjacency @ state, self.adjacency.T @ state], dim=2)
            update = torch.sigmoid(self.fc_1_w(message) + self.fc_1_u(state))
            reset = torch.sigmoid(self.fc_2_w(message) + self.fc_2_u(state))
            candidate = torch.tanh(self.fc_3_w(message) + self.fc_3_u(reset * state))
            state = torch.lerp(state, candidate, update)
        return state
