"""What a table says, and that it hides nothing."""

import csv
import io
import json
import re

import numpy as np
import pytest

import analysis
from analysis.names import CHOSEN
from analysis.reading.records import RecordError
from analysis.tables.table import Cell, Table
from tests.analysis.conftest import NAIVE_CHOICE_DIFFERS, Axes


@pytest.fixture(scope="module")
def table(store):
    return analysis.table("ll_delta", tracking_uri=store.uri)


def _text(table, row, column):
    return table.cells[row, column].text


def test_rows_and_columns_stand_in_the_order_of_the_space(table):
    assert table.rows == ("Full label", "Naive AN", "LL-R", "LL-Ct")
    assert table.columns == ("—", "0.1", "0.4", "1.6", "chosen on val")
    assert table.columns_title == "Δrel (percent per epoch)"


def test_a_cell_is_the_mean_and_the_sd_with_n_minus_1(table):
    cell = table.cells["Naive AN", "—"]
    assert cell.value == pytest.approx(61.0)
    assert cell.spread == pytest.approx(np.std([60, 60, 63], ddof=1))  # √3
    assert (cell.n, cell.expected, len(cell.runs)) == (3, 3, 3)
    assert cell.text == "61.0 ± 1.7"


def test_a_cell_that_lacks_seeds_is_marked_and_footnoted(table):
    assert _text(table, "LL-R", "1.6") == "50.5 ± 0.7 (2/3)"
    assert _text(table, "LL-Ct", "0.4") == "68.2 ± 1.8 (2/3)"
    assert "LL-R, 1.6: seed 2 failed (loss is NaN in epoch 2)" in table.footnotes
    assert "LL-Ct, 0.4: seed 2 missing" in table.footnotes


def test_nothing_finished_is_an_x_and_no_such_combination_a_dash(table):
    assert _text(table, "LL-Ct", "1.6") == "X"
    assert "LL-Ct, 1.6: seeds 1, 2 failed (loss is NaN in epoch 2); seed 3 missing" in table.footnotes
    assert _text(table, "Naive AN", "0.4") == "—"
    assert _text(table, "LL-R", "—") == "—"


def test_what_no_run_that_finished_could_give_is_a_dash_with_one_note_for_the_row(store):
    nan = float("nan")
    results = {("A", 1): [(1, nan)] * 2, ("A", 2): [(1, nan)] * 2, ("B", 1): [(1, 2.0)] * 2, ("B", 2): [(1, nan), None]}
    store.log("no_number", "4a4", results, seeds=[1, 2])
    table = analysis.table("no_number", tracking_uri=store.uri)
    assert [_text(table, "A", column) for column in table.columns] == ["—", "—", "—"]
    assert _text(table, "B", "2") == "X"
    assert table.remarks == ("A: the runs of 1 and 2 finished without a number",)
    assert [note for note in table.footnotes if note.startswith("A")] == list(table.remarks)


def test_the_best_of_a_column_is_bold_but_no_reference_and_no_cell_that_lacks_seeds(table):
    bold = {place for place, cell in table.cells.items() if cell.bold}
    # 0.4 and 1.6 have one complete row each or none, the dash has one row that is no reference: nothing to be best of.
    # Full label, a reference, is the highest where a value is chosen.
    assert bold == {("LL-Ct", "0.1"), ("LL-R", CHOSEN)}


def test_rows_that_print_the_same_best_number_are_all_bold(store):
    results = {("A", None): [(1, 70.01)] * 3, ("B", None): [(1, 70.04)] * 3, ("C", None): [(1, 69.9)] * 3}
    store.log("ties", "71e5", results, table={"rows": "variant", "value": "test/map"})
    tied = analysis.table("ties", tracking_uri=store.uri)
    assert [tied.cells[row, "test mAP (%)"].bold for row in "ABC"] == [True, True, False]


