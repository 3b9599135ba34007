"""The log of a pod's container: a stream of events that begins with what was said, and never ends by itself."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from harness.core.errors import ProviderUnavailable
from harness.core.network import cause
from harness.providers.deadline import within

LIMIT_BYTES = 4 << 20
"""As much of a log is read; it starts with what the start command printed, the host keys among it."""

_QUIET_S = 2.0
"""So long without a byte, what was said before is over: the service marks no end of it (runpodctl waits likewise)."""


def read_log(client: Any, path: str, since: str, *, until: str | None, wait_s: float) -> str:
    """The container's lines since a moment (RFC 3339), up to the first with the text ``until``, where that is given.

    Data of the box, to be made printable before it is shown. Raises ProviderUnavailable when there is no such stream.
    """
    from requests import RequestException  # noqa: PLC0415 - an extra

    lines: list[str] = []
    try:
        within(wait_s, lambda: _read(client, path, since, until, lines))
    except TimeoutError:
        pass  # a log that goes on and on: what came until now
    except (RequestException, OSError) as error:
        if not lines and not _silent(error):
            raise ProviderUnavailable(f"the log of {path} was not read: {cause(error)}") from error
    return "".join(f"{line}\n" for line in tuple(lines))


def _silent(error: Exception) -> bool:
    """True for the silence after the last line, which is no fault."""
    from requests import exceptions  # noqa: PLC0415 - an extra

    broken = isinstance(error, exceptions.ConnectionError) and "timed out" in str(error)
    return broken or isinstance(error, exceptions.ReadTimeout)


def _read(client: Any, path: str, since: str, until: str | None, lines: list[str]) -> None:
    asked = {"source": "container", "since": since}
    with client.stream(path, query_args=asked, timeout=(_QUIET_S * 5, _QUIET_S)) as response:
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        if response.status_code != 200 or kind != "text/event-stream":
            raise ProviderUnavailable(f"GET {path} answered {response.status_code} with {kind or 'nothing'}")
        taken = 0
        for raw in response.iter_lines(64 << 10):
            taken += len(raw)
            lines.extend(_said(raw))
            if taken > LIMIT_BYTES or (until is not None and lines and until in lines[-1]):
                return


def _said(raw: bytes) -> Iterable[str]:
    """The line of an event of the container's; of anything else, nothing."""
    name, _, data = raw.decode("utf-8", errors="replace").partition(":")
    if name != "data":
        return ()
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return ()
    told = isinstance(event, dict) and event.get("source") == "container" and isinstance(event.get("line"), str)
    return (event["line"].rstrip("\r\n"),) if told else ()
