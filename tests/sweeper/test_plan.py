"""A plan counts what will run before anything runs: shared epochs, duplicates, time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from methods.cache.store import Store
from sweeper.planning.costs import cost_key, remember_costs
from sweeper.planning.plan import COSINE, plan, slots_here
from sweeper.planning.stored import STATE, TRAINING, stored_prefix
from sweeper.spaces.reading import load_space
from sweeper.units import duration, size

LL_DELTA = Path(__file__).parents[2] / "search_spaces" / "ll_delta.yaml"
UNTIMED = "from a reference machine; better after the first run"


@pytest.fixture(autouse=True)
def _empty_store(tmp_path, monkeypatch):
    monkeypatch.setenv("SWEEPER_STORE", str(tmp_path / "store"))


@pytest.fixture
def planned(tmp_path):
    """The plan of a space given as text, on a machine that has timed nothing yet."""

    def of(text: str, *sets: str):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return plan(load_space(path, sets=sets), folder=tmp_path)

    return of


def epochs(planned) -> tuple[int, int]:
    return planned.naive_epochs, planned.unique_epochs


def test_large_loss_variants_share_epoch_1_with_naive_an_of_their_seed(tmp_path):
    planned = plan(load_space(LL_DELTA), folder=tmp_path)
    # Per seed: Full label, Naive AN, and LL-R, LL-Ct, LL-Cp at 4 values of delta_rel; 12 epochs each.
    assert len(planned.space.trials) == 3 * (1 + 1 + 3 * 4) == 42
    assert planned.naive_epochs == 42 * 12 == 504
    # The 12 trials of the LL methods train 11 epochs of their own: in epoch 1 nothing is rejected or corrected yet.
    assert planned.unique_epochs == 3 * (12 + 12 + 12 * 11) == 468
    assert planned.unique_trials == 42
    keys = {trial.title: planned.keys[trial.id] for trial in planned.space.trials}
    for title, chain in keys.items():
        assert len(chain) == 13
        if title.startswith("LL"):
            naive = keys[f"Naive AN {title.split()[-1]}"]
            assert chain[:2] == naive[:2]
            assert not set(chain[2:]) & set(naive)
    assert len({chain[0] for chain in keys.values()}) == 6  # two label regimes, three seeds


def test_two_names_of_one_computation_are_two_trials_of_which_one_is_different(planned):
    text = """
    variants:
      LL-Ct: {method: large_loss, scheme: correct_temporary}
      LL-Cp as released: {method: large_loss, scheme: correct_permanent, permanent: release_2022_07}
      LL-Cp: {method: large_loss, scheme: correct_permanent}
    train: {epochs: 3}
    seeds: [1, 2]
    """
    counted = planned(text)
    assert (len(counted.space.trials), counted.unique_trials) == (6, 4)
    # Per seed: epoch 1 of all three is one; LL-Ct and its double share 2 more; LL-Cp has 2 of its own.
    assert epochs(counted) == (18, 2 * (1 + 2 + 2))
    by_title = {trial.title: trial for trial in counted.space.trials}
    temporary, released = by_title["LL-Ct seed=1"], by_title["LL-Cp as released seed=1"]
    assert temporary.id != released.id
    assert counted.keys[temporary.id] == counted.keys[released.id]


def test_other_metrics_of_the_same_scores_are_no_other_computation_but_other_images_are(planned):
    text = "variants: {A: {method: assume_negative}}\naxes: {AXIS}\nseeds: [1]"
    metrics = planned(text.replace("AXIS", "data.val_labels: [clean, observed]"))
    assert (len(metrics.space.trials), metrics.unique_trials) == (2, 2)
    assert epochs(metrics) == (24, 12)
    images = planned(text.replace("AXIS", "data.test_images: [8, 16]"))
    assert len({chain[-1] for chain in images.keys.values()}) == 1
    assert epochs(images) == (24, 24)


@pytest.mark.parametrize(
    ("schedule", "unique"),
    [
        ("schedule: constant", 10),
        ("schedule: step, step_every: 2", 10),
        ("schedule: cosine", 4 + 6 + 10 - 2),  # in epoch 1 the rate does not depend on the length yet
    ],
)
def test_longer_runs_share_the_shorter_ones_unless_the_length_is_in_the_learning_rates_which_is_said(
    planned, schedule, unique
):
    runs = "variants: {A: {method: assume_negative}}\naxes: {train.epochs: [4, 6, 10]}\nseeds: [1]\n"
    counted = planned(runs + f"train: {{{schedule}}}")
    assert epochs(counted) == (20, unique)
    assert (COSINE in counted.as_text().splitlines()) == (schedule == "schedule: cosine")


def test_nothing_is_shared_between_seeds(planned):
    counted = planned("variants: {A: {method: assume_negative}}\ntrain: {epochs: 2}\nseeds: [1, 2, 3]")
    assert epochs(counted) == (6, 6)


def test_resources_change_no_key(planned):
    text = "variants: {A: {method: assume_negative}}\nseeds: [1]"
    assert planned(text).keys == planned(text, "resources.cpu=2").keys


def test_the_text_names_every_variant_with_its_trials_and_what_is_swept(tmp_path):
    counted = plan(load_space(LL_DELTA), max_concurrent=1, folder=tmp_path)
    text = counted.as_text()
    assert text.splitlines() == [
        "Large Loss Matters: how many large losses to reject or correct",
        "space ll_delta, profile default, seeds 1, 2, 3",
        "  Full label    3 trials",
        "  Naive AN      3 trials",
        "  LL-R         12 trials  delta_rel ∈ {0.1, 0.3, 1.0, 3.0}",
        "  LL-Ct        12 trials  delta_rel ∈ {0.1, 0.3, 1.0, 3.0}",
        "  LL-Cp        12 trials  delta_rel ∈ {0.1, 0.3, 1.0, 3.0}",
        "42 trials (42 different), 504 epochs, of which 36 repeat another one of this sweep and 0 are stored",
        COSINE,
        f"estimate: {duration(counted.estimate_seconds)} in 1 slot, {size(counted.storage_bytes)} in the store "
        f"({UNTIMED})",
    ]
    assert all(variant in text for variant in counted.space.variants)


def test_an_estimate_uses_the_epochs_run_here_when_all_kinds_of_trials_are(tmp_path):
    space = load_space(LL_DELTA, "smoke")
    before = plan(space, max_concurrent=1, folder=tmp_path)
    assert before.estimate_basis == UNTIMED
    kinds = {cost_key(trial.config) for trial in space.trials}
    assert len(kinds) == 4  # assume_negative, and the three schemes of large_loss

    remember_costs({kind: [100.0, 2.0, 1.0] for kind in sorted(kinds)[1:]}, {}, tmp_path)
    assert plan(space, max_concurrent=1, folder=tmp_path).estimate_basis == UNTIMED
    remember_costs({sorted(kinds)[0]: [2.0]}, {}, tmp_path)
    after = plan(space, max_concurrent=1, folder=tmp_path)
    assert after.estimate_basis == "from epochs run here"
    assert after.estimate_seconds == pytest.approx(2.0 * after.unique_epochs)  # the medians, for what will be trained


def test_an_estimate_is_divided_by_the_slots_and_by_no_more_than_the_trials(planned, tmp_path):
    space = planned("variants: {A: {method: assume_negative}}\nseeds: [1, 2]\nresources: {cpu: 0.01}").space
    one, two, many = (plan(space, max_concurrent=n, folder=tmp_path).estimate_seconds for n in (1, 2, 50))
    assert two == many == pytest.approx(one / 2)


def test_unreadable_costs_cost_only_the_estimate(planned, tmp_path):
    (tmp_path / "costs.json").write_text("{")
    assert planned("variants: {A: {method: assume_negative}}").estimate_basis == UNTIMED


def test_slots_are_the_cores_over_those_of_a_trial_and_at_least_one(planned):
    text = "variants: {A: {method: assume_negative}}\nresources: {cpu: %s}"
    cores = len(os.sched_getaffinity(0))
    assert slots_here(planned(text % 1).space, None) == cores
    assert slots_here(planned(text % 0.5).space, None) == 2 * cores
    assert slots_here(planned(text % 10_000).space, None) == 1
    assert slots_here(planned(text % 0.5).space, 1) == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.7, "1 min 0 s"), (200, "3 min 20 s"), (3599.9, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations_are_for_people(seconds, text):
    assert duration(seconds) == text


def test_plan_ends_stdout_with_one_line_of_json(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sweeper",
        "plan",
        str(LL_DELTA),
        "--profile",
        "smoke",
        "--set",
        "seeds=[5]",
        "--json",
    ]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    (line,) = result.stdout.splitlines()
    numbers = json.loads(line)
    stable = {"space", "trials", "unique_trials", "epochs", "estimate_seconds", "storage_bytes"}
    assert stable <= set(numbers)
    assert (numbers["space"], numbers["trials"], numbers["unique_trials"]) == ("ll_delta", 8, 8)
    # 2 + 3 * 2 trials of 3 epochs; the 6 of the LL methods share their first one with Naive AN.
    assert numbers["epochs"] == {"naive": 24, "unique": 18, "stored": 0}
    assert numbers["estimate_seconds"] >= 0
    assert numbers["storage_bytes"] > 0
    assert "8 trials (8 different)" in result.stderr
    assert list(tmp_path.iterdir()) == []


FOUR_EPOCHS = """
data: {labels: single_positive}
train: {epochs: 4}
variants:
  Naive AN: {method: assume_negative}
  LL-R: {method: large_loss}
