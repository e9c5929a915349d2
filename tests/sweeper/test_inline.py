"""Trials in the driver's own process: the same record as on Ray Tune, and what differs is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from methods.cache.store import Store
from methods.training.config import Config
from sweeper.running import inline
from sweeper.running.budget import Budget
from sweeper.running.events import Listener
from sweeper.running.run import run
from sweeper.running.trial import TrialRunner
from sweeper.spaces.reading import load_space
from tests.sweeper.commands import Sweep

SPACE = """
data: {labels: single_positive, train_images: 32, val_images: 16, test_images: 16}
network: {pretrain_images: 64, pretrain_epochs: 1}
train: {epochs: 2, batch_size: 16}
variants:
  Naive AN: {method: assume_negative}
  LL-Cp: {method: large_loss, scheme: correct_permanent}
  Diverges: {method: assume_negative, train.optimizer: sgd, train.learning_rate: 1e+30}
axes: {delta_rel: [1, 5]}
seeds: [1, 2]
"""
SEARCH = """
data: {labels: single_positive, train_images: 16, val_images: 8, test_images: 8}
network: {pretrain_epochs: 0}
train: {epochs: 1}
variants: {AN: {method: assume_negative}}
axes: {train.learning_rate: {loguniform: [1e-4, 1e-1]}}
seeds: [1]
search: {algorithm: tpe, trials: 3, startup: 1, lag: 1, confirm: {top: 1, seeds: [2]}}
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder of its own to run in; load a space there."""
    monkeypatch.chdir(tmp_path)
    for name in ("SWEEPER_STORE", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)

    def load(text: str = SPACE, *sets: str):
        (tmp_path / "small.yaml").write_text(text)
        return load_space("small.yaml", sets=sets)

    return load


def artifacts(sweep: Sweep) -> dict[str, list]:
    """Names by trial, and the resolved space."""
    found = {}
    for one in [*sweep.runs("sweep"), *sweep.runs("trial")]:
        names = sorted(file.path for file in sweep.client.list_artifacts(one.info.run_id))
        found[one.data.tags.get("sweeper.trial", "sweep")] = names
    (parent,) = sweep.runs("sweep")
    space = Path(sweep.client.download_artifacts(parent.info.run_id, "space.json"))
    return found | {"space": json.loads(space.read_text())}


@pytest.mark.slow
def test_a_sweep_leaves_the_same_in_mlflow_and_in_the_store_under_both_executors(tmp_path, empty_database, ray_here):
    sweeps, told = [], []
    for name in ("ray", "inline"):
        (tmp_path / name).mkdir()
        sweeps.append(Sweep(tmp_path / name, SPACE, empty_database))
        ended = sweeps[-1].run(ray=name == "ray")
        assert ended.returncode == 1, ended.stderr
        told.append(json.loads(ended.stdout) | {"seconds": 0})
    ray, alone = sweeps
    assert told[0] == told[1]
    assert alone.content() == ray.content()
    assert artifacts(alone) == artifacts(ray)
    stores = [Store(sweep.folder / "runs" / "store") for sweep in sweeps]
    names = [{(record.key, record.name) for record in store.records()} for store in stores]
    assert names[0] == names[1] and len(names[0]) > 20
    for key, name in names[0]:
        if name == "state" or name.startswith(("scores", "metrics")):
            one, other = (store._path(key, name).read_bytes() for store in stores)
            assert one == other


def test_ray_is_not_imported(tmp_path):
    (tmp_path / "small.yaml").write_text(SEARCH)
    script = (
        "import sys; from sweeper.cli import main; code = main(['run', 'small.yaml', '--inline'])\n"
        "print(code, [name for name in sys.modules if name.split('.')[0] == 'ray'])"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "0 []", result.stderr


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            ("--address", "auto"),
            "error: --address auto needs Ray, which --inline does without; allowed is one trial at",
        ),
        (("--max-concurrent", "2"), "error: --max-concurrent 2 needs Ray, which --inline does without; allowed is "),
        (
            ("--set", "stop={rule: asha, force: true}"),
            "error: small: stop: asha needs Ray, which --inline does without",
        ),
    ],
)
def test_what_needs_ray_is_refused_in_one_line(tmp_path, empty_database, options, expected):
    result = Sweep(tmp_path, SEARCH, empty_database).command("run", "small.yaml", "--inline", *options)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(expected)


def test_a_budget_of_time_ends_a_step_that_would_take_for_ever(here, empty_database, capsys):
    space = here(SPACE, "network.pretrain_epochs=1000000", "seeds=[1]")
    outcome = run(space, inline=True, budget=Budget(seconds=3.0), progress=True)
    assert (outcome.exit_code, outcome.epochs_trained, outcome.succeeded) == (3, 0, 0)
    assert "--time-budget is used up" in capsys.readouterr().err
    assert not list(Store(Path("runs/store")).leftovers())


def test_what_a_step_raises_outside_an_epoch_fails_its_trial_and_the_sweep_goes_on(here, monkeypatch):
    class Broken(TrialRunner):
        def step(self):
            if self._job.values["seed"] == 1:
                raise RuntimeError("no such step")
            return super().step()

    monkeypatch.setattr(inline, "TrialRunner", Broken)
    outcome = run(here(SEARCH.partition("axes")[0] + "seeds: [1, 2]\n"), inline=True)
    assert {trial.config.seed: reason for trial, reason in outcome.failed.items()} == {1: "RuntimeError: no such step"}
    assert (outcome.succeeded, outcome.exit_code) == (1, 1)


def test_a_trial_whose_keys_have_changed_since_it_was_planned_fails_with_that(here):
    space = here(SEARCH.partition("axes")[0] + "seeds: [1]\n")
    (trial,) = space.trials
    trial.keys[0] = "0" * 64  # as if a file of the data set had been another one then
    outcome = run(space, inline=True)
    assert list(outcome.failed.values()) == [inline.REFUSED]


HANGS = """
import sys
from sweeper.cli import main
from sweeper.running import inline
from tests.sweeper.hanging import Hanging
inline.TrialRunner = Hanging
sys.exit(main(["run", "small.yaml", "--inline"]))
"""


def test_a_step_that_hangs_ends_the_command_with_where_it_hung_and_the_same_command_goes_on(tmp_path):
    text = SEARCH.partition("axes")[0].replace("epochs: 1}", "epochs: 2}") + "seeds: [1]\n"
    (tmp_path / "small.yaml").write_text(text)
    command = [sys.executable, "-c", HANGS]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}  # where the trial that hangs is found
    hung = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert hung.returncode == 1
    assert "a step took more than 0.2 s, so this process ends; the same command goes on. It was here:" in hung.stderr
    assert "in for_ever" in hung.stderr
    again = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert "1 of 1 trials done, 0 failed" in again.stderr


class Lines(Listener):
    """A record of its own: a line of JSON for each event."""

    def __init__(self, path: Path):
        self._path = path

    def _write(self, event, trial, **values):
        with self._path.open("a") as file:
            print(json.dumps({"event": event, "trial": trial.title, **values}), file=file)

    def started(self, trial):
        self._write("started", trial)

    def reported(self, trial, report):
        self._write("reported", trial, epochs=list(report.epochs), trained=report.trained)

    def finished(self, trial, results):
        self._write("finished", trial, results=results)

    def failed(self, trial, failure):
        self._write("failed", trial, reason=failure.reason)

    def grown(self, trials, more):
        for trial in trials:
            self._write("grown", trial, more=more)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_another_tracker_is_a_listener_and_hears_all_that_mlflow_holds(here, tmp_path):
    path = tmp_path / "events.jsonl"
    space = here(SPACE, "seeds=[1]", "axes.delta_rel=[1]")
    outcome = run(space, inline=True, listeners=[Lines(path)])
    assert outcome.exit_code == 1
    events = lines(path)
    by_trial = {title: [one for one in events if one["trial"] == title] for title in {one["trial"] for one in events}}
    assert by_trial.keys() == {trial.title for trial in space.trials}
    for title, own in by_trial.items():
        ended = "failed" if title.startswith("Diverges") else "finished"
        assert [own[0]["event"], own[-1]["event"]] == ["started", ended]
        epochs = [epoch for one in own if one["event"] == "reported" for epoch in one["epochs"]]
        assert epochs == ([] if ended == "failed" else [1, 2])
    failed = next(one for one in events if one["event"] == "failed")
    assert failed["reason"] == next(iter(outcome.failed.values()))
    finished = next(one for one in events if one["event"] == "finished")
    assert {"val/map", "test/map", "selected_epoch"} < finished["results"].keys()


def test_listeners_hear_of_a_search_that_grows_after_the_trial_that_it_has_learnt_from(here, tmp_path):
    path = tmp_path / "events.jsonl"
    outcome = run(here(SEARCH), inline=True, listeners=[Lines(path)])
    assert (outcome.exit_code, len(outcome.plan.space.trials), outcome.succeeded) == (0, 4, 4)
    told = [(one["event"], one["trial"]) for one in lines(path) if one["event"] != "reported"]
    grown = [trial for event, trial in told if event == "grown"]
    assert grown == [trial.title for trial in outcome.plan.space.trials[1:]]
    order = [event for event, _ in told]
    assert order == ["started", "finished", *["grown", "started", "finished"] * 3]


def test_a_run_does_not_change_its_space_or_plan(here):
    plans = []
    space = here(SEARCH)
    before = space.trials
    run(space, inline=True, on_plan=plans.append)
    assert space.trials == before
    (planned,) = plans
    assert len(planned.space.trials) == len(planned.keep) == 1


def test_keys_and_records_of_a_trial_are_computed_once_and_a_keys_folder_is_listed_once(here, monkeypatch):
    space = here(SPACE, "variants.Diverges=null")
    assert run(space, inline=True).exit_code == 0
    space, counts, listed = here(SPACE, "variants.Diverges=null"), Counter(), Counter()

    def counted(cls, name, count):
        call = getattr(cls, name)

        def counting(self, *arguments):
            count(self, *arguments)
            return call(self, *arguments)

        monkeypatch.setattr(cls, name, counting)

    counted(Config, "keys", lambda config: counts.update(["keys"]))
    counted(Config, "records", lambda config: counts.update(["records"]))
    counted(Store, "names", lambda store, key: listed.update([key]))
    assert run(space, inline=True).epochs_trained == 0
    assert counts == {"keys": len(space.trials), "records": len(space.trials)}
    assert set(listed) == {key for trial in space.trials for key in trial.keys[1:]}
    assert set(listed.values()) == {1}
