"""Published numbers beside ours, in a block of their own. The numbers are in `papers/*.yaml`, with their protocol.

A difference from a published number is printed only where all of its protocol agrees with what our runs recorded; else
the caption names the parts that do not. Of rows with another protocol only the order can be compared, by Spearman's
rank correlation, which is printed in a line of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from analysis.names import CHOSEN, MAPS, NO_VALUE, as_text, of_all_epochs, several
from analysis.reading import selection
from analysis.reading.records import Record, logged_value
from analysis.tables.table import Cell, Published, PublishedCell, RankCorrelation, Table

PAPERS = Path(__file__).parents[1] / "papers"
# The parts of a protocol, in the order in which they are named.
PROFILE, METRIC, RULE, DATA, MASK = "profile", "metric", "epoch rule", "data set", "mask"
PARTS = (PROFILE, METRIC, RULE, DATA, "image size", "backbone", "initial weights", "batch", "epochs", MASK)
# What is no setting of a trial, by the name under which a space has it.
_PROFILE, _VALUE, _RULE, _DATASET = "profile", "table.value", "select.epoch", "data.dataset"
_FEWEST = 3  # rows: over two rows a rank correlation is always 1 or −1

# For each part, the values of its settings. None: the paper does not say.
Protocol = Mapping[str, Mapping[str, Any] | None]


@dataclass(frozen=True)
class _Deviation:
    """A setting of a part of the protocol, with the values that our runs recorded (none: it was not recorded) and the
    published ones (none: the paper does not say)."""

    part: str
    setting: str
    ours: frozenset[str]
    published: frozenset[str]


@cache
def published(paper: str) -> dict[str, Any] | None:
    """What a paper has published, by the name that spaces give it; None where it has no file here."""
    file = PAPERS / f"{paper}.yaml"
    return YAML(typ="safe", pure=True).load(file.read_text("utf-8")) if file.exists() else None


def protocol(paper: Mapping[str, Any], table: str, row: str, column: str) -> Protocol:
    """The protocol of a published cell; `paper` is what `published` returns."""
    spec = paper["tables"][table]
    settings = spec["columns"][column]
    stated = paper["protocol"] | spec.get("protocol", {}) | spec.get("protocol_of", {}).get(row, {})
    own = {name: value for name, value in settings.items() if name.startswith("data.") and name != _DATASET}
    parts = stated | {
        PROFILE: {_PROFILE: "paper"},
        METRIC: {_VALUE: settings.get("metric", spec.get("metric"))},
        DATA: {_DATASET: settings[_DATASET], **paper["datasets"][settings[_DATASET]]},
        MASK: stated[MASK] | own | settings.get("average", {}),
    }
    return {part: parts[part] for part in PARTS}


def beside(record: Record, table: Table, metrics: Mapping[str, Collection[str]]) -> Published | None:
    """The published table that the space's source names (`table`, else `item`), compared with `table`.

    `metrics` are those that each of our columns shows. None where nothing is published under the name. Where the source
    names a `table` that there is not, the caption says which tables there are.
    """
    source = record.space.get("source") or {}
    paper, name = str(source.get("paper")), str(source.get("table", source.get("item")))
    known = published(paper)
    if known is None:
        return None
    spec = known["tables"].get(name)
    if spec is None:
        complaint = f"Published numbers: {paper} has no table {name!r}; it has {', '.join(known['tables'])}."
        return Published(paper, name, complaint) if "table" in source else None

    recorded = _recorded(record, metrics)
    # What is chosen on val is what such a table reports.
    ours = {our: metrics[our] for our in ([CHOSEN] if CHOSEN in table.columns else table.columns)}
    cells, correlations, found_in = [], [], list[tuple[str, list[_Deviation]]]()
    for index, column in enumerate(spec["columns"]):
        values = {row: line[index] for row, line in spec["rows"].items()}
        compared = _compared(known, name, column, table, ours, recorded)
        ranks = [
            _correlation(table, our, column, of_rows, values)
            for our, of_rows in compared.items()
            if of_rows.keys() - {*table.references}
        ]
        correlations += [rank for rank in ranks if rank.same_protocol] or ranks
        for row, value in values.items():
            found = {our: of_rows[row] for our, of_rows in compared.items() if row in of_rows}
            alike = [our for our, deviations in found.items() if not deviations]
            nearest = min(found.values(), key=len, default=[])
            found_in += [(row, nearest)] if found else []
            spread = spec["spreads"][row][index] if "spreads" in spec else None
            difference = _mean(table, row, alike[0]) - value if len(alike) == 1 else None
            differs = tuple(deviation.part for deviation in nearest)
            cells.append(PublishedCell(row, column, value, spread, difference, differs))

    rows, columns = tuple(spec["rows"]), tuple(spec["columns"])
    left_out = [row for row in table.references if row in rows]
    caption = _caption(known["title"], spec, cells, correlations, left_out, _in_words(found_in))
    return Published(paper, name, caption, rows, columns, tuple(cells), tuple(correlations))


def _compared(
    known: Mapping[str, Any],
    name: str,
    column: str,
    table: Table,
    ours: Mapping[str, Collection[str]],
    recorded: Recorded,
) -> dict[str, dict[str, list[_Deviation]]]:
    """For each of our columns (with its metrics) that measures the same as a published column, and each row that both
    have, what deviates from the published protocol."""
    spec = known["tables"][name]
    settings, index = spec["columns"][column], list(spec["columns"]).index(column)
    published = [row for row, line in spec["rows"].items() if line[index] is not None]
    measured = {*map(_without_definition, several(settings.get("metric", spec.get("metric"))))}
    return {
        our: {
            row: _deviations(protocol(known, name, row, column), our, cell, recorded)
            for row, cell in _whole(table, our, published).items()
            if _aligned(settings, our, cell, recorded)
        }
        for our, shown in ours.items()
        if {*map(_without_definition, shown)} == measured
    }


def _without_definition(metric: str) -> str:
    """A metric's name without its definition of mAP: rows are ordered, but never subtracted, across definitions."""
    return MAPS[0] if metric in MAPS else metric


