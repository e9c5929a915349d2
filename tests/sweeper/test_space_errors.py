"""Each mistake in a space is refused with one message: where, what was given, what is allowed, what is near it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from methods.assume_negative import AssumeNegativeSettings
from methods.contract.settings import fields
from methods.large_loss import LargeLossSettings
from methods.training.recipes import TrainSettings
from methods.training.registry import methods
from sweeper.spaces.reading import load_space
from sweeper.spaces.sections import FILE
from sweeper.spaces.vocabulary import CURVES
from sweeper.spaces.yaml_file import SpaceError

# One line, so that what a test adds starts in line 2.
VARIANTS = "variants: {AN: {method: assume_negative}, LL-R: {method: large_loss}}\n"
METHODS = ", ".join(methods())
SECTIONS = "data.*, network.*, train.*, diagnostics.*"
TRAIN = ", ".join(field.name for field in fields(TrainSettings))
LARGE_LOSS = ", ".join(field.name for field in fields(LargeLossSettings))
ASSUME_NEGATIVE = ", ".join(field.name for field in fields(AssumeNegativeSettings))
TOP = ", ".join(FILE)
SEEDS = "seeds: give a list of different integers from 1, such as [1, 2, 3]; given was "
FROM_1 = " (seeds count from 1, as the draws of scenes that can follow them do)"
DELTA = "a number at least 0 and at most 100"
AXIS = "give a list of values, or for a search a range such as {uniform: [0, 1]}; given was "


@pytest.fixture
def message(tmp_path):
    """The message of a file's error, with its path as FILE."""

    def of(text: str | bytes, **options) -> str:
        path = tmp_path / "space.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(SpaceError) as caught:
            load_space(path, **options)
        return str(caught.value).replace(str(path), "FILE")

    return of


