"""Claims judged on hand-made sweeps whose verdicts are known."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from analysis.claims import judging
from analysis.claims.judging import CONTRADICTED, NOT_RUN, REPRODUCED, UNDECIDED, judge
from analysis.claims.kinds import ClaimError
from analysis.claims.printing import as_json, markdown
from analysis.cli import main
from analysis.names import several
from analysis.reading.records import Record
from methods.evaluation.diagnostics import DIAGNOSTICS
from sweeper.spaces.reading import load_space
from sweeper.spaces.vocabulary import TABLE_VALUES, Known

from .conftest import Axes, space_of

SPACES = Path(__file__).parents[2] / "search_spaces"
CLAIMS = YAML(typ="safe").load(judging.FILE.read_text("utf-8"))
SEEDS = (1, 2, 3, 4, 5)
# Of all sweeps in a process: the store outlives a module's fixtures, which a worker may make several times.
COUNT = itertools.count()
# Seeds differ by much more than the rows do: only paired differences show anything.
BASE = [60.0, 70.0, 55.0, 65.0, 62.0]


def scores(*differences):
    return [(base, base + difference) for base, difference in zip(BASE, differences, strict=True)]


NOTHING = scores(0, 0, 0, 0, 0)
CLEARLY_MORE = scores(3.0, 3.1, 2.9, 3.2, 2.8)
CLEARLY_LESS = scores(-3.0, -3.1, -2.9, -3.2, -2.8)
UNCLEAR = scores(3.0, -2.0, 1.0, -1.0, 2.0)
HARDLY = scores(0.1, -0.1, 0.0, 0.05, -0.05)


class Histories:
    """Of MLflow's client, what reads the history of a metric."""

    _tracking_client = SimpleNamespace(store=None)

    def __init__(self, of_runs):
        self.of_runs = of_runs

    def get_metric_history(self, run, metric):
        values = self.of_runs[run].get(metric.removeprefix("epoch/"), [])
        places = values if isinstance(values, dict) else dict(enumerate(values, start=1))
        return [SimpleNamespace(step=place, value=value) for place, value in places.items()]


def record(space, outcomes):
    """The record of a sweep with these outcomes of its trials, as `load` reads it, without MLflow."""
    axes = tuple(dict.fromkeys([*space["axes"], *(axis for trial in space["trials"] for axis in trial["axes"])]))
    rows, curves = [], {}
    for trial, outcome in zip(space["trials"], outcomes, strict=True):
        row = {name: trial[name] for name in ("trial", "variant", "seed")}
        row |= {axis: trial["axes"].get(axis) for axis in axes}
        if outcome in (None, "missing"):
            rows.append(row | {"status": "FAILED" if outcome is None else "MISSING"})
            continue
        val, test, *more = outcome
        own = more[0] if more else {}
        curves[trial["trial"]] = {metric: values for metric, values in own.items() if isinstance(values, list | dict)}
        row |= {"status": "FINISHED", "run_id": trial["trial"], "val/map": val, "test/map": test}
        rows.append(row | {metric: value for metric, value in own.items() if not isinstance(value, list | dict)})
    params = pd.DataFrame({"data.dataset": ["digit_scenes"]})
    return Record(space, "5eed", axes, pd.DataFrame(rows), params, pd.DataFrame(), Histories(curves))


def of_results(results, seeds=SEEDS):
    outcomes = [outcome for cell in results.values() for outcome in cell]
    return record(space_of("claimed", results, list(seeds), profile="claims"), outcomes)


def judged(results, *parts, seeds=SEEDS, **more):
    """Judge one claim of these parts on a sweep with these rows."""
    entry = {"text": "a claim", "source": "Table 1", "space": "claimed", "parts": list(parts)} | more
    of_file = {"a_paper": {"1": entry}}
    return judging.judged(of_file, lambda _: of_results(results, seeds), "claims")[0]


@pytest.mark.parametrize(
    "ours, verdict", [(CLEARLY_MORE, REPRODUCED), (CLEARLY_LESS, CONTRADICTED), (UNCLEAR, UNDECIDED)]
)
def test_greater_is_judged_seed_by_seed(ours, verdict):
    claim = judged({("SST", None): ours, ("SSGRL", None): NOTHING}, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})
    assert claim.verdict == verdict
    (test,) = claim.tests
    assert test.name == "SST − SSGRL"
    expected = {seed: test - base for seed, (base, test) in zip(SEEDS, ours, strict=True)}
    assert test.differences == pytest.approx(expected)


def test_a_compound_claim_is_reproduced_only_if_all_its_parts_are():
    rows = {("SST", None): CLEARLY_MORE, ("IST", None): UNCLEAR, ("SSGRL", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["SST", "IST"], "than": ["SSGRL"]}})
    assert claim.verdict == UNDECIDED
    rows["IST", None] = CLEARLY_LESS
    claim = judged(rows, {"greater": {"rows": ["SST", "IST"], "than": ["SSGRL"]}})
    assert claim.verdict == CONTRADICTED


@pytest.mark.parametrize("ours, verdict", [(HARDLY, REPRODUCED), (CLEARLY_MORE, CONTRADICTED), (UNCLEAR, UNDECIDED)])
def test_equivalent_means_within_the_margin(ours, verdict):
    rows = {("w/ SAM", None): ours, ("SST", None): NOTHING}
    assert judged(rows, {"equivalent": {"rows": ["w/ SAM"], "than": ["SST"]}}).verdict == verdict


