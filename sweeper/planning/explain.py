"""What a trial's keys are made of, as text: settings, code, versions and files; and in what two trials differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ..errors import UserError
from ..spaces.space import Space
from ..spaces.trial import Trial


class NoTrialError(UserError):
    """The space has no such trial."""


def explain(space: Space, names: Sequence[str]) -> Iterator[str]:
    """Lines for one trial or two of a space, each given by its id or its title.

    Of one: what is in key[0]; then, for each epoch, what is new or other than in the epoch before. Of two: for each
    epoch, what only one of them has (`-` the first, `+` the second), up to the first epoch in which they differ: from
    there on no key is shared. The lines have a fixed order, so that texts made at two commits can be compared with
    `diff`. Raises `NoTrialError`.
    """
    trials = [_find(space, name) for name in names]
    if len(trials) > 2:
        raise NoTrialError(f"--explain-key: {len(trials)} trials were given; allowed is one, or two that are compared")
    for mark, trial in zip("-+" if len(trials) > 1 else " ", trials, strict=False):
        yield f"{mark} trial {trial.id}: {trial.title}"
    if len(trials) == 1:
        (trial,) = trials
        before: Mapping[str, str] = {}
        for epoch, (key, parts) in enumerate(zip(trial.keys, trial.config.explained(), strict=True)):
            yield f"key[{epoch}] {key}"
            yield from _differences(before if epoch > 1 else {}, parts)
            before = parts
        return
    one, other = trials
    both = zip(one.keys, other.keys, one.config.explained(), other.config.explained(), strict=False)
    for epoch, (key, its, parts, its_parts) in enumerate(both):
        if key != its:
            yield f"key[{epoch}] differs:"
            yield from _differences(parts, its_parts)
            return
    shared = min(len(one.keys), len(other.keys)) - 1
    yield f"equal keys in all {shared} epochs" + (" that both have" if len(one.keys) != len(other.keys) else "")


def _find(space: Space, name: str) -> Trial:
    found = [trial for trial in space.trials if name in (trial.id, trial.title)]
    if not found:
        known = "; ".join(f"{trial.id} ({trial.title})" for trial in space.trials[:3])
        raise NoTrialError(f"--explain-key {name}: no trial of {space.name}; allowed is an id or a title: {known}, …")
    return found[0]


def _differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name in dict.fromkeys([*before, *after]):
        old, new = before.get(name), after.get(name)
        if old != new:
            yield from (f"  {mark} {name} = {value}" for mark, value in (("-", old), ("+", new)) if value is not None)
