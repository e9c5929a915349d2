"""Which data set a trial sees and which of its labels are given to training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ..contract.settings import Settings, setting
from . import registry
from .content import annotation_digest
from .digit_scenes import CANVAS, CLASSES
from .word_vectors import GLOVE, MADE, class_vectors, content, file_of

_DIGITS = {"dataset": ("digit_scenes",)}
_FILES = {"dataset": registry.IN_FILES}
_VERIFIED = {"labels": ("human_verified",)}


@dataclass(frozen=True)
class DataSettings(Settings):
    """Data set and label regime. Masks are drawn on the whole official training list, before any split."""

    dataset: Literal[
        "digit_scenes",
        "coco2014",
        "voc2007",
        "voc2012",
        "coco",
        "vg200",
        "nus_wide",
        "cub200",
        "open_images_v3",
        "labels_csv",
    ] = setting("digit_scenes", "data set by name; `sweeper datasets` lists them")
    root: str | None = setting(
        None, "folder into which the data set's downloads were unpacked; null: SWEEPER_DATA says", when=_FILES
    )
    images: Literal["all", "annotated"] = setting(
        "all",
        "all images, in the order of the annotation file (known proportions), or those with an annotation, in the "
        "order of their ids as texts (single positive)",
        when={"dataset": ("coco2014", "coco")},
        source="SST release, coco2014.py:31; single-positive release, format_coco.py:38-64",
    )
    unlisted: Literal["negative", "unknown"] = setting(
        "negative",
        "what a class without an annotation is, in a folder without LVIS's neg_category_ids",
        when={"dataset": ("coco",)},
    )
    difficult: Literal["negative", "unknown"] = setting(
        "negative",
        "what a class is of which an image has difficult objects alone",
        when={"dataset": ("voc2007", "voc2012", "coco")},
        source="SST release, voc2007.py:44; single-positive release, format_pascal.py; unknown: ML-GCN release",
    )
    image_size: int = setting(
        448, "pixels that images are wide and high", minimum=32, maximum=512, typical=(224, 448), when=_FILES
    )
    val_fraction: float = setting(
        0.2,
        "share of the official training list that is kept back for validation, where the data set has no list for it",
        minimum=0,
        maximum=0.9,
        typical=(0.0, 0.2),
        when=_FILES,
        source="single-positive release, datasets.py generate_split",
    )
    labels: Literal["full", "single_positive", "proportion", "human_verified"] = setting(
        "full",
        "which labels are given: all, one positive per image, each with probability `known`, or of each class a number "
        "of positives and negatives with a long tail over the classes, as in OpenImages",
    )
    known: float = setting(
        0.5,
        "known proportion: probability that a label is given",
        above=0,
        maximum=1,
        typical=(0.1, 0.5, 0.9),
        when={"labels": ("proportion",)},
    )
    annotated: float = setting(
        0.05,
        "share of all entries that is annotated",
        above=0,
        maximum=1,
        typical=(0.01, 0.05, 0.1),
        when=_VERIFIED,
        source="slides: less than 1 % in OpenImages, of 5,000 classes",
    )
    tail_exponent: float = setting(
        1.0,
        "the class of rank r has a number of annotations proportional to r to the minus this; 0: all alike",
        minimum=0,
        maximum=10,
        typical=(0.5, 1.0, 1.5),
        when=_VERIFIED,
    )
    positive_bias: float = setting(
        5.0,
        "how many times as likely an entry is annotated if it is positive; 1: alike",
        above=0,
        maximum=1000,
        typical=(1.0, 5.0),
        when=_VERIFIED,
    )
    mask_seed: int | None = setting(
        None,
        "seed of the label mask; null follows the trial's seed",
        minimum=0,
        maximum=2**32 - 1,
        when={"labels": ("single_positive", "proportion", "human_verified")},
        follows_seed=True,
    )
    draw: int | None = setting(
        None,
        "which scenes are drawn; null follows the trial's seed; 0 was used to choose defaults and is never reported",
        minimum=0,
        when=_DIGITS,
        follows_seed=True,
    )
    train_fraction: float = setting(
        1.0,
        "share of the training images that is trained on, nested; batch norm is re-estimated on the pictures of all",
        above=0,
        maximum=1,
        typical=(0.1, 0.2, 0.5),
        source="slides, label budget; single-positive release, datasets.py ss_frac_train",
    )
    word_vectors: str = setting(
        "one_hot",
        "vectors of the classes' names, for networks that start from words: one_hot, a dimension per class; words, one "
        "per word, mean over a name's words; glove, the papers' 300 dimensions, from glove.6B.300d.txt in the folder "
        "SWEEPER_DATA (of VG-200 vg_200_vector.npy); or a file, GloVe's text format or .npy with a row per class",
        typical=("one_hot", "words"),
        source="SST release, dataloader.py:34-41 (GloVe, 300 dimensions)",
    )
    train_images: int = setting(2000, "training scenes", minimum=2, when=_DIGITS)
    val_images: int = setting(500, "validation scenes", minimum=2, when=_DIGITS, evaluation_only=True)
    test_images: int = setting(1000, "test scenes", minimum=2, when=_DIGITS, evaluation_only=True)
    max_objects: int = setting(
        6,
        "most objects in a scene; with all six numbers, 2.4 labels",
        minimum=1,
        maximum=6,
        typical=(1, 6),
        when=_DIGITS,
    )
    val_labels: Literal["clean", "observed"] = setting(
        "clean", "labels that val metrics are measured on: all, or only those given", evaluation_only=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.word_vectors not in MADE and self.dataset == registry.EMBEDDED:
            class_vectors(CLASSES, self.vectors)  # what is wrong with a file is said before anything starts

    @property
    def side(self) -> int:
        """Pixels that images are wide and high."""
        return CANVAS if self.dataset == registry.EMBEDDED else self.image_size

    @property
    def vectors(self) -> str:
        """`word_vectors` with the file that they are in, where they are in one."""
        return file_of(self.word_vectors, self.dataset)

    def not_at_hand(self) -> tuple[str, ...]:
        """Which files are missing here: until they are there, keys are provisional."""
        data = self.dataset != registry.EMBEDDED and annotation_digest(self) is None
        return (self.dataset,) * data + (self.vectors,) * (not self._vectors_at_hand())

    def _vectors_at_hand(self) -> bool:
        return self.word_vectors != GLOVE or Path(self.vectors).is_file()

    def acting(self, *, evaluation: bool = False) -> dict[str, Any]:
        values = super().acting(evaluation=evaluation)
        if self.train_fraction == 1:
            del values["train_fraction"]  # all images, as if there were no such setting
        if self.word_vectors not in MADE:
            # Wherever the file is; those of a data set may not be at hand, no more than the data set.
            values["word_vectors"] = content(self.vectors) if self._vectors_at_hand() else None
        if self.dataset != registry.EMBEDDED:
            values["root"] = annotation_digest(self)  # what is in its files, wherever they are
        elif self.labels == "human_verified":
            # Numbers of annotations are shares of the whole list, val included: more val images, other training labels.
            values["val_images"] = self.val_images
        return values
