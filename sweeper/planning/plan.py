"""What a space will run, before anything runs: trials, epochs, duplicates, an estimate. No Ray, no data loaded."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from methods.cache.store import Store, default_folder
from methods.data import content

from ..spaces.space import Space
from ..spaces.trial import Trial
from ..units import duration, size
from .capacity import PlacementError, capacity, gpus, resource_request, this_machine
from .costs import Costs, estimate, peak_memory
from .stages import draw, duplicates, same
from .stored import kept_states, stored_prefix
from .studies import so_far

COSINE = "learning rates fall along a cosine over all epochs: trials of another number of epochs hardly share any"


@dataclass(frozen=True)
class Plan:
    """What a sweep will run.

    `keep` has, by trial, the epochs whose state is kept: the last, and those after which other trials differ. Naive
    epochs are those of all trials, counted separately. Unique epochs are counted once if trials share them. Stored ones
    need not be trained again. `not_at_hand` names data sets whose files are missing; keys are then provisional, and
    nothing counts as stored. The estimate is None if no epoch of this kind has been measured.
    """

    space: Space
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

    @property
    def keys(self) -> dict[str, list[str]]:
        """key[0] … key[E] by trial."""
        return {trial.id: trial.keys for trial in self.space.trials}

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
        """The text that `plan` prints before the tree."""
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
    slots: int | None = None,
    names: Callable[[str], Set[str]] | None = None,
) -> Plan:
    """The plan of a space for a cluster with this number of `slots`, or for this machine. `folder` (`./runs`) holds
    measured costs of earlier runs. `names` returns the names of a key's records in the store; give it if they were
    looked up before. For a search without known trials, the first suggestions are planned."""
    if not space.trials:
        space, _ = so_far(space, {})
    names = names or functools.cache(Store(default_folder()).names)
    with content.steady():
        keys = {trial.id: trial.keys for trial in space.trials}
        records = {trial.id: trial.records for trial in space.trials}
        settings = {(t.config.data.dataset, t.config.data.word_vectors): t.config.data for t in space.trials}
        absent = tuple(dict.fromkeys(name for data in settings.values() for name in data.not_at_hand()))
    kept = kept_states(keys)
    # An epoch scored on other images counts as another epoch: scoring needs its state, which may not be stored.
    epochs = {id: [(key, records[id].scores) for key in chain[1:]] for id, chain in keys.items()}
    unique = {epoch for chain in epochs.values() for epoch in chain}
    # A stored epoch still counts as work if a trial must train it again to reach its later epochs.
    stored = set(unique)
    for id, chain in keys.items():
        stored.difference_update(epochs[id][stored_prefix(chain, records[id], names) :])
    slots = slots or slots_here(space, folder=folder)
    slots = min(slots, max_concurrent or slots)
    costs = Costs(folder)
    measured = all(map(costs.measured, space.trials))
    basis = "from epochs run here" if measured else "from a reference machine; better after the first run"
    seconds = storage = None
    if all(map(costs.known, space.trials)):
        seconds, storage = estimate(space.trials, epochs, stored, kept, costs)
        seconds /= min(slots, len(space.trials))
    else:
        basis = "epochs of this data and network have not been run here"
    return Plan(
        space=space,
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


def slots_here(space: Space, max_concurrent: int | None = None, folder: Path | None = None) -> int:
    """How many trials run at once on this machine, from its resources; 1 if it cannot hold any."""
    memories = [memory for _, memory in gpus()] if "gpu_memory" in space.resources else []
    try:
        request = resource_request(space.resources, peak_memory(space, folder), memories)
        here = max(capacity(request, [this_machine()]), 1)
    except PlacementError:
        here = 1
    return min(here, max_concurrent or here)
