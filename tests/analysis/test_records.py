"""What is read back from MLflow."""

import pytest

from analysis.reading import records
from analysis.reading.records import RecordError


@pytest.fixture(scope="module")
def record(store):
    return records.load("ll_delta", tracking_uri=store.uri)


def test_the_newest_sweep_is_read_unless_another_is_named(store, record):
    assert record.sweep == "ae4f"
    assert records.load("ll_delta", tracking_uri=store.uri, sweep="01").sweep == "01der"


def test_a_later_smoke_run_is_only_read_where_it_is_asked_for_or_there_is_no_other(store):
    results = {("A", None): [(1, 60.0)] * 3}
    store.log("looked_at", "500c", results, started=1_000, profile="smoke")
    assert records.load("looked_at", tracking_uri=store.uri).sweep == "500c"
    store.log("looked_at", "de7a", results, started=2_000)
    store.log("looked_at", "501c", results, started=3_000, profile="smoke")
    assert records.load("looked_at", tracking_uri=store.uri).sweep == "de7a"
    assert records.load("looked_at", tracking_uri=store.uri, profile="smoke").sweep == "501c"
    assert records.load("looked_at", tracking_uri=store.uri, sweep="500").sweep == "500c"


def test_a_prefix_of_several_sweeps_or_of_none_is_refused_with_the_hashes(store):
    with pytest.raises(RecordError, match=r"several sweeps .* '0'; newest first: 0ld, 01der"):
        records.load("ll_delta", tracking_uri=store.uri, sweep="0")
    with pytest.raises(RecordError, match=r"no sweep .* 'f'; newest first: ae4f, 0ld, 01der"):
        records.load("ll_delta", tracking_uri=store.uri, sweep="f")


def test_every_expected_trial_is_a_row_and_the_missing_say_so(record):
    assert len(record.trials) == 8 * 3
    assert record.trials["status"].value_counts().to_dict() == {"FINISHED": 19, "FAILED": 3, "MISSING": 2}
    assert record.trials.query("status == 'MISSING'")[["run_id", "test/map"]].isna().all(axis=None)
    assert set(record.trials.query("status == 'FAILED'")["failure"]) == {"loss is NaN in epoch 2"}


def test_a_variant_without_the_axis_has_no_value_there_and_a_null_param_is_none(record):
    assert record.trials.query("variant == 'Naive AN'")["delta_rel"].isna().all()
    naive = record.trials.query("variant == 'Naive AN'")["trial"]
    assert record.params.loc[naive, "delta_rel"].isna().all()
    assert record.params["data.dataset"].eq("digit_scenes").all()


def test_a_trial_run_again_after_a_failure_counts_once_and_as_finished(store):
    results = {("Naive AN", None): [(60, 60.0), (60, 61.0), None]}
    store.log("again", "a9a1", results, started=1_000)
    store.log("again", "a9a1", {("Naive AN", None): ["missing", (60, 63.0), (60, 62.0)]}, started=2_000)
    store.log("again", "a9a1", {("Naive AN", None): [None, "missing", "missing"]}, started=3_000)
    trials = records.load("again", tracking_uri=store.uri).trials
    assert trials["test/map"].to_list() == [60.0, 63.0, 62.0]  # of two that have finished the newest
    assert set(trials["status"]) == {"FINISHED"}


def test_histories_have_one_row_per_epoch_of_each_finished_trial(record):
    frame = records.histories(record, "epoch/test/map")
    assert len(frame) == 19 * 2
    first = frame.query("variant == 'LL-R' and delta_rel == 0.4 and seed == 1")
    assert first[["epoch", "value"]].to_numpy().tolist() == [[1, 67.0], [2, 68.0]]
