"""Rules that select an epoch, against what the hand-made histories say."""

import numpy as np
import pytest

import analysis
from analysis.cli import main
from analysis.names import CHOSEN, RULES
from analysis.reading.records import RecordError

NAN = float("nan")
# Of each seed, val and test over the epochs; best on val (the first of equals), best on test, last.
VAL = {1: [50.0, 70.0, 70.0, 60.0], 2: [NAN, 40.0, 30.0, 20.0], 3: [10.0, 20.0, 30.0, 40.0]}
TEST = {1: [55.0, 61.0, 62.0, 63.0], 2: [80.0, 41.0, 42.0, 43.0], 3: [11.0, 99.0, 13.0, 14.0]}
EXPECTED = {"best_val": [61.0, 41.0, 14.0], "best_test": [63.0, 80.0, 99.0], "last": [63.0, 43.0, 14.0]}
EXPECTED["best_test:test/map"] = EXPECTED["best_test"]
PLAIN = {"rows": "variant", "columns": None, "value": "test/map"}


def _results(rule):
    """As the driver logs them under a rule: results of the selected epoch beside the histories."""
    epochs = {"best_val": {1: 1, 2: 1, 3: 3}, "last": dict.fromkeys(VAL, 3)}[rule]
    logged = {seed: {"val/map": VAL[seed], "test/map": TEST[seed], "test/op": float(seed)} for seed in VAL}
    seeds = [(VAL[seed][epoch], TEST[seed][epoch], logged[seed]) for seed, epoch in epochs.items()]
    return {("A", None): seeds}


@pytest.fixture(scope="module")
def spaces(store):
    """One sweep under each of the rules that a space can have."""
    store.log("selects_best", "5e1", _results("best_val"), table=PLAIN)
    last = {"metric": "val/map", "epoch": "last"}
    store.log("selects_last", "5e2", _results("last"), table=PLAIN, select=last)
    return store


def _cell(table):
    return table.cells["A", "test mAP (%)"]


@pytest.mark.parametrize("space", ["selects_best", "selects_last"])
@pytest.mark.parametrize("rule", EXPECTED)
def test_each_rule_reports_the_epoch_that_it_names_whatever_the_space_says(spaces, space, rule):
    cell = _cell(analysis.table(space, tracking_uri=spaces.uri, select=rule))
    assert cell.seeds == dict(zip((1, 2, 3), EXPECTED[rule], strict=True))
    assert cell.value == pytest.approx(np.mean(EXPECTED[rule]))


@pytest.mark.parametrize("space, own", [("selects_best", "best_val"), ("selects_last", "last")])
def test_without_a_rule_it_is_the_spaces_own_and_needs_no_history(spaces, space, own, monkeypatch):
    monkeypatch.setattr("analysis.reading.runs.points", lambda *_: pytest.fail("a history was read"))
    table = analysis.table(space, tracking_uri=spaces.uri)
    assert list(_cell(table).seeds.values()) == EXPECTED[own]
    assert table.selected == own


def test_results_that_are_not_those_of_the_selected_epoch_are_an_error(store):
    wrong = [(70.0, 60.5, {"val/map": VAL[1], "test/map": TEST[1]})]
    store.log("tampered", "7a3", {("A", None): wrong}, seeds=[1], table=PLAIN)
    with pytest.raises(RecordError, match=r"1 runs of 'tampered' have another test/map than at the epoch"):
        analysis.table("tampered", tracking_uri=store.uri, select="best_val")
    assert _cell(analysis.table("tampered", tracking_uri=store.uri, select="last")).value == 63.0


def test_an_oracle_is_called_one_wherever_it_is_printed(spaces):
    table = analysis.table("selects_best", tracking_uri=spaces.uri, select="best_test")
    assert "Selected at the best test/map epoch, an oracle: it has seen the test labels." in table.caption
    assert all("an oracle" in text for text in (table.md(), table.latex(), table.json()))
    assert {line.split(",")[1] for line in table.csv().splitlines()[1:]} == {"best_test:test/map (oracle)"}
    for rule in ("last", "best_val"):
        assert "oracle" not in analysis.table("selects_best", tracking_uri=spaces.uri, select=rule).md()


def test_an_oracle_selects_by_the_map_that_it_names_or_that_is_reported(store):
    """Interpolated mAP is best in epoch 1, plain mAP in epoch 2; OF1 is reported at the best epoch by plain mAP."""
    measured = {"val/map": [5.0, 5.0], "test/map": [60.0, 61.0], "test/map_interpolated": [63.0, 62.0]}
    results = {("A", None): [(5.0, 61.0, measured | {"test/of1": [30.0, 31.0]})]}
    store.log("definitions", "de4", results, seeds=[1], table=PLAIN)
    for value, rule, expected, by in (
        ("test/map", "best_test", 61.0, "test/map"),
        ("test/map_interpolated", "best_test", 63.0, "test/map_interpolated"),
        ("test/of1", "best_test", 31.0, "test/map"),
        ("test/of1", "best_test:test/map_interpolated", 30.0, "test/map_interpolated"),
        ("test/map", "best_test:test/map_interpolated", 60.0, "test/map_interpolated"),
    ):
        made = analysis.table("definitions", tracking_uri=store.uri, value=value, select=rule)
        assert next(iter(made.cells.values())).value == expected
        assert f"Selected at the best {by} epoch, an oracle" in made.caption
        assert made.selected == f"best_test:{by} (oracle)"


