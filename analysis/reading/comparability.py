"""Finds settings and versions that differ between the runs of a table without being shown in it.

Rows differ in what their variants set, and columns in the values of an axis: these differences are intended. Any other
difference (a setting changed by an override, other code or another platform in some runs) makes numbers look comparable
that are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

# Settings of the task and the protocol. They must be the same for all rows with the same data. Other settings (a
# method's own, its learning rate) may be tuned for a row or a column, but not for a single seed.
_PROTOCOL = ("data.", "train.epochs")
# Settings that follow the seed unless they are set. Used for old records, whose space has no `follow_seed`.
_OF_SEED = ("seed", "data.draw", "data.mask_seed")
# Versions that must be the same. Not keys, which differ between trials; not commits, which may leave the code the same.
VERSIONS = ("code", "platform")
DRAW = "data.draw"


def differences(
    space: Mapping[str, Any], trials: pd.DataFrame, params: pd.DataFrame, versions: pd.DataFrame
) -> dict[str, str]:
    """Settings and versions that differ between runs although their table does not show it, with the values in words:
    "train.epochs is 6 (Full label), 12 (LL-R)".

    `trials` have the columns trial, variant and the axes; `params` and `versions` are indexed by trial. A value that
    was not recorded counts as no difference.
    """
    places = trials.set_index("trial").loc[params.index]
    variants, axes = places["variant"], places.columns.drop("variant")
    # Numbers of groups: trials of one `point` differ in the seed alone; trials of one `data` have the same data.
    point = places.groupby([*places], dropna=False, sort=False).ngroup()
    given = [axis for axis in axes if axis.startswith("data.")]
    data = places.groupby(given, dropna=False, sort=False).ngroup() if given else 0 * point
    found = {}
    for setting in params.columns.difference([*axes, *of_seed(space)], sort=False):
        values = params[setting]
        if values.nunique() < 2:
            continue
        of_row = {name: str(stated.get(setting)) for name, stated in space["variants"].items()}
        in_column = setting.startswith(_PROTOCOL) and _differs(values, [variants.map(of_row), data])
        if in_column or _differs(values, [point]):
            found[setting] = _in_words(setting, values, variants)
    return found | {
        version: _in_words(version, versions[version], variants)
        for version in VERSIONS
        if versions[version].nunique() > 1
    }


def of_seed(space: Mapping[str, Any]) -> tuple[str, ...]:
    """Settings that follow the seed in a sweep, the seed with them."""
    return ("seed", *space["follow_seed"]) if "follow_seed" in space else _OF_SEED


def follows_seed(space: Mapping[str, Any], setting: str, values: pd.Series, trials: pd.DataFrame) -> bool:
    """Whether a setting, with its `values` as text by trial, follows the seed in these trials. What the space says is
    not enough: one variant may fix the value, and an old record does not say."""
    seeds = trials.set_index("trial")["seed"].reindex(values.index).astype(str)
    return setting in of_seed(space) and bool(len(values)) and bool((values == seeds).all())


def _differs(values: pd.Series, groups: list[pd.Series]) -> bool:
    return bool((values.groupby(groups).nunique() > 1).any())


def _in_words(key: str, values: pd.Series, variants: pd.Series) -> str:
    rows = variants.groupby(values, sort=False).unique()
    return f"{key} is " + ", ".join(f"{value} ({', '.join(of)})" for value, of in rows.items())


def draws(params: pd.DataFrame) -> pd.Series:
    """The recorded draw of each trial on the embedded scenes, by trial. Other data sets have one that means nothing."""
    if not {DRAW, "data.dataset"} <= {*params}:
        return pd.Series(dtype=str)
    return params.loc[params["data.dataset"] == "digit_scenes", DRAW].dropna()
