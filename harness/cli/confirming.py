"""The operator's word before the irreversible act."""

from __future__ import annotations

import sys

from rich.console import Console

from harness.cli.narration import paused
from harness.guard import Confirm
from harness.job.model import Job
from harness.runner.narrator import Narrator


def confirming(job: Job, console: Console, narrator: Narrator, *, yes: bool) -> Confirm:
    """How this job asks: not at all when it was agreed in advance, else by the typed instance id on a terminal."""

    def confirm(instance_id: int, file: str) -> str | None:
        if yes:
            return "--yes, given in advance"
        if job.teardown.confirm == "yes":
            return "the job file agrees in advance"
        if not sys.stdin.isatty():
            return None
        with paused(narrator):
            console.print(f"verified file: {file}", markup=False, soft_wrap=True)
            console.print(f"instance {instance_id} and everything on its disk will be deleted for good", markup=False)
            try:
                typed = console.input("type the instance id to destroy it: ", markup=False)
            except EOFError:
                return None
        return "typed at the terminal" if typed.strip() == str(instance_id) else None

    return confirm