def case(name: str, text: str | bytes, expected: str):
    return pytest.param(text, expected, id=name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        case("empty file", "", "FILE: variants: at least one is needed, such as `LL-R: {method: large_loss}`"),
        case(
            "a comment alone",
            "# soon\n",
            "FILE: variants: at least one is needed, such as `LL-R: {method: large_loss}`",
        ),
        case("list", "- a\n- 1\n", "FILE:1: the file: a mapping is needed (name: value); given was ['a', 1]"),
        case("text", "LL-R\n", "FILE:1: the file: a mapping is needed (name: value); given was 'LL-R'"),
        case("unclosed", "variants: {AN: [}\n", "FILE:1: this is not YAML: expected the node content, but found '}'"),
        case(
            "tab", "variants:\n\tAN: 1\n", r"FILE:2: this is not YAML: found character '\t' that cannot start any token"
        ),
        case("two documents", VARIANTS + "---\n" + VARIANTS, "FILE:2: this is not YAML: but found another document"),
        case(
            "control character",
            "title: a\x01b\n",
            "FILE: this is not YAML: unacceptable character #x0001: special characters are not allowed",
        ),
        case(
            "another encoding",
            b"title: \xe9\n",
            "FILE: cannot be read: 'utf-8' codec can't decode byte 0xe9 in position 7: invalid continuation byte",
        ),
        case(
            "duplicate key",
            VARIANTS + "train: {epochs: 1}\ntrain: {epochs: 2}\n",
            "FILE:3: key 'train' stands twice; the first is in line 2",
        ),
        case(
            "duplicate variant",
            "variants:\n  AN: {method: assume_negative}\n  AN: {method: large_loss}\n",
            "FILE:3: key 'AN' stands twice; the first is in line 2",
        ),
        case(
            "merge key",
            "variants:\n  AN: &an {method: assume_negative}\n  WAN: {<<: *an, weak: true}\n",
            "FILE:3: a key must be a plain text; merging with << is not supported",
        ),
        case(
            "tag",
            "title: !loud hey\n",
            "FILE:1: the tag !loud is not supported; allowed are texts, numbers, true, false and null",
        ),
    ],
)
def test_a_file_that_is_no_space_is_refused(message, text, expected):
    assert message(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        case(
            "top level",
            "varaints: {}\n",
            f"FILE:1: unknown key 'varaints' (did you mean 'variants'?); allowed is {TOP}",
        ),
        case("nothing near", VARIANTS + "zzz: 1\n", f"FILE:2: unknown key 'zzz'; allowed is {TOP}"),
        case(
            "in a profile that is not asked for",
            VARIANTS + "profiles:\n  paper: {seed: [1]}\n",
            f"FILE:3: unknown key 'seed' (did you mean 'seeds'?); allowed is from, {TOP.removesuffix(', profiles')}",
        ),
        case(
            "method",
            "variants:\n  LL-R: {method: larg_loss}\n",
            f"FILE:2: unknown method 'larg_loss' (did you mean 'large_loss'?); allowed is {METHODS}",
        ),
        case(
            "method that is a list",
            "variants:\n  LL-R: {method: [large_loss]}\n",
            f"FILE:2: unknown method ['large_loss'] (did you mean 'large_loss'?); allowed is {METHODS}",
        ),
        case(
            "setting of a variant",
            "variants:\n  LL-R:\n    method: large_loss\n    delta_rl: 1\n",
            "FILE:4: unknown setting of large_loss 'delta_rl' (did you mean 'delta_rel'?); "
            f"allowed is method, axes, {LARGE_LOSS}, {SECTIONS}",
        ),
        case(
            "setting of another method",
            "variants:\n  LL-R: {method: large_loss, weak: true}\n",
            f"FILE:2: unknown setting of large_loss 'weak'; allowed is method, axes, {LARGE_LOSS}, {SECTIONS}",
        ),
        case(
            "section left out",
            "variants:\n  LL-R: {method: large_loss, epoch: 3}\n",
            "FILE:2: unknown setting of large_loss 'epoch' (did you mean 'train.epochs'?); "
            f"allowed is method, axes, {LARGE_LOSS}, {SECTIONS}",
        ),
        case(
            "train",
            VARIANTS + "train:\n  epoch: 3\n",
            f"FILE:3: unknown setting of train 'epoch' (did you mean 'epochs'?); allowed is {TRAIN}",
        ),
        case(
            "select",
            VARIANTS + "select: {metrics: val/map}\n",
            "FILE:2: unknown key of select 'metrics' (did you mean 'metric'?); allowed is metric, epoch, "
            "end_below_best",
        ),
        case(
            "table",
            VARIANTS + "table: {axis: epoch}\n",
            "FILE:2: unknown key of table 'axis'; allowed is rows, columns, value, reference, average",
        ),
        case(
            "resources",
            VARIANTS + "resources: {gpus: 1}\n",
            "FILE:2: unknown key of resources 'gpus' (did you mean 'gpu'?); allowed is cpu, gpu, gpu_memory, kind",
        ),
        case(
            "override",
            VARIANTS + "overrides: [{if: {seed: 1}, set: {train.epochs: 2}}]\n",
            "FILE:2: unknown key of an override 'if'; allowed is when, set",
        ),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_known_one(message, text, expected):
    assert message(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        case(
            "type",
            "train:\n  epochs: twelve\n",
            "FILE:3: train.epochs: 'twelve' is not allowed; allowed is an integer at least 1",
        ),
        case(
            "boolean",
            "train: {epochs: true}\n",
            "FILE:2: train.epochs: true is not allowed; allowed is an integer at least 1",
        ),
        case(
            "fraction",
            "train: {epochs: 1.5}\n",
            "FILE:2: train.epochs: 1.5 is not allowed; allowed is an integer at least 1",
        ),
        case(
            "null",
            "train: {epochs: null}\n",
            "FILE:2: train.epochs: null is not allowed; allowed is an integer at least 1",
        ),
        case(
            "list",
            "train: {epochs: [1]}\n",
            "FILE:2: train.epochs: [1] is not allowed; allowed is an integer at least 1",
        ),
        case(
            "infinity",
            "train: {learning_rate: .inf}\n",
            "FILE:2: train.learning_rate: inf is not allowed; allowed is a number above 0",
        ),
        case(
            "bound",
            "data: {known: 0}\n",
            "FILE:2: data.known: 0 is not allowed; allowed is a number above 0 and at most 1",
        ),
        case(
            "choice",
            "data:\n  labels: singel_positive\n",
            "FILE:3: data.labels: 'singel_positive' is not allowed; "
            "allowed is full | single_positive | proportion | human_verified",
        ),
        case(
            "section is a list", "data: [full]\n", "FILE:2: data: a mapping is needed (name: value); given was ['full']"
        ),
        case("set twice", "data: {labels: full}\ndata.labels: full\n", "FILE:3: data.labels is set twice"),
        case("title", "title: 12\n", "FILE:2: title: a text is needed; given was 12"),
        case(
            "NaN in source",
            "source: {paper: x, value: .nan}\n",
            "FILE:2: source.value: infinity and NaN are not allowed",
        ),
        case("seed 0", "seeds: [0, 1]\n", f"FILE:2: {SEEDS}[0, 1]{FROM_1}"),
        case("equal seeds", "seeds: [1, 1]\n", f"FILE:2: {SEEDS}[1, 1]{FROM_1}"),
        case("one seed", "seeds: 3\n", f"FILE:2: {SEEDS}3{FROM_1}"),
        case("no seeds", "seeds: []\n", f"FILE:2: {SEEDS}[]{FROM_1}"),
        case("seed true", "seeds: [true]\n", f"FILE:2: {SEEDS}[true]{FROM_1}"),
        case(
            "defaults", "defaults: paper\n", "FILE:2: defaults: 'paper' is not allowed; allowed is default | published"
        ),
        case(
            "epoch", "select: {epoch: first}\n", "FILE:2: select.epoch: 'first' is not allowed; allowed is best | last"
        ),
        case("rows", "table: {rows: seed}\n", "FILE:2: table.rows: unknown value 'seed'; allowed is variant, metric"),
        case(
            "reference",
            "table: {reference: [LL-C]}\n",
            "FILE:2: table.reference: unknown variant 'LL-C' (did you mean 'LL-R'?); allowed is AN, LL-R",
        ),
        case(
            "reference in a list of lists",
            "table: {reference: [[AN]]}\n",
            "FILE:2: table.reference: unknown variant ['AN']; allowed is AN, LL-R",
        ),
        case(
            "cpu", "resources: {cpu: -1}\n", "FILE:2: resources.cpu: -1 is not allowed; allowed is a number at least 0"
        ),
        case(
            "cpu NaN",
            "resources: {cpu: .nan}\n",
            "FILE:2: resources.cpu: nan is not allowed; allowed is a number at least 0",
        ),
        case(
            "gpu",
            "resources: {gpu: 1.5}\n",
            "FILE:2: resources.gpu: 1.5 is not allowed; allowed is a number from 0 to 1, or a whole one",
        ),
        case(
            "GPU memory",
            "resources: {gpu_memory: much}\n",
            "FILE:2: resources.gpu_memory: 'much' is not allowed; allowed is a number of GB above 0, or measured",
        ),
        case(
            "GPU memory of a share",
            "resources: {gpu: 0.5, gpu_memory: 8}\n",
            "FILE:2: resources.gpu_memory: the share of a GPU follows from it; take out gpu: 0.5",
        ),
        case(
            "kind",
            "resources: {kind: 3}\n",
            "FILE:2: resources.kind: 3 is not allowed; allowed is what such nodes are started with, a name",
        ),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_with_what_is(message, text, expected):
    assert message(VARIANTS + text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        case("null", "  AN:\n", f"FILE:2: variant AN needs a method: {METHODS}"),
        case(
            "no method",
            "  AN:\n    data.labels: full\n",
            f"FILE:2: variant AN needs a method: {METHODS}",
        ),
        case(
            "a text",
            "  AN: assume_negative\n",
            "FILE:2: variant AN: a mapping is needed (name: value); given was 'assume_negative'",
        ),
        case(
            "value",
            "  LL-R: {method: large_loss, delta_rel: -1}\n",
            f"FILE:2: delta_rel: -1 is not allowed; allowed is {DELTA}",
        ),
        case(
            "set twice",
            "  LL-R:\n    method: large_loss\n    data: {known: 1}\n    data.known: 0.5\n",
            "FILE:5: data.known is set twice",
        ),
        case(
            "yes is a text",
            "  AN: {method: assume_negative, weak: yes}\n",
            "FILE:2: weak: 'yes' is not allowed; allowed is true | false",
        ),
        case(
            "value and axis",
            "  LL-R:\n    method: large_loss\n    delta_rel: 1\n    axes: {delta_rel: [1, 2]}\n",
            "FILE:5: axis delta_rel: variant LL-R sets delta_rel as well; take one of them out",
        ),
        case(
            "own axis",
            "  AN: {method: assume_negative, axes: {weka: [true]}}\n",
            "FILE:2: unknown setting of assume_negative 'weka' (did you mean 'weak'?); "
            f"allowed is {ASSUME_NEGATIVE}, {SECTIONS}",
        ),
    ],
)
def test_a_variant_that_cannot_be_trained_is_refused(message, text, expected):
    assert message("variants:\n" + text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        case(
            "unknown",
            "axes: {delta_re: [1]}\n",
            "FILE:2: axis delta_re: no variant has this setting (did you mean 'delta_rel'?)",
        ),
        case(
            "value", "axes:\n  delta_rel: [1, many]\n", f"FILE:3: delta_rel: 'many' is not allowed; allowed is {DELTA}"
        ),
        case("no list", "axes: {delta_rel: 3}\n", f"FILE:2: axis delta_rel: {AXIS}3"),
        case("empty", "axes: {delta_rel: []}\n", f"FILE:2: axis delta_rel: {AXIS}[]"),
        case("null", "axes: {delta_rel: }\n", f"FILE:2: axis delta_rel: {AXIS}null"),
        case(
            "not a grid", "axes: {delta_rel: {gird: [1, true]}}\n", f"FILE:2: axis delta_rel: {AXIS}{{gird: [1, true]}}"
        ),
        case("long", f"axes: {{delta_rel: {'x' * 100}}}\n", f"FILE:2: axis delta_rel: {AXIS}'{'x' * 75} ..."),
        case("twice", "axes:\n  delta_rel:\n  - 1\n  - 2\n  - 1.0\n", "FILE:6: axis delta_rel: 1.0 stands in it twice"),
        case(
            "axes is a list",
            "axes: [delta_rel]\n",
            "FILE:2: axes: a mapping is needed (name: value); given was ['delta_rel']",
        ),
    ],
)
def test_an_axis_that_cannot_be_swept_is_refused(message, text, expected):
    assert message(VARIANTS + text) == expected


