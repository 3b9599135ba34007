"""The event store on SQLAlchemy: the same tables in a SQLite file and on PostgreSQL.

An append has reached the disk when it returns. Several processes may append at once, from several machines where it is
a server: of each job one writes at a time, and reads the head that it builds on under that lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from harness.core import environment
from harness.core.canonical import Json, canonical
from harness.core.errors import Conflict, LogDamaged, StoreFailed
from harness.core.ids import JobName, Sha256
from harness.core.ports import Clock
from harness.core.text import printable
from harness.ledger import chain, database, outline, schema
from harness.ledger.chain import Head, Record
from harness.ledger.codec import decode, encode
from harness.ledger.database import Database
from harness.ledger.kinds import JobEvent
from harness.ledger.leases import Lease, Leases, name_of
from harness.ledger.schema import EVENTS, FILES, HEADS

MAX_DATA_BYTES = 4 << 20
"""The largest data of one event (bytes of canonical JSON); what is larger belongs into a file that the event names."""


def open_state(home: Path, clock: Clock) -> SqlEventStore:
    """The store of this user's jobs: the one that HARNESS_STATE names, else the file in the home."""
    return open_store(environment.state_url() or home / environment.STATE_FILE, clock)


def open_store(where: str | Path, clock: Clock) -> SqlEventStore:
    """The store at a path or URL, created when missing, brought to today's schema when older.

    Raises StoreFailed, BadInput for what is no such place, MissingExtra without the driver of a server.
    """
    opened = database.named(where, clock)
    if opened.path is not None:
        try:
            opened.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreFailed(f"cannot create {opened.path.parent}: {error}") from error
    if not opened.run(lambda connection: schema.is_current(connection, opened.place), patience_s=0):
        opened.run(lambda connection: schema.make_current(connection, opened.place), sole="schema", patience_s=0)
    return SqlEventStore(opened, clock, Leases(opened, clock))


