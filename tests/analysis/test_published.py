"""What is said of published numbers beside ours, and that nothing is compared which cannot be."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from scipy.stats import spearmanr

import analysis
from analysis.reading import records, selection
from analysis.tables.build import build
from analysis.tables.published import PAPERS, PARTS, protocol, published
from analysis.tables.table import PublishedCell
from tests.analysis.conftest import Axes

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
METHODS = {"paper": "large_loss_matters", "table": "methods"}
# Ours; published on VOC, end-to-end: 90.2, 85.1, 86.5, 86.7, 89.2 and none.
OURS = {"Full label": 99.0, "Naive AN": 60.0, "WAN": 62.0, "LSAN": 61.0, "LL-R": 62.0, "Ours alone": 70.0}
END_TO_END = {"train.linear_init": "off"}
LAYOUT = {"rows": "variant", "columns": None, "value": "test/map", "reference": ["Full label"]}


def load_yaml(path: Path):
    return YAML(typ="safe").load(path.read_text(encoding="utf-8"))


def tables(paper: Path):
    return load_yaml(paper)["tables"]


@pytest.fixture(scope="module")
def log(store):
    """Log a sweep of the rows `ours`, two seeds each, and lay it out; `logged` are more params."""

    def of(name, ours=OURS, logged=END_TO_END, source=METHODS, seeds=(1, 2), **changes):
        results = {(row, None): [(1, value)] * 2 for row, value in ours.items()}
        changes = {"table": LAYOUT} | changes
        store.log(name, "9a9e4", results, seeds=seeds, logged=logged, source=source, **changes)
        return analysis.table(name, tracking_uri=store.uri)

    return of


@pytest.fixture(scope="module")
def beside(log):
    return log("beside").published


@pytest.mark.parametrize("path", sorted(PAPERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_row_of_a_published_table_has_a_cell_in_each_column(path):
    for spec in load_yaml(path)["tables"].values():
        assert {len(row) for row in spec["rows"].values()} == {len(spec["columns"])}
        assert spec.get("spreads", spec["rows"]).keys() == spec["rows"].keys()
        assert {len(row) for row in spec.get("spreads", spec["rows"]).values()} == {len(spec["columns"])}
        assert all(value is None or 0 <= value <= 100 for row in spec["rows"].values() for value in row)


def _cells(paper, table):
    spec = load_yaml(PAPERS / f"{paper}.yaml")["tables"][table]
    return {row: dict(zip(spec["columns"], cells, strict=True)) for row, cells in spec["rows"].items()}


@pytest.mark.parametrize(
    ("paper", "table"),
    [("sst", "methods"), ("sst", "components"), ("sarb", "methods"), ("clip_semantic", "methods")],
)
def test_published_averages_are_the_means_of_their_rows(paper, table):
    """A cell in the wrong place in a row of another data set would show."""
    for cells in _cells(paper, table).values():
        for name in (name for name in cells if name.endswith("average")):
            over = [cells[name.replace("average", f"{percent}%")] for percent in range(10, 100, 10)]
            if None not in over:
                assert cells[name] == pytest.approx(sum(over) / 9, abs=0.051)


def test_what_the_text_of_sst_says_of_its_tables_holds():
    methods, components = _cells("sst", "methods"), _cells("sst", "components")

    def lead(cells, over, *columns):
        return [round(cells["SST"][column] - cells[over][column], 1) for column in columns]

    coco = [f"COCO, {percent}%" for percent in range(10, 100, 10)]
    assert lead(methods, "KGGR", *coco) == [1.5, 2.1, 2.1, 0.6, 0.6, 1.0, 0.8, 0.9, 0.8]
    assert lead(methods, "SSGRL", "VG-200, 10%", "VOC 2007, 10%") == [4.2, 3.8]
    assert lead(methods, "GCN-ML", "VG-200, 10%", "VOC 2007, 10%") == [6.8, 7.0]
    assert lead(methods, "Partial BCE", "VOC 2007, 10%") == [0.8]
    assert lead(methods, "KGGR", "VG-200, average") == [0.3]
    assert lead(components, "SSGRL", "average") == [2.6]
    averages = {row: cells["average"] for row, cells in components.items()}
    assert round(averages["IST"] - averages["IST w/o L_ist"], 1) == 0.9
    assert round(averages["IST"] - averages["IST w/ stat"], 1) == 6.1
    assert round(averages["CST"] - averages["CST w/o L_cst"], 1) == 0.9
    for row in ("SSGRL", "SST"):
        assert [methods[row][f"COCO, {column}"] for column in components[row]] == list(components[row].values())


def test_what_is_said_of_sarb_holds_and_the_other_methods_are_those_of_sst():
    sarb, sst = _cells("sarb", "methods"), _cells("sst", "methods")
    assert all(sarb[row][column] == value for row, cells in sst.items() for column, value in cells.items())

    def lead(*columns):
        return [round(sarb["SARB"][column] - sarb["KGGR"][column], 1) for column in columns]

    of = ("average", "average OF1", "average CF1")
    assert lead(*(f"COCO, {column}" for column in of)) == [2.3, 2.8, 2.5]
    assert lead(*(f"VG-200, {column}" for column in of)) == [4.1, 3.8, 3.8]
    assert lead("COCO, 10%", "COCO, 90%", "VOC 2007, 10%") == [4.6, 1.4, 2.2]
    for table in ("decoupling", "alpha_beta"):
        for row, name in {"SSGRL": "SSGRL", "SARB": "SARB", "SARB w/ SD": "SARB"}.items():
            for column, value in _cells("sarb", table).get(row, {}).items():
                assert value == sarb[name][f"{column}, average"]


def test_both_phases_of_the_highest_loss_make_100_but_for_the_misprint_that_is_noted():
    spec = load_yaml(PAPERS / "large_loss_matters.yaml")["tables"]["highest_loss"]
    sums = {kind: [round(row[i] + row[i + 1], 1) for i in (0, 2)] for kind, row in spec["rows"].items()}
    assert sums == {"TP": [100, 100], "TN": [100, 100], "FN": [96, 100]}
    assert "96.0" in spec["note"]


def test_every_published_table_stands_beside_a_space_with_its_rows_and_no_space_names_another():
    published = {(paper.stem, table): spec for paper in PAPERS.glob("*.yaml") for table, spec in tables(paper).items()}
    spaces = {path.stem: load_yaml(path) for path in SPACES}
    named = {name: (space["source"]["paper"], space["source"].get("table")) for name, space in spaces.items()}
    named = {name: source for name, source in named.items() if source[1]}
    assert set(named.values()) == set(published)
    for name, source in named.items():
        if spaces[name]["table"]["rows"] == "variant":
            assert set(published[source]["rows"]) <= set(spaces[name]["variants"])


def test_a_published_table_stands_whole_beside_ours(beside):
    assert beside.columns[0] == "End-to-end, VOC"
    assert len(beside.columns) == 8
    assert beside.rows[-1] == "LL-Cp"  # which we did not run
    assert beside.lines()[1][:3] == ["Full label", "90.2", "78.0"]
    assert beside.caption.startswith("Published: Large Loss Matters (CVPR 2022), artificially created partial labels")


def test_ranks_are_correlated_over_the_rows_that_both_have_without_references(beside):
    """Equal values share a rank, as scipy's spearmanr has it; end-to-end runs are compared with end-to-end columns."""
    voc, nus = beside.correlations[0], beside.correlations[2]
    ours = [OURS[row] for row in ("Naive AN", "WAN", "LSAN", "LL-R")]
    assert voc.value == pytest.approx(spearmanr(ours, [85.1, 86.5, 86.7, 89.2]).statistic)
    assert nus.value == pytest.approx(spearmanr(ours, [42.0, 46.3, 44.9, 47.4]).statistic)
    assert (voc.n, voc.ours, voc.column) == (4, "test mAP (%)", "End-to-end, VOC")
    assert {rank.column.split(",")[0] for rank in beside.correlations} == {"End-to-end"}
    assert "over the n rows that both have, without Full label" in beside.caption