def test_an_axis_that_every_variant_sets_itself_is_refused(message):
    text = "variants:\n  LL-R: {method: large_loss, delta_rel: 1}\naxes:\n  delta_rel: [1, 2]\n"
    assert message(text) == "FILE:4: axis delta_rel: every variant sets delta_rel itself, so nothing is swept"


@pytest.mark.parametrize(("metric", "near"), [("val/mpa", " (did you mean 'val/map'?)"), ("test/map", "")])
def test_only_a_metric_on_val_selects(message, metric, near):
    text = message(VARIANTS + f"select: {{metric: {metric}}}\n")
    assert text.startswith(
        f"FILE:2: select.metric: unknown value '{metric}'{near}; allowed is val/map, val/map_interpolated, "
    )
    assert "test/" not in text.partition("allowed ")[2]


def test_a_table_has_known_settings_and_metrics_alone(message):
    text = message(VARIANTS + "table: {columns: delta}\n")
    assert text.startswith(
        "FILE:2: table.columns: unknown value 'delta' (did you mean 'delta_rel'?); allowed is null, epoch, "
    )
    text = message(VARIANTS + "table: {value: test/mpa}\n")
    assert text.startswith(
        "FILE:2: table.value: unknown value 'test/mpa' (did you mean 'test/map'?); allowed is test/map, "
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        case(
            "several metrics in one cell",
            "table: {value: [test/map, test/of1]}\n",
            "FILE:2: table.value: several metrics need a place; give them one by columns: metric",
        ),
        case(
            "metrics in rows alone",
            "table: {rows: metric}\n",
            "FILE:2: table.rows: several metrics need a place; give them one by columns: metric",
        ),
        case(
            "no columns",
            "table: {columns: []}\n",
            "FILE:2: table.columns: the list is empty; take it out or put something in it",
        ),
        case(
            "a metric twice",
            "table:\n  columns: metric\n  value:\n  - test/map\n  - test/of1\n  - test/map\n",
            "FILE:5: table.value: 'test/map' stands in it twice",
        ),
        case(
            "an unknown metric in a list",
            "table:\n  columns: metric\n  value:\n  - test/map\n  - test/of2\n",
            "FILE:6: table.value: unknown value 'test/of2' (did you mean 'test/of1'?); allowed is test/map, ",
        ),
        case(
            "epochs beside other columns",
            "table: {columns: [epoch, delta_rel]}\n",
            "FILE:2: table.columns: unknown value 'epoch' (did you mean 'train.epochs'?); allowed is metric, ",
        ),
        case(
            "an average over no setting",
            "table: {columns: data.known, average: data.knwon}\n",
            "FILE:2: table.average: unknown value 'data.knwon' (did you mean 'data.known'?); allowed is ",
        ),
        case(
            "an average over metrics",
            "table: {columns: metric, value: [test/map, test/of1], average: metric}\n",
            "FILE:2: table.average: unknown value 'metric'",
        ),
        case(
            "an average over several settings",
            "table: {average: [data.known, data.dataset]}\n",
            "FILE:2: table.average: unknown value ['data.known', 'data.dataset']",
        ),
        case(
            "an average of epochs",
            "table:\n  columns: epoch\n  average: data.known\n",
            "FILE:4: table.average: the columns are epochs, which a figure shows and nothing averages",
        ),
        case(
            "a group of classes among others",
            "table: {columns: metric, value: [test/map, test/map_g1]}\n",
            "FILE:2: table.value: test/map_g1 needs data.labels: human_verified in every trial",
        ),
        case(
            "classes without a place",
            "table: {value: test/ap}\ndiagnostics: {per_class: true}\n",
            "FILE:2: table.value: several metrics need a place; give them one by columns: metric",
        ),
        case(
            "classes that are not measured",
            "table: {columns: metric, value: test/ap}\n",
            "FILE:2: table.value: test/ap needs diagnostics.per_class: true in every trial",
        ),
    ],
)
def test_several_columns_or_metrics_are_different_known_ones(message, text, expected):
    assert message(VARIANTS + text).startswith(expected)


