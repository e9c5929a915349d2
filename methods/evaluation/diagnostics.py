"""Diagnostics of any method beside the metrics: memorisation, modified labels, and where the network looks.

Nothing here has an effect on training; a diagnostic that is off costs nothing. A diagnostic of epoch e is computed from
the state after e and from the same diagnostic of epoch e - 1. So an interruption of training does not change it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..contract.objective import LOGITS
from ..contract.settings import Settings, setting

_KINDS = ("tp", "tn", "fn")
_LABELS = {
    "loss": "mean loss of training labels",
    "warmup": "highest loss in warm-up (%)",
    "later": "highest loss later (%)",
}
# Windows of an epoch's steps over which `known_loss` takes means.
WINDOWS = 4
# The metrics of each diagnostic (`memorization/tp_loss`, …) with their descriptions, printed like `Method.reports`.
DIAGNOSTICS: dict[str, dict[str, str]] = {
    "memorization": {
        f"{kind}_{what}": f"{description}, {kind.upper()}" for kind in _KINDS for what, description in _LABELS.items()
    },
    "modifications": {
        "count": "modified labels",
        "per_image": "modified labels per image",
        "precision": "precision of modification (%)",
        "base_rate": "positives among unobserved labels (%)",
    },
    "pointing_game": {"hits": "pointing game hits (%)"},
    "known_loss": {
        "mean": "partial BCE on known labels",
        **{f"window_{w}": f"partial BCE on known labels, window {w} of {WINDOWS}" for w in range(1, WINDOWS + 1)},
    },
}
Metrics = dict[str, float]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class DiagnosticSettings(Settings):
    """Diagnostics. All are off by default. They change no result and no key."""

    memorization: bool = setting(
        False,
        "after each epoch, the mean loss of true positives, true negatives and false negatives with unobserved labels "
        "as negatives, and the shares of labels with their highest loss in the warm-up and later",
        evaluation_only=True,
        source="Large Loss Matters, Figure 1 and the table of highest loss phases",
    )
    warmup_epochs: int = setting(
        1,
        "number of epochs that count as warm-up",
        minimum=1,
        typical=(1, 2),
        when={"memorization": (True,)},
        evaluation_only=True,
    )
    modifications: bool = setting(
        False,
        "number of labels that a method rejects or corrects in an epoch, and how many of them are truly positive, "
        "beside how many of all unobserved labels are",
        evaluation_only=True,
        source="Large Loss Matters, precision of modification",
    )
    pointing_game: bool = setting(
        False,
        "share of positives in test images whose class activation maximum lies in a box of the class; Pascal VOC's "
        "difficult objects have no box, so a hit on one is a miss",
        evaluation_only=True,
        source="Large Loss Matters, Table 4",
    )
    known_loss: bool = setting(
        False,
        f"partial BCE on the known labels in the training steps, without any other term of the loss: the mean over the "
        f"epoch, and over each of {WINDOWS} windows of its steps; only for methods with semantic decoupling, else NaN",
        evaluation_only=True,
        source="SARB slides, training loss with and without prototypes",
    )
    upsampling: Literal["bilinear", "cells"] = setting(
        "bilinear",
        "where the maximum is searched. bilinear: in the map enlarged to the image. cells: among the cell centres",
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
        "number of training images to keep as corrections.npz, with the labels that are modified in the last epoch",
        minimum=0,
        typical=(0, 6),
        when={"modifications": (True,)},
        evaluation_only=True,
        source="Large Loss Matters, qualitative results",
    )
    cooccurrence: int = setting(
        0,
        "number of training images to keep as cooccurrence.npz, with the labels completed by co-occurrence after the "
        "last epoch; only for methods that predict it",
        minimum=0,
        typical=(0, 4),
        evaluation_only=True,
        source="SST (AAAI 2022), qualitative results",
    )
    similar_images: int = setting(
        0,
        "number of training images to keep as similar_images.npz, with the nearest images in which an unknown class is "
        "known, after the last epoch; only for methods with a feature for each class",
        minimum=0,
        typical=(0, 4),
        evaluation_only=True,
        source="SST (AAAI 2022), Figure 5",
    )
    per_class: bool = setting(
        False,
        "average precision of each class on the test images, `test/ap/NAME`",
        evaluation_only=True,
        source="Ruan et al. 2024, Figure 5",
    )
    attention: int = setting(
        0,
        "number of test images to keep as attention.npz, with attention maps and scores after the last epoch",
        minimum=0,
        typical=(0, 4),
        evaluation_only=True,
        source="Ruan et al. 2024, Figures 3 and 6",
    )

    def on(self) -> dict[str, dict[str, Any]]:
        """The diagnostics that are on, each with the settings that it depends on."""
        by: dict[str, dict[str, Any]] = {
            "memorization": {"warmup_epochs": self.warmup_epochs},
            "modifications": {},
            "known_loss": {},
            "pointing_game": {"upsampling": self.upsampling, "tolerance": self.tolerance},
        }
        return {name: settings for name, settings in by.items() if getattr(self, name)}


@dataclass(frozen=True)
class Diagnosis:
    """One diagnostic after one epoch: its `metrics`, and the tensors `kept` for the next epoch."""

    metrics: Metrics
    kept: Tensors

    def tensors(self) -> Tensors:
        """Metrics and kept tensors as one record of the store."""
        metrics = {f"metric/{name}": torch.tensor(value, dtype=torch.float64) for name, value in self.metrics.items()}
        return {**metrics, **{f"kept/{name}": tensor for name, tensor in self.kept.items()}}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> Diagnosis:
        """The diagnosis from such a record."""
        parts: dict[str, Tensors] = {"metric": {}, "kept": {}}
        for name, tensor in tensors.items():
            part, _, own = name.partition("/")
            parts[part][own] = tensor
        return cls({name: tensor.item() for name, tensor in parts["metric"].items()}, parts["kept"])


class Watch:
    """Collects what an objective notes in an epoch (`Batch.note`), on images with labels `observed` (N, K): changed
    labels (N, K) bool by name, and of each step the loss on known labels."""

    def __init__(self, observed: Tensor):
        self._observed = observed
        self._entries: Tensors = {}
        # Of each step: the sum of the BCE of known labels, and their number.
        self._losses: list[tuple[float, int]] = []

    def __call__(self, name: str, rows: Tensor, values: Tensor) -> None:
        rows, values = rows.cpu(), values.cpu()
        if name == LOGITS:
            labels = self._observed[rows]
            known = labels != 0
            logits, targets = values[known].double(), (labels[known] > 0).double()
            loss = nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
            self._losses.append((loss.item(), len(targets)))
            return
        if name not in self._entries:
            self._entries[name] = torch.zeros(self._observed.shape, dtype=torch.bool)
        self._entries[name][rows] = values

    def entries(self, name: str) -> Tensor:
        """The labels noted under `name`, (N, K) bool; all False if the method noted none."""
        return self._entries.get(name, torch.zeros(self._observed.shape, dtype=torch.bool))

    def known_loss(self) -> Diagnosis:
        """`mean`: the mean BCE of all known labels that the epoch's steps have seen, before each step's update.
        `window_1`, `window_2`, …: that of the first of `WINDOWS` equal parts of the steps, of the second, and so on.
        NaN where there are none. The terms are the same for all methods, so rows can be compared."""
        windows = np.array_split(np.array(self._losses).reshape(-1, 2), WINDOWS)
        sums = np.array([window.sum(0) for window in windows])
        mean = lambda total, known: float(total / known) if known else float("nan")  # noqa: E731
        each = {f"window_{number}": mean(*window) for number, window in enumerate(sums, start=1)}
        return Diagnosis({"mean": mean(*sums.sum(0)), **each}, {})


def memorization(
    before: Mapping[str, Tensor], logits: Tensor, observed: Tensor, truth: Tensor, epoch: int, warmup_epochs: int
) -> Diagnosis:
    """BCE of training labels after `epoch`, with unobserved labels as negatives; logits and labels are (N, K).

    `tp` are observed positives, `fn` unobserved positives, `tn` negatives. `*_loss` is the mean BCE. `*_warmup` is the
    percentage of labels with their highest loss (the first, if equal) in an epoch up to `warmup_epochs`, `*_later` that
    of the others. `before` are the tensors kept in the previous epoch.
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


