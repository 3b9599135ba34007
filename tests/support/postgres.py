"""A PostgreSQL cluster of the test session's own: Debian's programs, run by a user without privileges."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa

_SETTINGS = ("fsync=off", "full_page_writes=off", "max_connections=200", "shared_buffers=16MB", "listen_addresses=")
PASSWORD = "s3cr3t%/@:+ word"
"""The password of the tests' role: signs that mean something in a URL."""


def _programs() -> Path:
    """Folder of initdb and postgres: Debian puts them beside no PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    on_path = shutil.which("initdb")
    if not found and on_path is None:
        raise FileNotFoundError("no initdb: apt-get install postgresql")
    return (found[-1] if found else Path(str(on_path)).resolve()).parent


def _user() -> dict[str, Any]:
    """Arguments of subprocess for a user who may run a server: the superuser may not."""
    if os.geteuid() != 0:
        return {}
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    chosen = names.get("postgres") or names["nobody"]
    return {"user": chosen.pw_uid, "group": chosen.pw_gid, "extra_groups": []}


@dataclass(slots=True)
class Cluster:
    """A running cluster; its socket lies in its own folder, and it listens nowhere else."""

    folder: Path
    programs: Path
    as_user: dict[str, Any]
    server: subprocess.Popen[bytes] | None = None
    _numbers: Iterator[int] = field(default_factory=count)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = [word for setting in _SETTINGS for word in ("-c", setting)]
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder), *options]
        with (self.folder / "log").open("ab") as log:
            self.server = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder, **self.as_user)
        ready = [str(self.programs / "pg_isready"), "-q", "-h", str(self.folder), "-t", "120"]
        while subprocess.run(ready, check=False).returncode != 0:
            if self.server.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text(encoding="utf-8", errors="replace")[-2000:])

    def stop(self) -> None:
        """End it at once, as a machine that fails would; every client loses its connection."""
        if self.server is not None:
            self.server.send_signal(signal.SIGQUIT)
            self.server.wait(120)
            self.server = None

    def url(self, database: str, role: str = "harness", password: str = PASSWORD) -> str:
        """URL of a database, as HARNESS_STATE has it."""
        return f"postgresql+psycopg://{role}:{quote(password, safe='')}@/{database}?host={quote(str(self.folder))}"

    def new_database(self) -> str:
        """URL of an empty database."""
        name = f"store_{next(self._numbers)}"
        with self.connected() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} OWNER harness")
        return self.url(name)

    @contextmanager
    def connected(self, database: str = "postgres") -> Iterator[sa.Connection]:
        """A connection of the cluster's superuser, outside of any transaction."""
        where = sa.make_url(self.url(database, role="postgres"))
        engine = sa.create_engine(where, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
        with engine.connect() as connection:
            yield connection


@contextmanager
def cluster() -> Iterator[Cluster]:
    """A cluster that is gone when the block ends."""
    folder, as_user, programs = Path(tempfile.mkdtemp(prefix="gsh-pg-")), _user(), _programs()
    made = Cluster(folder, programs, as_user)
    try:
        secret = folder / "password"
        secret.write_text(PASSWORD, encoding="utf-8")
        if as_user:
            for path in (folder, secret):
                os.chown(path, as_user["user"], as_user["group"])
        begin = [programs / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "scram-sha-256", "--no-sync"]
        options = ["--pwfile", secret, "-E", "UTF8", "--locale=C"]
        subprocess.run(
            list(map(str, [*begin, *options])), check=True, capture_output=True, cwd=folder, timeout=240, **as_user
        )
        made.start()
        with made.connected() as connection:
            connection.exec_driver_sql(f"CREATE ROLE harness LOGIN PASSWORD '{PASSWORD.replace('%', '%%')}'")
        yield made
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.stop()
        shutil.rmtree(folder, ignore_errors=True)