def test_rows_of_other_data_or_other_settings_are_no_rivals(store):
    results = {
        (row, Axes({"gamma_pos": 1})): [(1, value)] * 2 for row, value in [("A", 50.0), ("B", 60.0), ("C", 90.0)]
    }
    results |= {("D", Axes({"gamma_neg": 1})): [(1, 80.0), "missing"], ("D", Axes({"gamma_neg": 2})): [(2, 80.0)] * 2}
    layout = {"rows": "variant", "columns": ["gamma_pos", "gamma_neg"], "value": "test/map"}
    changes = {"axes": {"gamma_pos": [1], "gamma_neg": [1, 2]}, "of_rows": {"C": {"data.known": 0.9}}}
    store.log("no_rivals", "901", results, seeds=[1, 2], table=layout, logged={"data.known": 0.1}, **changes)
    table = analysis.table("no_rivals", tracking_uri=store.uri, allow=["data.known"])
    assert table.columns[:2] == ("1", "2")
    assert {place for place, cell in table.cells.items() if cell.bold and place[1] != CHOSEN} == {("B", "1")}


def test_a_value_is_chosen_by_the_seeds_that_do_not_report_it(store):
    table = analysis.table("choice", tracking_uri=store.uri)
    cell = table.cells["LL-R", CHOSEN]
    assert cell.value == pytest.approx((40 + 50 + 60) / 3)
    assert cell.spread == pytest.approx(np.std([40, 50, 60], ddof=1))
    assert cell.note == "Δrel 1 (seed 3), Δrel 2 (seed 1), Δrel 3 (seed 2)"
    assert table.cells["Naive AN", CHOSEN].text == table.cells["Naive AN", "—"].text == "31.0 ± 1.0"


def test_each_row_is_reported_at_the_value_of_the_setting_that_it_has(store):
    of = {"A": ("theta_intra_min", [(1, 10.0), (2, 20.0)]), "B": ("theta_inter_min", [(4, 40.0), (3, 30.0)])}
    results = {
        (row, Axes({axis: value})): [scores] * 2
        for row, (axis, both) in of.items()
        for value, scores in zip((0.5, 0.6), both, strict=True)
    }
    layout = {"rows": "variant", "columns": ["theta_intra_min", "theta_inter_min"], "value": "test/map"}
    store.log("own_settings", "0e5", results, seeds=[1, 2], table=layout)
    table = analysis.table("own_settings", tracking_uri=store.uri)
    assert table.columns == ("0.5", "0.6", CHOSEN)
    assert [table.cells[row, CHOSEN].value for row in "AB"] == [20, 40]
    assert table.cells["A", CHOSEN].note == "smallest θ 0.6 (seeds 1, 2)"
    assert [row for row in "AB" if table.cells[row, CHOSEN].bold] == ["B"]  # of one task, at their best


def test_a_choice_among_runs_that_did_not_all_finish_says_so(table):
    note = table.cells["LL-R", CHOSEN].note
    assert note == "Δrel 0.4 (seeds 1, 2, 3); 1 of 9 runs to choose from have no result"
    assert _text(table, "LL-Ct", CHOSEN) == "68.2 ± 1.8 (2/3)"  # seed 2 would report 0.4, which is missing


def test_one_seed_has_no_sd_and_chooses_nothing(store):
    table = analysis.table("one_seed", tracking_uri=store.uri)
    assert CHOSEN not in table.columns
    assert table.cells["LL-R", "1"].text == "90.0"
    assert "one seed, so no sd" in table.caption
    assert "With one seed no value can be chosen on val" in table.caption


def test_without_columns_there_is_one_of_the_metric(store):
    table = analysis.table("plain", tracking_uri=store.uri)
    assert table.columns == ("test mAP (%)",)
    assert _text(table, "Naive AN", "test mAP (%)") == "61.0 ± 1.7"


def test_an_axis_the_columns_do_not_show_is_chosen_on_val_inside_the_cell(store):
    store.log("hidden", "41dd", NAIVE_CHOICE_DIFFERS, table={"rows": "variant", "columns": None, "value": "test/map"})
    cell = analysis.table("hidden", tracking_uri=store.uri).cells["LL-R", "test mAP (%)"]
    assert cell.value == pytest.approx((40 + 50 + 60) / 3)


def test_columns_may_be_any_setting_that_the_variants_or_the_runs_state(store):
    results = {("Naive AN", None): [(60, 60.0)] * 3, ("Other data", None): [(60, 70.0), (60, 70.0), "missing"]}
    layout = {"rows": "variant", "columns": "data.dataset", "value": "test/map"}
    variants = {"Naive AN": {}, "Other data": {"data.dataset": "voc2012"}}
    store.log("by_data", "da7a", results, table=layout, variants=variants)
    table = analysis.table("by_data", tracking_uri=store.uri)
    assert table.columns == ("digit_scenes", "voc2012")  # and no column chosen on val: data are no hyper-parameter
    assert _text(table, "Other data", "voc2012") == "70.0 ± 0.0 (2/3)"
    assert _text(table, "Naive AN", "voc2012") == "—"


