"""What is said of published numbers beside ours, and that nothing is compared which cannot be."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from scipy.stats import spearmanr

import analysis
from analysis.tables.published import PAPERS
from tests.analysis.conftest import Axes

SPACES = sorted((Path(__file__).parents[2] / "search_spaces").glob("*.yaml"))
METHODS = {"paper": "large_loss_matters", "table": "methods"}
# Ours; published on VOC, end-to-end: 90.2, 85.1, 86.5, 86.7, 89.2 and none.
OURS = {"Full label": 99.0, "Naive AN": 60.0, "WAN": 62.0, "LSAN": 61.0, "LL-R": 62.0, "Ours alone": 70.0}
PUBLISHED_PROTOCOL = {"data.dataset": "voc2012", "network.backbone": "resnet50", "train.batch_size": 16}
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
    assert few.lines()[-1] == ["ρ with ours", "—", "—", "—", "—", "—", "—", "—", "—"]


def test_there_are_no_differences_from_numbers_on_other_data(log):
    made = log("other_data", logged=END_TO_END | PUBLISHED_PROTOCOL | {"data.dataset": "digit_scenes"}, profile="paper")
    assert {cell.difference for cell in made.published.cells} == {None}
    assert "No differences, as ours are of another data set or protocol" in made.published.caption


def test_the_same_data_and_protocol_under_the_profile_paper_have_differences(log):
    made = log("same", logged=END_TO_END | PUBLISHED_PROTOCOL, profile="paper").published
    differences = {cell.row: cell.difference for cell in made.cells if cell.column == "End-to-end, VOC"}
    assert differences["Naive AN"] == pytest.approx(60.0 - 85.1)
    assert differences["Full label"] == pytest.approx(99.0 - 90.2)
    assert differences["ROLE"] is None  # not run
    assert {cell.difference for cell in made.cells if cell.column != "End-to-end, VOC"} == {None}
    assert [made.lines()[1][1], made.lines()[2][1]] == ["90.2 (+8.8)", "85.1 (−25.1)"]
    assert "In brackets: ours minus published" in made.caption


@pytest.mark.parametrize(
    ("name", "logged", "profile"),
    [
        ("profile", {}, "default"),
        ("protocol", {"train.batch_size": 32}, "paper"),
        ("training", {"train.linear_init": "first_epochs", "data.dataset": "coco"}, "paper"),
    ],
)
def test_without_profile_protocol_or_data_there_are_none(log, name, logged, profile):
    made = log(f"not_the_same_{name}", logged=END_TO_END | PUBLISHED_PROTOCOL | logged, profile=profile)
    assert {cell.difference for cell in made.published.cells} == {None}


@pytest.mark.parametrize(("backbone", "row"), [("resnet101", "SSGRL"), ("open_clip", "Ours")])
def test_a_row_that_was_published_with_another_network_is_compared_with_that(log, backbone, row):
    """SSGRL from ImageNet's weights, the paper's own method on CLIP."""
    logged = {"network.backbone": backbone, "data.labels": "proportion", "data.dataset": "coco2014", "data.known": 0.1}
    logged |= {"train.batch_size": 64, "train.epochs": 100}
    source = {"paper": "clip_semantic", "table": "methods"}
    made = log(f"of_{backbone}", {"SSGRL": 60.0, "Ours": 70.0}, logged, source, profile="paper").published
    published = _cells("clip_semantic", "methods")[row]["COCO, 10%"]
    differences = {cell.row: cell.difference for cell in made.cells if cell.difference is not None}
    assert differences == {row: pytest.approx({"SSGRL": 60.0, "Ours": 70.0}[row] - published)}
    texts = {cell.row: cell.text for cell in made.cells if cell.difference is not None}
    assert texts == {row: {"SSGRL": "62.4 ± 0.4 (−2.4)", "Ours": "78.3 ± 0.2 (−8.3)"}[row]}


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
    assert [line[0] for line in made.lines()[-2:]] == ["LL-Cp", "ρ with ours"]  # none is compared with two of ours


def test_two_of_our_columns_that_are_compared_with_one_have_a_line_each(store):
    datasets = ["digit_scenes", "coco2014"]
    results = {
        (row, Axes({"data.dataset": dataset})): [(1, value)] * 2 for row, value in OURS.items() for dataset in datasets
    }
    layout = LAYOUT | {"columns": "data.dataset"}
    parts = {"source": METHODS, "table": layout, "axes": {"data.dataset": datasets}, "logged": END_TO_END}
    store.log("two_datasets", "2", results, seeds=[1, 2], **parts)
    lines = analysis.table("two_datasets", tracking_uri=store.uri).published.lines()
    assert [line[0] for line in lines[-2:]] == ["ρ with digit_scenes", "ρ with coco2014"]


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


def _log_proportions(store, name, known, **logged):
    """Three rows, better with every label, whose order is another one at the last proportion."""
    results = {
        (row, Axes({"data.known": k})): [(1, 50 * k + i * (-4 if k == known[-1] else 1))] * 2
        for i, row in enumerate(("SSGRL", "IST", "SST"))
        for k in known
    }
    layout = {"rows": "variant", "columns": "data.known", "value": "test/map", "average": "data.known"}
    parts = {"source": {"paper": "sst", "table": "components"}, "axes": {"data.known": known}, "profile": "paper"}
    logged = {"data.labels": "proportion", "network.backbone": "resnet101", "train.batch_size": 32} | logged
    store.log(name, "a7", results, seeds=[1, 2], table=layout, logged=logged, **parts)
    return analysis.table(name, tracking_uri=store.uri)


def test_averages_are_compared_with_averages_and_proportions_with_proportions(store):
    known = [round(0.1 * k, 1) for k in range(1, 10)]
    table = _log_proportions(store, "nine_proportions", known, **{"data.dataset": "coco2014"})
    made = table.published
    assert {rank.ours: rank.column for rank in made.correlations} == {column: column for column in made.columns}
    ranks = {rank.column: rank.value for rank in made.correlations}
    assert ranks == pytest.approx({column: -1 if column == "90%" else 1 for column in made.columns})
    differences = {(cell.row, cell.column): cell.difference for cell in made.cells if cell.difference is not None}
    assert len(differences) == 3 * 10
    assert differences["IST", "10%"] == pytest.approx(5 + 1 - 64.1)
    assert differences["IST", "average"] == pytest.approx(table.cells["IST", "average"].value - 75.2)


def test_an_average_over_other_values_is_ranked_and_has_no_difference(store):
    made = _log_proportions(store, "three_proportions", [0.1, 0.2, 0.9], **{"data.dataset": "coco2014"}).published
    assert [rank.column for rank in made.correlations] == ["10%", "20%", "90%", "average"]
    differences = {cell.column for cell in made.cells if cell.difference is not None}
    assert differences == {"10%", "20%", "90%"}


def test_a_table_that_the_paper_does_not_have_is_said_and_an_item_in_words_is_not(log):
    made = log("mistaken", source=METHODS | {"table": "Table 9"})
    assert "large_loss_matters has no table 'Table 9'; it has methods, open_images" in made.md()
    assert log("in_words", source={"paper": "large_loss_matters", "item": "Figure 1"}).published is None
    assert log("other_paper", source={"paper": "../secret", "table": "t"}).published is None


def test_every_format_has_the_published_numbers_in_a_block_of_their_own(log):
    made = log("formats")
    markdown = made.md()
    assert markdown.index("| LL-R | 62.0") < markdown.index("Published:") < markdown.index("| LL-R | 89.2 | 71.0 |")
    assert f"| ρ with ours | {made.published.correlations[0].text} |" in markdown

    lines = list(csv.DictReader(io.StringIO(made.csv())))
    count = {source: sum(line["source"] == source for line in lines) for source in {line["source"] for line in lines}}
    assert count == {"ours": len(OURS), "published": 9 * 8, "rank correlation": 4}
    cell = next(line for line in lines if (line["source"], line["row"]) == ("published", "LL-R"))
    assert (cell["column"], float(cell["value"]), cell["difference"]) == ("End-to-end, VOC", 89.2, "")

    whole = json.loads(made.json())["published"]
    assert {"row": "LL-R", "column": "LinearInit, CUB", "value": 21.5, "spread": None, "difference": None} in whole[
        "cells"
    ]
    assert whole["correlations"][0]["n"] == 4

    latex = made.latex()
    assert re.findall(r"\\(toprule|midrule|bottomrule)", latex) == ["toprule", "midrule", "bottomrule"] * 4
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 4  # eight columns do not fit in a line
    assert latex.isascii()
    assert latex.count("{") == latex.count("}")