@dataclass(frozen=True, slots=True)
class SqlEventStore:
    """An ``EventStore``; get one from ``open_store``. Safe for several processes and threads."""

    database: Database
    clock: Clock = field(repr=False)
    leases: Leases = field(repr=False)

    def append(self, job: JobName, event: JobEvent, *, expected_seq: int | None = None) -> Record:
        """Add one event; it is on the disk when this returns. Raises Conflict, LeaseLost, StoreFailed."""
        kind, data = encode(event)
        text = self._encoded(job, kind, data)
        sent: Record | None = None

        def write(connection: sa.Connection) -> Record:
            nonlocal sent
            if sent is not None and _holds(connection, sent):
                return sent  # it was committed, and the answer was lost
            self.leases.fence(connection, job)
            head = _read_head(connection, job)
            if expected_seq is not None and head.seq != expected_seq:
                raise Conflict(f"job {job}: event {expected_seq} was expected to be the newest, but {head.seq} is")
            record = sent = chain.seal(head, job, self.clock.now(), kind, json.loads(text))
            try:
                decode(record)
            except ValueError as error:  # fields of other types than theirs: the log could not be read again
                raise StoreFailed(f"{error}, in job {job}: it is not written", remedy=_REPORT) from error
            row = {"job": job, "seq": record.seq, "at": record.at, "kind": kind, "data": text}
            stage = record.data.get("stage") if kind in schema.OF_A_STAGE else None
            connection.execute(EVENTS.insert().values(**row, previous=head.digest, digest=record.digest, stage=stage))
            connection.execute(HEADS.delete().where(HEADS.c.job == job))
            connection.execute(HEADS.insert().values(job=job, seq=record.seq, digest=record.digest))
            return record

        return self.database.run(write, sole=name_of(job))

    def records(self, job: JobName, *, brief: bool = False) -> tuple[Record, ...]:
        """The job's records in order. Raises LogDamaged naming the first that is changed or missing."""
        log, wrong = self._read(job, brief=brief)
        if wrong:
            raise LogDamaged(f"the log of job {job} in {self.database.place} is damaged: {wrong[0]}")
        return log

    def jobs(self) -> tuple[JobName, ...]:
        """Every job that has an event, by name."""
        named = sa.union(sa.select(EVENTS.c.job), sa.select(HEADS.c.job))
        return tuple(sorted(self.database.run(lambda connection: map(JobName, connection.scalars(named).all()))))

    def outlines(self) -> Mapping[JobName, tuple[Record, ...] | None]:
        """Of every job the events that say where it stands; see ``EventStore.outlines``."""
        events, heads = EVENTS.c, HEADS.c
        # By the index alone: a log of many polls is far larger than what is told of it.
        newest = sa.func.max(events.seq).label("seq")
        last = sa.select(events.job, newest).group_by(events.job, events.kind, events.stage)
        last = last.having(events.kind.not_in(outline.ASIDE))
        whole = sa.select(events.job, events.seq).where(sa.or_(events.seq == 1, events.kind.in_(outline.WHOLE)))
        picked = last.union(whole, sa.select(heads.job, heads.seq)).subquery()
        # In no order: the database would carry the texts along while it sorts.
        rows_of = sa.select(*_COLUMNS).join(picked, sa.and_(picked.c.job == events.job, picked.c.seq == events.seq))
        counts_of = sa.select(events.job, sa.func.count().label("count")).group_by(events.job)
        counts, known, rows = self.database.run(
            lambda connection: (
                {JobName(row.job): row.count for row in connection.execute(counts_of)},
                {JobName(row.job): Head(row.seq, row.digest) for row in connection.execute(sa.select(*heads))},
                connection.execute(rows_of).all(),
            )
        )
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
        for job, records in found.items():
            records.sort(key=attrgetter("seq"))
            newest_of = chain.head_of(records)
            if known.get(job) != newest_of or counts.get(job, 0) != newest_of.seq:
                odd.add(job)
        return {job: None if job in odd else tuple(records) for job, records in sorted(found.items())}

    def verify(self, job: JobName) -> tuple[str, ...]:
        """Everything that is wrong with the job's log, naming each changed or missing event; empty when it is whole."""
        return self._read(job)[1]

    @property
    def shared(self) -> bool:
        """True for a store that several machines have, each with a home of its own."""
        return self.database.path is None

    def keep(self, sha256: Sha256, data: bytes) -> None:
        """Keep a file under its digest; it is on the disk when this returns."""

        def write(connection: sa.Connection) -> None:
            if connection.scalar(sa.select(FILES.c.sha256).where(FILES.c.sha256 == sha256)) is None:
                connection.execute(FILES.insert().values(sha256=sha256, data=data))

        self.database.run(write, sole=f"file {sha256}")

    def kept(self, sha256: Sha256) -> bytes | None:
        """Bytes that are kept under a digest, unverified; None when there are none."""
        found = sa.select(FILES.c.data).where(FILES.c.sha256 == sha256)
        return self.database.run(lambda connection: connection.scalar(found))

    def lock(self, job: JobName) -> AbstractContextManager[Lease]:
        """Have the job's lease; see ``EventStore.lock``. Raises JobBusy, StoreFailed."""
        return self.leases.held(job)

    def holder(self, job: JobName) -> str | None:
        """The process that has the job, in words; None when nobody has it."""
        return self.leases.holder(job)

    def require_lease(self, job: JobName, *, within_s: float = 0.0) -> None:
        """Raise LeaseLost unless this process has the job; see ``EventStore.require_lease``."""
        self.leases.require(job, within_s=within_s)

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

    def _read(self, job: JobName, *, brief: bool = False) -> tuple[tuple[Record, ...], tuple[str, ...]]:
        rows_of = sa.select(*_COLUMNS).where(EVENTS.c.job == job).order_by(EVENTS.c.seq)
        rows, head = self.database.run(
            lambda connection: (connection.execute(rows_of).all(), _read_head(connection, job))
        )
        log, stored, unreadable = [], [], []
        for row in rows:
            try:
                log.append(_record(row, brief=brief))
                stored.append(row.data)
            except (ValueError, RecursionError) as error:
                unreadable.append(f"event {row.seq} cannot be read: {printable(str(error), 200)}")
        return tuple(log), (*unreadable, *chain.problems(log, head, stored))


_REPORT = "This is a fault of the harness: report it with the message above."
_COLUMNS = tuple(EVENTS.c[name] for name in ("job", "seq", "at", "kind", "data", "previous", "digest"))


def _holds(connection: sa.Connection, record: Record) -> bool:
    """True when the job's log has this very record."""
    there = sa.select(EVENTS.c.digest).where(EVENTS.c.job == record.job, EVENTS.c.seq == record.seq)
    return connection.scalar(there) == record.digest


def _read_head(connection: sa.Connection, job: JobName) -> Head:
    row = connection.execute(HEADS.select().where(HEADS.c.job == job)).one_or_none()
    return Head(row.seq, row.digest) if row is not None else chain.EMPTY


def _record(row: Sequence[Any], *, brief: bool = False) -> Record:
    """The record of a row; ``brief``: without what single checks said, nine tenths of a log."""
    job, seq, at, kind, text, previous, digest = row
    data = json.loads(outline.brief(kind, text) if brief and isinstance(text, str) else text)
    if not isinstance(data, dict) or not isinstance(at, float) or not isinstance(seq, int):
        raise ValueError("a column holds another type than it was given")  # noqa: TRY004 - one error for the caller
    return Record(seq, JobName(job), at, kind, data, previous, digest)