def test_an_axis_of_the_data_is_never_averaged_over(store):
    results = {("Naive AN", None): [(60, 60.0)]}
    trials = [{"trial": "t", "variant": "Naive AN", "seed": 1, "axes": {"data.known": 0.1}}]
    store.log("known", "d0", results, seeds=[1], axes={"data.known": [0.1]}, trials=trials)
    with pytest.raises(RecordError, match=r"no place for data\.known; name it in table\.columns"):
        analysis.table("known", tracking_uri=store.uri)


def _log_groups(store, name, **layout):
    """Two methods with mAP of two groups of classes; of A, seed 2 failed."""
    results = {
        ("A", None): [(1, 70.0, {"test/map_g1": 10.0, "test/map_g2": 30.0}), None],
        ("B", None): [(1, 60.0, {"test/map_g1": 20.0, "test/map_g2": 21.0})] * 2,
        ("C", None): [(1, 50.0, {"test/map_g1": 15.0, "test/map_g2": 25.0})] * 2,
    }
    value = ["test/map_g1", "test/map_g2", "test/map"]
    layout = {"rows": "variant", "columns": "metric", "value": value} | layout
    store.log(name, "6009", results, seeds=[1, 2], table=layout)
    return analysis.table(name, tracking_uri=store.uri)


def test_metrics_as_columns_are_named_by_what_tells_them_apart(store):
    table = _log_groups(store, "groups")
    assert table.columns == ("G1", "G2", "all")
    assert table.columns_title == "test mAP (%)"
    assert [_text(table, "B", column) for column in table.columns] == ["20.0 ± 0.0", "21.0 ± 0.0", "60.0 ± 0.0"]
    assert _text(table, "A", "all") == "70.0 (1/2)"
    assert {place for place, cell in table.cells.items() if cell.bold} == {("B", "G1"), ("C", "G2"), ("B", "all")}
    assert "G1 to G5: fifths of the classes, from the most rarely to the most often annotated." in table.caption


def test_classes_are_columns_from_the_lowest_mean_to_the_highest(store):
    results = {
        ("A", None): [(1, 70.0, {"test/ap/car": 90.0, "test/ap/floss": 30.0, "test/ap/bus": 50.0})],
        ("B", None): [(1, 60.0, {"test/ap/car": 20.0, "test/ap/floss": 40.0, "test/ap/bus": 70.0})],
    }
    layout = {"rows": "variant", "columns": "metric", "value": "test/ap"}
    store.log("classes", "ca55", results, seeds=[1], table=layout)
    table = analysis.table("classes", tracking_uri=store.uri)
    assert table.columns_title == "test AP (%)" and table.columns == ("floss", "car", "bus")
    assert [_text(table, "A", column) for column in table.columns] == ["30.0", "90.0", "50.0"]
    assert {place for place, cell in table.cells.items() if cell.bold} == {("B", "floss"), ("A", "car"), ("B", "bus")}


def test_metrics_of_other_kinds_carry_their_own_names_and_directions(store):
    results = {(row, None): [(1, map_, {"val/loss": loss})] * 2 for row, map_, loss in [("A", 70, 2.0), ("B", 60, 1.0)]}
    layout = {"rows": "variant", "columns": "metric", "value": ["test/map", "val/loss"]}
    store.log("kinds", "41d5", results, seeds=[1, 2], table=layout)
    table = analysis.table("kinds", tracking_uri=store.uri)
    assert table.columns == ("test mAP (%)", "val/loss")
    assert {place for place, cell in table.cells.items() if cell.bold} == {("A", "test mAP (%)"), ("B", "val/loss")}
    assert json.loads(table.json())["higher_is_better"] is None