def test_a_row_that_lacks_seeds_is_left_out_and_two_rows_have_no_correlation(store):
    results = {(row, None): [(1, value)] * 2 for row, value in OURS.items()} | {("LSAN", None): [(1, 61.0), None]}
    store.log("lacking", "1ac", results, seeds=[1, 2], logged=END_TO_END, source=METHODS, table=LAYOUT)
    assert analysis.table("lacking", tracking_uri=store.uri).published.correlations[0].n == 3
    results = {row: seeds for row, seeds in results.items() if row[0] in ("LSAN", "WAN", "LL-R")}
    store.log("few", "fe3", results, seeds=[1, 2], logged=END_TO_END, source=METHODS, table=LAYOUT)
    few = analysis.table("few", tracking_uri=store.uri).published
    assert (few.correlations[0].n, few.correlations[0].value) == (2, None)
    assert few.lines()[-1] == ["ρ with ours (order)", "—", "—", "—", "—", "—", "—", "—", "—"]


def test_each_of_our_columns_is_compared_with_the_published_ones_of_its_training(store):
    results = {
        (row, Axes({"train.linear_init": training})): [(1, value)] * 2
        for row, value in OURS.items()
        for training in ("off", "first_epochs")
    }
    axes = {"train.linear_init": ["off", "first_epochs"]}
    layout = LAYOUT | {"columns": "train.linear_init"}
    store.log("two_trainings", "2", results, seeds=[1, 2], source=METHODS, table=layout, axes=axes)
    made = analysis.table("two_trainings", tracking_uri=store.uri).published
    pairs = {(rank.ours, rank.column.split(",")[0]) for rank in made.correlations}
    assert pairs == {("end-to-end", "End-to-end"), ("LinearInit", "LinearInit")}
    assert [line[0] for line in made.lines()[-2:]] == [
        "LL-Cp",
        "ρ with ours (order)",
    ]  # none is compared with two of ours