def _whole(table: Table, column: str, rows: Iterable[str]) -> dict[str, Cell]:
    """The cells of these rows that have a value of all their seeds."""
    found = {row: cell for row in rows if (cell := table.cells.get((row, column))) is not None}
    return {row: cell for row, cell in found.items() if cell.value is not None and cell.n == cell.expected}


def _mean(table: Table, row: str, column: str) -> float:
    value = table.cells[row, column].value
    assert value is not None
    return value


Recorded = Callable[[str, str, Cell], frozenset[str]]


def _recorded(record: Record, metrics: Mapping[str, Collection[str]]) -> Recorded:
    """A function from a setting, one of our columns and a cell in it to the texts of all values that the cell's runs
    recorded; none if a run did not record it. Results are settings too here: the numbers of images."""
    runs = record.trials.dropna(subset="run_id").set_index("run_id")
    of_space = {_PROFILE: record.space.get("profile"), _RULE: selection.rule_of(record.space["select"])}

    @cache
    def values(setting: str) -> dict[str, str]:
        texts = runs["trial"].map(record.params[setting]) if setting in record.params else runs.get(setting)
        return {} if texts is None else {run: as_text(logged_value(text)) for run, text in texts.items()}

    def recorded(setting: str, column: str, cell: Cell) -> frozenset[str]:
        if setting == _VALUE:
            return frozenset(metrics[column])
        if setting in of_space:
            return frozenset([as_text(of_space[setting])])
        found = frozenset(values(setting).get(run, NO_VALUE) for run in cell.runs)
        return frozenset() if NO_VALUE in found else found

    return recorded


def _aligned(settings: Mapping[str, Any], our: str, cell: Cell, recorded: Recorded) -> bool:
    """Whether a cell of ours belongs to a published column, on whatever data: it has the values of the settings that
    the column stands for, and is an average where the column is one."""
    averaged = settings.get("average", {})
    return all(
        len(found) > 1 if name in averaged else found == _texts(settings[name])
        for name in _stands_for(settings)
        for found in [recorded(name, our, cell)]
    )


def _stands_for(settings: Mapping[str, Any]) -> list[str]:
    """The settings that a published column stands for, besides its data set."""
    return [name for name in settings if name not in ("metric", "average", _DATASET)] + [*settings.get("average", {})]


