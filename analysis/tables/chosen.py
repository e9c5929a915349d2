"""Values that are chosen on val: each seed reports the setting that the other seeds found best."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from analysis.names import higher_is_better
from analysis.reading import selection
from analysis.reading.records import Record, RecordError
from analysis.tables.layout import refuse_given, with_scores


def reported(record: Record) -> dict[str, tuple[pd.DataFrame, str]]:
    """By variant, the trial of each seed that a table reports, and the settings taken in words. Where there are several
    settings, it is the one that the other seeds chose on val; where there is one, the words are "".

    Raises `RecordError` for an axis of the data or protocol, from which nothing may be chosen, and where a single seed
    would have to choose, as there are no others.
    """
    record = selection.confirmed(record)
    refuse_given(record, record.axes)
    found = {}
    for variant, of_variant in with_scores(record).groupby("variant", sort=False):
        taken = ""
        if of_variant["setting"].nunique() > 1:
            of_variant = chosen_by_the_other_seeds(of_variant, higher_is_better(record.space["select"]["metric"]))
            taken = " or ".join(of_variant["setting"].unique())
            if not taken:
                raise RecordError(
                    f"one seed cannot choose among the settings of {variant}; run more seeds, or --set the axes to one"
                )
        found[str(variant)] = of_variant, taken
    return found


def chosen_by_the_other_seeds(trials: pd.DataFrame, high_score: bool) -> pd.DataFrame:
    """For each seed, its trial at the setting with the best mean score over the other seeds; the first of equals."""
    scores = trials.pivot(index="setting", columns="seed", values="score").reindex(trials["setting"].unique())
    values = scores.to_numpy(float) if high_score else -scores.to_numpy(float)
    known = ~np.isnan(values)
    choice = {}
    for place, seed in enumerate(scores):
        others = np.arange(len(scores.columns)) != place
        number = known[:, others].sum(axis=1)
        if number.any():
            sums = np.where(known, values, 0.0)[:, others].sum(axis=1)
            means = np.where(number > 0, sums / np.maximum(number, 1), -np.inf)
            choice[seed] = scores.index[means.argmax()]
    return trials[trials["setting"] == trials["seed"].map(choice)]


def choice(trials: pd.DataFrame, reported: pd.DataFrame) -> str:
    """A note that says which setting each seed took, and how many of the runs to choose from have no result."""
    if reported.empty:
        return f"no other seed to choose among {trials['setting'].nunique()} settings"
    taken = [f"{setting} ({seeds_in_words(of['seed'])})" for setting, of in reported.groupby("setting", sort=False)]
    unfinished = trials["value"].isna().sum()
    shortfall = f"; {unfinished} of {len(trials)} runs to choose from have no result" if unfinished else ""
    return f"{', '.join(taken)}{shortfall}"


def seeds_in_words(seeds: Iterable[int]) -> str:
    """ "seeds 1, 2, 3"."""
    listed = sorted(set(seeds))
    return f"seed{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"
