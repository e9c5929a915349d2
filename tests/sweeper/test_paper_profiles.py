"""Every space under the papers' settings: planned without the data, and trained on miniatures of the data sets."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from methods.data import load
from methods.data.word_vectors import GLOVE_FILE
from methods.training.fit import Training
from sweeper.planning.plan import plan
from sweeper.spaces.reading import load_space, profiles_of
from tests.methods import miniatures
from tests.sweeper.commands import command

pytestmark = pytest.mark.slow

# Not from the working directory: elsewhere nothing would be found, and nothing tested.
SPACES = {path.stem: path for path in sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))}
# The papers' settings at the size of a test: smaller networks with random weights, small images, one epoch, no GPU.
# CLIP's own pooling is for one size of the map, and so of images.
CLIP = ("network.clip_model=RN50-quickgelu", "network.clip_weights=random")
SMALL = (
    "network.weights=random",
    "data.image_size=64",
    "train.epochs=1",
    "train.images_per_epoch=0",
    "seeds=[1]",
    "resources={cpu: 1, gpu: 0}",
)
DATASETS = ("coco2014", "voc2007", "voc2012", "vg200", "nus_wide", "cub200", "open_images_v3")


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    """A folder with a miniature of each data set and the word vectors that the papers start from."""
    folder = tmp_path_factory.mktemp("data")
    for name in DATASETS:
        miniatures.write(name, folder / name)
    names = set(miniatures.CATEGORIES.values())
    names |= {"aeroplane", "bicycle", "bird", "boat", "bus", "car", "cat", "chair", "cow", "table", "dog", "horse"}
    names |= {"motorbike", "plant", "sheep", "sofa", "train", "tv", "bottle", "person"}
    rng = np.random.default_rng(0)
    words = sorted({word for name in names for word in re.findall(r"\w+", name)})
    lines = (f"{word} {' '.join(map(str, rng.normal(size=8).round(3)))}\n" for word in words)
    (folder / GLOVE_FILE).write_text("".join(lines))
    np.save(folder / "vg_200_vector.npy", rng.normal(size=(200, 8)))
    return folder


@pytest.fixture(scope="module")
def trained():
    """Last keys of the trials that were trained already."""
    return set()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


def small(space: str) -> tuple[str, ...]:
    if not space.startswith("clip"):
        return (*SMALL, "network.backbone=resnet18")
    # --set wins over a variant: the framework's own backbone is set where it is not the only one.
    rows = load_space(SPACES[space], "paper").variants
    others = [row for row, values in rows.items() if values.get("network.backbone") != "open_clip"]
    return (*SMALL, *CLIP, *(f"variants.{row}={{network: {{backbone: resnet18}}}}" for row in others))


def test_every_space_has_the_papers_settings():
    assert {"ll_table1", "sst_table1", "sarb_table1", "clip_table2"} <= SPACES.keys()
    assert all("paper" in profiles_of(path) for path in SPACES.values())


@pytest.mark.parametrize("name", SPACES)
def test_a_plan_needs_no_data(name, monkeypatch, tmp_path):
    monkeypatch.delenv("SWEEPER_DATA", raising=False)
    planned = plan(load_space(SPACES[name], "paper"), folder=tmp_path)
    assert planned.not_at_hand
    assert planned.as_json()["epochs"]["stored"] is None
    assert planned.estimate_seconds is None, "nothing is known of such epochs here"


@pytest.mark.parametrize("name", SPACES)
def test_each_variant_trains_an_epoch(name, data_folder, trained, store, monkeypatch):
    monkeypatch.setenv("SWEEPER_DATA", str(data_folder))
    monkeypatch.setenv("SWEEPER_IMAGES", str(data_folder / "images"))
    rows: dict[str, list] = {}
    for trial in load_space(SPACES[name], "paper", small(name)).trials:
        rows.setdefault(trial.variant, []).append(trial)
    # Of each row one trial, of one data set after the other.
    for place, trials in enumerate(rows.values()):
        datasets = list(dict.fromkeys(trial.config.data.dataset for trial in trials))
        trial = next(t for t in trials if t.config.data.dataset == datasets[place % len(datasets)])
        key = trial.config.keys()[-1]
        if key in trained:  # as in another space
            continue
        trained.add(key)
        training = Training(trial.config, store)
        training.prepare()
        ((_, metrics),) = training.epochs()
        assert math.isfinite(metrics["train/loss"])
        task = load(trial.config.data)
        assert math.isfinite(metrics["test/map"]) == bool((task.test.labels == 1).any())


@pytest.mark.parametrize(
    ("name", "variant", "datasets"),
    [
        ("ll_table1", "LL-Ct", ("voc2012", "coco2014", "nus_wide", "cub200")),
        ("sst_table1", "SST", ("coco2014", "vg200", "voc2007")),
        ("ll_open_images", "Naive AN", ("open_images_v3",)),
    ],
)
def test_a_sweep_over_the_data_sets_runs(name, variant, datasets, data_folder, tmp_path, empty_database):
    others = [row for row in load_space(SPACES[name], "paper").variants if row != variant]
    sets = [*small(name), *(f"variants.{row}=null" for row in others)]
    sets += {
        "ll_table1": ["axes.train.linear_init=['off']", "table.reference=[]"],
        "sst_table1": ["axes.data.known=[0.5]"],
    }.get(name, [])
    ended = command(
        "run",
        SPACES[name],
        *("--profile", "paper", "--json", "--inline"),
        *(part for one in sets for part in ("--set", one)),
        cwd=tmp_path,
        SWEEPER_DATA=data_folder,
        SWEEPER_IMAGES=data_folder / "images",
        SWEEPER_STORE=tmp_path / "store",
        MLFLOW_TRACKING_URI=f"sqlite:///{shutil.copy(empty_database, tmp_path)}",
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout.splitlines()[-1])
    assert (told["succeeded"], told["epochs_trained"]) == (len(datasets), len(datasets))
