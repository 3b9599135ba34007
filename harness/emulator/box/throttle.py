"""Throttle on a session's output: counts its bytes and does to them what the scenario says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.emulator.scenario import SshFault

NextFault = Callable[[int], SshFault | None]
"""Fault that strikes a session which has sent so many bytes; each answer is counted as struck."""

STREAM_FAULTS = frozenset({"stall", "cut", "cap", "end", "zero", "flip"})


class Cut(Exception):
    """The connection is to be cut here."""


@dataclass(slots=True)
class Throttle:
    """Throttle of one session. ``pass_on`` may wait, change or withhold what is to be sent."""

    next_fault: NextFault
    count: Callable[[int], None]
    sent: int = 0
    ended: bool = False
    _zeros: bool = False
    _rate: float = 0.0
    _free_at: float = field(default=0.0)

    async def pass_on(self, data: bytes) -> bytes:
        """Bytes to send in the place of ``data``; raises Cut."""
        if self._zeros:
            data = bytes(len(data))
        fault = self.next_fault(self.sent + len(data))
        if fault is not None:
            data = await self._strike(fault, data)
        if self.ended:
            return b""
        if self._rate:
            await self._wait_for_rate(len(data))
        self.sent += len(data)
        self.count(len(data))
        return data

    async def _strike(self, fault: SshFault, data: bytes) -> bytes:
        at = max(0, fault.after_bytes - self.sent)
        if fault.do == "stall":
            await asyncio.sleep(fault.seconds or 1e6)
        elif fault.do == "cut":
            raise Cut
        elif fault.do == "cap":
            self._rate = fault.bytes_per_s
        elif fault.do == "end":
            self.ended = True
        elif fault.do == "zero":
            self._zeros = True
            return data[:at] + bytes(len(data) - at)
        elif fault.do == "flip" and at < len(data):
            return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        return data

    async def _wait_for_rate(self, count: int) -> None:
        now = time.monotonic()  # a rate on a real wire is a matter of real time
        self._free_at = max(now, self._free_at) + count / self._rate
        await asyncio.sleep(self._free_at - now)