FORMS = (
    "figure: give it curves, {x: epoch, y: train/loss}, points, {x: train/known_labels, y: test/map}, or pictures, "
    "{pictures: corrections.npz, images: 6}"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        case("key", "figure: {z: epoch}\n", "FILE:2: unknown key of figure 'z'; allowed is x, y, pictures, images"),
        case("nothing to draw", "figure: {x: epoch}\n", f"FILE:2: {FORMS}"),
        case("how many of nothing", "figure: {images: 3}\n", f"FILE:2: {FORMS}"),
        case("both", "figure:\n  y: train/loss\n  pictures: a.npz\n", f"FILE:2: {FORMS}"),
        case(
            "x", "figure: {x: seed, y: train/loss}\n", "FILE:2: figure.x: unknown value 'seed'; allowed is epoch, test/"
        ),
        case(
            "points of a curve",
            "figure: {x: train/known_labels, y: [test/map, val/map]}\n",
            "FILE:2: figure.y: unknown value ['test/map', 'val/map']; allowed is test/",
        ),
        case(
            "y",
            "figure:\n  y:\n  - train/loss\n  - train/lots\n",
            "FILE:5: figure.y: unknown value 'train/lots' (did you mean 'train/loss'?); allowed is train/loss, ",
        ),
        case("y without a history", "figure: {y: test/cp}\n", "FILE:2: figure.y: unknown value 'test/cp'"),
        case(
            "a path",
            "figure: {pictures: ../a.npz}\n",
            "FILE:2: figure.pictures: '../a.npz' is not allowed; allowed is an artifact of a trial such as ",
        ),
        case(
            "no images",
            "figure: {pictures: a.npz, images: 0}\n",
            "FILE:2: figure.images: 0 is not allowed; allowed is an integer at least 1",
        ),
    ],
)
def test_a_figure_is_curves_or_pictures(message, text, expected):
    assert message(VARIANTS + text).startswith(expected)


