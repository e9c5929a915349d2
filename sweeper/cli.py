"""The command line. Imports what a command needs when it runs, so that help answers at once."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BAD_INPUT = 2
STOPPED = 3
EPOCH_LIMIT = "6h"
ERRORS = {
    "SpaceError": BAD_INPUT,
    "SettingError": BAD_INPUT,
    "DataError": BAD_INPUT,
    "WeightsError": BAD_INPUT,
    "LimitError": BAD_INPUT,
    "PlacementError": BAD_INPUT,
    "UnknownTrialError": BAD_INPUT,
    "MlflowException": BAD_INPUT,
    "TakenError": STOPPED,
    "AwayError": STOPPED,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 all done, 1 trials failed, 2 bad input, 3 stopped by a signal."""
    options = _parser().parse_args(arguments)
    try:
        return options.command(options)
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:
        return 0
    except Exception as error:
        # By name, for the modules that define them take long to import.
        code = ERRORS.get(type(error).__name__)
        if code is None:
            raise
        print(f"error: {error}", file=sys.stderr)
        return code


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
    space_arguments(command("plan", _plan, "print what a search space would run, and run nothing"))
    sub = command("methods", _methods, "list the methods, or the settings of one")
    sub.add_argument("name", nargs="?", metavar="NAME")
    command("datasets", _datasets, "list the data sets")
    sub = command("data", _data, "check a data set in files, or decode its images once for all trainings")
    sub.add_argument("action", choices=("check", "cache"), help="check: what is there, beside what the papers have")
    sub.add_argument("name", metavar="NAME", help="data set; `datasets` lists them")
    sub.add_argument("--root", metavar="DIR", help="where its downloads were unpacked; default: SWEEPER_DATA")
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="another data setting; repeatable")
    sub = command("schema", _schema, "print the JSON schema of search space files, for editors")
    sub = command("ui", _ui, "open the MLflow UI on the store of these runs, on this machine only")
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
    command("store", _store, "say what is in the store of trained epochs")
    sub = command("gc", _gc, "delete from the store of trained epochs: a cache, so results are never lost")
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
    from .spaces.space import load_space

    space = load_space(options.space, options.profile, options.set)
    from .running.run import Budget, print_failures, run

    outcome = run(
        space,
        max_concurrent=options.max_concurrent,
        address=options.address,
        tracking_uri=options.tracking_uri,
        retry_failed=options.retry_failed,
        fresh=options.fresh,
        budget=Budget(options.time_budget, options.max_epochs, options.max_trials),
        epoch_limit=options.epoch_limit,
        on_plan=lambda plan: print(plan.as_text(), file=sys.stderr, flush=True),
        progress=True,
    )
    print_failures(outcome)
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
    from .spaces.space import load_space

    planned = plan(load_space(options.space, options.profile, options.set), max_concurrent=options.max_concurrent)
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
    from .spaces.schema import schema

    print(json.dumps(schema(), indent=2, ensure_ascii=False))
    return 0


def _ui(options: argparse.Namespace) -> int:
    import subprocess

    from .recording.runs import sqlite_path, tracking_uri

    uri = tracking_uri(options.tracking_uri)
    if uri.startswith("http"):
        print(f"this store has a server already: open {uri}", file=sys.stderr)
        return 0
    path = sqlite_path(uri)
    if path and not path.exists():
        print(
            f"error: {path}: there is no such store; run a sweep first, or name one with --tracking-uri",
            file=sys.stderr,
        )
        return BAD_INPUT
    print(f"MLflow on http://127.0.0.1:{options.port} (Ctrl-C ends it)", file=sys.stderr)
    command = ["mlflow", "server", "--backend-store-uri", uri, "--host", "127.0.0.1", "--port", str(options.port)]
    # The server starts others of its own: as one group they end together, however this ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    server = subprocess.Popen([sys.executable, "-m", *command], start_new_session=True)
    try:
        return server.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _export(options: argparse.Namespace) -> int:
    from .commands.export import export

    folder = export(options.trial, options.out, options.tracking_uri, say=lambda text: print(text, file=sys.stderr))
    print(f"{folder}: weights.pt, config.json")
    return 0


def _verify(options: argparse.Namespace) -> int:
    from .commands.verify import verify
    from .spaces.space import load_space

    space = load_space(options.space, options.profile, options.set)
    equal = different = 0
    out = sys.stderr if options.json else sys.stdout
    for verdict in verify(space, options.sample, options.tracking_uri, options.max_concurrent):
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


def _store(options: argparse.Namespace) -> int:
    from .planning.plan import size
    from .running.retention import Store, default_folder, limit_bytes

    records = list(Store(default_folder()).records())
    kinds: dict[str, list[int]] = {}
    for record in records:
        kinds.setdefault(record.name.partition("-")[0], []).append(record.size)
    total, keys = sum(record.size for record in records), len({record.key for record in records})
    print(f"{default_folder()}: {keys} keys, {size(total)} of at most {size(limit_bytes())}")
    widest = max(map(len, kinds), default=0)
    for kind, sizes in sorted(kinds.items()):
        print(f"  {kind:<{widest}} {len(sizes):>7} records {size(sum(sizes)):>10}")
    return 0


def _gc(options: argparse.Namespace) -> int:
    from .planning.plan import size
    from .running.retention import Store, default_folder, sweep_away

    if not (options.older_than or options.max_size or options.keep):
        print("error: say what may go: --older-than, --max-size or --keep", file=sys.stderr)
        return BAD_INPUT
    needed = None
    if options.keep:
        from methods.training.clip_features import made_once

        from .spaces.space import load_space, profiles_of

        spaces = [load_space(path, profile) for path in options.keep for profile in profiles_of(path)]
        trials = [trial for space in spaces for trial in space.trials]
        needed = {key for trial in trials for key in trial.config.keys()}  # noqa: SIM118
        configs = [trial.config for trial in trials]
        for config in configs:
            once = made_once(config.data, config.network, config.train.compute(), views=False)
            needed.update(key for key, _ in once)
    records, count = sweep_away(
        Store(default_folder()),
        older_than=options.older_than * 86400 if options.older_than else None,
        max_bytes=options.max_size * 10**6 if options.max_size else None,
        needed=needed,
    )
    print(f"{records} records deleted, {size(count)}")
    return 0


def _doctor(options: argparse.Namespace) -> int:
    from .commands.doctor import examine

    checks = examine(address=options.address, uri=options.tracking_uri)
    for check in checks:
        print(
            f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.found}",
            file=sys.stderr if options.json else sys.stdout,
        )
    if options.json:
        print(json.dumps({"ok": all(c.ok for c in checks), "checks": [c.as_json() for c in checks]}))
    return 0 if all(check.ok for check in checks) else 1
