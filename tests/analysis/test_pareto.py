"""Pareto fronts, against a brute-force definition and by hand."""

from __future__ import annotations

import dataclasses
import itertools

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.cli import main
from analysis.figures.drawing import save
from analysis.figures.pareto import draw_fronts
from analysis.reading import records
from analysis.reading.records import RecordError
from analysis.tables import pareto
from tests.analysis.conftest import Axes

OBJECTIVES = {"val/map": "max", "train/seconds": "min"}
SEARCH = {"algorithm": "tpe", "trials": 4, "confirm": None, "objectives": OBJECTIVES}
# (val/map, seconds) by rate: 0.3 is beaten by 0.1, and 0.4 by none though it is the worst.
REACHED = {0.1: (70, 5.0), 0.2: (60, 2.0), 0.3: (70, 6.0), 0.4: (50, 1.0)}


def results(seeds=1) -> dict:
    return {
        ("LL-R", Axes({"train.learning_rate": rate})): [
            (value + seed, value + 10 + seed, {"train/seconds": seconds}) for seed in range(seeds)
        ]
        for rate, (value, seconds) in REACHED.items()
    }


@pytest.fixture(scope="module")
def record(store):
    axes = {"train.learning_rate": {"loguniform": [0.01, 1]}}
    store.log("pareto", "9a7e", results(), seeds=[1], axes=axes, search=SEARCH)
    return records.load("pareto", tracking_uri=store.uri)


def made_of(record, reached, **space):
    """The same sweep with these trials: (variant, number, seed, val/map, seconds)."""
    names = ["variant", "number", "seed", "val/map", "train/seconds"]
    trials = pd.DataFrame(reached, columns=names).assign(status="FINISHED", run_id="r", **{"test/map": 0.0})
    return dataclasses.replace(record, space=record.space | space, axes=("number",), trials=trials)


def test_the_front_are_the_points_that_no_other_beats_from_the_best_on_the_first_objective_on(record):
    table = pareto.table(record)
    assert table.rows == tuple(f"LL-R: train.learning_rate {rate}" for rate in (0.1, 0.2, 0.4))
    assert table.columns == ("val mAP (%)", "training time (s)", "test mAP (%)")
    assert [table.cells[table.rows[0], column].value for column in table.columns] == [70.0, 5.0, 80.0]
    assert table.remarks == ("LL-R: 3 of 4 points are on the front",)
    assert "high val mAP (%) and low training time (s)" in table.caption


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_a_point_is_on_the_front_where_every_other_is_worse_in_an_objective_or_equal_in_all(record, reached):
    made = made_of(record, [("LL-R", n, 1, float(v), float(s)) for n, (v, s) in enumerate(reached)])
    for point, (value, seconds) in zip(pareto.points(made), reached, strict=True):
        assert point.on_front == all(v < value or s > seconds or (v, s) == (value, seconds) for v, s in reached)


def test_variants_have_fronts_of_their_own_and_a_point_that_lacks_a_seed_has_no_part_in_them(record):
    points = [("A", 1, 90.0), ("A", 2, 80.0), ("B", 1, 10.0)]
    reached = [(variant, n, seed, value, 1.0) for (variant, n, value), seed in itertools.product(points, (1, 2))]
    made = made_of(record, reached, variants={"A": {}, "B": {}}, seeds=[1, 2])
    made.trials.loc[0, "status"] = "FAILED"
    table = pareto.table(made)
    assert table.rows == ("A: number 2", "B: number 1")
    assert table.remarks[0] == "A: 1 of 2 points are on the front; 1 not compared, for lack of results"


def test_of_a_search_the_front_is_that_of_what_was_confirmed(store):
    confirm = {"top": 2, "seeds": [2, 3]}
    store.log("confirmed", "c0f1", results(seeds=3), seeds=[1, 2, 3], search=SEARCH | {"confirm": confirm})
    table = pareto.table(records.load("confirmed", tracking_uri=store.uri))
    assert table.cells[table.rows[0], "val mAP (%)"].value == 71.5
    assert "those on the Pareto front, at most 2 under these seeds" in table.caption
    assert "seeds 2, 3" in table.caption


def test_without_objectives_they_are_the_selecting_metric_and_time_which_must_have_been_recorded(store, record):
    assert pareto.objectives(dataclasses.replace(record, space=record.space | {"search": None})) == OBJECTIVES
    with pytest.raises(RecordError, match="no run of 'plain' logged 'train/seconds', so it has no Pareto front"):
        pareto.table(records.load("plain", tracking_uri=store.uri))


def test_the_figure_has_a_dot_for_each_point_and_the_front_as_steps(record, tmp_path):
    figure = draw_fronts(record)
    (axes,) = figure.axes
    dots, front = axes.lines
    assert sorted(zip(*dots.get_data(), strict=True)) == sorted((s, v) for v, s in REACHED.values())
    assert list(front.get_xdata()) == [1.0, 2.0, 5.0]
    assert front.get_drawstyle() == "steps-post"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("training time (s)", "val mAP (%)")
    save(figure, tmp_path / "front.svg")


def test_three_objectives_have_a_table_and_no_figure(record):
    search = SEARCH | {"objectives": OBJECTIVES | {"selected_epoch": "min"}}
    three = dataclasses.replace(record, space=record.space | {"search": search})
    assert len(pareto.table(three).columns) == 4
    with pytest.raises(RecordError, match="3 objectives and a figure two axes"):
        draw_fronts(three)


def test_it_is_printed_and_drawn_on_the_command_line(store, record, tmp_path, capsys):
    uri = ["--tracking-uri", store.uri]
    assert main(["pareto", "pareto", "--format", "csv", *uri]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 3 * 3
    assert main(["figure", "pareto", "--kind", "pareto", "--out", str(tmp_path / "f.png"), *uri]) == 0
