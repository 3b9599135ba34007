"""Meaning of each exit code of ``harness run`` for the fleet: go on, try again, or wait for a person. Pure."""

from __future__ import annotations

from enum import StrEnum


class Consequence(StrEnum):
    """Consequence of one drive of a job through a stage."""

    PASSED = "passed"
    AGAIN = "again"
    """The remedy is the same command again: another process, the network, or the machine was in the way."""
    HELD = "held"
    """A person's word or hand is needed; nothing more is tried."""


_OF: dict[int, Consequence] = {
    0: Consequence.PASSED,
    4: Consequence.AGAIN,  # a gate could not look
    6: Consequence.AGAIN,  # asked to go, not proven to be gone
    7: Consequence.AGAIN,  # the provider
    8: Consequence.AGAIN,  # the box
    9: Consequence.AGAIN,  # a transfer: verified chunks are kept
    10: Consequence.AGAIN,  # another process has the job, or the store does not answer
    129: Consequence.AGAIN,  # ended from outside: a terminal that closed,
    130: Consequence.AGAIN,  # Ctrl-C,
    143: Consequence.AGAIN,  # SIGTERM,
    149: Consequence.AGAIN,  # Ctrl-Break
}
"""By exit code, as docs/exit-codes.md has them; every other one waits for a person."""

WAITS_S = (10.0, 60.0, 300.0)
"""Seconds before each further try; after the last, the job is held."""


def consequence(code: int) -> Consequence:
    """Consequence of an exit code; a process that a signal killed has a negative one, and is tried again."""
    return Consequence.AGAIN if code < 0 else _OF.get(code, Consequence.HELD)
