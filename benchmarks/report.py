"""A thousand runs: how long a table and the report take, and how many searches of MLflow each makes.

The store is made through MLflow's own client: a space of 1,000 trials, and ten spaces of 100, each trial with sixty
params, histories of twelve epochs and its results, as the sweeper logs them. `--store FOLDER` keeps it for the next
time.

    python benchmarks/report.py
"""

from __future__ import annotations

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

EPOCHS = 12
HISTORY = ("train/loss", "val/map", "val/of1", "test/map", "test/of1", "test/cf1")
RESULTS = (*HISTORY[1:], "test/map_interpolated", "test/op", "test/or", "test/cp", "test/cr")
FILLERS = {f"train.setting_{n}": str(n) for n in range(55)}


def make(folder: Path, spaces: dict[str, int]) -> str:
    """A store with the spaces, of so many trials each (a multiple of 50); its URI."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(uri)
    for name, trials in spaces.items():
        if client.get_experiment_by_name(name) is None:
            _log(client, client.create_experiment(name, artifact_location=(folder / name).as_uri()), name, trials)
    return uri


def _log(client: MlflowClient, experiment: str, name: str, trials: int) -> None:
    variants, deltas = [f"Method {n}" for n in range(10)], [0.1, 0.2, 0.5, 1.0, 2.0]
    seeds = list(range(1, trials // 50 + 1))
    common = {"sweeper.space": name, "sweeper.sweep": f"{name}-sweep", "sweeper.profile": "default"}
    parent = client.create_run(experiment, tags={**common, "sweeper.kind": "sweep"}).info.run_id
    expected = [
        {"trial": f"{name}-{number}", "variant": variant, "seed": seed, "axes": {"delta_rel": delta}}
        for number, (variant, delta, seed) in enumerate(itertools.product(variants, deltas, seeds))
    ]
    space = {
        "name": name, "title": f"A space of {trials} trials", "source": {"paper": "none"}, "profile": "default",
        "variants": {variant: {} for variant in variants}, "axes": {"delta_rel": deltas}, "seeds": seeds,
        "select": {"metric": "val/map", "epoch": "best"},
        "table": {"rows": "variant", "columns": "delta_rel", "value": "test/map"}, "figure": {},
        "resources": {"cpu": 1, "gpu": 0}, "trials": expected,
    }  # fmt: skip
    client.log_dict(parent, space, "space.json")
    client.log_dict(parent, {"python": "3", "packages": {}, "platform": {}, "machine": {}}, "environment.json")
    settings = {"data.dataset": "digit_scenes", "data.labels": "single_positive", "data.val_labels": "clean"}
    settings |= {"train.epochs": str(EPOCHS)} | FILLERS
    for trial in expected:
        draw = random.Random(trial["trial"])
        tags = {
            **common, "sweeper.kind": "trial", "mlflow.parentRunId": parent, "sweeper.variant": trial["variant"],
            "sweeper.seed": str(trial["seed"]), "sweeper.trial": trial["trial"], "sweeper.key": trial["trial"],
        }  # fmt: skip
        run = client.create_run(experiment, tags=tags).info.run_id
        params = settings | {"delta_rel": str(trial["axes"]["delta_rel"]), "seed": str(trial["seed"])}
        points = [
            Metric(f"epoch/{metric}", 50 + 2 * epoch + draw.gauss(0, 1), 0, epoch)
            for epoch in range(1, EPOCHS + 1)
            for metric in HISTORY
        ]
        points += [Metric(metric, 70 + draw.gauss(0, 2), 0, EPOCHS) for metric in RESULTS]
        client.log_batch(run, points, [Param(key, value) for key, value in params.items()])
        client.set_terminated(run)


@contextmanager
def counted() -> Iterator[list[str]]:
    """The searches made within."""
    searches: list[str] = []
    search = MlflowClient.search_runs

    def counting(self: MlflowClient, experiments: list[str], where: str = "", *rest, **options):
        searches.append(where)
        return search(self, experiments, where, *rest, **options)

    MlflowClient.search_runs = counting
    try:
        yield searches
    finally:
        MlflowClient.search_runs = search


def measure(what: str, call: Callable[[], object]) -> None:
    with counted() as searches:
        started, worked = time.perf_counter(), time.process_time()
        call()
        spent, worked = time.perf_counter() - started, time.process_time() - worked
        print(f"{what}: {spent:.1f} s ({worked:.1f} s of processor time), {len(searches)} searches", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, help="where the store is made, or was made before")
    given = parser.parse_args().store
    with tempfile.TemporaryDirectory() as temporary:
        folder = (given or Path(temporary)).absolute()
        stores = {"one": {"of_1000": 1000}, "ten": {f"of_100_{n}": 100 for n in range(10)}}
        uris = {}
        for store, spaces in stores.items():
            (folder / store).mkdir(parents=True, exist_ok=True)
            uris[store] = make(folder / store, spaces)

        from analysis import table
        from analysis.cli import main as analysis

        page = str(folder / "report.html")
        measure("a table of 1,000 runs", lambda: table("of_1000", tracking_uri=uris["one"]).md())
        for store, spaces in stores.items():
            report = ["report", "--tracking-uri", uris[store], "--out", page]
            measure(f"the report on 1,000 runs in {len(spaces)} sweeps", lambda report=report: analysis(report))


if __name__ == "__main__":
    main()
