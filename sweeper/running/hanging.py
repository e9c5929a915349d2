"""Steps that hang: the process ends itself, and what it leaves says where it hung."""

from __future__ import annotations

import contextlib
import faulthandler
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

# What a process that writes to its terminal says before the traceback; the latter comes a second later.
MESSAGE = "a step took more than {:g} s, so this process ends; the same command goes on. It was here:"


def traceback_file(folder: Path, trial: str) -> Path:
    """Where a worker that ends itself leaves its traceback; `folder` is the store's."""
    return folder / "hanging" / trial


@contextlib.contextmanager
def limited(seconds: float | None, path: Path | None) -> Iterator[None]:
    """End this process with exit code 1 if the body takes longer than `seconds`; None: no limit.

    The traceback goes to `path`, which is removed if all is well. Without `path` it goes to stderr, after a message. It
    is written in C, so that a body which never gives Python's lock back ends too.
    """
    if seconds is None:
        yield
        return
    with contextlib.ExitStack() as stack:
        file = sys.__stderr__  # not sys.stderr, which may be no file: in notebooks, say
        if path is None:
            timer = threading.Timer(seconds, print, [MESSAGE.format(seconds)], {"file": file, "flush": True})
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
            seconds += 1
        else:
            with contextlib.suppress(OSError):  # it cannot be written to: then where the worker's log is
                path.parent.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(path.open("w"))
                stack.callback(path.unlink, missing_ok=True)
        if file is not None:
            faulthandler.dump_traceback_later(seconds, exit=True, file=file)
            stack.callback(faulthandler.cancel_dump_traceback_later)
        yield


def left_by(path: Path) -> str:
    """The traceback that a process left at `path`, which is removed; empty if there is none."""
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
