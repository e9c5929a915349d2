"""Searches: which points are tried, whatever runs at once and whatever is interrupted."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.cli import main as analyse
from sweeper.planning.plan import plan
from sweeper.planning.studies import Studies
from sweeper.spaces.reading import load_space
from sweeper.spaces.search import Result
from sweeper.spaces.yaml_file import SpaceError
from tests.sweeper.commands import Sweep

SPACE = """
data: {labels: single_positive, train_images: 64, val_images: 32, test_images: 32}
network: {pretrain_images: 64, pretrain_epochs: 1}
train: {epochs: 2, batch_size: 16}
variants:
  LL-R: {method: large_loss, scheme: reject}
  AN: {method: assume_negative}
axes:
  train.learning_rate: {loguniform: [1e-4, 1e-1]}
  delta_rel: {uniform: [0.1, 5]}
  train.optimizer: [adam, sgd]
  train.momentum: {uniform: [0.5, 0.95]}
seeds: [1]
search: {algorithm: tpe, trials: 9, startup: 3, lag: 3, confirm: {top: 2, seeds: [2, 3]}}
"""


@pytest.fixture
def load(tmp_path):
    def of(text: str = SPACE, sets: tuple[str, ...] = ()):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return load_space(path, None, sets)

    return of


def studies_of(space) -> Studies:
    return Studies(space.search, space.variants, space.seeds)


def value(trial) -> Result:
    """A made-up result: best at a rate of 0.01; one in ten fails, and one in nine is stopped."""
    digits = int(trial.id, 16)
    if digits % 10 == 0:
        return Result(None)
    reached = -abs(trial.axes["train.learning_rate"] - 0.01) - digits % 7 * 1e-4
    return Result((reached,), stopped=1 if digits % 9 == 0 else None)


def played(space, slots: int, order: random.Random) -> list[str]:
    """Ids of all trials, in the order of their making, where `slots` run at once and end in any order."""
    studies = studies_of(space)
    waiting, made, running = studies.advance({}), [], []
    while waiting or running:
        while waiting and len(running) < slots:
            running.append(waiting.pop(0))
            made.append(running[-1].id)
        ended = running.pop(order.randrange(len(running)))
        waiting += studies.advance({ended.id: value(ended)})
    assert studies.exhausted
    return made


@settings(max_examples=15, deadline=None)
@given(slots=st.integers(1, 12), seed=st.integers(0, 1000))
def test_a_search_comes_to_the_same_trials_whatever_runs_at_once(tmp_path_factory, slots, seed):
    path = tmp_path_factory.mktemp("search") / "space.yaml"
    path.write_text(SPACE)
    space = load_space(path)
    alone = played(space, 1, random.Random(0))
    assert sorted(played(space, slots, random.Random(seed))) == sorted(alone)
    assert len(alone) == len(set(alone)) == 2 * (9 + 2 * 2)


def test_a_suggestion_sees_the_results_of_those_that_are_lag_before_it_and_no_others(load):
    space = load(sets=("search.confirm=null",))

    def points(results):
        """All suggestions for AN, where a trial's value is that of its number."""
        studies, found = studies_of(space), []
        waiting = studies.advance({})
        while waiting:
            trial = waiting.pop(0)
            if trial.variant == "AN":
                found.append(trial.axes)
            result = results[len(found) - 1] if trial.variant == "AN" else 0.0
            waiting += studies.advance({trial.id: Result((result,))})
        return found

    results = [float(number) for number in range(9)]
    usual = points(results)
    for changed in range(9):
        other = points([-100.0 if number == changed else result for number, result in enumerate(results)])
        assert other[: changed + 3] == usual[: changed + 3], "it sees the results up to three before it"
    assert points([*results[:3], -100.0, *results[4:]])[6:] != usual[6:]


def test_a_search_that_is_interrupted_goes_on_with_the_same_suggestions(load):
    space = load()
    whole = studies_of(space).replay(value)
    for ended in (0, 3, 8, 15, 20):
        done = {trial.id for trial in whole[:ended]}
        again = studies_of(space)
        known = again.replay(lambda trial, done=done: value(trial) if trial.id in done else None)
        left = [trial for trial in known if trial.id not in done]
        while left:
            trial = left.pop(0)
            new = again.advance({trial.id: value(trial)})
            known, left = known + new, left + new
        assert {trial.id for trial in known} == {trial.id for trial in whole}