def test_a_wider_margin_allows_more():
    rows = {("w/ SAM", None): CLEARLY_MORE, ("SST", None): NOTHING}
    assert judged(rows, {"equivalent": {"rows": ["w/ SAM"], "than": ["SST"], "margin": 5}}).verdict == REPRODUCED


@pytest.mark.parametrize("ours, verdict", [(HARDLY, REPRODUCED), (CLEARLY_LESS, CONTRADICTED), (UNCLEAR, UNDECIDED)])
def test_with_a_margin_greater_means_not_that_much_below(ours, verdict):
    rows = {("learned", None): ours, ("fixed", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["learned"], "than": ["fixed"], "margin": 0.5}})
    assert claim.verdict == verdict
    assert claim.tests[0].name == "learned − fixed (above −0.5)"
    assert claim.tests[0].found.mean == pytest.approx(
        sum(o - n for (_, o), (_, n) in zip(ours, NOTHING, strict=True)) / 5
    )


def test_a_row_can_be_compared_with_a_number():
    rows = {("Naive AN", None): [(1, 52.0), (1, 53.0), (1, 52.5), (1, 53.5), (1, 51.5)]}
    assert judged(rows, {"greater": {"rows": ["Naive AN"], "than": 50}}).verdict == REPRODUCED


def at_delta(values):
    """A row whose val and test are `values[delta]` above each seed's base."""
    return {
        ("LL-R", delta): [(base + v, base + v + 0.1 * i) for i, base in enumerate(BASE)] for delta, v in values.items()
    }


@pytest.mark.parametrize(
    "values, verdict",
    [({0.1: 1, 0.4: 5, 1.6: 4, 3.2: 0}, REPRODUCED), ({0.1: 1, 0.4: 2, 1.6: 4, 3.2: 9}, CONTRADICTED)],
)
def test_an_inner_optimum_beats_both_ends(values, verdict):
    claim = judged(at_delta(values), {"inner_optimum": {"rows": ["LL-R"], "axis": "delta_rel"}})
    assert claim.verdict == verdict
    assert [test.name for test in claim.tests] == ["LL-R: best inner Δrel − 0.1", "LL-R: best inner Δrel − 3.2"]


def test_an_inner_optimum_is_undecided_where_seeds_differ_on_an_end():
    rows = at_delta({0.1: 1, 0.4: 5, 1.6: 4, 3.2: 0})
    rows["LL-R", 0.1] = [(val, test + 9 * (-1) ** i) for i, (val, test) in enumerate(rows["LL-R", 0.1])]
    assert judged(rows, {"inner_optimum": {"rows": ["LL-R"], "axis": "delta_rel"}}).verdict == UNDECIDED


def test_an_inner_optimum_needs_a_value_inside():
    claim = judged(at_delta({0.1: 1, 0.4: 5}), {"inner_optimum": {"rows": ["LL-R"], "axis": "delta_rel"}})
    assert claim.verdict == NOT_RUN
    assert "2 values of delta_rel" in claim.reason


def test_an_inner_optimum_can_be_sought_among_some_of_the_values():
    rows = at_delta({0.1: 9, 0.4: 1, 1.6: 4, 3.2: 0})
    part = {"rows": ["LL-R"], "axis": "delta_rel"}
    assert judged(rows, {"inner_optimum": part}).verdict == CONTRADICTED
    claim = judged(rows, {"inner_optimum": part | {"among": [0.4, 1.6, 3.2]}})
    assert claim.verdict == REPRODUCED
    assert [test.found.mean for test in claim.tests] == pytest.approx([3.0, 4.0])


def by_known(**rows):
    """Rows with a gain at each known proportion."""
    return {
        (name, Axes({"data.known": known})): scores(*(gain + 0.1 * i for i in range(5)))
        for name, gains in rows.items()
        for known, gain in gains.items()
    }


def test_an_interaction_is_a_difference_of_paired_differences():
    rows = by_known(SST={0.1: 4.0, 0.9: 1.0}, SSGRL={0.1: 0.0, 0.9: 0.0})
    part = {"rows": ["SST"], "than": ["SSGRL"], "axis": "data.known", "larger_at": [0.1], "smaller_at": [0.9]}
    claim = judged(rows, {"interaction": part})
    assert claim.verdict == REPRODUCED
    assert claim.tests[0].found.mean == pytest.approx(3.0)
    turned = part | {"larger_at": [0.9], "smaller_at": [0.1]}
    assert judged(rows, {"interaction": turned}).verdict == CONTRADICTED
    at_first = ("SST", next(axes for name, axes in rows if name == "SST"))
    rows[at_first] = [(val, test + 9 * (-1) ** i) for i, (val, test) in enumerate(rows[at_first])]
    assert judged(rows, {"interaction": part}).verdict == UNDECIDED


