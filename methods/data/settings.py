"""The settings of the data: which data set, and which of its labels are given to training."""

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
    ] = setting("digit_scenes", "data set by name; `sweeper datasets` lists them", title="data set")
    root: str | None = setting(
        None, "folder into which the downloads were unpacked; null: the folder in SWEEPER_DATA", when=_FILES
    )
    images: Literal["all", "annotated"] = setting(
        "all",
        "all: all images, in the order of the annotation file (papers on known proportions); annotated: images with "
        "an annotation, in the order of their ids as texts (papers on single positives)",
        when={"dataset": ("coco2014", "coco")},
        source="SST release, coco2014.py:31; single-positive release, format_coco.py:38-64",
    )
    unlisted: Literal["negative", "unknown"] = setting(
        "negative",
        "label of a class without an annotation, in a folder without LVIS's neg_category_ids",
        when={"dataset": ("coco",)},
    )
    difficult: Literal["negative", "unknown"] = setting(
        "negative",
        "label of a class of which an image has only difficult objects",
        when={"dataset": ("voc2007", "voc2012", "coco")},
        source="SST release, voc2007.py:44; single-positive release, format_pascal.py; unknown: ML-GCN release",
    )
    image_size: int = setting(
        448, "width and height of images in pixels", minimum=32, maximum=512, typical=(224, 448), when=_FILES
    )
    val_fraction: float = setting(
        0.2,
        "share of the official training list that is used for validation, if the data set has no validation list",
        minimum=0,
        maximum=0.9,
        typical=(0.0, 0.2),
        when=_FILES,
        source="single-positive release, datasets.py generate_split",
    )
    labels: Literal["full", "single_positive", "proportion", "human_verified"] = setting(
        "full",
        "labels given to training. full: all. single_positive: one positive per image. proportion: each label with "
        "probability `known`. human_verified: positives and negatives in a long-tailed number per class, as in "
        "OpenImages",
        title="labels",
    )
    known: float = setting(
        0.5,
        "known proportion: probability that a label is given",
        above=0,
        maximum=1,
        typical=(0.1, 0.5, 0.9),
        when={"labels": ("proportion",)},
        title="known proportion",
        unit="%",
    )
    annotated: float = setting(
        0.05,
        "share of all labels that is annotated",
        above=0,
        maximum=1,
        typical=(0.01, 0.05, 0.1),
        when=_VERIFIED,
        source="slides: less than 1 % in OpenImages, of 5,000 classes",
    )
    tail_exponent: float = setting(
        1.0,
        "exponent t of the long tail: the class of rank r has annotations in proportion to r^-t; 0: all equal",
        minimum=0,
        maximum=10,
        typical=(0.5, 1.0, 1.5),
        when=_VERIFIED,
    )
    positive_bias: float = setting(
        5.0,
        "how many times more likely a positive is annotated than a negative; 1: equally likely",
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
    draw: int | Literal["follows_seed"] = setting(
        1,
        "number of the data set's draw of scenes; 0 was used to choose defaults and is never reported. follows_seed: "
        "other scenes for each seed, to see how far a result holds for other data",
        minimum=0,
        when=_DIGITS,
        follows_seed=True,
    )
    train_fraction: float = setting(
        1.0,
        "share of the training images that is trained on; smaller shares are part of larger ones; batch norm is "
        "re-estimated on all training images",
        above=0,
        maximum=1,
        typical=(0.1, 0.2, 0.5),
        source="slides, label budget; single-positive release, datasets.py ss_frac_train",
        title="share of the training images",
        unit="%",
    )
    word_vectors: str = setting(
        "one_hot",
        "vectors of class names, for networks with word vectors. one_hot: a dimension per class. words: a dimension "
        "per word, mean over the words of a name. glove: the papers' 300 dimensions, glove.6B.300d.txt in the folder "
        "SWEEPER_DATA (for VG-200, vg_200_vector.npy). Or a file: GloVe's text format, or .npy with a row per class",
        typical=("one_hot", "words"),
        source="SST release, dataloader.py:34-41 (GloVe, 300 dimensions)",
    )
    train_images: int = setting(2000, "number of training scenes", minimum=2, when=_DIGITS)
    val_images: int = setting(500, "number of validation scenes", minimum=2, when=_DIGITS, evaluation_only=True)
    test_images: int = setting(1000, "number of test scenes", minimum=2, when=_DIGITS, evaluation_only=True)
    max_objects: int = setting(
        6,
        "largest number of objects in a scene; 6 gives 2.4 labels per scene on average",
        minimum=1,
        maximum=6,
        typical=(1, 6),
        when=_DIGITS,
    )
    val_labels: Literal["clean", "observed"] = setting(
        "clean", "labels for metrics on val; clean: all labels; observed: only those given", evaluation_only=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.word_vectors not in MADE and self.dataset == registry.EMBEDDED:
            class_vectors(CLASSES, self.vectors)  # raises an error for a bad file before anything starts

    @property
    def side(self) -> int:
        """Width and height of images, in pixels."""
        return CANVAS if self.dataset == registry.EMBEDDED else self.image_size

    @property
    def vectors(self) -> str:
        """`word_vectors`, or the path of their file."""
        return file_of(self.word_vectors, self.dataset)

    def not_at_hand(self) -> tuple[str, ...]:
        """The data set and files that are missing on this machine. Without them, keys are provisional."""
        data = self.dataset != registry.EMBEDDED and annotation_digest(self) is None
        return (self.dataset,) * data + (self.vectors,) * (not self._vectors_at_hand())

    def _vectors_at_hand(self) -> bool:
        return self.word_vectors != GLOVE or Path(self.vectors).is_file()

    def acting(self, *, evaluation: bool = False) -> dict[str, Any]:
        values = super().acting(evaluation=evaluation)
        if self.train_fraction == 1:
            del values["train_fraction"]  # 1 has no effect
        if self.word_vectors not in MADE:
            # The content of the file, not its path. None if it is missing; then keys are provisional.
            values["word_vectors"] = content(self.vectors) if self._vectors_at_hand() else None
        if self.dataset != registry.EMBEDDED:
            values["root"] = annotation_digest(self)  # the content of the files, not their path
        elif self.labels == "human_verified":
            # Annotations are a share of the whole list, val included: with more val images, training labels change.
            values["val_images"] = self.val_images
        return values
