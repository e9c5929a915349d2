"""Runs as they are read from MLflow."""

import itertools
from dataclasses import replace

import pytest
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.models import SqlParam
from sqlalchemy import event

from analysis.reading import runs

RESULTS = {("Naive AN", None): [(60, 60.0), None, "missing"], ("LL-R", 0.1): [(61, float("nan")), (62, 62.0), None]}


NAMES = (f"read_{number}" for number in itertools.count())  # the store is that of all tests


@pytest.fixture
def client(store):
    return MlflowClient(store.uri)


@pytest.fixture
def experiment(client, store):
    name = next(NAMES)
    store.log(name, "5ead", RESULTS)
    store.log(name, "07e5", RESULTS)
    store.log(name, "5ead", {("Naive AN", None): [(2, 2.0)] * 3}, started=9_000)
    store.log(name, "5ead", {("Naive AN", None): [(1, 1.0)] * 3}, kind="superseded")
    more = {("LL-R", delta): [(60, 60.0)] * 20 for delta in (0.1, 0.2, 0.4)}
    store.log(name, "1a46e", more, seeds=range(20))
    return client.get_experiment_by_name(name).experiment_id


def test_a_sweep_read_by_tables_is_the_same_as_by_search(client, experiment):
    where = "tags.`sweeper.kind` = 'trial' and tags.`sweeper.sweep` = '5ead'"
    by_search = runs.search(client, [experiment], where)
    by_tables = runs.trials(client, experiment, "5ead")
    assert len(by_search) == 8

    def comparable(found):  # NaN is not equal to itself
        return sorted(
            (replace(run, metrics={name: str(value) for name, value in run.metrics.items()}) for run in found),
            key=lambda run: run.run_id,
        )

    assert comparable(by_tables) == comparable(by_search)
    assert [run.started for run in by_tables] == [run.started for run in by_search] == [9_001] * 3 + [1_001] * 5
    assert any(value != value for run in by_tables for value in run.metrics.values())


def test_a_run_that_is_superseded_meanwhile_is_left_out(client, experiment):
    first = runs.trials(client, experiment, "5ead")[0]
    engine, kinds = client._tracking_client.store.engine, ["superseded"]

    def supersede(connection, cursor, statement, *_):
        if statement.startswith("SELECT tags.") and kinds:
            client.set_tag(first.run_id, "sweeper.kind", kinds.pop())

    event.listen(engine, "before_cursor_execute", supersede)
    left = runs.trials(client, experiment, "5ead")
    assert len(left) == 7
    assert first.run_id not in {run.run_id for run in left}
    assert all(run.tags["sweeper.kind"] == "trial" for run in left)


def test_a_deleted_run_is_not_read(client, experiment):
    first = runs.trials(client, experiment, "5ead")[0]
    client.delete_run(first.run_id)
    assert first.run_id not in {run.run_id for run in runs.trials(client, experiment, "5ead")}


def test_a_sweep_takes_a_few_statements_whatever_the_number_of_its_trials(client, experiment):
    executed = []
    engine = client._tracking_client.store.engine
    event.listen(engine, "before_cursor_execute", lambda *_: executed.append(1))
    counts = []
    for sweep in ("5ead", "1a46e"):
        executed.clear()
        runs.trials(client, experiment, sweep)
        counts.append(len(executed))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("lacking", ["SqlLatestMetric", "SqlLatestMetric.is_nan"])
def test_where_mlflow_has_no_such_tables_its_search_answers(client, experiment, monkeypatch, lacking):
    by_tables = runs.trials(client, experiment, "5ead")
    models = "mlflow.store.tracking.dbmodels.models"
    if lacking == "SqlLatestMetric":
        monkeypatch.delattr(f"{models}.SqlLatestMetric")
    else:
        fields = {"run_uuid": SqlParam.run_uuid, "key": SqlParam.key, "value": SqlParam.value}
        monkeypatch.setattr(f"{models}.SqlLatestMetric", type("Metric", (), fields))
    by_search = runs.trials(client, experiment, "5ead")
    assert {run.run_id for run in by_search} == {run.run_id for run in by_tables}


def test_where_mlflow_does_not_answer_it_is_a_record_error():
    with pytest.raises(runs.RecordError, match="does not answer"), runs.answering("http://127.0.0.1:9"):
        runs.sweeps(MlflowClient("http://127.0.0.1:9"))
