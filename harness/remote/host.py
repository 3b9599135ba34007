"""One rented box over SSH: asks, runs, fetches and sends (``ports.Host``)."""

from __future__ import annotations

import dataclasses
import json
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramiko import Channel

from harness.core.errors import HostUnreachable, TransferFailed
from harness.core.ids import Sha256, new_nonce, sha256
from harness.core.ports import Clock, Endpoint, Json, OnProgress, RemoteFile, RunResult
from harness.core.questions import Answers, Question
from harness.remote.probe import probe, program
from harness.remote.ssh.command import run_command
from harness.remote.ssh.connection import Connection, Dialer, Login
from harness.remote.ssh.pipe import CommandPipe
from harness.remote.transfer import download, mirror, upload
from harness.remote.transfer.attempt import DEFAULT_LIMITS, RemoteDigests, TransferLimits
from harness.remote.transfer.streams import RangeStream

SMALL = 4 << 20
"""Bytes of a file that comes over the connection for questions: it does not deserve one of its own."""

NEAR_S = 0.02
"""Round trip, seconds. Nearer, the processors are the limit; farther, the network caps each connection."""

FAR_CONNECTIONS = 8
"""As many logins at once as sshd still lets in (MaxStartups)."""

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
        limits: TransferLimits = DEFAULT_LIMITS,
    ) -> None:
        self._dialer = Dialer(login, clock, whereabouts)
        self._clock = clock
        self._patience = patience
        self._limits = limits
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._spare: Connection | None = None

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        timeout: float = 60.0,
        limit: int = 1 << 20,
        heard: Callable[[bytes], None] | None = None,
    ) -> RunResult:
        """Run one command; see ``ports.Host.run``. A command that was sent is never sent again."""
        connection, channel = self._channel()
        return run_command(
            connection, channel, shlex.join(argv), self._clock, stdin=stdin, timeout=timeout, limit=limit, heard=heard
        )

    def probe(self, questions: Sequence[Question[Any]], *, timeout: float = 120.0) -> Answers:
        """Ask all questions in one round trip; raises HostUnreachable when the box cannot be asked at all."""
        return probe.ask(self._look, questions, timeout)

    def fetch(self, remote: RemoteFile, destination: Path, on_progress: OnProgress | None = None) -> None:
        """Bring one file home; see ``ports.Host.fetch``."""
        download.fetch(remote, destination, self, self._clock, on_progress=on_progress, limits=self._limits)

    def mirror(
        self, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Bring files home as one directory, at low priority; see ``ports.Host.mirror``."""
        background, limits = _Background(self), dataclasses.replace(self._limits, connections=1)

        def fetch(remote: RemoteFile, file: Path) -> None:
            download.fetch(remote, file, background, self._clock, limits=limits, cancelled=cancelled)

        mirror.mirror(lambda asked: self.probe(asked, timeout=600.0), fetch, files, destination, cancelled)

    def send(
        self,
        source: Path,
        remote_dir: str,
        files: Mapping[str, Sha256],
        on_progress: OnProgress | None = None,
        *,
        elsewhere: Mapping[str, Path] | None = None,
        written: Sequence[str] = (),
    ) -> None:
        """Make a directory on the box hold exactly these files; see ``ports.Host.send``."""
        local = {path: source.joinpath(path) for path in files} | dict(elsewhere or {})
        size = sum(path.stat().st_size for path in local.values() if path.exists())
        upload.send(
            source,
            remote_dir,
            files,
            elsewhere=elsewhere or {},
            connect=self._receiver,
            probe=lambda question: self.probe([question], timeout=120.0 + size / DIGEST_BYTES_PER_S),
            on_progress=on_progress,
            written=written,
        )

    def host_key(self) -> str:
        """Public key line that the box shows on a new connection, after it was accepted. Raises HostKeyChanged."""
        return self._new_connection().host_key

    def route(self) -> Endpoint:
        """The address at which the box answers a new connection, and lets us in. Raises HostUnreachable."""
        return self._new_connection().endpoint

    def _new_connection(self) -> Connection:
        connection = self._dialer.connect_patiently(self._patience)
        connection.close()
        return connection

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            for connection in (self._connection, self._spare):
                if connection is not None:
                    connection.close()
            self._connection = self._spare = None

    # --- transfer.Source ---

    def connections(self, size: int) -> int:
        """Connections to begin with: one for a small file or a near box, several for a far one."""
        return 1 if size <= SMALL or self._near() else FAR_CONNECTIONS

    def _near(self) -> bool:
        """True when the round trip is short; the first answer on a new connection waits for the server to be ready."""
        connection = self._any_connection()
        return any(connection.round_trip(self._clock) < NEAR_S for _ in range(2))

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool], *, nice: int = 0) -> RangeStream:
        """A stream of a file's ranges, at the priority of nice(1), on its own connection unless the file is small."""
        shared = remote.size <= SMALL
        connection = self._shared_connection() if shared else self._own_connection(give_up)
        request: dict[str, Json] = {"path": remote.path, "nice": nice, "chunk": 0}
        return RangeStream(_start(connection, program.RANGES, request, shared=shared), remote, part)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        """Digests of the file and its chunks on the box now. Raises TransferFailed, HostUnreachable."""
        mark = new_nonce()
        request: dict[str, Json] = {"path": remote.path, "nice": 0, "chunk": chunk}
        argv, begin = program.streamed(program.RANGES, request, mark)
        ran = self.run(argv, stdin=begin, timeout=120.0 + 2 * remote.size / DIGEST_BYTES_PER_S, limit=64 << 20)
        try:
            answer = json.loads(ran.stdout.rpartition(f"\n{mark}\n".encode())[2])
            return RemoteDigests(sha256(answer["whole"]), tuple(map(sha256, answer["chunks"])))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            said = ran.stdout[:300].decode("utf-8", "replace")
            raise TransferFailed(f"the box does not tell the digests of {remote.path}: {said!r}") from error

    # ---

    def _receiver(self, request: Mapping[str, Json]) -> CommandPipe:
        """Start the program that takes an upload."""
        return _start(self._own_connection(lambda: False), program.RECEIVE, request, silence=self._limits.patience)

    def _look(self, argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> RunResult:
        connection, channel = self._channel()
        return run_command(
            connection,
            channel,
            shlex.join(argv),
            self._clock,
            stdin=stdin,
            timeout=timeout,
            limit=limit,
            stop_at_limit=True,
        )

    def _channel(self) -> tuple[Connection, Channel]:
        """A channel for one command; a connection that turns out to be dead is replaced, for nothing was asked yet."""
        connection = self._shared_connection()
        try:
            return connection, connection.session()
        except HostUnreachable:
            connection.close()
            connection = self._shared_connection()
            return connection, connection.session()

    def _shared_connection(self) -> Connection:
        """The connection for questions, made when there is none or the last one died."""
        with self._lock:
            if self._connection is not None and self._connection.alive():
                return self._connection
            if self._connection is not None:
                self._connection.close()
            self._connection, self._spare = self._spare, None
            if self._connection is None or not self._connection.alive():
                self._connection = self._dialer.connect_patiently(self._patience)
            return self._connection

    def _any_connection(self) -> Connection:
        """The connection for questions, or a new one that is nobody's yet: the first who needs one takes it."""
        with self._lock:
            if self._connection is not None and self._connection.alive():
                return self._connection
            if self._spare is None or not self._spare.alive():
                self._spare = self._dialer.connect_patiently(self._limits.patience)
            return self._spare

    def _own_connection(self, give_up: Callable[[], bool]) -> Connection:
        """A connection for one command, to be closed with it."""
        with self._lock:
            taken, self._spare = self._spare, None
        if taken is not None and taken.alive():
            return taken
        return self._dialer.connect_patiently(self._limits.patience, give_up)


def _start(
    connection: Connection,
    modules: tuple[str, ...],
    request: Mapping[str, Json],
    *,
    shared: bool = False,
    silence: float | None = None,
) -> CommandPipe:
    """Start a program on the box that goes on reading its standard input."""
    mark = new_nonce()
    argv, begin = program.streamed(modules, request, mark)
    pipe = CommandPipe(connection, shlex.join(argv), mark=mark, shared=shared, silence=silence)
    try:
        pipe.write(begin)
    except BaseException:
        pipe.close()
        raise
    return pipe


class _Background:
    """The same box as a source that uses one connection, at low priority beside the training."""

    def __init__(self, host: SshHost) -> None:
        self._host = host

    def connections(self, size: int) -> int:
        """One, whatever the size and the distance."""
        del size
        return 1

    def open(self, remote: RemoteFile, part: Path, give_up: Callable[[], bool]) -> RangeStream:
        """A stream at low priority."""
        return self._host.open(remote, part, give_up, nice=19)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        """Digests on the box now."""
        return self._host.digests(remote, chunk)
