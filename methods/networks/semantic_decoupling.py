"""Semantic decoupling (SSGRL; SARL of SST): one feature per class, pooled by attention that the class's word vector
guides.

x_p (D) is the map at position p, w_k (W) the word vector of class k:

    h_pk = tanh(fc1 x_p * fc2 w_k)        M values, the product entry by entry
    a_pk = fc4 (fc3 h_pk + b3) + b4       attention: softmax of a_pk over the positions p
    f_k  = sum_p attention_kp x_p         class feature

Equivalent formulas save memory: the h of a whole batch, one value per image, position, class and channel, is never
stored. fc3 and fc4 have nothing in between, so they become one vector v = fc4 fc3 of M values. b3 and b4 add the same
number to all entries of a softmax, so they have no effect. h is computed in blocks, and again for the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Number of values of h in a block. Blocks that fit into a core's cache are several times faster than main memory.
BLOCK = 2**19


class SemanticDecoupling(nn.Module):
    """Feature map (B, D, H, W) and word vectors `words` (K, W) to class features (B, K, D). `attention_width` is M. The
    word vectors are neither trained nor part of the state."""

    words: Tensor

    def __init__(self, width: int, words: Tensor, attention_width: int):
        super().__init__()
        self.register_buffer("words", words, persistent=False)
        self.fc1 = nn.Linear(width, attention_width, bias=False)
        self.fc2 = nn.Linear(words.shape[1], attention_width, bias=False)
        self.fc3 = nn.Linear(attention_width, attention_width)
        self.fc4 = nn.Linear(attention_width, 1)

    def forward(self, features: Tensor) -> Tensor:
        return self._weights(features) @ _positions(features)

    def attention(self, features: Tensor) -> Tensor:
        """The attention of each class, (B, K, H, W), with sum 1 over the positions."""
        return self._weights(features).unflatten(2, features.shape[2:])

    def _weights(self, features: Tensor) -> Tensor:
        images = _positions(features)
        vector = (self.fc4.weight @ self.fc3.weight)[0]
        scores = Scores.apply(self.fc1(images).flatten(0, 1), self.fc2(self.words), vector)
        # The biases without effect get a gradient of zero. Without any gradient, weight decay would skip them.
        without_effect = 0 * self.fc4(self.fc3.bias)
        return (scores + without_effect).unflatten(0, images.shape[:2]).softmax(1).transpose(1, 2)


class SemanticAttention(nn.Module):
    """SAM of ADD-GCN (Ye et al., ECCV 2020): attention by a learned filter per class instead of word vectors.

    mask_kp = sigmoid(fc_k . x_p), class feature f_k = sum_p mask_kp (T x_p + t): a sum over positions, not a mean.
    Feature map (B, D, H, W) to class features (B, K, `output_width`).
    """

    def __init__(self, width: int, num_classes: int, output_width: int):
        super().__init__()
        self.fc = nn.Linear(width, num_classes, bias=False)
        self.transform = nn.Linear(width, output_width)

    def forward(self, features: Tensor) -> Tensor:
        return self.attention(features).flatten(2) @ self.transform(_positions(features))

    def transformed(self, features: Tensor) -> Tensor:
        """The map T x + t that the masks weight, (B, `output_width`, H, W)."""
        return self.transform(_positions(features)).transpose(1, 2).unflatten(2, features.shape[2:])

    def attention(self, features: Tensor) -> Tensor:
        """The masks (B, K, H, W), with values in (0, 1)."""
        return torch.sigmoid(self._logits(features)).unflatten(2, features.shape[2:])

    def max_logits(self, features: Tensor) -> Tensor:
        """The largest value of each mask before the sigmoid, (B, K): ADD-GCN's second score of an image."""
        return self._logits(features).amax(2)

    def _logits(self, features: Tensor) -> Tensor:
        return self.fc(_positions(features)).transpose(1, 2)


class Scores(torch.autograd.Function):
    """v . tanh(u_n * w_k), (N, K), for u (N, M), w (K, M) and v (M), in blocks of rows n. For the gradient, the tanh is
    computed again."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, w: Tensor, v: Tensor) -> Tensor:
        ctx.save_for_backward(u, w, v)
        return torch.cat([torch.tanh_(block[:, None] * w) @ v for block in u.split(_rows(w))])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        u, w, v = ctx.saved_tensors
        grad_u, grad_w, grad_v = torch.empty_like(u), torch.zeros_like(w), torch.zeros_like(v)
        rows = _rows(w)
        for block, given, grad_block in zip(u.split(rows), gradient.split(rows), grad_u.split(rows), strict=True):
            h = torch.tanh_(block[:, None] * w)
            grad_v += given.flatten() @ h.flatten(0, 1)
            # The gradient of the argument of tanh, without its factor v: given (1 - h^2).
            slope = h.square_().neg_().add_(1).mul_(given[:, :, None])
            torch.sum(slope * w, 1, out=grad_block)
            grad_w += slope.mul_(block[:, None]).sum(0)
        return grad_u * v, grad_w * v, grad_v


def _rows(w: Tensor) -> int:
    return max(1, BLOCK // w.numel())


def _positions(features: Tensor) -> Tensor:
    """(B, D, H, W) to (B, H W, D)."""
    return features.flatten(2).transpose(1, 2)
