"""Command line: `python -m analysis table NAME`, `compare A B`, `figure NAME`, `importance NAME`, `pareto NAME`,
`claims`, `report`.

Results go to stdout or to `--out`, messages to stderr. Exit code 1 means that a claim is contradicted, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.names import RULES

if TYPE_CHECKING:
    from analysis.reading.records import Record
    from analysis.tables.table import Table

FORMATS = ("md", "latex", "csv", "json", "html")
KINDS = ("space", "importance", "parallel", "pareto")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    from analysis.reading.records import RecordError  # here, so that --help need not wait for MLflow

    try:
        return arguments.command(arguments) or 0
    except (RecordError, OSError) as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    store = argparse.ArgumentParser(add_help=False)
    store.add_argument("--tracking-uri", metavar="URI", help="default: MLFLOW_TRACKING_URI, else ./runs/mlflow.db")
    store.add_argument(
        "--out", type=Path, metavar="FILE", help="default: standard output; runs/figures/NAME.png; report.html, or .tex"
    )
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("name", help="NAME[@HASH][:PROFILE]; NAME is the search space's, HASH of a sweep or a commit")
    one.add_argument(
        "--sweep", metavar="HASH", help="a sweep's hash, or a commit's, or its start (default: the newest)"
    )
    one.add_argument("--profile", help="the newest sweep of this profile (default: of any but smoke, if there is one)")
    shown = argparse.ArgumentParser(add_help=False)
    rules = f"the epoch that a trial reports: {', '.join(RULES)} (default: the space's rule)"
    shown.add_argument("--select", choices=RULES, metavar="RULE", help=rules)
    shown.add_argument("--value", metavar="METRIC", help="test/map_interpolated, say (default: what the space says)")
    mixed = "setting, `code` or `platform` that may differ between runs of a table, which then says so; repeatable"
    shown.add_argument("--allow", metavar="KEY", action="append", default=[], help=mixed)
    links = argparse.ArgumentParser(add_help=False)
    links.add_argument("--mlflow-url", metavar="URL", help="MLflow's pages, for links to runs (default: the server's)")
    pages = argparse.ArgumentParser(add_help=False, parents=[links])
    pages.add_argument("--format", choices=FORMATS, default="md", help="default: md")

    parser = argparse.ArgumentParser(
        prog="python -m analysis", description="Tables and figures from the MLflow record."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    table = commands.add_parser("table", parents=[one, shown, pages, store], help="print or write a sweep's table")
    table.add_argument("--against", metavar="ROW", help="paired differences of all rows from this one, with intervals")
    table.set_defaults(command=_table)
    compare = commands.add_parser(
        "compare", parents=[shown, pages, store], help="what differs between two sweeps, cell by cell"
    )
    for side in ("a", "b"):
        compare.add_argument(side, metavar=side.upper(), help="NAME[@HASH][:PROFILE], HASH of a sweep or a commit")
    compare.set_defaults(command=_compare)
    figure = commands.add_parser("figure", parents=[one, shown, store], help="draw a sweep's figure")
    figure.add_argument(
        "--kind", choices=KINDS, default=KINDS[0], help="what the space says (default), or of its swept settings"
    )
    figure.set_defaults(command=_figure)
    importance = commands.add_parser(
        "importance", parents=[one, shown, pages, store], help="how much each swept setting matters, variant by variant"
    )
    importance.set_defaults(command=_importance)
    pareto = commands.add_parser(
        "pareto", parents=[one, shown, pages, store], help="the points that no other one beats in all objectives"
    )
    pareto.set_defaults(command=_pareto)
    judging = commands.add_parser(
        "claims",
        parents=[store],
        help="judge the papers' claims on the sweeps with their profile",
        epilog="Exit code: 0 if no claim is contradicted (undecided or not run is not), 1 if one is, 2 for bad input.",
    )
    judging.add_argument(
        "--profile", default="claims", help="judge the newest sweeps of this profile (default: claims)"
    )
    judging.add_argument("--format", choices=("md", "json"), default="md", help="default: md")
    judging.set_defaults(command=_claims)
    page = commands.add_parser(
        "report", parents=[links, store], help="everything on one page: tables, figures, claims, provenance"
    )
    page.add_argument("--smoke", action="store_true", help="also sweeps with the profile smoke")
    page.set_defaults(command=_report)
    return parser


def _table(arguments: argparse.Namespace) -> None:
    record = _shown(_record(arguments), arguments)
    if arguments.against:
        from analysis.tables.comparisons import against  # whose statistics take long to import

        made = against(record, arguments.against)
    else:
        from analysis.tables.build import build

        made = build(record)
    _write(_written(made, arguments), arguments.out)


def _compare(arguments: argparse.Namespace) -> None:
    from analysis.reading import records
    from analysis.tables import comparisons

    parsed = [records.parse(text) for text in (arguments.a, arguments.b)]  # both, before either is looked up
    a, b = (records.load(**one, tracking_uri=arguments.tracking_uri, allow=arguments.allow) for one in parsed)
    made = comparisons.compare(*(_shown(one, arguments) for one in (a, b)))
    _write(_written(made, arguments), arguments.out)


def _figure(arguments: argparse.Namespace) -> None:
    from analysis.figures import drawing
    from analysis.figures.importance import draw_importance, draw_parallel
    from analysis.figures.pareto import draw_fronts
    from analysis.reading import records

    ending = "" if arguments.kind == "space" else f"_{arguments.kind}"
    name = records.parse(arguments.name)["name"]
    out = arguments.out or Path("runs", "figures", f"{name}{ending}.png")
    drawing.check_suffix(out)  # before the work, not after it
    record = _record(arguments)
    if arguments.kind == KINDS[0] and (arguments.select or arguments.value):
        drawing.refuse_own_layout(record)
    record = _shown(record, arguments)
    draw = dict(zip(KINDS, (drawing.draw, draw_importance, draw_parallel, draw_fronts), strict=True))
    drawing.save(draw[arguments.kind](record), out)
    print(out)


def _importance(arguments: argparse.Namespace) -> None:
    from analysis.tables import importance

    _write(_written(importance.table(_shown(_record(arguments), arguments)), arguments), arguments.out)


def _pareto(arguments: argparse.Namespace) -> None:
    from analysis.tables import pareto

    _write(_written(pareto.table(_shown(_record(arguments), arguments)), arguments), arguments.out)


def _record(arguments: argparse.Namespace) -> Record:
    from analysis.reading import records

    named = records.parse(arguments.name)
    named |= {key: value for key in ("sweep", "profile") if (value := getattr(arguments, key))}
    return records.load(**named, tracking_uri=arguments.tracking_uri, allow=arguments.allow)


def _shown(record: Record, arguments: argparse.Namespace) -> Record:
    from analysis.reading import selection

    return selection.shown(record, arguments.select, arguments.value)


def _report(arguments: argparse.Namespace) -> None:
    from analysis.report import page

    out = arguments.out or Path("report.html")
    if out.suffix == ".tex":
        _write(page.latex_document(arguments.tracking_uri, smoke=arguments.smoke), out)
    else:
        _write(page.html_page(arguments.tracking_uri, mlflow_url=arguments.mlflow_url, smoke=arguments.smoke), out)
    print(out)


def _claims(arguments: argparse.Namespace) -> int:
    from analysis.claims import judging, printing

    judged = judging.judge(tracking_uri=arguments.tracking_uri, profile=arguments.profile)
    _write(printing.markdown(judged) if arguments.format == "md" else printing.as_json(judged), arguments.out)
    claims = (claim for claim in judged if claim.paper != judging.OBSERVATIONS)
    return int(any(claim.verdict == judging.CONTRADICTED for claim in claims))


def _written(table: Table, arguments: argparse.Namespace) -> str:
    if arguments.format != "html":
        return getattr(table, arguments.format)()
    from analysis.reading import records
    from analysis.report import html

    return html.fragment(table, html.pages_of(records.resolve(arguments.tracking_uri), arguments.mlflow_url))


def _write(text: str, out: Path | None) -> None:
    from analysis.files import replacing

    if out is None:
        sys.stdout.write(text)
    else:
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
