"""What a trial reads from the store and leaves there, and how jobs and reports become text and come back."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import pytest
import torch

from analysis.record.names import SECONDS
from methods.cache.store import Store
from sweeper.commands import verify
from sweeper.planning.stored import FAILURE, STATE, TRAINING
from sweeper.running.messages import Failure, Job, Report
from sweeper.running.trial import TrialRunner
from sweeper.spaces.reading import load_space
from sweeper.spaces.space import Select

SPACE = """
data: {labels: single_positive, train_images: 16, val_images: 8, test_images: 8}
network: {pretrain_epochs: 0}
train: {epochs: 4}
variants: {Naive AN: {method: assume_negative}}
seeds: [1]
"""


class First(Select):
    """A rule that selects epoch 1, which no metric does by itself."""

    def choose(self, history: Sequence[Mapping[str, float]]) -> int:
        return 1


class AfterTwo(Select):
    """A rule that ends every trial after epoch 2."""

    def ends(self, history: Sequence[Mapping[str, float]]) -> int | None:
        return 2 if len(history) >= 2 else None


FIRST, LAST = First(), Select("val/map", "last")


class OneTrial:
    def __init__(self, folder, space=SPACE):
        (folder / "one.yaml").write_text(space)
        space = load_space(folder / "one.yaml")
        (self.trial,) = space.trials
        self.folder = folder / "store"
        self.store = Store(self.folder)
        self.keys = self.trial.keys
        self.records = self.trial.config.records()
        self.notes: list[str] = []
        self.artifacts: list[dict[str, bytes]] = []

    def run(self, select=LAST, keep=(4,)) -> tuple[dict, list[int]]:
        """History and the epochs that were trained."""
        runner = self.runner(select, keep)
        history, trained, done = {}, [], False
        while not done:
            report = Report.read(runner.step().text())  # as a worker's comes back
            assert report.failure is None, report.failure
            epochs = {epoch: dict(metrics) for epoch, metrics in report.epochs.items()}
            history |= epochs
            self.seconds = [metrics.pop(SECONDS) for metrics in epochs.values() if SECONDS in metrics]
            self.notes += report.notes
            trained += [epoch for epoch in epochs if report.trained]
            done = report.done
            self.artifacts += [dict(report.artifacts)] if report.artifacts else []
        return history, trained

    def first_step(self) -> Report:
        """What the first step reports."""
        return self.runner(LAST, ()).step()

    def runner(self, select, keep) -> TrialRunner:
        return TrialRunner(self.job(select, keep))

    def job(self, select, keep) -> Job:
        return Job("one", self.trial.config.flat(), self.keys, keep, select, stoppable=False, store=str(self.folder))

    def states(self) -> list[int]:
        return [epoch for epoch, key in enumerate(self.keys) if self.store.has(key, STATE)]

    def delete(self, record: str, *epochs: int) -> None:
        for epoch in epochs:
            self.store.delete(self.keys[epoch], record)


@pytest.fixture
def one(tmp_path):
    return OneTrial(tmp_path)


def test_the_first_step_makes_what_is_made_once_and_trains_nothing(tmp_path):
    weights = "network: {pretrain_images: 64, pretrain_epochs: 1}"
    one = OneTrial(tmp_path, SPACE.replace("network: {pretrain_epochs: 0}", weights))
    report = one.first_step()
    assert not report.trained and not report.done
    assert [record.name for record in one.store.records()] == ["pretrained"]


def test_states_are_those_of_branches_the_end_and_the_selected_epoch(one):
    _, trained = one.run(FIRST, keep=(4,))
    assert trained == [1, 2, 3, 4]
    assert one.states() == [1, 4]


def test_with_the_state_of_a_branch_goes_that_of_the_best_epoch_so_far(one):
    one.run(LAST, keep=(3, 4))
    assert one.states() == [3, 4]
    for epoch in (1, 2, 3, 4):
        one.delete("state", epoch)
        one.delete(TRAINING, epoch)
    other_history, _ = one.run(FIRST, keep=(3,))
    assert one.states() == [1, 3]
    assert len(other_history) == 4


def test_what_the_store_has_whole_is_not_trained(one):
    history, _ = one.run()
    assert one.run() == (history, [])


def test_what_the_epochs_took_is_told_with_the_last_as_the_median_one_and_by_the_store_too(one):
    one.run()
    took = [one.store.read_json(key, TRAINING)[SECONDS] for key in one.keys[1:]]
    assert one.seconds == [pytest.approx(4 * statistics.median(took))]
    before = one.seconds
    one.run()
    assert one.seconds == before
    for key in one.keys[1:]:  # as a store has it that knows nothing of time
        said = one.store.read_json(key, TRAINING)
        one.store.write_json(key, TRAINING, {name: value for name, value in said.items() if name != SECONDS})
    assert one.run()[1] == []
    assert one.seconds == []


def test_training_goes_on_from_the_last_state_and_comes_to_the_same(one):
    history, _ = one.run(keep=(2, 4))
    one.delete(TRAINING, 4)
    assert one.run() == (history, [3, 4])


def test_metrics_that_are_missing_are_measured_again_from_the_scores(one):
    history, _ = one.run()
    one.delete(one.records.metrics, 1, 3, 4)
    assert one.run() == (history, [])
    one.delete(one.records.scores, 1, 2, 3, 4)
    assert one.run() == (history, [])  # for the metrics are there again


def test_without_metrics_and_scores_an_epoch_is_trained_again(one):
    history, _ = one.run()
    one.delete(one.records.metrics, 3)
    one.delete(one.records.scores, 3)
    assert one.run() == (history, [1, 2, 3, 4])


def test_a_damaged_record_is_reported_and_made_again(one):
    history, _ = one.run(keep=(2, 4))
    path = one.store._path(one.keys[3], one.records.scores)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    one.delete(one.records.metrics, 3)
    assert one.run() == (history, [3, 4])
    assert any("damaged" in note for note in one.notes)


DIAGNOSTICS = "diagnostics: {memorization: true, modifications: true, pointing_game: true, pictures: 2}"


def test_a_diagnostic_that_was_off_trains_again_and_comes_to_the_same_beside_the_same_metrics(one, tmp_path):
    history, _ = one.run()
    watched = OneTrial(tmp_path, SPACE + DIAGNOSTICS)
    assert watched.keys == one.keys
    diagnosed, trained = watched.run()
    assert trained == [1, 2, 3, 4]
    assert {epoch: {name: diagnosed[epoch][name] for name in metrics} for epoch, metrics in history.items()} == history
    assert len(diagnosed[4]) > len(history[4])
    assert watched.run() == (diagnosed, [])
    assert one.run() == (history, [])  # what is not asked for is not shown


def test_diagnostics_go_on_where_training_does(tmp_path):
    watched = OneTrial(tmp_path, SPACE + DIAGNOSTICS)
    history, _ = watched.run(keep=(2, 4))
    watched.delete(TRAINING, 3)
    assert repr(watched.run()) == repr((history, [3, 4]))
    (record,) = (record for name, record in watched.records.diagnostics if name == "memorization")
    watched.delete(record, 2)
    assert repr(watched.run()) == repr((history, [1, 2, 3, 4]))


def test_a_diagnostic_that_fails_fails_its_own_trial_and_no_other_of_the_same_epochs(one, tmp_path, monkeypatch):
    def no_place(*_):
        raise NotImplementedError("no attention")

    watched = OneTrial(tmp_path, SPACE + "diagnostics: {pointing_game: true}")
    with monkeypatch.context() as patched:
        patched.setattr("methods.assume_negative.AssumeNegativeObjective.attention", no_place)
        with pytest.raises(AssertionError, match="no attention"):
            watched.run()
    assert one.run()[1] == watched.run()[1] == [1, 2, 3, 4]


def test_an_epoch_that_does_not_fit_into_memory_fails_here_and_may_be_tried_again(one, monkeypatch):
    def large(*_):
        raise torch.OutOfMemoryError("Tried to allocate 2 GiB")

    with monkeypatch.context() as patched:
        patched.setattr("methods.assume_negative.AssumeNegativeObjective.loss", large)
        with pytest.raises(AssertionError, match=r"TooLargeError: 32 images .* train.batch_size.*2 GiB"):
            one.run()
    assert not any(one.store.has(key, FAILURE) for key in one.keys)
    assert one.run()[1] == [1, 2, 3, 4]


def test_pictures_come_with_the_end_trained_or_stored(tmp_path):
    watched = OneTrial(tmp_path, SPACE + DIAGNOSTICS)
    watched.run()
    (trained,) = watched.artifacts
    watched.run()
    assert watched.artifacts == [trained, trained]
    watched.delete(STATE, 4)
    watched.run()
    assert watched.artifacts == [trained, trained]  # without the state there are none, and nothing is trained for them


def test_a_trial_that_its_history_ends_has_its_end_there_trained_or_stored(tmp_path):
    one = OneTrial(tmp_path, SPACE + DIAGNOSTICS)
    history, trained = one.run(AfterTwo())
    assert (list(history), trained, one.states()) == ([1, 2], [1, 2], [2])
    (at_the_end,) = one.artifacts
    assert repr(one.run(AfterTwo())) == repr((history, []))
    whole, trained = one.run(LAST)
    assert trained == [3, 4], "the epochs are those of any other trial"
    assert repr({epoch: whole[epoch] for epoch in history}) == repr(history)
    assert repr(one.run(AfterTwo())) == repr((history, [])), "what the store has beyond is not the trial's"
    assert one.artifacts[0] == one.artifacts[1] == one.artifacts[3] == at_the_end != one.artifacts[2]


def test_what_is_trained_again_is_compared_up_to_the_end_of_the_trial():
    space = SimpleNamespace(select=Select("val/map", "best", 3))
    computed = [{"val/map": value} for value in (60.0, 50.0, 70.0)]
    assert verify._different("histories in MLflow", computed[:2], computed, space) == []
    assert verify._different("metrics in the store", computed, computed, space) == []
    assert verify._different("histories in MLflow", computed[:1], computed, space) != []


def test_results_of_all_epochs_are_compared_with_those_of_the_last_one_whichever_is_selected():
    space = SimpleNamespace(select=Select("val/map", "best", 3))
    computed = [{"val/map": 60.0 - 5 * epoch, "memorization/fn_loss": 0.1 * epoch} for epoch in range(3)]
    recorded = {"val/map": 60.0, "memorization/fn_loss": 0.1, "selected_epoch": 1.0}
    assert verify._different("results in MLflow", recorded, computed, space) == []
    (text,) = verify._different("results in MLflow", recorded | {"memorization/fn_loss": 0.0}, computed, space)
    assert "memorization/fn_loss" in text


SST = """
data: {labels: proportion, known: 0.6, train_images: 16, val_images: 8, test_images: 8}
network: {pretrain_epochs: 0}
train: {epochs: 4}
variants: {SST: {method: sst, start_epoch: 2}}
seeds: [1]
"""


def test_scenes_of_co_occurrence_come_from_what_the_store_has_and_train_nothing(tmp_path):
    one = OneTrial(tmp_path, SST)
    history, _ = one.run()
    assert one.artifacts == []
    shown = OneTrial(tmp_path, SST + "diagnostics: {cooccurrence: 2, similar_images: 2}")
    assert shown.keys == one.keys
    assert shown.run() == (history, [])
    (artifacts,) = shown.artifacts
    assert list(artifacts) == ["cooccurrence.npz", "similar_images.npz"]
    shown.delete(STATE, 4)
    shown.run()
    assert shown.artifacts == [artifacts]


def test_a_method_without_co_occurrence_leaves_no_scenes_of_it(tmp_path):
    one = OneTrial(tmp_path, SPACE + DIAGNOSTICS.replace("}", ", cooccurrence: 2}"))
    one.run()
    (artifacts,) = one.artifacts
    assert list(artifacts) == ["corrections.npz"]


def test_a_job_and_a_report_come_back_from_their_text_as_they_were(one):
    job = one.job(LAST, [2, 4])
    assert Job.read(job.text()) == job
    report = Report(
        {1: {"val/map": 60.1}, 2: {"val/map": 1 / 3}},
        trained=True,
        done=True,
        written={"state": 5},
        notes=["a note"],
        artifacts={"file.npz": bytes(range(256))},
        gpu_memory=7,
        seconds=0.1,
        failure=Failure("ValueError: no", "Traceback"),
        refused=True,
    )
    assert Report.read(report.text()) == report
    nothing = Report(notes=[])
    assert Report.read(nothing.text()) == nothing


def test_a_trial_whose_keys_are_others_here_is_refused_and_trains_nothing(one):
    one.keys = ["0" * 64, *one.keys[1:]]
    report = one.first_step()
    assert (report.refused, report.done, report.epochs) == (True, True, {})
    assert not list(one.store.records())