def test_reading_a_search_asks_for_no_suggestions(load):
    space = load()
    assert space.trials == ()
    assert {trial.id for trial in plan(space).space.trials} == {trial.id for trial in studies_of(space).advance({})}


def test_a_random_search_is_known_from_the_start(load):
    space = load(sets=("search.algorithm=random", "search.confirm=null"))
    trials = studies_of(space).advance({})
    assert len(trials) == 2 * 9
    rates = [trial.axes["train.learning_rate"] for trial in trials]
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)
    assert len(set(rates)) == 18, "variants have studies of their own"
    again = studies_of(load(sets=("search.algorithm=random", "search.confirm=null"))).advance({})
    assert [trial.id for trial in again] == [trial.id for trial in trials]


def test_an_axis_is_drawn_where_it_acts_and_every_variant_has_the_axes_that_it_has(load):
    trials = studies_of(load(sets=("search.algorithm=random",))).advance({})
    for trial in trials:
        assert ("train.momentum" in trial.axes) == (trial.axes["train.optimizer"] == "sgd")
        assert ("delta_rel" in trial.axes) == (trial.variant == "LL-R")
    assert {trial.axes["train.optimizer"] for trial in trials} == {"adam", "sgd"}


def test_the_best_are_confirmed_on_seeds_that_did_not_find_them(load):
    space = load()
    trials = studies_of(space).replay(value)
    found = {trial: value(trial) for trial in trials if trial.config.seed == 1}
    whole = {trial: result.values for trial, result in found.items() if result.values is not None}
    searched = [trial for trial in whole if found[trial].stopped is None]
    confirmed = [trial for trial in trials if trial.config.seed != 1]
    for variant in space.variants:
        best = sorted((t for t in searched if t.variant == variant), key=lambda t: -whole[t][0])[:2]
        again = [t for t in confirmed if t.variant == variant]
        assert {str(t.axes) for t in again} == {str(t.axes) for t in best}
        assert sorted(t.config.seed for t in again) == [2, 2, 3, 3]


def test_a_point_that_comes_up_again_is_the_same_trial(load):
    space = load(
        """
data: {labels: single_positive}
variants: {LL-R: {method: large_loss}}
axes: {scheme: [reject, correct_temporary]}
seeds: [1]
search: {algorithm: tpe, trials: 8, startup: 2, lag: 1}
"""
    )
    assert len(studies_of(space).replay(lambda trial: Result((1.0,)))) == 2


def test_what_a_search_follows_from_names_the_sweep(load):
    names = {
        load(sets=sets).sweep
        for sets in (
            (),
            ("search.trials=10",),
            ("search.lag=2",),
            ("search.startup=4",),
            ("search.confirm={top: 2, seeds: [4, 5]}",),
            ("axes.delta_rel={uniform: [0.1, 4]}",),
            ("train.epochs=3",),
            ("seeds=[7]",),
        )
    }
    assert len(names) == 8
    assert load().sweep == load().sweep


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("algorithm: tpe", "algorithm: grid", "14: search.algorithm: 'grid' is not allowed; allowed is random | tpe"),
        ("trials: 9", "trials: 0", "14: search.trials: 0 is not allowed; allowed is an integer at least 1"),
        ("lag: 3", "lags: 3", "14: unknown key of search 'lags' (did you mean 'lag'?); allowed is "),
        ("seeds: [2, 3]", "seeds: [1, 3]", "14: search.confirm.seeds: 1 searched already; what is found best"),
        ("seeds: [2, 3]", "seed: [2]", "14: unknown key of search.confirm 'seed' (did you mean 'seeds'?)"),
        ("uniform: [0.1, 5]", "uniform: [5, 1]", "10: axis delta_rel: uniform: [5, 1] is not allowed; allowed is two "),
        ("uniform: [0.1, 5]", "uniform: [0.1, 500]", "10: delta_rel: 500 is not allowed; allowed is "),
        ("loguniform: [1e-4", "loguniform: [0", "9: axis train.learning_rate: loguniform: [0, 0.1] is not allowed; "),
        ("uniform: [0.1, 5]", "int: [0.1, 5]", "10: axis delta_rel: int: [0.1, 5] is not allowed; allowed is two int"),
        ("search: {", "select: {metric: val/map}\nx: {", "15: unknown key 'x'"),
    ],
)
def test_what_is_wrong_with_a_search_is_said_with_its_line(load, tmp_path, old, new, expected):
    assert old in SPACE
    with pytest.raises(SpaceError) as caught:
        load(SPACE.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path}/space.yaml:{expected}")