def test_each_value_of_an_axis_is_a_test_of_its_own_and_a_mean_over_it_is_one():
    rows = by_known(SST={0.1: 4.0, 0.9: -1.0}, SSGRL={0.1: 0.0, 0.9: 0.0})
    each = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"], "each": "data.known"}})
    assert [test.found.mean for test in each.tests] == pytest.approx([4.0, -1.0])
    mean = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"], "mean_over": "data.known"}})
    assert [test.found.mean for test in mean.tests] == pytest.approx([1.5])
    at = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"], "at": {"data.known": 0.9}}})
    assert [test.found.mean for test in at.tests] == pytest.approx([-1.0])


def test_a_trend_is_the_slope_of_each_seed_over_the_epochs():
    falling = [(1, 1.0, {"modifications/precision": [90 - seed, 80, 70 + seed]}) for seed in range(5)]
    part = {"rows": ["LL-R"], "value": "modifications/precision"}
    claim = judged({("LL-R", None): falling}, {"trend": part | {"direction": "falls"}})
    assert claim.verdict == REPRODUCED
    assert list(claim.tests[0].differences.values()) == pytest.approx([10, 9, 8, 7, 6])
    assert judged({("LL-R", None): falling}, {"trend": part | {"direction": "rises"}}).verdict == CONTRADICTED
    either = [(1, 1.0, {"modifications/precision": [80 + end, 80, 80 - end]}) for end in (9, -9, 8, -7, 1)]
    assert judged({("LL-R", None): either}, {"trend": part | {"direction": "falls"}}).verdict == UNDECIDED


def fluctuating(*amounts):
    """A row whose loss, falling by one in an epoch, goes up and down by an amount of each seed from epoch 3 on."""
    return [
        (1, 1.0, {"train/loss": [9.0, 1.0, *(10 - epoch + amount * (-1) ** epoch for epoch in range(3, 9))]})
        for amount in amounts
    ]


@pytest.mark.parametrize(
    "smooth, verdict",
    [
        (fluctuating(0.1, 0.12, 0.09, 0.11, 0.1), REPRODUCED),
        (fluctuating(0.9, 0.8, 0.85, 0.95, 0.9), CONTRADICTED),
        (fluctuating(0.1, 0.9, 0.2, 0.8, 0.5), UNDECIDED),
    ],
)
def test_smoother_compares_second_differences_from_an_epoch_on(smooth, verdict):
    rows = {("ILRB + PLRB", None): smooth, ("ILRB only", None): fluctuating(0.4, 0.42, 0.41, 0.43, 0.4)}
    part = {"rows": ["ILRB + PLRB"], "than": ["ILRB only"], "value": "train/loss", "since": 3}
    claim = judged(rows, {"smoother": part})
    assert claim.verdict == verdict
    # Values that go up and down by a around a line have second differences of 4a. Before epoch 3 there are larger ones.
    amount = smooth[0][2]["train/loss"][3] - 6
    assert claim.tests[0].differences[1] == pytest.approx(4 * 0.4 - 4 * amount)


def test_smoother_is_no_ratio_to_the_mean():
    higher = [
        (1, 1.0, {"train/loss": [100 + value for value in curve["train/loss"]]})
        for *_, curve in fluctuating(0.4, 0.42, 0.41, 0.43, 0.4)
    ]
    rows = {("with a term more", None): higher, ("without", None): fluctuating(0.4, 0.42, 0.41, 0.43, 0.4)}
    part = {"rows": ["with a term more"], "than": ["without"], "value": "train/loss", "since": 3}
    assert list(judged(rows, {"smoother": part}).tests[0].differences.values()) == pytest.approx([0] * 5)


def test_a_curve_has_the_places_within_its_epochs():
    """Windows of steps end at 3.5 and 4 in epoch 4; in epoch 3, which does not count, there is a peak."""
    curves = [
        [(1, 1.0, {"train/loss": {2.5: 1, 3: 90 + seed, 3.5: top + seed / 9, 4: 0, 4.5: top}}) for seed in SEEDS]
        for top in (1, 2)
    ]
    rows = {("smooth", None): curves[0], ("rough", None): curves[1]}
    part = {"rows": ["smooth"], "than": ["rough"], "value": "train/loss", "since": 4}
    assert list(judged(rows, {"smoother": part}).tests[0].differences.values()) == pytest.approx([2] * 5)


def in_settings(**rows):
    """Rows by data set and known proportion: a list has a row's lead over the seeds' bases in the four settings."""
    settings = [(data, known) for data in ("one", "other") for known in (0.1, 0.9)]
    return {
        (name, Axes({"data.dataset": data, "data.known": known})): scores(*(lead + noise for noise in NOISE))
        for name, leads in rows.items()
        for (data, known), lead in zip(settings, leads, strict=True)
    }


NOISE = (0.1, -0.1, 0.0, 0.05, -0.05)


@pytest.mark.parametrize(
    "leads, verdict, counts",
    [
        ([3, 3, 3, -3], REPRODUCED, [3, 3, 3, 3, 3]),
        ([3, 3, -3, -3], CONTRADICTED, [2, 2, 2, 2, 2]),  # half is not most
        ([3, 3, 0, -3], UNDECIDED, [2, 2, 2, 2, 2]),
    ],
)
def test_a_count_over_settings_holds_in_more_than_half_of_them(leads, verdict, counts):
    rows = in_settings(**{"LL-Ct": leads, "WAN": [-1, 0, -5, -5], "ROLE": [0, -1, 0, 0]})
    part = {"rows": ["LL-Ct"], "than": ["WAN", "ROLE"], "each": "data.known"}  # the data sets are settings as well
    claim = judged(rows, {"most_settings": part})
    (test,) = claim.tests
    assert claim.verdict == verdict
    assert test.name == "settings of 4 in which LL-Ct is above WAN, ROLE − half"
    assert list(test.differences.values()) == [count - 2 for count in counts]


