"""What the runs of one table must have in common: everything that is neither row, column, averaged over nor seed.

A row is what its variant states and a column what an axis does, and what these state may differ. What they do not (set
by an override, or other code or another platform in a part of the runs) makes numbers look alike that are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

# What the task and the protocol are: the same for all rows at one place of the table. Other settings (a method's own,
# its learning rate) may be tuned for a row or a column, but for no single seed.
_PROTOCOL = ("data.", "train.epochs")
# They follow the seed unless they are set; the record of a space says which do (`follow_seed`), older ones do not.
OF_SEED = ("seed", "data.draw", "data.mask_seed")
# What made the runs. Keys differ anyhow, and a commit may leave alone what acts.
VERSIONS = ("code", "platform")


def differences(
    space: Mapping[str, Any], trials: pd.DataFrame, params: pd.DataFrame, versions: pd.DataFrame
) -> dict[str, str]:
    """Settings and versions in which runs differ though nothing in their table does, each with its values in words:
    "train.epochs is 6 (Full label), 12 (LL-R)".

    `trials` have the columns trial, variant and the axes; `params` and `versions` are indexed by trial, and what was
    not recorded there says nothing.
    """
    places = trials.set_index("trial").loc[params.index]
    variants, axes = places["variant"], places.columns.drop("variant")
    # Numbers of places: the same but for the seed; with the same data.
    point = places.groupby([*places], dropna=False, sort=False).ngroup()
    given = [axis for axis in axes if axis.startswith("data.")]
    data = places.groupby(given, dropna=False, sort=False).ngroup() if given else 0 * point
    found = {}
    of_seed = ("seed", *space["follow_seed"]) if "follow_seed" in space else OF_SEED
    for setting in params.columns.difference([*axes, *of_seed], sort=False):
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


def _differs(values: pd.Series, groups: list[pd.Series]) -> bool:
    return bool((values.groupby(groups).nunique() > 1).any())


def _in_words(key: str, values: pd.Series, variants: pd.Series) -> str:
    rows = variants.groupby(values, sort=False).unique()
    return f"{key} is " + ", ".join(f"{value} ({', '.join(of)})" for value, of in rows.items())
