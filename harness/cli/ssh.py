"""``harness ssh``: the system's own ssh client at the job's box, with the harness's key and the pinned host key."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import Annotated

import typer

from harness.core import durable
from harness.core.errors import BadInput, HarnessError, HostUnreachable
from harness.core.text import command_line
from harness.ledger.bills import bills, sentence
from harness.remote.ssh import openssh
from harness.wiring import OpenContext, open_context, user_at

_BY_SIGNAL = 128
"""Added to a signal's number, the exit code of what it ended, as shells tell it."""


def ssh(
    job: Annotated[str, typer.Argument(help="The job's name.")],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="Behind --: run it in place of a shell, and end with its exit code.", metavar="-- ..."),
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Print the command line, and run nothing.")] = False,
) -> None:
    """Open a shell on the job's box: the harness's key, the pinned host key.

    The training runs in a session of its own: leaving the shell ends nothing.
    """
    with open_context(job, only_looks=True) as context:
        argv = _command_line(context, command or [], print_only=print_only)
    if print_only:
        typer.echo(command_line(argv))
        return
    raise typer.Exit(_run(argv))


def _command_line(context: OpenContext, words: list[str], *, print_only: bool) -> tuple[str, ...]:
    """The client's command line; raises HostUnreachable when no box answers, BadInput without a client."""
    program = shutil.which("ssh") or ("ssh" if print_only else None)
    if program is None:
        raise BadInput(
            "there is no ssh client on this machine's PATH",
            remedy="Install OpenSSH's client (Windows: Settings, Optional features); "
            f"harness logs {context.name} and harness monitor {context.name} need none.",
        )
    history = context.history
    rental, pin = history.alive, history.pin
    if rental is None or history.instance_stopped:
        raise HostUnreachable(f"there is no box to log in to. {sentence(bills(history))}", remedy=_nothing(context))
    host = context.fresh_host()
    try:
        endpoint = host.route()
    finally:
        host.close()
    alias = f"harness-instance-{rental.instance_id}"
    context.directory.mkdir(parents=True, exist_ok=True)
    hosts = context.directory / "known_hosts"
    durable.write(hosts, openssh.known_hosts(alias, pin.keys if pin else ()).encode())
    return openssh.command(
        program,
        endpoint,
        user=user_at([endpoint], context.job),
        key=context.key_file,
        hosts=hosts,
        alias=alias,
        words=words,
        terminal=bool(words) and sys.stdin.isatty() and sys.stdout.isatty(),
    )


def _nothing(context: OpenContext) -> str:
    return f"harness status {context.name} says where the job stands; harness run {context.name} goes on with it."


def _run(argv: tuple[str, ...]) -> int:
    """Exit code of the client, to which the terminal belongs meanwhile: Ctrl-C is the box's, a signal to end ours."""
    try:
        with subprocess.Popen(argv) as client:
            while True:
                try:
                    code = client.wait()
                    return code if code >= 0 else _BY_SIGNAL - code
                except KeyboardInterrupt as asked:
                    if asked.args:  # by a signal's name
                        client.terminate()
                        client.wait()  # it leaves the terminal as it was
                        raise
    except OSError as error:
        raise HarnessError(f"{argv[0]} cannot be started: {error.strerror or error}") from error