def test_a_count_over_settings_has_the_p_of_a_partial_conjunction():
    rows = in_settings(**{"LL-Ct": [2, 3, 1, -1], "WAN": [0, 0, 0, 0], "ROLE": [-1, 0.2, 0, 0]})
    unsteady = {
        key: [(v, t + i * 0.3) for i, (v, t) in enumerate(of)] if key[0] == "LL-Ct" else of for key, of in rows.items()
    }
    part = {"rows": ["LL-Ct"], "than": ["WAN", "ROLE"], "each": "data.known"}
    each = judged(unsteady, {"greater": part}).tests
    (most,) = judged(unsteady, {"most_settings": part}).tests
    of_settings = sorted(max(each[i].p, each[i + 1].p) for i in range(0, 8, 2))
    assert most.p == pytest.approx(2 * of_settings[2])  # 3 of 4: twice the third smallest
    opposite = sorted(2 * min(each[i].against, each[i + 1].against) for i in range(0, 8, 2))
    assert most.against == pytest.approx(min(1, 3 * opposite[1]))  # the opposite in 2 of 4


@pytest.mark.parametrize("lead", [3, -3])
def test_of_two_settings_most_decides_nothing(lead):
    rows = by_known(**{"LL-Ct": {0.1: lead, 0.9: lead}, "WAN": {0.1: 0, 0.9: 0}})
    rows = {key: [(v, t + 0.01 * i * (key[0] == "WAN")) for i, (v, t) in enumerate(of)] for key, of in rows.items()}
    part = {"rows": ["LL-Ct"], "than": ["WAN"], "each": "data.known"}
    claim = judged(rows, {"most_settings": part})
    assert (claim.verdict, claim.tests[0].p, claim.tests[0].against) == (UNDECIDED, 1, 1)
    assert claim.reason == "2 settings: most of fewer than 3 would be all of them."
    assert judged(rows, {"greater": part}).verdict == (REPRODUCED if lead > 0 else CONTRADICTED)
    more = by_known(**{"LL-Ct": dict.fromkeys((0.1, 0.5, 0.9), lead), "WAN": dict.fromkeys((0.1, 0.5, 0.9), 0)})
    assert judged(more, {"most_settings": part}).verdict == (REPRODUCED if lead > 0 else CONTRADICTED)


def test_each_data_set_is_judged_on_its_own():
    rows = in_settings(SST=[3, 3, -3, -3], SSGRL=[0, 0, 0, 0])
    claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"], "mean_over": "data.known"}})
    assert [test.name for test in claim.tests] == ["SST − SSGRL, data set one", "SST − SSGRL, data set other"]
    assert [test.found.mean for test in claim.tests] == pytest.approx([3, -3])
    with pytest.raises(ClaimError, match="has the axis 'data.known'; name it in at, each or mean_over"):
        judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})


def of_classes(*gains):
    """A row whose seeds gain in as many of ten classes; an eleventh class has no positives in the test images."""
    return [
        (1, 1.0, {f"test/ap/{c}": 50.0 + (1 if c < gain else -1) for c in range(10)} | {"test/ap/10": float("nan")})
        for gain in gains
    ]


@pytest.mark.parametrize(
    "gains, verdict", [((8, 9, 10, 9, 8), REPRODUCED), ((1, 0, 2, 3, 1), CONTRADICTED), ((4, 7, 5, 3, 8), UNDECIDED)]
)
def test_a_share_of_classes_is_counted_in_each_seed(gains, verdict):
    nothing = [(1, 1.0, {f"test/ap/{c}": 50.0 for c in range(11)})] * 5
    rows = {("Ours", None): of_classes(*gains), ("CoOp", None): nothing}
    claim = judged(rows, {"most_classes": {"rows": ["Ours"], "than": ["CoOp"], "value": "test/ap"}})
    assert claim.verdict == verdict
    assert claim.tests[0].name.startswith("classes of 10 in which Ours is above CoOp")
    assert list(claim.tests[0].differences.values()) == pytest.approx([10 * gain - 50 for gain in gains])


def test_classes_that_were_not_measured_are_not_judged():
    rows = {("Ours", None): CLEARLY_MORE, ("CoOp", None): NOTHING}
    claim = judged(rows, {"most_classes": {"rows": ["Ours"], "than": ["CoOp"], "value": "test/ap"}})
    assert (claim.verdict, claim.reason) == (NOT_RUN, "No test/ap of classes of Ours and CoOp in claimed.")


