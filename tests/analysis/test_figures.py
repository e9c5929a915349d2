"""What a figure shows: the table's cells, and nothing else."""

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from analysis.figures import drawing
from analysis.reading import records
from analysis.reading.records import RecordError
from tests.analysis.conftest import NAIVE_CHOICE_DIFFERS, Axes


@pytest.fixture(scope="module")
def axes(store):
    return drawing.draw(records.load("ll_delta", tracking_uri=store.uri)).axes[0]


def _lines(axes):
    return {c.get_label(): c.lines[0] for c in axes.containers if isinstance(c, ErrorbarContainer)}


def test_variants_with_the_axis_are_lines_through_the_cells(axes):
    lines = _lines(axes)
    assert list(lines) == ["LL-R", "LL-Ct"]
    assert lines["LL-R"].get_xydata().tolist() == [[0.1, 63.0], [0.4, 69.0], [1.6, 50.5]]
    values = np.asarray(lines["LL-Ct"].get_ydata(), dtype=float)
    np.testing.assert_array_equal(values, [65.0, 68.25, np.nan])  # X is a gap, not a zero


def test_error_bars_are_the_sd_with_n_minus_1(axes):
    bars = next(c for c in axes.containers if c.get_label() == "LL-R").lines[2][0]
    low, high = bars.get_segments()[0][:, 1]
    assert (low, high) == pytest.approx((62.0, 64.0))


def test_variants_without_the_axis_are_horizontal_lines_with_a_band(axes):
    flat = {line.get_label(): line.get_ydata() for line in axes.lines if line.get_label() in ("Full label", "Naive AN")}
    assert flat == {"Full label": [81.0, 81.0], "Naive AN": [61.0, 61.0]}
    assert len(axes.patches) == 2


def test_every_variant_is_in_the_legend_once(axes):
    legend = axes.figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["Full label", "Naive AN", "LL-R", "LL-Ct"]
    assert legend.get_title().get_text() == "mean ± sd over 3 seeds (open markers: fewer)"


def test_points_that_lack_seeds_are_open(axes):
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert sorted(x for line in hollow for x, y in line.get_xydata() if y == y) == [0.4, 1.6]


def test_positive_values_over_a_decade_stand_on_a_log_scale_and_titles_carry_units(axes):
    assert axes.get_xscale() == "log"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.1", "0.4", "1.6"]
    assert axes.get_xlabel() == "Δrel (percent per epoch)"
    assert axes.get_ylabel() == "test mAP (%), digit_scenes"
    assert "Large Loss Matters" in axes.get_title(loc="left")


def test_fewer_than_a_decade_is_linear(store):
    axes = drawing.draw(records.load("choice", tracking_uri=store.uri)).axes[0]
    assert axes.get_xscale() == "linear"


def test_a_space_over_epochs_draws_histories(store):
    axes = drawing.draw(records.load("over_epochs", tracking_uri=store.uri)).axes[0]
    assert {line.get_label(): line.get_xydata().tolist() for line in axes.lines} == {
        "Naive AN": [[1, 60.0], [2, 61.0]],
        "Full label": [[1, 80.0], [2, 81.0]],
    }
    assert axes.get_xlabel() == "epoch"


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 20])
def test_epochs_have_whole_numbers_alone(store, epochs):
    history = {"train/loss": [1.0 / epoch for epoch in range(1, epochs + 1)]}
    axes = _curves(store, f"ticks_{epochs}", {("A", None): [(1, 2.0, history)] * 3}, "train/loss")
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == round(tick) for tick in ticks)


KINDS = ["memorization/tp_loss", "memorization/tn_loss", "memorization/fn_loss"]
NOT_YET = float("nan")  # as the precision of what is modified, before anything is


def _curves(store, name, results, y, **changes):
    layout = {"rows": "variant", "columns": None, "value": "test/map"}
    store.log(name, "c042e", results, table=layout, figure={"x": "epoch", "y": y}, **changes)
    return drawing.draw(records.load(name, tracking_uri=store.uri)).axes[0]


