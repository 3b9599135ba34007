"""The lease of a job: one process drives it, with a token that grows with every holder.

In a file the operating system's lock holds the lease, and frees it when its process dies. On a server it lasts
``LEASE_S`` by the server's own clock, and a thread of the holder renews it; where that stopped, another machine takes
the job over. Whoever was stopped beyond its lease and goes on has an old token: the database takes none of its events
(in the very transaction of each), and ``require`` refuses before it acts on provider or box.
"""

from __future__ import annotations

import json
import os
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from harness.core.errors import JobBusy, LeaseLost, StoreFailed
from harness.core.ids import JobName, new_nonce
from harness.core.ports import Clock
from harness.ledger.database import Database
from harness.ledger.locks import LEASE_S, holder_of, sole, told
from harness.ledger.schema import LEASES

_ENOUGH_S: Final = LEASE_S / 2
"""Seconds that are left of a lease, at least, when an act is begun."""
_NOW: Final = {
    "sqlite": sa.literal_column("(julianday('now') - 2440587.5) * 86400.0", sa.Double),
    "postgresql": sa.literal_column("extract(epoch from clock_timestamp())::float8", sa.Double),
}
"""The database's own clock, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A job that this process may drive; a holder before had a smaller token."""

    job: JobName
    token: int


@dataclass(slots=True)
class _Held:
    lease: Lease
    confirmed: float
    """Time, by this process's steady clock, at which the database last said that it stands."""


@dataclass(frozen=True, slots=True)
class Leases:
    """Leases of one store, with those that this process has of it."""

    database: Database
    clock: Clock
    _held: dict[JobName, _Held] = field(default_factory=dict)

    @contextmanager
    def held(self, job: JobName) -> Iterator[Lease]:
        """Have the job's lease while the block runs. Raises JobBusy at once when another has it, StoreFailed."""
        if self.database.path is not None:
            folder, name = _lock(self.database.path, job)
            with sole(folder, name, f"job {job} is being run", self.clock), self._token(job) as lease:
                yield lease
            return
        ended = threading.Event()
        with self._token(job) as lease:
            renewing = threading.Thread(target=self._renew, args=(lease, ended), daemon=True, name=f"lease-{job}")
            renewing.start()
            try:
                yield lease
            finally:
                ended.set()

    def holder(self, job: JobName) -> str | None:
        """The process that has the job's lease now, as its error names it; None when nobody has it. Takes nothing."""
        if self.database.path is None:
            return self.database.run(lambda connection: _named(_row(connection, job)))
        folder, name = _lock(self.database.path, job)
        try:
            with sole(folder, name, "", self.clock, names=False):
                return None
        except JobBusy:
            return holder_of(folder, name)

    def require(self, job: JobName, *, within_s: float = 0.0) -> None:
        """Raise LeaseLost unless this process has the job, by the database's word of now: it is renewed by that.

        ``within_s``: a word that is no older will do. For a process that has taken no lease: JobBusy when another has.
        """
        held, now = self._held.get(job), self.clock.monotonic
        if held is not None and now() - held.confirmed < within_s:
            return
        began = now()
        self._ask(job, held, began)
        while now() - began > LEASE_S - _ENOUGH_S:  # stopped, or slow, while it was asked
            began = now()
            self._ask(job, held, began)

    def fence(self, connection: sa.Connection, job: JobName) -> None:
        """In a transaction that writes of the job: raise LeaseLost, or JobBusy, unless this process may."""
        row, held = _row(connection, job), self._held.get(job)
        if held is None:
            if (holder := _named(row)) is not None:
                raise JobBusy(f"job {job} is being run by {holder}")
        elif row is None or row.token != held.lease.token:
            raise LeaseLost(f"job {job} was taken over by {told(row.holder if row is not None else '')}")

    def _ask(self, job: JobName, held: _Held | None, began: float, *, patience_s: float | None = None) -> None:
        def renew(connection: sa.Connection) -> None:
            self.fence(connection, job)
            if held is not None and self.database.path is None:
                ours = LEASES.update().where(LEASES.c.job == job, LEASES.c.until > 0)  # not one that was given back
                connection.execute(ours.values(until=_now(connection) + LEASE_S))

        waits = {} if patience_s is None else {"patience_s": patience_s}
        self.database.run(renew, sole=name_of(job), **waits)
        if held is not None:
            held.confirmed = began

    @contextmanager
    def _token(self, job: JobName) -> Iterator[Lease]:
        ours = json.dumps({"pid": os.getpid(), "host": platform.node(), "nonce": new_nonce()})
        until = 0.0 if self.database.path is not None else _NOW["postgresql"] + LEASE_S

        def take(connection: sa.Connection) -> int:
            row = _row(connection, job)
            if row is not None and row.holder == ours:
                return int(row.token)  # it was taken, and the answer was lost
            if (holder := _named(row)) is not None:
                raise JobBusy(f"job {job} is being run by {holder}", remedy=_WAIT)
            token = (0 if row is None else int(row.token)) + 1
            connection.execute(LEASES.delete().where(LEASES.c.job == job))
            connection.execute(LEASES.insert().values(job=job, token=token, until=until, holder=ours))
            return token

        began = self.clock.monotonic()
        lease = Lease(job, self.database.run(take, sole=name_of(job)))
        self._held[job] = _Held(lease, began)
        try:
            yield lease
        finally:
            del self._held[job]
            if self.database.path is None:
                with suppress(StoreFailed):  # it ends by itself
                    given = LEASES.update().where(LEASES.c.job == job, LEASES.c.token == lease.token).values(until=0.0)
                    self.database.run(lambda connection: connection.execute(given), sole=name_of(job), patience_s=0)

    def _renew(self, lease: Lease, ended: threading.Event) -> None:
        while not ended.wait(LEASE_S / 4):
            held = self._held.get(lease.job)
            if held is None or held.lease != lease:
                return
            try:
                self._ask(lease.job, held, self.clock.monotonic(), patience_s=0)
            except LeaseLost:
                return  # the next act, and the next event, say so
            except StoreFailed:
                continue


_WAIT = (
    f"Wait until that process has ended, or end it. One that died has the job for {LEASE_S:.0f} s after it was heard "
    "from last: then run the same command again."
)


def _lock(path: Path, job: JobName) -> tuple[Path, str]:
    """Folder and name of the operating system's lock of a job whose store is a file."""
    return path.with_name(f"{path.name}.locks"), f"job-{job}"


def name_of(job: JobName) -> str:
    """Name under which one writer of a job's log, and of its lease, works at a time."""
    return f"job {job}"


def _now(connection: sa.Connection) -> sa.ColumnElement[float]:
    return _NOW[connection.dialect.name]


def _row(connection: sa.Connection, job: JobName) -> sa.Row[Any] | None:
    found = sa.select(*LEASES.c, (LEASES.c.until - _now(connection)).label("left")).where(LEASES.c.job == job)
    return connection.execute(found).one_or_none()


def _named(row: sa.Row[Any] | None) -> str | None:
    """The holder of a lease that has not ended, in words."""
    if row is None or row.left <= 0:
        return None
    return f"{told(row.holder)}, whose lease ends in {row.left:.0f} s unless it is renewed"