@pytest.mark.parametrize(
    "others, verdict",
    [
        ({"SSGRL": (2, 0), "SST": (1, 0)}, REPRODUCED),
        ({"SSGRL": (2, 0), "SST": (9, 0)}, CONTRADICTED),
        ({"SSGRL": (2, 0), "SST": (5, 0)}, UNDECIDED),
    ],
)
def test_the_largest_drop_is_larger_than_each_other_rows(others, verdict):
    known = {"Curriculum": (5, 0), **others}
    rows = {
        (name, Axes({"data.known": at})): scores(*(values[i] + (i + 1) * noise for noise in NOISE))
        for name, values in known.items()
        for i, at in enumerate((0.9, 0.1))
    }
    rows = {
        key: [(v, t + (0.4 * (-1) ** i if key[0] == "SST" else 0)) for i, (v, t) in enumerate(of)]
        for key, of in rows.items()
    }
    part = {"rows": ["Curriculum"], "than": ["SSGRL", "SST"], "axis": "data.known", "from": 0.9, "to": 0.1}
    claim = judged(rows, {"largest_drop": part})
    assert claim.verdict == verdict
    assert claim.tests[0].name == "drop of Curriculum from known proportion 90% to 10% − that of SSGRL"
    assert claim.tests[0].found.mean == pytest.approx(3)


def test_a_row_is_compared_with_another_metric_of_its_own():
    part = {"greater": {"rows": ["LL-R"], "value": "modifications/precision", "than_value": "modifications/base_rate"}}
    for precision, verdict in ((60, REPRODUCED), (2, CONTRADICTED), (5, UNDECIDED)):
        row = [(1, 1.0, {"modifications/precision": precision + s, "modifications/base_rate": 7.0}) for s in SEEDS]
        claim = judged({("LL-R", None): row}, part)
        assert claim.verdict == verdict
        assert claim.tests[0].found.mean == pytest.approx(precision + 3 - 7)
    assert claim.tests[0].name == "LL-R: precision of modification (%) − positives among unobserved labels (%)"


def test_a_difference_in_percent_and_rows_at_different_values_of_an_axis():
    seconds = {"LL-Ct": (103, 204), "Naive AN": (100, 200)}
    rows = {
        (name, Axes({"data.train_fraction": share})): [(1, 60.0, {"train/seconds": float(time)})] * 5
        for name, times in seconds.items()
        for share, time in zip((0.1, 1.0), times, strict=True)
    }
    part = {"rows": ["LL-Ct"], "than": ["Naive AN"], "value": "train/seconds"}
    each = judged(rows, {"equivalent": part | {"margin": 5, "relative": True, "each": "data.train_fraction"}})
    assert [test.found.mean for test in each.tests] == pytest.approx([3, 2])
    assert each.verdict == REPRODUCED
    two = {"at": {"data.train_fraction": 1.0}, "than_at": {"data.train_fraction": 0.1}}
    claim = judged(rows, {"equivalent": part | two})
    assert claim.tests[0].found.mean == pytest.approx(104)
    share = "share of the training images"
    assert claim.tests[0].name.startswith(f"LL-Ct at {share} 100% − Naive AN at {share} 10%")


def test_a_time_per_epoch_does_not_depend_on_when_a_trial_ended():
    """The row ends after 6 of 12 epochs, in half of the time."""
    rows = {
        (name, None): [(1, 60.0, {"train/seconds": epochs * (10 + s / 99), "train/loss": [1.0] * epochs})] * 5
        for name, epochs, s in (("LL-Ct", 6, 1), ("Naive AN", 12, 0))
    }
    part = {"rows": ["LL-Ct"], "than": ["Naive AN"], "value": "train/seconds", "margin": 5, "relative": True}
    assert judged(rows, {"equivalent": part}).verdict == CONTRADICTED
    claim = judged(rows, {"equivalent": part | {"over_epochs": "per epoch"}})
    assert claim.verdict == REPRODUCED
    assert claim.tests[0].found.mean == pytest.approx(100 / 990)
    assert claim.tests[0].name == "LL-Ct − Naive AN, per epoch (training time (s)), in percent (within ± 5)"


def test_a_mean_over_the_epochs_has_those_with_a_value():
    """In epoch 1, which is selected, nothing is modified."""
    nan = float("nan")
    rows = {
        ("LL-R", None): [
            (
                1,
                1.0,
                {
                    "modifications/precision": {2: 60.0 + s, 3: 40.0},
                    "modifications/base_rate": [7.0, 7.0, 7.0],
                },
            )
            for s in SEEDS
        ]
    }
    part = {"rows": ["LL-R"], "value": "modifications/precision", "than_value": "modifications/base_rate"}
    selected = judged(rows, {"greater": part})
    assert (selected.verdict, selected.reason) == (NOT_RUN, "No modifications/precision of LL-R in claimed.")
    for first in ({}, {1: nan}):
        curves = [own["modifications/precision"] for _, _, own in rows["LL-R", None]]
        for curve in curves:
            curve.update(first)
        claim = judged(rows, {"greater": part | {"over_epochs": "mean"}})
        assert claim.verdict == REPRODUCED
        assert claim.tests[0].differences == pytest.approx({s: 50 + s / 2 - 7 for s in SEEDS})
        assert claim.tests[0].name.endswith("(%), mean over the epochs")
    rows["LL-R", None][0][2]["modifications/precision"] = {1: nan}
    never = judged(rows, {"greater": part | {"over_epochs": "mean"}})
    assert (never.verdict, never.reason) == (NOT_RUN, "No modifications/precision of LL-R in claimed.")


