"""The event store on SQLAlchemy: SQLite in one file.

Durability: an append has reached the disk when it returns. SQLite runs with a rollback
journal and synchronous=EXTRA, which is FULL plus a sync of the directory after the
journal is deleted: with FULL alone a power loss right after a commit may bring the
journal, and so the state before the commit, back (https://www.sqlite.org/pragma.html).
WAL is not used: it needs shared memory, which network file systems lack, and keeps the
newest events in a second file, which people forget when they copy the first.

Several processes may append at once: every append takes SQLite's write lock before it
reads the head it builds on.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from harness.core.canonical import Json, canonical
from harness.core.errors import BadInput, Conflict, LogDamaged, StoreFailed
from harness.core.ids import JobName
from harness.core.ports import Clock
from harness.core.text import printable
from harness.ledger import billing, chain
from harness.ledger.chain import Head, Record
from harness.ledger.codec import decode, encode
from harness.ledger.events import GateJudged, Reopened
from harness.ledger.kinds import JobEvent
from harness.ledger.locks import job_lock

SCHEMA_VERSION = 1
MAX_DATA_BYTES = 4 << 20
"""The largest data of one event (bytes of canonical JSON); what is larger belongs into a file that the event names."""

_BUSY_TIMEOUT_S = 30.0
_ALL_COUNT = billing.COUNTED | {GateJudged.kind, Reopened.kind}
"""Kinds of which more than the newest event counts: what is billed, and the gate of each stage."""
_BEGIN = "sqlite_begin"

_METADATA = sa.MetaData()
_SCHEMA = sa.Table("schema_version", _METADATA, sa.Column("version", sa.Integer, primary_key=True))
_EVENTS = sa.Table(
    "events",
    _METADATA,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("data", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)
_BY_KIND = sa.Index("events_by_kind", _EVENTS.c.job, _EVENTS.c.kind, _EVENTS.c.seq)
_HEADS = sa.Table(
    "heads",
    _METADATA,
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
)


def open_store(where: str | Path, clock: Clock) -> SqlEventStore:
    """The store in a file (created when missing), by path or ``sqlite:///`` URL. Raises StoreFailed, BadInput."""
    path = _path(where)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreFailed(f"cannot create {path.parent}: {error}") from error
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": _BUSY_TIMEOUT_S}
    )
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    store = SqlEventStore(engine, path, clock)
    store.create_schema()
    return store


