"""Which carriers a download's streams were asked of."""

from __future__ import annotations

from typing import Any

import pytest

from harness.remote.host import SshHost
from harness.remote.transfer.streams import Stream


def noted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list that gains the carrier of every stream that an SshHost is asked for."""
    carriers: list[str] = []
    real = SshHost.stream

    def stream(self: SshHost, *args: Any, **more: Any) -> Stream:
        carriers.append(args[2])
        return real(self, *args, **more)

    monkeypatch.setattr(SshHost, "stream", stream)
    return carriers