def test_only_these_are_taken_over_the_epochs():
    part = {"rows": ["LL-R"], "than": 50, "over_epochs": "median"}
    with pytest.raises(
        ClaimError, match="claim 1 of a_paper, greater: over_epochs is mean or per epoch; given is median"
    ):
        judged({("LL-R", None): CLEARLY_MORE}, {"greater": part})


@pytest.mark.parametrize(
    "dataset, draw, verdict",
    [("digit_scenes", "0", NOT_RUN), ("digit_scenes", "7", REPRODUCED), ("voc2007", "0", REPRODUCED)],
)
def test_a_sweep_of_the_draw_on_which_defaults_were_chosen_is_not_judged(dataset, draw, verdict):
    made = of_results({("SST", None): CLEARLY_MORE, ("SSGRL", None): NOTHING})
    made = replace(made, params=pd.DataFrame({"data.dataset": [dataset], "data.draw": [draw]}))
    parts = [{"greater": {"rows": ["SST"], "than": ["SSGRL"]}}]
    entry = {"text": "a claim", "source": "Table 1", "space": "claimed", "parts": parts}
    (claim,) = judging.judged({"a_paper": {"1": entry}}, lambda _: made, "claims")
    refused = "Sweep 5eed of claimed has scenes of data.draw 0, on which defaults were chosen."
    assert (claim.verdict, claim.reason) == (verdict, refused if verdict == NOT_RUN else "")


def test_a_part_can_have_several_metrics():
    rows = {
        ("SARB", None): [(1, 2.0, {"test/of1": 5.0 + s / 9}) for s in SEEDS],
        ("KGGR", None): [(1, 1.0, {"test/of1": 7.0})] * 5,
    }
    claim = judged(rows, {"greater": {"rows": ["SARB"], "than": ["KGGR"], "value": ["test/map", "test/of1"]}})
    assert [test.name for test in claim.tests] == ["SARB − KGGR", "SARB − KGGR (test OF1 (%))"]
    assert claim.verdict == CONTRADICTED


def test_a_trend_can_end_before_the_last_epoch():
    rising = [(1, 1.0, {"train/loss": [1 + 0.1 * seed, 2, 3 + 0.1 * seed, 1, 0, 0]}) for seed in range(5)]
    part = {"rows": ["Naive AN"], "value": "train/loss", "direction": "rises"}
    first, all_of_it = (judged({("Naive AN", None): rising}, {"trend": part | more}) for more in ({"until": 3}, {}))
    assert (first.verdict, all_of_it.verdict) == (REPRODUCED, CONTRADICTED)
    assert first.tests[0].found.mean == pytest.approx(1)


def test_a_setting_that_no_part_names_is_chosen_on_val_by_the_other_seeds():
    rows = at_delta({0.1: 1, 0.4: 5}) | {("Naive AN", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["LL-R"], "than": ["Naive AN"]}})
    assert claim.tests[0].found.mean == pytest.approx(5.2)


def test_a_sweep_that_lacks_a_trial_is_not_judged():
    for outcome, ending in ((None, "--profile claims --retry-failed"), ("missing", "--profile claims")):
        rows = {("SST", None): [*CLEARLY_MORE[:4], outcome], ("SSGRL", None): NOTHING}
        claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})
        assert claim.verdict == NOT_RUN
        assert "1 of 5 trials of SST" in claim.reason
        assert claim.command.endswith(ending)


@pytest.mark.parametrize("ours", [scores(*[3.0] * 5)[:2], scores(*[-3.0] * 5)[:2]])
def test_two_seeds_decide_nothing_however_alike_they_are(ours):
    rows = {("SST", None): ours, ("SSGRL", None): NOTHING[:2]}
    claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1, 2])
    assert min(claim.tests[0].p, claim.tests[0].against) == 0
    assert (claim.verdict, claim.p) == (UNDECIDED, 1.0)
    assert claim.reason == "n = 2: fewer than 3 seeds decide nothing."
    assert f"\n{claim.reason} More seeds: `python" in markdown([claim])


def test_three_seeds_can_decide():
    rows = {("SST", None): CLEARLY_MORE[:3], ("SSGRL", None): NOTHING[:3]}
    claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1, 2, 3])
    assert (claim.verdict, claim.reason) == (REPRODUCED, "")


def test_one_seed_decides_nothing():
    rows = {("SST", None): CLEARLY_MORE[:1], ("SSGRL", None): NOTHING[:1]}
    claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1])
    assert claim.verdict == UNDECIDED
    assert "seeds=[1, 2, 3, 4, 5, 6]" in claim.command


def test_one_seed_has_no_others_to_choose_for_it():
    rows = {key: of[:1] for key, of in (at_delta({0.1: 1, 0.4: 5}) | {("Naive AN", None): NOTHING}).items()}
    claim = judged(rows, {"greater": {"rows": ["LL-R"], "than": ["Naive AN"]}}, seeds=[1])
    assert (claim.verdict, claim.reason) == (NOT_RUN, "One seed cannot choose among the settings of LL-R in claimed.")


