"""Shares of the variance, against statsmodels' and by hand, and what has none."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from analysis.cli import main
from analysis.figures.drawing import draw
from analysis.figures.importance import draw_importance, draw_parallel
from analysis.reading import records, selection
from analysis.reading.records import RecordError
from analysis.tables import importance
from tests.analysis.conftest import Axes
from tests.analysis.pages import DELTAS, RATES, SEEDS, two_settings

AXES = {"train.learning_rate": list(RATES), "delta_rel": list(DELTAS)}


@pytest.fixture(scope="module")
def record(store):
    store.log("factorial", "fac7", two_settings(), axes=AXES)
    return records.load("factorial", tracking_uri=store.uri)


def _without(record, variant="LL-R", first=1):
    """The first of a variant's trials failed."""
    trials = record.trials.copy()
    trials.loc[trials.index[trials["variant"] == variant][:first], ["status", "test/map"]] = ["FAILED", None]
    return dataclasses.replace(record, trials=trials)


def test_shares_of_a_factorial_are_those_of_an_analysis_of_variance(record):
    for one in importance.measured(record):
        runs = one.runs.rename(columns={"train.learning_rate": "rate"})
        squares = anova_lm(ols("value ~ C(rate) + C(delta_rel) + C(seed)", runs).fit())["sum_sq"]
        expected = 100 * squares / squares.sum()
        assert one.exact
        assert one.shares["train.learning_rate"] == pytest.approx(expected["C(rate)"])
        assert one.shares["delta_rel"] == pytest.approx(expected["C(delta_rel)"])
        assert one.shares["seed"] == pytest.approx(expected["C(seed)"])
        assert one.rest == pytest.approx(expected["Residual"])


def test_a_forest_takes_over_where_a_run_is_lacking_and_comes_near(record):
    exact, forest = (importance.measured(one)[0] for one in (record, _without(record)))
    assert (exact.exact, forest.exact) == (True, False)
    assert (len(forest.runs), forest.expected) == (17, 18)
    for name, share in exact.shares.items():
        assert forest.shares[name] == pytest.approx(share, abs=15)
    assert "Estimated by a random forest: LL-R." in importance.table(_without(record)).caption


def test_a_random_search_is_explained_by_a_forest(record):
    rng = np.random.default_rng(0)
    points = [(10 ** rng.uniform(-4, -2), rng.choice(["mean", "sum"])) for _ in range(40)]
    rows = [
        {"variant": "LL-R", "seed": seed, "status": "FINISHED", "run_id": f"{n}-{seed}", "rate": rate, "pool": pool}
        | {"test/map": 60 - 4 * (np.log10(rate) + 3) ** 2 + 0.1 * seed}
        for n, (rate, pool) in enumerate(points)
        for seed in SEEDS
    ]
    space = record.space | {"search": {"algorithm": "random"}, "axes": {"rate": {"loguniform": [1e-4, 1e-2]}}}
    drawn = dataclasses.replace(record, space=space, axes=("rate", "pool"), trials=pd.DataFrame(rows))
    (one,) = importance.measured(drawn)
    assert one.shares["rate"] > 80
    assert one.shares["pool"] < 5
    curve = importance.response(one, "rate")
    assert len(curve) == importance.BINS
    assert list(curve.index) == sorted(curve.index)
    assert curve["mean"].idxmax() == pytest.approx(1e-3, rel=0.7)
    assert (curve["count"] == 3).all()
    assert len(draw_importance(drawn).axes) >= 3


def test_a_response_is_the_mean_over_the_other_settings_with_the_spread_over_seeds(record):
    one = importance.measured(record)[0]
    curve = importance.response(one, "delta_rel")
    for delta in DELTAS:
        there = one.runs[one.runs["delta_rel"] == delta]
        by_seed = [np.mean(there.loc[there["seed"] == seed, "value"]) for seed in SEEDS]
        assert curve.loc[delta].to_list() == pytest.approx([np.mean(by_seed), np.std(by_seed, ddof=1), 3])


def test_the_table_has_a_column_per_setting_the_seed_and_the_rest(record):
    table = importance.table(record)
    assert table.columns == ("train.learning_rate", "Δrel", "seed", "rest")
    assert sum(table.cells["LL-R", column].value for column in table.columns) == pytest.approx(100)
    assert table.cells["LL-R", "rest"].n == 18


