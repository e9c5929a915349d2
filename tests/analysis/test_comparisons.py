"""Paired differences in print: against a row, and between two sweeps."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

import analysis
from analysis.cli import main
from analysis.reading import records, selection
from analysis.reading.records import RecordError
from analysis.tables import comparisons
from analysis.tables.build import build

from .conftest import Axes

PLAIN = {"rows": "variant", "columns": None, "value": "test/map"}
OURS, THEIRS = [61.0, 73.5, 55.2, 68.0], [60.0, 72.0, 55.0, 66.5]


def _cells(table, place):
    return {column: table.cells[place, column] for column in table.columns}


def _seeds(*values):
    return [value if value in (None, "missing") else (1, value) for value in values]


@pytest.fixture(scope="module")
def compared(store):
    """Three rows against a base: all seeds, one seed missing, and the base's own numbers."""
    results = {
        ("Base", None): _seeds(*THEIRS),
        ("Better", None): _seeds(*OURS),
        ("Fewer", None): _seeds(62.0, None, 57.0, 68.0),
        ("Same", None): _seeds(*THEIRS),
    }
    store.log("against", "a9", results, seeds=[1, 2, 3, 4], table=PLAIN)
    return analysis.table("against", tracking_uri=store.uri, against="Base")


def test_differences_are_paired_with_students_interval_and_holms_p_values(compared):
    cells = _cells(compared, "Better")
    d = np.subtract(OURS, THEIRS)
    low, high = stats.t.interval(0.95, 3, loc=d.mean(), scale=stats.sem(d))
    assert cells["difference"].value == pytest.approx(d.mean())
    assert cells["difference"].seeds == pytest.approx(dict(zip((1, 2, 3, 4), d, strict=True)))
    assert cells["95 % interval"].text == f"+{low:.2f} … +{high:.2f}"
    fewer = np.subtract([62.0, 57.0, 68.0], [60.0, 55.0, 66.5])
    p = [stats.ttest_rel(OURS, THEIRS).pvalue, stats.ttest_1samp(fewer, 0).pvalue, 1.0]
    holm = multipletests(p, method="holm")[1]
    assert [compared.cells[row, "p (Holm)"].text for row in compared.rows] == [f"{one:.3f}" for one in holm]
    assert cells["effect"].text == f"+{d.mean() / d.std(ddof=1):.2f}"
    assert [cells["Base"].text, cells["row"].text] == ["63.4 ± 7.4", "64.4 ± 8.0"]


def test_a_seed_that_one_side_lacks_is_in_no_difference(compared):
    cells = _cells(compared, "Fewer")
    assert set(cells["difference"].seeds) == {1, 3, 4}
    assert cells["n"].text == "3"
    assert "Fewer, difference: seed 2 failed (loss is NaN in epoch 2)" in compared.footnotes


def test_equal_rows_differ_by_nothing(compared):
    cells = _cells(compared, "Same")
    assert [cells[column].text for column in ("difference", "95 % interval", "bootstrap", "p (Holm)", "effect")] == [
        "+0.00", "+0.00 … +0.00", "+0.00 … +0.00", "1.000", "+0.00",
    ]  # fmt: skip


def test_the_caption_says_what_was_done_and_bold_what_is_below_the_level(compared):
    for part in (
        "Rows minus Base.",
        "Higher is better.",
        "Holm's procedure for 3 distinct comparisons",
        "Test mAP (%)",
    ):
        assert part in compared.caption
    bold = {place for place, cell in compared.cells.items() if cell.bold}
    assert bold == {(row, "difference") for row in compared.rows if float(compared.cells[row, "p (Holm)"].text) < 0.05}


def test_what_is_one_computation_is_one_comparison(store):
    """Of three values two are one, and one of them is the value chosen on val."""
    results = {("Base", None): _seeds(*THEIRS)} | {("A", 1): _seeds(*OURS), ("A", 2): _seeds(*OURS)}
    results[("A", 3)] = [(0, value) for value in (60.0, 73.0, 56.0, 67.0)]
    keys = {f"once-A-{delta}-{seed}": {"sweeper.key": f"same {seed}"} for delta in (1, 2) for seed in (1, 2, 3, 4)}
    store.log("once", "01", results, seeds=[1, 2, 3, 4], tags_of_rows=keys)
    table = analysis.table("once", tracking_uri=store.uri, against="Base")
    assert table.rows == ("A, 1", "A, 2", "A, 3", "A, chosen on val")
    assert "Holm's procedure for 2 distinct comparisons" in table.caption
    other = stats.ttest_rel([60.0, 73.0, 56.0, 67.0], THEIRS).pvalue
    same, other = multipletests([stats.ttest_rel(OURS, THEIRS).pvalue, other], method="holm")[1]
    printed = [f"{p:.3f}" for p in (same, same, other, same)]
    assert [table.cells[row, "p (Holm)"].text for row in table.rows] == printed
    assert table.remarks == ("A: 1 and 2 are one computation",)


