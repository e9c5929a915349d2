"""The words of a space file: its keys, and the names that tables, figures, searches and resources can ask for."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.record.names import HISTORY, KNOWN_LABELS, SECONDS, SELECTED
from methods.evaluation.diagnostics import DIAGNOSTICS
from methods.evaluation.metrics import GROUP_METRICS, METRICS, PER_CLASS
from methods.training.registry import methods

MEASURED = "measured"


RESOURCES = ("cpu", "gpu", "gpu_memory", "kind")


KEYS = {
    "title": "one line: what is swept",
    "source": "paper and item that it reproduces",
    "note": "what readers of its table should know, such as what it simplifies",
    "data": "data settings of every variant",
    "network": "network settings of every variant",
    "train": "training settings of every variant",
    "diagnostics": "what is looked at beside the metrics, of every variant",
    "variants": "rows: a name and what it sets",
    "axes": "settings with the values they take, crossed with the variants that have them",
    "leave_one_out": "settings that are switched off, one in each of as many more rows of every variant that has them",
    "one_at_a_time": "settings with the values they take, one in each of as many more rows, the others as they are",
    "search": "algorithm, trials per variant, objectives, seeds that confirm the best; axes are then distributions",
    "stop": "a rule that ends trials of a search early: asha, median, or {rule, grace, reduction}",
    "overrides": "list of {when, set}: settings for the trials that match",
    "seeds": "list of integers from 1",
    "select": "metric and epoch that a trial reports",
    "table": "rows, columns, value, average and reference rows of its table",
    "figure": "curves (x, y), points (x, y) or pictures (pictures, images); without it the table is drawn",
    "resources": "of one trial: cpu, gpu or gpu_memory (GB, or `measured`), and the kind of node it must be on",
    "on_finish": "shell command that is run when a sweep has ended; it gets the line of `run --json` on stdin",
    "profiles": "named changes to all of the above; `from: FILE` makes those of a file first",
}


DEFAULT_PROFILE = "default"


_MEASURED = tuple(f"{split}/{name}" for split in ("test", "val") for name in (*METRICS, *GROUP_METRICS))


_DIAGNOSED = tuple(f"{diagnostic}/{name}" for diagnostic, names in DIAGNOSTICS.items() for name in names)


# A metric per class: those of all classes.
CLASSES = f"test/{PER_CLASS}"


TABLE_VALUES = (*_MEASURED, *_DIAGNOSED, KNOWN_LABELS, SECONDS, CLASSES)


# What a search can look at: nothing that is reported.
OBJECTIVES = (*(f"val/{name}" for name in METRICS), *_DIAGNOSED, SECONDS, SELECTED)


CURVES = ("train/loss", *(name for name in _MEASURED if name.partition("/")[2] in HISTORY), *_DIAGNOSED)


RULES = ("asha", "median")


# Pictures are drawn from a file that a trial leaves as an artifact.
PICTURES = r"[\w-]+\.npz"


def curves(used: Iterable[str]) -> list[str]:
    """What a figure of these methods can draw over the epochs: also what they report while they train."""
    reported = (f"train/{name}" for method in used for name in methods()[method].reports)
    return list(dict.fromkeys([*CURVES, *reported]))
