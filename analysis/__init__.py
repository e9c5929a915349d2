"""From the MLflow record to tables and figures.

All that is needed is in the record: every sweep's parent run carries its resolved space. Anyone who has the tracking
URI can make every table again, so this package imports neither torch nor Ray, nor `methods` or `sweeper`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from analysis.tables.build import Table

__all__ = ["table"]


def table(
    name: str,
    *,
    tracking_uri: str | None = None,
    sweep: str | None = None,
    profile: str | None = None,
    select: str | None = None,
    value: str | None = None,
    against: str | None = None,
    allow: Collection[str] = (),
) -> Table:
    """The table of the newest sweep of space `name` (of `profile`), or of the one whose hash starts with `sweep`.

    `select` is a rule of `analysis.names.RULES` in place of the space's, `value` a metric in place of the
    table's, `against` a row that all others are compared with, seed by seed, and `allow` names settings or versions
    that may differ between the runs though the table does not show it. Raises `analysis.reading.records.RecordError`
    when the record has no such sweep, the space cannot be laid out as a table, or its runs cannot stand in one table.
    """
    from analysis.reading import records, selection  # MLflow and pandas take over a second to import
    from analysis.tables import build, comparisons

    record = records.load(name, tracking_uri=tracking_uri, sweep=sweep, profile=profile, allow=allow)
    record = selection.shown(record, select, value)
    return comparisons.against(record, against) if against else build.build(record)