def _named(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_several_metrics_over_epochs_are_lines_with_a_band_of_one_sd(store):
    of_seed = [dict(zip(KINDS, ([3.0 + s, 2.0], [0.2, 0.1], [0.5, 0.9]), strict=True)) for s in range(3)]
    axes = _curves(store, "kinds_of_labels", {("Naive AN", None): [(1, 2.0, more) for more in of_seed]}, KINDS)
    assert list(_named(axes)) == ["TP", "TN", "FN"]
    assert _named(axes)["TP"].get_xydata().tolist() == [[1, 4.0], [2, 2.0]]
    band = axes.collections[0].get_paths()[0].vertices
    spread = np.std([3.0, 4.0, 5.0], ddof=1)
    assert {y for x, y in band if x == 1} == {4.0 - spread, 4.0 + spread}
    assert axes.get_ylabel() == "mean loss of training labels,\ndigit_scenes"
    assert axes.get_yscale() == "log"  # from 0.1 to 4: the small ones would be flat
    assert axes.figure.legends[0].get_title().get_text() == "Naive AN: mean ± sd over 3 seeds"


def test_one_metric_is_a_line_per_variant_and_its_epochs_without_a_value_are_left_out(store):
    precise = {"modifications/precision": [NOT_YET, 80.0, 70.0]}
    results = {("LL-R", None): [(1, 2.0, precise)] * 3, ("LL-Ct", None): [(1, 2.0, precise), None, (1, 2.0, precise)]}
    axes = _curves(store, "precision", results, "modifications/precision")
    assert {name: line.get_xydata().tolist() for name, line in _named(axes).items()} == {
        "LL-R": [[2, 80.0], [3, 70.0]],
        "LL-Ct": [[2, 80.0], [3, 70.0]],
    }
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [line.get_color() for line in hollow] == [_named(axes)["LL-Ct"].get_color()]  # it lacks a seed
    assert axes.figure.legends[0].get_title().get_text().endswith("(open markers: fewer)")


def test_what_a_method_reports_begins_where_it_reports_and_an_epoch_between_without_a_value_is_a_gap(store):
    late = {"train/alpha": [None, None, 0.5, 0.375, None, 0.25]}
    results = {("SARB", None): [(1, 2.0, late)] * 3, ("SSGRL", None): [(1, 2.0, {"train/loss": [1.0] * 6})] * 3}
    axes = _curves(store, "late", results, "train/alpha")
    assert list(_named(axes)) == ["SARB"], "the other never reports it"
    drawn = _named(axes)["SARB"].get_xydata()
    np.testing.assert_array_equal(drawn, [[3, 0.5], [4, 0.375], [5, np.nan], [6, 0.25]])
    assert axes.figure.legends[0].get_title().get_text() == "mean ± sd over 3 seeds"


def test_windows_of_training_steps_are_one_line_with_several_points_in_an_epoch(store):
    windows = {f"known_loss/window_{n}": [1.0 / n, NOT_YET, 0.5 / n] for n in (1, 2)}
    axes = _curves(store, "windows", {("SARB", None): [(1, 2.0, windows)] * 3}, "known_loss/windows")
    drawn = _named(axes)["SARB"].get_xydata()
    # Of epoch 2 no window has a value: the line has a gap where whole epochs end.
    np.testing.assert_array_equal(drawn, [[0.5, 1], [1, 0.5], [2, np.nan], [2.5, 0.5], [3, 0.25]])
    assert axes.get_xlabel() == "epoch"


def test_several_that_begin_at_different_epochs_are_drawn_together(store):
    late = {"train/alpha": [None, 0.5, 0.25], "train/theta": [None, NOT_YET, 0.75]}
    axes = _curves(store, "late_ones", {("SARB", None): [(1, 2.0, late)] * 3}, ["train/alpha", "train/theta"])
    points = {name: line.get_xydata().tolist() for name, line in _named(axes).items()}
    assert points == {"learned share of the own feature, α": [[2, 0.5], [3, 0.25]], "train/theta": [[3, 0.75]]}


def test_of_an_axis_the_value_that_the_other_seeds_chose_on_val_is_drawn_and_named(store):
    """The same trials as in the column "chosen on val": seeds 1, 2, 3 report 2.0, 3.0 and 1.0."""
    axes = _curves(store, "chosen_curves", NAIVE_CHOICE_DIFFERS, "test/map")
    assert list(_named(axes)) == ["LL-R (Δrel 1 or Δrel 2 or Δrel 3)", "Naive AN"]
    reported = np.mean([40.0, 50.0, 60.0])  # and epoch 1 is one lower
    assert _named(axes)["LL-R (Δrel 1 or Δrel 2 or Δrel 3)"].get_ydata() == pytest.approx([reported - 1, reported])
    assert axes.figure.legends[0].get_title().get_text() == "mean ± sd over 3 seeds, settings chosen on val"


def test_one_seed_chooses_nothing_to_draw(store):
    one = {place: seeds[:1] for place, seeds in NAIVE_CHOICE_DIFFERS.items()}
    with pytest.raises(RecordError, match="one seed cannot choose among the settings of LL-R"):
        _curves(store, "one_seed_curves", one, "test/map", seeds=[1])


def test_curves_over_data_of_several_kinds_are_refused(store):
    results = {("A", Axes({"data.known": known})): [(1, 2.0)] * 3 for known in (0.1, 0.9)}
    with pytest.raises(RecordError, match=r"no place for data\.known"):
        _curves(store, "known_curves", results, "test/map", axes={"data.known": [0.1, 0.9]})


def test_a_history_that_no_run_has_is_an_error(store):
    with pytest.raises(RecordError, match="has a history of 'train/loss'"):
        _curves(store, "no_history", {("A", None): [(1, 2.0)] * 3}, "train/loss")


def test_more_lines_than_colours_are_told_apart_by_dashes(store):
    results = {(f"method {number}", None): [(1, float(number))] * 3 for number in range(9)}
    lines = _named(_curves(store, "nine", results, "test/map")).values()
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in lines}
    assert len(looks) == 9