@dataclass(frozen=True, slots=True)
class SqlEventStore:
    """An ``EventStore``; get one from ``open_store``. Safe for several processes and threads."""

    engine: sa.Engine
    path: Path
    clock: Clock

    def append(self, job: JobName, event: JobEvent, *, expected_seq: int | None = None) -> Record:
        """Add one event; it is on the disk when this returns. Raises Conflict, StoreFailed."""
        kind, data = encode(event)
        text = self._encoded(job, kind, data)
        with self._transaction(write=True) as connection:
            head = _read_head(connection, job)
            if expected_seq is not None and head.seq != expected_seq:
                raise Conflict(f"job {job}: event {expected_seq} was expected to be the newest, but {head.seq} is")
            record = chain.seal(head, job, self.clock.now(), kind, json.loads(text))
            try:
                decode(record)
            except ValueError as error:  # fields of other types than theirs: the log could not be read again
                raise StoreFailed(f"{error}, in job {job}: it is not written", remedy=_REPORT) from error
            row = {"job": job, "seq": record.seq, "at": record.at, "kind": kind, "data": text}
            connection.execute(_EVENTS.insert().values(**row, previous=record.previous, digest=record.digest))
            connection.execute(_HEADS.delete().where(_HEADS.c.job == job))
            connection.execute(_HEADS.insert().values(job=job, seq=record.seq, digest=record.digest))
        return record

    def records(self, job: JobName) -> tuple[Record, ...]:
        """The job's records in order. Raises LogDamaged naming the first that is changed or missing."""
        log, wrong = self._read(job)
        if wrong:
            raise LogDamaged(f"the log of job {job} in {self.path} is damaged: {wrong[0]}")
        return log

    def jobs(self) -> tuple[JobName, ...]:
        """Every job that has an event, by name."""
        with self._transaction() as connection:
            named = sa.union(sa.select(_EVENTS.c.job), sa.select(_HEADS.c.job)).subquery()
            return tuple(JobName(name) for name in connection.scalars(sa.select(named.c.job).order_by(named.c.job)))

    def outlines(self) -> Mapping[JobName, tuple[Record, ...] | None]:
        """Of every job the events that say where it stands; see ``EventStore.outlines``."""
        events, heads = _EVENTS.c, _HEADS.c
        # By the index alone: a log of many polls is far larger than what is told of it.
        last = sa.select(events.job, sa.func.max(events.seq).label("seq")).group_by(events.job, events.kind)
        whole = sa.select(events.job, events.seq).where(sa.or_(events.seq == 1, events.kind.in_(_ALL_COUNT)))
        picked = last.union(whole).subquery()
        rows_of = (
            _EVENTS.select()
            .join(picked, sa.and_(picked.c.job == events.job, picked.c.seq == events.seq))
            .order_by(events.job, events.seq)
        )
        counts_of = sa.select(events.job, sa.func.count().label("count")).group_by(events.job)
        with self._transaction() as connection:
            counts = {JobName(row.job): row.count for row in connection.execute(counts_of)}
            known = {JobName(row.job): Head(row.seq, row.digest) for row in connection.execute(sa.select(*heads))}
            rows = connection.execute(rows_of).all()
        found: dict[JobName, list[Record]] = {job: [] for job in (*counts, *known)}
        odd: set[JobName] = set()
        for row in rows:
            try:
                record = _record(row, brief=True)
            except (ValueError, RecursionError):
                odd.add(JobName(row.job))
                continue
            found[record.job].append(record)
            if not chain.is_sealed(record, row.data):
                odd.add(record.job)
        odd |= {
            job
            for job, records in found.items()
            if known.get(job) != chain.head_of(records) or counts.get(job, 0) != chain.head_of(records).seq
        }
        return {job: None if job in odd else tuple(records) for job, records in sorted(found.items())}

    def verify(self, job: JobName) -> tuple[str, ...]:
        """Everything that is wrong with the job's log, naming each changed or missing event; empty when it is whole."""
        return self._read(job)[1]

    def lock(self, job: JobName) -> AbstractContextManager[None]:
        """Held by one process at a time, released by the system when it dies. Raises JobBusy, StoreFailed."""
        return job_lock(self.path.with_name(f"{self.path.name}.locks"), job, self.clock)

    def create_schema(self) -> None:
        """Create what is missing in an empty store. Raises StoreFailed when the store is of another version."""
        with self._transaction(write=True) as connection:
            _METADATA.create_all(connection)
            _BY_KIND.create(connection, checkfirst=True)
            versions = list(connection.scalars(sa.select(_SCHEMA.c.version)))
            if not versions:
                connection.execute(_SCHEMA.insert().values(version=SCHEMA_VERSION))
            elif versions != [SCHEMA_VERSION]:
                raise StoreFailed(
                    f"{self.path} has schema version {versions[-1]}; this harness knows version {SCHEMA_VERSION}",
                    remedy="Use the version of the harness that wrote it, or a newer one.",
                )

    def _encoded(self, job: JobName, kind: str, data: Mapping[str, Json]) -> str:
        try:
            text = canonical(data)
        except ValueError as error:
            raise StoreFailed(f"event {kind} of job {job} is not JSON: {error}", remedy=_REPORT) from error
        if len(text) > MAX_DATA_BYTES:
            raise StoreFailed(
                f"event {kind} of job {job} has {len(text)} bytes of data; at most {MAX_DATA_BYTES} are stored",
                remedy=_REPORT,
            )
        return text.decode("ascii")

    def _read(self, job: JobName) -> tuple[tuple[Record, ...], tuple[str, ...]]:
        with self._transaction() as connection:
            rows = connection.execute(_EVENTS.select().where(_EVENTS.c.job == job).order_by(_EVENTS.c.seq)).all()
            head = _read_head(connection, job)
        log, unreadable = [], []
        for row in rows:
            try:
                log.append(_record(row))
            except (ValueError, RecursionError) as error:
                unreadable.append(f"event {row.seq} cannot be read: {printable(str(error), 200)}")
        return tuple(log), (*unreadable, *chain.problems(log, head))

    @contextmanager
    def _transaction(self, *, write: bool = False) -> Iterator[sa.Connection]:
        """A transaction, committed at the end of the block; every failure of the database is a StoreFailed."""
        engine = self.engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}) if write else self.engine
        try:
            with engine.begin() as connection:
                yield connection
        except sa.exc.IntegrityError as error:
            raise Conflict(f"{self.path}: another writer came between: {error.orig}") from error
        except sa.exc.SQLAlchemyError as error:
            cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
            remedy = _SPOILT if type(cause) is sqlite3.DatabaseError else None
            raise StoreFailed(f"the event store {self.path} cannot be used: {cause}", remedy=remedy) from error


_SPOILT = (
    "Restore it from a copy. Without one, move it away: harness orphans then shows what bills, and "
    "harness destroy --instance-id N --job-file FILE brings the model home first."
)
_REPORT = "This is a fault of the harness: report it with the message above."


def _path(where: str | Path) -> Path:
    if isinstance(where, Path) or "://" not in where:
        return Path(where).resolve()
    try:
        url = sa.make_url(where)
    except sa.exc.ArgumentError as error:
        raise BadInput("the event store's URL cannot be parsed") from error
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        shown = url.render_as_string(hide_password=True)
        raise BadInput(f"the event store must be a SQLite file: a path, or sqlite:///PATH; not {shown}")
    return Path(url.database).resolve()


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver starts no transactions of its own: _on_begin does
    for pragma in ("journal_mode=DELETE", "synchronous=EXTRA"):
        connection.execute(f"PRAGMA {pragma}").close()


def _on_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(str(connection.get_execution_options().get(_BEGIN, "BEGIN")))


def _read_head(connection: sa.Connection, job: JobName) -> Head:
    row = connection.execute(_HEADS.select().where(_HEADS.c.job == job)).one_or_none()
    return Head(row.seq, row.digest) if row is not None else chain.EMPTY


def _record(row: sa.Row[Any], *, brief: bool = False) -> Record:
    """The record of a row; ``brief``: without what single checks said, nine tenths of a log."""
    text = _RESULT.sub("{}", row.data) if brief and isinstance(row.data, str) else row.data
    data = json.loads(text)
    if not isinstance(data, dict) or not isinstance(row.at, float) or not isinstance(row.seq, int):
        raise ValueError("a column holds another type than it was given")  # noqa: TRY004 - one error for the caller
    return Record(row.seq, JobName(row.job), row.at, row.kind, data, row.previous, row.digest)


_RESULT = re.compile(r'(?<="result":)\{.*\}(?=,"stage":)')
"""A gate's result in the one spelling of what is stored: a quote inside a text is escaped there, so it ends nothing."""
