"""What a figure shows: the table's cells, and nothing else."""

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from analysis import figures, records
from analysis.records import RecordError


@pytest.fixture(scope="module")
def axes(store):
    return figures.draw(records.load("ll_delta", tracking_uri=store.uri)).axes[0]


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
    axes = figures.draw(records.load("choice", tracking_uri=store.uri)).axes[0]
    assert axes.get_xscale() == "linear"


def test_a_space_over_epochs_draws_histories(store):
    axes = figures.draw(records.load("over_epochs", tracking_uri=store.uri)).axes[0]
    assert {line.get_label(): line.get_xydata().tolist() for line in axes.lines} == {
        "Naive AN": [[1, 60.0], [2, 61.0]],
        "Full label": [[1, 80.0], [2, 81.0]],
    }
    assert axes.get_xlabel() == "epoch"


def test_a_space_without_columns_has_nothing_to_draw_against(store):
    with pytest.raises(RecordError, match=r"no table\.columns"):
        figures.draw(records.load("plain", tracking_uri=store.uri))


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_suffix_decides_the_format_and_no_temporary_file_stays(axes, tmp_path, suffix, start):
    path = tmp_path / "new" / f"figure{suffix}"
    figures.save(axes.figure, path)
    assert path.read_bytes().startswith(start)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    from analysis.files import replacing

    path = tmp_path / "figure.png"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError), replacing(path) as temporary:
        temporary.write_text("half of the new \ud800", encoding="utf-8")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]
