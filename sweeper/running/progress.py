"""Progress in the terminal: a live table where there is one, plain lines elsewhere. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from analysis.record.names import SELECTED

from ..spaces.space import Space
from ..spaces.trial import Trial
from ..units import duration
from .events import Listener
from .messages import Failure, Report


class Progress(Listener):
    """Shows done, running and failed trials, the best of each variant so far, epochs per second, time left."""

    def __init__(self, space: Space, *, live: bool = False):
        self._show, self._metric = live, space.select.metric
        self._console = Console(stderr=True)
        self._total = Counter(trial.variant for trial in space.trials)
        self._counts: dict[str, Counter[str]] = {variant: Counter() for variant in self._total}
        self._best: dict[str, tuple[float, str]] = {}
        self._state: dict[str, str] = {}
        self._noted: set[str] = set()
        self._before, self._epochs, self._started = 0, 0, time.monotonic()
        self._first_epoch: float | None = None
        self._epochs_left = sum(trial.config.train.epochs for trial in space.trials)
        self._decoded: tuple[int, int] | None = None
        self._live: Live | None = None
        if live and sys.stderr.isatty():
            self._live = Live(get_renderable=self._render, console=self._console, refresh_per_second=4, transient=False)
            self._live.start()

    def note(self, text: str) -> None:
        if self._show:
            self._console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)

    def decoded(self, images: int, of: int) -> None:
        """Say how many images are decoded: in the live table, or in a line at every tenth of them."""
        tenth, before = (10 * number // max(of, 1) for number in (images, self._decoded[0] if self._decoded else 0))
        if self._live is None and (self._decoded is None or tenth > before):
            self.note(f"decoding images, once: {images:,} of {of:,}")
        self._decoded = (images, of) if images < of else None

    def found_finished(self, trials: int) -> None:
        self._before = trials
        if trials:
            self.note(f"{trials} of {self._total.total()} trials are in MLflow already")

    def grown(self, trials: Sequence[Trial], more: bool) -> None:
        self._total.update(trial.variant for trial in trials)
        self._epochs_left += sum(trial.config.train.epochs for trial in trials)

    def started(self, trial: Trial) -> None:
        self._move(trial, "running")

    def reported(self, trial: Trial, report: Report) -> None:
        if report.trained and self._first_epoch is None:
            self._first_epoch = time.monotonic()
        self._epochs += report.trained
        for note in report.notes:
            if note not in self._noted:
                self._noted.add(note)
                self.note(note)

    def finished(self, trial: Trial, results: Mapping[str, float]) -> None:
        self._move(trial, "done")
        value = results[self._metric]
        if trial.variant not in self._best or value > self._best[trial.variant][0]:
            self._best[trial.variant] = value, trial.point
        self._line(f"{trial.title}: {self._metric} {value:.1f} in epoch {results[SELECTED]:.0f}")

    def stopped(self, trial: Trial, epoch: int, results: Mapping[str, float]) -> None:
        self._move(trial, "done")
        self._line(f"{trial.title}: stopped after epoch {epoch}")

    def failed(self, trial: Trial, failure: Failure) -> None:
        self._move(trial, "failed")
        self._line(f"{trial.title}: FAILED: {failure.reason.splitlines()[0]}")

    def close(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None

    def _move(self, trial: Trial, state: str) -> None:
        before = self._state.get(trial.id)
        if before:
            self._counts[trial.variant][before] -= 1
        self._counts[trial.variant][state] += 1
        self._state[trial.id] = state

    def _line(self, text: str) -> None:
        if self._show and self._live is None:
            over = sum(counts["done"] + counts["failed"] for counts in self._counts.values()) + self._before
            print(f"[{over}/{self._total.total()}] {text} ({self._pace()})", file=sys.stderr, flush=True)

    def _pace(self) -> str:
        if self._first_epoch is None or self._epochs < 2:
            return "starting"
        rate = (self._epochs - 1) / max(time.monotonic() - self._first_epoch, 1e-9)
        over = self._before + sum(counts["done"] + counts["failed"] for counts in self._counts.values())
        share_left = 1 - over / self._total.total()
        epochs_left = min(self._epochs_left * share_left, self._epochs_left - self._epochs)
        return f"{rate:.1f} epochs/s, {duration(max(epochs_left, 0) / rate)} left"

    def _render(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("variant", "done", "running", "failed", f"best {self._metric}", "at"):
            table.add_column(column, justify="left" if column in ("variant", "at") else "right")
        for variant, total in self._total.items():
            counts = self._counts[variant]
            best, axes = self._best.get(variant, (None, ""))
            table.add_row(
                variant,
                f"{counts['done']}/{total}",
                str(counts["running"] or ""),
                Text(str(counts["failed"] or ""), style="red"),
                "" if best is None else f"{best:.1f}",
                axes,
            )
        over = self._before + sum(counts["done"] + counts["failed"] for counts in self._counts.values())
        bar = ProgressBar(total=self._total.total(), completed=over, width=40)
        elapsed = duration(time.monotonic() - self._started)
        status = Text(f"{over}/{self._total.total()} trials, {elapsed}, {self._pace()}")
        line = Table.grid(padding=(0, 1))
        if self._decoded:
            images, of = self._decoded
            line.add_row(ProgressBar(total=of, completed=images, width=40), Text(f"{images:,}/{of:,} images decoded"))
        line.add_row(bar, status)
        return Group(table, line)
