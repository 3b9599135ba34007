"""The database that holds the event store: a SQLite file, or PostgreSQL by URL.

SQLite runs with a rollback journal and synchronous=EXTRA, which is FULL plus a sync of the directory after the journal
is deleted: with FULL alone a power loss right after a commit may bring the journal, and so the state before the
commit, back (https://www.sqlite.org/pragma.html). WAL is not used: it needs shared memory, which network file systems
lack, and keeps the newest events in a second file, which people forget when they copy the first.

On PostgreSQL a commit waits for the disk whatever the server's usual setting is, and a client that is stopped, or cut
off, in the middle of a transaction is thrown out by the server, so that it holds nobody up.

No password of a URL stands in any message: places are named without, and what a driver says is searched for it.
"""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from harness.core.errors import BadInput, Conflict, MissingExtra, StoreFailed
from harness.core.ports import Clock
from harness.core.text import printable

T = TypeVar("T")

PATIENCE_S: Final = 300.0
"""Seconds that a server which went away is waited for: one that is restarted, or replaced by its standby, is back."""
_PAUSE_S: Final = 1.0
_BUSY_TIMEOUT_S: Final = 30.0
_BEGIN: Final = "sqlite_begin"
_POSTGRES: Final = ("postgresql+psycopg", "postgresql", "postgres")
"""Names of the one driver that is used; hosters print the shorter ones."""
_SECRET: Final = ("password", "sslpassword")
_CONNECTING: Final = {
    "connect_timeout": "10",
    # A laptop that wakes up elsewhere has a connection that nobody will ever answer on.
    "keepalives_idle": "20",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "40000",
    "application_name": "gold-standard-harness",
}
"""Settings of libpq (https://www.postgresql.org/docs/current/libpq-connect.html), where the URL has no others."""
_SOLE_WRITER: Final = sa.text(
    "SELECT set_config('lock_timeout', '30s', true), set_config('idle_in_transaction_session_timeout', '20s', true),"
    " CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END,"
    " pg_advisory_xact_lock(hashtextextended(:name, 0))"
)
_GONE: Final = ("08", "57P")
"""Classes of SQLSTATE of a server that is going, coming or cut off."""


@dataclass(frozen=True, slots=True)
class Database:
    """One database. ``place`` names it in messages; ``path`` is the file of one that is a file."""

    engine: sa.Engine = field(repr=False)
    place: str
    path: Path | None
    clock: Clock = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def run(self, work: Callable[[sa.Connection], T], *, sole: str | None = None, patience_s: float = PATIENCE_S) -> T:
        """The answer of ``work`` in one transaction, committed when this returns.

        ``sole``: it writes, and no other work of that name runs meanwhile; without, it sees one moment of the
        database. When the server goes away the work is done again, which it must allow: a commit whose answer was lost
        may have happened. Raises Conflict, StoreFailed.
        """
        deadline: float | None = None
        while True:
            try:
                with self._begun(sole) as connection:
                    return work(connection)
            except sa.exc.IntegrityError as error:
                raise Conflict(f"{self.place}: another writer came between: {self._said(error)}") from None
            except sa.exc.SQLAlchemyError as error:
                now = self.clock.monotonic()
                deadline = now + patience_s if deadline is None else deadline
                if not _went_away(error) or now >= deadline:
                    raise self.failed(error) from None
            self.clock.sleep(_PAUSE_S)

    @contextmanager
    def _begun(self, sole: str | None) -> Iterator[sa.Connection]:
        options: dict[str, Any] = {}
        if self.path is not None:
            options = {_BEGIN: "BEGIN" if sole is None else "BEGIN IMMEDIATE"}
        elif sole is None:
            options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
        with self.engine.execution_options(**options).begin() as connection:
            if self.path is None and sole is not None:
                connection.execute(_SOLE_WRITER, {"name": sole})
            yield connection

    def failed(self, error: sa.exc.SQLAlchemyError, what: str = "the event store ") -> StoreFailed:
        """Error that says what a driver's was, with what helps against it."""
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else None
        remedy = _SPOILT if type(cause) is sqlite3.DatabaseError else None
        if self.path is None:
            remedy = _REMEDIES.get(str(getattr(cause, "sqlstate", None)), _UNREACHED)
        return StoreFailed(f"{what}{self.place} cannot be used: {self._said(error)}", remedy=remedy)

    def _said(self, error: sa.exc.SQLAlchemyError) -> str:
        """Words of the driver, on one line, without any secret."""
        told = str(error.orig if isinstance(error, sa.exc.DBAPIError) else error)
        for secret in self.secrets:
            told = told.replace(secret, "***")
        return printable(" ".join(told.split()), 500)


