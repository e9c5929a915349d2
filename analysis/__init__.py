"""From the MLflow record to tables and figures.

All that is needed stands in the record: every sweep's parent run carries its resolved space. Anyone with the tracking
URI can regenerate every table, so this room imports neither torch nor Ray nor the rooms that train and sweep.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables import Table

__all__ = ["table"]


def table(name: str, *, tracking_uri: str | None = None, sweep: str | None = None) -> Table:
    """The table of the newest sweep of space `name`, or of the one whose hash starts with `sweep`.

    Raises `analysis.records.RecordError` when the record has no such sweep, or the space cannot be laid out as a table.
    """
    from analysis import records, tables  # MLflow and pandas take over a second to import

    return tables.build(records.load(name, tracking_uri=tracking_uri, sweep=sweep))
