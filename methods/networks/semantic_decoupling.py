"""Class features from a feature map: semantic decoupling (attention that starts from word vectors), and SAM (a mask per
class). What becomes of class features is not here.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Numbers of the hyperbolic tangents that are held at a time: few enough to stay in a core's cache.
_AT_A_TIME = 1 << 18


class SemanticDecoupling(nn.Module):
    """Semantic decoupling (SSGRL Eq. 1-4; SST release, SemanticDecoupling.py): a low-rank bilinear attention.

    At position p of class k with word vector x_k: h = tanh(U f_p * V x_k), a = fc4(fc3(h)), attention the softmax of a
    over the positions, class feature the sum of f_p weighted by it. `words` (K, W) float, `width` D, `attention_width`
    M; U is fc1, V fc2, both without bias.

    Exact algebra, parametrised as released: fc4 after fc3 is one vector, the tanh of all positions and classes (B, P,
    K, M) is made piece by piece, again on the way back, and no tensor (B, P, K, D) is built.
    """

    def __init__(self, width: int, words: Tensor, attention_width: int):
        super().__init__()
        self.register_buffer("words", words, persistent=False)
        self.fc1 = nn.Linear(width, attention_width, bias=False)
        self.fc2 = nn.Linear(words.shape[1], attention_width, bias=False)
        self.fc3 = nn.Linear(attention_width, attention_width)
        self.fc4 = nn.Linear(attention_width, 1)

    def attention(self, features: Tensor) -> Tensor:
        """Weights (B, K, H, W) of a feature map (B, D, H, W); those of a class sum to 1 over the positions."""
        batch, _, height, breadth = features.shape
        of_positions = self.fc1(features.flatten(2).transpose(1, 2)).flatten(0, 1)
        of_words = self.fc2(self.words)
        direction = self.fc4.weight @ self.fc3.weight
        # The softmax ignores a shift. Kept, so that the biases have the gradient that they have: zero.
        shift = self.fc4.weight @ self.fc3.bias + self.fc4.bias
        scores = _TanhScores.apply(of_positions, of_words, direction[0]) + shift
        return scores.view(batch, height * breadth, -1).softmax(1).transpose(1, 2).unflatten(2, (height, breadth))

    def forward(self, features: Tensor) -> Tensor:
        """Class features (B, K, D) of a feature map (B, D, H, W)."""
        return self.attention(features).flatten(2) @ features.flatten(2).transpose(1, 2)


class _TanhScores(torch.autograd.Function):
    """sum over m of v_m tanh(u_nm w_km), (N, K), of u (N, M), w (K, M) and v (M,), without a tensor (N, K, M)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(u, w, v)
        return torch.cat([(part[:, None] * w).tanh_() @ v for part in _pieces(u, w)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, w, v = ctx.saved_tensors
        (gradient,) = gradients
        of_u, of_w, of_v = [], torch.zeros_like(w), torch.zeros_like(v)
        for part, given in zip(_pieces(u, w), _pieces(gradient, w), strict=True):
            tanh = (part[:, None] * w).tanh_()
            of_v += given.flatten() @ tanh.flatten(0, 1)
            # The derivative of tanh is 1 - tanh²; v comes in at the end, as it is the same for all.
            slope = tanh.square_().neg_().add_(1).mul_(given[:, :, None])
            of_u.append(torch.einsum("nkm,km->nm", slope, w))
            of_w += torch.einsum("nkm,nm->km", slope, part)
        return torch.cat(of_u) * v, of_w * v, of_v


def _pieces(rows: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    return rows.split(max(_AT_A_TIME // w.numel(), 1))


class SemanticAttention(nn.Module):
    """SAM (ADD-GCN, add_gcn.py:97-124): a sigmoid mask per class on transformed features, summed over the positions.

    `fc` is a 1 x 1 convolution without bias, `conv_transform` one with bias, to `output_width` channels.
    """

    def __init__(self, width: int, num_classes: int, output_width: int):
        super().__init__()
        self.fc = nn.Conv2d(width, num_classes, 1, bias=False)
        self.conv_transform = nn.Conv2d(width, output_width, 1)

    def attention(self, features: Tensor) -> Tensor:
        """Masks (B, K, H, W) in (0, 1) of a feature map (B, D, H, W)."""
        return torch.sigmoid(self.fc(features))

    def max_logits(self, features: Tensor) -> Tensor:
        """The largest logit of every class over the positions, (B, K): ADD-GCN's second score."""
        return self.fc(features).flatten(2).amax(2)

    def forward(self, features: Tensor) -> Tensor:
        """Class features (B, K, D') of a feature map (B, D, H, W)."""
        return self.attention(features).flatten(2) @ self.conv_transform(features).flatten(2).transpose(1, 2)