def test_two_of_our_columns_that_are_compared_with_one_have_a_line_each(store):
    datasets = ["digit_scenes", "coco2014"]
    results = {
        (row, Axes({"data.dataset": dataset})): [(1, value)] * 2 for row, value in OURS.items() for dataset in datasets
    }
    layout = LAYOUT | {"columns": "data.dataset"}
    parts = {"source": METHODS, "table": layout, "axes": {"data.dataset": datasets}, "logged": END_TO_END}
    store.log("two_datasets", "2", results, seeds=[1, 2], **parts)
    lines = analysis.table("two_datasets", tracking_uri=store.uri).published.lines()
    assert [line[0] for line in lines[-2:]] == ["ρ with digit_scenes (order)", "ρ with coco2014 (order)"]


def test_groups_of_classes_are_compared_group_by_group(store):
    groups = {f"test/map_g{g}": 10.0 * g for g in (1, 2)}
    rows = ("Naive IU", "Naive AN", "LL-R")
    results = {(row, None): [(1, 50.0 + i, {m: v - i for m, v in groups.items()})] for i, row in enumerate(rows)}
    layout = LAYOUT | {"columns": "metric", "value": [*groups, "test/map"]}
    source = {"paper": "large_loss_matters", "table": "open_images"}
    store.log("by_group", "6", results, seeds=[1], source=source, table=layout)
    made = analysis.table("by_group", tracking_uri=store.uri).published
    found = {(rank.ours, rank.column): rank.value for rank in made.correlations}
    assert found == pytest.approx({("G1", "G1"): -1, ("G2", "G2"): -1, ("all", "All Gs"): 1})


