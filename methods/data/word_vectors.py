"""Vectors of class names, (K, W): made on the spot, or read from files as the papers use them. Nothing is trained.

A name of several words has the mean of its words' vectors, which is what the released COCO vectors are consistent with.
What is read of a file is kept for as long as the file stays as it is: trials ask for it over and over.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import numpy as np

from ..files import content_digest
from ..settings import SettingError

# Made from the names alone; everything else is a file.
MADE = ("one_hot", "words")
# Files that profiles name without knowing where they are: in SWEEPER_DATA.
NAMED = {"glove": "glove.6B.300d.txt"}
# VOC's names of one word that GloVe has as two.
_COMPOUNDS = {"diningtable": "dining table", "pottedplant": "potted plant", "tvmonitor": "tv monitor"}


def class_vectors(classes: tuple[str, ...], source: str) -> np.ndarray:
    """Vectors (K, W) float32 of class names: `one_hot`, `words`, `glove` (a file in SWEEPER_DATA), or a file.

    `one_hot`: the identity, W = K. `words`: one dimension per word of the names. A file: GloVe's text format, a word
    and its numbers per line (looked up in lower case), or .npy with one row per class, in the order of `classes`.
    Raises `SettingError` for a file that is not there, has no such format, lacks a word or has another number of rows.
    """
    if source == "one_hot":
        return np.eye(len(classes), dtype=np.float32)
    if source == "words":
        vocabulary = sorted({word for name in classes for word in _words(name)})
        return _means(classes, dict(zip(vocabulary, np.eye(len(vocabulary)), strict=True)))
    version = _version(source)
    return _from_file(classes, _place(source), version).copy()


def content(source: str) -> str | None:
    """SHA-256 (64 hex digits) of a file of vectors: what is in it acts, not where it is; None for one of `NAMED` that
    is not at hand. Raises `SettingError` for any other."""
    if source in NAMED and not Path(_place(source)).is_file():
        return None
    _version(source)  # or an error of the setting
    return content_digest(_place(source))


def _place(source: str) -> str:
    return str(Path(os.environ.get("SWEEPER_DATA", "."), NAMED[source])) if source in NAMED else source


def _version(source: str) -> tuple[int, int]:
    """When a file was written, and its size."""
    place = _place(source)
    named = f" (glove is {place}; SWEEPER_DATA says where)" if source in NAMED else ""
    _refuse_unless(Path(place).is_file(), source, f"{' | '.join(MADE)} | glove, or a file that exists{named}")
    found = Path(place).stat()
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=16)
def _from_file(classes: tuple[str, ...], source: str, version: tuple[int, int]) -> np.ndarray:
    rows = _read_rows(source, len(classes)) if Path(source).suffix == ".npy" else _read_glove(classes, source)
    _refuse_unless(bool(np.isfinite(rows).all()), source, "a file of finite numbers")
    return rows


def _words(name: str) -> list[str]:
    """Words of a class name, lower case: "traffic light", "hot_dog" and VOC's "diningtable" have two each."""
    return re.findall(r"[^\s_/-]+", _COMPOUNDS.get(name, name).lower())


def _means(classes: tuple[str, ...], vectors: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([np.mean([vectors[word] for word in _words(name)], axis=0) for name in classes]).astype(np.float32)


def _read_rows(source: str, count: int) -> np.ndarray:
    try:
        rows = np.load(source, allow_pickle=False).astype(np.float32)
    except (ValueError, EOFError):
        raise SettingError("word_vectors", source, "a .npy file of numbers") from None
    _refuse_unless(rows.ndim == 2 and len(rows) == count, source, f"a file of {count} rows, one per class")
    return rows


def _read_glove(classes: tuple[str, ...], source: str) -> np.ndarray:
    wanted = {word for name in classes for word in _words(name)}
    found: dict[str, np.ndarray] = {}
    # Tokens of other alphabets are not always whole; no class is named so.
    with open(source, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            word, _, numbers = line.rstrip().partition(" ")
            if word in wanted:
                try:
                    found[word] = np.array(numbers.split(), dtype=np.float64)
                except ValueError:
                    place = f"{source}:{number}"
                    raise SettingError("word_vectors", place, "a word and its numbers per line") from None
    missing = sorted(wanted - found.keys())
    _refuse_unless(not missing, source, f"a file with all words of the class names; it lacks {', '.join(missing)}")
    widths = {len(row) for row in found.values()}
    _refuse_unless(len(widths) == 1 and 0 not in widths, source, "a file with as many numbers on each line")
    return _means(classes, found)


def _refuse_unless(fine: bool, given: str, allowed: str) -> None:
    if not fine:
        raise SettingError("word_vectors", given, allowed)
