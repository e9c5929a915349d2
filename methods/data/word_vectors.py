"""Word vectors of class names, (K, W): made from the names, or read from files, as in the papers. Nothing is trained.

A name of several words gets the mean of its words' vectors; the released COCO vectors agree with this. VOC's compounds,
which GloVe lacks, get the vector of the word in ML-GCN's release. Vectors from a file are kept in memory until the file
changes, because every trial asks for them.
"""

from __future__ import annotations

import functools
import os
import re
from pathlib import Path

import numpy as np

from ..cache.files import content_digest
from ..contract.settings import SettingError

# Sources that need only the names; all others are files.
MADE = ("one_hot", "words")
# The papers' vectors of 300 dimensions, in the folder of the data. VG-200 has no class names, so it has its own file.
GLOVE, GLOVE_FILE, _OWN_FILE = "glove", "glove.6B.300d.txt", {"vg200": "vg_200_vector.npy"}
_IN_PLACE_OF = {"diningtable": "table", "pottedplant": "plant", "tvmonitor": "tv"}


def file_of(source: str, dataset: str) -> str:
    """The file of a source of vectors: for `glove` its path in the folder SWEEPER_DATA, which may not exist; else
    `source`."""
    if source != GLOVE:
        return source
    folder, name = Path(os.environ.get("SWEEPER_DATA", "")), _OWN_FILE.get(dataset, GLOVE_FILE)
    places = [folder / dataset / name, folder / GLOVE / name, folder / name]
    return str(next((place for place in places if place.is_file()), places[-1]))


def class_vectors(classes: tuple[str, ...], source: str) -> np.ndarray:
    """Vectors (K, W) float32 of class names: `one_hot`, `words`, or a file.

    `one_hot`: the identity, W = K. `words`: one dimension per word of the names. A file: GloVe's text format, with a
    word and its numbers per line (words in lower case), or .npy with one row per class, in the order of `classes`.
    `source` must come from `file_of`. Raises `SettingError` if the file is missing, has another format, lacks a word,
    or has a wrong number of rows.
    """
    if source == "one_hot":
        return np.eye(len(classes), dtype=np.float32)
    if source == "words":
        vocabulary = sorted({word for name in classes for word in _words(name)})
        return _means(classes, dict(zip(vocabulary, np.eye(len(vocabulary)), strict=True)))
    return _from_file(classes, source, _version(source)).copy()


def content(source: str) -> str:
    """SHA-256 (64 hex digits) of a file of vectors. Raises `SettingError` if it is missing."""
    _version(source)  # raises SettingError
    return content_digest(source)


def _version(source: str) -> tuple[int, int]:
    """Time of modification and size of a file."""
    allowed = f"{' | '.join(MADE)} | {GLOVE} ({GLOVE_FILE} in the folder SWEEPER_DATA), or a file that exists"
    _refuse_unless(Path(source).is_file(), source, allowed)
    found = Path(source).stat()
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=16)
def _from_file(classes: tuple[str, ...], source: str, version: tuple[int, int]) -> np.ndarray:
    rows = _read_rows(source, len(classes)) if Path(source).suffix == ".npy" else _read_glove(classes, source)
    _refuse_unless(bool(np.isfinite(rows).all()), source, "a file of finite numbers")
    return rows


def _words(name: str) -> list[str]:
    """The words of a class name in lower case: two for "traffic light" and "hot_dog", one for "diningtable"."""
    return re.findall(r"[^\s_/-]+", name.lower())


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
    named = {word for name in classes for word in _words(name)}
    wanted = named | {_IN_PLACE_OF[word] for word in named & _IN_PLACE_OF.keys()}
    found: dict[str, np.ndarray] = {}
    # Some tokens in other alphabets are invalid UTF-8; no class name needs them.
    with open(source, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            word, _, numbers = line.rstrip().partition(" ")
            if word in wanted:
                try:
                    found[word] = np.array(numbers.split(), dtype=np.float64)
                except ValueError:
                    place = f"{source}:{number}"
                    raise SettingError("word_vectors", place, "a word and its numbers per line") from None
    found = {word: found[other] for word, other in _IN_PLACE_OF.items() if other in found} | found
    missing = sorted(named - found.keys())
    _refuse_unless(not missing, source, f"a file with all words of the class names; it lacks {', '.join(missing)}")
    widths = {len(row) for row in found.values()}
    _refuse_unless(len(widths) == 1 and 0 not in widths, source, "a file with as many numbers on each line")
    return _means(classes, found)


def _refuse_unless(fine: bool, given: str, allowed: str) -> None:
    if not fine:
        raise SettingError("word_vectors", given, allowed)
