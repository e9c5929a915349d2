"""Checks recorded results: trains trials from scratch, without the store, and compares."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from analysis.record.names import SECONDS, SELECTED
from methods.cache.store import Store, default_folder
from methods.training.config import resolve
from methods.training.fit import Metrics, Training

from ..planning.stored import STATE, TRAINING
from ..planning.studies import so_far
from ..recording.runs import Recorded, recorded
from ..running.driver import selected
from ..spaces.space import Space
from ..spaces.trial import Trial

# Calls a function for each job and yields the results in the order of the jobs, like the builtin `map`.
Map = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[Any]]


@dataclass(frozen=True)
class Verdict:
    """The result for one trial: the names of what was compared, bit for bit, and each difference in words."""

    trial: Trial
    compared: tuple[str, ...]
    differences: tuple[str, ...]


def verify(space: Space, sample: int, uri: str | None = None, *, over: Map) -> Iterator[Verdict]:
    """Train `sample` of the space's trials again and compare: the metrics of every epoch in MLflow and in the store,
    the results in MLflow, the last state in the store. What is missing is not compared, and not reported as equal. A
    trial with nothing to compare is not trained; its verdict comes first.

    The same sweep always gives the same sample. `over` runs the training.
    """
    found = recorded(space, uri)
    space, _ = so_far(space, found)
    # Leave out trials that a rule has stopped early: they have no last epoch to compare.
    runs = {trial: run for trial, run in found.items() if run.stopped is None}
    whole = [trial for trial in space.trials if trial.id not in found or trial.id in runs]
    chosen = random.Random(space.sweep).sample(whole, min(sample, len(whole)))
    store = Store(default_folder())
    kept = [(trial, _found(trial, store, runs.get(trial.id))) for trial in chosen]
    yield from (Verdict(trial, (), ()) for trial, parts in kept if not parts)
    kept = [(trial, parts) for trial, parts in kept if parts]
    computed = over(_train, [trial.config.flat() for trial, _ in kept])
    for (trial, parts), (history, state) in zip(kept, computed, strict=True):
        differences: list[str] = []
        for name, part in parts.items():
            differences += _different(name, part, state if name == "state" else history, space)
        yield Verdict(trial, tuple(parts), tuple(differences))


def in_processes(at_once: int) -> Map:
    """A map that runs each job in a new process, so that earlier computations cannot influence it."""

    def over(function: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
        if not jobs:
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(at_once, len(jobs)), mp_context=context, max_tasks_per_child=1) as processes:
            yield from processes.map(function, jobs)

    return over


def _train(values: Mapping[str, Any]) -> tuple[list[Metrics], str]:
    history = []
    with tempfile.TemporaryDirectory() as folder:
        for result in Training(resolve(values), Path(folder)).epochs():
            state, metrics = result
            history.append(metrics)
    return history, _digest(state)


def _found(trial: Trial, store: Store, run: Recorded | None) -> dict[str, Any]:
    """What can be compared, by name."""
    found: dict[str, Any] = {}
    keys, records = trial.keys, trial.records
    stored = [
        (store.read_json(key, TRAINING) or {}) | (store.read_json(key, records.metrics) or {}) for key in keys[1:]
    ]
    if all(stored):
        found["metrics in the store"] = stored
    state = store.read_tensors(keys[-1], STATE)
    if state is not None:
        found["state"] = _digest(state)
    if run is not None and run.key == keys[-1]:
        found["histories in MLflow"] = run.history
        found["results in MLflow"] = run.results
    return found


def _different(name: str, found: Any, computed: Any, space: Space) -> Sequence[str]:
    if name == "state":
        return [] if found == computed else ["the last state differs"]
    computed = computed[: space.select.ends(computed)]
    if name == "results in MLflow":
        results = selected(space.select, computed)
        results[SELECTED] = float(results[SELECTED])  # as MLflow has it
        return [f"{name}: {metric} {text}" for metric, text in _unequal(found, results)]
    found = found[: space.select.ends(found)]
    if len(found) != len(computed):
        return [f"{name}: {len(found)} epochs, computed {len(computed)}"]
    return [
        f"{name}: epoch {epoch}, {metric} {text}"
        for epoch, (old, new) in enumerate(zip(found, computed, strict=True), start=1)
        for metric, text in _unequal(old, new)
    ]


def _unequal(found: Mapping[str, float], computed: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    for metric, value in found.items():
        new = computed.get(metric)
        if metric == SECONDS:
            continue  # training time differs each time
        if repr(value) != repr(new):  # NaN equals NaN, and 0.0 differs from -0.0
            yield metric, f"{value!r}, computed {new!r}"


def _digest(state: Mapping[str, Any]) -> str:
    """A hash of the names, types, shapes and contents of the tensors."""
    hashed = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        hashed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()
