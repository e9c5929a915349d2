"""What a space will run, before anything runs: trials, epochs, duplicates, an estimate. No Ray, no data loaded."""

from __future__ import annotations

import itertools
import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.cache import default_folder
from methods.config import Config
from methods.files import replacing

from .space import Space, Trial
from .store import STATE, Store
from .tree import draw, duplicates

# Seconds per training image and epoch, evaluation included, on one core of the machine in docs/performance.md; used
# until this machine has trained an epoch of its own.
REFERENCE_SECONDS_PER_IMAGE = 3.3e-4


@dataclass(frozen=True)
class Plan:
    """What a sweep amounts to. `keys` holds key[0] … key[E] per trial, `keep` the epochs whose state is kept: where
    others branch off, and the last. Naive epochs are those of all trials trained one by one, unique ones those that
    differ, stored ones those that need not be trained again."""

    space: Space
    keys: dict[str, list[str]]
    keep: dict[str, list[int]]
    naive_epochs: int
    unique_epochs: int
    stored_epochs: int
    unique_trials: int
    slots: int
    estimate_seconds: float
    estimate_basis: str

    def as_json(self) -> dict[str, Any]:
        """The stable part of `plan --json`."""
        return {
            "space": self.space.name,
            "profile": self.space.profile,
            "sweep": self.space.sweep,
            "trials": len(self.space.trials),
            "unique_trials": self.unique_trials,
            "epochs": {"naive": self.naive_epochs, "unique": self.unique_epochs, "stored": self.stored_epochs},
            "estimate_seconds": round(self.estimate_seconds, 1),
            "estimate_basis": self.estimate_basis,
            "storage_bytes": 0,
            "duplicates": duplicates(self.space, self.keys),
            "slots": self.slots,
        }

    def tree(self) -> str:
        """Which stages trials share, for people."""
        return "\n".join(draw(self.space, self.keys))

    def as_text(self) -> str:
        """What `plan` prints before the tree."""
        space, lines = self.space, []
        rows: dict[str, list[Trial]] = defaultdict(list)
        for trial in space.trials:
            rows[trial.variant].append(trial)
        width = max(map(len, rows))
        for variant, trials in rows.items():
            swept = {axis: list(dict.fromkeys(t.axes[axis] for t in trials)) for axis in trials[0].axes}
            axes = "  ".join(f"{axis} ∈ {{{', '.join(map(str, points))}}}" for axis, points in swept.items())
            lines.append(f"  {variant:<{width}}  {len(trials):>3} trials  {axes}".rstrip())
        shared = self.naive_epochs - self.unique_epochs
        slots = "1 slot" if self.slots == 1 else f"{self.slots} slots"
        return "\n".join(
            [
                f"{space.title}",
                f"space {space.name}, profile {space.profile}, seeds {', '.join(map(str, space.seeds))}",
                *lines,
                f"{len(space.trials)} trials ({self.unique_trials} different), {self.naive_epochs} epochs, "
                f"of which {shared} repeat another one of this sweep "
                f"and {self.stored_epochs} are stored",
                *_same(duplicates(space, self.keys)),
                f"estimate: {duration(self.estimate_seconds)} in {slots} ({self.estimate_basis})",
            ]
        )


def plan(
    space: Space, *, max_concurrent: int | None = None, folder: Path | None = None, store: Store | None = None
) -> Plan:
    """The plan of a space for this machine. `folder` holds the timings of earlier runs (`./runs`)."""
    store = store or Store(default_folder())
    keys = {trial.id: trial.config.keys() for trial in space.trials}
    epochs = [key for chain in keys.values() for key in chain[1:]]
    # What one trial finds whole, another may have to train again, to get to its own epochs.
    stored = set(epochs)
    for trial in space.trials:
        chain = keys[trial.id]
        stored.difference_update(chain[1 + len(stored_prefix(trial, chain, store)) :])
    slots = slots_here(space, max_concurrent)
    seconds, basis = _estimate(space.trials, keys, stored, _Timings(folder))
    return Plan(
        space=space,
        keys=keys,
        keep=_kept(keys),
        naive_epochs=len(epochs),
        unique_epochs=len(set(epochs)),
        stored_epochs=len(stored),
        unique_trials=len({chain[-1] for chain in keys.values()}),
        slots=slots,
        estimate_seconds=seconds / min(slots, len(space.trials)),
        estimate_basis=basis,
    )