def test_trained_parameters_are_a_column_of_whole_numbers_whichever_epoch_is_selected(store):
    """They are no part of a choice among the epochs; fewer are better."""
    results = {
        (row, None): [(60.0, 60.0, {"val/map": [60.0, 50.0], "test/map": [60.0, 55.0], "train/parameters": parameters})]
        * 2
        for row, parameters in {"SSGRL": 14_663_264.0, "SARB": 14_663_266.0, "CoOp": 8192.0}.items()
    }
    layout = {"rows": "variant", "columns": "metric", "value": ["test/map", "train/parameters"]}
    store.log("sizes_of_rows", "512e", results, seeds=[1, 2], table=layout)
    made = analysis.table("sizes_of_rows", tracking_uri=store.uri, select="last")
    assert {row: made.cells[row, "trained parameters"].text for row in made.rows} == {
        "SSGRL": "14,663,264 ± 0",
        "SARB": "14,663,266 ± 0",
        "CoOp": "8,192 ± 0",
    }
    assert made.cells["SSGRL", "test mAP (%)"].value == 55.0
    assert [row for row in made.rows if made.cells[row, "trained parameters"].bold] == ["CoOp"]
    alone = analysis.table("sizes_of_rows", tracking_uri=store.uri, value="train/parameters")
    assert next(iter(alone.cells.values())).value == 14_663_264


def test_settings_crossed_are_columns_in_the_order_of_the_space_and_protocols_are_never_chosen(store):
    data, training = ["voc2012", "digit_scenes"], ["off", "first_epochs"]
    number = {(d, t): 10 * i + j for i, d in enumerate(data) for j, t in enumerate(training)}
    results = {
        (row, Axes({"data.dataset": d, "train.linear_init": t})): [(1, float(value + extra))] * 2
        for row, extra in (("A", 0), ("B", 50))
        for (d, t), value in number.items()
    }
    layout = {"rows": "variant", "columns": ["train.linear_init", "data.dataset"], "value": "test/map"}
    axes = {"data.dataset": data, "train.linear_init": training}
    store.log("crossed", "c405", results, seeds=[1, 2], table=layout, axes=axes)
    table = analysis.table("crossed", tracking_uri=store.uri)
    assert table.columns == (
        "end-to-end, voc2012", "end-to-end, digit_scenes", "LinearInit, voc2012", "LinearInit, digit_scenes"
    )  # fmt: skip
    assert table.columns_title == "training × data set"
    assert [table.cells["B", column].value for column in table.columns] == [50, 60, 51, 61]
    assert all(table.cells["B", column].bold for column in table.columns)
    assert "Data set: voc2012, digit_scenes;" in table.caption

    apart = {("A", Axes({"gamma_pos": 1})): [(1, 1.0)] * 2, ("B", Axes({"gamma_neg": 2})): [(1, 2.0)] * 2}
    layout_apart = layout | {"columns": ["gamma_pos", "gamma_neg"]}
    store.log(
        "one_or_the_other", "a9a", apart, seeds=[1, 2], table=layout_apart, axes={"gamma_pos": [1], "gamma_neg": [2]}
    )
    assert analysis.table("one_or_the_other", tracking_uri=store.uri).columns_title == "γ+ or γ−"

    store.log("uncrossed", "04e", results, seeds=[1, 2], axes=axes, table=layout | {"columns": "data.dataset"})
    with pytest.raises(RecordError, match=r"no place for train\.linear_init; name it in table\.columns"):
        analysis.table("uncrossed", tracking_uri=store.uri)


def test_a_protocol_alone_has_no_column_chosen_on_val(store):
    results = {("A", Axes({"train.linear_init": value})): [(1, 2.0)] * 2 for value in ("off", "separate")}
    layout = {"rows": "variant", "columns": "train.linear_init", "value": "test/map"}
    axes = {"train.linear_init": ["off", "separate"]}
    store.log("protocol", "940", results, seeds=[1, 2], table=layout, axes=axes)
    table = analysis.table("protocol", tracking_uri=store.uri)
    assert table.columns == ("end-to-end", "LinearInit (separate run)")
    assert "chosen on val" not in table.caption


