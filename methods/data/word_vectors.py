"""Vectors of class names, (K, W): made on the spot, or read from files that the papers use. Nothing is trained here.

A name of several words has the mean of its words' vectors, which is what the released COCO vectors are consistent with.
"""

from __future__ import annotations

import functools
import hashlib
import re
from pathlib import Path

import numpy as np

from ..settings import SettingError

# Made from the names alone; everything else is a file.
MADE = ("one_hot", "words")


def class_vectors(classes: tuple[str, ...], source: str) -> np.ndarray:
    """Vectors (K, W) float32 of class names: `one_hot`, `words`, or a file.

    `one_hot`: the identity, W = K. `words`: one dimension per word of the names. A file: GloVe's text format, a word
    and its numbers per line (looked up in lower case), or .npy with one row per class, in the order of `classes`.
    Raises `SettingError` for a file that is not there, has no such format, lacks a word or has another number of rows.
    """
    if source == "one_hot":
        return np.eye(len(classes), dtype=np.float32)
    if source == "words":
        vocabulary = sorted({word for name in classes for word in _words(name)})
        return _means(classes, dict(zip(vocabulary, np.eye(len(vocabulary)), strict=True)))
    path = Path(source)
    _refuse_unless(path.is_file(), source, f"{' | '.join(MADE)}, or a file that exists")
    if path.suffix == ".npy":
        rows = np.load(path, allow_pickle=False)
        _refuse_unless(rows.ndim == 2 and len(rows) == len(classes), source, f"{len(classes)} rows, one per class")
        return rows.astype(np.float32)
    return _means(classes, _read_glove(path, {word for name in classes for word in _words(name)}))


@functools.lru_cache(maxsize=16)
def content(source: str) -> str:
    """SHA-256 (64 hex digits) of a file of vectors: what is in it acts, not where it is. Raises `SettingError`."""
    _refuse_unless(Path(source).is_file(), source, f"{' | '.join(MADE)}, or a file that exists")
    with open(source, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _words(name: str) -> list[str]:
    """Words of a class name, lower case: "traffic light", "hot_dog" and "diningtable" have two, two and one."""
    return re.findall(r"[^\s_/-]+", name.lower())


def _means(classes: tuple[str, ...], vectors: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([np.mean([vectors[word] for word in _words(name)], axis=0) for name in classes]).astype(np.float32)


def _read_glove(path: Path, wanted: set[str]) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            word, *values = line.split(" ")
            if word in wanted:
                try:
                    found[word] = np.array(values, dtype=np.float64)
                except ValueError:
                    raise SettingError("word_vectors", f"{path}:{number}", "a word and its numbers per line") from None
    missing = sorted(wanted - found.keys())
    _refuse_unless(not missing, str(path), f"a file with all words of the class names; it lacks {', '.join(missing)}")
    _refuse_unless(
        len({len(row) for row in found.values()}) == 1, str(path), "a file with as many numbers on each line"
    )
    return found


def _refuse_unless(fine: bool, given: str, allowed: str) -> None:
    if not fine:
        raise SettingError("word_vectors", given, allowed)
