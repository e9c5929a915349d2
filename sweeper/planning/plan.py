"""What a space will run, before anything runs: trials, epochs, duplicates, an estimate. No Ray, no data loaded."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.cache.files import replacing
from methods.data import registry
from methods.training.config import Config, Records

from ..running.retention import STATE, TRAINING, Store, default_folder
from ..spaces.space import Space, Trial
from .capacity import MEASURED, PlacementError, asks, gpus, room, this_machine
from .stages import draw, duplicates, same

# Of digit scenes and their network on one core of the machine in docs/performance.md, evaluation included; used until
# this machine has trained an epoch of its own. Seconds and bytes of an epoch are per training image. Of other data and
# networks nothing is known before that.
REFERENCE = {"seconds": 3.3e-4, "state": 800_000, "epoch": 64}
MEMORY = "gpu_memory"

COSINE = "learning rates fall along a cosine over all epochs: trials of another number of epochs hardly share any"


@dataclass(frozen=True)
class Plan:
    """What a sweep amounts to. `keys` holds key[0] … key[E] per trial, `keep` the epochs whose state is kept: where
    others branch off, and the last. Naive epochs are those of all trials trained one by one, unique ones those that
    differ, stored ones those that need not be trained again. Where the files of a data set are not at hand, here named,
    keys are provisional and nothing counts as stored. There is no estimate (None) of epochs of which nothing is
    known."""

    space: Space
    keys: dict[str, list[str]]
    keep: dict[str, list[int]]
    naive_epochs: int
    unique_epochs: int
    stored_epochs: int
    not_at_hand: tuple[str, ...]
    unique_trials: int
    slots: int
    estimate_seconds: float | None
    estimate_basis: str
    storage_bytes: int | None

    def as_json(self) -> dict[str, Any]:
        """The stable part of `plan --json`."""
        stored = None if self.not_at_hand else self.stored_epochs
        return {
            "space": self.space.name,
            "profile": self.space.profile,
            "sweep": self.space.sweep,
            "trials": len(self.space.trials),
            "unique_trials": self.unique_trials,
            "epochs": {"naive": self.naive_epochs, "unique": self.unique_epochs, "stored": stored},
            "estimate_seconds": None if self.estimate_seconds is None else round(self.estimate_seconds, 1),
            "estimate_basis": self.estimate_basis,
            "storage_bytes": self.storage_bytes,
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
            if space.search:
                axes = "  ".join(f"{axis} ~ {drawn}" for axis, drawn in space.search.axes[variant].items())
            else:
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
                *([f"{space.search}; counted are the trials that are known so far"] if space.search else []),
                *(f"{name}: not at hand; what is stored is not known" for name in self.not_at_hand),
                *same(space, self.keys),
                *([COSINE] if any(trial.config.train.schedule == "cosine" for trial in space.trials) else []),
                f"estimate: {self._estimate(slots)} ({self.estimate_basis})",
            ]
        )

    def _estimate(self, slots: str) -> str:
        if self.estimate_seconds is None or self.storage_bytes is None:
            return "none"
        return f"{duration(self.estimate_seconds)} in {slots}, {size(self.storage_bytes)} in the store"


def plan(
    space: Space,
    *,
    max_concurrent: int | None = None,
    folder: Path | None = None,
    store: Store | None = None,
    slots: int | None = None,
) -> Plan:
    """The plan of a space for a cluster of so many `slots`, or for this machine. `folder` holds what was measured in
    earlier runs (`./runs`)."""
    store = store or Store(default_folder())
    with registry.steady():
        keys = {trial.id: trial.config.keys() for trial in space.trials}
        records = {trial.id: trial.config.records() for trial in space.trials}
        settings = {(t.config.data.dataset, t.config.data.word_vectors): t.config.data for t in space.trials}
        absent = tuple(dict.fromkeys(name for data in settings.values() for name in data.not_at_hand()))
    kept = _kept(keys)
    names = functools.cache(store.names)
    # An epoch counts again where it is to be scored on other images: that takes its state, which is not kept.
    epochs = {id: [(key, records[id].scores) for key in chain[1:]] for id, chain in keys.items()}
    unique = {epoch for chain in epochs.values() for epoch in chain}
    # What one trial finds whole, another may have to train again, to get to its own epochs.
    stored = set(unique)
    for id, chain in keys.items():
        stored.difference_update(epochs[id][stored_prefix(chain, records[id], names) :])
    slots = slots or slots_here(space, folder=folder)
    slots = min(slots, max_concurrent or slots)
    costs = _Costs(folder)
    measured = all(map(costs.measured, space.trials))
    basis = "from epochs run here" if measured else "from a reference machine; better after the first run"
    seconds = storage = None
    if all(map(costs.known, space.trials)):
        seconds, storage = _estimate(space.trials, epochs, stored, kept, costs)
        seconds /= min(slots, len(space.trials))
    else:
        basis = "epochs of this data and network have not been run here"
    return Plan(
        space=space,
        keys=keys,
        keep=kept,
        naive_epochs=sum(map(len, epochs.values())),
        unique_epochs=len(unique),
        stored_epochs=len(stored),
        not_at_hand=absent,
        unique_trials=len({(chain[-1], records[id].metrics) for id, chain in keys.items()}),
        slots=slots,
        estimate_seconds=seconds,
        estimate_basis=basis,
        storage_bytes=storage,
    )


def stored_prefix(keys: Sequence[str], records: Records, names: Callable[[str], Set[str]]) -> int:
    """How many of a trial's first epochs need not be trained again, `names` being those of a key's records: all if
    every one has been measured, else those up to the last state that training can go on from."""
    known = 0
    for key in keys[1:]:
        there = names(key)
        if TRAINING not in there or there.isdisjoint((records.metrics, records.scores)):
            break
        if not {record for _, record in records.diagnostics} <= there:
            break
        known += 1
    if known < len(keys) - 1:
        known = next((epoch for epoch in range(known, 0, -1) if STATE in names(keys[epoch])), 0)
    return known


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


def slots_here(space: Space, max_concurrent: int | None = None, folder: Path | None = None) -> int:
    """How many trials run at once on this machine, by what it has; 1 where it cannot hold any."""
    memories = [memory for _, memory in gpus()] if "gpu_memory" in space.resources else []
    try:
        here = max(room(asks(space.resources, peak_memory(space, folder), memories), [this_machine()]), 1)
    except PlacementError:
        here = 1
    return min(here, max_concurrent or here)


def peak_memory(space: Space, folder: Path | None = None) -> float | None:
    """The most memory, in bytes, that one of these trials was seen to take of its GPU, where its space asks for as
    much; None if one was not seen yet."""
    if space.resources.get("gpu_memory") != MEASURED:
        return None
    costs = _Costs(folder)
    peaks = [costs.peak(cost) for cost in {cost_key(trial.config) for trial in space.trials}]
    return max(peaks) if all(peaks) else None


def duration(seconds: float) -> str:
    """A duration for people: 45 s, 3 min 20 s, 2 h 5 min."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def size(count: float) -> str:
    """Bytes for people: 640 kB, 12.3 MB, 4.0 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"


def remember_costs(
    seconds: Mapping[str, list[float]],
    sizes: Mapping[str, dict[str, int]],
    folder: Path | None = None,
    peaks: Mapping[str, int] | None = None,
) -> None:
    """Keep, by `cost_key`, the median seconds of an epoch and the bytes of records for later estimates, and the largest
    of all `peaks` of memory on a GPU, in bytes, for later placement."""
    measured: dict[str, dict[str, float]] = {}
    for cost, values in seconds.items():
        measured.setdefault(cost, {})["seconds"] = sorted(values)[len(values) // 2]
    for cost, written in sizes.items():
        measured.setdefault(cost, {})["epoch"] = sum(count for name, count in written.items() if name != STATE)
        if STATE in written:
            measured[cost]["state"] = written[STATE]
    costs = _Costs(folder)
    for cost, peak in (peaks or {}).items():
        measured.setdefault(cost, {})[MEMORY] = max(peak, costs.peak(cost))
    if measured:
        costs.update(measured)


def cost_key(config: Config) -> str:
    """What an epoch's duration depends on, as text: trials of equal keys take about equally long."""
    values = config.flat()
    free = ("seed", "data.draw", "data.mask_seed", "data.labels", "data.known", "train.learning_rate", "train.epochs")
    fixed = {name: value for name, value in values.items() if name not in free and not isinstance(value, float)}
    return json.dumps(fixed | {"data.train_fraction": config.data.train_fraction}, sort_keys=True)