@pytest.mark.parametrize(
    ("axis", "points", "columns", "chosen"),
    [
        ("data.known", [0.1, 0.5, 0.7], ("10%", "50%", "70%"), False),
        ("data.train_fraction", [0.07, 1.0], ("7%", "100%"), False),
        ("train.linear_init", ["off", "first_epochs"], ("end-to-end", "LinearInit"), False),
        ("train.learning_rate", [0.1, 0.5], ("0.1", "0.5"), True),
        ("delta_rel", [0.1, 0.5], ("0.1", "0.5"), True),
    ],
)
def test_only_what_is_no_part_of_the_task_or_protocol_is_chosen_on_val(store, axis, points, columns, chosen):
    results = {("A", Axes({axis: point})): [(1, 2.0)] * 2 for point in points}
    layout = {"rows": "variant", "columns": axis, "value": "test/map"}
    store.log(f"given_{axis}", "9", results, seeds=[1, 2], table=layout, axes={axis: points})
    table = analysis.table(f"given_{axis}", tracking_uri=store.uri)
    assert table.columns == ((*columns, CHOSEN) if chosen else columns)
    assert ("chosen on val" in table.caption) is chosen


# (row, known proportion): mAP and OF1 of seeds 1, 2, 3. Seed 2 of B failed at 90%.
KNOWN = [0.1, 0.5, 0.9]
BY_PROPORTION = {
    ("A", 0.1): [(30.0, 10.0), (32.0, 11.0), (34.0, 12.0)],
    ("A", 0.5): [(60.0, 20.0), (61.0, 21.0), (62.0, 22.0)],
    ("A", 0.9): [(90.0, 60.0), (90.0, 61.0), (90.0, 62.0)],
    ("B", 0.1): [(40.0, 31.0), (99.0, 99.0), (44.0, 31.0)],
    ("B", 0.5): [(60.0, 32.0), (99.0, 99.0), (60.0, 32.0)],
    ("B", 0.9): [(80.0, 33.0), None, (81.0, 33.0)],
}
AVERAGED = {"A": [60.0, 61.0, 62.0], "B": [60.0, (44 + 60 + 81) / 3]}  # by seed


def _log_proportions(store, name, layout, **changes):
    results = {
        (row, Axes({"data.known": known})): [s and (1, s[0], {"test/of1": s[1]}) for s in seeds]
        for (row, known), seeds in BY_PROPORTION.items()
    }
    layout = {"rows": "variant", "columns": None, "value": "test/map", "average": "data.known"} | layout
    store.log(name, "a7e", results, table=layout, **{"axes": {"data.known": KNOWN}} | changes)
    return analysis.table(name, tracking_uri=store.uri)


def test_an_average_is_a_last_column_of_the_mean_of_each_seed_that_has_all_values(store):
    table = _log_proportions(store, "averaged", {"columns": "data.known"})
    assert table.columns == ("10%", "50%", "90%", "average")
    assert table.columns_title == "known proportion"
    assert table.cells["A", "average"].value == pytest.approx(61)
    assert table.cells["A", "average"].spread == pytest.approx(1)
    lacking = table.cells["B", "average"]  # and the 99s of seed 2 are not in it
    assert lacking.value == pytest.approx(np.mean(AVERAGED["B"]))
    assert lacking.spread == pytest.approx(np.std(AVERAGED["B"], ddof=1))
    assert (lacking.n, lacking.expected, len(lacking.runs)) == (2, 3, 6)
    assert lacking.note == "90%: seed 2 failed (loss is NaN in epoch 2)"
    assert "Average: of each seed, the mean over known proportion 10%, 50%, 90%." in table.caption
    assert _text(table, "B", "10%") == "61.0 ± 33.0"  # single columns are as ever


def test_of_averages_the_best_complete_one_is_bold(store):
    table = _log_proportions(store, "averaged_bold", {"columns": "data.known"}, seeds=[1, 2, 3])
    assert not table.cells["A", "average"].bold  # B, which would be better, lacks a seed: nothing to be best of
    results = {("A", Axes({"data.known": k})): [(1, 50.0 + k)] * 2 for k in KNOWN}
    results |= {("B", Axes({"data.known": k})): [(1, 60.0 - k)] * 2 for k in KNOWN}
    layout = {"rows": "variant", "columns": "data.known", "value": "test/map", "average": "data.known"}
    store.log("bold_average", "b01d", results, seeds=[1, 2], table=layout, axes={"data.known": KNOWN})
    table = analysis.table("bold_average", tracking_uri=store.uri)
    assert [table.cells[row, "average"].bold for row in "AB"] == [False, True]


