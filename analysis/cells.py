"""Cells, tables of them, and how a table is written: Markdown, LaTeX, CSV and JSON. Nothing here computes a number."""

from __future__ import annotations

import csv
import io
import json
import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from analysis.names import NO_VALUE
from analysis.published import Published

_WIDEST = 12  # columns of numbers side by side
_LATEX = {c: f"\\{c}" for c in "{}$&#_%"} | {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "—": "---", "–": "--", "“": "``", "”": "''",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "Δ": r"$\Delta$", "α": r"$\alpha$",
    "β": r"$\beta$", "γ": r"$\gamma$", "θ": r"$\theta$", "λ": r"$\lambda$", "τ": r"$\tau$", "ρ": r"$\rho$",
    "∞": r"$\infty$", "…": r"\dots{}",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    `value` is the mean over seeds and `spread` the standard deviation with n − 1 (none for fewer than two seeds), both
    in the metric's unit; `n` seeds came of `expected`; `runs` are the MLflow ids behind the value; `note` says what is
    amiss or was chosen. `seeds` has the value of each seed, and `shown` the text of a cell that is no mean.
    """

    value: float | None = None
    spread: float | None = None
    n: int = 0
    expected: int = 0
    runs: tuple[str, ...] = ()
    bold: bool = False
    note: str = ""
    seeds: Mapping[int, float] = field(default_factory=dict)
    shown: str = ""

    @classmethod
    def of(cls, seeds: Mapping[int, float], expected: int, runs: tuple[str, ...] = (), note: str = "") -> Cell:
        """The mean over the seeds that there are."""
        values, n = list(seeds.values()), len(seeds)
        value, spread = fmean(values) if n else None, stdev(values) if n > 1 else None
        return cls(value, spread, n, expected, runs, note=note, seeds=seeds)

    @property
    def text(self) -> str:
        """One decimal; "68.6 ± 0.3 (2/3)" lacks a seed, X lacks all of them, a dash is no combination of the space."""
        if self.shown:
            return self.shown
        if self.value is None:
            return "X" if self.expected else NO_VALUE
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        return f"{self.value:.1f}{spread}" + (f" ({self.n}/{self.expected})" if self.n < self.expected else "")


@dataclass(frozen=True)
class Table:
    """Cells by (row, column), both in printing order; the columns are values of what `columns_title` says.

    `references` are rows that are not compared. `higher_is_better` is None where columns differ in it, and `published`
    where there is nothing to set beside the table. `selected` is the rule that chose the epochs, as printed, and
    `remarks` are footnotes on the whole.
    """

    name: str
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    columns_title: str
    cells: dict[tuple[str, str], Cell]
    higher_is_better: bool | None
    references: tuple[str, ...] = ()
    published: Published | None = None
    selected: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def footnotes(self) -> list[str]:
        """The remarks, then the cells' notes, each with its place."""
        places = ((row, column) for row in self.rows for column in self.columns)
        notes = (f"{row}, {column}: {note}" for row, column in places if (note := self.cells[row, column].note))
        return [*self.remarks, *notes]

    def md(self) -> str:
        """Markdown: caption, table and footnotes, then the published block."""
        rows = [[row, *(f"**{c.text}**" if c.bold else c.text for c in self._line(row))] for row in self.rows]
        notes = ["", *(f"- {note}" for note in self.footnotes)] if self.footnotes else []
        lines = [self.caption, "", *_markdown([[self.columns_title, *self.columns], *rows]), *notes]
        if self.published:
            block = _markdown(self.published.lines())
            lines += ["", self.published.caption, *([""] if block else []), *block]
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A LaTeX table environment, labelled `tab:<name>`; the document loads booktabs."""
        rows = [
            [_escape(row), *(rf"\textbf{{{_escape(c.text)}}}" if c.bold else _escape(c.text) for c in self._line(row))]
            for row in self.rows
        ]
        lines = [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_escape(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            *_tabular([[_escape(text) for text in (self.columns_title, *self.columns)], *rows]),
        ]
        lines += [rf"\par\smallskip\footnotesize {_escape('; '.join(self.footnotes))}."] if self.footnotes else []
        if self.published:
            lines.append(rf"\par\medskip\footnotesize {_escape(self.published.caption)}\par\smallskip")
            lines += _tabular([[_escape(text) for text in line] for line in self.published.lines()])
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def csv(self) -> str:
        """One line per number, unrounded: first ours, then what is published, then the rank correlations of columns."""
        out = io.StringIO()
        ours = {"source": "ours", "selected": self.selected}
        lines = [
            ours | line | {"runs": " ".join(line["runs"]), "seeds": _by_seed(line["seeds"])} for line in self._cells()
        ]
        if self.published:
            lines += [{"source": "published", "text": cell.text} | asdict(cell) for cell in self.published.cells]
            lines += [
                {"source": "rank correlation", "row": r.ours, "column": r.column, "text": r.text, "value": r.value}
                | {"n": r.n}
                for r in self.published.correlations
            ]
        writer = csv.DictWriter(out, fieldnames=[*lines[0], "difference"], lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return out.getvalue()

    def json(self) -> str:
        """Everything, numbers unrounded, one object per cell."""
        made = asdict(replace(self, cells={})) | {"cells": self._cells(), "footnotes": self.footnotes}
        return json.dumps(made, ensure_ascii=False, indent=2) + "\n"

    def _line(self, row: str) -> list[Cell]:
        return [self.cells[row, column] for column in self.columns]

    def _cells(self) -> list[dict[str, Any]]:
        return [
            {"row": row, "column": column, "text": cell.text, **asdict(cell)}
            for row in self.rows
            for column, cell in zip(self.columns, self._line(row), strict=True)
        ]


def _by_seed(values: Mapping[int, float]) -> str:
    return " ".join(f"{seed}:{value!r}" for seed, value in values.items())


def _markdown(lines: Sequence[Sequence[str]]) -> list[str]:
    """A table of texts, the first line its header."""
    written: list[str] = []
    for header, *rows in _parts(lines):
        ruled = [header, ["---", *("---:" for _ in header[1:])], *rows]
        written += [""] if written else []
        written += ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in ruled]
    return written


def _tabular(lines: Sequence[Sequence[str]]) -> list[str]:
    """A tabular of LaTeX texts, the first line its header."""
    written: list[str] = []
    for header, *rows in _parts(lines):
        texts = [" & ".join(row) + r" \\" for row in rows]
        begin, end = rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\end{tabular}"
        written += [r"\par\smallskip"] if written else []
        written += [begin, r"\toprule", " & ".join(header) + r" \\", r"\midrule", *texts, r"\bottomrule", end]
    return written


def _parts(lines: Sequence[Sequence[str]]) -> list[list[list[str]]]:
    """A table of many columns in equally wide parts, each with the names of the rows: three of ten of thirty, say."""
    columns = len(lines[0]) - 1 if lines else 0
    width = math.ceil(columns / max(math.ceil(columns / _WIDEST), 1))
    starts = range(1, columns + 1, width) if columns else ()
    return [[[line[0], *line[start : start + width]] for line in lines] for start in starts]


def _escape(text: str) -> str:
    """What pdfLaTeX prints as it is: of characters that it does not know, the plain ones they stand for (⁺ is +)."""
    return "".join(_LATEX.get(character) or _known(character) for character in text)


def _known(character: str) -> str:
    if ord(character) < 0x180:  # Latin letters with accents among them
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(one, one) for one in plain) or character
