"""The queue on a simulated store and slots: any tree of keys, any number of slots, any order of events, any losses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from random import Random
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.search import Searcher

from methods.cache.store import Store
from sweeper.planning.stored import kept_states
from sweeper.running.queue import Queue
from sweeper.running.run import _queue
from sweeper.running.tune import Source
from sweeper.spaces.reading import load_space


@dataclass(frozen=True)
class FakeTrial:
    """All that the queue needs of a trial."""

    id: str
    keys: list[str] = field(compare=False)


TWO_NETWORKS = """
data: {labels: single_positive, train_images: 16, val_images: 8, test_images: 8}
variants:
  Naive AN: {method: assume_negative}
  Other weights: {method: assume_negative, network: {pretrain_images: 64}}
seeds: [1, 2]
"""

# A trial is what it does in each epoch; equal beginnings are equal keys.
recipes = st.lists(st.sampled_from("ab"), min_size=1, max_size=5)
spaces = st.lists(recipes, min_size=1, max_size=8)


def keys_of(space: list[list[str]]) -> dict[str, list[str]]:
    return {f"trial{i}": ["start", *("".join(r[: e + 1]) for e in range(len(r)))] for i, r in enumerate(space)}


class Simulation:
    """Slots that train given trials as the actors do: from the last state in the store on, keeping what the plan keeps.

    Every trial that the queue gives is held to the rule: of the trials that share no key which a running one has yet to
    pass, one with most epochs left; None where there is none; the end where nothing waits or runs. Trials of an odd
    number of epochs need other weights than those of an even one; the first of each makes them before its first report.
    """

    def __init__(self, space: list[list[str]], metrics: Iterable[str] = (), states: Iterable[str] = ()):
        self.keys = keys_of(space)
        self.keep, self.metrics, self.states = kept_states(self.keys), set(metrics), set(states)
        self.trials = [FakeTrial(name, keys) for name, keys in self.keys.items()]
        self.stored = {trial.id: self.restored(trial) for trial in self.trials}
        self.made: set[str] = set()
        self.queue = Queue(self.trials, lambda trial: self.stored[trial.id], lambda trial: [self.weights(trial)])
        self.running: dict[FakeTrial, int] = {}
        self.begun: set[FakeTrial] = set()
        self.trained: list[str] = []
        self.passed: set[str] = set()
        self.given_out: list[FakeTrial] = []
        self.over: set[FakeTrial] = set()

    def events(self, slots: int, chance: Random) -> Iterator[FakeTrial]:
        """The running trial that something happens to next, until all are over; free slots are filled before."""
        while True:
            while len(self.running) < slots and self.give_out():
                pass
            if len(self.over) == len(self.trials):
                break
            assert self.running, "nothing runs and something waits"
            yield chance.choice(list(self.running))
        assert sorted(trial.id for trial in self.given_out) == sorted(self.keys)
        assert self.queue.exhausted and self.queue.next() is None

    def give_out(self) -> bool:
        waiting = [trial for trial in self.trials if trial not in self.given_out]
        pending = {key for trial, epoch in self.running.items() for key in self.keys[trial.id][epoch + 1 :]}
        pending |= {self.weights(trial) for trial in self.running if trial not in self.begun and self.needs(trial)}
        pending -= self.made
        free = [trial for trial in waiting if pending.isdisjoint(self.keys[trial.id])]
        free = [trial for trial in free if not (self.needs(trial) and self.weights(trial) in pending)]
        exhausted, trial = self.queue.exhausted, self.queue.next()
        assert exhausted == (not waiting and not self.running)
        if not free:
            assert trial is None
            return False
        assert trial in free
        assert self.left(trial) == max(map(self.left, free))
        self.given_out.append(trial)
        self.running[trial] = 0
        return True

    def restored(self, trial: FakeTrial) -> int:
        """The epoch that a trial goes on from: the end if all are measured, else the last state up to there."""
        chain = self.keys[trial.id]
        known = next((e for e in range(1, len(chain)) if chain[e] not in self.metrics), len(chain)) - 1
        if known == len(chain) - 1:
            return known
        return next((e for e in range(known, 0, -1) if chain[e] in self.states), 0)

    def weights(self, trial: FakeTrial) -> str:
        return f"weights {len(self.keys[trial.id]) % 2}"

    def needs(self, trial: FakeTrial) -> bool:
        """What is whole needs no weights."""
        return self.stored[trial.id] < len(self.keys[trial.id]) - 1

    def left(self, trial: FakeTrial) -> int:
        chain = self.keys[trial.id][1:]
        return min(len(chain) - self.stored[trial.id], sum(key not in self.passed for key in chain))

    def step(self, trial: FakeTrial) -> None:
        """A trial reports: first what the store has, then an epoch at a time."""
        chain, before = self.keys[trial.id], self.running[trial]
        self.assert_nothing_is_trained_twice_at_once()
        if trial not in self.begun:
            if self.needs(trial) and self.weights(trial) not in self.made:
                others = [one for one in self.running if one not in self.begun and one != trial and self.needs(one)]
                assert self.weights(trial) not in map(self.weights, others), "weights are made twice at once"
                self.made.add(self.weights(trial))
            self.begun.add(trial)
            epoch = self.restored(trial)
        else:
            epoch = before + 1
            self.trained.append(chain[epoch])
            self.metrics.add(chain[epoch])
            if epoch in self.keep[trial.id]:
                self.states.add(chain[epoch])
        self.running[trial] = epoch
        self.passed.update(chain[1 : epoch + 1])
        self.queue.reached(trial, epoch)
        if epoch == len(chain) - 1:
            self.end(trial)

    def assert_nothing_is_trained_twice_at_once(self) -> None:
        now = []
        for trial, epoch in self.running.items():
            after = epoch if trial in self.begun else self.restored(trial)
            now += self.keys[trial.id][after + 1 : after + 2]
        assert len(now) == len(set(now))

    def end(self, trial: FakeTrial) -> None:
        del self.running[trial]
        self.queue.ended(trial)
        self.over.add(trial)

    def lose(self, trial: FakeTrial) -> None:
        """The worker is lost, and the trial given to another one, which starts from the store."""
        self.queue.started(trial)
        self.running[trial] = 0
        self.begun.discard(trial)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(space=spaces, slots=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_every_epoch_is_trained_once_and_nothing_ever_waits_in_vain(space, slots, seed):
    simulation, chance = Simulation(space), Random(seed)
    for trial in simulation.events(slots, chance):
        simulation.step(trial)
    assert sorted(simulation.trained) == sorted({key for chain in simulation.keys.values() for key in chain[1:]})


@settings(derandomize=True, max_examples=300, deadline=None)
@given(space=spaces, slots=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_what_some_trial_has_to_train_again_is_trained_once_and_nothing_else_is(space, slots, seed):
    """Whatever the store has: metrics without states, states without metrics, gaps."""
    chance, keys = Random(seed), keys_of(space)
    metrics = {key for chain in keys.values() for key in chain[1 : chance.randint(1, len(chain))]}
    gaps = {key for key in sorted(metrics) if chance.random() < 0.1}
    states = {key for key in sorted({key for chain in keys.values() for key in chain[1:]}) if chance.random() < 0.4}
    simulation = Simulation(space, metrics - gaps, states)
    needed = {key for name, chain in keys.items() for key in chain[1 + simulation.stored[name] :]}
    for trial in simulation.events(slots, chance):
        simulation.step(trial)
    assert len(simulation.trained) == len(set(simulation.trained))
    # Behind a gap that a trial has closed, another may find itself whole.
    assert set(simulation.trained) <= needed if gaps else set(simulation.trained) == needed


@settings(derandomize=True, max_examples=300, deadline=None)
@given(space=spaces, slots=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_followers_of_a_trial_that_fails_are_released(space, slots, seed):
    simulation, chance = Simulation(space), Random(seed)
    for trial in simulation.events(slots, chance):
        if chance.random() < 0.25:
            simulation.end(trial)
        else:
            simulation.step(trial)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(space=spaces, slots=st.integers(1, 4), losses=st.integers(1, 5), seed=st.integers(0, 2**32))
def test_a_worker_that_is_lost_costs_the_epochs_since_the_last_state_and_nothing_else(space, slots, losses, seed):
    simulation, chance = Simulation(space), Random(seed)
    for trial in simulation.events(slots, chance):
        if losses and chance.random() < 0.5:
            losses -= 1
            simulation.lose(trial)
        else:
            simulation.step(trial)
    assert set(simulation.trained) == {key for chain in simulation.keys.values() for key in chain[1:]}
    assert all(simulation.trained.count(key) == 1 for key in simulation.states)


def test_of_the_free_trials_the_one_with_most_left_to_do_comes_first():
    keys = {"short": ["s", "a"], "long": ["s", "b", "bb", "bbb"], "stored": ["s", "c", "cc", "ccc", "cccc"]}
    stored = {"short": 0, "long": 0, "stored": 3}
    queue = Queue([FakeTrial(name, chain) for name, chain in keys.items()], lambda trial: stored[trial.id])
    assert [queue.next().id for _ in keys] == ["long", "short", "stored"]


def test_what_another_trial_has_passed_is_no_longer_left_to_do():
    keys = {"leader": list("sabcdef"), "late": list("sabcdeF"), "other": list("sxyz")}
    trials = {name: FakeTrial(name, chain) for name, chain in keys.items()}
    queue = Queue(list(trials.values()), lambda trial: 0)
    assert queue.next().id == "leader"
    queue.reached(trials["leader"], 5)
    assert [queue.next().id for _ in range(2)] == ["other", "late"]


def test_trials_that_need_the_same_weights_wait_for_the_first_and_those_of_other_weights_do_not(tmp_path):
    (tmp_path / "two.yaml").write_text(TWO_NETWORKS)
    space = load_space(tmp_path / "two.yaml")
    queue = _queue(list(space.trials), cache(Store(tmp_path).names))
    first, other = queue.next(), queue.next()
    assert (first.variant, other.variant) == ("Naive AN", "Other weights")
    assert queue.next() is None
    queue.reached(other, 0)
    assert queue.next().variant == "Other weights"
    assert queue.next() is None
    queue.reached(first, 0)
    assert queue.next().variant == "Naive AN"


def test_a_trial_that_was_refused_waits_again_and_is_given_to_other_nodes_until_the_last_has_ended():
    one, two = FakeTrial("one", ["start", "a"]), FakeTrial("two", ["start", "b"])
    queue, avoided = Queue([one, two], lambda trial: 0, most=2), set()
    driver = SimpleNamespace(job=lambda trial: SimpleNamespace(text=lambda: f"the job of {trial.id}"))
    source = Source(driver, queue, avoided)
    assert source.suggest("") == {"trial": "one", "job": "the job of one", "avoid": []}
    assert source.suggest("") == {"trial": "two", "job": "the job of two", "avoid": []}
    queue.ended(one)
    avoided.add("node")
    queue.again(two)
    assert source.suggest("") == {"trial": "two", "job": "the job of two", "avoid": ["node"]}
    queue.ended(two)
    assert source.suggest("") == Searcher.FINISHED
