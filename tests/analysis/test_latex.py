"""A document of all kinds of tables compiles as it is, and has no character that LaTeX would not print."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import analysis
from analysis import names
from analysis.reading import records
from analysis.report import page
from analysis.tables import comparisons, writing
from analysis.tables.published import PAPERS
from sweeper import load_space

from . import pages
from .conftest import LL_DELTA, Axes

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables(store):
    """One of every kind: columns, averages, parts of a wide one, published numbers, rules, comparisons, footnotes."""
    known = [round(0.05 * n, 2) for n in range(1, 16)]
    results = {
        (row, Axes({"data.known": k})): [(1, 50 + 10 * k), (1, 51 + 10 * k)]
        for row in ("SSGRL", "SST", "IST w/o L_ist", "γ⁺ & 100 %")
        for k in known
    }
    source = {"paper": "sst", "table": "methods"}
    layout = {"rows": "variant", "columns": "data.known", "value": "test/map", "average": "data.known"}
    wide = {"table": layout, "axes": {"data.known": known}, "source": source, "note": "x_1 < 1 %, α ≤ β"}
    store.log("latex_wide", "1a7e", results, seeds=[1, 2], **wide)
    store.log(
        "latex_paper", "1a7f", LL_DELTA, profile="paper", source={"paper": "large_loss_matters", "table": "methods"}
    )
    ours = [analysis.table(name, tracking_uri=store.uri) for name in ("ll_delta", "latex_wide", "latex_paper", "plain")]
    ours.append(analysis.table("ll_delta", tracking_uri=store.uri, select="best_test"))
    ours.append(analysis.table("ll_delta", tracking_uri=store.uri, against="Naive AN"))
    one = records.load("ll_delta", tracking_uri=store.uri)
    return [*ours, comparisons.compare(one, records.load("ll_delta", tracking_uri=store.uri, sweep="0ld"))]


@pytest.mark.parametrize("made_by", ["hand", "report"])
def test_a_document_that_includes_all_tables_compiles_and_nothing_is_cut_off(tables, tmp_path, made_by):
    if not shutil.which("pdflatex") and os.environ.get("CI") != "true":
        pytest.skip("no pdflatex on this machine; Debian has it in texlive-latex-recommended")
    for number, table in enumerate(tables):
        (tmp_path / f"table{number}.tex").write_text(table.latex(), encoding="utf-8")
    included = "\n".join(rf"\input{{table{number}}}\clearpage" for number in range(len(tables)))
    document = "\n".join([r"\documentclass{article}\usepackage{booktabs}\begin{document}", included, r"\end{document}"])
    if made_by == "report":
        document = page.latex_document(pages.make(tmp_path))
        labels = re.findall(r"\\label{(.*?)}", document)
        assert "tab:ll_delta-default" in labels and len(set(labels)) == len(labels)
    (tmp_path / "all.tex").write_text(document, encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "all.pdf").read_bytes().startswith(b"%PDF")
    log = (tmp_path / "all.log").read_text("latin-1")
    for trouble in ("Missing character", "Overfull", "Float too large"):
        assert trouble not in log


def test_every_character_of_our_spaces_papers_and_captions_is_one_that_latex_prints():
    texts = [path.read_text("utf-8") for path in PAPERS.glob("*.yaml")]
    modules = [*Path(comparisons.__file__).parent.glob("*.py"), Path(names.__file__)]
    texts += [path.read_text("utf-8") for path in modules]
    for path in sorted((ROOT / "search_spaces").glob("*.yaml")):
        space = load_space(path)
        texts += [space.title, space.note, *space.variants, str(space.resolved().get("titles"))]
    unknown = {character for text in texts for character in text if not writing.escaped(character).isascii()}
    assert unknown == set()
