"""A real MLflow store with hand-made sweeps, logged as the sweeper's driver logs them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

# (variant, delta_rel): (val/map, test/map) of seeds 1, 2, 3; None is a run that failed, "missing" one never started.
# A third entry has more metrics: a number is a result, a list the values of epochs 1, 2, … (None: nothing was logged).
Results = dict[tuple[str, Any], list[Any]]

LL_DELTA: Results = {
    ("Full label", None): [(80, 80.0), (80, 81.0), (80, 82.0)],
    ("Naive AN", None): [(60, 60.0), (60, 60.0), (60, 63.0)],
    ("LL-R", 0.1): [(61, 62.0), (61, 63.0), (61, 64.0)],
    ("LL-R", 0.4): [(66, 68.0), (66, 69.0), (66, 70.0)],
    ("LL-R", 1.6): [(50, 50.0), None, (50, 51.0)],
    ("LL-Ct", 0.1): [(62, 64.0), (62, 65.0), (62, 66.0)],
    ("LL-Ct", 0.4): [(65, 67.0), "missing", (65, 69.5)],
    ("LL-Ct", 1.6): [None, None, "missing"],
}

# Each seed's own val likes another value than the other seeds do, and test rewards it: seeds that choose for themselves
# report 90 three times, and the value with the best mean over all seeds, 3.0, gives 15, 50 and 90. By the other seeds'
# mean (seed 1: 11, 70, 67.5; seed 2: 50, 30, 55; seed 3: 51, 50, 32.5) they take 2.0, 3.0 and 1.0: 40, 50 and 60.
NAIVE_CHOICE_DIFFERS: Results = {
    ("LL-R", 1.0): [(90, 90.0), (12, 20.0), (10, 60.0)],
    ("LL-R", 2.0): [(10, 40.0), (90, 90.0), (50, 20.0)],
    ("LL-R", 3.0): [(20, 15.0), (45, 50.0), (90, 90.0)],
    ("Naive AN", None): [(30, 30.0), (30, 31.0), (30, 32.0)],
}


_KINDS = ("tp", "tn", "fn")
# As a space's methods and settings declare them.
TITLES: dict[str, Any] = {
    "settings": {
        "delta_rel": {"title": "Δrel", "unit": "percent per epoch"},
        "gamma_neg": {"title": "γ−"},
        "gamma_pos": {"title": "γ+"},
        "theta_intra_min": {"title": "smallest θ"},
        "theta_inter_min": {"title": "smallest θ"},
        "data.dataset": {"title": "data set"},
        "data.known": {"title": "known proportion", "unit": "%"},
        "data.train_fraction": {"title": "share of the training images", "unit": "%"},
        "train.linear_init": {
            "title": "training",
            "values": {"off": "end-to-end", "first_epochs": "LinearInit", "separate": "LinearInit (separate run)"},
        },
    },
    "metrics": {
        "train/alpha": "learned share of the own feature, α",
        "train/beta": "learned share of the own feature, β",
        "train/theta_intra": "threshold of pseudo labels, IST",
        "train/theta_inter": "threshold of pseudo labels, CST",
        "train/pseudo_intra": "pseudo labels per image, IST",
        "train/pseudo_inter": "pseudo labels per image, CST",
        "modifications/precision": "precision of modification (%)",
        "modifications/base_rate": "positives among unobserved labels (%)",
        "modifications/count": "modified labels",
        "modifications/per_image": "modified labels per image",
        "pointing_game/hits": "pointing game hits (%)",
        **{f"memorization/{kind}_loss": f"mean loss of training labels, {kind.upper()}" for kind in _KINDS},
        **{f"memorization/{kind}_warmup": f"highest loss in warm-up (%), {kind.upper()}" for kind in _KINDS},
        **{f"memorization/{kind}_later": f"highest loss later (%), {kind.upper()}" for kind in _KINDS},
    },
}


class Axes(dict):
    """Values on several axes, in place of a delta_rel."""

    __hash__ = object.__hash__  # type: ignore[assignment]


@dataclass(frozen=True)
class Store:
    """A tracking URI and what was logged under it."""

    uri: str
    log: Callable[..., str]


def space_of(name: str, results: Results, seeds: list[int], **changes: Any) -> dict[str, Any]:
    """The `space.json` of hand-made results; `changes` replace its fields."""
    variants = {variant: {"data.labels": "full"} if variant == "Full label" else {} for variant, _ in results}
    deltas = [value for _, value in results if value is not None and not isinstance(value, Axes)]
    space = {
        "name": name,
        "title": "Large Loss Matters: how many large losses to reject or correct",
        "source": {"paper": "large_loss_matters", "item": "hyper-parameter Δrel"},
        "profile": "default",
        "variants": variants,
        "axes": {"delta_rel": list(dict.fromkeys(deltas))} if deltas else {},
        "seeds": seeds,
        "select": {"metric": "val/map", "epoch": "best"},
        "table": {"rows": "variant", "columns": "delta_rel", "value": "test/map", "reference": ["Full label"]},
        "titles": TITLES,
    }
    space["trials"] = [
        {"trial": f"{name}-{variant}-{delta}-{seed}", "variant": variant, "seed": seed}
        | {"axes": delta if isinstance(delta, Axes) else {} if delta is None else {"delta_rel": delta}}
        for variant, delta in results
        for seed in seeds
    ]
    return space | changes


def log_sweep(
    client: MlflowClient,
    name: str,
    sweep: str,
    results: Results,
    *,
    started: int = 1_000,
    seeds: Sequence[int] = (1, 2, 3),
    logged: Mapping[str, Any] = {},
    artifacts: Mapping[str, bytes] = {},
    of_rows: Mapping[str, Mapping[str, Any]] = {},
    tags_of_rows: Mapping[str, Mapping[str, str]] = {},
    kind: str = "trial",
    **changes: Any,
) -> str:
    """Log one sweep and return its parent's run id; `started` is in milliseconds. `logged` are more params, and
    `artifacts` files, of every trial; `of_rows` and `tags_of_rows` are params and tags of single rows' trials (tags
    also of one trial), which are of `kind`."""
    space = space_of(name, results, list(seeds), **changes)
    experiment = client.get_experiment_by_name(name)
    experiment_id = experiment.experiment_id if experiment else client.create_experiment(name)
    common = {"sweeper.space": name, "sweeper.sweep": sweep}
    of_parent = {**common, "sweeper.kind": "sweep", "sweeper.profile": space["profile"]}
    parent = client.create_run(experiment_id, start_time=started, tags=of_parent).info.run_id
    client.log_dict(parent, space, "space.json")
    client.log_dict(parent, {}, "environment.json")
    outcomes = [outcome for cell in results.values() for outcome in cell]
    for trial, outcome in zip(space["trials"], outcomes, strict=True):
        if outcome == "missing":
            continue
        tags = common | {
            "sweeper.kind": kind,
            "mlflow.parentRunId": parent,
            "sweeper.variant": trial["variant"],
            "sweeper.seed": str(trial["seed"]),
            "sweeper.trial": trial["trial"],
            "sweeper.key": trial["trial"],
        }
        tags |= {**tags_of_rows.get(trial["variant"], {}), **tags_of_rows.get(trial["trial"], {})}
        run = client.create_run(experiment_id, start_time=started + 1, tags=tags).info.run_id
        labels = "full" if trial["variant"] == "Full label" else "single_positive"
        settings = {"data.dataset": "digit_scenes", "data.labels": labels, "data.val_labels": "clean"}
        settings |= {"delta_rel": "null", **logged, **of_rows.get(trial["variant"], {}), **trial["axes"]}
        params = [Param(key, str(value)) for key, value in settings.items()]
        if outcome is None:
            client.log_batch(run, params=params, tags=[RunTag("sweeper.failure", "loss is NaN in epoch 2")])
            client.set_terminated(run, "FAILED")
            continue
        val, test, *more = outcome
        own = more[0] if more else {}
        history = [
            Metric(f"epoch/{split}/map", value - 2 + epoch, 0, epoch)
            for split, value in (("val", val), ("test", test))
            for epoch in (1, 2)
            if not isinstance(own.get(f"{split}/map"), list)
        ]
        points = [Metric("val/map", val, 0, 2), Metric("test/map", test, 0, 2), Metric("selected_epoch", 2, 0, 2)]
        for metric, value in own.items():
            if isinstance(value, list):
                logged_at = [(epoch, v) for epoch, v in enumerate(value, start=1) if v is not None]
                history += [Metric(f"epoch/{metric}", v, 0, epoch) for epoch, v in logged_at]
            else:
                points.append(Metric(metric, value, 0, 2))
        client.log_batch(run, metrics=history + points, params=params)
        for file, content in artifacts.items():
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, file)
                path.write_bytes(content)
                client.log_artifact(run, str(path))
        client.set_terminated(run, "FINISHED")
    return parent


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for all tests: to make a database takes seconds."""
    folder: Path = tmp_path_factory.mktemp("mlflow")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)  # where MLflow puts artifacts
        client = MlflowClient(uri)

        def log(name: str, sweep: str, results: Results, **given: Any) -> str:
            with pytest.MonkeyPatch.context() as inner:
                inner.chdir(folder)
                return log_sweep(client, name, sweep, results, **given)

        old = {key: [(1, 1.0)] * 3 for key in LL_DELTA}
        log("ll_delta", "0ld", old, started=1_000)
        log("ll_delta", "ae4f", LL_DELTA, started=9_000)
        log("ll_delta", "01der", old, started=500)
        log("choice", "c401", NAIVE_CHOICE_DIFFERS)
        log("one_seed", "5eed", {k: v[:1] for k, v in NAIVE_CHOICE_DIFFERS.items()}, seeds=[1])
        epochs = {"rows": "variant", "columns": "epoch", "value": "test/map"}
        plain = {("Naive AN", None): LL_DELTA["Naive AN", None], ("Full label", None): LL_DELTA["Full label", None]}
        log("over_epochs", "e90c", plain, table=epochs)
        log("plain", "b1a9", plain, table={"rows": "variant", "columns": None, "value": "test/map"})
        client.create_experiment("never_run")
    return Store(uri, log)
