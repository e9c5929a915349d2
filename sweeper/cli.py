"""The command line. Imports what a command needs when it runs, so that help answers at once."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .commands.store import gc, store
from .commands.ui import ui
from .errors import BAD_INPUT, STOPPED, UserError

EPOCH_LIMIT = "6h"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 all done, 1 trials failed, 2 bad input, 3 stopped by a signal."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        mlflow = sys.modules.get("mlflow.exceptions")  # it takes long to import, and who raises it has done so
        if mlflow is None or not isinstance(error, mlflow.MlflowException):
            raise
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sweeper",
        description="Hyper-parameter and ablation sweeps for multi-label recognition with partial labels.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=function)
        return sub

    def space_arguments(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("space", metavar="SPACE", help="search space file, such as search_spaces/ll_delta.yaml")
        sub.add_argument("--profile", help="one of the file's profiles")
        sub.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="wins over the file; repeatable"
        )
        sub.add_argument("--max-concurrent", type=_positive, metavar="N", help="trials at once")
        sub.add_argument("--json", action="store_true", help="end stdout with one line of JSON")

    sub = command("run", _run, "run a search space and record it in MLflow")
    space_arguments(sub)
    sub.add_argument("--address", help="join this Ray cluster (`auto`: the one of this machine)")
    sub.add_argument(
        "--inline", action="store_true", help="one trial after the other in this process, without Ray; README says when"
    )
    sub.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or ./runs")
    sub.add_argument("--retry-failed", action="store_true", help="train what failed again; else its reason is repeated")
    sub.add_argument("--time-budget", type=_duration, metavar="TIME", help="end it cleanly after 90s, 10m or 2h")
    sub.add_argument("--max-trials", type=_positive, metavar="N", help="end it when so many more trials are done")
    sub.add_argument("--max-epochs", type=_positive, metavar="N", help="end it when so many epochs are trained")
    sub.add_argument(
        "--epoch-limit",
        type=_duration,
        default=EPOCH_LIMIT,
        metavar="TIME",
        help="a trial that takes longer for one epoch hangs: its worker is ended, and it is tried again; default: 6h",
    )
    sub.add_argument("--fresh", action="store_true", help="train everything, as if nothing were stored or recorded yet")
    sub = command("plan", _plan, "print what a search space would run, and run nothing")
    space_arguments(sub)
    sub.add_argument(
        "--explain-key",
        action="append",
        metavar="TRIAL",
        help="print what a trial's keys are made of; given twice, in what those of two trials differ",
    )
    sub = command("methods", _methods, "list the methods, or the settings of one")
    sub.add_argument("name", nargs="?", metavar="NAME")
    command("datasets", _datasets, "list the data sets")
    sub = command("data", _data, "check a data set in files, or decode its images once for all trainings")
    sub.add_argument("action", choices=("check", "cache"), help="check: what is there, beside what the papers have")
    sub.add_argument("name", metavar="NAME", help="data set; `datasets` lists them")
    sub.add_argument("--root", metavar="DIR", help="where its downloads were unpacked; default: SWEEPER_DATA")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another data setting; repeatable")
    sub = command("schema", _schema, "print what a search space file can say")
    sub.add_argument("--format", choices=("json", "md"), default="json", help="JSON schema for editors, or Markdown")
    sub = command("ui", ui, "open the MLflow UI on the store of these runs, on this machine only")
    sub.add_argument("--port", type=_positive, default=5000)
    sub.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or ./runs")
    sub = command("export", _export, "write a trial's model: the selected epoch's weights and the resolved config")
    sub.add_argument("trial", metavar="TRIAL", help="a trial's id (its tag sweeper.trial), or its run's in MLflow")
    sub.add_argument("--out", type=Path, metavar="FOLDER", help="where to; default: exports/TRIAL")
    sub.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or ./runs")
    sub = command("verify", _verify, "train some trials again without the store, and compare bit for bit")
    space_arguments(sub)
    sub.add_argument("--sample", type=_positive, default=3, metavar="N", help="how many trials; default: 3")
    sub.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or ./runs")
    command("store", store, "say what is in the store of trained epochs")
    sub = command("gc", gc, "delete from the store of trained epochs: a cache, so results are never lost")
    sub.add_argument("--older-than", type=_positive, metavar="DAYS", help="what was not used for so long")
    sub.add_argument("--max-size", type=_positive, metavar="MB", help="the least recently used, until so much is left")
    sub.add_argument("--keep", nargs="+", metavar="SPACE", help="what none of these spaces needs, in any profile")
    sub = command("doctor", _doctor, "check versions, cores, GPUs, Ray, MLflow, store and data")
    sub.add_argument("--address", help="check this Ray cluster, node by node")
    sub.add_argument("--tracking-uri", help="MLflow store; default: MLFLOW_TRACKING_URI, or ./runs")
    sub.add_argument("--json", action="store_true", help="end stdout with one line of JSON")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed is an integer at least 1")
    return int(text)


def _duration(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not found or float(found[1]) <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed; allowed is a duration such as 90s, 10m or 2h")
    return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


def _run(options: argparse.Namespace) -> int:
    from .spaces.reading import load_space

    space = load_space(options.space, options.profile, options.set)
    from .running.budget import Budget
    from .running.run import run

    outcome = run(
        space,
        max_concurrent=options.max_concurrent,
        address=options.address,
        inline=options.inline,
        tracking_uri=options.tracking_uri,
        retry_failed=options.retry_failed,
        fresh=options.fresh,
        budget=Budget(options.time_budget, options.max_epochs, options.max_trials),
        epoch_limit=options.epoch_limit,
        on_plan=lambda plan: print(plan.as_text(), file=sys.stderr, flush=True),
        progress=True,
    )
    for trial, reason in outcome.failed.items():
        print(f"failed: {trial.title}: {reason.splitlines()[0]}", file=sys.stderr)
    numbers = outcome.as_json()
    if outcome.interrupted:
        print("stopped; the same command goes on from here", file=sys.stderr)
    print(
        f"{numbers['succeeded']} of {numbers['trials']} trials done, {numbers['failed']} failed; "
        f"{numbers['epochs_trained']} epochs trained in {numbers['seconds']:.0f} s",
        file=sys.stderr,
    )
    print(f"next: {_next(space)}", file=sys.stderr)
    if options.json:
        print(json.dumps(numbers))
    return outcome.exit_code


def _next(space: Any) -> str:
    """The command that shows a sweep: its table, or its figure where the columns are epochs, which no table prints."""
    return f"python -m analysis {'figure' if space.table['columns'] == 'epoch' else 'table'} {space.name}"


def _plan(options: argparse.Namespace) -> int:
    from .planning.plan import plan
    from .spaces.reading import load_space

    space = load_space(options.space, options.profile, options.set)
    if options.explain_key:
        from .planning.explain import explain
        from .planning.studies import so_far

        print("\n".join(explain(so_far(space, {})[0], options.explain_key)))
        return 0
    planned = plan(space, max_concurrent=options.max_concurrent)
    print(f"{planned.as_text()}\n{planned.tree()}", file=sys.stderr if options.json else sys.stdout)
    if options.json:
        print(json.dumps(planned.as_json()))
    return 0


def _methods(options: argparse.Namespace) -> int:
    from .commands.listing import list_methods, method_settings

    print(method_settings(options.name) if options.name else list_methods())
    return 0


def _datasets(options: argparse.Namespace) -> int:
    from .commands.listing import list_datasets

    print(list_datasets())
    return 0


def _data(options: argparse.Namespace) -> int:
    from .commands.data import cache, check

    return (check if options.action == "check" else cache)(options.name, options.root, options.set)


def _schema(options: argparse.Namespace) -> int:
    from .commands.listing import space_file
    from .spaces.schema import schema

    print(space_file() if options.format == "md" else json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0


def _export(options: argparse.Namespace) -> int:
    from .commands.export import export

    folder = export(options.trial, options.out, options.tracking_uri, say=lambda text: print(text, file=sys.stderr))
    print(f"{folder}: weights.pt, config.json")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from .commands.verify import in_processes, verify
    from .planning.plan import slots_here
    from .spaces.reading import load_space

    space = load_space(options.space, options.profile, options.set)
    over = in_processes(slots_here(space, options.max_concurrent))
    equal = different = 0
    out = sys.stderr if options.json else sys.stdout
    for verdict in verify(space, options.sample, options.tracking_uri, over=over):
        if verdict.differences:
            different += 1
            print(f"DIFFERENT  {verdict.trial.title}", *verdict.differences, sep="\n  ", file=out, flush=True)
        elif verdict.compared:
            equal += 1
            print(f"identical  {verdict.trial.title}: {', '.join(verdict.compared)}", file=out, flush=True)
        else:
            print(f"n/a        {verdict.trial.title}: not run yet, or by other code", file=out, flush=True)
    if options.json:
        print(json.dumps({"space": space.name, "identical": equal, "different": different}))
    return 1 if different or not equal else 0


def _doctor(options: argparse.Namespace) -> int:
    from .commands.doctor import examine

    checks = examine(address=options.address, uri=options.tracking_uri)
    for check in checks:
        print(
            f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.found}",
            file=sys.stderr if options.json else sys.stdout,
        )
    if options.json:
        print(json.dumps({"ok": all(c.ok for c in checks), "checks": [vars(c) for c in checks]}))
    return 0 if all(check.ok for check in checks) else 1