def modifications(
    before: Mapping[str, Tensor], modified: Tensor, observed: Tensor, truth: Tensor, epoch: int
) -> Diagnosis:
    """Statistics of the labels rejected or corrected in `epoch`, `modified` (N, K) bool: `count`, `per_image`, and
    `precision`, the percentage that is truly positive (NaN if there are none). `base_rate` is that percentage of all
    labels that are not observed, the precision of labels modified at random.

    A permanently corrected label counts in each later epoch. The tensor `since` is kept: for a label modified now, the
    epoch since which it was modified without a break; 0 for the others.
    """
    since = before["since"] if epoch > 1 else torch.zeros(modified.shape, dtype=torch.int16)
    since = torch.where(modified, torch.where(since > 0, since, torch.tensor(epoch, dtype=torch.int16)), 0)
    count = int(modified.sum())
    right = int((modified & (truth > 0)).sum())
    precision = 100 * right / count if count else float("nan")
    base_rate = 100 * (truth > 0)[observed == 0].double().mean().item()
    metrics = {"count": float(count), "per_image": count / len(modified)}
    metrics |= {"precision": precision, "base_rate": base_rate}
    return Diagnosis(metrics, {"since": since.to(torch.int16)})


def maxima(maps: Tensor, size: tuple[int, int], upsampling: str) -> Tensor:
    """The pixel (x, y) of the largest value of each map (P, H, W) in an image of `size` (height, width), (P, 2) int16.

    An enlarged map is constant between the centre of an outer cell and the edge of the image. So the search is limited
    to the part between the outer centres; otherwise the first of equal values would lie on the edge, far from objects.
    """
    (height, width), (rows, columns) = size, maps.shape[1:]
    if upsampling == "cells":
        cell = maps.flatten(1).argmax(1)
        centre = lambda index, cells, pixels: ((2 * index + 1) * pixels) // (2 * cells)  # noqa: E731
        x, y = centre(cell % columns, columns, width), centre(cell // columns, rows, height)
    else:
        enlarged = nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]
        # Number of pixels at each edge that lie outside of the outer centres.
        top, left = max(height - rows, 0) // (2 * rows), max(width - columns, 0) // (2 * columns)
        inner = enlarged[:, top : height - top, left : width - left]
        pixel = inner.flatten(1).argmax(1)
        x, y = pixel % inner.shape[2] + left, pixel // inner.shape[2] + top
    return torch.stack([x, y], dim=1).to(torch.int16)