seeds: [1]
"""


def test_states_are_kept_where_trials_part_and_at_the_end(planned):
    counted = planned(FOUR_EPOCHS)
    assert list(counted.keep.values()) == [[1, 4], [1, 4]]


def measured(store: Store, key: str, record: str) -> None:
    store.write_json(key, TRAINING, {})
    store.write_json(key, record, {})


def test_what_need_not_be_trained_again_ends_at_the_last_state_unless_every_epoch_is_measured(planned, tmp_path):
    counted = planned(FOUR_EPOCHS)
    trial = counted.space.trials[0]
    keys, store, records = counted.keys[trial.id], Store(tmp_path / "other"), trial.config.records()
    for epoch in (1, 2, 3):
        measured(store, keys[epoch], records.metrics if epoch < 3 else records.scores)
    assert stored_prefix(keys, records, store.names) == 0
    store.write_tensors(keys[2], STATE, {})
    assert stored_prefix(keys, records, store.names) == 2
    measured(store, keys[4], records.metrics)
    assert stored_prefix(keys, records, store.names) == 4
    store.delete(keys[1], TRAINING)
    assert stored_prefix(keys, records, store.names) == 0


def test_stored_epochs_are_counted_once_and_take_neither_time_nor_space(planned, tmp_path):
    before = planned(FOUR_EPOCHS)
    store = Store(tmp_path / "store")
    for trial in before.space.trials:
        measured(store, before.keys[trial.id][1], trial.config.records().metrics)
        store.write_tensors(before.keys[trial.id][1], STATE, {})
    after = planned(FOUR_EPOCHS)
    assert (before.stored_epochs, after.stored_epochs) == (0, 1)
    assert after.estimate_seconds == pytest.approx(before.estimate_seconds * 6 / 7)
    assert 0 < after.storage_bytes < before.storage_bytes


def test_storage_is_that_of_epochs_and_of_the_states_at_branches_ends_and_selected_epochs(planned, tmp_path):
    text = FOUR_EPOCHS.replace("LL-R: {method: large_loss}", "Again: {method: assume_negative}")
    (kind,) = {cost_key(trial.config) for trial in planned(text).space.trials}
    remember_costs({}, {kind: {"state": 10**6, "scores": 1000, "metrics": 10, "training": 1}}, tmp_path)
    # One computation: four epochs, the last state, which the second trial needs no more than the first, and the best.
    assert planned(text).storage_bytes == 4 * 1011 + 2 * 10**6


def test_what_a_whole_trial_has_without_states_is_counted_for_another_that_trains_it_again(planned, tmp_path):
    constant = FOUR_EPOCHS.replace("epochs: 4", "epochs: 4, schedule: constant")
    text = constant.replace("LL-R: {method: large_loss}", "Longer: {method: assume_negative, train.epochs: 6}")
    before = planned(text)
    shorter, longer = before.space.trials
    store = Store(tmp_path / "store")
    for key in before.keys[shorter.id][1:]:
        measured(store, key, shorter.config.records().metrics)
    assert (before.unique_epochs, planned(text).stored_epochs) == (6, 0)
    store.write_tensors(before.keys[longer.id][3], STATE, {})
    assert planned(text).stored_epochs == 3
    assert planned(constant.replace("  LL-R", "  # LL-R")).stored_epochs == 4


def test_metrics_measured_otherwise_are_another_record_of_the_same_epoch_and_scores(planned):
    one = planned(FOUR_EPOCHS)
    other = planned(FOUR_EPOCHS.replace("single_positive}", "single_positive, val_labels: observed}"))
    trial, other_trial = one.space.trials[0], other.space.trials[0]
    assert one.keys[trial.id] == other.keys[other_trial.id]
    assert trial.config.records().metrics != other_trial.config.records().metrics
    assert trial.config.records().scores == other_trial.config.records().scores