def _deviations(published: Protocol, our: str, cell: Cell, recorded: Recorded) -> list[_Deviation]:
    """The parts of a published protocol that a cell of ours does not have, each with its first setting that differs."""
    found = []
    for part, settings in published.items():
        if part == RULE and all(map(of_all_epochs, recorded(_VALUE, our, cell))):
            continue  # whichever epoch is selected, it is the same
        for setting, value in (settings or {"": None}).items():
            own, theirs = recorded(setting, our, cell), _texts(value)
            if own != theirs or not theirs:
                found.append(_Deviation(part, setting, own, theirs))
                break
    return found


def _texts(value: Any) -> frozenset[str]:
    return frozenset(map(as_text, several(value)))


def _correlation(
    table: Table,
    our: str,
    column: str,
    compared: Mapping[str, list[_Deviation]],
    published: Mapping[str, Any],
) -> RankCorrelation:
    """Over the rows that have the published protocol; if there are none, over all."""
    rows = [row for row in compared if row not in table.references]
    alike = [row for row in rows if not compared[row]]
    rows = alike or rows
    rank = _rank_correlation([_mean(table, row, our) for row in rows], [published[row] for row in rows])
    return RankCorrelation(our, column, len(rows), rank, same_protocol=bool(alike))


def _rank_correlation(ours: list[float], published: list[float]) -> float | None:
    if len(ours) < _FEWEST or len(set(ours)) == 1 or len(set(published)) == 1:
        return None
    return float(pd.Series(ours).rank().corr(pd.Series(published).rank()))


def _caption(
    paper: str,
    spec: Mapping[str, Any],
    cells: list[PublishedCell],
    ranks: list[RankCorrelation],
    left_out: list[str],
    differing: str,
) -> str:
    sentences = [f"Published: {paper}, {spec['title']}", spec["setup"], *filter(None, [spec.get("note")])]
    if any(cell.difference is not None for cell in cells):
        sentences.append("In brackets: ours minus published, where all of the protocol agrees")
    if differing:
        sentences.append(f"No differences where the protocol is another: {differing}")
    elif all(cell.difference is None for cell in cells):
        shown = dict.fromkeys(name for settings in spec["columns"].values() for name in _stands_for(settings))
        sentences.append(f"No differences, as none of our columns has the published {_or([*shown, _VALUE])}")
    if ranks:
        without = f", without {', '.join(left_out)}" if left_out else ""
        sentences.append(f"ρ: Spearman's rank correlation over the n rows that both have{without}")
    if not all(rank.same_protocol for rank in ranks):
        sentences.append("ρ (order) compares the order of rows with another protocol")
    return ". ".join(sentence.rstrip(".") for sentence in sentences) + "."


def _in_words(cells: list[tuple[str, list[_Deviation]]]) -> str:
    """What differs in the cells that were compared, by row: "image size (data.image_size 64, not 448), batch
    (train.batch_size 32, not 16, in SARB, DSRB)". Cells on other data than ours are left out, unless all are."""
    cells = [(row, found) for row, found in cells if all(d.setting != _DATASET for d in found)] or cells
    rows, texts = {row for row, _ in cells}, []
    for part, setting in dict.fromkeys(
        (d.part, d.setting) for part in PARTS for _, f in cells for d in f if d.part == part
    ):
        found = [(row, d) for row, f in cells for d in f if (d.part, d.setting) == (part, setting)]
        ours = _or(text for _, d in found for text in sorted(d.ours))
        theirs = _or(text for _, d in found for text in sorted(d.published))
        values = "not published" if not theirs else f"{ours}, not {theirs}" if ours else "not recorded"
        of_rows = list(dict.fromkeys(row for row, _ in found))
        where = f", in {', '.join(of_rows)}" if len(of_rows) < len(rows) else ""
        name = "" if setting == part else setting
        texts.append(f"{part} ({' '.join(filter(None, [name, values]))}{where})")
    return ", ".join(texts)


def _or(texts: Iterable[str]) -> str:
    *others, last = list(dict.fromkeys(texts)) or [""]
    return " or ".join(filter(None, [", ".join(others), last]))
