"""Fetching the text that Vast.ai puts at a result URL: not there at first, then there."""

from __future__ import annotations

from harness.core.errors import ProviderUnavailable
from harness.core.network import cause
from harness.core.ports import Clock
from harness.providers.addresses import is_private
from harness.providers.deadline import within

LIMIT_BYTES = 4 << 20
"""As much of a log is read; it starts with what onstart printed, the host keys among it."""

_POLL_S = 0.5
_CHUNK = 64 << 10


def fetch_text(url: str, clock: Clock, *, wait_s: float, timeout_s: float) -> str:
    """The text at a result URL, cut at LIMIT_BYTES; it is data of the box, to be made printable before it is shown.

    Sent without the API key: the URL is of a storage service. Raises ProviderUnavailable
    when nothing is there after ``wait_s`` seconds, or when the way to it is open to others.
    """
    from requests import RequestException  # noqa: PLC0415 - comes with the client

    if not is_private(url):
        raise ProviderUnavailable("the container log's address is not HTTPS: what it says could be anybody's")
    deadline = clock.monotonic() + wait_s
    while True:
        try:
            status, content = within(2 * timeout_s, lambda: _get(url, timeout_s))
        except (RequestException, OSError) as error:
            status, content = cause(error), b""
        if status == 200:
            return content.decode("utf-8", errors="replace")
        if clock.monotonic() >= deadline:
            raise ProviderUnavailable(f"the container log did not appear within {wait_s:g} s (last answer: {status})")
        clock.sleep(_POLL_S)


def _get(url: str, timeout_s: float) -> tuple[int | str, bytes]:
    import requests  # noqa: PLC0415 - comes with the client

    with requests.get(url, timeout=timeout_s, stream=True, allow_redirects=False) as response:
        content = bytearray()
        for chunk in response.iter_content(_CHUNK):
            content += chunk
            if len(content) >= LIMIT_BYTES:
                break
        return response.status_code, bytes(content[:LIMIT_BYTES])