class _Costs:
    """What was measured here, by `cost_key`: `seconds` of an epoch, bytes of an `epoch`'s records and of a `state`, and
    of the `gpu_memory` that trials had at most."""

    def __init__(self, folder: Path | None):
        self.path = (folder or Path("runs")) / "costs.json"
        self._known: dict[str, dict[str, float]] = {}
        if self.path.exists():
            with contextlib.suppress(ValueError):  # only an estimate is lost
                self._known = json.loads(self.path.read_text())

    def update(self, measured: Mapping[str, dict[str, float]]) -> None:
        for cost, values in measured.items():
            self._known[cost] = self._known.get(cost, {}) | values
        with replacing(self.path) as file:
            file.write(json.dumps(self._known, indent=0).encode())

    def of(self, trial: Trial) -> dict[str, float]:
        images = trial.config.data.train_images
        reference = {name: value * (1 if name == "state" else images) for name, value in REFERENCE.items()}
        return reference | self._known.get(cost_key(trial.config), {})

    def peak(self, cost: str) -> float:
        return self._known.get(cost, {}).get(MEMORY, 0)

    def known(self, trial: Trial) -> bool:
        """There is something to go by."""
        return self.measured(trial) or trial.config.data.dataset == registry.EMBEDDED

    def measured(self, trial: Trial) -> bool:
        return "seconds" in self._known.get(cost_key(trial.config), {})


def _estimate(
    trials: Sequence[Trial],
    epochs: Mapping[str, Sequence[tuple[str, str]]],
    stored: Set[tuple[str, str]],
    kept: Mapping[str, Sequence[int]],
    costs: _Costs,
) -> tuple[float, int]:
    """Seconds of one slot and bytes that the epochs which are not stored take."""
    seconds, storage, counted = 0.0, 0.0, set(stored)
    for trial in trials:
        cost, chain = costs.of(trial), epochs[trial.id]
        new = set(chain) - counted
        counted |= new
        # And the state of the selected epoch.
        states = sum(chain[epoch - 1] in new for epoch in kept[trial.id]) + bool(new)
        seconds += cost["seconds"] * len(new)
        storage += cost["epoch"] * len(new) + cost["state"] * states
    return seconds, round(storage)
