"""Which share of a GPU a trial asks for, and how many trials nodes hold."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeper.planning.capacity import (
    CONTEXT,
    HEADROOM,
    MOST_ON_A_GPU,
    PARTS,
    Node,
    PlacementError,
    capacity,
    gpu_share,
    resource_request,
)
from sweeper.planning.costs import cost_key, peak_memory, remember_costs
from sweeper.planning.plan import slots_here
from sweeper.spaces.reading import load_space

MEMORIES = st.lists(st.floats(4e9, 200e9), min_size=1, max_size=8)
ONE = "variants: {A: {method: assume_negative}}\nseeds: [1]\n"


def node(name: str, **offers: float) -> Node:
    return Node(name, name, offers)


@given(st.floats(1e6, 200e9), MEMORIES)
def test_trials_that_share_a_gpu_fit_into_the_smallest_with_headroom(need, memories):
    if need > min(memories):
        with pytest.raises(
            PlacementError, match=re.escape(f"the smallest GPU that it may get has {min(memories) / 1e9:.1f}")
        ):
            gpu_share(need, memories)
        return
    share = gpu_share(need, memories)
    together = capacity({"GPU": share}, [node("one", GPU=1)])
    assert together == 1 or together * (need + CONTEXT) <= (1 - HEADROOM) * min(memories)
    # And one more would not.
    assert together == MOST_ON_A_GPU or (together + 1) * (need + CONTEXT) > (1 - HEADROOM) * min(memories)


@given(st.floats(1e6, 100e9), st.floats(1e6, 100e9), MEMORIES)
def test_who_needs_more_gets_no_less(one, other, memories):
    small, large = sorted([one, other])
    if large <= min(memories):
        assert gpu_share(small, memories) <= gpu_share(large, memories) <= 1


@given(st.integers(1, MOST_ON_A_GPU))
def test_shares_are_in_the_parts_that_ray_counts_in_and_as_many_trials_as_meant_have_room(trials):
    share = gpu_share((1 - HEADROOM) * 80e9 / trials * 0.999999 - CONTEXT, [80e9])
    assert share * PARTS == pytest.approx(round(share * PARTS))
    assert capacity({"GPU": share}, [node("one", GPU=1)]) == trials


def test_without_a_measured_peak_a_trial_has_a_gpu_of_its_own():
    resources = {"cpu": 1, "gpu": 0, "gpu_memory": "measured"}
    assert resource_request(resources, None, [80e9]) == {"CPU": 1, "GPU": 1}
    assert resource_request(resources, 11e9, [80e9, 24e9]) == {"CPU": 1, "GPU": 1}
    assert resource_request(resources, 10e9, [80e9, 24e9]) == {"CPU": 1, "GPU": 0.5}
    assert resource_request({"cpu": 1, "gpu": 0, "gpu_memory": 5.5}, None, [80e9]) == {"CPU": 1, "GPU": 0.0833}


@pytest.mark.parametrize(
    ("asked", "held"),
    [
        ({"CPU": 3}, 2 + 1),  # not 4: a trial does not lie across two nodes
        ({"CPU": 0.1}, 80 + 40),
        ({"CPU": 1, "GPU": 1}, 2),
        ({"CPU": 1, "GPU": 0.3}, 6),  # not 2 // 0.3 + … = 6.67; three on each GPU
        ({"CPU": 1, "GPU": 0.6}, 2),  # not 3
        ({"CPU": 2, "big": 0.0001}, 2),
        ({"CPU": 9}, 0),
        ({}, 2),
    ],
)
def test_what_has_room_is_counted_node_by_node_and_gpu_by_gpu(asked, held):
    nodes = [node("head", CPU=8), node("worker", CPU=4, GPU=2, big=1)]
    if "GPU" in asked:
        nodes = [node("head", CPU=8), node("worker", CPU=8, GPU=2)]
    assert capacity(asked, nodes) == held


@pytest.fixture
def space(tmp_path):
    def load(resources: str):
        (tmp_path / "space.yaml").write_text(f"{ONE}resources: {resources}\n")
        return load_space(tmp_path / "space.yaml")

    return load


def test_peaks_are_kept_beside_times_and_only_grow(space, tmp_path):
    asking = space("{gpu_memory: measured}")
    (trial,) = asking.trials
    assert peak_memory(asking, tmp_path) is None
    for peak in (3_000, 7_000, 5_000):
        remember_costs({cost_key(trial.config): [1.0]}, {}, tmp_path, {cost_key(trial.config): peak})
    assert peak_memory(asking, tmp_path) == 7_000
    assert peak_memory(space("{gpu: 1}"), tmp_path) is None


def test_a_machine_that_cannot_hold_a_trial_is_planned_for_as_one_slot(space):
    assert slots_here(space("{gpu: 1000}")) == slots_here(space("{kind: big}")) == 1
