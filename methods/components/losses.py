"""Losses for partial labels that several methods share: partial BCE with soft targets, and the asymmetric loss.

Only functions of tensors: no method and no network is here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def known_bce(logits: Tensor, targets: Tensor, margin: float = 0.0, *, per_image: bool = False) -> Tensor:
    """Partial BCE, a scalar: the mean over the known labels of the batch, 0 if there are none.

    `logits` and `targets` are (B, K). A target above `margin` is a positive, soft if it is below 1. A target below
    -`margin` is a negative. Targets between are unknown. `per_image`: the mean over the known labels of each image (0
    without any), then over all images. Source: SST release, loss/SST.py:75-101; `per_image`: SST, Eq. 9 and 10.
    """
    known = (targets > margin) | (targets < -margin)
    entries = sigmoid_cross_entropy(logits, targets.to(logits.dtype).clamp(min=0))
    entries = torch.where(known, entries, 0.0)
    if per_image:
        return (entries.sum(1) / known.sum(1).clamp(min=1)).mean()
    return entries.sum() / known.sum().clamp(min=1)


def asymmetric_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    gamma_pos: float,
    gamma_neg: float,
    clip: float,
    focus_gradient: bool,
    clip_log: bool = True,
) -> Tensor:
    """Asymmetric loss of each entry; logits and labels have the same shape. 0 where the label is 0.

    With p = sigmoid(logit) and q = min(1 - p + clip, 1): -log(p) (1 - p)^gamma_pos for +1, -log(q) (1 - q)^gamma_neg
    for -1. `focus_gradient`: True, the factors with gamma pass gradient (SST release); False, they are constants (ASL,
    DualCoOp). `clip_log` False: log(1 - p) in place of log(q), so `clip` acts in the factor alone (SST, Eq. 4).
    """
    p = torch.sigmoid(logits)
    q = (1 - p + clip).clamp(max=1) if clip else 1 - p
    positive = torch.nn.functional.logsigmoid(logits)
    # log(1 - p) is computed from the logit, because 1 - p would be rounded before the logarithm.
    negative = torch.log(q) if clip and clip_log else torch.nn.functional.logsigmoid(-logits)
    with torch.set_grad_enabled(focus_gradient and torch.is_grad_enabled()):
        focus = torch.where(labels > 0, (1 - p) ** gamma_pos, (1 - q) ** gamma_neg)
    entries = -torch.where(labels > 0, positive, negative) * focus
    return torch.where(labels == 0, 0.0, entries)


def sigmoid_cross_entropy(logits: Tensor, targets: Tensor, log_eps: float = 0.0) -> Tensor:
    """Binary cross-entropy of each entry (B, K), for targets in [0, 1].

    `log_eps` 0: computed from the logits, accurate for any logit. Above 0: -log(p + log_eps) of probabilities, which is
    bounded, as in the single-positive release (1e-5).
    """
    if log_eps == 0.0:
        return nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    probs = torch.sigmoid(logits)
    return -targets * torch.log(probs + log_eps) - (1 - targets) * torch.log(1 - probs + log_eps)
