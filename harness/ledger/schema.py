"""Tables of the event store, their version, and the way there from each older one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import sqlalchemy as sa

from harness.core.errors import StoreFailed
from harness.ledger.events import GateJudged, Reopened

VERSION: Final = 2
OF_A_STAGE: Final = (GateJudged.kind, Reopened.kind)
"""Kinds of which the newest event of each stage counts: their stage has a column."""

METADATA: Final = sa.MetaData()
_NAME = sa.String(64)
_DIGEST = sa.String(64)
_VERSION = sa.Table("schema_version", METADATA, sa.Column("version", sa.Integer, primary_key=True))
EVENTS: Final = sa.Table(
    "events",
    METADATA,
    sa.Column("job", _NAME, primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("previous", _DIGEST, nullable=False),
    sa.Column("digest", _DIGEST, nullable=False),
    sa.Column("stage", sa.Text),
    sa.Index("events_by_kind_and_stage", "job", "kind", "stage", "seq"),
)
HEADS: Final = sa.Table(
    "heads",
    METADATA,
    sa.Column("job", _NAME, primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("digest", _DIGEST, nullable=False),
)
LEASES: Final = sa.Table(
    "leases",
    METADATA,
    sa.Column("job", _NAME, primary_key=True),
    sa.Column("token", sa.BigInteger, nullable=False),
    sa.Column("until", sa.Double, nullable=False),
    sa.Column("holder", sa.Text, nullable=False),
)
"""One row a job that was ever driven: the token grows with every holder, ``until`` is by the database's own clock."""

FILES: Final = sa.Table(
    "files",
    METADATA,
    sa.Column("sha256", _DIGEST, primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
"""Small files that logs name by their digest, where no home holds them for every reader."""

_STEPS: Final[Mapping[int, tuple[str, ...]]] = {
    # Version 1 was on SQLite alone.
    1: (
        "ALTER TABLE events ADD COLUMN stage TEXT",
        """UPDATE events SET stage = json_extract(data, '$.stage')
        WHERE kind IN ('gate', 'reopened') AND json_valid(data)""",
        "DROP INDEX IF EXISTS events_by_kind",
        "CREATE INDEX events_by_kind_and_stage ON events (job, kind, stage, seq)",
    ),
}
"""Statements that lead from a version to the next; tables that are missing are created afterwards."""


def is_current(connection: sa.Connection, place: str) -> bool:
    """True for a store of today's version, False for an older or an empty one. Raises StoreFailed for any other."""
    there = METADATA.tables.keys() & set(sa.inspect(connection).get_table_names())
    if not there:
        return False
    rows = connection.execute(sa.select(sa.text("*")).select_from(_VERSION)) if _VERSION.name in there else None
    if rows is None or tuple(rows.keys()) != ("version",):
        raise StoreFailed(
            f"{place} is another program's: it has tables of its own that are named {', '.join(sorted(there))}",
            remedy="Have HARNESS_STATE name an empty database; nothing was changed in this one.",
        )
    known = list(rows.scalars())
    if known != [VERSION] and (len(known) != 1 or known[0] not in _STEPS):
        raise StoreFailed(
            f"{place} has schema version {', '.join(map(str, known)) or 'none'}; this harness knows version {VERSION}",
            remedy="Use the version of the harness that wrote it, or a newer one.",
        )
    if known == [VERSION] and (lost := METADATA.tables.keys() - there):
        raise StoreFailed(f"{place} lacks the tables {', '.join(sorted(lost))}", remedy="Restore it from a copy.")
    return known == [VERSION]


def make_current(connection: sa.Connection, place: str) -> None:
    """Create what is missing and bring an older store to today's version. Raises StoreFailed as ``is_current``."""
    if is_current(connection, place):
        return
    known = None
    if sa.inspect(connection).has_table(_VERSION.name):
        known = connection.scalar(sa.select(_VERSION.c.version))
    for version in range(known or VERSION, VERSION):
        for statement in _STEPS[version]:
            connection.exec_driver_sql(statement)
    METADATA.create_all(connection)
    connection.execute(_VERSION.delete())
    connection.execute(_VERSION.insert().values(version=VERSION))