def test_kinds_of_labels_are_compared_phase_by_phase(store):
    kinds = {"tp": 80.0, "tn": 90.0, "fn": 20.0}
    more = {f"memorization/{k}_warmup": v for k, v in kinds.items()}
    more |= {f"memorization/{k}_later": 100 - v for k, v in kinds.items()}
    layout = {"rows": "metric", "columns": "metric", "value": list(more)}
    source = {"paper": "large_loss_matters", "table": "highest_loss"}
    store.log("phases", "9", {("Naive AN", None): [(1, 2.0, more)]}, seeds=[1], source=source, table=layout)
    made = analysis.table("phases", tracking_uri=store.uri).published
    assert [(rank.ours, rank.column) for rank in made.correlations] == [
        ("highest loss in warm-up (%)", "VOC, warm-up"),
        ("highest loss later (%)", "VOC, regular"),
        ("highest loss in warm-up (%)", "COCO, warm-up"),
        ("highest loss later (%)", "COCO, regular"),
    ]
    assert [rank.value for rank in made.correlations] == pytest.approx([1.0] * 4)


SIZES = {
    "voc2012": {"train/images": 4574, "val/images": 1143, "test/images": 5823},
    "coco2014": {"train/images": 82783, "val/images": 0, "test/images": 40504},
}
SINGLE_POSITIVE = {
    "data.dataset": "voc2012", "data.labels": "single_positive", "data.mask_seed": 1200, "data.image_size": 448,
    "network.backbone": "resnet50", "network.weights": "imagenet", "train.batch_size": 16, "train.epochs": 10,
    **END_TO_END,
}  # fmt: skip
PROPORTION = {
    "data.dataset": "coco2014", "data.labels": "proportion", "data.mask_seed": 0, "data.image_size": 448,
    "network.backbone": "resnet101", "network.weights": "imagenet", "train.batch_size": 32, "train.epochs": 20,
}  # fmt: skip
ON_CLIP = {
    "network.backbone": "open_clip", "network.clip_model": "RN101-quickgelu", "network.clip_weights": "openai",
    "network.image_size": 448, "train.batch_size": 64, "train.epochs": 100,
}  # fmt: skip
OF_16 = {"train.batch_size": 16}
NINE = [round(0.1 * k, 1) for k in range(1, 10)]
# For each paper: the table, the settings of all rows, and those of single rows, as their own papers have them.
PROTOCOLS = {
    "large_loss_matters": (
        "methods",
        SINGLE_POSITIVE,
        {"Full label": {"data.labels": "full"}, "Naive AN": {}, "WAN": {}, "ROLE": {}, "LL-R": {}},
    ),
    "sst": ("methods", PROPORTION, {"SSGRL": {}, "Partial BCE": {}, "KGGR": {}, "SST": {}}),
    "sarb": ("methods", PROPORTION | OF_16, {"SSGRL": {}, "Partial BCE": {}, "KGGR": {}, "SARB": {}}),
    "clip_semantic": (
        "methods",
        PROPORTION,
        {"SSGRL": {}, "HST": {}, "SARB": OF_16, "DSRB": OF_16, "Ours": ON_CLIP},
    ),
}


def _log_paper(store, name, paper, known=(0.1,), rows=None, table=None, seeds=(1,)):
    """A made-up `paper` record in the published protocol: each row is five points above what is published by the
    releases' own metric and epoch rule, two points less in the last epoch, and another one less by plain AP."""
    own_table, logged, of_rows = PROTOCOLS[paper]
    table, single = table or own_table, paper == "large_loss_matters"
    of_rows = {row: of_rows.get(row, {}) for row in rows or of_rows}
    cells, results, sizes = _cells(paper, table), {}, SIZES[logged["data.dataset"]]
    for row in of_rows:
        for k in [None] if single else known:
            column = "End-to-end, VOC" if single else f"{'COCO, ' * (table == 'methods')}{100 * k:.0f}%"
            best = cells[row].get(column, 50.0) + 5
            measured = {"val/map": [7.0, 6.0], "test/map": [best - 1, best - 3], **sizes}
            measured |= {f"test/{name}": [best, best - 2] for name in ("map_interpolated", "map_absent_zero", "of1")}
            results[row, None if single else Axes({"data.known": k})] = [(6.0, best - 3, measured)] * len(seeds)
    layout = {"rows": "variant", "columns": None, "value": "test/map"}
    parts = {
        "source": {"paper": paper, "table": table},
        "profile": "paper",
        "variants": of_rows,
        "table": layout if single else layout | {"columns": "data.known", "average": "data.known"},
        "select": {"metric": "val/map", "epoch": "last"},
        "axes": {} if single else {"data.known": list(known)},
    }
    store.log(name, "9a9e5", results, seeds=list(seeds), logged=logged, of_rows=of_rows, **parts)
    return records.load(name, tracking_uri=store.uri)


