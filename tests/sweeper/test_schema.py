"""The JSON schema that editors check search spaces with agrees with the reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from methods.contract.settings import fields
from methods.training.config import SECTIONS
from methods.training.registry import methods
from sweeper.spaces.reading import load_space
from sweeper.spaces.schema import schema
from sweeper.spaces.sections import EXAMPLES, FILE
from sweeper.spaces.yaml_file import SpaceError, read_yaml

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
VARIANTS = "variants: {AN: {method: assume_negative}, LL-R: {method: large_loss, data: {known: 0.5}}}\n"


@pytest.fixture(scope="module")
def validator():
    return Draft202012Validator(schema())


def accepted_by_both(path: Path, validator: Draft202012Validator) -> bool:
    """Whether a file is a space; the schema and the reader must be of one opinion."""
    by_schema = validator.is_valid(read_yaml(path).plain())
    try:
        load_space(path)
    except SpaceError:
        assert not by_schema
        return False
    assert by_schema
    return True


def test_the_schema_is_one(validator):
    Draft202012Validator.check_schema(validator.schema)


def test_there_are_spaces_to_check():
    assert "ll_delta" in [path.stem for path in SPACES]


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_every_search_space_is_valid_in_every_profile(validator, path):
    written = read_yaml(path).plain()
    assert [error.message for error in validator.iter_errors(written)] == []
    for profile in (None, *written["profiles"]):
        assert load_space(path, profile).trials


@pytest.mark.parametrize("profile", [None, "smoke"])
@pytest.mark.parametrize("name", ["ll_precision", "ll_pointing_game"])
def test_after_the_first_table_of_its_paper_a_space_trains_nothing(name, profile):
    first, space = (load_space(SPACES[0].with_name(f"{stem}.yaml"), profile) for stem in ("ll_table1", name))
    done = {(trial.config.keys()[-1], trial.config.records()) for trial in first.trials}
    assert {(trial.config.keys()[-1], trial.config.records()) for trial in space.trials} <= done


def test_every_key_method_and_setting_is_in_it_with_its_description(validator):
    top = validator.schema["properties"]
    assert set(FILE) <= set(top)
    assert all(top[key]["description"] == field.metadata["doc"] for key, field in FILE.items())
    variant = top["variants"]["additionalProperties"]["properties"]
    assert variant["method"]["enum"] == list(methods())
    for method in methods().values():
        for field in fields(method.Settings):
            assert field.name in variant
            assert field.name in top["axes"]["properties"]
    for section, cls in SECTIONS.items():
        for field in fields(cls):
            described = variant[f"{section}.{field.name}"]
            assert described["description"] == field.metadata["doc"]
            assert described == variant[section]["properties"][field.name] == top[section]["properties"][field.name]


@pytest.mark.parametrize(
    "text",
    [
        "train: {epochs: 1, learning_rate: 1e-3}",
        "train.epochs: 1",
        "data: {mask_seed: null, labels: proportion}",
        "axes: {delta_rel: [1, 2.5], data.known: {grid: [0.1, 0.9]}, train.optimizer: {choice: [sgd]}}",
        "overrides: [{when: {variant: AN, seed: 1}, set: {train: {epochs: 2}}}]",
        "table: {columns: epoch, reference: AN}",
        "table: {columns: null, reference: [AN, LL-R]}",
        "data.labels: human_verified\ntable: {value: test/map_g5}",
        "table: {columns: [train.linear_init, data.known], value: test/of1}",
        "table: {columns: [delta_rel, metric], value: [test/map, val/map]}",
        "table: {rows: metric, columns: metric, value: [test/map, val/map]}",
        "table: {columns: [data.dataset, data.known], average: data.known}",
        "table: {average: delta_rel}",
        "figure: {}",
        "figure: {y: train/loss}",
        "figure: {x: epoch, y: [test/map, val/map]}",
        "figure: {pictures: corrections.npz, images: 2}",
        "figure: {pictures: cooccurrence.npz, images: 4}",
        "resources: {cpu: 1, gpu: 0.25}",
        "resources: {gpu_memory: measured, kind: big}",
        "resources: {gpu: 1, gpu_memory: 7.5}",
        "leave_one_out: [{train.schedule: constant}, {scheme: correct_temporary}]",
        "one_at_a_time: {train.learning_rate: [1e-3], delta_rel: {grid: [0.5]}}",
        "axes: {train.momentum: [0.5, 0.9]}\nsearch: {objectives: {val/map: max, train/seconds: min}}",
        "table: {value: train/seconds}",
        "profiles: {paper: {train: {epochs: 30}, variants: {AN: null}}}",
    ],
)
def test_what_the_reader_takes_is_valid(validator, tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(VARIANTS + text)
    assert accepted_by_both(path, validator)


@pytest.mark.parametrize("key", EXAMPLES)
def test_the_examples_of_the_reference_page_are_taken(validator, tmp_path, key):
    path = tmp_path / "space.yaml"
    path.write_text(("" if key == "variants" else VARIANTS) + EXAMPLES[key])
    assert key in read_yaml(path).plain() and accepted_by_both(path, validator)


@pytest.mark.parametrize(
    "text",
    [
        "titel: hey",
        "title: 12",
        "train: {epochs: twelve}",
        "train: {epochs: 0}",
        "train: {epochs: true}",
        "train: {epoch: 1}",
        "train.epochs: 1.5",
        "data: [full]",
        "data: {labels: singel_positive}",
        "data: {known: 0}",
        "axes: {delta_rel: 1}",
        "axes: {delta_rel: []}",
        "axes: {delta_rel: [1, 1.0]}",
        "axes: {delta_rel: [-1]}",
        "axes: {delta_re: [1]}",
        "axes: {delta_rel: {gird: [1]}}",
        "seeds: [0]",
        "seeds: [1, 1]",
        "seeds: 3",
        "select: {metric: test/map}",
        "table: {columns: delta}",
        "table: {columns: [epoch]}",
        "table: {columns: metric, value: []}",
        "table: {columns: metric, value: [test/map, test/map]}",
        "table: {rows: seed}",
        "table: {average: true}",
        "table: {average: metric}",
        "table: {average: [data.known]}",
        "figure: {x: epoch}",
        "figure: {y: []}",
        "figure: {y: train/loss, pictures: a.npz}",
        "figure: {pictures: a.png}",
        "figure: {pictures: a.npz, images: 0}",
        "overrides: [{when: {seed: 1}}]",
        "overrides: [{when: {}, set: {train.epochs: 2}}]",
        "resources: {cpu: -1}",
        "leave_one_out: [delta]",
        "leave_one_out: [{delta_rel: 1, scheme: reject}]",
        "one_at_a_time: {delta_rel: 1}",
        "axes: {train.momentum: [0.5, 0.9]}\nsearch: {objectives: {val/map: max, test/map: max}}",
        "axes: {train.momentum: [0.5, 0.9]}\nsearch: {objectives: {val/map: max}}",
        "resources: {tpu: 1}",
        "resources: {gpu: 1.5}",
        "resources: {gpu_memory: much}",
        "resources: {kind: 3}",
    ],
)
def test_what_the_reader_refuses_is_not_valid(validator, tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(VARIANTS + text)
    assert not accepted_by_both(path, validator)


def test_a_figure_of_what_a_method_reports_is_valid(monkeypatch, tmp_path):
    monkeypatch.setattr(methods()["large_loss"], "reports", ("alpha",))
    reporting, path = Draft202012Validator(schema()), tmp_path / "space.yaml"
    for name, valid in (("train/alpha", True), ("train/none_reports_this", False)):
        path.write_text(VARIANTS + f"figure: {{y: [train/loss, {name}]}}")
        assert accepted_by_both(path, reporting) == valid


@pytest.mark.parametrize("text", ["", "title: no variants", "variants: {}", "variants: {A: {weak: true}}", "- 1"])
def test_a_space_has_variants_and_each_a_method(validator, tmp_path, text):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    assert not accepted_by_both(path, validator)