def test_a_range_without_a_search_is_refused(load, tmp_path):
    with pytest.raises(SpaceError, match="9: axis train.learning_rate: numbers are drawn from a range by a search"):
        load(SPACE.partition("search:")[0])


TWO = SPACE.replace("lag: 3,", "lag: 3, objectives: {val/map: max, train/seconds: min},").replace("top: 2, ", "")


def of_two(trial) -> Result:
    """Made up: the larger the rate the better and the dearer, up to a rate from which on it is only dearer."""
    rate = math.log10(trial.axes["train.learning_rate"])
    return Result((min(rate, -2.0), -rate))


def test_of_several_objectives_the_whole_front_is_confirmed_or_its_first(load):
    for top, most in (("", 9), ("top: 2, ", 2)):
        space = load(TWO.replace("confirm: {", f"confirm: {{{top}"))
        trials = studies_of(space).replay(of_two)
        for variant in space.variants:
            own = [trial for trial in trials if trial.variant == variant]
            searched = {trial.axes["train.learning_rate"] for trial in own if trial.config.seed == 1}
            confirmed = {trial.axes["train.learning_rate"] for trial in own if trial.config.seed != 1}
            # Above 0.01 all are as good, so that the cheapest of them alone is on the front, and is its best.
            front = sorted(rate for rate in searched if rate <= 0.01 or rate == min(r for r in searched if r > 0.01))
            assert sorted(confirmed, reverse=True) == front[::-1][:most]


def test_a_search_for_several_objectives_goes_on_with_the_same_suggestions_and_learns_from_all(load):
    space = load(TWO)
    whole = [trial.id for trial in studies_of(space).replay(of_two)]
    assert [trial.id for trial in studies_of(space).replay(of_two)] == whole
    one = [trial.id for trial in studies_of(space).replay(lambda trial: Result((of_two(trial).values[0], 0.0)))]
    assert one[: 2 * 3] == whole[: 2 * 3]
    assert one != whole


def test_a_trial_lacks_a_result_where_one_objective_is_no_number(load):
    search = load(TWO).search
    assert search.result({"val/map": 60.0, "train/seconds": 2.0, "test/map": 1.0}).values == (60.0, -2.0)
    assert search.result({"val/map": float("nan"), "train/seconds": 2.0}).values is None
    assert search.result({"val/map": 60.0}).values is None


def test_objectives_name_the_sweep_and_times_are_said_not_to_be_reproducible(load):
    names = {load(TWO).sweep, load().sweep, load(TWO.replace("train/seconds", "selected_epoch")).sweep}
    assert len(names) == 3
    assert "max val/map, min train/seconds" in str(load(TWO).search)
    assert "times are not reproducible" in str(load(TWO).search)
    assert "times" not in str(load(TWO.replace("train/seconds", "selected_epoch")).search)


@pytest.mark.parametrize(
    ("objectives", "expected"),
    [
        ("{test/map: max, train/seconds: min}", "14: search.objectives: test/map is what is reported"),
        ("{val/mapp: max, train/seconds: min}", "14: search.objectives: unknown result 'val/mapp' (did you mean 'va"),
        ("{val/map: high, train/seconds: min}", "14: search.objectives.val/map: 'high' is not allowed; allowed is max"),
        ("{val/map: max}", "14: search.objectives: give several, such as {val/map: max, train/seconds: min}"),
        ("{val/map: max, pointing_game/hits: max}", "14: search.objectives: pointing_game/hits needs diagnostics.poi"),
        ("{val/map: max, selected_epoch: min}}\nstop: {rule: asha", "15: stop: asha ends trials that are behind "),
    ],
)
def test_what_is_wrong_with_objectives_is_said_with_its_line(load, tmp_path, objectives, expected):
    text = SPACE.partition("search:")[0] + f"search: {{objectives: {objectives}}}\n"
    with pytest.raises(SpaceError) as caught:
        load(text)
    assert str(caught.value).startswith(f"{tmp_path}/space.yaml:{expected}")


