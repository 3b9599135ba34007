"""HTTP of ``harness serve``, for browsers of this machine alone: it shows pages, and takes nothing.

It listens on the loopback address. What a page of another site makes a browser ask for is refused: by the name that it
was asked under, which DNS can bend and a page cannot (DNS rebinding), and by the browser's own word on who asks.
"""

from __future__ import annotations

import ipaddress
import os
import socketserver
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from harness.cli.live_pages import LIST, Page, Pages, failure_page
from harness.core.errors import BadInput, HarnessError
from harness.core.ids import JobName
from harness.report import html

HOST: Final = "127.0.0.1"
_JOB: Final = "/job/"
_EVENTS: Final = "/events"
_POLL_S: Final = 1.0
_BEAT_S: Final = 15.0
"""Seconds after which a stream says its revision again: a browser knows by it that it is not talking to nobody."""
_STREAMS: Final = 64
_IDLE_S: Final = 60.0
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Server(ThreadingHTTPServer):
    """The server, bound when it is made; raises BadInput when its port cannot be had."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = os.name != "nt"  # there it would let two servers have one port

    def __init__(self, port: int, pages: Pages) -> None:
        self.pages = pages
        self.ended = threading.Event()
        self.places = threading.BoundedSemaphore(_STREAMS)
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise BadInput(
                f"port {port} of {HOST} cannot be had: {error.strerror or error}",
                remedy="harness serve --port 0 takes a free one; or end what listens there.",
            ) from error

    def server_bind(self) -> None:
        """Bind without asking DNS for this machine's name."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.server_address[1]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away in mid-answer is no news; anything else is told."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    @property
    def address(self) -> str:
        """Address of the list of jobs."""
        return f"http://{HOST}:{self.server_port}/"

    def server_close(self) -> None:
        """Close, and let every stream end."""
        self.ended.set()
        super().server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    server_version = "harness"
    sys_version = ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        """A page, or the stream of its revisions."""
        if "Content-Length" in self.headers or "Transfer-Encoding" in self.headers:
            self.close_connection = True  # nothing is read from a body, so nothing after it can be told apart
        told = _refused(
            self.headers.get_all("Host", []), self.headers.get("Sec-Fetch-Site"), self.headers.get("Sec-Fetch-Mode")
        )
        if told is not None:
            self._say(403, "Refused", told)
            return
        path = urlsplit(self.path).path
        streams = path.endswith(_EVENTS)
        name = _job_at(path.removesuffix(_EVENTS) or "/" if streams else path)
        if name is None:
            self._say(404, "No such page", f"there is no {path:.200}")
        elif streams:
            self._stream(name)
        else:
            self._send(self.server.pages.page(name))

    do_HEAD = do_GET  # noqa: N815 - http.server's own name

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer in this server's own words; another method than GET and HEAD is not allowed."""
        del explain
        self.close_connection = True
        self._say(405 if code == 501 else code, "Refused", message or "the request is not understood")

    def log_message(self, *_: Any) -> None:
        """The terminal is for people."""

    def _say(self, status: int, title: str, words: str) -> None:
        remedy = f"{self.server.address} lists the jobs."
        self._send(Page(status, failure_page(title, words, remedy), "", 0.0, 0.0))

    def _send(self, page: Page) -> None:
        body = page.text.encode("utf-8", "replace")
        self._begin(page.status, "text/html; charset=utf-8", page.revision)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _begin(self, status: int, kind: str, revision: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Security-Policy", f"{html.policy(revision)}; frame-ancestors 'none'")
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        if status == 405:
            self.send_header("Allow", "GET, HEAD")
        if self.close_connection:
            self.send_header("Connection", "close")

    def _stream(self, name: JobName) -> None:
        """Say a page's revision at once, whenever it is another one, and now and then, until the browser goes."""
        self.close_connection = True
        if not self.server.places.acquire(blocking=False):
            self._say(503, "Too many", f"{_STREAMS} pages are open; close some")
            return
        try:
            self._begin(200, "text/event-stream")
            self.end_headers()
            if self.command != "HEAD":
                self._tell(name)
        finally:
            self.server.places.release()

    def _tell(self, name: JobName) -> None:
        pages, said, at = self.server.pages, "", 0.0
        while True:
            try:
                revision = pages.revision(name) or "gone"
            except HarnessError:  # the page itself says why
                revision = "unreadable"
            now = pages.clock.monotonic()
            if revision != said or now - at >= _BEAT_S:
                said, at = revision, now
                self.wfile.write(f"data: {revision}\n\n".encode())
            if self.server.ended.wait(_POLL_S):
                return


def _job_at(path: str) -> JobName | None:
    """The job whose page has this path; the empty name for the list, None for a path that no page has."""
    if path == "/":
        return LIST
    name = unquote(path.removeprefix(_JOB))
    return JobName(name) if path.startswith(_JOB) and name and "/" not in name else None


def _refused(hosts: list[str], site: str | None, mode: str | None) -> str | None:
    """Reason why a request is not answered; None when a person on this machine may have made it.

    The port is not compared: one that is forwarded (``ssh -L``) has another at its other end.
    """
    if len(hosts) != 1 or not _is_this_machine(hosts[0]):
        return f"it was asked for under another name than {HOST} or localhost"
    if site in {"cross-site", "same-site"} and mode != "navigate":
        return "a page of another site asked for it"
    return None


def _is_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
