"""``harness serve`` as it runs: a home with jobs, and the server over it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.cli.live_pages import Pages
from harness.cli.live_server import HOST, Server
from harness.core.clock import SystemClock
from harness.core.ids import JobName
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from harness.wiring import open_ledger
from tests.support.job_histories import Log, events_of


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    text: str


@dataclass(frozen=True, slots=True)
class Serving:
    """A server at work, and the log that it shows."""

    home: Path
    server: Server

    def append(self, job: str, *events: JobEvent) -> None:
        """More events of a job."""
        store = open_store(self.home / "state.db", SystemClock())
        for event in events:
            store.append(JobName(job), event)

    def write(self, log: Log) -> None:
        """A whole log."""
        self.append(log.job.name, *events_of(log.records))

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """One request; underscores in a header's name are hyphens."""
        connection = http.client.HTTPConnection(HOST, self.server.server_port, timeout=120)
        try:
            told = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body=body, headers=told)
            answer = connection.getresponse()
            text = answer.read().decode()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, text)
        finally:
            connection.close()


@contextmanager
def serving(home: Path, port: int = 0) -> Iterator[Serving]:
    """A server over a home, in a thread."""
    with open_ledger(home) as ledger, Server(port, Pages(ledger, SystemClock())) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield Serving(home, server)
        finally:
            server.shutdown()
            thread.join()
