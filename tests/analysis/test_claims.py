"""Claims judged on hand-made sweeps whose verdicts are known."""

import itertools
import json
import textwrap

import pytest

from analysis.claims.judging import CONTRADICTED, FILE, NOT_RUN, REPRODUCED, UNDECIDED, judge
from analysis.claims.kinds import KINDS, ClaimError
from analysis.claims.printing import as_json, markdown
from analysis.cli import main

from .conftest import Axes

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def judged(store, tmp_path_factory):
    """Judge one claim of these parts on a sweep with these rows."""

    def run(results, *parts, seeds=SEEDS, **more):
        name = f"claimed_{next(COUNT)}"
        store.log(name, f"{name}5", results, seeds=seeds, profile="claims")
        file = tmp_path_factory.mktemp("claims") / "claims.yaml"
        entry = {"text": "a claim", "source": "Table 1", "space": name, "parts": list(parts)} | more
        file.write_text(json.dumps({"a_paper": {"1": entry}}), "utf-8")
        return judge(tracking_uri=store.uri, file=file)[0]

    return run


@pytest.mark.parametrize(
    "ours, verdict", [(CLEARLY_MORE, REPRODUCED), (CLEARLY_LESS, CONTRADICTED), (UNCLEAR, UNDECIDED)]
)
def test_greater_is_judged_seed_by_seed(judged, ours, verdict):
    claim = judged({("SST", None): ours, ("SSGRL", None): NOTHING}, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})
    assert claim.verdict == verdict
    (test,) = claim.tests
    assert test.name == "SST − SSGRL"
    expected = {seed: test - base for seed, (base, test) in zip(SEEDS, ours, strict=True)}
    assert test.differences == pytest.approx(expected)


def test_a_compound_claim_is_reproduced_only_if_all_its_parts_are(judged):
    rows = {("SST", None): CLEARLY_MORE, ("IST", None): UNCLEAR, ("SSGRL", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["SST", "IST"], "than": ["SSGRL"]}})
    assert claim.verdict == UNDECIDED
    rows["IST", None] = CLEARLY_LESS
    claim = judged(rows, {"greater": {"rows": ["SST", "IST"], "than": ["SSGRL"]}})
    assert claim.verdict == CONTRADICTED


@pytest.mark.parametrize("ours, verdict", [(HARDLY, REPRODUCED), (CLEARLY_MORE, CONTRADICTED), (UNCLEAR, UNDECIDED)])
def test_equivalent_means_within_the_margin(judged, ours, verdict):
    rows = {("w/ SAM", None): ours, ("SST", None): NOTHING}
    assert judged(rows, {"equivalent": {"rows": ["w/ SAM"], "than": ["SST"]}}).verdict == verdict


def test_a_wider_margin_allows_more(judged):
    rows = {("w/ SAM", None): CLEARLY_MORE, ("SST", None): NOTHING}
    assert judged(rows, {"equivalent": {"rows": ["w/ SAM"], "than": ["SST"], "margin": 5}}).verdict == REPRODUCED


@pytest.mark.parametrize("ours, verdict", [(HARDLY, REPRODUCED), (CLEARLY_LESS, CONTRADICTED), (UNCLEAR, UNDECIDED)])
def test_with_a_margin_greater_means_not_that_much_below(judged, ours, verdict):
    rows = {("learned", None): ours, ("fixed", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["learned"], "than": ["fixed"], "margin": 0.5}})
    assert claim.verdict == verdict
    assert claim.tests[0].name == "learned − fixed (above −0.5)"
    assert claim.tests[0].found.mean == pytest.approx(
        sum(o - n for (_, o), (_, n) in zip(ours, NOTHING, strict=True)) / 5
    )


def test_a_row_can_be_compared_with_a_number(judged):
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
def test_an_inner_optimum_beats_both_ends(judged, values, verdict):
    claim = judged(at_delta(values), {"inner_optimum": {"rows": ["LL-R"], "axis": "delta_rel"}})
    assert claim.verdict == verdict
    assert [test.name for test in claim.tests] == ["LL-R: best inner Δrel − 0.1", "LL-R: best inner Δrel − 3.2"]


def test_an_inner_optimum_needs_a_value_inside(judged):
    claim = judged(at_delta({0.1: 1, 0.4: 5}), {"inner_optimum": {"rows": ["LL-R"], "axis": "delta_rel"}})
    assert claim.verdict == NOT_RUN
    assert "2 values of delta_rel" in claim.reason


def test_an_inner_optimum_can_be_sought_among_some_of_the_values(judged):
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


def test_an_interaction_is_a_difference_of_paired_differences(judged):
    rows = by_known(SST={0.1: 4.0, 0.9: 1.0}, SSGRL={0.1: 0.0, 0.9: 0.0})
    part = {"rows": ["SST"], "than": ["SSGRL"], "axis": "data.known", "larger_at": [0.1], "smaller_at": [0.9]}
    claim = judged(rows, {"interaction": part})
    assert claim.verdict == REPRODUCED
    assert claim.tests[0].found.mean == pytest.approx(3.0)
    turned = part | {"larger_at": [0.9], "smaller_at": [0.1]}
    assert judged(rows, {"interaction": turned}).verdict == CONTRADICTED


