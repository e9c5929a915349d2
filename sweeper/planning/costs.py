"""Time, storage and GPU memory of epochs that ran here, kept for later estimates and placement."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence, Set
from pathlib import Path

from methods.cache.files import replacing
from methods.data import registry
from methods.training.config import Config, setting_fields

from ..spaces.space import Space
from ..spaces.trial import Trial
from ..spaces.vocabulary import MEASURED
from .stored import STATE

# For digit scenes and their network, measured on one core of the machine in docs/performance.md, with evaluation. Used
# until this machine has trained an epoch of its own; other data and networks have no reference. Seconds and bytes of an
# epoch are per training image.
REFERENCE = {"seconds": 3.3e-4, "state": 800_000, "epoch": 64}

MEMORY = "gpu_memory"


def peak_memory(space: Space, folder: Path | None = None) -> float | None:
    """The largest GPU memory, in bytes, that trials like these have taken, for a space with `gpu_memory: measured`.
    None for other spaces, and if some kind of trial has not run yet."""
    if space.resources.get("gpu_memory") != MEASURED:
        return None
    costs = Costs(folder)
    peaks = [costs.peak(cost) for cost in {cost_key(trial.config) for trial in space.trials}]
    return max(peaks) if all(peaks) else None


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
    costs = Costs(folder)
    for cost, peak in (peaks or {}).items():
        measured.setdefault(cost, {})[MEMORY] = max(peak, costs.peak(cost))
    if measured:
        costs.update(measured)


def cost_key(config: Config) -> str:
    """The settings on which the duration of an epoch depends, as text."""
    values = config.flat()
    free = {"seed", "data.labels", "data.known", "train.learning_rate", "train.epochs"}
    free |= {name for name, field in setting_fields(config.method) if field.metadata.get("follows_seed")}
    fixed = {name: value for name, value in values.items() if name not in free and not isinstance(value, float)}
    return json.dumps(fixed | {"data.train_fraction": config.data.train_fraction}, sort_keys=True)


class Costs:
    """What was measured here, by `cost_key`: `seconds` of an epoch, bytes of an `epoch`'s records and of a `state`, and
    the most `gpu_memory` that a trial took, in bytes."""

    def __init__(self, folder: Path | None):
        self.path = (folder or Path("runs")) / "costs.json"
        self._known: dict[str, dict[str, float]] = {}
        if self.path.exists():
            with contextlib.suppress(ValueError):  # a broken file costs only the estimate
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
        """Whether there is something to estimate from: a measured epoch, or the reference values."""
        return self.measured(trial) or trial.config.data.dataset == registry.EMBEDDED

    def measured(self, trial: Trial) -> bool:
        return "seconds" in self._known.get(cost_key(trial.config), {})


def estimate(
    trials: Sequence[Trial],
    epochs: Mapping[str, Sequence[tuple[str, str]]],
    stored: Set[tuple[str, str]],
    kept: Mapping[str, Sequence[int]],
    costs: Costs,
) -> tuple[float, int]:
    """Seconds in one slot, and bytes of storage, for the epochs that are not stored yet."""
    seconds, storage, counted = 0.0, 0.0, set(stored)
    for trial in trials:
        cost, chain = costs.of(trial), epochs[trial.id]
        new = set(chain) - counted
        counted |= new
        # Plus one for the state of the selected epoch.
        states = sum(chain[epoch - 1] in new for epoch in kept[trial.id]) + bool(new)
        seconds += cost["seconds"] * len(new)
        storage += cost["epoch"] * len(new) + cost["state"] * states
    return seconds, round(storage)
