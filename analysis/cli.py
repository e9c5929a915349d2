"""Command line: `python -m analysis table NAME`, `figure NAME` and `claims`.

Results go to stdout or to `--out`, messages to stderr. Exit code 1 means that a claim is contradicted, 2 bad input.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

FORMATS = ("md", "latex", "csv", "json")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    arguments = _parser().parse_args(argv)
    from analysis.records import RecordError  # here, so that --help need not wait for MLflow

    try:
        return arguments.command(arguments) or 0
    except (RecordError, OSError) as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("name", help="name of the search space, which is the MLflow experiment's")
    shared.add_argument("--sweep", metavar="HASH", help="a sweep's hash or the start of it (default: the newest sweep)")
    shared.add_argument("--tracking-uri", metavar="URI", help="default: MLFLOW_TRACKING_URI, else ./runs/mlflow.db")

    parser = argparse.ArgumentParser(
        prog="python -m analysis", description="Tables and figures from the MLflow record."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    table = commands.add_parser("table", parents=[shared], help="print or write a sweep's table")
    table.add_argument("--format", choices=FORMATS, default="md", help="default: md")
    table.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    table.set_defaults(command=_table)
    figure = commands.add_parser("figure", parents=[shared], help="draw a sweep's figure")
    figure.add_argument("--out", type=Path, metavar="FILE", help=".png, .svg or .pdf (default: runs/figures/NAME.png)")
    figure.set_defaults(command=_figure)
    claims = commands.add_parser("claims", help="judge the papers' claims on the sweeps with their profile")
    claims.add_argument("--tracking-uri", metavar="URI", help="default: MLFLOW_TRACKING_URI, else ./runs/mlflow.db")
    claims.add_argument("--profile", default="claims", help="judge the newest sweeps of this profile (default: claims)")
    claims.add_argument("--format", choices=("md", "json"), default="md", help="default: md")
    claims.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    claims.set_defaults(command=_claims)
    return parser


def _table(arguments: argparse.Namespace) -> None:
    from analysis import table

    made = table(arguments.name, tracking_uri=arguments.tracking_uri, sweep=arguments.sweep)
    _write(getattr(made, arguments.format)(), arguments.out)


def _figure(arguments: argparse.Namespace) -> None:
    from analysis import figures, records

    out = arguments.out or Path("runs", "figures", f"{arguments.name}.png")
    figures.check_suffix(out)  # before the work, not after it
    record = records.load(arguments.name, tracking_uri=arguments.tracking_uri, sweep=arguments.sweep)
    figures.save(figures.draw(record), out)
    print(out)


def _claims(arguments: argparse.Namespace) -> int:
    from analysis import claims

    judged = claims.judge(tracking_uri=arguments.tracking_uri, profile=arguments.profile)
    _write(claims.markdown(judged) if arguments.format == "md" else claims.as_json(judged), arguments.out)
    return int(any(claim.verdict == claims.CONTRADICTED for claim in judged))


def _write(text: str, out: Path | None) -> None:
    from analysis.files import replacing

    if out is None:
        sys.stdout.write(text)
    else:
        with replacing(out) as temporary:
            temporary.write_text(text, encoding="utf-8")