def test_settings_crossed_have_an_average_for_each_value_of_the_others(store):
    data = ["voc2007", "coco2014"]
    results = {
        ("A", Axes({"data.dataset": d, "data.known": k})): [(1, 100 * i + 10 * k)]
        for i, d in enumerate(data)
        for k in KNOWN
    }
    layout = {"rows": "variant", "columns": ["data.dataset", "data.known"], "value": "test/map"}
    axes = {"data.dataset": data, "data.known": KNOWN}
    store.log("averages", "a7", results, seeds=[1], table=layout | {"average": "data.known"}, axes=axes)
    table = analysis.table("averages", tracking_uri=store.uri)
    assert table.columns == (
        "voc2007, 10%", "voc2007, 50%", "voc2007, 90%", "voc2007, average",
        "coco2014, 10%", "coco2014, 50%", "coco2014, 90%", "coco2014, average",
    )  # fmt: skip
    averages = [table.cells["A", f"{d}, average"].value for d in data]
    assert averages == pytest.approx([5, 105])

    unseen = layout | {"columns": "data.dataset", "average": "data.known"}
    store.log("only_averages", "a8", results, seeds=[1], table=unseen, axes=axes)
    table = analysis.table("only_averages", tracking_uri=store.uri)
    assert table.columns == ("voc2007", "coco2014")
    assert [table.cells["A", d].value for d in data] == pytest.approx(averages)


def test_what_is_averaged_over_and_no_column_is_averaged_in_every_cell_of_every_metric(store):
    layout = {"columns": "metric", "value": ["test/map", "test/of1"]}
    table = _log_proportions(store, "only_average", layout)
    assert table.columns == ("test mAP (%)", "test OF1 (%)")
    assert _text(table, "A", "test mAP (%)") == "61.0 ± 1.0"
    assert _text(table, "A", "test OF1 (%)") == "31.0 ± 1.0"
    assert _text(table, "B", "test OF1 (%)") == "32.0 ± 0.0 (2/3)"
    assert "Every cell is an average: of each seed, the mean over known proportion 10%, 50%, 90%." in table.caption

    whole = _log_proportions(store, "with_average", layout | {"columns": ["metric", "data.known"]})
    assert whole.columns[3:5] == ("test mAP (%), average", "test OF1 (%), 10%")
    assert [whole.cells["A", f"{of}, average"].value for of in table.columns] == pytest.approx([61, 31])


def test_a_setting_is_chosen_on_val_for_each_of_the_values_that_are_averaged(store):
    """At 10% the seeds choose 1, 2 and 3 as in the table of the single value; at 90% there is no choice to make."""
    results = {
        ("LL-R", Axes({"delta_rel": delta, "data.known": known})): seeds if known == 0.1 else [(1, 80.0)] * 3
        for (row, delta), seeds in NAIVE_CHOICE_DIFFERS.items()
        if row == "LL-R"
        for known in (0.1, 0.9)
    }
    layout = {"rows": "variant", "columns": None, "value": "test/map", "average": "data.known"}
    axes = {"delta_rel": [1.0, 2.0, 3.0], "data.known": [0.1, 0.9]}
    store.log("chosen_in_average", "c4", results, table=layout, axes=axes)
    cell = analysis.table("chosen_in_average", tracking_uri=store.uri).cells["LL-R", "test mAP (%)"]
    assert cell.value == pytest.approx(np.mean([(40 + 80) / 2, (50 + 80) / 2, (60 + 80) / 2]))
    assert cell.note.startswith("10%: Δrel 1, known proportion 10% (seed 3), ")
    assert cell.note.endswith("; 90%: Δrel 1, known proportion 90% (seeds 1, 2, 3)")