def test_a_figure_of_what_no_method_of_the_space_reports_names_the_nearest_and_all_that_are(message, monkeypatch):
    monkeypatch.setattr(methods()["large_loss"], "reports", ("alpha", "threshold"))
    monkeypatch.setattr(methods()["role"], "reports", ("gamma",))
    told = message(VARIANTS + "figure:\n  y:\n  - train/alpha\n  - train/treshold\n")
    assert told.startswith("FILE:5: figure.y: unknown value 'train/treshold' (did you mean 'train/threshold'?); ")
    assert told.endswith(f"allowed is {', '.join([*CURVES, 'train/alpha', 'train/threshold'])}")
    assert message(VARIANTS + "figure: {y: train/gamma}\n").startswith("FILE:2: figure.y: unknown value 'train/gamma'")


def test_a_table_of_a_group_of_classes_needs_labels_under_which_classes_are_grouped(message):
    assert message(VARIANTS + "table: {value: pointing_game/hits}\n") == (
        "FILE:2: table.value: pointing_game/hits needs diagnostics.pointing_game: true in every trial"
    )
    assert message(VARIANTS + "table: {value: test/map_g1}\n") == (
        "FILE:2: table.value: test/map_g1 needs data.labels: human_verified in every trial"
    )


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        case(
            "no trial",
            "{when: {method: large_loss, seed: 9}, set: {train.epochs: 2}}",
            "this override matches no trial; take it out or mend its `when`",
        ),
        case(
            "no set",
            "{when: {method: large_loss}}",
            "an override: it needs set: settings with the values that such a trial gets",
        ),
        case(
            "value",
            "{when: {method: large_loss}, set: {train: {epochs: 0}}}",
            "train.epochs: 0 is not allowed; allowed is an integer at least 1",
        ),
        case(
            "not its own",
            "{when: {seed: 1}, set: {delta_rel: 1}}",
            f"unknown setting of assume_negative 'delta_rel'; allowed is {ASSUME_NEGATIVE}, {SECTIONS}",
        ),
        case(
            "variant",
            "{when: {method: large_loss}, set: {variant: AN}}",
            f"unknown setting 'variant'; allowed is {ASSUME_NEGATIVE}, {SECTIONS}, {LARGE_LOSS}",
        ),
        case("text", "all", "an override: a mapping is needed (name: value); given was 'all'"),
    ],
)
def test_an_override_that_does_nothing_or_cannot_is_refused(message, override, expected):
    assert message(f"{VARIANTS}overrides:\n- {override}\n") == f"FILE:3: {expected}"


