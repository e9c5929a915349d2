"""Cells and tables of them. How a table is written is in `analysis.tables.writing`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean, stdev
from typing import Any

from analysis.names import NO_VALUE
from analysis.tables import writing


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    `value` is the mean over seeds and `spread` the standard deviation with n − 1 (none for fewer than two seeds), both
    in the metric's unit; there are `n` seeds of `expected`; `runs` are the MLflow ids behind the value; `note` says
    what is missing or was chosen. `seeds` has the value of each seed, and `shown` the text of a cell that is no mean.
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
        """The mean over the seeds that have a value."""
        values, n = list(seeds.values()), len(seeds)
        value, spread = fmean(values) if n else None, stdev(values) if n > 1 else None
        return cls(value, spread, n, expected, runs, note=note, seeds=seeds)

    @property
    def text(self) -> str:
        """One decimal: "68.6 ± 0.3 (2/3)" where a seed is missing. X: all are missing. A dash: none was expected.
        Numbers from 1,000 are whole: "14,663,264"."""
        if self.shown:
            return self.shown
        if self.value is None:
            return "X" if self.expected else NO_VALUE
        form = ",.0f" if abs(self.value) >= 1_000 else ".1f"
        spread = "" if self.spread is None else f" ± {self.spread:{form}}"
        return f"{self.value:{form}}{spread}" + (f" ({self.n}/{self.expected})" if self.n < self.expected else "")


@dataclass(frozen=True)
class Table:
    """Cells by (row, column), both in printing order; the columns are values of what `columns_title` says.

    `references` are rows that are not compared. `higher_is_better` is None where columns differ in it, and `published`
    where nothing is published. `selected` is the rule that chose the epochs, as printed, and
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
        return writing.as_markdown(self.caption, self._texts(), self.footnotes, self._published())

    def latex(self) -> str:
        """LaTeX table environments, labelled `tab:<name>`; the document loads booktabs."""
        return writing.as_latex(self.name, self.caption, self._texts(), self.footnotes, self._published())

    def csv(self) -> str:
        """One line per number, unrounded: first ours, then what is published, then the rank correlations of columns."""
        ours = {"source": "ours", "selected": self.selected}
        lines = []
        for line in self._cells():
            seeds = " ".join(f"{seed}:{value!r}" for seed, value in line["seeds"].items())
            lines.append(ours | line | {"runs": " ".join(line["runs"]), "seeds": seeds})
        fields = [*lines[0], "difference", "differs"]
        if self.published:
            lines += [
                {"source": "published", "text": cell.text} | asdict(cell) | {"differs": "; ".join(cell.differs)}
                for cell in self.published.cells
            ]
            lines += [
                {"source": "rank correlation", "row": r.ours, "column": r.column, "text": r.text, "value": r.value}
                | {"n": r.n, "differs": "" if r.same_protocol else "protocol"}
                for r in self.published.correlations
            ]
        return writing.as_csv(lines, fields)

    def json(self) -> str:
        """Everything, numbers unrounded, one object per cell."""
        return writing.as_json(asdict(replace(self, cells={})) | {"cells": self._cells(), "footnotes": self.footnotes})

    def _texts(self) -> list[list[str]]:
        """As printed, the titles of the columns first."""
        rows = [[row, *(writing.Bold(c.text) if c.bold else c.text for c in self._line(row))] for row in self.rows]
        return [[self.columns_title, *self.columns], *rows]

    def _published(self) -> tuple[str, list[list[str]]] | None:
        return (self.published.caption, self.published.lines()) if self.published else None

    def _line(self, row: str) -> list[Cell]:
        return [self.cells[row, column] for column in self.columns]

    def _cells(self) -> list[dict[str, Any]]:
        return [
            {"row": row, "column": column, "text": cell.text, **asdict(cell)}
            for row in self.rows
            for column, cell in zip(self.columns, self._line(row), strict=True)
        ]


@dataclass(frozen=True)
class PublishedCell:
    """A published number with its standard deviation, where one is printed, and ours minus it where all of the protocol
    agrees. `differs` are the parts of the protocol that do not."""

    row: str
    column: str
    value: float | None
    spread: float | None = None
    difference: float | None = None
    differs: tuple[str, ...] = ()

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
    """Spearman's ρ between one of our columns and a published one over `n` rows; none for fewer than three. Without
    `same_protocol` it compares the order of the rows alone."""

    ours: str
    column: str
    n: int
    value: float | None
    same_protocol: bool

    @property
    def text(self) -> str:
        """ "0.87 (n = 8)"."""
        return NO_VALUE if self.value is None else f"{self.value:.2f} (n = {self.n})".replace("-", "−")


@dataclass(frozen=True)
class Published:
    """A published table, and how ours compares with it. Without rows, the caption says what is wrong."""

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
        # One line for all of our columns, unless a published column is compared with two of ours.
        single = len({rank.column for rank in self.correlations}) == len(self.correlations)
        ranks: dict[str, dict[str, str]] = {}
        for rank in self.correlations:
            name = f"ρ with {'ours' if single else rank.ours}{'' if rank.same_protocol else ' (order)'}"
            ranks.setdefault(name, {})[rank.column] = rank.text
        rows += [[name, *(found.get(column, NO_VALUE) for column in self.columns)] for name, found in ranks.items()]
        return [["published", *self.columns], *rows]
