"""The profile `paper` of every space, compared with what the papers and their code state (published_settings.yaml)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml

from methods.contract import settings
from methods.contract.settings import Field, fields
from methods.training.config import SECTIONS, Config
from methods.training.registry import methods
from sweeper.spaces.reading import load_space
from sweeper.spaces.space import Space, Trial

SPACES = {path.stem: path for path in sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))}
STATED = yaml.safe_load(Path(__file__).with_name("published_settings.yaml").read_text(encoding="utf-8"))
COMPARED = ("data", "network", "train")


def paper(name: str, *sets: str) -> Space:
    """Under one seed: no setting depends on it."""
    return load_space(SPACES[name], "paper", ("seeds=[1]", *sets))


def stated(space: str, trial: Trial) -> dict[str, Any]:
    """The stated value of each setting of a trial, by its dotted name."""
    known, found = trial.config.flat(), {}
    for entry in STATED["settings"]:
        if matches(entry, space, trial):
            found |= {name: value for name, value in entry["settings"].items() if name in known}
    return found


def matches(entry: Mapping[str, Any], space: str, trial: Trial) -> bool:
    config = trial.config
    facts = {"space": space, "row": trial.variant, "method": config.method, "dataset": config.data.dataset}
    return all(any(fnmatchcase(facts[key], pattern) for pattern in given) for key, given in entry["of"].items())


def acting(config: Config) -> set[str]:
    """Dotted names of the settings that can change what is trained."""
    names = set(config.settings.acting())
    for section in COMPARED:
        own = {field.name for field in fields(SECTIONS[section])}
        names |= {f"{section}.{name}" for name in getattr(config, section).acting() if name in own}
    return names


def differences(space: Space) -> Iterator[str]:
    """Where trials have other settings than stated: "row, data set: setting is A, stated B". Swept settings are left to
    the test of the axes."""
    for trial in space.trials:
        values, expected = trial.config.flat(), stated(space.name, trial)
        missing = acting(trial.config) - {*expected, *trial.axes, *STATED["unstated"]}
        where = f"{trial.variant}, {trial.config.data.dataset}"
        yield from (f"{where}: {name} is not in published_settings.yaml" for name in sorted(missing))
        for name, value in expected.items():
            if name not in trial.axes and values[name] != value:
                yield f"{where}: {name} is {values[name]}, stated {value}"


@pytest.mark.parametrize("name", SPACES)
def test_every_row_of_every_paper_profile_has_the_stated_settings(name):
    assert sorted(set(differences(paper(name)))) == []


@pytest.mark.parametrize("name", SPACES)
def test_every_paper_profile_sweeps_what_its_table_has_and_reports_the_stated_epoch(name):
    space, swept = paper(name), {}
    for trial in space.trials:
        for axis, value in trial.axes.items():
            swept.setdefault(axis, set()).add(value)
    table = STATED["tables"][name]
    assert swept == {axis: set(values) for axis, values in table["axes"].items()}
    assert space.select.epoch == table["epoch"]


@pytest.mark.parametrize(
    ("name", "row", "rates"),
    [
        ("sarb_alpha_beta", "SARB", {"backbone": 1e-5, "head": 1e-5, "alpha": 1e-5, "beta": 1e-5}),
        ("clip_table2", "DSRB", {"backbone": 1e-5, "head": 1e-5, "alpha": 1e-5, "beta": 1e-5}),
        ("clip_table2", "HST", {"backbone": 1e-5, "head": 1e-5, "margin_intra": 1e-5, "margin_inter": 1e-5}),
        ("ll_open_images", "IMCL", {"backbone": 1e-8, "head": 1e-3, "label_graph": 0.5}),
    ],
)
def test_everything_learns_at_the_stated_rate(name, row, rates):
    recipe = next(trial for trial in paper(name).trials if trial.variant == row).config.recipe(6)
    found = {"backbone": recipe.learning_rate_backbone, "head": recipe.learning_rate_head}
    assert found | dict(recipe.learning_rates_own) == rates


def test_every_entry_is_of_some_trial_and_names_its_source():
    trials = [(name, trial) for name in SPACES for trial in paper(name).trials]
    for entry in STATED["settings"]:
        assert entry["source"] in ("T", "R", "C", "T, R")
        of = [trial.config.flat() for name, trial in trials if matches(entry, name, trial)]
        for setting in entry["settings"]:
            assert any(setting in values for values in of), (entry, setting)
    assert STATED["tables"].keys() == SPACES.keys()


def other(field: Field) -> Any:
    """Another allowed value than the published one."""
    published = field.metadata["published"]
    candidates = [*field.choices, *field.metadata["typical"]]
    return next(value for value in candidates if value != published)


def changed(monkeypatch: pytest.MonkeyPatch, method: str, values: Mapping[str, Any]) -> None:
    """In a copy of the method's declaration, other published values."""
    cls = methods()[method].Settings
    copies = [
        replace(field, metadata={**field.metadata, "published": values[field.name]}) if field.name in values else field
        for field in fields(cls)
    ]
    monkeypatch.setitem(settings._FIELDS, cls, tuple(copies))


@pytest.mark.parametrize(
    ("name", "method", "setting", "value", "rows"),
    [
        ("sarb_alpha_beta", "sarb", "alpha_multiplier", 0.1, 5),
        ("sarb_decoupling", "mixup", "attention_width", 32, 2),
        ("clip_table2", "hst", "pair_width", 32, 1),
        ("sst_table1", "gcn_ml", "threshold", 0.1, 1),
        ("clip_table4", "prompt_learning", "attention_width", 16, 4),
        ("ll_open_images", "large_loss", "delta_rel", 1.0, 2),
    ],
)
def test_one_changed_published_value_is_found_in_every_row_that_has_it(name, method, setting, value, rows, monkeypatch):
    changed(monkeypatch, method, {setting: value})
    found = set(differences(paper(name)))
    assert all(f": {setting} is {value}, stated " in text for text in found)
    datasets = {trial.config.data.dataset for trial in paper(name).trials}
    assert len(found) == rows * len(datasets)


@functools.cache
def methods_in(name: str) -> set[str]:
    return {str(values["method"]) for values in paper(name).variants.values()}


@pytest.mark.parametrize("method", methods())
def test_no_published_value_can_change_unseen(method, monkeypatch):
    declared = [field for field in fields(methods()[method].Settings) if field.metadata["published"] is not None]
    left = {field.name: other(field) for field in declared}
    changed(monkeypatch, method, left)
    for name in SPACES:
        if left and method in methods_in(name):
            found = " ".join(set(differences(paper(name))))
            left = {setting: value for setting, value in left.items() if f": {setting} is {value}, stated" not in found}
    assert not left, "no row of any paper profile takes these from what is published"


@pytest.mark.parametrize(
    ("name", "change", "found"),
    [
        ("sarb_decoupling", "defaults=default", "IP-Mixup, coco2014: attention_width is 32, stated 512"),
        ("clip_table2", "overrides=[]", "SARB, voc2007: train.batch_size is 32, stated 16"),
        ("ll_table1", "train.classifier_multiplier=1", "WAN, voc2012: train.classifier_multiplier is 1.0, stated 10"),
        ("sst_table1", "train.weight_decay=0", "SST, vg200: train.weight_decay is 0.0, stated 0.0005"),
    ],
)
def test_a_changed_profile_is_found_too(name, change, found):
    assert found in set(differences(paper(name, change)))
