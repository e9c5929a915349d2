"""The queue on a simulated store and slots: any tree of keys, any number of slots, any order of events, any losses."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.search import Searcher

from sweeper.order import Queue
from sweeper.planning import _kept


@dataclass(frozen=True)
class FakeTrial:
    """All that the queue needs of a trial."""

    id: str


# A trial is what it does in each epoch; equal beginnings are equal keys.
recipes = st.lists(st.sampled_from("ab"), min_size=1, max_size=5)
spaces = st.lists(recipes, min_size=1, max_size=8)


def keys_of(space: list[list[str]]) -> dict[str, list[str]]:
    return {f"trial{i}": ["start", *("".join(r[: e + 1]) for e in range(len(r)))] for i, r in enumerate(space)}


class Simulation:
    """Slots that train given trials as the actors do: from the last kept state on, keeping what the plan keeps."""

    def __init__(self, space: list[list[str]]):
        self.keys, self.trained, self.done, self.given_out = keys_of(space), [], set(), []
        self.keep, self.states, self.metrics = _kept(self.keys), set(), set()
        trials = [FakeTrial(name) for name in self.keys]
        self.queue = Queue(trials, self.keys, dict.fromkeys(self.keys, 0), lambda trial: {"trial": trial})
        self.running: dict[FakeTrial, int] = {}

    def fill(self, slots: int) -> None:
        while len(self.running) < slots:
            suggestion = self.queue.suggest("")
            if suggestion is None or suggestion == Searcher.FINISHED:
                break
            trial = suggestion["trial"]
            self.given_out.append(trial.id)
            self.start(trial)

    def start(self, trial: FakeTrial) -> None:
        chain = self.keys[trial.id]
        if all(key in self.metrics for key in chain[1:]):
            epoch = len(chain) - 1
        else:
            epoch = max((e for e in range(1, len(chain)) if chain[e] in self.states), default=0)
        self.running[trial] = epoch
        self.queue.reached(trial, epoch)
        self.end_if_done(trial)

    def step(self, trial: FakeTrial) -> None:
        chain, epoch = self.keys[trial.id], self.running[trial] + 1
        self.trained.append(chain[epoch])
        self.metrics.add(chain[epoch])
        if epoch in self.keep[trial.id]:
            self.states.add(chain[epoch])
        self.running[trial] = epoch
        self.queue.reached(trial, epoch)
        self.end_if_done(trial)

    def end_if_done(self, trial: FakeTrial) -> None:
        if self.running[trial] == len(self.keys[trial.id]) - 1:
            del self.running[trial]
            self.queue.ended(trial)
            self.done.add(trial.id)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(space=spaces, slots=st.integers(1, 4), seed=st.integers(0, 999))
def test_every_epoch_is_trained_once_and_nothing_ever_waits_in_vain(space, slots, seed):
    simulation, chance = Simulation(space), Random(seed)
    while len(simulation.done) < len(space):
        simulation.fill(slots)
        if len(simulation.done) < len(space):
            assert simulation.running, "nothing runs and something waits"
            simulation.step(chance.choice(sorted(simulation.running, key=lambda trial: trial.id)))
    assert sorted(simulation.given_out) == sorted(simulation.keys)
    assert len(simulation.trained) == len(set(simulation.trained))
    assert set(simulation.trained) == {key for chain in simulation.keys.values() for key in chain[1:]}
    assert simulation.queue.suggest("") == Searcher.FINISHED


@settings(derandomize=True, max_examples=300, deadline=None)
@given(space=spaces, slots=st.integers(1, 4), seed=st.integers(0, 999))
def test_followers_of_a_lost_leader_are_released(space, slots, seed):
    simulation, chance = Simulation(space), Random(seed)
    lost = set()
    while len(simulation.done) + len(lost) < len(space):
        simulation.fill(slots)
        if len(simulation.done) + len(lost) < len(space):
            assert simulation.running, "nothing runs and something waits"
            trial = chance.choice(sorted(simulation.running, key=lambda trial: trial.id))
            if chance.random() < 0.5:
                simulation.step(trial)
            else:
                del simulation.running[trial]
                simulation.queue.ended(trial)
                lost.add(trial.id)
    assert simulation.queue.suggest("") == Searcher.FINISHED


@settings(derandomize=True, max_examples=100, deadline=None)
@given(space=spaces, seed=st.integers(0, 999))
def test_a_worker_that_is_lost_and_started_again_breaks_nothing(space, seed):
    simulation, chance = Simulation(space), Random(seed)
    while len(simulation.done) < len(space):
        simulation.fill(2)
        if simulation.running:
            trial = chance.choice(sorted(simulation.running, key=lambda trial: trial.id))
            simulation.step(trial)
            if trial in simulation.running and chance.random() < 0.1:
                simulation.queue.started(trial)
                simulation.start(trial)
    assert {key for chain in simulation.keys.values() for key in chain[1:]} == set(simulation.trained)


def test_of_the_free_trials_the_one_with_most_left_to_do_comes_first():
    keys = {"short": ["s", "a"], "long": ["s", "b", "bb", "bbb"], "stored": ["s", "c", "cc", "ccc", "cccc"]}
    stored = {"short": 0, "long": 0, "stored": 3}
    queue = Queue([FakeTrial(name) for name in keys], keys, stored, lambda trial: {"trial": trial.id})
    assert [queue.suggest("")["trial"] for _ in keys] == ["long", "short", "stored"]
