"""Total deadline of a call: a timeout of the socket starts anew with every byte, and a trickle of them never ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, ask: Callable[[], T]) -> T:
    """Result of ``ask``, or what it raises; raises TimeoutError when it has not ended after so many seconds.

    It is left alone then, in a thread that holds up nobody: the resolution of a name cannot be called off.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            results.append(ask())
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, name="harness-provider", daemon=True)
    thread.start()
    thread.join(seconds)
    for error in errors:
        raise error
    for result in results:
        return result
    raise TimeoutError(f"the reply was not complete after {seconds:g} s")