def test_overrides_are_a_list(message):
    text = VARIANTS + "overrides: {when: {seed: 1}, set: {train.epochs: 2}}\n"
    assert message(text) == "FILE:2: overrides: give a list of {when: {...}, set: {...}}"


def test_what_is_wrong_with_a_file_of_shared_changes_is_said_where_it_stands(message, tmp_path):
    text = VARIANTS + "profiles:\n  smoke: {from: GIVEN}\n"
    assert message(text.replace("GIVEN", "gone.yaml"), profile="smoke").startswith("FILE:3: from: ")
    assert message(text.replace("GIVEN", "3"), profile="smoke").startswith("FILE:3: from: a file is needed")
    shared = tmp_path / "shared.yaml"
    shared.write_text("seeds: [1]\ntrain: {epoch: 2}\n")
    expected = f"{shared}:2: unknown setting of train 'epoch' (did you mean 'epochs'?)"
    assert message(text.replace("GIVEN", "shared.yaml"), profile="smoke").startswith(expected)
    shared.write_text("profiles: {}\n")
    assert message(text.replace("GIVEN", "shared.yaml"), profile="smoke").startswith(f"{shared}:1: unknown key")
    shared.write_text("overrides: [{when: {schemes: reject}, set: {train.epochs: 2}}]\n")
    expected = f"{shared}:1: unknown condition 'schemes' (did you mean 'scheme'?)"
    assert message(text.replace("GIVEN", "shared.yaml"), profile="smoke").startswith(expected)