def test_few_seeds_are_warned_of_and_one_seed_has_no_interval(store):
    for seeds in (1, 2):
        results = {("A", None): _seeds(60.0, 61.0)[:seeds], ("B", None): _seeds(62.0, 62.5)[:seeds]}
        store.log(f"few_{seeds}", "few", results, seeds=list(range(1, seeds + 1)), table=PLAIN)
        table = analysis.table(f"few_{seeds}", tracking_uri=store.uri, against="A")
        assert table.footnotes == [f"B, difference: {seeds} seeds in both, too few to say anything"]
    one = analysis.table("few_1", tracking_uri=store.uri, against="A")
    assert one.cells["B", "difference"].text == "+2.00"
    assert {one.cells["B", column].text for column in ("95 % interval", "bootstrap", "p (Holm)", "effect")} == {"—"}


def test_a_row_without_the_setting_is_compared_at_each_of_its_values(store):
    table = analysis.table("ll_delta", tracking_uri=store.uri, against="Naive AN")
    assert table.cells["LL-R, 0.1", "difference"].value == pytest.approx(2.0)
    assert table.cells["LL-R, 0.4", "difference"].value == pytest.approx(8.0)
    assert table.cells["LL-Ct, 1.6", "difference"].text == "X"
    assert "Naive AN, 0.1" not in table.rows
    assert not any(row.startswith("Full label") for row in table.rows)  # a reference, "not compared"
    above = analysis.table("ll_delta", tracking_uri=store.uri, against="Full label")
    assert above.cells["LL-R, 0.1", "difference"].value == pytest.approx(-18.0)


def test_no_such_row_is_an_error_that_names_those_there_are(store):
    with pytest.raises(RecordError, match="no row 'LLR' to compare with; its rows are Full label, Naive"):
        analysis.table("ll_delta", tracking_uri=store.uri, against="LLR")


def test_every_writer_writes_a_comparison(compared):
    assert json.loads(compared.json(), parse_constant=pytest.fail)["columns"] == list(compared.columns)
    assert compared.latex().isascii()
    assert "| Better | 63.4 ± 7.4 | 64.4 ± 8.0 |" in compared.md()
    assert len(compared.csv().splitlines()) == 1 + len(compared.cells)


# Two sweeps


def _known(values):
    return {
        (row, Axes({"data.known": known})): _seeds(*(base + 10 * known + gain * seed for seed in (1, 2, 3)))
        for row, base, gain in [("SST", 70.0, 1.0), ("SARB", 71.0, 2.0)]
        for known in values
    }


AVERAGED = {"rows": "variant", "columns": "data.known", "value": "test/map", "average": "data.known"}


@pytest.fixture(scope="module")
def sweeps(store):
    """A: two proportions. B: three, other epochs for SARB, other code, and a gain of one on all."""
    version = {"sweeper.code": "c0de", "sweeper.platform": "p", "sweeper.commit": "aaaa1"}
    a, more = _known([0.1, 0.5]), _known([0.1, 0.5, 0.9])
    b = {place: [(1, test + 1) for _, test in seeds] for place, seeds in more.items()}
    both = {"table": AVERAGED, "logged": {"train.batch_size": 32}}
    tags = dict.fromkeys(("SST", "SARB"), version)
    store.log("pair", "a0a0", a, started=1_000, axes={"data.known": [0.1, 0.5]}, tags_of_rows=tags, **both)
    tags = {row: version | {"sweeper.code": "4e3", "sweeper.commit": "bbbb2"} for row in tags}
    rows = {"SARB": {"train.batch_size": 64}}
    axes = {"data.known": [0.1, 0.5, 0.9]}
    changes = {"axes": axes, "tags_of_rows": tags, "of_rows": rows, "profile": "claims"}
    store.log("pair", "b0b0", b, started=2_000, **both | changes)
    return comparisons.compare(*(records.load("pair", tracking_uri=store.uri, sweep=sweep) for sweep in ("a0", "b0")))


def test_two_sweeps_are_compared_cell_by_cell_over_the_seeds_of_both(sweeps):
    cells = _cells(sweeps, "SST, 50%")
    assert (cells["A"].value, cells["B"].value, cells["difference"].value) == pytest.approx((77.0, 78.0, 1.0))
    assert cells["95 % interval"].text == "+1.00 … +1.00"


def test_averages_are_over_the_values_that_both_have(sweeps):
    assert sweeps.rows == tuple(f"{row}, {column}" for row in ("SST", "SARB") for column in ("10%", "50%", "average"))
    assert sweeps.cells["SST, average", "B"].value == pytest.approx((74.0 + 78.0) / 2)