def test_one_value_alone_has_no_average_and_a_variant_with_its_own_none_either(store):
    results = {("A", None): [(1, 50.0)] * 2, ("B", None): [(1, 40.0)] * 2}
    layout = {"rows": "variant", "columns": "data.known", "value": "test/map", "average": "data.known"}
    logged = {"data.known": 0.5}
    store.log("forced", "f0", results, seeds=[1, 2], table=layout, logged=logged)
    assert analysis.table("forced", tracking_uri=store.uri).columns == ("50%",)
    store.log("forced_unseen", "f1", results, seeds=[1, 2], table=layout | {"columns": None}, logged=logged)
    assert _text(analysis.table("forced_unseen", tracking_uri=store.uri), "A", "test mAP (%)") == "50.0 ± 0.0"

    axes = {"data.known": [0.1, 0.9]}
    results = {("A", Axes({"data.known": k})): [(1, 100 * k)] * 2 for k in (0.1, 0.9)} | {("B", None): [(1, 1.0)] * 2}
    store.log("own", "f2", results, seeds=[1, 2], table=layout, axes=axes, variants={"A": {}, "B": {"data.known": 1}})
    table = analysis.table("own", tracking_uri=store.uri)
    assert table.columns == ("10%", "90%", "100%", "average")
    assert [_text(table, "B", column) for column in table.columns] == ["—", "—", "1.0 ± 0.0", "—"]
    assert _text(table, "A", "average") == "50.0 ± 0.0"


HIGHEST = {
    "tp_warmup": 80.0,
    "tp_later": 20.0,
    "tn_warmup": 90.0,
    "tn_later": 10.0,
    "fn_warmup": 25.0,
    "fn_later": 75.0,
}
MEMORIZATION = {f"memorization/{name}": value for name, value in HIGHEST.items()}


def test_metrics_may_be_rows_by_what_they_are_of_and_columns_by_what_is_measured(store):
    shifted = {name: value + 2 for name, value in MEMORIZATION.items()}
    results = {("Naive AN", None): [(1, 60.0, MEMORIZATION), (1, 61.0, shifted)]}
    layout = {"rows": "metric", "columns": "metric", "value": list(MEMORIZATION)}
    store.log("memorization", "3e30", results, seeds=[1, 2], table=layout)
    table = analysis.table("memorization", tracking_uri=store.uri)
    assert table.rows == ("TP", "TN", "FN")
    assert table.columns == ("highest loss in warm-up (%)", "highest loss later (%)")
    assert [[table.cells[row, column].value for column in table.columns] for row in table.rows] == [
        [81, 21], [91, 11], [26, 76]
    ]  # fmt: skip
    assert not any(cell.bold for cell in table.cells.values())  # TP and FN are no rivals
    assert "Selected at" not in table.caption  # it is said of all epochs
    assert "FN unobserved positives." in table.caption


def test_metrics_as_rows_stand_under_each_of_several_variants(store):
    results = {(row, None): [(1, 60.0, MEMORIZATION)] * 2 for row in ("Naive AN", "WAN")}
    layout = {"rows": "metric", "columns": "metric", "value": ["memorization/tp_later", "memorization/fn_later"]}
    store.log("two", "2", results, seeds=[1, 2], table=layout)
    rows = analysis.table("two", tracking_uri=store.uri).rows
    assert rows == ("Naive AN, TP", "Naive AN, FN", "WAN, TP", "WAN, FN")


def test_several_metrics_without_a_place_are_refused(store):
    with pytest.raises(RecordError, match="several metrics and no place for them: columns: metric"):
        _log_groups(store, "no_place", columns=None)


def test_a_metric_that_no_run_logged_is_an_error_that_names_those_logged(store):
    results = {("Naive AN", None): [(60, 60.0)] * 3}
    store.log("mistyped", "bad0", results, table={"rows": "variant", "columns": None, "value": "test/mpa"})
    with pytest.raises(RecordError, match="'test/mpa'; they logged test/map, val/map"):
        analysis.table("mistyped", tracking_uri=store.uri)


def test_the_caption_names_metric_data_labels_seeds_and_the_rule(table):
    for part in (
        "Large Loss Matters: how many large losses to reject or correct.",
        "Test mAP (%), mean ± sd (n − 1), seeds 1, 2, 3 (n = 3).",
        "Data set: digit_scenes; labels: single_positive (Full label: full).",
        "Selected at the best val/map epoch (val labels: clean).",
        "best mean val/map over the other seeds.",
        "Not compared: Full label.",
        "sweep ae4f.",
    ):
        assert part in table.caption


