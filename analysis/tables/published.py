"""Published numbers beside ours, in a block of their own. The numbers are in `papers/*.yaml`.

A difference is printed where our runs had the published data set and protocol, under the profile `paper`. Elsewhere
only the order of the rows can be compared, by Spearman's rank correlation.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from analysis.names import CHOSEN, NO_VALUE, as_text
from analysis.reading.records import Record, logged_value
from analysis.tables.table import Published, PublishedCell, RankCorrelation, Table

PAPERS = Path(__file__).parents[1] / "papers"
_DATASET = "data.dataset"
_FEWEST = 3  # rows: over two rows a rank correlation is always 1 or −1


@cache
def published(paper: str) -> dict[str, Any] | None:
    """What a paper has published, by the name that spaces give it; None where it has no file here."""
    file = PAPERS / f"{paper}.yaml"
    return YAML(typ="safe", pure=True).load(file.read_text("utf-8")) if file.exists() else None


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

    logged = _logged(record)
    # What is chosen on val is what such a table reports.
    ours = [CHOSEN] if CHOSEN in table.columns else table.columns
    cells, correlations, spreads = [], [], spec.get("spreads", {})
    for index, (column, settings) in enumerate(spec["columns"].items()):
        wanted = dict(settings)
        measured = wanted.pop("metric", spec.get("metric"))
        measured = {measured} if isinstance(measured, str) else set(measured)
        average = wanted.pop("average", {})
        dataset = {_DATASET: wanted.pop(_DATASET, None)}
        rough = _texts(wanted) | dict.fromkeys(average)
        exact = _texts(wanted | dataset | spec["protocol"]) | {
            axis: set(map(as_text, average[axis])) for axis in average
        }
        values = {row: line[index] for row, line in spec["rows"].items() if line[index] is not None}
        alike = [our for our in ours if set(metrics[our]) == measured]

        for our in alike:
            compared = [row for row in values if row not in table.references]
            both = _values_of(table, our, compared, logged, rough)
            if both:
                rank = _rank_correlation(list(both.values()), [values[row] for row in both])
                correlations.append(RankCorrelation(our, column, len(both), rank))
        for row in spec["rows"]:
            protocol = exact | _texts(spec.get("protocol_of", {}).get(row, {}))
            same = [_values_of(table, our, [row], logged, protocol) for our in alike if row in values]
            measured_here = [found[row] for found in same if row in found]
            alone = record.space.get("profile") == "paper" and len(measured_here) == 1
            difference = measured_here[0] - values[row] if alone else None
            spread = spreads[row][index] if row in spreads else None
            cells.append(PublishedCell(row, column, values.get(row), spread, difference))

    rows, columns = tuple(spec["rows"]), tuple(spec["columns"])
    caption = _caption(known["title"], spec, cells, correlations, [row for row in table.references if row in rows])
    return Published(paper, name, caption, rows, columns, tuple(cells), tuple(correlations))


def _logged(record: Record) -> Callable[[str, str], str]:
    """A function from a run and a setting to the value in print that it logged."""
    runs = record.trials.dropna(subset="run_id").set_index("run_id")["trial"]

    @cache
    def values(setting: str) -> dict[str, str]:
        if setting not in record.params:
            return {}
        return {run: as_text(logged_value(text)) for run, text in runs.map(record.params[setting]).items()}

    return lambda run, setting: values(setting).get(run, NO_VALUE)


def _values_of(
    table: Table,
    column: str,
    rows: Iterable[str],
    logged: Callable[[str, str], str],
    settings: Mapping[str, set[str] | None],
) -> dict[str, float]:
    """The values of the rows whose cell has all its seeds and whose runs logged exactly these values of the settings.
    None in place of a setting's values stands for any two or more values."""
    found = {}
    for row in rows:
        cell = table.cells.get((row, column))
        if cell is None or cell.value is None or cell.n < cell.expected:
            continue
        of_runs = {name: {logged(run, name) for run in cell.runs} for name in settings}
        if all(
            len(of_runs[name]) > 1 if values is None else of_runs[name] == values for name, values in settings.items()
        ):
            found[row] = cell.value
    return found


def _texts(settings: Mapping[str, Any]) -> dict[str, set[str] | None]:
    return {name: {as_text(value)} for name, value in settings.items()}


def _rank_correlation(ours: list[Any], published: list[float]) -> float | None:
    if len(ours) < _FEWEST or len(set(ours)) == 1 or len(set(published)) == 1:
        return None
    return float(pd.Series(ours).rank().corr(pd.Series(published).rank()))


def _caption(
    paper: str, spec: Mapping[str, Any], cells: list[PublishedCell], ranks: list[RankCorrelation], left_out: list[str]
) -> str:
    compared = any(cell.difference is not None for cell in cells)
    sentences = [f"Published: {paper}, {spec['title']}", spec["setup"], *filter(None, [spec.get("note")])]
    if compared:
        sentences.append("In brackets: ours minus published, where data set and protocol are the same")
    else:
        sentences.append("No differences, as ours are of another data set or protocol")
    if ranks:
        without = f", without {', '.join(left_out)}" if left_out else ""
        sentences.append(f"ρ: Spearman's rank correlation over the n rows that both have{without}")
    return ". ".join(sentences) + "."
