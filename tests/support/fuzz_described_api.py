"""The embedded Vast.ai under requests that the service's published description allows, and some that it forbids.

    VAST_OPENAPI=openapi.yaml python -m tests.support.fuzz_described_api [EXAMPLES A ROUTE]

The description is not part of this project: github.com/vast-ai/docs has it. Every answer must come within ``ANSWER_S``,
be JSON, and be no server error; a route that is not emulated answers 501 with its name. Ends with 1 at the first other.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from harness.core.environment import variables
from harness.emulator.running import Emulator, running
from tests.support.emulator_kit import create_request, scenario

ANSWER_S = 20.0
EXAMPLES = 25

NUMBERS = ("24000001", "24000002", "7100003")
"""Two instances and an offer that are there."""


def check(answer: requests.Response) -> None:
    """Refuse what no client could read."""
    said = answer.json()
    unknown = answer.status_code == 501 and "is not emulated" in said["msg"]
    if answer.status_code >= 500 and not unknown:
        raise AssertionError(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}")


def fuzz(emulator: Emulator, operation: Any, examples: int, seen: Counter[int]) -> None:
    """Send one operation's requests."""

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), number=st.sampled_from(NUMBERS) | st.none())
    def ask(case: Any, number: str | None) -> None:
        if number is not None and "id" in (case.path_parameters or {}):
            case.path_parameters["id"] = number
        answer = case.call(base_url=emulator.url, headers={"Authorization": f"Bearer {emulator.key}"}, timeout=ANSWER_S)
        check(answer)
        seen[answer.status_code] += 1

    ask()


def main(arguments: list[str]) -> int:
    """Fuzz every operation of the description; prints what was answered."""
    description = variables().get("VAST_OPENAPI")
    if not description:
        print("VAST_OPENAPI must name the service's OpenAPI description", file=sys.stderr)  # noqa: T201
        return 2
    examples = int(arguments[0]) if arguments else EXAMPLES
    schema = schemathesis.openapi.from_path(description)
    seen: Counter[int] = Counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), scenario=scenario(isolation="none")) as emulator,
    ):
        for offer in (7_100_001, 7_100_002):
            emulator.world.create(offer, create_request())
        operations = [found.ok() for found in schema.get_all_operations()]
        for operation in operations:
            fuzz(emulator, operation, examples, seen)
        emulator.settle()
        for rental_id in emulator.world.rentals():
            emulator.world.destroy(rental_id)
        emulator.settle()
    print(f"{len(operations)} operations, {sum(seen.values())} requests: {dict(sorted(seen.items()))}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
