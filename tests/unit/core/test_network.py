"""What really failed on a network, out of the errors that libraries wrap it in: real ones, from real connections."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
import requests

from harness.core.network import cause

URL = "https://127.0.0.1:{port}/api/v0/users/current?api_key=secret&owner=me"


@contextmanager
def _server(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """A port at which each connection is answered so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    answer(connection)

        thread = Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


def _failure(url: str, **more: object) -> Exception:
    session = requests.Session()
    session.trust_env = False
    with session, pytest.raises(requests.RequestException) as raised:
        session.get(url, timeout=(0.5, 0.3), **more)  # type: ignore[arg-type]
    return raised.value


def _refused() -> int:
    with socket.create_server(("127.0.0.1", 0)) as once:
        return int(once.getsockname()[1])


def test_a_refused_connection() -> None:
    assert cause(_failure(URL.format(port=_refused()))).startswith("refused, nothing listens there: ")


def test_a_name_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert cause(_failure("https://console.vast.ai/")) == (
        "the name cannot be resolved (DNS): Name or service not known"
    )


def test_a_server_without_tls() -> None:
    with _server(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        told = cause(_failure(URL.format(port=port)))
    assert told.startswith("TLS failed: "), told


def test_a_server_that_hangs_up() -> None:
    with _server(lambda connection: connection.recv(1)) as port:
        told = cause(_failure(f"http://127.0.0.1:{port}/"))
    assert told.startswith("the connection was cut: "), told


def test_a_server_that_never_answers() -> None:
    with _server(lambda connection: connection.recv(1 << 16) and connection.recv(1)) as port:
        told = cause(_failure(f"http://127.0.0.1:{port}/"))
    assert told == "timed out: Read timed out. (read timeout=0.3)"


def test_a_proxy_that_is_down() -> None:
    proxies = {"https": f"http://127.0.0.1:{_refused()}"}
    told = cause(_failure("https://console.vast.ai/", proxies=proxies))
    assert told.startswith("at the proxy: refused, nothing listens there"), told


def _verify(message: str) -> ssl.SSLError:
    error = ssl.SSLCertVerificationError(1, "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed (_ssl.c:1006)")
    error.verify_message = message
    return error


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (requests.exceptions.SSLError(_verify("certificate has expired")), "TLS failed: certificate has expired"),
        (OSError(113, "No route to host"), "no way leads there: No route to host"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (TimeoutError("timed out"), "timed out"),
        (TimeoutError("the reply was not complete after 0.7 s"), "timed out: the reply was not complete after 0.7 s"),
        (ConnectionResetError(104, "Connection reset by peer"), "the connection was cut: Connection reset by peer"),
        (ValueError("odd"), "ValueError: odd"),
        (ValueError(), "ValueError: ValueError"),
    ],
)
def test_an_error_in_words(error: Exception, told: str) -> None:
    assert cause(error) == told


def test_what_was_handled_meanwhile_is_no_cause() -> None:
    error = TimeoutError("no answer")
    error.__context__ = ConnectionRefusedError(111, "Connection refused")
    assert cause(error) == "timed out: no answer"


def test_a_circle_of_errors_ends() -> None:
    one, other = OSError("one"), OSError("other")
    one.__cause__, other.__cause__ = other, one
    assert cause(one) in {"one", "other"}
