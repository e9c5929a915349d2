"""A sweep as a table: rows are variants, columns the values of one setting, each cell a mean over seeds.

A cell never hides what it is made of: how many seeds came of how many expected, which runs, and, where a setting was
chosen, that it was chosen on val by seeds other than the one reported. One `Table`, four writers.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd

from analysis.names import NO_VALUE, higher_is_better, metric_title, setting_name, setting_title, value_name
from analysis.records import Record, RecordError

CHOSEN = "chosen on val"

_LATEX = {c: f"\\{c}" for c in "{}$&#_%"} | {
    "\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "—": "---", "–": "--", "“": "``", "”": "''",
    "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\le$", "≥": r"$\ge$", "Δ": r"$\Delta$", "α": r"$\alpha$",
    "β": r"$\beta$", "γ": r"$\gamma$", "θ": r"$\theta$", "λ": r"$\lambda$", "τ": r"$\tau$",
}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    `value` is the mean over seeds and `spread` the standard deviation with n − 1 (none for fewer than two seeds), both
    in the metric's unit; `n` seeds came of `expected`; `runs` are the MLflow ids behind the value; `note` says what is
    amiss or was chosen.
    """

    value: float | None = None
    spread: float | None = None
    n: int = 0
    expected: int = 0
    runs: tuple[str, ...] = ()
    bold: bool = False
    note: str = ""

    @property
    def text(self) -> str:
        """One decimal; "68.6 ± 0.3 (2/3)" lacks a seed, X lacks all of them, a dash is no combination of the space."""
        if self.value is None:
            return "X" if self.expected else NO_VALUE
        spread = "" if self.spread is None else f" ± {self.spread:.1f}"
        return f"{self.value:.1f}{spread}" + (f" ({self.n}/{self.expected})" if self.n < self.expected else "")