def test_a_table_of_metrics_is_drawn_with_names_side_by_side_and_rows_beside_each_other(store):
    results = {
        ("A", None): [(1, 70.0, {"test/map_g1": 10.0})] * 3,
        ("B", None): [(1, 60.0, {"test/map_g1": 20.0})] * 3,
    }
    layout = {"rows": "variant", "columns": "metric", "value": ["test/map_g1", "test/map"]}
    store.log("drawn_groups", "6", results, table=layout)
    axes = drawing.draw(records.load("drawn_groups", tracking_uri=store.uri)).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["G1", "all"]
    points = {name: line.get_xydata().tolist() for name, line in _lines(axes).items()}
    assert points == {"A": [[-0.2, 10.0], [0.8, 70.0]], "B": [[0.2, 20.0], [1.2, 60.0]]}
    assert axes.get_ylabel() == "test mAP (%), digit_scenes"


_SHARE = "share of the training images"


def _log_proportions(store, name, layout, **changes):
    known = [0.1, 0.5, 0.9]
    results = {("A", Axes({"data.known": k})): [(1, 100 * k + s) for s in (0, 1)] for k in known}
    layout = {"rows": "variant", "value": "test/map", "average": "data.known"} | layout
    store.log(name, "a7", results, seeds=[1, 2], table=layout, axes={"data.known": known}, **changes)
    return drawing.draw(records.load(name, tracking_uri=store.uri)).axes[0]


def test_proportions_stand_on_a_scale_in_percent_and_their_average_is_not_drawn(store):
    axes = _log_proportions(store, "drawn_proportions", {"columns": "data.known"})
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["10%", "50%", "90%"]
    assert _lines(axes)["A"].get_xydata().tolist() == [[10, 10.5], [50, 50.5], [90, 90.5]]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("known proportion", "test mAP (%), digit_scenes")


