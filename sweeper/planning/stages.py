"""The stage tree as text: which epochs trials share, after which they differ, and which trials are the same."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from ..spaces.space import Space
from ..spaces.trial import Trial


def duplicates(space: Space, keys: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """Groups of trials, by title, that are the same computation: equal last keys."""
    groups: dict[str, list[str]] = defaultdict(list)
    for trial in space.trials:
        groups[keys[trial.id][-1]].append(trial.title)
    return [titles for titles in groups.values() if len(titles) > 1]


def same(space: Space, keys: Mapping[str, Sequence[str]], limit: int = 6) -> list[str]:
    """`duplicates` as text, a line per group, all seeds in one line: `LL-R: delta_rel 0.1 and 0.2 are the same
    computation in 12 epochs`."""
    groups: dict[str, list[Trial]] = defaultdict(list)
    for trial in space.trials:
        groups[keys[trial.id][-1]].append(trial)
    seeds: dict[str, list[int]] = defaultdict(list)
    for trials in groups.values():
        if len(trials) > 1:
            first = trials[0].config
            epochs = f"{first.train.epochs} epoch{'s' * (first.train.epochs > 1)}"
            text = f"{_named_together(trials)} are the same computation in {epochs}"
            seeds[text].append(first.seed)
    every = len(space.seeds)
    lines = [
        text if len(found) == every else f"{text} (seed {', '.join(map(str, found))})" for text, found in seeds.items()
    ]
    return lines[:limit] + ([f"… and {len(lines) - limit} more groups"] if len(lines) > limit else [])


def _named_together(trials: Sequence[Trial]) -> str:
    """`LL-R: delta_rel 0.1, 0.2 and 0.4` if the trials differ only in one axis of one variant, else each full title."""
    varied = {axis for trial in trials for axis in trial.axes if trial.axes[axis] != trials[0].axes.get(axis)}
    if len({trial.variant for trial in trials}) == len(varied) == 1:
        (axis,) = varied
        fixed = [f"{name}={value}" for name, value in trials[0].axes.items() if name != axis]
        where = " ".join([trials[0].variant, *fixed])
        return f"{where}: {axis} {_listed([str(trial.axes[axis]) for trial in trials])}"
    return _listed([" ".join(filter(None, [trial.variant, trial.point])) for trial in trials])


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def draw(space: Space, keys: Mapping[str, Sequence[str]], limit: int = 40) -> list[str]:
    """The tree of the space's first seed, a line per stage, at most `limit` lines."""
    first = space.seeds[0]
    trials = [trial for trial in space.trials if trial.config.seed == first]
    names = {trial.id: " ".join(filter(None, [trial.variant, trial.point])) for trial in trials}
    lines = list(_stages({names[trial.id]: keys[trial.id] for trial in trials}, 1, ""))
    more = [f"… and {len(lines) - limit} more stages"] if len(lines) > limit else []
    return [f"stages of seed {first}:", *(f"  {line}" for line in [*lines[:limit], *more])]


def _stages(chains: Mapping[str, Sequence[str]], epoch: int, indent: str) -> Iterator[str]:
    """Lines for `chains` of keys that are equal in all epochs before `epoch`."""
    groups: dict[str, dict[str, Sequence[str]]] = defaultdict(dict)
    for name, chain in chains.items():
        if len(chain) > epoch:
            groups[chain[epoch]][name] = chain
    for group in groups.values():
        last = epoch
        while all(len(chain) > last + 1 for chain in group.values()):
            if len({chain[last + 1] for chain in group.values()}) > 1:
                break
            last += 1
        ended = [name for name, chain in group.items() if len(chain) == last + 1]
        what = " = ".join(ended) if ended else f"shared by {len(group)} trials"
        yield f"{indent}{f'epoch {epoch}' if last == epoch else f'epochs {epoch}–{last}'}: {what}"
        yield from _stages(group, last + 1, indent + "  ")
