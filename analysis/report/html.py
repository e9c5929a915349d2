"""Tables as HTML: a fragment that stands alone, and what the report makes its page from.

Nothing is loaded from elsewhere. Templates escape what they are given; styles and scripts stand with them in `pages/`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from analysis.tables.table import Cell, Table

_PAGES = Path(__file__).parent / "pages"


def fragment(table: Table, mlflow_url: str | None = None) -> str:
    """The table with its style and script, to be put into any page; runs are links where MLflow's pages have an
    address."""
    template = environment().get_template("fragment.html")
    return template.render(table=table, mlflow=mlflow_url, style=part("table.css"), script=part("table.js"))


def pages_of(tracking_uri: str, given: str | None = None) -> str | None:
    """Where MLflow's pages are: as given, else on the server that the record was read from, if there is one."""
    url = given or (tracking_uri if tracking_uri.startswith(("http://", "https://")) else None)
    return url.rstrip("/") if url else None


@cache
def environment() -> Environment:
    """Templates of `pages/`, which escape what is put into them."""
    made = Environment(
        loader=FileSystemLoader(_PAGES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["told"] = _told
    return made


def part(name: str) -> Markup:
    """A style or script, to stand in a page as it is."""
    return Markup((_PAGES / name).read_text(encoding="utf-8"))


def _told(cell: Cell, row: str, column: str) -> str:
    """What a cell is made of, a line each."""
    value = [] if cell.value is None else [f"{cell.value:.2f}" + (f" ± {cell.spread:.2f}" if cell.spread else "")]
    by_seed = " · ".join(f"seed {seed}: {value:.2f}" for seed, value in cell.seeds.items())
    lines = [*value, f"n = {cell.n} of {cell.expected}", by_seed, cell.note]
    return "\n".join([f"{row}, {column}", *filter(None, lines)])
