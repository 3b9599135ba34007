"""``harness abandon``: give an instance back without a verified file, when nothing is lost or the loss is accepted."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.cli.confirming import accepting, staked
from harness.cli.options import Plain
from harness.cli.progress_view import open_reporter
from harness.cli.screens import LastingConsole, say
from harness.guard.destroy import abandon as abandon_instance
from harness.runner import switch
from harness.wiring import open_context


def abandon(
    job: Annotated[str, typer.Argument(help="The job's name.")],
    accept_loss: Annotated[
        str | None, typer.Option(help="The sentence that accepts the loss, typed in advance; the refusal names it.")
    ] = None,
    plain: Plain = False,
) -> None:
    """Destroy an instance that holds no checkpoint and no model file; else only for the typed sentence."""
    console = LastingConsole()
    with open_context(job) as context, context.store.lock(context.name), staked(context, console):
        adopted = context.job.adopted
        with open_reporter(console, plain) as reporter:
            abandon_instance(context, accepting(context, console, reporter, accept_loss), reporter.note)
            switch.revoke(context, reporter.note)
    say(console, f"job {job} is abandoned" + ("" if adopted else f"; harness run {job} begins it anew"))