def stored_prefix(trial: Trial, keys: Sequence[str], store: Store) -> list[str]:
    """The keys of a trial's first epochs that need not be trained again: all if every one has its metrics, else those
    up to the last state that training can go on from."""
    record = trial.config.metrics_record()
    known = next((e for e, key in enumerate(keys[1:], start=1) if not store.has(key, record)), len(keys)) - 1
    if known < len(keys) - 1:
        known = next((epoch for epoch in range(known, 0, -1) if store.has(keys[epoch], STATE)), 0)
    return list(keys[1 : known + 1])


def _kept(keys: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """Epochs after which trials part ways, and the last one of each."""
    following: dict[str, set[str]] = defaultdict(set)
    for chain in keys.values():
        for key, after in itertools.pairwise(chain):
            following[key].add(after)
        following[chain[-1]] |= {"", "end"}
    return {
        trial: [epoch for epoch, key in enumerate(chain) if epoch and len(following[key]) > 1]
        for trial, chain in keys.items()
    }


def _same(groups: Sequence[Sequence[str]], limit: int = 6) -> list[str]:
    lines = [f"  {' = '.join(titles)}" for titles in groups[:limit]]
    more = [f"  … and {len(groups) - limit} more"] if len(groups) > limit else []
    return ["the same computation, trained once:", *lines, *more] if groups else []


def slots_here(space: Space, max_concurrent: int | None) -> int:
    """How many trials run at once on this machine, by their CPUs."""
    slots = max(int(len(os.sched_getaffinity(0)) / space.resources["cpu"]), 1) if space.resources["cpu"] else 1
    return min(slots, max_concurrent) if max_concurrent else slots


def duration(seconds: float) -> str:
    """A duration for people: 45 s, 3 min 20 s, 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def remember_timings(seconds: dict[str, list[float]], folder: Path | None = None) -> None:
    """Keep the median seconds per epoch of each kind of trial for later estimates."""
    if seconds:
        _Timings(folder).update({cost: sorted(values)[len(values) // 2] for cost, values in seconds.items()})


def cost_key(config: Config) -> str:
    """What an epoch's duration depends on, as text: trials of equal keys take about equally long."""
    values = config.flat()
    free = ("seed", "data.draw", "data.mask_seed", "data.labels", "data.known", "train.learning_rate", "train.epochs")
    fixed = {name: value for name, value in values.items() if name not in free and not isinstance(value, float)}
    return json.dumps(fixed, sort_keys=True)


class _Timings:
    def __init__(self, folder: Path | None):
        self.path = (folder or Path("runs")) / "timings.json"
        self.seconds: dict[str, float] = {}
        if self.path.exists():
            try:
                self.seconds = json.loads(self.path.read_text())
            except ValueError:
                self.seconds = {}  # only an estimate is lost

    def update(self, seconds: dict[str, float]) -> None:
        self.seconds |= seconds
        with replacing(self.path) as file:
            file.write(json.dumps(self.seconds, indent=0).encode())


def _estimate(
    trials: Sequence[Trial], keys: Mapping[str, Sequence[str]], stored: set[str], timings: _Timings
) -> tuple[float, str]:
    total, all_measured, counted = 0.0, True, set(stored)
    for trial in trials:
        measured = timings.seconds.get(cost_key(trial.config))
        all_measured &= measured is not None
        per_epoch = REFERENCE_SECONDS_PER_IMAGE * trial.config.data.train_images if measured is None else measured
        new = set(keys[trial.id][1:]) - counted
        counted |= new
        total += per_epoch * len(new)
    return total, "from epochs timed here" if all_measured else "from a reference machine; better after the first run"
