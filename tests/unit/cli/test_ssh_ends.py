"""``harness ssh`` leaves Ctrl-C to the box, and ends with its client when the system asks it to."""

from __future__ import annotations

import subprocess
import sys
from typing import Self

import pytest

from harness.cli import entry, ssh


class Client:
    """A client that runs until it is terminated; each wait for it is broken off by what comes first in ``asked``."""

    def __init__(self, *asked: KeyboardInterrupt) -> None:
        self.asked = list(asked)
        self.terminated = False

    def __call__(self, _argv: tuple[str, ...]) -> Client:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait(self) -> int:
        if self.asked:
            raise self.asked.pop(0)
        return -15 if self.terminated else 7

    def terminate(self) -> None:
        self.terminated = True


def test_ctrl_c_is_the_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(KeyboardInterrupt(), KeyboardInterrupt())
    monkeypatch.setattr(subprocess, "Popen", client)
    assert (ssh._run(("ssh",)), client.terminated) == (7, False)


def test_one_request_of_the_system_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(KeyboardInterrupt(), KeyboardInterrupt("SIGTERM"))
    monkeypatch.setattr(subprocess, "Popen", client)
    with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
        ssh._run(("ssh",))
    assert client.terminated


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a word")
@pytest.mark.parametrize("number", ["SIGTERM", "SIGHUP"])
def test_a_real_client_goes_with_it(number: str) -> None:
    script = f"import os, signal, time; os.kill(os.getppid(), signal.{number}); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt, match=number), entry._ending_like_ctrl_c([]):
        ssh._run((sys.executable, "-c", script))