def test_a_search_ends_cleanly_by_a_budget_is_resumed_and_is_tabulated_by_what_was_confirmed(
    tmp_path, empty_database, capsys, on_ray
):
    text = SPACE.replace("trials: 9, startup: 3, lag: 3", "trials: 3, startup: 1, lag: 1")
    objectives = "objectives: {val/map: max, train/seconds: min}"
    text = text.replace("confirm: {top: 2, seeds: [2, 3]}", f"{objectives}, confirm: {{top: 1, seeds: [2, 3]}}")
    sweep = Sweep(tmp_path, text, empty_database)
    ended = sweep.run("--max-trials", "3", ray=on_ray)
    assert ended.returncode == 3, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["succeeded"], told["epochs_trained"]) == (3, 6)
    again = json.loads(sweep.run(ray=on_ray).stdout.splitlines()[-1])
    assert (again["trials"], again["succeeded"], again["epochs_trained"]) == (2 * (3 + 2), 10, 14)
    for what in ("table", "pareto"):
        assert analyse([what, "small", "--tracking-uri", f"sqlite:///{sweep.database}"]) == 0
        shown = capsys.readouterr().out
        assert "3 points of each row by tpe search" in shown
        for variant in ("LL-R", "AN"):
            (line,) = [line for line in shown.splitlines() if line.startswith(f"| {variant}")]
            assert "±" in line


STOPPING = """
data: {labels: single_positive, train_images: 64, val_images: 32, test_images: 32}
network: {pretrain_images: 64, pretrain_epochs: 1}
train: {epochs: 6, batch_size: 16}
variants: {AN: {method: assume_negative}}
axes: {train.learning_rate: {loguniform: [1e-5, 1e-1]}}
seeds: [1]
search: {algorithm: random, trials: 6, confirm: {top: 1, seeds: [2]}}
stop: {rule: asha, grace: 1, reduction: 2}
"""


@pytest.mark.slow
def test_trials_that_a_rule_stops_are_recorded_as_that_and_what_is_confirmed_is_not_stopped(
    tmp_path, empty_database, ray_here
):
    sweep = Sweep(tmp_path, STOPPING, empty_database)
    ended = sweep.run(ray=True)  # one after the other: otherwise which are stopped depends on which is faster
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["trials"], told["succeeded"]) == (7, 7)
    runs = sweep.runs("trial")
    stopped = [run for run in runs if "sweeper.stopped" in run.data.tags]
    assert stopped, "of six one at least is worse than the others after an epoch"
    for run in stopped:
        assert run.info.status == "KILLED"
        assert run.data.tags["sweeper.seed"] == "1"
        epochs = int(run.data.tags["sweeper.stopped"])
        assert len(sweep.client.get_metric_history(run.info.run_id, "epoch/val/map")) == epochs < 6
        assert "test/map" in run.data.metrics
    assert told["epochs_trained"] == sum(int(run.data.tags.get("sweeper.stopped", 6)) for run in runs) < 7 * 6
    again = json.loads(sweep.run(ray=True).stdout.splitlines()[-1])
    assert (again["trials"], again["epochs_trained"]) == (7, 0)


def test_a_rule_that_stops_trials_of_a_table_is_refused_unless_forced(load, tmp_path):
    table = STOPPING.replace("{loguniform: [1e-5, 1e-1]}", "[1e-4, 1e-3]").partition("search:")[0]
    with pytest.raises(SpaceError, match="8: stop: trials of a table that are stopped early bias it"):
        load(table + "stop: asha\n")
    assert load(table + "stop: none\n").stop is None
    assert load(table + "stop: {rule: median, force: true}\n").stop.rule == "median"
    assert load(table).sweep == load(table + "stop: none\n").sweep
    with pytest.raises(SpaceError, match="8: stop: 'asah' is not allowed; allowed is asha | median | none"):
        load(table + "stop: asah\n")


def test_a_budget_of_epochs_ends_a_sweep_cleanly_and_the_same_command_goes_on(tmp_path, empty_database, on_ray):
    text = STOPPING.replace("{loguniform: [1e-5, 1e-1]}", "[1e-4, 1e-3, 1e-2]").partition("search:")[0]
    sweep = Sweep(tmp_path, text.replace("epochs: 6", "epochs: 2"), empty_database)
    ended = sweep.run("--max-epochs=3", ray=on_ray)
    assert ended.returncode == 3, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert told["epochs_trained"] == 3
    assert {run.info.status for run in sweep.runs("trial")} <= {"FINISHED", "KILLED"}
    assert [run.info.status for run in sweep.runs("sweep")] == ["KILLED"]
    again = sweep.run(ray=on_ray)
    assert again.returncode == 0
    assert json.loads(again.stdout.splitlines()[-1])["succeeded"] == 3