_SPOILT = (
    "Restore it from a copy. Without one, move it away: harness orphans then shows what bills, and "
    "harness destroy --instance-id N --job-file FILE brings the model home first."
)
_UNREACHED = "See that the server runs and that HARNESS_STATE names it; nothing was changed meanwhile."
_REMEDIES = {
    "42501": "Let the role that HARNESS_STATE names own the database: ALTER DATABASE ... OWNER TO ..., and its tables.",
    "25006": "It takes no writes: have HARNESS_STATE name the primary server, not a standby.",
    "53100": "Make room on the server's disk; then run the same command again.",
}
"""By SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""


def named(where: str | Path, clock: Clock) -> Database:
    """The database at a path, a ``sqlite:///`` or a ``postgresql+psycopg://`` URL. Raises BadInput, MissingExtra."""
    if isinstance(where, Path) or "://" not in where:
        return _file(Path(where), clock)
    if where.count("@") > 1:  # part of a password that was typed as it is
        raise BadInput(
            "the event store's URL does not read: its password has signs that mean something in a URL",
            remedy="Write each of them as %XX: @ as %40, / as %2F, : as %3A.",
        )
    try:
        url = sa.make_url(where)
    except (sa.exc.ArgumentError, ValueError):
        raise BadInput(
            "the event store's URL cannot be parsed",
            remedy="postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, with every sign of the password that is no "
            "letter and no digit written as %XX.",
        ) from None  # the parser repeats the URL
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return _file(Path(url.database), clock)
    if url.drivername in _POSTGRES:
        return _server(url, clock)
    raise BadInput(
        f"no event store is kept at {url.drivername}://: the URL is sqlite:///PATH or "
        "postgresql+psycopg://USER:PASSWORD@HOST/DATABASE"
    )


def _file(path: Path, clock: Clock) -> Database:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path.resolve())),
        poolclass=NullPool,
        connect_args={"timeout": _BUSY_TIMEOUT_S},
    )
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return Database(engine, str(path.resolve()), path.resolve(), clock)


def _server(url: sa.URL, clock: Clock) -> Database:
    given = [url.password, *(value for name in _SECRET for value in _all(url.query.get(name)))]
    secrets = {spelt for one in given if one for spelt in (str(one), quote(str(one), safe=""), quote_plus(str(one)))}
    settings: dict[str, Any] = {name: value for name, value in _CONNECTING.items() if name not in url.query}
    try:
        engine = sa.create_engine(
            url.set(drivername=_POSTGRES[0]),
            pool_pre_ping=True,
            # Poolers that hand each transaction another session know no prepared statements.
            connect_args={**settings, "prepare_threshold": None},
            hide_parameters=True,
        )
    except ImportError:
        raise MissingExtra("an event store on PostgreSQL", "postgres") from None
    weakref.finalize(engine, engine.pool.dispose)  # no connection outlives the store, or the process, unclosed
    port = f":{url.port}" if url.port else ""
    user = f"{url.username}@" if url.username else ""
    place = f"postgresql://{user}{url.host or ''}{port}/{url.database or ''}"
    return Database(engine, place, None, clock, tuple(sorted(secrets, key=len, reverse=True)))


def _all(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return () if value is None else (value,) if isinstance(value, str) else value


def _went_away(error: sa.exc.SQLAlchemyError) -> bool:
    """True when a server could not be reached, or was lost in the middle: it may be back."""
    if not isinstance(error, sa.exc.OperationalError | sa.exc.InterfaceError) or isinstance(error.orig, sqlite3.Error):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return state is None or str(state).startswith(_GONE)


def _on_connect(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver starts no transactions of its own: _on_begin does
    for pragma in ("journal_mode=DELETE", "synchronous=EXTRA"):
        connection.execute(f"PRAGMA {pragma}").close()


def _on_begin(connection: sa.Connection) -> None:
    connection.exec_driver_sql(str(connection.get_execution_options().get(_BEGIN, "BEGIN")))