def _in_protocol(record, paper):
    """The record by the metric and the epoch rule of the paper."""
    single = paper == "large_loss_matters"
    metric = "test/map_absent_zero" if single else "test/map_interpolated"
    return selection.shown(record, "best_val" if single else "best_test", metric)


@pytest.fixture(scope="module", params=PROTOCOLS)
def paper_record(request, store):
    """A paper and a record of its table in all of the published protocol."""
    return request.param, _log_paper(store, f"record_of_{request.param}", request.param)


def _differences(made):
    return {(cell.row, cell.column): cell.difference for cell in made.cells if cell.difference is not None}


def _named(made):
    return {part for cell in made.cells for part in cell.differs}


def test_every_published_cell_has_every_part_of_a_protocol_and_unknown_ones_are_said():
    unknown = set()
    for paper in PAPERS.glob("*.yaml"):
        for table, spec in tables(paper).items():
            for row in spec["rows"]:
                for column in spec["columns"]:
                    parts = protocol(published(paper.stem), table, row, column)
                    assert tuple(parts) == PARTS
                    assert all(parts[part] != {} for part in PARTS)
                    said = [None not in (settings or {"": None}).values() for settings in parts.values()]
                    unknown |= {table} if not all(said) else set()
    assert unknown == {"open_images"}


def test_in_all_of_the_protocol_there_are_differences_and_rank_correlations(paper_record):
    """Of all rows that were run, in the column of their data."""
    paper, record = paper_record
    made = build(_in_protocol(record, paper)).published
    column = "End-to-end, VOC" if paper == "large_loss_matters" else "COCO, 10%"
    rows = list(PROTOCOLS[paper][2])
    assert _differences(made) == {(row, column): pytest.approx(5.0) for row in rows}
    assert {cell.differs for cell in made.cells if cell.column == column} == {()}
    (rank,) = [rank for rank in made.correlations if rank.column == column]
    assert (rank.n, rank.value, rank.same_protocol) == (len(rows), pytest.approx(1.0), True)
    lines = {line[0]: line[1:] for line in made.lines()}
    assert lines["ρ with ours"][made.columns.index(column)] == f"1.00 (n = {len(rows)})"
    assert "(+5.0)" in lines[rows[0]][made.columns.index(column)]
    assert "In brackets: ours minus published, where all of the protocol agrees" in made.caption


def test_a_difference_stands_in_brackets_with_its_sign():
    assert PublishedCell("LL-R", "VOC", 85.1, difference=-25.1).text == "85.1 (−25.1)"
    assert PublishedCell("Ours", "COCO", 78.3, 0.2, 0.4).text == "78.3 ± 0.2 (+0.4)"


def _param(name, value):
    return lambda record: replace(record, params=record.params.assign(**{name: value}))


def _result(name, value):
    return lambda record: replace(record, trials=record.trials.assign(**{name: value}))


def _without(name):
    kept = {"errors": "ignore", "columns": name}
    return lambda record: replace(record, params=record.params.drop(**kept), trials=record.trials.drop(**kept))


def _space(**changes):
    return lambda record: replace(record, space=record.space | changes)


def _weights(record):
    return replace(record, params=record.params.assign(**{"network.weights": "random", "network.clip_weights": "a"}))


