"""One HTTP call to a provider, through a client of its own: paced, ended in time, retried only where that is safe.

A client sends a request once: reads are tried again here, on the harness's own clock. No status but the one
expected, and no body but a JSON object, ever counts as an answer.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from harness.core.canonical import Json
from harness.core.errors import NoAnswer, ProviderUnavailable
from harness.core.network import cause
from harness.core.ports import Clock
from harness.core.text import printable
from harness.providers.deadline import within
from harness.providers.rate_limits import Lane, Pace, Patience

MAX_REPLY_BYTES = 32 << 20
_TEXT_LIMIT = 200
_RETRIED = frozenset({429, 500, 502, 503, 504})


class Access(Protocol):
    """An address and the key that opens it; ``source`` says where the key was found.

    ``key_check`` is the command or page with which a person checks the key.
    """

    @property
    def server_url(self) -> str:
        """Address of the service."""

    @property
    def api_key(self) -> str:
        """The key, which no message shows."""

    @property
    def source(self) -> str:
        """Where the key was found; empty when that is not known."""

    @property
    def key_check(self) -> str:
        """How a person checks the key."""

    def client(self) -> Any:
        """Its methods get, put, post and delete take a path, ``query_args``, ``json_data`` and ``timeout``.

        They send one request and answer as ``requests`` does. Raises MissingExtra.
        """


@dataclass(frozen=True, slots=True)
class Call:
    """One request; ``reply_s`` is how long to wait for its reply where the usual time is too short."""

    lane: Lane
    method: Literal["get", "put", "post", "delete"]
    path: str
    query: Mapping[str, Json] | None = None
    body: Mapping[str, Json] | None = None
    reply_s: float | None = None

    def __str__(self) -> str:
        return f"{self.method.upper()} {self.path}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: the HTTP status and the JSON object of the body; None when the body is not one.

    ``shown`` is what of the body may be shown: bounded, printable, without secrets. ``at`` is the server's own time,
    seconds since the epoch. ``remedy`` is that of a refused key.
    """

    call: Call
    status: int
    body: dict[str, Any] | None
    shown: str
    at: float | None = None
    remedy: str = ""

    def ok(self) -> dict[str, Any]:
        """The body of a 200 that does not itself say failure; raises ProviderUnavailable on anything else."""
        if self.status != 200 or self.body is None or self.body.get("success", True) is not True:
            raise self.unexpected()
        return self.body

    def done(self) -> dict[str, Any]:
        """The body of a 200 that says ``"success": true``; raises ProviderUnavailable on anything else."""
        body = self.ok()
        if body.get("success") is not True:
            raise self.unexpected()
        return body

    def refuses(self, *errors: str) -> bool:
        """True when the provider's own error (its ``error``, or a word of its ``msg``) is one of these.

        An authentication error is never one of them, whatever its status.
        """
        if self.body is None or self.body.get("success") is True or self.body.get("error") == "auth_error":
            return False
        words = [self.body.get("error"), *str(self.body.get("msg", ""))[:_TEXT_LIMIT].replace(":", " ").split()]
        return any(error in words for error in errors)

    def unexpected(self) -> ProviderUnavailable:
        """The error that says what came back instead of an answer."""
        denied = self.status in {401, 403} or (self.body is not None and self.body.get("error") == "auth_error")
        kind = NoAnswer if self.status in _RETRIED else ProviderUnavailable
        told = f"{self.call} answered {self.status} {self.shown}".rstrip()
        return kind(told, remedy=self.remedy if denied else None)