@pytest.mark.parametrize(
    ("axis", "points", "scale", "ticks", "label"),
    [
        ("data.train_fraction", [0.1, 0.5, 0.9, 1.0], "linear", ["10%", "50%", "90%", "100%"], _SHARE),
        ("data.train_fraction", [0.01, 0.1, 1.0], "log", ["1%", "10%", "100%"], _SHARE),
        ("train.linear_init", ["off", "first_epochs"], "linear", ["end-to-end", "LinearInit"], "training"),
    ],
)
def test_conditions_have_names_and_a_scale_on_which_they_do_not_crowd(store, axis, points, scale, ticks, label):
    results = {(row, Axes({axis: point})): [(1, 2.0)] * 2 for row in "AB" for point in points}
    layout = {"rows": "variant", "columns": axis, "value": "test/map"}
    store.log(f"conditions_{ticks[0]}", "9", results, seeds=[1, 2], table=layout, axes={axis: points})
    axes = drawing.draw(records.load(f"conditions_{ticks[0]}", tracking_uri=store.uri)).axes[0]
    assert (axes.get_xscale(), axes.get_xlabel()) == (scale, label)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ticks
    joined = {line.get_linestyle() for line in _lines(axes).values()}
    assert joined == ({"None"} if axis == "train.linear_init" else {"-"})  # numbers are a way, names are not


def test_where_every_cell_is_an_average_the_axis_says_so(store):
    axes = _log_proportions(store, "drawn_averages", {"columns": "data.dataset"})
    assert _lines(axes)["A"].get_xydata().tolist() == [[0, 50.5]]
    assert axes.get_ylabel().replace("\n", " ") == "test mAP (%), average over known proportion, digit_scenes"


def test_a_long_title_stays_in_the_figure_beside_a_label_of_two_lines(store):
    title = "Semantic-aware representation: comparison with other methods, averages over the known proportions"
    figure = _log_proportions(store, "long_title", {"columns": "data.dataset"}, title=title).figure
    figure.draw_without_rendering()
    shown = figure.axes[0].get_title(loc="left")
    assert shown.replace("\n", " ") == title
    assert "\n" in figure.axes[0].get_ylabel()
    assert figure.get_tightbbox().x1 <= figure.get_figwidth()


def test_a_table_of_one_column_is_drawn_row_by_row(store):
    results = {("Full label", None): [(1, 80.0), (1, 82.0)], ("LL-R", None): [(1, 60.0), None]}
    store.log("rows", "70e5", results, seeds=(1, 2), table={"rows": "variant", "columns": None, "value": "test/map"})
    axes = drawing.draw(records.load("rows", tracking_uri=store.uri)).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["Full label", "LL-R"]
    points = [c.lines[0] for c in axes.containers if isinstance(c, ErrorbarContainer)]
    assert [point.get_xydata().tolist() for point in points] == [[[81.0, 0.0]], [[60.0, 1.0]]]
    assert [point.get_markerfacecolor() == "white" for point in points] == [False, True]
    assert axes.yaxis_inverted()  # the first row on top
    assert axes.get_xlabel() == "test mAP (%), digit_scenes\nmean ± sd over 2 seeds (open markers: fewer)"


def test_one_metric_is_drawn_against_another_cell_by_cell(store):
    def at(share, labels, value):
        return {("LL-R", Axes({"data.train_fraction": share})): [(1, v, {"train/known_labels": labels}) for v in value]}

    results = at(1.0, 2000, [64.0, 66.0]) | at(0.1, 200, [50.0, 52.0])
    changes = {"table": {"rows": "variant", "columns": "data.train_fraction", "value": "test/map"}}
    changes |= {"axes": {"data.train_fraction": [1.0, 0.1]}, "figure": {"x": "train/known_labels", "y": "test/map"}}
    store.log("points", "90127", results, seeds=(1, 2), **changes)
    axes = drawing.draw(records.load("points", tracking_uri=store.uri)).axes[0]
    assert _lines(axes)["LL-R"].get_xydata().tolist() == [[200, 51.0], [2000, 65.0]]
    assert (axes.get_xscale(), axes.get_xlabel(), axes.get_ylabel()) == (
        "log",
        "known labels",
        "test mAP (%), digit_scenes",
    )


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_suffix_decides_the_format_and_no_temporary_file_stays(axes, tmp_path, suffix, start):
    path = tmp_path / "new" / f"figure{suffix}"
    drawing.save(axes.figure, path)
    assert path.read_bytes().startswith(start)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    from analysis.files import replacing

    path = tmp_path / "figure.png"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half of the new \ud800", encoding="utf-8")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