def test_each_value_of_an_axis_is_a_test_of_its_own_and_a_mean_over_it_is_one(judged):
    rows = by_known(SST={0.1: 4.0, 0.9: -1.0}, SSGRL={0.1: 0.0, 0.9: 0.0})
    each = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"], "each": "data.known"}})
    assert [test.found.mean for test in each.tests] == pytest.approx([4.0, -1.0])
    mean = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"], "mean_over": "data.known"}})
    assert [test.found.mean for test in mean.tests] == pytest.approx([1.5])
    at = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"], "at": {"data.known": 0.9}}})
    assert [test.found.mean for test in at.tests] == pytest.approx([-1.0])


def test_a_trend_is_the_slope_of_each_seed_over_the_epochs(judged):
    falling = [(1, 1.0, {"modifications/precision": [90 - seed, 80, 70 + seed]}) for seed in range(5)]
    part = {"rows": ["LL-R"], "value": "modifications/precision"}
    claim = judged({("LL-R", None): falling}, {"trend": part | {"direction": "falls"}})
    assert claim.verdict == REPRODUCED
    assert list(claim.tests[0].differences.values()) == pytest.approx([10, 9, 8, 7, 6])
    assert judged({("LL-R", None): falling}, {"trend": part | {"direction": "rises"}}).verdict == CONTRADICTED


def test_smoother_compares_second_differences_from_an_epoch_on(judged):
    # Before the third epoch the smooth one is the rougher.
    smooth = [(1, 1.0, {"train/loss": [9, 1, 4, 3.0, 2, 1]}) for _ in range(5)]
    rough = [(1, 1.0, {"train/loss": [5, 5, 4, 3.5 + 0.1 * seed, 2, 1]}) for seed in range(5)]
    rows = {("ILRB + PLRB", None): smooth, ("ILRB only", None): rough}
    part = {"value": "train/loss", "since": 3}
    claim = judged(rows, {"smoother": part | {"rows": ["ILRB + PLRB"], "than": ["ILRB only"]}})
    assert claim.verdict == REPRODUCED
    # Second differences of 4, 3.5, 2, 1 are -1 and 0.5.
    assert claim.tests[0].differences[1] == pytest.approx(100 * 0.75 / 2.625)
    turned = judged(rows, {"smoother": part | {"rows": ["ILRB only"], "than": ["ILRB + PLRB"]}})
    assert turned.verdict == CONTRADICTED


def test_a_setting_that_no_part_names_is_chosen_on_val_by_the_other_seeds(judged):
    rows = at_delta({0.1: 1, 0.4: 5}) | {("Naive AN", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["LL-R"], "than": ["Naive AN"]}})
    assert claim.tests[0].found.mean == pytest.approx(5.2)


def test_a_sweep_that_lacks_a_trial_is_not_judged(judged):
    for outcome, ending in ((None, "--profile claims --retry-failed"), ("missing", "--profile claims")):
        rows = {("SST", None): [*CLEARLY_MORE[:4], outcome], ("SSGRL", None): NOTHING}
        claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})
        assert claim.verdict == NOT_RUN
        assert "1 of 5 trials of SST" in claim.reason
        assert claim.command.endswith(ending)


@pytest.mark.parametrize("ours", [scores(*[3.0] * 5)[:2], scores(*[-3.0] * 5)[:2]])
def test_two_seeds_decide_nothing_however_alike_they_are(judged, ours):
    rows = {("SST", None): ours, ("SSGRL", None): NOTHING[:2]}
    claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1, 2])
    assert min(claim.tests[0].p, claim.tests[0].against) == 0
    assert (claim.verdict, claim.p) == (UNDECIDED, 1.0)
    assert claim.reason == "n = 2: fewer than 3 seeds decide nothing."
    assert f"\n{claim.reason} More seeds: `python" in markdown([claim])


def test_three_seeds_can_decide(judged):
    rows = {("SST", None): CLEARLY_MORE[:3], ("SSGRL", None): NOTHING[:3]}
    claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1, 2, 3])
    assert (claim.verdict, claim.reason) == (REPRODUCED, "")


def test_one_seed_decides_nothing(judged):
    rows = {("SST", None): CLEARLY_MORE[:1], ("SSGRL", None): NOTHING[:1]}
    claim = judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1])
    assert claim.verdict == UNDECIDED
    assert "seeds=[1, 2, 3, 4, 5, 6]" in claim.command