class Wire:
    """Calls to one server with one key. Safe for several threads."""

    def __init__(self, credentials: Access, clock: Clock, pace: Pace, patience: Patience) -> None:
        self._key = credentials.api_key
        self._server = urlsplit(credentials.server_url).netloc
        found = f"; the key in use is from {credentials.source}" if credentials.source else ""
        self._remedy = f"Check the API key ({credentials.key_check}{found}), then run the same command again."
        self._clock = clock
        self._pace = pace
        self._patience = patience
        self._client = credentials.client()
        self._next: dict[Lane, float] = {}
        self._lock = threading.Lock()

    def read(self, call: Call) -> Reply:
        """A call that changes nothing: tried again when it is lost, limited or fails at the server.

        Raises ProviderUnavailable when no try got a reply.
        """
        wait = self._patience.first_wait_s
        for _ in range(self._patience.tries - 1):
            asked_wait = None
            with contextlib.suppress(ProviderUnavailable):
                reply, asked_wait = self._send(call)
                if not self._worth_another_try(reply, asked_wait):
                    return reply
            self._clock.sleep(max(wait, asked_wait or 0.0))
            wait *= 2
        return self._send(call)[0]

    def once(self, call: Call) -> Reply:
        """A call that changes something: sent once. Raises ProviderUnavailable when its reply was lost."""
        return self._send(call)[0]

    def _worth_another_try(self, reply: Reply, asked_wait: float | None) -> bool:
        too_long = asked_wait is not None and asked_wait > self._patience.longest_wait_s
        return reply.status in _RETRIED and not too_long and not reply.refuses("search_quota_exceeded")

    def _send(self, call: Call) -> tuple[Reply, float | None]:
        """The reply, and the seconds that it asks to wait before the next try."""
        from requests import RequestException  # noqa: PLC0415 - comes with the client
        from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with the client

        connect_s, reply_s = self._patience.connect_s, call.reply_s or self._patience.reply_s
        method = getattr(self._client, call.method)
        ask = partial(method, call.path, query_args=dict(call.query or {}), json_data=call.body)
        self._wait_for_turn(call.lane)
        try:
            response = within(connect_s + reply_s, lambda: ask(timeout=(connect_s, reply_s)))
        except (RequestException, HTTPError, OSError) as error:
            raise NoAnswer(f"{call} got no reply from {self._server}: {self._safe(cause(error))}") from error
        finally:
            self._keep_distance(call.lane)
        return self._reply(call, response), _asked_wait(response.headers)

    def _wait_for_turn(self, lane: Lane) -> None:
        with self._lock:
            now = self._clock.monotonic()
            turn = max(now, self._next.get(lane, now))
            self._next[lane] = turn + self._pace.interval(lane)
        if turn > now:
            self._clock.sleep(turn - now)

    def _keep_distance(self, lane: Lane) -> None:
        """The provider counts from when a call arrived, which may be as late as its reply."""
        with self._lock:
            self._next[lane] = max(self._next[lane], self._clock.monotonic() + self._pace.interval(lane))

    def _reply(self, call: Call, response: Any) -> Reply:
        if len(response.content) > MAX_REPLY_BYTES:
            raise ProviderUnavailable(
                f"{call} answered {len(response.content)} bytes; at most {MAX_REPLY_BYTES} are read"
            )
        try:
            body = response.json()
        except (ValueError, RecursionError):
            body, shown = None, _text(response.content) or "with an empty body"
        else:
            shown = f"with a JSON {type(body).__name__} instead of an object"
        told = (_date(response.headers), self._remedy)
        if not isinstance(body, dict):
            return Reply(call, response.status_code, None, self._safe(shown), *told)
        said = " ".join(str(body[key]) for key in ("error", "msg", "detail") if isinstance(body.get(key), str))
        shown = said or f"with the fields {sorted(body)[:12]}"  # values may be secrets: an instance's own API key
        return Reply(call, response.status_code, body, self._safe(shown), *told)

    def _safe(self, text: str) -> str:
        """One line: a provider's line feed makes no line of ours."""
        return printable(" ".join(text.replace(self._key, "(the API key)").split()), _TEXT_LIMIT)


def _asked_wait(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header; a date in it is not read."""
    try:
        return max(0.0, float(headers["Retry-After"]))
    except (KeyError, ValueError):
        return None


def _date(headers: Mapping[str, str]) -> float | None:
    """The server's time by the Date header of its reply (RFC 9110, 6.6.1)."""
    try:
        return parsedate_to_datetime(headers["Date"]).timestamp()
    except (KeyError, ValueError, OverflowError):
        return None


def _text(content: bytes) -> str:
    return content[: 4 * _TEXT_LIMIT].decode("utf-8", errors="replace")
