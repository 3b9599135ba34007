"""``harness guard``: judge a command line, answer a coding agent's hook, put a guarded ``vastai`` on PATH.

And the wall before all of that: keys that the provider itself lets destroy nothing (``harness.cli.wall``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness.cli import wall
from harness.cli.judging import instead
from harness.core.errors import BadInput
from harness.shellguard.explain import warning
from harness.shellguard.judge import judge, judge_argv
from harness.shellguard.reading import Shell


class _Group(TyperGroup):
    """Sends what stands behind ``--`` to the judge, so that no program's name is taken for a command of ours."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            if not any(name in self.commands for name in args[:at]):
                args = [*args[:at], "judge", *args[at:]]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    invoke_without_command=True,
    help="Judge a command line before it runs: harness guard -- vastai destroy instance 123",
)


@app.callback()
def guard(
    ctx: typer.Context,
    hook: Annotated[
        bool, typer.Option("--hook", help="Answer one PreToolUse request of a coding agent, read from standard input.")
    ] = False,
    shell: Annotated[
        Shell, typer.Option(help="The language of a line that is given as one word behind --.")
    ] = Shell.BASH,
) -> None:
    """Hold what would lose data or break the operating rules; let everything else go by."""
    del shell  # read by the judge from its parent
    if ctx.invoked_subcommand is not None:
        return
    if not hook:
        raise BadInput("nothing to judge", remedy="harness guard -- COMMAND ARGUMENTS..., or harness guard --hook")
    from harness.shellguard.__main__ import main  # noqa: PLC0415  # the hook alone needs it

    raise typer.Exit(main(judging="harness.cli.judging"))


@app.command("judge", hidden=True)
def judge_words(ctx: typer.Context, words: Annotated[list[str], typer.Argument(metavar="COMMAND...")]) -> None:
    """Judge a command: exit code 0 when it may run, 5 when it is held."""
    shell = ctx.parent.params["shell"] if ctx.parent else Shell.BASH
    line = len(words) == 1 and any(c.isspace() for c in words[0])
    told = warning(judge(words[0], shell) if line else judge_argv(tuple(words)), instead)
    typer.echo("allow, with a warning" if told else "allow")
    if told:
        typer.echo(told, err=True)


_Directory = Annotated[
    Path | None, typer.Option("--directory", help="Where the shim stands.", show_default="the harness's data directory")
]


@app.command()
def install(directory: _Directory = None) -> None:
    """Write a vastai that asks the command guard first; put its directory first on PATH to use it."""
    from harness.shellguard import shim  # noqa: PLC0415  # the judge starts faster without it

    into = (directory or shim.directory()).expanduser().resolve()
    for path in shim.install(into):
        typer.echo(f"wrote {path}")
    typer.echo("Put it first on PATH:")
    posix, windows = str(into).replace("'", "'\\''"), str(into).replace("'", "''")
    typer.echo(f"  sh:         export PATH='{posix}':\"$PATH\"")
    typer.echo(f"  PowerShell: $env:Path = '{windows};' + $env:Path")


@app.command()
def uninstall(directory: _Directory = None) -> None:
    """Remove the shim, and nothing that install did not write."""
    from harness.shellguard import shim  # noqa: PLC0415  # the judge starts faster without it

    removed = shim.uninstall((directory or shim.directory()).expanduser().resolve())
    for path in removed:
        typer.echo(f"removed {path}")
    if not removed:
        typer.echo("no shim there: nothing was removed")


for command in (wall.lock, wall.unlock, wall.rotate, wall.status):
    app.command()(command)
