"""How much of a trial the store has already, and which states a trial must keep there."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence, Set

from methods.training.config import Records

# Names of records: the state that training goes on from, why an epoch failed, and the metrics of its training. Scores
# and metrics are beside them, under names that say what they were measured on and with.
STATE, FAILURE, TRAINING = "state", "failure", "training"


def stored_prefix(keys: Sequence[str], records: Records, names: Callable[[str], Set[str]]) -> int:
    """How many of a trial's first epochs need not be trained again; `names(key)` are the records that the store has.

    All, if all have been measured. Otherwise those up to the last stored state, because training continues there."""
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


def kept_states(keys: Mapping[str, Sequence[str]]) -> dict[str, list[int]]:
    """By trial, its last epoch and the epochs after which another trial differs from it."""
    following: dict[str, set[str]] = defaultdict(set)
    for chain in keys.values():
        for key, after in itertools.pairwise(chain):
            following[key].add(after)
        following[chain[-1]] |= {"", "end"}
    return {
        trial: [epoch for epoch, key in enumerate(chain) if epoch and len(following[key]) > 1]
        for trial, chain in keys.items()
    }
