"""The operator's word before what cannot be undone, or costs anew."""

from __future__ import annotations

import sys
from collections.abc import Callable

from rich.console import Console

from harness.cli.progress_view import paused
from harness.guard.destroy import Confirm
from harness.job.model import Job
from harness.runner.progress import ProgressReporter
from harness.runner.replacement import Agreement


def confirming(job: Job, console: Console, reporter: ProgressReporter, *, yes: bool) -> Confirm:
    """The job's way to ask: none when it was agreed in advance, else the instance id typed on a terminal."""

    def confirm(instance_id: int, file: str) -> str | None:
        if yes:
            return "--yes, given in advance"
        if job.teardown.confirm == "yes":
            return "the job file agrees in advance"
        if not sys.stdin.isatty():
            return None
        with paused(reporter):
            console.print(f"verified file: {file}", markup=False, soft_wrap=True)
            console.print(f"instance {instance_id} and everything on its disk will be deleted for good", markup=False)
            try:
                typed = console.input("type the instance id to destroy it: ", markup=False)
            except EOFError:
                return None
        return "typed at the terminal" if typed.strip() == str(instance_id) else None

    return confirm


def accepting(console: Console, reporter: ProgressReporter, in_advance: str | None) -> Callable[[str], bool]:
    """The way a loss is accepted: by the very sentence, given in advance or typed on a terminal."""

    def accepts(sentence: str) -> bool:
        if in_advance is not None:
            return in_advance.strip() == sentence
        return _typed(console, reporter, f"type '{sentence}': ") == sentence

    return accepts


def agreeing(console: Console, reporter: ProgressReporter, *, in_advance: bool, loss: str | None) -> Agreement:
    """The way another instance in the place of a dead one is agreed to: in advance, or on a terminal."""

    def to_rent(meaning: str) -> str | None:
        if in_advance:
            return "--replace-dead-instance, given in advance"
        if not sys.stdin.isatty():
            return None
        with paused(reporter):
            console.print(meaning, markup=False, soft_wrap=True)
        typed = _typed(console, reporter, "type 'rent another' to have it replaced: ")
        return "typed at the terminal" if typed == "rent another" else None

    return Agreement(to_rent, accepting(console, reporter, loss))


def _typed(console: Console, reporter: ProgressReporter, prompt: str) -> str | None:
    """Line typed on a terminal; None without one."""
    if not sys.stdin.isatty():
        return None
    with paused(reporter):
        try:
            return console.input(prompt, markup=False).strip()
        except EOFError:
            return None
