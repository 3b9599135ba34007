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
    outcome: list[Callable[[], T]] = []

    def run() -> None:
        try:
            result = ask()
        except Exception as error:  # noqa: BLE001 - raised again where it is waited for
            outcome.append(lambda error=error: _raise(error))
        else:
            outcome.append(lambda: result)

    thread = threading.Thread(target=run, name="harness-provider", daemon=True)
    thread.start()
    thread.join(seconds)
    if not outcome:
        raise TimeoutError(f"the reply was not complete after {seconds:g} s")
    return outcome[0]()


def _raise(error: Exception) -> T:
    raise error
