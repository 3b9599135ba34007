"""A local HTTP server that says what it was told to say, word for word, and remembers what it was asked."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. ``then`` may break the connection: close it before, or in the middle of, the answer; or be silent.

    ``trickle`` says it byte by byte, the head too, with a pause that no timeout between two bytes notices.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    then: Literal["end", "drop", "cut", "hang", "trickle"] = "end"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Any


Answer = Said | Callable[[Asked], Said]

DROP = Said(then="drop")
HANG = Said(then="hang")
TRICKLE_S = 0.1
"""Pause between two bytes of a trickle."""


def reply(value: object, status: int = 200, **headers: str) -> Said:
    """A JSON answer; header names take ``_`` for ``-``."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Said(status, json.dumps(value).encode(), {"Content-Type": "application/json", **named})


class Script:
    """What to answer by route (``GET /path``, slashes at the end ignored): in turn, the last one again and again."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._answers: dict[str, list[Answer]] = {}
        self._lock = threading.Lock()

    def on(self, route: str, *answers: Answer) -> None:
        """Answer a route so from now on."""
        with self._lock:
            self._answers[route.rstrip("/")] = list(answers)

    def requests(self, route: str) -> list[Asked]:
        """What a route was asked."""
        return [asked for asked in self.asked if f"{asked.method} {asked.path}" == route.rstrip("/")]

    def answer(self, asked: Asked) -> Said:
        """The next answer of the route."""
        with self._lock:
            self.asked.append(asked)
            answers = self._answers.get(f"{asked.method} {asked.path}", [])
            if not answers:
                return reply({"success": False, "error": "unscripted", "msg": f"{asked.method} {asked.path}"}, 501)
            chosen = answers.pop(0) if len(answers) > 1 else answers[0]
        return chosen if isinstance(chosen, Said) else chosen(asked)


@contextlib.contextmanager
def serving() -> Iterator[Script]:
    """A server on a loopback port while the block runs."""
    script = Script()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(script))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    script.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread.start()
    try:
        yield script
    finally:
        script.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def _trickle(said: Said, write: Callable[[bytes], object], closing: threading.Event) -> None:
    head = f"HTTP/1.1 {said.status} OK\r\nContent-Length: {len(said.body)}\r\n\r\n".encode()
    with contextlib.suppress(OSError):  # who asked has gone
        for byte in head + said.body:
            write(bytes([byte]))
            if closing.wait(TRICKLE_S):
                return


def _handler(script: Script) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.close_connection = True
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                return
            length = int(self.headers.get("Content-Length", "0"))
            content = self.rfile.read(length)
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            asked = Asked(
                self.command,
                parts.path.rstrip("/"),
                query,
                dict(self.headers.items()),
                json.loads(content) if content else None,
            )
            self._say(script.answer(asked))

        def _say(self, said: Said) -> None:
            if said.then == "hang":
                script.closing.wait()
            if said.then in {"hang", "drop"}:
                return
            if said.then == "trickle":
                _trickle(said, self.wfile.write, script.closing)
                return
            (self.send_response_only if "Date" in said.headers else self.send_response)(said.status)
            for name, text in said.headers.items():
                self.send_header(name, text)
            self.send_header("Content-Length", str(len(said.body)))
            self.end_headers()
            self.wfile.write(said.body[: len(said.body) // 2] if said.then == "cut" else said.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    return Handler
