"""Steps that hang: the process ends itself, and writes a traceback that shows where it hung."""

from __future__ import annotations

import contextlib
import faulthandler
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

# Printed one second before the traceback, by a process that writes it to its terminal.
MESSAGE = "a step took more than {:g} s, so this process ends; the same command goes on. It was here:"


def traceback_file(folder: Path, trial: str) -> Path:
    """The file to which a worker that hangs writes its traceback; `folder` is the store's folder."""
    return folder / "hanging" / trial


@contextlib.contextmanager
def limited(seconds: float | None, path: Path | None) -> Iterator[None]:
    """End this process with exit code 1 if the body takes longer than `seconds`; None: no limit.

    The traceback goes to the file `path`, which is removed if the body ends in time. Without `path` it goes to stderr,
    after a message. C code writes it and ends the process, because the body may never release Python's global lock.
    """
    if seconds is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        file = sys.__stderr__  # sys.stderr is not a file in notebooks
        if path is None:
            timer = threading.Timer(seconds, print, [MESSAGE.format(seconds)], {"file": file, "flush": True})
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
            seconds += 1
        else:
            with contextlib.suppress(OSError):  # if the file cannot be written, use stderr
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(path.open("w"))
                stack.callback(path.unlink, missing_ok=True)
        if file is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=file)
            stack.callback(faulthandler.cancel_dump_traceback_later)
        yield


def left_by(path: Path) -> str:
    """Read and remove the traceback that a process wrote to `path`; empty if there is none."""
    try:
        text = path.read_text()
        path.unlink()
    except OSError:
        return ""
    return text


def place_in(text: str) -> str | None:
    """`function (file:line)` of the innermost call of the thread that ran a step; None if no thread did."""
    for thread in re.split(r"\n(?=.*hread 0x)", text):
        where = re.search(r'File "(.*)", line (\d+) in (.+)', thread)
        if where and "trial.py" in thread:
            return f"{where[3]} ({where[1]}:{where[2]})"
    return None