def test_an_unknown_profile_is_refused_with_those_there_are(message):
    text = VARIANTS + "profiles: {smoke: {seeds: [1]}, paper: {seeds: [2]}}\n"
    expected = "FILE: unknown profile 'papr' (did you mean 'paper'?); allowed is default, smoke, paper"
    assert message(text, profile="papr") == expected
    assert message(VARIANTS, profile="paper") == "FILE: unknown profile 'paper'; allowed is default"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("train.epochs", "give it as key=value, such as --set train.epochs=2"),
        ("=2", "give it as key=value, such as --set train.epochs=2"),
        ("train.epochs=twelve", "train.epochs: 'twelve' is not allowed; allowed is an integer at least 1"),
        ("delta_rel=[1", "this is not YAML: expected ',' or ']', but got '<stream end>'"),
        ("data={known: 1, known: 1}", "key 'known' stands twice"),
        ("data=full", "data: a mapping is needed (name: value); given was 'full'"),
        ("axes.delta_re=[1]", "axis delta_re: no variant has this setting (did you mean 'delta_rel'?)"),
        ("seeds=0", f"{SEEDS}0{FROM_1}"),
    ],
)
def test_a_set_option_that_cannot_be_used_is_named(message, given, expected):
    assert message(VARIANTS, sets=[given]) == f"--set {given}: {expected}"


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ("train.epoch=2", "unknown setting or key 'train.epoch' (did you mean 'train.epochs'?); allowed is weak, "),
        ("seed=2", "unknown setting or key 'seed' (did you mean 'seeds'?); allowed is weak, "),
        ("profiles.smoke.seeds=[1]", "unknown setting or key 'profiles.smoke.seeds'; allowed is weak, "),
    ],
)
def test_a_set_option_of_an_unknown_key_names_the_nearest(message, given, start):
    assert message(VARIANTS, sets=[given]).startswith(f"--set {given}: {start}")


def test_settings_that_only_together_are_wrong_are_refused_where_the_method_stands(message):
    text = "seeds: [4294967296]\n" + VARIANTS
    allowed = "an integer at least 0 and below 2**32"
    assert message(text) == f"FILE:2: seed: 4294967296 is not allowed; allowed is {allowed}"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("data:\n  word_vectors: none.txt\n" + VARIANTS, 2),
        ("variants:\n  AN:\n    method: assume_negative\n    data: {word_vectors: none.txt}\n", 4),
        (VARIANTS + "axes:\n  data.word_vectors: [words, none.txt]\n", 3),
        (VARIANTS + "overrides:\n- when: {variant: AN}\n  set:\n    data.word_vectors: none.txt\n", 5),
    ],
)
def test_word_vectors_that_are_not_there_are_refused_where_the_file_names_them(message, text, line):
    assert message(text) == f"FILE:{line}: {NO_WORDS}"


def test_word_vectors_that_lack_a_word_are_refused_under_set_too(message, tmp_path):
    (tmp_path / "glove.txt").write_text("".join(f"{word} 1 2\n" for word in ("red", "zero", "one", "two", "three")))
    given = f"data.word_vectors={tmp_path}/glove.txt"
    lacking = "blue, eight, five, four, nine, seven, six"
    expected = f"--set {given}: data.word_vectors: '{tmp_path}/glove.txt' is not allowed; "
    expected += f"allowed is a file with all words of the class names; it lacks {lacking}"
    assert message(VARIANTS, sets=[given]) == expected


def test_a_file_that_is_not_there_is_refused(tmp_path):
    path = tmp_path / "none.yaml"
    with pytest.raises(SpaceError) as caught:
        load_space(path)
    assert str(caught.value) == f"{path}: cannot be read: No such file or directory"


NO_WORDS = (
    "data.word_vectors: 'none.txt' is not allowed; allowed is one_hot | words | glove (glove.6B.300d.txt in the folder "
    "SWEEPER_DATA), or a file that exists"
)


@pytest.mark.parametrize(
    ("command", "text", "expected"),
    [
        ("run", "varaints: {}\n", f"1: unknown key 'varaints' (did you mean 'variants'?); allowed is {TOP}"),
        ("plan", VARIANTS + "data: {word_vectors: none.txt}\n", f"2: {NO_WORDS}"),
    ],
)
def test_the_command_line_ends_with_code_2_and_one_line_on_stderr(tmp_path, command, text, expected):
    (tmp_path / "bad.yaml").write_text(text)
    arguments = [sys.executable, "-m", "sweeper", command, "bad.yaml"]
    result = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line == f"error: bad.yaml:{expected}"
    assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]