def test_claims_of_a_paper_are_corrected_for_their_number():
    rows = {("SST", None): scores(3.0, 1.0, 2.0, 0.5, 4.0), ("SSGRL", None): NOTHING}
    entry = {
        "text": "t",
        "source": "s",
        "space": "corrected",
        "parts": [{"greater": {"rows": ["SST"], "than": ["SSGRL"]}}],
    }
    never_run = entry | {"space": "never_run"}
    recorded = {"corrected": of_results(rows), "never_run": "There is no such experiment."}
    paper = {"1": entry, "2": entry, "3": entry, "4": never_run}
    claims = judging.judged({"paper": paper, "observations": {"5": entry}}, recorded.get, "claims")
    plain = claims[0].tests[0].p
    assert [claim.p for claim in claims[:3]] == pytest.approx([3 * plain] * 3)
    assert claims[3].p is None
    assert claims[4].p == plain  # an observation is none of the paper's claims
    assert "* paper: 3 of its 4 claims have been run; p is corrected for 3, that of an" in markdown(claims)
    assert [claim["of_claims"] for claim in json.loads(as_json(claims))] == [3] * 4 + [1]


@pytest.mark.parametrize(
    "part, message",
    [
        ({"better": {"rows": ["SST"], "than": ["SSGRL"]}}, "a part is one of greater"),
        ({"greater": {"rows": ["SST"], "then": ["SSGRL"]}}, "unknown 'then'; allowed are rows"),
        ({"greater": {"rows": ["SST"], "than": ["SSGRL"], "each": "data.knwon"}}, "no axis 'data.knwon'"),
        ({"greater": {"rows": ["SST"]}}, "SST in claimed is compared with nothing: give than or than_value"),
        ({"smoother": {"rows": ["SST"], "than": ["SSGRL"]}}, "claim 1 of a_paper, smoother: since must be given"),
    ],
)
def test_a_bad_entry_is_one_clear_error(part, message):
    with pytest.raises(ClaimError, match=message):
        judged({("SST", None): CLEARLY_MORE, ("SSGRL", None): NOTHING}, part)


def test_a_sweep_without_a_row_is_to_be_run_again_and_other_claims_are_judged_all_the_same():
    claim = judged({("SST", None): NOTHING, ("SSGRL", None): NOTHING}, {"greater": {"rows": ["SST"], "than": ["WAN"]}})
    assert (claim.verdict, claim.reason) == (NOT_RUN, "The sweep of claimed has no row 'WAN'; its rows are SST, SSGRL.")
    assert claim.command == "python -m sweeper run search_spaces/claimed.yaml --profile claims"


def test_markdown_shows_verdicts_intervals_and_what_to_run_next():
    rows = {("SST", None): UNCLEAR, ("SSGRL", None): NOTHING}
    text = markdown([judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})])
    assert "| 1 | a claim | **undecided** | 0.553 | digit_scenes |" in text
    assert "| test | mean difference | 95 % interval | n | p of the side seen, uncorrected |" in text
    assert "| SST − SSGRL | +0.60 | −1.97 … +3.17 | 5 | 0.553 |" in text
    assert "More seeds: `python -m sweeper run" in text


def test_a_contradicted_claim_has_the_p_of_its_opposite_corrected_for_all_tests():
    rows = {("SST", None): scores(-1.0, -2.0, -1.5, -3.0, -2.5), ("IST", None): UNCLEAR, ("SSGRL", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["SST", "IST"], "than": ["SSGRL"]}})
    opposite = claim.tests[0].against
    assert (claim.verdict, claim.p, claim.against) == (CONTRADICTED, 1.0, pytest.approx(2 * opposite))
    text = markdown([claim])
    assert f"| **contradicted** | {2 * opposite:.3f} (opposite) |" in text
    assert f"| SST − SSGRL | −2.00 | −2.98 … −1.02 | 5 | {opposite:.3f} |" in text


def test_json_has_null_for_what_is_not_finite():
    rows = {("SST", None): CLEARLY_MORE[:1], ("SSGRL", None): NOTHING[:1]}
    text = as_json([judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1])])
    (claim,) = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    found = claim["tests"][0]["found"]
    assert found["mean"] == pytest.approx(3.0)
    assert [found[key] for key in ("low", "high", "effect")] == [None] * 3


def test_the_command_line_says_by_its_exit_code_whether_a_claim_is_contradicted(monkeypatch, capsys):
    entry = {"text": "t", "source": "s", "space": "claimed", "parts": [{"greater": {"rows": ["B"], "than": ["A"]}}]}
    below = of_results({("A", None): NOTHING, ("B", None): CLEARLY_LESS})
    for paper, code in (("sst", 1), ("observations", 0)):
        claims = judging.judged({paper: {"1": entry}}, lambda _: below, "claims")
        monkeypatch.setattr(judging, "judge", lambda claims=claims, **_: claims)
        assert main(["claims", "--format", "json"]) == code
        assert [claim["verdict"] for claim in json.loads(capsys.readouterr().out)] == [CONTRADICTED]


@pytest.fixture(scope="module")
def recorded(store):
    """A sweep in MLflow whose rows are judged, differ in a history, failed and are missing."""
    name = f"claimed_{next(COUNT)}"
    curves = [fluctuating(0.4, 0.42, 0.41, 0.43, 0.4), fluctuating(0.1, 0.12, 0.09, 0.11, 0.1)]
    rows = {(row, None): [(v, v + i, own) for v, _, own in curve] for i, (row, curve) in enumerate(zip("AB", curves))}
    rows |= {("failed", None): [*CLEARLY_MORE[:4], None], ("missing", None): [*CLEARLY_MORE[:4], "missing"]}
    store.log(name, f"{name}5", rows, seeds=SEEDS, profile="claims")
    return name, rows


