"""Cells, tables of them, and how a table is written: Markdown, LaTeX, CSV and JSON. Nothing here computes a number."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from analysis.names import NO_VALUE

_WIDEST = 12  # columns of numbers side by side in Markdown
# In LaTeX, what is side by side fits into the text of an `article`, 345 points: a character of \footnotesize has 4.4, a
# digit a little less, and between two columns there are 8. What is below one another fits on a page: so many lines of
# \footnotesize, each of so many characters.
_POINTS, _CHARACTER, _BETWEEN = 345, 4.4, 8
_LINES, _CHARACTERS = 52, 85
_SMALL = r"\footnotesize\setlength{\tabcolsep}{4pt}"
_LATEX = {c: f"\\{c}" for c in "{}$&#_%"} | {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "—": "---", "–": "--", "“": "``", "”": "''",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "Δ": r"$\Delta$", "α": r"$\alpha$",
    "β": r"$\beta$", "γ": r"$\gamma$", "θ": r"$\theta$", "λ": r"$\lambda$", "τ": r"$\tau$", "ρ": r"$\rho$",
    "∞": r"$\infty$", "…": r"\dots{}",
}  # fmt: skip

_NO_WIDTH = str.maketrans("", "", "{}$\\")


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
        """A LaTeX table environment, labelled `tab:<name>`; the document loads booktabs. What is wider than the text is
        in parts below one another, what is longer than a page in several environments."""
        rows = [
            [_escape(row), *(rf"\textbf{{{_escape(c.text)}}}" if c.bold else _escape(c.text) for c in self._line(row))]
            for row in self.rows
        ]
        header = [_escape(text) for text in (self.columns_title, *self.columns)]
        caption = _escape(self.caption)
        named = re.sub(r"[^\w-]", "-", self.name, flags=re.ASCII)  # what LaTeX takes for a label
        title, label = rf"\caption{{{caption}}}", rf"\label{{tab:{named}}}"
        # Blocks that stay whole, and how many lines each takes.
        blocks = [([title, label, _SMALL], len(caption) / _CHARACTERS + 1)]
        blocks += _tabulars([header, *rows])
        blocks += [([rf"\par {_escape(note)}."], len(note) / _CHARACTERS + 1) for note in self.footnotes]
        if self.published:
            said = _escape(self.published.caption)
            blocks.append(([rf"\par\medskip {said}"], len(said) / _CHARACTERS + 2))
            blocks += _tabulars([[_escape(text) for text in line] for line in self.published.lines()])
        return "\n".join(_floats(blocks, rf"Table~\ref{{tab:{named}}}, continued")) + "\n"

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


def _tabulars(lines: Sequence[Sequence[str]]) -> list[tuple[list[str], float]]:
    """Tabulars of LaTeX texts, the first line their header, and how many lines each takes."""
    made = []
    for header, *rows in _parts(lines, _fits):
        for start in range(0, len(rows), _LINES // 2):
            some = rows[start : start + _LINES // 2]
            texts = [" & ".join(row) + r" \\" for row in some]
            begin, end = rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\end{tabular}"
            top = [r"\par\smallskip", begin, r"\toprule", " & ".join(header) + r" \\", r"\midrule"]
            made.append(([*top, *texts, r"\bottomrule", end], len(some) + 3.0))
    return made


def _floats(blocks: Sequence[tuple[list[str], float]], continued: str) -> list[str]:
    """Table environments of the blocks, each as many as fit on a page."""
    written, taken = [r"\begin{table}[tp]", r"\centering"], 0.0
    for lines, length in blocks:
        if taken and taken + length > _LINES:
            again = [r"\begin{table}[tp]", rf"\centering{_SMALL}", continued]
            written, taken = [*written, r"\end{table}", *again], 1.0
        written, taken = [*written, *lines], taken + length
    return [*written, r"\end{table}"]


def _fits(columns: Sequence[Sequence[str]]) -> bool:
    """Whether columns of LaTeX texts fit side by side; a command is as wide as a character."""
    widths = [max(len(re.sub(r"\\[A-Za-z]+", "0", text).translate(_NO_WIDTH)) for text in texts) for texts in columns]
    return sum(_CHARACTER * width + _BETWEEN for width in widths) <= _POINTS


def _few(columns: Sequence[Sequence[str]]) -> bool:
    return len(columns) <= _WIDEST + 1


def _parts(
    lines: Sequence[Sequence[str]], fit: Callable[[Sequence[Sequence[str]]], bool] = _few
) -> list[list[list[str]]]:
    """A table of many columns in as few parts as fit, each with the names of the rows and about as wide as the others:
    three of ten of thirty, say."""
    names, *columns = list(zip(*lines, strict=True)) or [()]
    for width in range(len(columns), 0, -1):
        width = math.ceil(len(columns) / math.ceil(len(columns) / width))
        parts = [[names, *columns[start : start + width]] for start in range(0, len(columns), width)]
        if width == 1 or all(map(fit, parts)):
            return [[list(line) for line in zip(*part, strict=True)] for part in parts]
    return []


def _escape(text: str) -> str:
    """What pdfLaTeX prints as it is: of characters that it does not know, the plain ones they stand for (⁺ is +)."""
    return "".join(_LATEX.get(character) or _known(character) for character in text)


def _known(character: str) -> str:
    if ord(character) < 0x180:  # Latin letters with accents among them
        return character
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return "".join(_LATEX.get(one, one) for one in plain) or character


@dataclass(frozen=True)
class PublishedCell:
    """A published number with its standard deviation, where one is printed, and ours minus it where both are of the
    same data set and protocol."""

    row: str
    column: str
    value: float | None
    spread: float | None = None
    difference: float | None = None

    @property
    def text(self) -> str:
        """ "89.2", "89.2 ± 0.1" with a standard deviation, or "89.2 (−0.4)" with the difference."""
        if self.value is None:
            return NO_VALUE
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        difference = "" if self.difference is None else f" ({self.difference:+.1f})".replace("-", "−")
        return f"{self.value:.1f}{spread}{difference}"


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's ρ between one of our columns and a published one over `n` rows; none for fewer than three."""

    ours: str
    column: str
    n: int
    value: float | None

    @property
    def text(self) -> str:
        """ "0.87 (n = 8)"."""
        return NO_VALUE if self.value is None else f"{self.value:.2f} (n = {self.n})".replace("-", "−")


@dataclass(frozen=True)
class Published:
    """A published table, with what can be said of it and ours. Without rows, the caption says what is amiss."""

    paper: str
    table: str
    caption: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    cells: tuple[PublishedCell, ...] = ()
    correlations: tuple[RankCorrelation, ...] = ()

    def lines(self) -> list[list[str]]:
        """As texts, the titles of the columns first."""
        if not self.rows:
            return []
        texts = {(cell.row, cell.column): cell.text for cell in self.cells}
        rows = [[row, *(texts[row, column] for column in self.columns)] for row in self.rows]
        # One line where no published column is compared with two of ours.
        single = len({rank.column for rank in self.correlations}) == len(self.correlations)
        ranks: dict[str, dict[str, str]] = {}
        for rank in self.correlations:
            ranks.setdefault("ρ with ours" if single else f"ρ with {rank.ours}", {})[rank.column] = rank.text
        rows += [[name, *(found.get(column, NO_VALUE) for column in self.columns)] for name, found in ranks.items()]
        return [["published", *self.columns], *rows]
