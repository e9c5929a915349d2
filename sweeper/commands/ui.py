"""The command `ui`: MLflow's pages on the store of these runs, on this machine only."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys

from ..errors import BAD_INPUT


def ui(options: argparse.Namespace) -> int:
    from analysis.record.client import sqlite_path, tracking_uri

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
