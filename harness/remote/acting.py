"""One act on the box by a program that is sent there: a verb with its arguments, and the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from harness.core.errors import HarnessError, HostUnreachable
from harness.core.ids import new_nonce
from harness.core.ports import Json, RunResult
from harness.remote.probe import program


class Runs(Protocol):
    """Part of a ``ports.Host`` that runs commands."""

    def run(self, argv: tuple[str, ...], *, stdin: bytes, timeout: float) -> RunResult:
        """Run one command."""


def act(host: Runs, modules: tuple[str, ...], verb: str, args: Mapping[str, Json], *, of: str, timeout: float) -> Json:
    """The value that the last of the modules answers; ``of`` is what the verb is about, in words.

    Raises HostUnreachable when nobody knows whether it was done, HarnessError when the box says that it was not.
    """
    marker = f"harness-act-{new_nonce()}:"
    text = program.program(modules, {"marker": marker, "verb": verb, "args": dict(args)})
    ran = host.run(program.INTERPRETER, stdin=text.encode(), timeout=timeout)
    line = ran.stdout.rpartition(marker.encode())[2]
    try:
        answer = json.loads(line)
        problem = answer.get("problem")
        value: Json = answer.get("value")
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        said = (ran.stderr or ran.stdout)[-300:].decode("utf-8", "replace")
        raise HostUnreachable(
            f"the box does not say whether it did {verb} {of} (status {ran.status}): {said!r}"
        ) from error
    if problem is not None:
        raise HarnessError(f"the box cannot {verb} {of}: {str(problem)[:500]}")
    return value