def test_a_search_that_looks_where_it_found_good_values_is_refused(record):
    trials = record.trials[~((record.trials["variant"] == "LL-Ct") & (record.trials["delta_rel"] == 0.1))]
    trials = pd.concat([trials, record.trials[record.trials["variant"] == "LL-Ct"].tail(3)])
    space = record.space | {"search": {"algorithm": "tpe"}}
    with pytest.raises(RecordError, match=r"LL-Ct .* neither factorial nor random \(tpe: 12 of 12"):
        importance.table(dataclasses.replace(record, space=space, trials=trials))


def test_one_setting_at_a_time_is_no_factorial(store):
    points = [(0.001, 0.1), (0.01, 0.1), (0.001, 0.4)]
    results = {
        ("LL-R", Axes({"train.learning_rate": r, "delta_rel": d})): [(1, 2.0), (1, 3.0), (1, 4.0)] for r, d in points
    }
    store.log("apart", "a9a7", results, axes=AXES)
    with pytest.raises(RecordError, match="9 of 12 combinations"):
        importance.table(records.load("apart", tracking_uri=store.uri))


def test_without_several_values_or_results_there_is_nothing_to_explain(store, record):
    with pytest.raises(RecordError, match="no variant of 'plain' has a setting with several values"):
        importance.table(records.load("plain", tracking_uri=store.uri))
    with pytest.raises(RecordError, match="0 finished runs of LL-R"):
        importance.table(_without(record, first=18))
    with pytest.raises(RecordError, match="no run of 'factorial' logged 'test/nothing'"):
        importance.table(selection.shown(record, None, "test/nothing"))


def test_parallel_coordinates_have_a_line_per_point_and_a_scale_per_setting(record):
    axes = draw_parallel(record).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        *("variant", "train.learning_rate", "Δrel (percent per epoch)", "test mAP (%)")
    ]
    lines = [line for line in axes.lines if len(line.get_xdata()) == 4]
    assert len(lines) == 12
    ends = [line.get_ydata()[-1] for line in lines]
    assert ends == sorted(ends)
    assert (ends[0], ends[-1]) == (0, 1)


def test_shares_of_a_few_values_are_named_as_in_tables_where_they_were_run(store):
    results = {
        ("A", Axes({"data.known": known, "delta_rel": delta})): [(1, 50 + 10 * known + delta + seed) for seed in SEEDS]
        for known in (0.1, 0.5, 0.9)
        for delta in (1, 2)
    }
    store.log("shares", "54a", results, axes={"data.known": [0.1, 0.5, 0.9], "delta_rel": [1, 2]})
    record = records.load("shares", tracking_uri=store.uri)
    _, of_known, of_delta = draw_importance(record).axes[:3]
    assert [label.get_text() for label in of_known.get_xticklabels()] == ["10%", "50%", "90%"]
    assert list(of_known.get_xticks()) == [0.1, 0.5, 0.9] and list(of_delta.get_xticks()) == [1, 2]
    texts = [text.get_text() for text in draw_parallel(record).axes[0].texts]
    assert {"10%", "50%", "90%"} <= set(texts) and "0.1" not in texts


def test_parallel_coordinates_need_two_settings(store):
    with pytest.raises(RecordError, match="has 1 settings with several values"):
        draw_parallel(records.load("ll_delta", tracking_uri=store.uri))


def test_the_commands(store, record, tmp_path, capsys):
    where = ["factorial", "--tracking-uri", store.uri]
    assert main(["importance", *where]) == 0
    assert "| share of variance (%) |" in capsys.readouterr().out
    assert main(["importance", *where, "--format", "html", "--mlflow-url", "http://localhost:1/"]) == 0
    assert 'data-mlflow="http://localhost:1"' in capsys.readouterr().out
    for kind in ("importance", "parallel"):
        out = tmp_path / f"{kind}.svg"
        assert main(["figure", *where, "--kind", kind, "--out", str(out)]) == 0
        assert re.search("<svg", out.read_text())
    assert draw(record).axes
