"""``harness logs``: the training's log, from the box while there is one, else the copy on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer
from rich.console import Console

from harness import facts as stages
from harness.cli.screens import say
from harness.core.answers import Lines
from harness.core.errors import HarnessError, HostKeyChanged, HostUnreachable
from harness.core.questions import LinesFrom
from harness.core.text import human_seconds, one_line
from harness.facts.training import TrainingFacts
from harness.facts.traininglog import log_path
from harness.ledger.looks import newest_look, no_box
from harness.log.following import LogFollower, newest
from harness.wiring import OpenContext, open_context

_EVERY_S = 1.0
_AGAIN_S = 5.0
"""Seconds between two tries while the box does not answer."""
_TIMEOUT_S = 30.0
_COPY_BYTES = 1 << 20


def logs(
    job: Annotated[str | None, typer.Argument(help="The job's name.", show_default="the one that moved last")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
    last: Annotated[int, typer.Option("--lines", "-n", min=0, help="Lines to begin with.")] = 40,
) -> None:
    """Show the training's log, from the box or the copy here; -f follows it.

    From the box as long as there is one; the copy on this machine when it is gone, or does not answer. Standard error
    says which. What a terminal would obey in it is taken out.
    """
    console, aside = Console(), Console(stderr=True)
    with open_context(job, only_looks=True) as context:
        box = _Box(context, aside)
        try:
            _require_box(context)
            _show(console, box, LogFollower(log_path(context), last, box.ask), follow=follow)
        except KeyboardInterrupt:
            pass
        except HostUnreachable as error:
            if isinstance(error, HostKeyChanged) or not _showed_copy(console, aside, context, str(error), last):
                raise


@dataclass(slots=True)
class _Box:
    """The box, asked for lines of its log; ``cut`` while it does not answer."""

    context: OpenContext
    aside: Console
    cut: bool = False

    def ask(self, question: LinesFrom) -> Lines:
        """One question; raises HostUnreachable when the box, or the log on it, cannot be read."""
        answer = self.context.host().probe([question], timeout=_TIMEOUT_S)[question]
        if answer.value is None:
            raise HostUnreachable(answer.problem or "the log was not read")
        if self.cut:
            self.cut = False
            _tell(self.aside, "the box answers again")
        return answer.value


def _show(console: Console, box: _Box, follower: LogFollower, *, follow: bool) -> None:
    """The log from the box; raises HostUnreachable when nothing could be had of it, or it is not to be followed."""
    while True:
        try:
            _show_news(console, box, follower)
        except HostKeyChanged:
            raise
        except HarnessError as error:
            if not follow:
                raise
            if _is_over(box, error, begun=follower.begun):
                return
        if not follow:
            return
        box.context.clock.sleep(_AGAIN_S if box.cut else _EVERY_S)


def _show_news(console: Console, box: _Box, follower: LogFollower) -> None:
    lines = follower.news()
    if not follower.begun:
        lines = iter([*lines])  # no more than one answer holds
        known = "" if follower.exists else "there is no log yet: "
        _tell(box.aside, f"{known}training.log of {_name(box.context)}")
    for line in lines:
        say(console, line)


def _is_over(box: _Box, error: HarnessError, *, begun: bool) -> bool:
    """True when the box is no longer there to answer; raises HostUnreachable when it never did."""
    if not box.cut:
        box.cut = True
        _tell(box.aside, f"{error}; trying again, to go on from here. Ctrl-C ends it")
    box.context.read_anew()
    if not begun:
        _require_box(box.context)
    gone = no_box(box.context.history)
    if gone is not None:
        _tell(box.aside, gone)
    return gone is not None


def _require_box(context: OpenContext) -> None:
    if (why := no_box(context.history)) is not None:
        raise HostUnreachable(why)


def _name(context: OpenContext) -> str:
    alive = context.history.alive
    return "an instance that is gone" if alive is None else f"instance {alive.instance_id}"


def _showed_copy(console: Console, aside: Console, context: OpenContext, why: str, last: int) -> bool:
    """Show the log as it came home, else the last lines that were seen; False when there is neither."""
    file, look = context.directory / "companions" / "training.log", newest_look(context.history)
    told = stages.typed(look) if look is not None else None
    if file.is_file():
        with file.open("rb") as opened:
            opened.seek(max(0, file.stat().st_size - _COPY_BYTES))
            lines = opened.read(_COPY_BYTES).decode("utf-8", "replace").split("\n")
        where = f"the copy {file}"
    elif look is not None and isinstance(told, TrainingFacts) and told.last_lines.value:
        age = human_seconds(max(0.0, context.clock.now() - look.taken_at))
        lines, where = [*told.last_lines.value], f"the last lines that were seen, {age} ago"
    else:
        return False
    _tell(aside, f"{why}; this is {where}")
    for line in newest(lines, last):
        say(console, line)
    return True


def _tell(aside: Console, words: str) -> None:
    say(aside, f"({one_line(words, 600)})", "dim")
