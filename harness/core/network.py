"""Causes of what fails on a network, in words: a library's error hides them behind its own, several deep. Pure."""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator

_DEEPEST = 12
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN})


def cause(error: BaseException) -> str:
    """Cause of a failure on the network: of the errors that are wrapped in this one the innermost, named as people do.

    By what an error carries or was raised from; what was handled meanwhile has nothing to do with it.
    """
    chain = list(_chain(error))
    behind = "at the proxy: " if any(type(one).__name__ == "ProxyError" for one in chain) else ""
    late = [one for one in chain if isinstance(one, TimeoutError) or "Timeout" in type(one).__name__]
    if late:
        told = max((_told(one).rpartition("): ")[2] for one in late), key=len)
        return behind + ("timed out" if told == "timed out" else f"timed out: {told}")
    return behind + _words(chain[-1])


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what it wraps, from the outermost on."""
    inner: BaseException | None = error
    for _ in range(_DEEPEST):
        if inner is None:
            return
        yield inner
        wrapped = (getattr(inner, "reason", None), *inner.args, inner.__cause__)
        inner = next((one for one in wrapped if isinstance(one, BaseException)), None)


def _words(error: BaseException) -> str:
    told = _told(error)
    if isinstance(error, socket.gaierror):
        return f"the name cannot be resolved (DNS): {told}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {getattr(error, 'verify_message', '') or error.reason or told}"
    if isinstance(error, ConnectionRefusedError):
        return f"refused, nothing listens there: {told}"
    if isinstance(error, ConnectionError | EOFError):
        return f"the connection was cut: {told}"
    if isinstance(error, OSError) and error.errno in _NO_WAY:
        return f"no way leads there: {told}"
    return told if type(error) is OSError else f"{type(error).__name__}: {told}"


def _told(error: BaseException) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
