"""Runs that may not stand in one table, and those that may."""

from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.claims import judging
from analysis.cli import main
from analysis.reading import comparability
from analysis.reading.records import RecordError
from sweeper import load_space
from sweeper.spaces.yaml_file import read_yaml

from .conftest import Axes

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
ROWS = {"A": {"data.labels": "full"}, "B": {"data.labels": "full"}}


def _found(runs, axes=(), variants=ROWS, **space):
    """Differences between runs given as (variant, values on the axes, params, versions)."""
    trials, params, versions = [], {}, {}
    for number, (variant, point, logged, *made_by) in enumerate(runs):
        trials.append({"trial": str(number), "variant": variant} | {axis: point.get(axis) for axis in axes})
        params[str(number)] = logged
        versions[str(number)] = dict.fromkeys(comparability.VERSIONS) | (made_by[0] if made_by else {})
    frames = (pd.DataFrame.from_dict(rows, orient="index", dtype=object) for rows in (params, versions))
    return comparability.differences({"variants": variants, **space}, pd.DataFrame(trials), *frames)


def test_rows_may_differ_in_what_they_state_and_in_how_they_are_tuned():
    states = {"A": {"data.labels": "full", "train.epochs": 6}, "B": {"data.labels": "single_positive"}}
    runs = [
        ("A", {}, {"data.labels": "full", "train.epochs": "6", "train.learning_rate": "0.1", "theta": "1"}),
        ("B", {}, {"data.labels": "single_positive", "train.epochs": "12", "train.learning_rate": "0.2"}),
    ]
    assert _found(runs, variants=states) == {}


@pytest.mark.parametrize("setting", ["data.labels", "data.dataset", "data.val_labels", "train.epochs"])
def test_data_labels_and_epochs_differ_between_rows_only_where_a_row_states_it(setting):
    runs = [("A", {}, {setting: "one"}), ("B", {}, {setting: "other"})]
    assert _found(runs) == {setting: f"{setting} is one (A), other (B)"}


def test_nothing_differs_between_the_seeds_of_a_cell_but_what_follows_the_seed():
    of_seed = {"seed": "1", "data.draw": "1", "data.mask_seed": "1"}
    first, second = of_seed | {"theta": "0.5"}, dict.fromkeys(of_seed, "2") | {"theta": "0.5"}
    assert _found([("A", {}, first), ("A", {}, second)]) == {}
    assert _found([("A", {}, first), ("A", {}, second | {"theta": "0.6"})]) == {"theta": "theta is 0.5 (A), 0.6 (A)"}


def test_the_record_of_a_space_says_which_settings_follow_the_seed():
    first, second = ({"seed": seed, "data.draw": seed, "fold": seed} for seed in "12")
    runs = [("A", {}, first), ("A", {}, second)]
    assert _found(runs, follow_seed=["data.draw", "fold"]) == {}
    assert _found(runs, follow_seed=["fold"]) == {"data.draw": "data.draw is 1 (A), 2 (A)"}
    assert _found(runs) == {"fold": "fold is 1 (A), 2 (A)"}, "older records do not say"


def test_what_is_on_an_axis_differs_and_so_does_what_is_tuned_for_its_values():
    runs = [
        ("A", {"data.dataset": "coco", "theta": 1}, {"data.dataset": "coco", "theta": "1", "train.epochs": "20"}),
        ("A", {"data.dataset": "voc", "theta": 2}, {"data.dataset": "voc", "theta": "2", "train.epochs": "10"}),
        ("B", {"data.dataset": "coco"}, {"data.dataset": "coco", "train.epochs": "20"}),
        ("B", {"data.dataset": "voc"}, {"data.dataset": "voc", "train.epochs": "10"}),
    ]
    assert _found(runs, axes=("data.dataset", "theta")) == {}
    runs[3] = ("B", {"data.dataset": "voc"}, {"data.dataset": "voc", "train.epochs": "20"})
    assert _found(runs, axes=("data.dataset", "theta")) == {"train.epochs": "train.epochs is 20 (A, B), 10 (A)"}


@pytest.mark.parametrize("version", comparability.VERSIONS)
def test_code_and_platform_are_one_where_they_are_recorded(version):
    runs = [("A", {}, {"x": "1"}, {version: "old"}), ("B", {}, {"x": "1"}, {version: "new"}), ("B", {}, {"x": "1"})]
    assert _found(runs) == {version: f"{version} is old (A), new (B)"}
    assert _found(runs[1:]) == {}  # one says nothing


@pytest.fixture(scope="module")
def mixed(store):
    """A space two of whose rows have other epochs and were trained by other code, which it does not say."""
    results = {(row, Axes({"delta_rel": 1.0})): [(1, 60.0), (1, 61.0)] for row in ("A", "B")}
    settings = {"A": {"train.epochs": 12}, "B": {"train.epochs": 6}}
    tags = {"A": {"sweeper.code": "0ld"}, "B": {"sweeper.code": "4e3"}}
    store.log("mixed", "31ced", results, seeds=[1, 2], of_rows=settings, tags_of_rows=tags, profile="claims")
    return store


def test_a_table_of_mixed_runs_is_refused_and_says_why_and_what_allows_it(mixed, capsys):
    assert main(["table", "mixed", "--tracking-uri", mixed.uri]) == 2
    said = capsys.readouterr().err
    assert "neither a row, a column nor a seed: train.epochs is 12 (A), 6 (B); code is 0ld (A), 4e3 (B)." in said
    assert said.strip().endswith("--allow train.epochs --allow code")
    assert main(["table", "mixed", "--tracking-uri", mixed.uri, "--allow", "train.epochs"]) == 2
    said = capsys.readouterr().err
    assert "train.epochs is" not in said and "code is 0ld (A), 4e3 (B)" in said


def test_what_is_allowed_is_said_in_the_caption(mixed):
    table = analysis.table("mixed", tracking_uri=mixed.uri, allow=["train.epochs", "code"])
    assert "Mixed, as was allowed: train.epochs is 12 (A), 6 (B)." in table.caption
    assert "Mixed, as was allowed: code is 0ld (A), 4e3 (B)." in table.caption
    assert table.cells["A", "1"].value == 60.5


def test_leave_to_mix_what_there_is_not_is_an_error_that_names_the_nearest(mixed):
    with pytest.raises(RecordError, match="no setting 'train.epoch' that could differ; the nearest are train.epochs"):
        analysis.table("mixed", tracking_uri=mixed.uri, allow=["train.epoch"])


def test_claims_are_not_judged_on_mixed_runs(mixed, tmp_path):
    part = "{greater: {rows: [A], than: [B]}}"
    file = tmp_path / "claims.yaml"
    file.write_text(f"paper: {{'1': {{text: t, source: s, space: mixed, parts: [{part}]}}}}")
    (claim,) = judging.judge(tracking_uri=mixed.uri, file=file)
    assert claim.verdict == judging.NOT_RUN
    assert "train.epochs is 12 (A), 6 (B)" in claim.reason


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_no_profile_of_our_own_spaces_mixes(path):
    profiles = read_yaml(path).value.get("profiles")
    for profile in [None, *(profiles.value if profiles else ())]:
        space = load_space(path, profile, ["seeds=[1, 2]"])
        runs = [
            (trial.variant, trial.axes, {name: str(value) for name, value in trial.config.flat().items()})
            for trial in space.trials
        ]
        axes = tuple(dict.fromkeys(axis for trial in space.trials for axis in trial.axes))
        assert _found(runs, axes, space.resolved()["variants"]) == {}, profile