def test_what_the_sweeps_differ_in_is_listed_for_the_rows_that_do(sweeps):
    assert sweeps.remarks == (
        "data.known: 0.1, 0.5 in A, 0.1, 0.5, 0.9 in B (all rows)",
        "train.batch_size: 32 in A, 64 in B (SARB)",
        "code: c0de in A, 4e3 in B",
        "commit: aaaa1 in A, bbbb2 in B",
        "12 trials of both have the same settings, and 12 of these the same key: the same computation",
    )


def test_sweeps_under_other_rules_say_so_and_one_rule_can_be_asked_of_both(store, capsys):
    results = {("SST", None): _seeds(70.0, 71.0, 72.0)}
    store.log("rule_a", "1", results, table=PLAIN)
    store.log("rule_b", "2", results, table=PLAIN, select={"metric": "val/map", "epoch": "last"})
    a, b = (records.load(name, tracking_uri=store.uri) for name in ("rule_a", "rule_b"))
    assert "selected by: best_val in A, last in B" in comparisons.compare(a, b).remarks
    assert "code: not recorded in A" not in str(comparisons.compare(a, b).remarks)
    assert comparisons.compare(selection.under(a, "last"), b).selected == "last"
    assert main(["compare", "rule_a", "rule_b:default", "--select", "last", "--tracking-uri", store.uri]) == 0
    assert "selected by" not in capsys.readouterr().out


def _of_draw(store, draw, **changes):
    """A sweep with two seeds whose scenes are of one draw, or with `follows_seed` of a draw per seed."""
    results = {("A", None): _seeds(70.0, 71.0), ("B", None): _seeds(72.0, 73.0)}
    scenes = {f"draw_{draw}-{row}-None-{seed}": seed for row in "AB" for seed in (1, 2)}
    drawn = scenes if draw == "follows_seed" else dict.fromkeys(scenes, draw)
    followed = ["data.draw", "data.mask_seed"] if draw == "follows_seed" else ["data.mask_seed"]
    given = {"seeds": [1, 2], "table": PLAIN, "follow_seed": followed} | changes
    store.log(f"draw_{draw}", "d4a", results, **given)
    record = records.load(f"draw_{draw}", tracking_uri=store.uri)
    params = record.params.assign(**{"data.draw": record.params.index.map(drawn).astype(str)})
    return replace(record, params=params.assign(**{"data.mask_seed": record.params.index.map(scenes).astype(str)}))


def test_sweeps_of_other_scenes_say_so_and_what_follows_the_seed_in_both_is_no_difference(store):
    one, seven, each = (_of_draw(store, draw) for draw in (1, 7, "follows_seed"))
    assert comparisons.compare(one, seven).remarks[0] == "data.draw: 1 in A, 7 in B (all rows)"
    assert comparisons.compare(one, each).remarks[0] == "data.draw: 1 in A, follows_seed in B (all rows)"
    for record in (one, seven, each):
        assert "data." not in str(comparisons.compare(record, record).remarks)
    mask = replace(seven, params=seven.params.assign(**{"data.mask_seed": "1200"}))
    assert "data.mask_seed: follows_seed in A, 1200 in B (all rows)" in comparisons.compare(one, mask).remarks


def test_an_old_record_that_does_not_say_what_follows_the_seed_is_read_by_its_values(store):
    one, seven, each = (_of_draw(store, draw) for draw in (1, 7, "follows_seed"))
    old = [replace(record, space=record.space.copy()) for record in (seven, each)]
    for record in old:
        del record.space["follow_seed"]
    assert comparisons.compare(one, old[0]).remarks[0] == "data.draw: 1 in A, 7 in B (all rows)"
    assert comparisons.compare(each, old[1]).remarks == comparisons.compare(each, each).remarks


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (1, "labels: single_positive. "),
        (7, "labels: single_positive; scenes: draw 7. "),
        (0, "labels: single_positive; scenes: draw 0, which was used to choose defaults. "),
        ("follows_seed", "labels: single_positive; scenes: a draw per seed. "),
    ],
)
def test_a_caption_names_scenes_that_are_not_the_usual_ones(store, draw, said):
    record = _of_draw(store, draw)
    assert said in build(record).caption
    assert said in comparisons.against(record, "A").caption
    coco = replace(record, params=record.params.assign(**{"data.dataset": "coco2014"}))
    assert "scenes" not in build(coco).caption


def test_rows_on_other_scenes_are_no_rivals_and_the_caption_names_them(store):
    """B alone has draw 7; B has the higher mean."""
    record = _of_draw(store, 1)
    assert [cell.bold for cell in build(record).cells.values()] == [False, True]
    draws = record.params["data.draw"].where(record.params.index.str.contains("-A-"), "7")
    made = build(replace(record, params=record.params.assign(**{"data.draw": draws})))
    assert not any(cell.bold for cell in made.cells.values())
    assert "scenes: draw 1 (B: draw 7)" in made.caption