def test_markdown_has_a_cell_for_every_column(table):
    lines = [line for line in table.md().splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(table.rows)
    assert {line.count("|") for line in lines} == {len(table.columns) + 2}
    assert "**65.0 ± 1.0**" in table.md()


@pytest.mark.parametrize(
    ("columns", "parts", "latex_parts"),
    [(1, [1], [1]), (12, [12], [6, 6]), (13, [7, 6], [7, 6]), (30, [10, 10, 10], [6] * 5)],
)
def test_a_wide_table_is_written_in_parts_each_with_the_names_of_the_rows(columns, parts, latex_parts):
    names = tuple(f"column {number}" for number in range(columns))
    cells = {(row, name): Cell(float(i), None, 1, 1) for row in "AB" for i, name in enumerate(names)}
    table = Table("t", "caption", ("A", "B"), names, "of", cells, True)
    lines = [line.strip("|").split("|") for line in table.md().splitlines() if line.startswith("|")]
    assert [len(line) - 1 for line in lines] == [width for width in parts for _ in range(4)]
    for row, offset in (("of", 0), ("A", 2), ("B", 3)):
        of_row = lines[offset::4]
        assert {line[0].strip() for line in of_row} == {row}
        texts = [text.strip() for line in of_row for text in line[1:]]
        assert texts == (list(names) if row == "of" else [f"{i}.0" for i in range(columns)])
    latex = table.latex()
    assert [len(found) for found in re.findall(r"\\begin{tabular}{l(r+)}", latex)] == latex_parts
    assert latex.count(r"\end{tabular}") == latex.count(r"\bottomrule") == len(latex_parts)


def test_a_long_table_is_in_latex_several_environments_with_a_head_each():
    rows = tuple(f"row {number}" for number in range(100))
    table = Table("t", "caption", rows, ("c",), "of", {(row, "c"): Cell(1.0, None, 1, 1) for row in rows}, True)
    latex = table.latex()
    assert latex.count(r"\begin{table}") == latex.count(r"\end{table}") > 1
    assert latex.count(r"\caption") == 1
    assert latex.count(r"Table~\ref{tab:t}, continued") == latex.count(r"\begin{table}") - 1
    assert all(latex.count(f"{row} & 1.0") == 1 for row in rows)


def test_csv_parses_back_to_the_unrounded_cells(table):
    lines = list(csv.DictReader(io.StringIO(table.csv())))
    assert len(lines) == len(table.cells)
    cell = next(line for line in lines if (line["row"], line["column"]) == ("Naive AN", "—"))
    assert float(cell["spread"]) == table.cells["Naive AN", "—"].spread
    assert cell["runs"].split() == list(table.cells["Naive AN", "—"].runs)


def test_json_parses_back_to_the_unrounded_cells(table):
    made = json.loads(table.json())
    assert made["columns"] == list(table.columns)
    by_place = {(cell["row"], cell["column"]): cell for cell in made["cells"]}
    assert by_place.keys() == table.cells.keys()
    assert by_place["LL-Ct", "1.6"]["value"] is None
    assert by_place["LL-Ct", "0.1"]["bold"] is True
    assert made["footnotes"] == table.footnotes


def test_latex_is_balanced_booktabs_in_ascii(table):
    text = table.latex()
    assert re.findall(r"\\(toprule|midrule|bottomrule)", text) == ["toprule", "midrule", "bottomrule"] * 2
    assert re.findall(r"\\begin{(\w+)}", text) == ["table", "tabular", "tabular"]
    assert re.findall(r"\\end{(\w+)}", text) == ["tabular", "tabular", "table"]
    parts = re.findall(r"toprule(.*?)bottomrule", text, re.DOTALL)
    widths = [{line.count("&") for line in part.splitlines() if line.endswith(r"\\")} for part in parts]
    assert [len(width) for width in widths] == [1, 1]
    assert sum(map(sum, widths)) == len(table.columns)
    assert text.count("{") == text.count("}")
    assert text.isascii()
    assert r"\textbf{65.0 $\pm$ 1.0}" in text


def test_latex_escapes_what_it_would_read_as_commands():
    cell = Cell(1.0, None, 1, 1)
    table = Table("t", "50% & more_of #1 {x} \\y ~ ^ $", ("a|b <c>",), ("γ",), "", {("a|b <c>", "γ"): cell}, True)
    text = table.latex()
    escaped = r"50\% \& more\_of \#1 \{x\} \textbackslash{}y \textasciitilde{} \textasciicircum{} \$"
    assert rf"\caption{{{escaped}}}" in text
    assert r"a$|$b $<$c$>$" in text
    assert r"& $\gamma$ \\" in text
    assert r"a\|b <c>" in table.md()