@pytest.mark.parametrize("rule", ["best_test:test/of1", "best_test:val/map", "last:test/map", "best_test:", "best"])
def test_an_oracle_by_what_is_no_map_on_test_is_refused_with_the_rules_there_are(spaces, rule, capsys):
    with pytest.raises(
        RecordError, match=rf"'{rule}' is no rule .* best_test, best_test:test/map, best_test:test/map_i"
    ):
        analysis.table("selects_best", tracking_uri=spaces.uri, select=rule)
    with pytest.raises(SystemExit) as refused:
        main(["table", "selects_best", "--tracking-uri", spaces.uri, "--select", rule])
    assert refused.value.code == 2
    assert f"--select: invalid choice: '{rule}' (choose from 'last'" in capsys.readouterr().err


def test_a_caption_says_where_trials_end_early(store):
    ended = {"metric": "val/map", "epoch": "best", "end_below_best": 3}
    store.log("ends_early", "5e9", _results("best_val"), table=PLAIN, select=ended)
    text = "the best val/map epoch; trials end where val/map is more than 3 below its best so far (val labels: clean)"
    assert text in analysis.table("ends_early", tracking_uri=store.uri).caption


def test_a_metric_without_history_has_the_spaces_rule_alone(spaces):
    made = analysis.table("selects_best", tracking_uri=spaces.uri, value="test/op", select="best_val")
    assert made.cells["A", "test OP (%)"].value == 2.0
    with pytest.raises(RecordError, match=r"test/op .* has no history, .* \(best_val\).* of test/map, val/map"):
        analysis.table("selects_best", tracking_uri=spaces.uri, value="test/op", select="last")


def test_a_rule_on_val_that_was_never_measured_is_an_error(store):
    seeds = [(NAN, 5.0, {"val/map": [NAN, NAN], "test/map": [4.0, 5.0]})] * 2
    last = {"metric": "val/map", "epoch": "last"}
    store.log("no_val", "0a1", {("A", None): seeds}, seeds=[1, 2], table=PLAIN, select=last)
    assert _cell(analysis.table("no_val", tracking_uri=store.uri, select="last")).value == 5.0
    with pytest.raises(RecordError, match=r"val/map .* no number in any epoch, so best_val selects none"):
        analysis.table("no_val", tracking_uri=store.uri, select="best_val")


def test_another_reading_of_ap_takes_the_place_of_the_tables(store):
    """Both are measured at the epoch that val/map selects."""
    results = {("A", None): [(1, 70.0, {"test/map_interpolated": 71.0})] * 2}
    store.log("readings", "4ead", results, seeds=[1, 2], table=PLAIN)
    table = analysis.table("readings", tracking_uri=store.uri, value="test/map_interpolated")
    assert table.cells["A", "test interpolated mAP (%)"].value == 71.0
    assert "Test interpolated mAP (%)" in table.caption


def test_settings_are_chosen_on_val_at_the_epochs_that_the_rule_selects(store):
    """Best on val: 1.0 has 9 against 8. At the last epoch: 2 against 7."""
    of_setting = {1.0: ([9.0, 2.0], [50.0, 51.0]), 2.0: ([8.0, 7.0], [60.0, 61.0])}
    results = {
        ("A", delta): [(val[0], test[0], {"val/map": val, "test/map": test})] * 2
        for delta, (val, test) in of_setting.items()
    }
    store.log("choices", "c0", results, seeds=[1, 2])
    best, last = (analysis.table("choices", tracking_uri=store.uri, select=r) for r in ("best_val", "last"))
    assert (best.cells["A", CHOSEN].value, last.cells["A", CHOSEN].value) == (50.0, 61.0)


def test_failed_and_missing_trials_stay_what_they_are_under_any_rule(store):
    for rule in ("last", "best_val", "best_test"):
        cell = analysis.table("ll_delta", tracking_uri=store.uri, select=rule).cells["LL-R", "1.6"]
        assert (cell.n, cell.expected) == (2, 3)
        assert cell.note == "seed 2 failed (loss is NaN in epoch 2)"


def test_the_command_line_offers_the_rules_and_says_what_it_cannot_do(store, capsys):
    with pytest.raises(SystemExit):
        main(["table", "--help"])
    assert ", ".join(RULES) in " ".join(capsys.readouterr().out.split())
    assert main(["table", "ll_delta", "--tracking-uri", store.uri, "--select", "best_test:test/map"]) == 0
    assert "an oracle" in capsys.readouterr().out
    assert main(["table", "ll_delta", "--tracking-uri", store.uri, "--select", "last", "--value", "test/of1"]) == 2
    assert "test/of1 of 'll_delta' has no history" in capsys.readouterr().err
