"""The command line: prints, never decides. Every failure ends with what to do next and a documented exit code.

A command's module is imported when that command is called, so that ``harness --help`` loads none of them.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from harness.cli import VERSION_LINE

COMMANDS: Final = {
    "doctor": (
        "doctor:doctor",
        "Look, in seconds, at what a job will need of this machine and its providers; nothing is changed.",
    ),
    "init": ("init:init", "Write a job file: five questions on a terminal, or their answers as options."),
    "run": (
        "run:run",
        "Drive a job from where it stands to its end: every stage, every gate, the verified file, the release.",
    ),
    "demo": (
        "run:demo",
        "Run a whole job on this machine: an embedded provider, a real training of a tiny model, real data.",
    ),
    "fleet": (
        "fleet:app",
        "Drive many jobs at once, by workers on one machine or several: run, status, pause, drain, resume.",
    ),
    "plan": (
        "plan:plan",
        "Show the offers that fit a job, its minutes and dollars by part, and its cap; nothing is rented.",
    ),
    "status": (
        "status:status",
        "Show where jobs stand, what they cost, and which instances may be billing.",
    ),
    "monitor": (
        "monitor:monitor",
        "Follow a job while it runs: steps, loss, checkpoints, GPUs, disk, money, log. It only looks.",
    ),
    "logs": ("logs:logs", "Show the training's log, from the box or the copy here; -f follows it."),
    "log": ("log:log", "Show the job's events and verify their chain; the training's log is harness logs."),
    "ssh": ("ssh:ssh", "Open a shell on the job's box: the harness's key, the pinned host key."),
    "report": ("report:report", "Write the gold-standard report anew and say where it is."),
    "serve": (
        "serve:serve",
        "Show the reports of all jobs in a browser of this machine, as they change. It only looks; Ctrl-C ends it.",
    ),
    "export": (
        "export:export",
        "Pack a job into one file, with which its gates are judged on another machine, as in CI.",
    ),
    "import": (
        "export:import_",
        "Take a job of another machine in, to be shown, judged and reported on here; it is not driven here.",
    ),
    "download": (
        "transfer:download",
        "Bring the model home: resumable, hashed at both ends, judged from the local disk before it gets its name.",
    ),
    "verify": (
        "verify:verify",
        "Judge a file or a folder by what it is: whole, as its configuration says, every number finite. 0 is sound.",
    ),
    "destroy": (
        "teardown:destroy",
        "Destroy an instance: only when the verified file is here, matches its release, and you agree.",
    ),
    "adopt": (
        "adopt:adopt",
        "Take over an instance that was rented by hand: judge its run, bring its model home; nothing is destroyed.",
    ),
    "abandon": (
        "abandon:abandon",
        "Destroy an instance that holds no checkpoint and no model file; else only for the typed sentence.",
    ),
    "orphans": (
        "orphans:orphans",
        "List every instance, volume and charge of the account: whose it is, what it costs, what to do about it.",
    ),
    "watch": (
        "watch:watch",
        "Remember what bills and was forgotten, by a line and a notification; stop only what is over limits.toml.",
    ),
    "conformance": (
        "conformance:conformance",
        "Try what is believed about a provider on its live service: rents a box for cents, asks first, destroys it.",
    ),
    "emulator": (
        "emulator:emulator",
        "Serve Vast.ai's API and SSH boxes on this machine; prints its address and an API key.",
    ),
    "guard": ("guard:app", "Judge a command line before it runs: harness guard -- vastai destroy instance 123"),
    "release": ("release:app", "Read, sign or check a release statement."),
    "lessons": (
        "lessons:lessons",
        "Try each configuration that once lost money, on a tiny model, and say what it does with these versions.",
    ),
    "rules": ("rules:app", "The operating rules: what the command guard holds, and what every gate demands."),
}
"""Every command: where it is, below ``harness.cli``, and the line that ``--help`` shows for it."""


class _Deferred(TyperCommand):
    """A command that is known by its name and its line of help until it is called."""

    def __init__(self, name: str, place: str, line: str) -> None:
        super().__init__(name, help=line)
        self._place = place

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """The context of the command itself, loaded here."""
        command = load(self._place, self.name or "")
        if not gc.isenabled():  # by the entry point
            gc.freeze()
            gc.enable()
        return command.make_context(info_name, args, parent, **extra)


def load(place: str, name: str) -> Any:
    """A command, imported: ``module:function``, or ``module:app`` for one that has commands of its own."""
    module, _, attribute = place.partition(":")
    found = getattr(import_module(f"harness.cli.{module}"), attribute)
    if not isinstance(found, typer.Typer):
        alone = typer.Typer(pretty_exceptions_enable=False, add_completion=False)
        alone.command(name)(found)
        found = alone
    return typer.main.get_command(found)


class _Commands(TyperGroup):
    """The commands of the table in its order, each loaded when it is called."""

    def __init__(self, **told: Any) -> None:
        super().__init__(**told)
        self.commands = {name: _Deferred(name, *COMMANDS[name]) for name in COMMANDS}


app = typer.Typer(
    name="harness",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
    context_settings={"help_option_names": ["-h", "--help"]},  # and so for every command below it
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(VERSION_LINE)
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Fine-tune on rented GPUs: no gate opens without proof, nothing is destroyed before the model is home."""


def main() -> None:
    """The entry point."""
    from harness.core.errors import HarnessError, of_this_machine  # noqa: PLC0415  # --help needs none of it

    try:
        app()
    except (HarnessError, OSError) as error:
        failure = error if isinstance(error, HarnessError) else of_this_machine(error)
        from harness.cli.progress_view import show_failure  # noqa: PLC0415  # see above
        from harness.cli.screens import LastingConsole  # noqa: PLC0415  # see above

        show_failure(LastingConsole(stderr=True), failure)
        sys.exit(failure.exit_code)