@pytest.mark.slow
def test_what_mlflow_holds_is_judged_like_what_was_logged(recorded, store, tmp_path):
    name, rows = recorded
    parts = [
        {"greater": {"rows": ["B"], "than": ["A"]}},
        {"smoother": {"rows": ["B"], "than": ["A"], "value": "train/loss", "since": 3}},
        {"greater": {"rows": ["failed"], "than": ["A"]}},
        {"greater": {"rows": ["missing"], "than": ["A"]}},
        {"greater": {"rows": ["Full label"], "than": ["Naive AN"]}},
    ]
    entries = {
        str(number): {"text": "t", "source": "s", "space": name, "parts": [part]} for number, part in enumerate(parts)
    }
    entries["4"] |= {"space": "ll_delta"}  # of which there are sweeps with other profiles alone
    file = tmp_path / "claims.yaml"
    file.write_text(json.dumps({"paper": entries}), "utf-8")
    found = judge(tracking_uri=store.uri, file=file)
    assert [claim.verdict for claim in found] == [REPRODUCED, REPRODUCED, NOT_RUN, NOT_RUN, NOT_RUN]
    made = replace(of_results(rows), sweep=f"{name}5")
    made.space["name"] = name
    expected = judging.judged({"paper": entries}, {name: made, "ll_delta": found[-1].reason}.get, "claims")
    assert found == expected
    assert found[-1].command == "python -m sweeper run search_spaces/ll_delta.yaml --profile claims"


@pytest.mark.slow
def test_the_projects_own_claims_are_not_run_where_there_are_no_sweeps_of_their_spaces(recorded, store, capsys):
    assert main(["claims", "--tracking-uri", store.uri, "--format", "json"]) == 0
    assert {claim["verdict"] for claim in json.loads(capsys.readouterr().out)} == {NOT_RUN}


@pytest.mark.slow
def test_without_a_record_or_a_sweep_of_the_profile_nothing_is_judged(recorded, store, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")  # they take seconds
    for uri, profile, message in (
        (f"sqlite:///{tmp_path}/none.db", "claims", "there is no MLflow database"),
        ("http://127.0.0.1:9", "claims", "does not answer as it should"),  # a port on which nobody listens
        (store.uri, "nonsense", "no sweep with profile 'nonsense'"),
    ):
        assert main(["claims", "--tracking-uri", uri, "--profile", profile]) == 2
        output = capsys.readouterr()
        assert output.out == ""
        assert message in output.err
    assert "there are sweeps with claims, default" in output.err


def measured_of(part):
    """The metrics of a part, and the rows of which it needs them."""
    ((kind, what),) = part.items()
    metrics = [*several(what.get("value")), *several(what.get("than_value"))]
    rows = [*what["rows"], *(row for row in several(what.get("than")) if isinstance(row, str))]
    return kind, metrics, rows


@pytest.mark.parametrize("space", sorted({entry["space"] for of in CLAIMS.values() for entry in of.values()}))
def test_every_claim_finds_what_it_compares_in_the_claims_profile_of_its_space(space):
    """Rows, axes, their values, and what is measured: with made-up results, each is judged."""
    loaded = load_space(SPACES / f"{space}.yaml", "claims", ["seeds=[1, 2]"])
    claims = {
        paper: {number: entry for number, entry in of.items() if entry["space"] == space}
        for paper, of in CLAIMS.items()
    }
    known = {*TABLE_VALUES, *Known({trial.config.method for trial in loaded.trials}).curves()}
    own = {}
    for entry in (entry for of in claims.values() for entry in of.values()):
        for kind, metrics, rows in map(measured_of, entry["parts"]):
            metrics = metrics or [entry.get("value", "test/map")]
            assert set(metrics) <= known
            for group in {metric.partition("/")[0] for metric in metrics} & set(DIAGNOSTICS):
                assert all(getattr(t.config.diagnostics, group) for t in loaded.trials if t.variant in rows)
            if kind == "most_classes":
                assert all(trial.config.diagnostics.per_class for trial in loaded.trials if trial.variant in rows)
                metrics = [f"{metric}/{name}" for metric in metrics for name in ("red", "blue")]
            own |= dict.fromkeys(metrics)
    random = np.random.default_rng(0)
    outcomes = [(*random.random(2), {metric: random.random() + 1 for metric in own}) for _ in loaded.trials]
    made = record(loaded.resolved(), outcomes)
    for curves in made.client.of_runs.values():
        # The windows of an epoch are recorded one by one.
        recorded = ["train/loss", *(metric.replace("windows", "window_1") for metric in own)]
        curves.update({metric: random.random(loaded.trials[0].config.train.epochs).tolist() for metric in recorded})
    for claim in judging.judged(claims, lambda _: made, "claims"):
        assert (claim.tests != (), claim.reason) == (True, "n = 2: fewer than 3 seeds decide nothing."), claim.number
        assert all(test.found.n == 2 for test in claim.tests)