# What is changed in a record of the published protocol, and the part that this is.
CHANGED = {
    "profile": (_space(profile="default"), "profile", "profile (default, not paper)"),
    "metric": (lambda r: selection.shown(r, None, "test/map"), "metric", "metric (table.value test/map, not test/map_"),
    "epoch rule": (
        lambda r: selection.under(r, "last"), "epoch rule", "epoch rule (select.epoch last, not best_",
    ),
    "data set": (_param("data.dataset", "digit_scenes"), "data set", "data set (data.dataset digit_scenes, not "),
    "training images": (_result("train/images", 4242), "data set", "data set (train/images 4242, not "),
    "val images": (_result("val/images", 17), "data set", "data set (val/images 17, not "),
    "test images": (_result("test/images", 99), "data set", "data set (test/images 99, not "),
    "no sizes": (_without("test/images"), "data set", "data set (test/images not recorded"),
    "image size": (_param("data.image_size", "64"), "image size", "image size (data.image_size 64, not 448"),
    "backbone": (_param("network.backbone", "resnet18"), "backbone", "backbone (network.backbone resnet18, not "),
    "no backbone": (_without("network.backbone"), "backbone", "backbone (network.backbone not recorded"),
    "initial weights": (_weights, "initial weights", "initial weights (network.weights random, not imagenet"),
    "batch": (_param("train.batch_size", "7"), "batch", "batch (train.batch_size 7, not "),
    "epochs": (_param("train.epochs", "1"), "epochs", "epochs (train.epochs 1, not "),
    "labels": (_param("data.labels", "human_verified"), "mask", "mask (data.labels human_verified, not "),
    "mask": (_param("data.mask_seed", "5"), "mask", "mask (data.mask_seed 5, not "),
}  # fmt: skip


@pytest.mark.parametrize("changed", CHANGED)
def test_where_one_part_is_another_there_is_no_difference_and_the_part_is_named(paper_record, changed):
    paper, record = paper_record
    change, part, said = CHANGED[changed]
    made = build(change(_in_protocol(record, paper))).published
    # A mask has no seed where all labels are given.
    unchanged = {"Full label"} if changed == "mask" else set()
    assert {row for row, _ in _differences(made)} <= unchanged
    assert _named(made) >= {part}
    rows = [
        cell
        for cell in made.cells
        if cell.row in PROTOCOLS[paper][2] and cell.column in ("End-to-end, VOC", "COCO, 10%")
    ]
    assert {cell.differs for cell in rows if cell.row not in unchanged} == {(part,)}
    assert said in made.caption
    assert not any(rank.same_protocol for rank in made.correlations if rank.n > 1 or not unchanged)
    assert "ρ (order) compares the order of rows with another protocol" in made.caption


def test_a_short_training_of_small_images_from_random_weights_is_not_called_the_published_protocol(paper_record):
    paper, record = paper_record
    record = _in_protocol(record, paper)
    for name, value in {"train.epochs": 1, "train.learning_rate": 0.1, "data.image_size": 64}.items():
        record = _param(name, str(value))(record)
    made = build(_weights(record)).published
    assert not _differences(made)
    assert _named(made) >= {"image size", "initial weights", "epochs"}
    assert re.search(r"another: image size \(.*\), initial weights \(.*\), epochs \(train.epochs 1, not", made.caption)
    assert "In brackets" not in made.caption


@pytest.fixture(scope="module")
def nine_proportions(store):
    return _log_paper(store, "nine_proportions", "sst", NINE, ["SSGRL", "IST", "SST"], "components")


def test_one_record_has_both_protocols_and_only_the_releases_own_has_differences(nine_proportions, store):
    plain = build(nine_proportions)
    assert (plain.selected, plain.cells["SST", "10%"].value) == ("last", pytest.approx(68.1 + 2))
    assert not _differences(plain.published)
    assert {cell.differs for cell in plain.published.cells if cell.row == "SST"} == {("metric", "epoch rule")}
    asked = {"select": "best_test", "value": "test/map_interpolated"}
    release = analysis.table("nine_proportions", tracking_uri=store.uri, **asked).published
    assert _differences(release)["SST", "10%"] == pytest.approx(5.0)
    assert all(rank.same_protocol for rank in release.correlations)