def test_a_note_says_which_sweep_it_is_of(store):
    for name, chosen in (("of_a", 1), ("of_b", 2), ("of_c", 2)):
        results = {("LL-R", delta): [(delta == chosen, 60.0 + delta)] * 3 for delta in (1, 2)}
        store.log(name, "40", results)
    a, b, c = (records.load(name, tracking_uri=store.uri) for name in ("of_a", "of_b", "of_c"))
    note = "Δrel 2 (seeds 1, 2, 3)"
    place = "LL-R, chosen on val", "difference"
    assert comparisons.compare(a, b).cells[place].note == f"A: Δrel 1 (seeds 1, 2, 3); B: {note}"
    assert comparisons.compare(b, c).cells[place].note == f"A and B: {note}"


def test_two_commits_of_one_sweep_are_read_as_each_had_left_it(store):
    """The second commit changes B alone: A's runs stay, and B's older ones are superseded."""
    first = {row: {"sweeper.commit": "1111", "sweeper.key": "k1"} for row in "AB"}
    older = {("A", None): _seeds(60.0, 61.0, 62.0), ("B", None): ["missing"] * 3}
    store.log("commits", "5ee9", older, started=1_000, tags_of_rows=first, table=PLAIN)
    old_b = {("A", None): ["missing"] * 3, ("B", None): _seeds(50.0, 51.0, 52.0)}
    store.log("commits", "5ee9", old_b, started=1_000, tags_of_rows=first, table=PLAIN, kind="superseded")
    new_b = {("A", None): ["missing"] * 3, ("B", None): _seeds(55.0, 55.0, 58.0)}
    second = {"B": {"sweeper.commit": "2222", "sweeper.key": "k2"}}
    store.log("commits", "5ee9", new_b, started=9_000, tags_of_rows=second, table=PLAIN)

    a, b = (records.load("commits", tracking_uri=store.uri, sweep=commit) for commit in ("111", "2222"))
    made = comparisons.compare(a, b)
    assert [made.cells["B", side].value for side in "AB"] == pytest.approx([51.0, 56.0])
    assert [made.cells["A", side].value for side in "AB"] == pytest.approx([61.0, 61.0])
    assert "commit: 1111 in A, 1111, 2222 in B" in made.remarks
    assert made.remarks[-1].startswith("6 trials of both have the same settings, and 3 of these the same key")
    with pytest.raises(RecordError, match="no sweep of 'commits' has a hash that starts with '33'"):
        records.load("commits", tracking_uri=store.uri, sweep="33")


def test_tables_of_other_metrics_or_without_a_common_cell_are_refused(store):
    store.log("other_metric", "3", {("SST", None): _seeds(70.0)}, seeds=[1], table=PLAIN | {"value": "val/map"})
    store.log("other_rows", "4", {("KGGR", None): _seeds(70.0)}, seeds=[1], table=PLAIN)
    store.log("one_row", "5", {("SST", None): _seeds(70.0)}, seeds=[1], table=PLAIN)
    a, b, c = (records.load(name, tracking_uri=store.uri) for name in ("one_row", "other_metric", "other_rows"))
    with pytest.raises(RecordError, match="other metrics, test/map and val/map; name one for both with --value"):
        comparisons.compare(a, b)
    with pytest.raises(RecordError, match="no cell in common: SST by .*; KGGR by"):
        comparisons.compare(a, c)


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("ll_delta", ("ll_delta", None, None)),
        ("ll_delta@01ad", ("ll_delta", "01ad", None)),
        ("ll_delta:claims", ("ll_delta", None, "claims")),
        ("ll_delta@01ad:claims", ("ll_delta", "01ad", "claims")),
    ],
)
def test_a_sweep_is_named_by_space_hash_and_profile(text, parsed):
    assert tuple(records.parse(text).values()) == parsed


def test_what_names_no_sweep_is_refused_before_anything_is_read():
    with pytest.raises(RecordError, match="'@01' is no sweep: give NAME, NAME@HASH"):
        records.parse("@01")


def test_all_alike_but_not_zero_has_an_infinite_effect_in_print(store):
    results = {("A", None): _seeds(60.0, 60.0, 60.0), ("B", None): _seeds(61.0, 61.0, 61.0)}
    store.log("alike", "a11", results, table=PLAIN)
    table = analysis.table("alike", tracking_uri=store.uri, against="A")
    assert [table.cells["B", column].text for column in ("p (Holm)", "effect")] == ["< 0.001", "+∞"]
    assert not any(cell.value and math.isinf(cell.value) for cell in table.cells.values())
