"""The data sets by name, and the module that reads each. No data set is read here.

This module is in no key (see `methods.cache.keys.WITHOUT_EFFECT`), and it imports readers by name when they are needed.
So a key contains the code of its own data set's reader only: a change of another reader leaves the result valid.
"""

from __future__ import annotations

import importlib
from typing import Any

EMBEDDED = "digit_scenes"
# Data sets in files, and their readers. A reader module has two functions: `files(settings)` returns the annotation
# files, `read(settings)` returns `listing.Annotations`. Both raise `listing.DataError`.
READERS = {
    "coco2014": "coco",
    "voc2007": "voc",
    "voc2012": "voc",
    "coco": "own_folder",
    "vg200": "vg200",
    "nus_wide": "nus_wide",
    "cub200": "cub200",
    "open_images_v3": "open_images",
    "labels_csv": "labels_csv",
}
IN_FILES = tuple(READERS)
# What `sweeper datasets` prints about each data set.
ABOUT = {
    "digit_scenes": "the embedded data set: up to six coloured digits an image, 20 classes, made in seconds from the "
    "handwritten digits that scikit-learn brings along; no download",
    "coco2014": "COCO 2014: train2014/, val2014/ (the test set) and annotations/instances_*.json; 80 classes; 82,783 "
    "and 40,504 images, or 82,081 and 40,137 with `data.images: annotated`",
    "voc2007": "Pascal VOC 2007: VOCdevkit/VOC2007, trainval (5,011 images) and test (4,952); 20 classes",
    "voc2012": "Pascal VOC 2012: VOCdevkit/VOC2012, train (5,717 images) and val (5,823, the test set); 20 classes",
    "coco": "your own folder, laid out as COCO (annotations/*train*.json, *val*.json or *test*.json; LVIS's "
    "neg_category_ids honoured) or as VOC 2007; classes from its annotations",
    "vg200": "VG-200: VG_100K/ and VG_100K_2/ of Visual Genome, train_list_500.txt and test_list_500.txt of SSGRL, and "
    "vg_category_200_labels_index.json (or 500); 82,904 and 10,000 images",
    "nus_wide": "NUS-WIDE: Flickr/ and formatted_{train,val}_{images,labels}.npy of the single-positive release; 81 "
    "classes; 150,000 and 60,260 images",
    "cub200": "CUB-200-2011: CUB_200_2011/ and attributes.txt; 312 attributes; 5,994 and 5,794 images",
    "open_images_v3": "OpenImages V3: 2017_11/ with {train,validation,test}/annotations-human.csv, "
    "classes-trainable.txt and class-descriptions.csv, and images in train/, validation/ and test/ (or train_0/, …); "
    "5,000 classes, of which most labels are unknown",
    "labels_csv": "your own images: train.csv, test.csv and perhaps val.csv with the columns image, class, label (1 or "
    "-1); what is absent is unknown",
}
# Modules that make the images of every data set in files.
PIXELS = ("methods.data.in_files", "methods.data.pixels")


def reader(dataset: str) -> Any:
    """The module that reads a data set in files."""
    return module(READERS[dataset])


def code(dataset: str) -> tuple[str, ...]:
    """Names of the modules that make the images and labels of a data set. Their code is in its keys."""
    if dataset == EMBEDDED:
        return ("methods.data.digit_scenes",)
    return (f"methods.data.{READERS[dataset]}", *PIXELS)


def module(name: str) -> Any:
    """A module of this package, imported by name, so that fingerprints do not follow the import."""
    return importlib.import_module(f".{name}", __package__)