@dataclass(frozen=True)
class Table:
    """Cells by (row, column), both in printing order; the columns are values of the setting in `columns_title`."""

    name: str
    caption: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    columns_title: str
    cells: dict[tuple[str, str], Cell]
    higher_is_better: bool

    @property
    def footnotes(self) -> list[str]:
        """The cells' notes, each with its place."""
        places = ((row, column) for row in self.rows for column in self.columns)
        return [f"{row}, {column}: {note}" for row, column in places if (note := self.cells[row, column].note)]

    def md(self) -> str:
        """Markdown: caption, table and footnotes."""
        lines = [[self.columns_title, *self.columns], ["---", *("---:" for _ in self.columns)]]
        lines += [[row, *(f"**{c.text}**" if c.bold else c.text for c in self._line(row))] for row in self.rows]
        body = ["| " + " | ".join(text.replace("|", "\\|") for text in line) + " |" for line in lines]
        notes = ["", *(f"- {note}" for note in self.footnotes)] if self.footnotes else []
        return "\n".join([self.caption, "", *body, *notes]) + "\n"

    def latex(self) -> str:
        """A LaTeX table environment, labelled `tab:<name>`; the document loads booktabs."""
        lines = [
            r"\begin{table}[t]",
            r"\centering",
            rf"\caption{{{_escape(self.caption)}}}",
            rf"\label{{tab:{self.name}}}",
            rf"\begin{{tabular}}{{l{'r' * len(self.columns)}}}",
            r"\toprule",
            " & ".join(map(_escape, [self.columns_title, *self.columns])) + r" \\",
            r"\midrule",
        ]
        for row in self.rows:
            texts = [rf"\textbf{{{_escape(c.text)}}}" if c.bold else _escape(c.text) for c in self._line(row)]
            lines.append(" & ".join([_escape(row), *texts]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par\smallskip\footnotesize {_escape('; '.join(self.footnotes))}."] if self.footnotes else []
        return "\n".join([*lines, r"\end{table}"]) + "\n"

    def csv(self) -> str:
        """One line per cell, numbers unrounded."""
        out = io.StringIO()
        lines = [line | {"runs": " ".join(line["runs"])} for line in self._cells()]
        writer = csv.DictWriter(out, fieldnames=lines[0], lineterminator="\n")
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


def build(record: Record) -> Table:
    """Lay a sweep out as its space's `table` says.

    Columns are the values of the setting `table.columns` in the space's order, before them one for variants that do not
    have the setting. Where it belongs to a method, a last column reports each row at the value chosen on val; where it
    belongs to the data there is none, as that would be choosing the easiest task. Settings that the table does not show
    are chosen in the same way, inside the cell. Raises `RecordError` where the table leaves out an axis of the data, or
    asks for what a table cannot show.
    """
    layout, select = record.space["table"], record.space["select"]["metric"]
    axis, value, references = layout.get("columns"), layout["value"], layout.get("reference") or ()
    _check(record, axis, layout.get("rows", "variant"))

    trials = record.trials.assign(value=_finished(record, value), score=_finished(record, select))
    trials["setting"] = [_setting(trial, record.axes) for trial in trials.to_dict("records")]
    trials["column"] = _columns(record, axis) if axis else metric_title(value)
    columns = _in_order(trials["column"], record.space.get("axes", {}).get(axis))
    chosen = bool(axis) and not axis.startswith("data.") and len(columns) > 1 and trials["seed"].nunique() > 1

    rows, cells = tuple(record.space["variants"]), {}
    for row in rows:
        of_row = trials[trials["variant"] == row]
        for column in columns:
            cells[row, column] = _cell(of_row[of_row["column"] == column], higher_is_better(select))
        if chosen:
            cells[row, CHOSEN] = _cell(of_row, higher_is_better(select))
    columns = (*columns, CHOSEN) if chosen else columns

    for column in columns:
        compared = {row: cells[row, column] for row in rows if row not in references}
        for row in _best(compared, higher_is_better(value)):
            cells[row, column] = replace(cells[row, column], bold=True)
    title = setting_title(axis) if axis else ""
    return Table(record.space["name"], _caption(record, columns), rows, columns, title, cells, higher_is_better(value))


def _check(record: Record, axis: str | None, rows: str) -> None:
    name = record.space["name"]
    if rows != "variant":
        raise RecordError(f"table.rows of {name!r} is {rows!r}; the rows of a table are its variants: rows: variant")
    if axis == "epoch":
        raise RecordError(f"the columns of {name!r} are epochs, which a figure shows: python -m analysis figure {name}")
    hidden = [other for other in record.axes if other.startswith("data.") and other != axis]
    if hidden:
        raise RecordError(f"the table of {name!r} leaves no place for {', '.join(hidden)}; name it in table.columns")


def _finished(record: Record, metric: str) -> pd.Series:
    finished = record.trials["status"] == "FINISHED"
    if metric in record.trials:
        return record.trials[metric].where(finished)
    if finished.any():
        known = sorted(name for name in record.trials if "/" in name)
        raise RecordError(f"no run of {record.space['name']!r} logged {metric!r}; they logged {', '.join(known)}")
    return pd.Series(float("nan"), index=record.trials.index)


def _setting(trial: dict[str, Any], axes: tuple[str, ...]) -> str:
    values = {setting_name(axis): value_name(trial[axis]) for axis in axes}
    return ", ".join(f"{name} {value}" for name, value in values.items() if value != NO_VALUE)


def _columns(record: Record, axis: str) -> list[str]:
    """The value in force: the trial's own on the axis, else its variant's, else what its run logged."""
    variants, logged = record.space["variants"], {}
    if axis in record.params:
        logged = {trial: _parsed(text) for trial, text in record.params[axis].items()}
    names = []
    for trial in record.trials.to_dict("records"):
        own = value_name(trial[axis]) if axis in record.axes else NO_VALUE
        inherited = variants[trial["variant"]].get(axis, logged.get(trial["trial"]))
        names.append(value_name(inherited) if own == NO_VALUE else own)
    return names


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):  # a name, or no value
        return text


def _in_order(found: pd.Series, values: list[Any] | None) -> tuple[str, ...]:
    """The dash, the axis in the space's order, then what only some variant has."""
    listed = map(value_name, values or ())
    present = set(found)
    return tuple(name for name in dict.fromkeys([NO_VALUE, *listed, *found]) if name in present)


def _cell(trials: pd.DataFrame, high_score: bool) -> Cell:
    """Mean over the seeds of `trials`; of several settings, each seed reports the one that the other seeds chose."""
    several = trials["setting"].nunique() > 1
    reported = _chosen_by_the_other_seeds(trials, high_score) if several else trials
    done = reported.dropna(subset="value")
    note = _choice(trials, reported) if several else _shortfall(trials)
    if done.empty:
        return Cell(expected=trials["seed"].nunique(), note=note)
    return Cell(
        value=float(done["value"].mean()),
        spread=float(done["value"].std(ddof=1)) if len(done) > 1 else None,
        n=len(done),
        expected=trials["seed"].nunique(),
        runs=tuple(done["run_id"]),
        note=note,
    )


def _chosen_by_the_other_seeds(trials: pd.DataFrame, high_score: bool) -> pd.DataFrame:
    """For each seed, its trial at the setting with the best mean score over the other seeds; the first of equals."""
    scores = trials.pivot(index="setting", columns="seed", values="score").reindex(trials["setting"].unique())
    choice = {}
    for seed in scores:
        means = scores.drop(columns=seed).mean(axis="columns").dropna()
        if not means.empty:
            choice[seed] = means.idxmax() if high_score else means.idxmin()
    return trials[trials["setting"] == trials["seed"].map(choice)]


def _choice(trials: pd.DataFrame, reported: pd.DataFrame) -> str:
    if reported.empty:
        return f"no other seed to choose among {trials['setting'].nunique()} settings"
    taken = [f"{setting} ({_seeds(of['seed'])})" for setting, of in reported.groupby("setting", sort=False)]
    unfinished = trials["value"].isna().sum()
    shortfall = f"; {unfinished} of {len(trials)} runs to choose from have no result" if unfinished else ""
    return f"{', '.join(taken)}{shortfall}"


def _shortfall(trials: pd.DataFrame) -> str:
    lacking: dict[str, list[int]] = {}
    for trial in trials[trials["value"].isna()].to_dict("records"):
        state = "finished without a result" if trial["status"] == "FINISHED" else trial["status"].lower()
        reason = f" ({' '.join(trial['failure'].split())})" if isinstance(trial["failure"], str) else ""
        lacking.setdefault(state + reason, []).append(trial["seed"])
    return "; ".join(f"{_seeds(seeds)} {state}" for state, seeds in lacking.items())


def _seeds(seeds: Iterable[int]) -> str:
    listed = sorted(set(seeds))
    return f"seed{'s' * (len(listed) > 1)} {', '.join(map(str, listed))}"


def _best(compared: dict[str, Cell], high: bool) -> list[str]:
    """Rows with the best printed mean. A mean that lacks seeds is no rival, and a row alone has won nothing."""
    means = {
        row: round(cell.value, 1)
        for row, cell in compared.items()
        if cell.value is not None and cell.n == cell.expected
    }
    best = (max if high else min)(means.values(), default=None)
    return [row for row, mean in means.items() if mean == best] if len(means) > 1 else []


def _caption(record: Record, columns: tuple[str, ...]) -> str:
    """What the numbers are, on which data, over which seeds, and by which rule each was selected."""
    space, select, layout, seeds = record.space, record.space["select"], record.space["table"], record.space["seeds"]
    axis, metric = layout.get("columns"), select["metric"]
    spread = "mean ± sd (n − 1)" if len(seeds) > 1 else "one seed, so no sd"
    at = f"the best {metric} epoch" if select.get("epoch", "best") == "best" else "the last epoch"
    sentences = [
        space["title"],
        f"{_capital(metric_title(layout['value']))}, {spread}, {_seeds(seeds)} (n = {len(seeds)})",
        f"Data set: {_in_words(record, 'data.dataset')}; labels: {_in_words(record, 'data.labels')}",
        f"Selected at {at} (val labels: {_in_words(record, 'data.val_labels')})",
    ]
    if axis:
        without = f", {NO_VALUE} for variants without it" if NO_VALUE in columns else ""
        sentences.append(f"Columns: {setting_title(axis)}{without}")
    if any(not axis.startswith("data.") for axis in record.axes):
        rule = f"a value chosen on val has, for each seed, the best mean {metric} over the other seeds"
        sentences.append(_capital(rule if len(seeds) > 1 else "with one seed no value can be chosen on val"))
    if layout.get("reference"):
        sentences.append(f"Not compared: {', '.join(layout['reference'])}")
    sentences.append(f"Profile {space.get('profile', 'default')}, sweep {record.sweep[:12]}")
    return ". ".join(sentence.rstrip(".") for sentence in sentences) + "."


def _in_words(record: Record, setting: str) -> str:
    """What most trials have, then the variants that differ: "single_positive (Full label: full)"."""
    if setting not in record.params:
        return "not recorded"
    texts = record.params[setting].fillna(NO_VALUE)
    usual = texts.mode().iloc[0]
    variants = record.trials.set_index("trial")["variant"].reindex(texts.index)
    others = texts[texts != usual].groupby(variants, sort=False).unique()
    listed = "; ".join(f"{variant}: {', '.join(values)}" for variant, values in others.items())
    return f"{usual} ({listed})" if listed else usual


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)