def pointing_game(points: np.ndarray, boxes: np.ndarray, labels: np.ndarray, tolerance: int) -> Diagnosis:
    """`hits`: the percentage of a class's positives whose point lies in a box of the class, averaged over the classes
    with positives. `points` (N, K, 2): pixels (x, y). `boxes` (M, 6): rows of (image, class, x0, y0, x1, y1), x1 and y1
    exclusive. `labels`: (N, K).

    The boxes are those that the data set's reader gives. Pascal VOC's gives none for difficult objects. So a point on a
    difficult object is a miss, unless it is also in the box of a normal object of the class; and an image in which all
    objects of a class are difficult does not count for that class. COCO's gives those of crowds too. The paper
    does not say how it counts either."""
    image, label, x0, y0, x1, y1 = boxes.T
    x, y = points[image, label].T
    inside = (x >= x0 - tolerance) & (x < x1 + tolerance) & (y >= y0 - tolerance) & (y < y1 + tolerance)
    hit = np.zeros(labels.shape, dtype=bool)
    hit[image[inside], label[inside]] = True
    positive = labels == 1
    there = positive.any(axis=0)
    shares = (hit & positive)[:, there].sum(axis=0) / positive[:, there].sum(axis=0)
    return Diagnosis({"hits": 100 * float(shares.mean()) if there.any() else float("nan")}, {})
