"""How much each swept setting matters in a variant: functional ANOVA over its trials, the seed being one more setting.

For a complete factorial the decomposition is exact: the variance of the mean at each value of a setting, as a share of
the variance of all runs. Where runs are missing, or settings were drawn at random, a random forest is fitted to the
runs and decomposed (Hutter, Hoos and Leyton-Brown, ICML 2014; Optuna's evaluator). A search that looks where it found
good values (TPE) has no such decomposition: its runs are not a random sample of the space.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from analysis.names import as_text, several
from analysis.reading.records import Record, RecordError
from analysis.tables.table import Cell, Table

SEED, REST = "seed", "rest"
BINS = 6  # of a setting that was drawn at random, for its response curve


@dataclass(frozen=True)
class Importance:
    """Of one variant: `shares` of the variance of its runs by setting and by seed, in percent; `rest`, the share of
    interactions and noise; `exact`, whether no forest was needed. `runs` has a line for each finished run: the swept
    `settings`, seed, run_id and value."""

    variant: str
    settings: tuple[str, ...]
    shares: Mapping[str, float]
    rest: float
    exact: bool
    runs: pd.DataFrame
    expected: int


def measured(record: Record) -> list[Importance]:
    """The variants that sweep anything, in the order of the space, by the (first) metric of its table.

    Raises `RecordError` where none does, and for trials that are neither factorial nor random.
    """
    metric = several(record.space["table"]["value"])[0]
    if metric not in record.trials:
        raise RecordError(f"no run of {record.space['name']!r} logged {metric!r}")
    found = []
    for variant, trials in record.trials.groupby("variant", sort=False):
        settings = swept(record, trials)
        if settings:
            found.append(_of_variant(record, str(variant), trials.assign(value=trials[metric]), settings))
    if not found:
        raise RecordError(f"no variant of {record.space['name']!r} has a setting with several values")
    return found


def swept(record: Record, trials: pd.DataFrame) -> tuple[str, ...]:
    """The settings that differ among trials of one variant."""
    return tuple(axis for axis in record.axes if trials[axis].map(as_text).nunique() > 1)


def table(record: Record) -> Table:
    """Rows are variants, columns settings, the seed and what is left; cells are shares of the variance in percent."""
    metric, names = several(record.space["table"]["value"])[0], record.names
    found = measured(record)
    forest = ", ".join(one.variant for one in found if not one.exact)
    # Settings of different variants may have the same printed name. The columns of the seed and the rest come last.
    columns = list(dict.fromkeys(names.setting_name(axis) for one in found for axis in one.settings))
    columns += [SEED] * any(SEED in one.shares for one in found) + [REST]
    cells: dict[tuple[str, str], Cell] = {}
    for one in found:
        shares = {names.setting_name(axis): share for axis, share in one.shares.items()} | {REST: one.rest}
        whole = Cell(None, None, len(one.runs), one.expected, tuple(one.runs["run_id"]))
        cells |= {
            (one.variant, name): replace(whole, value=shares[name]) if name in shares else Cell() for name in columns
        }
    return Table(
        name=f"{record.space['name']}_importance",
        caption=(
            f"{record.space['title'].rstrip('.')}. Functional ANOVA of {names.metric_title(metric)}: the share (%) of "
            "the variance over a variant's runs that each setting explains alone; the rest is interaction and noise. "
            + f"Estimated by a random forest: {forest}. " * bool(forest)
            + f"Profile {record.space.get('profile', 'default')}, sweep {record.sweep[:12]}."
        ),
        rows=tuple(one.variant for one in found),
        columns=tuple(columns),
        columns_title="share of variance (%)",
        cells=cells,
        higher_is_better=True,
    )


def response(one: Importance, setting: str) -> pd.DataFrame:
    """By value of a setting: the mean over all other settings, taken seed by seed, as mean, std (n − 1) and count over
    the seeds. Values drawn at random are put into at most `BINS` bins of as many runs each, named by their means."""
    values = one.runs[setting]
    if _is_number(values) and values.nunique() > 2 * BINS:
        values = values.groupby(pd.qcut(values, BINS, duplicates="drop"), observed=True).transform("mean")
    elif not _is_number(values):
        values = values.map(as_text)
    by_seed = one.runs.groupby([values.rename("at"), SEED], sort=_is_number(values))["value"].mean()
    return by_seed.groupby("at", sort=False).agg(["mean", "std", "count"])


def _of_variant(record: Record, variant: str, trials: pd.DataFrame, settings: tuple[str, ...]) -> Importance:
    factors = (*settings, *([SEED] if trials[SEED].nunique() > 1 else []))
    levels = math.prod(trials[factor].map(as_text).nunique() for factor in factors)
    points = trials[list(factors)].map(as_text)
    algorithm = (record.space.get("search") or {}).get("algorithm", "grid")
    factorial = len(points.drop_duplicates()) == levels == len(points)
    if not factorial and algorithm != "random":
        raise RecordError(
            f"the trials of {variant} in {record.space['name']!r} are neither factorial nor random ({algorithm}: "
            f"{len(points.drop_duplicates())} of {levels} combinations), and importance would say where was searched; "
            "cross the axes, or search at random"
        )
    runs = trials[trials["value"].notna() & (trials["status"] == "FINISHED")]
    runs = runs[[*settings, *dict.fromkeys([SEED, "run_id", "value"])]].reset_index(drop=True)
    exact = factorial and len(runs) == len(trials)
    if len(runs) < 2 or runs["value"].nunique() == 1:
        raise RecordError(f"{len(runs)} finished runs of {variant} differ in nothing that could be explained")
    shares = _exact(runs, factors) if exact else _by_forest(runs, factors, record.space.get("axes", {}), factorial)
    rest = max(100 - sum(shares.values()), 0.0)  # rounding may give −1e-14
    return Importance(variant, settings, shares, rest, exact, runs, len(trials))


def _exact(runs: pd.DataFrame, factors: tuple[str, ...]) -> dict[str, float]:
    """Main effects of a balanced factorial."""
    total = runs["value"].var(ddof=0)
    means = (runs.groupby(runs[factor].map(as_text))["value"].mean() for factor in factors)
    return {factor: 100 * float(mean.var(ddof=0) / total) for factor, mean in zip(factors, means, strict=True)}


def _by_forest(
    runs: pd.DataFrame, factors: tuple[str, ...], axes: Mapping[str, Any], factorial: bool
) -> dict[str, float]:
    import optuna  # takes a second
    from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    distributions: dict[str, BaseDistribution] = {}
    values = runs[list(factors)].copy()
    for factor in factors:
        if factorial or factor == SEED or not _is_number(values[factor]):
            # Each value of a grid has the same weight; in a range, each interval of the same length has.
            values[factor] = values[factor].map(as_text)
            distributions[factor] = CategoricalDistribution(list(dict.fromkeys(values[factor])))
        else:
            log = "loguniform" in axes.get(factor, ())
            distributions[factor] = FloatDistribution(values[factor].min(), values[factor].max(), log=log)
    study = optuna.create_study()
    study.add_trials(
        optuna.trial.create_trial(params=params, distributions=distributions, value=value)
        for params, value in zip(values.to_dict("records"), runs["value"], strict=True)
    )
    # Optuna's default evaluator (PED-ANOVA) says what matters among the best runs alone.
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of `normalize`
        shares = optuna.importance.get_param_importances(
            study, evaluator=evaluator, params=list(factors), normalize=False
        )
    return {factor: 100 * float(shares[factor]) for factor in factors}


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