def test_of1_has_differences_only_where_the_oracle_selected_by_the_releases_map(store):
    """Without a metric named, a table without mAP selects by plain mAP, which the release does not."""
    _log_paper(store, "of1", "sarb", NINE, ["SSGRL", "SARB"])
    by = {"best_test": "test/map", "best_test:test/map_interpolated": "test/map_interpolated"}
    made = {rule: analysis.table("of1", tracking_uri=store.uri, value="test/of1", select=rule) for rule in by}
    plain, release = (made[rule].published for rule in by)
    assert not _differences(plain)
    compared = [cell for cell in plain.cells if cell.column == "COCO, average OF1" and cell.row in ("SSGRL", "SARB")]
    assert [cell.differs for cell in compared] == [("epoch rule",)] * 2
    said = "epoch rule (select.epoch best_test:test/map, not best_test:test/map_interpolated)"
    assert said in plain.caption
    assert set(_differences(release)) == {(row, "COCO, average OF1") for row in ("SSGRL", "SARB")}


def test_a_row_whose_own_paper_has_another_batch_has_no_difference_alone(store):
    """At batches of 32 throughout, SARB and DSRB have none beside the others."""
    record = _in_protocol(_log_paper(store, "batches", "clip_semantic"), "clip_semantic")
    batches = record.params["train.batch_size"].replace("16", "32")
    made = build(replace(record, params=record.params.assign(**{"train.batch_size": batches}))).published
    assert {row for row, _ in _differences(made)} == {"SSGRL", "HST", "Ours"}
    assert "batch (train.batch_size 32, not 16, in SARB, DSRB)" in made.caption
    (rank,) = [rank for rank in made.correlations if rank.column == "COCO, 10%"]
    assert (rank.n, rank.same_protocol) == (3, True)
    texts = {cell.row: cell.text for cell in made.cells if cell.column == "COCO, 10%"}
    assert (texts["HST"], texts["SARB"]) == ("70.6 ± 0.4 (+5.0)", "71.2 ± 0.3")


def test_averages_are_compared_with_averages_and_proportions_with_proportions(nine_proportions):
    table = build(_in_protocol(nine_proportions, "sst"))
    made, differences = table.published, _differences(table.published)
    assert {rank.ours: rank.column for rank in made.correlations} == {column: column for column in made.columns}
    assert all((rank.n, rank.value) == (3, pytest.approx(1.0)) for rank in made.correlations)
    assert len(differences) == 3 * 10
    assert differences["IST", "10%"] == pytest.approx(5.0)
    assert differences["IST", "average"] == pytest.approx(table.cells["IST", "average"].value - 75.2)


def test_an_average_over_other_values_is_ranked_and_has_no_difference(store):
    known = [0.1, 0.2, 0.9]
    record = _log_paper(store, "three", "sst", known, ["SSGRL", "IST", "SST"], "components")
    made = build(_in_protocol(record, "sst")).published
    assert [rank.column for rank in made.correlations] == ["10%", "20%", "90%", "average"]
    assert {column for _, column in _differences(made)} == {"10%", "20%", "90%"}
    assert {
        cell.differs for cell in made.cells if cell.column == "average" and cell.row in ("SSGRL", "IST", "SST")
    } == {("mask",)}
    assert "mask (data.known 0.1, 0.2 or 0.9, not 0.1, 0.2, 0.3" in made.caption


def test_other_proportions_and_other_measures_are_no_published_column(store):
    record = _in_protocol(_log_paper(store, "fifteen", "sst", known=[0.15]), "sst")
    made = build(record).published
    assert (_differences(made), made.correlations) == ({}, ())
    assert "No differences, as none of our columns has the published data.known or table.value" in made.caption