def test_claims_of_a_paper_are_corrected_for_their_number(store, tmp_path):
    rows = {("SST", None): scores(3.0, 1.0, 2.0, 0.5, 4.0), ("SSGRL", None): NOTHING}
    store.log("corrected", "c0", rows, seeds=SEEDS, profile="claims")
    entry = {
        "text": "t",
        "source": "s",
        "space": "corrected",
        "parts": [{"greater": {"rows": ["SST"], "than": ["SSGRL"]}}],
    }
    file = tmp_path / "claims.yaml"
    never_run = entry | {"space": "never_run"}
    file.write_text(json.dumps({"paper": {"1": entry, "2": entry, "3": entry, "4": never_run}}), "utf-8")
    claims = judge(tracking_uri=store.uri, file=file)
    plain = claims[0].tests[0].p
    assert [claim.p for claim in claims[:3]] == pytest.approx([3 * plain] * 3)
    assert claims[3].p is None
    assert "* paper: 3 of its 4 claims have been run; p is corrected for 3, that of an" in markdown(claims)
    assert {claim["of_claims"] for claim in json.loads(as_json(claims))} == {3}


def test_only_sweeps_of_the_profile_count(judged, store, tmp_path):
    judged({("SST", None): NOTHING, ("SSGRL", None): NOTHING}, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})
    file = tmp_path / "claims.yaml"
    part = {"greater": {"rows": ["Full label"], "than": ["Naive AN"]}}
    entry = {"text": "t", "source": "s", "space": "ll_delta", "parts": [part]}
    file.write_text(json.dumps({"paper": {"1": entry}}), "utf-8")
    claim = judge(tracking_uri=store.uri, file=file)[0]
    assert claim.verdict == NOT_RUN
    assert claim.command == "python -m sweeper run search_spaces/ll_delta.yaml --profile claims"


@pytest.mark.parametrize(
    "part, message",
    [
        ({"better": {"rows": ["SST"], "than": ["SSGRL"]}}, "a part is one of greater"),
        ({"greater": {"rows": ["SST"], "then": ["SSGRL"]}}, "unknown 'then'; allowed are rows"),
        ({"greater": {"rows": ["SST"], "than": ["SSGRL"], "each": "data.knwon"}}, "no axis 'data.knwon'"),
        ({"greater": {"rows": ["SST"], "than": ["SSGLR"]}}, "has no row 'SSGLR'; its rows are SST, SSGRL"),
    ],
)
def test_a_bad_entry_is_one_clear_error(judged, part, message):
    with pytest.raises(ClaimError, match=message):
        judged({("SST", None): CLEARLY_MORE, ("SSGRL", None): NOTHING}, part)


def test_markdown_shows_verdicts_intervals_and_what_to_run_next(judged):
    rows = {("SST", None): UNCLEAR, ("SSGRL", None): NOTHING}
    text = markdown([judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})])
    assert "| 1 | a claim | **undecided** | 0.553 | digit_scenes |" in text
    assert "| test | mean difference | 95 % interval | n | p of the side seen, uncorrected |" in text
    assert "| SST − SSGRL | +0.60 | −1.97 … +3.17 | 5 | 0.553 |" in text
    assert "More seeds: `python -m sweeper run" in text


def test_a_contradicted_claim_has_the_p_of_its_opposite_corrected_for_all_tests(judged):
    rows = {("SST", None): scores(-1.0, -2.0, -1.5, -3.0, -2.5), ("IST", None): UNCLEAR, ("SSGRL", None): NOTHING}
    claim = judged(rows, {"greater": {"rows": ["SST", "IST"], "than": ["SSGRL"]}})
    opposite = claim.tests[0].against
    assert (claim.verdict, claim.p, claim.against) == (CONTRADICTED, 1.0, pytest.approx(2 * opposite))
    text = markdown([claim])
    assert f"| **contradicted** | {2 * opposite:.3f} (opposite) |" in text
    assert f"| SST − SSGRL | −2.00 | −2.98 … −1.02 | 5 | {opposite:.3f} |" in text


def test_json_has_null_for_what_is_not_finite(judged):
    rows = {("SST", None): CLEARLY_MORE[:1], ("SSGRL", None): NOTHING[:1]}
    text = as_json([judged(rows, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}}, seeds=[1])])
    (claim,) = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    found = claim["tests"][0]["found"]
    assert found["mean"] == pytest.approx(3.0)
    assert [found[key] for key in ("low", "high", "effect")] == [None] * 3


def test_the_command_line_says_by_its_exit_code_whether_a_claim_is_contradicted(judged, store, capsys):
    judged({("SST", None): NOTHING, ("SSGRL", None): NOTHING}, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})
    assert main(["claims", "--tracking-uri", store.uri, "--format", "json"]) == 0
    assert {claim["verdict"] for claim in json.loads(capsys.readouterr().out)} == {NOT_RUN}


def test_without_a_record_or_a_sweep_of_the_profile_nothing_is_judged(judged, store, tmp_path, capsys):
    judged({("SST", None): NOTHING, ("SSGRL", None): NOTHING}, {"greater": {"rows": ["SST"], "than": ["SSGRL"]}})
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


def test_the_file_of_claims_is_whole():
    from ruamel.yaml import YAML

    papers = YAML(typ="safe").load(FILE.read_text("utf-8"))
    for entries in papers.values():
        for number, entry in entries.items():
            assert textwrap.dedent(entry["text"]) and entry["parts"], number
            assert all(len(part) == 1 and set(part) <= set(KINDS) for part in entry["parts"]), number
