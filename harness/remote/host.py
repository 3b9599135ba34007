"""One rented box: asks, runs, fetches and sends over SSH; what the harness calls a Host."""

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
from harness.core.ports import Clock, Json, OnProgress, RemoteFile, RunResult
from harness.core.questions import Answers, Question
from harness.remote.probe import probe, program
from harness.remote.ssh.command import exchange
from harness.remote.ssh.connection import Connection, Dialer, Login
from harness.remote.transfer import download, mirror, openssh, upload
from harness.remote.transfer.attempt import NO_LIMITS, Limits, Line, RemoteDigests
from harness.remote.transfer.openssh import OpensshStream
from harness.remote.transfer.streams import ParamikoPipe, Pipe, PipeStream, Stream

PARAMIKO = "paramiko"
SSH = "ssh"
SHARED = "shared"
"""The connection for questions, for files too small to deserve one of their own."""

SMALL = 4 << 20
NEAR_S = 0.02
FAR_CONNECTIONS = 8
"""Far away the line caps each connection, and as many logins as this are still let in at once (MaxStartups)."""

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
        limits: Limits = NO_LIMITS,
    ) -> None:
        self._dialer = Dialer(login, clock, whereabouts)
        self._clock = clock
        self._patience = patience
        self._limits = limits
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._spare: Connection | None = None

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0, limit: int = 1 << 20) -> RunResult:
        """Run one command; see ``ports.Host.run``. A command that was sent is never sent again."""
        connection, channel = self._channel()
        return exchange(connection, channel, shlex.join(argv), self._clock, stdin=stdin, timeout=timeout, limit=limit)

    def probe(self, questions: Sequence[Question[Any]], *, timeout: float = 120.0) -> Answers:
        """Ask all questions in one round trip; raises HostUnreachable when the box cannot be asked at all."""
        return probe.ask(self._look, questions, timeout)

    def fetch(self, remote: RemoteFile, destination: Path, on_progress: OnProgress | None = None) -> None:
        """Bring one file home; see ``ports.Host.fetch``."""
        download.fetch(remote, destination, self, self._clock, on_progress=on_progress, limits=self._limits)

    def mirror(
        self, files: Mapping[str, str], destination: Path, cancelled: Callable[[], bool] = lambda: False
    ) -> None:
        """Bring files home as one directory, behind the box's other work; see ``ports.Host.mirror``."""
        gentle, limits = _Gentle(self), dataclasses.replace(self._limits, connections=1)

        def fetch(remote: RemoteFile, file: Path) -> None:
            download.fetch(remote, file, gentle, self._clock, limits=limits, cancelled=cancelled)

        mirror.mirror(lambda asked: self.probe(asked, timeout=600.0), fetch, files, destination, cancelled)

    def send(
        self,
        source: Path,
        remote_dir: str,
        files: Mapping[str, Sha256],
        on_progress: OnProgress | None = None,
        *,
        elsewhere: Mapping[str, Path] | None = None,
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
            clock=self._clock,
            patience=self._limits.patience,
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
            for connection in (self._connection, self._spare):
                if connection is not None:
                    connection.close()
            self._connection = self._spare = None

    # --- where downloads come from: transfer.Source ---

    def line(self, size: int) -> Line:
        """Nearby one, over ssh, for the processor is the limit; far away many with big windows, which ssh lacks."""
        if size <= SMALL:
            return Line(1, SHARED)
        if not self._near():
            return Line(FAR_CONNECTIONS, PARAMIKO)
        return Line(1, PARAMIKO, alone=SSH if openssh.installed() is not None else None)

    def _near(self) -> bool:
        """Whether an answer comes at once; the first on a new connection waits for the server's own beginnings."""
        connection = self._any()
        return any(connection.round_trip(self._clock) < NEAR_S for _ in range(2))

    def open(self, remote: RemoteFile, part: Path, carrier: str, give_up: Callable[[], bool]) -> Stream:
        """A stream of a file's ranges, on a connection of its own unless the file is small."""
        return self.stream(remote, part, carrier, give_up, nice=0)

    def stream(self, remote: RemoteFile, part: Path, carrier: str, give_up: Callable[[], bool], *, nice: int) -> Stream:
        """A stream of a file's ranges, as far behind the box's other work as nice(1) says."""
        request: dict[str, Json] = {"path": remote.path, "nice": nice, "chunk": 0, "aside": ""}
        if carrier == SSH:
            mark = f"{new_nonce()} "
            argv, begin = program.streamed(program.RANGES, {**request, "aside": mark})
            return OpensshStream(self._dialer.login, shlex.join(argv), begin, mark=mark, remote=remote, part=part)
        shared = carrier == SHARED
        connection = self._live() if shared else self._new(give_up)
        return PipeStream(_begun(connection, program.RANGES, request, shared=shared), remote, part)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        """The digests of the file and its chunks on the box now."""
        mark = new_nonce()
        request: dict[str, Json] = {"path": remote.path, "nice": 0, "chunk": chunk, "aside": ""}
        argv, begin = program.streamed(program.RANGES, request, mark)
        ran = self.run(argv, stdin=begin, timeout=120.0 + 2 * remote.size / DIGEST_BYTES_PER_S, limit=64 << 20)
        try:
            answer = json.loads(ran.stdout.rpartition(f"\n{mark}\n".encode())[2])
            return RemoteDigests(sha256(answer["whole"]), tuple(map(sha256, answer["chunks"])))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            said = ran.stdout[:300].decode("utf-8", "replace")
            raise TransferFailed(f"the box does not tell the digests of {remote.path}: {said!r}") from error

    # ---

    def _receiver(self, request: Mapping[str, Json]) -> Pipe:
        """The program that takes an upload."""
        return _begun(self._new(lambda: False), program.RECEIVE, request, silence=self._limits.patience)

    def _look(self, argv: Sequence[str], stdin: bytes, timeout: float, limit: int) -> RunResult:
        connection, channel = self._channel()
        return exchange(
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
        connection = self._live()
        try:
            return connection, connection.session()
        except HostUnreachable:
            connection.close()
            connection = self._live()
            return connection, connection.session()

    def _live(self) -> Connection:
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

    def _any(self) -> Connection:
        """The connection for questions, or a new one that is nobody's yet: the first who needs one takes it."""
        with self._lock:
            if self._connection is not None and self._connection.alive():
                return self._connection
            if self._spare is None or not self._spare.alive():
                self._spare = self._dialer.connect_patiently(self._limits.patience)
            return self._spare

    def _new(self, give_up: Callable[[], bool]) -> Connection:
        """A connection for one command, to be closed with it."""
        with self._lock:
            taken, self._spare = self._spare, None
        if taken is not None and taken.alive():
            return taken
        return self._dialer.connect_patiently(self._limits.patience, give_up)


def _begun(
    connection: Connection,
    modules: tuple[str, ...],
    request: Mapping[str, Json],
    *,
    shared: bool = False,
    silence: float | None = None,
) -> Pipe:
    """A program on the box that reads on, told to begin."""
    mark = new_nonce()
    argv, begin = program.streamed(modules, request, mark)
    pipe = ParamikoPipe(connection, shlex.join(argv), mark=mark, shared=shared, silence=silence)
    try:
        pipe.write(begin)
    except BaseException:
        pipe.close()
        raise
    return pipe


class _Gentle:
    """The same box as a source that takes one connection and waits behind the training."""

    def __init__(self, host: SshHost) -> None:
        self._host = host

    def line(self, size: int) -> Line:
        """One connection, whatever the distance."""
        return Line(1, self._host.line(size).carrier)

    def open(self, remote: RemoteFile, part: Path, carrier: str, give_up: Callable[[], bool]) -> Stream:
        """A stream behind the box's other work."""
        return self._host.stream(remote, part, carrier, give_up, nice=19)

    def digests(self, remote: RemoteFile, chunk: int) -> RemoteDigests:
        """The digests on the box now."""
        return self._host.digests(remote, chunk)
