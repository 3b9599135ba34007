"""One rented box: asks, runs, fetches and sends over SSH; what the harness calls a Host."""

from __future__ import annotations

import json
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from harness.errors import RemoteChanged, TransferFailed
from harness.ids import Sha256, sha256
from harness.ports import Answers, Clock, Json, OnProgress, Question, RemoteFile, RunResult
from harness.remote import download, probe, program, upload
from harness.remote.ssh import Connection, Dialer, Login, exchange
from harness.remote.streams import ParamikoPipe, RangeStream

PATIENCE_S = 60.0
"""How long one question waits for a box that does not answer before it is given up."""

DIGEST_BYTES_PER_S = 50e6
"""The slowest disk that a digest is waited for."""


class SshHost:
    """A box behind a login. Safe to use from several threads; a dropped connection is made again when next needed.

    ``whereabouts`` tells the login anew, for a box that came back on another port. ``patience`` is in seconds.
    """

    def __init__(
        self,
        login: Login,
        clock: Clock,
        *,
        whereabouts: Callable[[], Login] | None = None,
        patience: float = PATIENCE_S,
        limits: download.Limits = download.NO_LIMITS,
    ) -> None:
        self._dialer = Dialer(login, clock, whereabouts)
        self._clock = clock
        self._patience = patience
        self._limits = limits
        self._lock = threading.Lock()
        self._connection: Connection | None = None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, limit: int = 1 << 20) -> RunResult:
        """Run one command; see ``ports.Host.run``. A command that was sent is never sent again."""
        return exchange(self._live(), shlex.join(argv), self._clock, stdin=stdin, timeout=timeout, limit=limit)

    def probe(self, questions: Sequence[Question], *, timeout: float = 120.0) -> Answers:
        """Ask all questions in one round trip; raises HostUnreachable when the box cannot be asked at all."""
        return probe.ask(self._look, questions, timeout)

    def fetch(self, remote: RemoteFile, destination: Path, on_progress: OnProgress | None = None) -> None:
        """Bring one file home; see ``ports.Host.fetch``."""
        download.fetch(remote, destination, self, self._clock, on_progress=on_progress, limits=self._limits)

    def send(
        self, source: Path, remote_dir: str, files: Mapping[str, Sha256], on_progress: OnProgress | None = None
    ) -> None:
        """Make a directory on the box hold exactly these files; see ``ports.Host.send``."""
        size = sum(source.joinpath(path).stat().st_size for path in files if source.joinpath(path).exists())
        upload.send(
            source,
            remote_dir,
            files,
            connect=lambda request: self._pipe(program.RECEIVE, request, lambda: False),
            probe=lambda question: self.probe([question], timeout=120.0 + size / DIGEST_BYTES_PER_S),
            clock=self._clock,
            on_progress=on_progress,
        )

    def host_key(self) -> str:
        """The line of the host key that the box shows on a new connection, after it was accepted."""
        connection = self._dialer.connect_patiently(self._patience)
        connection.close()
        return connection.host_key

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    # --- where downloads come from: download.Source ---

    def open(self, path: str, give_up: Callable[[], bool]) -> RangeStream:
        """A stream of a file's ranges on a connection of its own."""
        return RangeStream(self._pipe(program.RANGES, {"path": path, "nice": 0, "chunk": 0}, give_up), path)

    def first(self) -> int:
        """Begin with one connection nearby, with four where a round trip takes long."""
        return 1 if self._live().round_trip < 0.005 else 4

    def digests(self, path: str, size: int, chunk: int) -> download.RemoteDigests:
        """The digests of the file and its chunks on the box now."""
        argv, begin = program.streamed(program.RANGES, {"path": path, "nice": 0, "chunk": chunk})
        ran = self.run(argv, stdin=begin, timeout=120.0 + 2 * size / DIGEST_BYTES_PER_S, limit=64 << 20)
        try:
            answer = json.loads(ran.stdout)
            found = download.RemoteDigests(sha256(answer["whole"]), tuple(map(sha256, answer["chunks"])))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            said = ran.stdout[:300].decode("utf-8", "replace")
            raise TransferFailed(f"the box does not tell the digests of {path}: {said!r}") from error
        if len(found.chunks) != -(-size // chunk):
            raise RemoteChanged(f"{path} on the box no longer has the {size} bytes that were recorded")
        return found

    # ---

    def _pipe(self, modules: tuple[str, ...], request: Mapping[str, Json], give_up: Callable[[], bool]) -> ParamikoPipe:
        """A program that reads on, on a connection of its own."""
        argv, begin = program.streamed(modules, request)
        connection = self._dialer.connect_patiently(self._limits.patience, give_up)
        try:
            pipe = ParamikoPipe(connection, shlex.join(argv))
            pipe.write(begin)
        except BaseException:
            connection.close()
            raise
        return pipe

    def _look(self, argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> RunResult:
        return exchange(
            self._live(), shlex.join(argv), self._clock, stdin=stdin, timeout=timeout, limit=limit, stop_at_limit=True
        )

    def _live(self) -> Connection:
        """The connection for questions, made when there is none or the last one died."""
        with self._lock:
            if self._connection is not None and self._connection.alive():
                return self._connection
            if self._connection is not None:
                self._connection.close()
            self._connection = self._dialer.connect_patiently(self._patience)
            return self._connection