def test_where_ours_has_the_protocol_of_a_column_other_data_are_not_ranked_beside_it(store):
    """A rank correlation of VOC with the published COCO, say, where ours of COCO is at hand."""
    logged = PROTOCOLS["large_loss_matters"][1]
    results = {
        (row, Axes({"data.dataset": dataset})): [(1, 60.0 + i, {"test/map_absent_zero": 60.0 + i, **sizes})]
        for i, row in enumerate(("Naive AN", "WAN", "ROLE"))
        for dataset, sizes in {
            "voc2012": SIZES["voc2012"],
            "coco2014": {"train/images": 65665, "val/images": 16416, "test/images": 40137},
        }.items()
    }
    layout = LAYOUT | {"columns": "data.dataset", "value": "test/map_absent_zero", "reference": []}
    parts = {"source": METHODS, "table": layout, "axes": {"data.dataset": ["voc2012", "coco2014"]}, "profile": "paper"}
    store.log("two_real", "2", results, seeds=[1], logged=logged, **parts)
    made = analysis.table("two_real", tracking_uri=store.uri).published
    pairs = [(rank.ours, rank.column) for rank in made.correlations if rank.same_protocol]
    assert pairs == [("voc2012", "End-to-end, VOC"), ("coco2014", "End-to-end, COCO")]
    assert {rank.column for rank in made.correlations if not rank.same_protocol} == {
        "End-to-end, NUSWIDE",
        "End-to-end, CUB",
    }


def test_kinds_that_are_measured_over_all_epochs_need_no_epoch_rule(store):
    kinds = {f"memorization/{kind}_{phase}": 50.0 for kind in ("tp", "tn", "fn") for phase in ("warmup", "later")}
    layout = {"rows": "metric", "columns": "metric", "value": list(kinds)}
    source = {"paper": "large_loss_matters", "table": "highest_loss"}
    results = {("Naive AN", None): [(1, 2.0, kinds | SIZES["voc2012"])]}
    last = {"metric": "val/map", "epoch": "last"}
    parts = {"source": source, "table": layout, "profile": "paper", "select": last, "logged": SINGLE_POSITIVE}
    store.log("phases_alike", "9", results, seeds=[1], **parts)
    made = analysis.table("phases_alike", tracking_uri=store.uri).published
    assert _differences(made)["TP", "VOC, warm-up"] == pytest.approx(50.0 - 88.3)
    assert {column for _, column in _differences(made)} == {"VOC, warm-up", "VOC, regular"}


def test_a_table_that_the_paper_does_not_have_is_said_and_an_item_in_words_is_not(log):
    made = log("mistaken", source=METHODS | {"table": "Table 9"})
    assert "large_loss_matters has no table 'Table 9'; it has methods, open_images" in made.md()
    assert log("in_words", source={"paper": "large_loss_matters", "item": "Figure 1"}).published is None
    assert log("other_paper", source={"paper": "../secret", "table": "t"}).published is None


def test_every_format_has_the_published_numbers_in_a_block_of_their_own(log):
    made = log("formats")
    markdown = made.md()
    assert markdown.index("| LL-R | 62.0") < markdown.index("Published:") < markdown.index("| LL-R | 89.2 | 71.0 |")
    assert f"| ρ with ours (order) | {made.published.correlations[0].text} |" in markdown

    lines = list(csv.DictReader(io.StringIO(made.csv())))
    count = {source: sum(line["source"] == source for line in lines) for source in {line["source"] for line in lines}}
    assert count == {"ours": len(OURS), "published": 9 * 8, "rank correlation": 4}
    cell = next(line for line in lines if (line["source"], line["row"]) == ("published", "LL-R"))
    assert (cell["column"], float(cell["value"]), cell["difference"]) == ("End-to-end, VOC", 89.2, "")

    whole = json.loads(made.json())["published"]
    assert {
        "row": "LL-R",
        "column": "LinearInit, CUB",
        "value": 21.5,
        "spread": None,
        "difference": None,
        "differs": [],
    } in whole["cells"]
    assert whole["correlations"][0]["n"] == 4

    latex = made.latex()
    assert re.findall(r"\\(toprule|midrule|bottomrule)", latex) == ["toprule", "midrule", "bottomrule"] * 4
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4  # eight columns do not fit in a line
    assert latex.isascii()
    assert latex.count("{") == latex.count("}")
