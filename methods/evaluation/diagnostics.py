"""What can be looked at beside the metrics, of any method: memorisation, modified labels, where the network looks.

Nothing here acts on training, and what is off costs nothing. A diagnostic of epoch e is computed from what is there
after it and from the same diagnostic of epoch e - 1, so that it is the same whether or not training was interrupted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.settings import Settings, setting

_KINDS = ("tp", "tn", "fn")
_LABELS = {
    "loss": "mean loss of training labels",
    "warmup": "highest loss in warm-up (%)",
    "later": "highest loss later (%)",
}
# What each diagnostic measures (`memorization/tp_loss`, …), and how that is printed, as `Method.reports` are.
DIAGNOSTICS: dict[str, dict[str, str]] = {
    "memorization": {
        f"{kind}_{what}": f"{description}, {kind.upper()}" for kind in _KINDS for what, description in _LABELS.items()
    },
    "modifications": {
        "count": "modified labels",
        "per_image": "modified labels per image",
        "precision": "precision of modification (%)",
    },
    "pointing_game": {"hits": "pointing game hits (%)"},
}
Metrics = dict[str, float]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class DiagnosticSettings(Settings):
    """Diagnostics, all off unless asked for. They change no result and no key."""

    memorization: bool = setting(
        False,
        "after each epoch, mean loss of true positives, true negatives and false negatives under assume-negative "
        "labels, and in which epochs labels had their highest loss",
        evaluation_only=True,
        source="Large Loss Matters, Figure 1 and the table of highest loss phases",
    )
    warmup_epochs: int = setting(
        1,
        "epochs that are the warm-up",
        minimum=1,
        typical=(1, 2),
        when={"memorization": (True,)},
        evaluation_only=True,
    )
    modifications: bool = setting(
        False,
        "of the labels that a method rejects or corrects in an epoch: how many, and how many are truly positive",
        evaluation_only=True,
        source="Large Loss Matters, precision of modification",
    )
    pointing_game: bool = setting(
        False,
        "whether class activation maxima of test images lie in a box of the class",
        evaluation_only=True,
        source="Large Loss Matters, Table 4",
    )
    upsampling: Literal["bilinear", "cells"] = setting(
        "bilinear",
        "where a maximum is looked for: in the map enlarged to the image, or among the centres of its cells",
        when={"pointing_game": (True,)},
        evaluation_only=True,
    )
    tolerance: int = setting(
        0,
        "pixels by which boxes are enlarged on each side",
        minimum=0,
        typical=(0, 15),
        when={"pointing_game": (True,)},
        evaluation_only=True,
        source="Zhang et al., pointing game: 15",
    )
    pictures: int = setting(
        0,
        "training scenes that are kept as corrections.npz, with the labels that were modified in the end",
        minimum=0,
        typical=(0, 6),
        when={"modifications": (True,)},
        evaluation_only=True,
        source="Large Loss Matters, qualitative results",
    )
    cooccurrence: int = setting(
        0,
        "training scenes that are kept as cooccurrence.npz, with how their labels are completed in the end by what "
        "classes occur together; of methods that predict it",
        minimum=0,
        typical=(0, 4),
        evaluation_only=True,
        source="SST (AAAI 2022), qualitative results",
    )

    per_class: bool = setting(
        False,
        "average precision of each class on the test images, `test/ap/NAME`",
        evaluation_only=True,
        source="CLIP with semantic decoupling, Figure 5",
    )
    attention: int = setting(
        0,
        "test scenes that are kept as attention.npz, with where each class is seen in the end and the classes' scores",
        minimum=0,
        typical=(0, 4),
        evaluation_only=True,
        source="CLIP with semantic decoupling, Figures 3 and 6",
    )

    def on(self) -> dict[str, dict[str, Any]]:
        """The diagnostics that are on, each with what it is computed by."""
        by: dict[str, dict[str, Any]] = {
            "memorization": {"warmup_epochs": self.warmup_epochs},
            "modifications": {},
            "pointing_game": {"upsampling": self.upsampling, "tolerance": self.tolerance},
        }
        return {name: settings for name, settings in by.items() if getattr(self, name)}


@dataclass(frozen=True)
class Diagnosis:
    """Of one diagnostic after one epoch: its `metrics`, and what the next epoch's needs of it."""

    metrics: Metrics
    kept: Tensors

    def tensors(self) -> Tensors:
        """Both as one record."""
        metrics = {f"metric/{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.metrics.items()}
        return {**metrics, **{f"kept/{name}": tensor for name, tensor in self.kept.items()}}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Diagnosis:
        """Of such a record."""
        parts: dict[str, Tensors] = {"metric": {}, "kept": {}}
        for name, tensor in tensors.items():
            part, _, own = name.partition("/")
            parts[part][own] = tensor
        return cls({name: tensor.item() for name, tensor in parts["metric"].items()}, parts["kept"])


class Watch:
    """Collects, over an epoch, what an objective notes of its batches: entries (N, K) by name."""

    def __init__(self, images: int, classes: int):
        self._shape = images, classes
        self._entries: Tensors = {}

    def __call__(self, name: str, rows: Tensor, entries: Tensor) -> None:
        if name not in self._entries:
            self._entries[name] = torch.zeros(self._shape, dtype=torch.bool)
        self._entries[name][rows.cpu()] = entries.cpu()

    def entries(self, name: str) -> Tensor:
        """What was noted (N, K) bool; nothing where a method notes no such thing."""
        return self._entries.get(name, torch.zeros(self._shape, dtype=torch.bool))


def memorization(
    before: Mapping[str, Tensor], logits: Tensor, observed: Tensor, truth: Tensor, epoch: int, warmup_epochs: int
) -> Diagnosis:
    """Losses of training labels after `epoch`, all unobserved ones taken as negative; logits and labels (N, K).

    `tp` are observed positives, `fn` positives that are not observed, `tn` negatives. `*_loss` is the mean of BCE,
    `*_warmup` the percentage of labels whose loss was highest in an epoch up to `warmup_epochs` (the earlier of
    equals), `*_later` the others. `before` is what this kept of the epoch before.
    """
    losses = nn.functional.binary_cross_entropy_with_logits(logits, (observed > 0).float(), reduction="none")
    if epoch == 1:
        before = {"highest": torch.full_like(losses, -torch.inf), "when": torch.zeros_like(losses, dtype=torch.int16)}
    higher = losses > before["highest"]
    kept = {
        "highest": torch.where(higher, losses, before["highest"]),
        "when": torch.where(higher, torch.tensor(epoch, dtype=torch.int16), before["when"]),
    }
    metrics: Metrics = {}
    kinds = {"tp": observed > 0, "tn": truth < 0, "fn": (truth > 0) & (observed <= 0)}
    for name, labels in kinds.items():
        early = 100 * (kept["when"][labels] <= warmup_epochs).double().mean().item()
        metrics |= {f"{name}_loss": losses[labels].double().mean().item(), f"{name}_warmup": early}
        metrics[f"{name}_later"] = 100 - early
    return Diagnosis(metrics, kept)


def modifications(before: Mapping[str, Tensor], modified: Tensor, truth: Tensor, epoch: int) -> Diagnosis:
    """Of the labels that were rejected or corrected in `epoch`, (N, K) bool: `count`, `per_image`, and `precision`, the
    percentage that is truly positive (NaN where none was modified).

    A label that was corrected for good counts in every epoch since. `since` is kept: for each label the first of the
    epochs up to this one in which it was modified without a break, 0 where it was not.
    """
    since = before["since"] if epoch > 1 else torch.zeros(modified.shape, dtype=torch.int16)
    since = torch.where(modified, torch.where(since > 0, since, torch.tensor(epoch, dtype=torch.int16)), 0)
    count = int(modified.sum())
    right = int((modified & (truth > 0)).sum())
    precision = 100 * right / count if count else float("nan")
    metrics = {"count": float(count), "per_image": count / len(modified), "precision": precision}
    return Diagnosis(metrics, {"since": since.to(torch.int16)})


def maxima(maps: Tensor, size: tuple[int, int], upsampling: str) -> Tensor:
    """The pixel (x, y) of the largest value of each map (P, H, W) in an image of `size` (height, width), (P, 2) int16.

    An enlarged map is flat beyond the centres of its outer cells: the largest value is looked for between them, as the
    first of equals would lie on the image's upper or left edge, where no object is.
    """
    (height, width), (rows, columns) = size, maps.shape[1:]
    if upsampling == "cells":
        cell = maps.flatten(1).argmax(1)
        centre = lambda index, cells, pixels: ((2 * index + 1) * pixels) // (2 * cells)  # noqa: E731
        x, y = centre(cell % columns, columns, width), centre(cell // columns, rows, height)
    else:
        enlarged = nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        # The last pixels, from either edge, that are not nearer to the middle than the outer centre.
        top, left = max(height - rows, 0) // (2 * rows), max(width - columns, 0) // (2 * columns)
        inner = enlarged[:, top : height - top, left : width - left]
        pixel = inner.flatten(1).argmax(1)
        x, y = pixel % inner.shape[2] + left, pixel // inner.shape[2] + top
    return torch.stack([x, y], dim=1).to(torch.int16)


def pointing_game(points: np.ndarray, boxes: np.ndarray, labels: np.ndarray, tolerance: int) -> Diagnosis:
    """`hits`: the percentage of positives (image, class) whose point lies in a box of the class, per class, averaged
    over the classes that have positives.

    `points` (N, K, 2) pixels (x, y), `boxes` (M, 6) rows of (image, class, x0, y0, x1, y1), the last two exclusive,
    `labels` (N, K).
    """
    image, label, x0, y0, x1, y1 = boxes.T
    x, y = points[image, label].T
    inside = (x >= x0 - tolerance) & (x < x1 + tolerance) & (y >= y0 - tolerance) & (y < y1 + tolerance)
    hit = np.zeros(labels.shape, dtype=bool)
    hit[image[inside], label[inside]] = True
    positive = labels == 1
    there = positive.any(axis=0)
    shares = (hit & positive)[:, there].sum(axis=0) / positive[:, there].sum(axis=0)
    return Diagnosis({"hits": 100 * float(shares.mean()) if there.any() else float("nan")}, {})
