"""What the report's page says, and that one sweep's trouble does not cost the page."""

import re
import subprocess
import sys
from html import unescape
from html.parser import HTMLParser

import pytest
from mlflow import MlflowClient

import analysis
from analysis.claims import judging
from analysis.cli import main
from analysis.reading import records
from analysis.report.html import fragment, pages_of
from analysis.report.page import html_page
from analysis.tables.table import Cell, Table
from tests.analysis import pages


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return pages.make(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(uri):
    return html_page(uri, mlflow_url="http://127.0.0.1:5000/")


class _Read(HTMLParser):
    """The rows of all tables, a list of texts each, and every tag with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.tags, self.open = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        self.open = tag in ("td", "th", "span", "button", "b") if tag in ("td", "th") else self.open
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.open = self.open and tag not in ("td", "th")

    def handle_data(self, data):
        if self.open:
            self.rows[-1][-1] += data


def test_a_fragment_has_every_cell_as_the_table_prints_it_and_says_what_it_is_made_of(uri):
    table = analysis.table("ll_delta", tracking_uri=uri, sweep="ae4f")
    read = _Read(fragment(table))
    printed = [[table.columns_title, *table.columns]]
    printed += [[row, *(table.cells[row, column].text for column in table.columns)] for row in table.rows]
    assert read.rows == printed
    told = [attributes for tag, attributes in read.tags if tag == "td" and "title" in attributes]
    cell = table.cells["LL-R", "1.6"]
    (of_cell,) = [one for one in told if one["title"].startswith("LL-R, 1.6\n")]
    assert of_cell["title"].split("\n")[1:] == [
        "50.50 ± 0.71",
        "n = 2 of 3",
        "seed 1: 50.00 · seed 3: 51.00",
        cell.note,
    ]
    assert of_cell["class"] == "short"
    assert of_cell["data-runs"].split() == list(cell.runs)
    assert {one["title"].split("\n")[0] for one in told if one["class"] == "best"} == {
        f"{row}, {column}" for (row, column), cell in table.cells.items() if cell.bold
    }


def test_published_numbers_stand_in_a_block_of_their_own(store):
    results = {(row, None): [(1, value)] * 3 for row, value in (("SSGRL", 70.0), ("SST", 72.0), ("KGGR", 71.0))}
    source = {"paper": "sst", "table": "methods"}
    store.log("beside_in_html", "be51", results, source=source, table={"rows": "variant", "value": "test/map"})
    text = fragment(analysis.table("beside_in_html", tracking_uri=store.uri))
    ours, published = text.split('<div class="published">')
    assert "72.0" in ours
    assert "68.1" not in ours
    assert "68.1" in published
    assert "72.0" not in published


def test_what_is_put_into_a_fragment_is_escaped():
    cell = Cell(1.0, n=1, expected=1, note='"><script>alert(1)</script>')
    table = Table("x", "<b>caption</b>", ("a<b",), ("c&d",), "<i>", {("a<b", "c&d"): cell}, True)
    scripts = [tag for tag, _ in _Read(fragment(table)).tags if tag in ("script", "b", "i")]
    assert scripts == ["script"]  # our own


def test_links_lead_to_the_tracking_server_unless_told_otherwise_and_nowhere_without_one():
    assert pages_of("http://server:5000/") == "http://server:5000"
    assert pages_of("sqlite:///mlflow.db") is None
    assert pages_of("sqlite:///mlflow.db", "http://localhost:5001") == "http://localhost:5001"


def test_it_shows_the_newest_sweep_of_each_space_and_profile_and_smoke_when_asked(uri, page):
    assert set(re.findall(r'<article id="([^"]*)"', page)) == {
        *("ll_delta-default", "ll_delta-claims", "two-default", "over_epochs-default", "all_failed-default"),
        "unreadable-default",
    }
    assert "sweep ae4f" in page
    assert "sweep 01d5" not in page
    assert '<article id="ll_delta-smoke"' in html_page(uri, smoke=True)


def test_what_cannot_be_shown_says_why_in_its_place(page):
    problems = dict(re.findall(r'<article id="([^"]*)">.*?<p class="problem">(.*?)</p>', page, flags=re.DOTALL))
    assert problems["unreadable-default"].startswith("This sweep cannot be read: ")
    of_failed = page[page.index('<article id="all_failed-default"') :]
    assert "No figure: no run of &#39;all_failed&#39; has finished with a result to draw" in of_failed


def test_titles_are_text(page):
    assert "A title with &lt;script&gt;" in page
    assert len(re.findall(r"<script\b", page)) == 1


def test_it_is_one_file_that_loads_nothing(page):
    assert "default-src 'none'" in page
    assert not re.findall(r"@import|url\((?!#)|<link[^>]*stylesheet|<script[^>]+src", page)
    sources = [value for _, attributes in _Read(page).tags for name, value in attributes.items() if name == "src"]
    assert all(source.startswith("data:") for source in sources)
    links = {attributes["href"] for tag, attributes in _Read(page).tags if tag == "a"}
    anchors = {attributes["id"] for _, attributes in _Read(page).tags if "id" in attributes}
    assert links <= {f"#{anchor}" for anchor in anchors}


def test_names_of_parts_are_used_once(page):
    names = re.findall(r' id="([^"]*)"', page)
    drawn = {name for name in names if names.count(name) > 1}
    assert not {name for name in drawn if f"#{name}" in page}


def test_costs_are_as_recorded_and_otherwise_from_the_times_of_runs(page):
    meta = dict(re.findall(r'<article id="([^"]*)">\s*<p class="meta">(.*?)</p>', page, flags=re.DOTALL))
    assert "30 of 38 epochs trained" in meta["ll_delta-default"]  # of 19 finished trials of two epochs
    assert "0.25 GPU h" in meta["ll_delta-default"]  # two hours of an eighth of a GPU
    assert "GPU" not in meta["ll_delta-claims"]
    assert "38 epochs" not in meta["ll_delta-claims"]
    assert "54 epochs" in meta["ll_delta-claims"]


def test_provenance_names_sweeps_commits_and_versions(page):
    provenance = page[page.index('<section id="provenance">') :]
    assert "<code>ae4f</code>" in provenance
    assert "c0ffeec0ff" in provenance
    assert "<dt>torch</dt><dd>2.9</dd>" in provenance


def test_trials_without_a_result_are_listed_with_their_reasons(page):
    lacking = page[page.index('<section id="failures">') : page.index('<section id="provenance">')]
    rows = _Read(lacking).rows
    assert ["LL-R", "2", "failed", "loss is NaN in epoch 2"] in rows
    assert ["LL-Ct", "2", "missing", ""] in rows


def test_claims_have_their_verdicts_and_tests(page):
    claims = page[page.index('<section id="claims">') : page.index('<section id="paper-')]
    third = claims[claims.index('id="claim-3"') : claims.index('id="claim-4"')]
    assert '<span class="verdict reproduced">reproduced</span>' in third
    summary = third[: third.index("</summary>")]
    assert re.search(r'<span class="p">p (< 0\.001|= 0\.\d{3}) on digit_scenes</span>', unescape(summary))
    assert len(_Read(third).rows) == 1 + 6  # three rows of the table, against either end
    assert claims.count('<span class="verdict not-run">') == claims.count("To run it:") == claims.count("<details") - 1


def test_each_paper_says_for_how_many_claims_its_p_values_are_corrected(page):
    assert "1 of its 11 claims has been run; p is corrected for 1, that of an opposite for 6 tests, by Holm" in page
    assert "0 of its 6 claims have been run." in page


def test_importance_is_shown_where_two_settings_are_swept(page):
    articles = dict(re.findall(r'<article id="([^"]*)">(.*?)</article>', page, flags=re.DOTALL))
    with_importance = {name for name, text in articles.items() if "Importance of settings" in text}
    assert with_importance == {"two-default"}
    assert "Parallel coordinates" in articles["two-default"]


def test_the_trials_of_a_sweep_are_read_once(uri, monkeypatch):
    read, trials = [], records.runs.trials

    def counting(client, experiment, sweep):
        read.append(sweep)
        return trials(client, experiment, sweep)

    monkeypatch.setattr(records.runs, "trials", counting)
    monkeypatch.setattr(judging, "judge", lambda **_: [])
    html_page(uri)
    assert len(read) == len(set(read)) == 5  # the sixth sweep cannot be read


def test_the_command_writes_the_page_and_bad_input_is_exit_code_2(uri, tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert main(["report", "--tracking-uri", uri, "--out", str(out)]) == 0
    assert out.read_text().lstrip().startswith("<!doctype html>")
    assert capsys.readouterr().out.strip() == str(out)
    assert main(["report", "--tracking-uri", f"sqlite:///{tmp_path}/none.db"]) == 2
    assert "run a sweep first" in capsys.readouterr().err
    empty = f"sqlite:///{tmp_path}/empty.db"
    MlflowClient(empty).search_experiments()
    assert main(["report", "--tracking-uri", empty]) == 2
    assert "no sweep is recorded" in capsys.readouterr().err


def test_a_report_loads_neither_the_other_rooms_nor_torch_nor_ray(uri):
    program = f"""
import sys
from analysis.report.page import html_page
html_page({uri!r})
print(sorted({{name.partition(".")[0] for name in sys.modules}} & {{"torch", "ray", "sweeper", "methods"}}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
