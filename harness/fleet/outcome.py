"""Meaning of each exit code of ``harness run`` for the fleet: go on, try again, or wait for a person. Pure."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Consequence of one drive of a job through a stage."""

    PASSED = "passed"
    AGAIN = "again"
    """The remedy is the same command again: another process, the network, or the machine was in the way."""
    HELD = "held"
    """A person's word or hand is needed; nothing more is tried."""


_OF: dict[int, Outcome] = {
    0: Outcome.PASSED,
    4: Outcome.AGAIN,  # a gate could not look
    6: Outcome.AGAIN,  # asked to go, not proven to be gone
    7: Outcome.AGAIN,  # the provider
    8: Outcome.AGAIN,  # the box
    9: Outcome.AGAIN,  # a transfer: verified chunks are kept
    10: Outcome.AGAIN,  # another process has the job, or the store does not answer
    129: Outcome.AGAIN,  # ended from outside: a terminal that closed,
    130: Outcome.AGAIN,  # Ctrl-C,
    143: Outcome.AGAIN,  # SIGTERM,
    149: Outcome.AGAIN,  # Ctrl-Break
}
"""By exit code, as docs/exit-codes.md has them; every other one waits for a person."""

WAITS_S = (10.0, 60.0, 300.0)
"""Seconds before each further try; after the last, the job is held."""


def outcome(code: int) -> Outcome:
    """Outcome of an exit code; a process that a signal killed has a negative one, and is tried again."""
    return Outcome.AGAIN if code < 0 else _OF.get(code, Outcome.HELD)
