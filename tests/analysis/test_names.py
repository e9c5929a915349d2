"""How settings, values and metrics are printed: by the titles in the record, and by their names without any."""

import pytest

from analysis.names import Names
from analysis.reading import records
from analysis.tables.build import build

from .conftest import LL_DELTA, TITLES

NAMES = Names.of({"titles": TITLES})
NONE = Names.of({})


@pytest.mark.parametrize(
    ("setting", "titled", "plain"),
    [
        ("delta_rel", "Δrel (percent per epoch)", "delta_rel"),
        ("data.known", "known proportion", "data.known"),  # its values have the unit
        ("gamma_pos", "γ+", "gamma_pos"),
        ("train.epochs", "train.epochs", "train.epochs"),
    ],
)
def test_a_setting_has_the_title_and_unit_that_it_declares(setting, titled, plain):
    assert NAMES.setting_title(setting) == titled
    assert NONE.setting_title(setting) == NONE.setting_name(setting) == plain


@pytest.mark.parametrize(
    ("setting", "value", "titled", "plain"),
    [
        ("data.known", 0.1, "10%", "0.1"),
        ("data.known", None, "—", "—"),
        ("data.known", float("nan"), "—", "—"),
        ("train.linear_init", "off", "end-to-end", "off"),
        ("train.linear_init", "other", "other", "other"),
        ("delta_rel", 3.0, "3", "3"),
        ("delta_rel", True, "true", "true"),
    ],
)
def test_a_value_has_the_text_that_its_setting_declares(setting, value, titled, plain):
    assert NAMES.value_name(value, setting) == titled
    assert NONE.value_name(value, setting) == plain


def test_a_truth_value_may_have_a_text():
    names = Names({"aux": {"title": "auxiliary loss", "values": {"true": "with", "false": "without"}}}, {})
    assert [names.value_name(value, "aux") for value in (True, False)] == ["with", "without"]


@pytest.mark.parametrize(
    ("metric", "parts", "plain"),
    [
        ("train/alpha", ("learned share of the own feature", "α"), ("train/alpha", "")),
        ("epoch/memorization/tp_later", ("highest loss later (%)", "TP"), ("memorization/tp_later", "")),
        ("pointing_game/hits", ("pointing game hits (%)", ""), ("pointing_game/hits", "")),
        ("test/map_g1", ("test mAP (%)", "G1"), ("test mAP (%)", "G1")),
        ("test/ap/red three", ("test AP (%)", "red three"), ("test AP (%)", "red three")),
        ("train/seconds", ("training time (s)", ""), ("training time (s)", "")),
    ],
)
def test_a_metric_is_what_is_measured_and_of_which_part(metric, parts, plain):
    assert NAMES.metric_parts(metric) == parts
    assert NONE.metric_parts(metric) == plain


def test_a_record_of_older_code_has_no_titles_and_prints_the_same_numbers(store):
    store.log("untitled", "0123", LL_DELTA, titles={})
    plain, titled = (build(records.load(name, tracking_uri=store.uri)) for name in ("untitled", "ll_delta"))
    assert plain.columns_title == "delta_rel" and titled.columns_title == "Δrel (percent per epoch)"
    texts = [{place: cell.text for place, cell in table.cells.items()} for table in (plain, titled)]
    assert texts[0] == texts[1]
