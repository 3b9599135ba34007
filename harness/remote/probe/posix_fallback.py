"""The most basic facts of a box that has no Python: one POSIX command a question (GNU or BusyBox tools)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.core import questions
from harness.core.canonical import Json
from harness.core.observed import Observed, unseen
from harness.core.ports import RunResult

NO_SUCH_PROGRAM = 127
"""The exit status of a POSIX shell that finds no such command."""

_ABSENT = 44
"""Our own exit status for "there is no such file": no tool below uses it."""

_ANSWER_LIMIT = 1 << 20

RunOnce = Callable[[Sequence[str], bytes, float, int], RunResult]
Tool = tuple[str, Callable[[str, Any], Json]]
"""A script for sh, with the question's path and limit as arguments, and how to read what it prints."""


def ask(run: RunOnce, question: questions.Question[Any], timeout: float) -> Observed[Json]:
    """Answer one question in the form in which the program of the box would; without a tool it is a problem."""
    tool = TOOLS.get(type(question))
    if tool is None:
        return unseen(f"{question.op} needs python3 on the box, and there is none")
    script, parse = tool
    arguments = question.arguments()
    words = [_from_home(arguments.get("path", "~")), str(arguments.get("limit", ""))]
    ran = run(["sh", "-c", script, "sh", *words], b"", timeout, _ANSWER_LIMIT)
    if ran.status == _ABSENT:
        return Observed(value={"exists": False})
    if ran.status != 0:
        return unseen(f"{question.op} on the box: {ran.stderr[-300:].decode('utf-8', 'replace')!r}")
    try:
        return Observed(value=parse(ran.stdout.decode("utf-8", "replace"), question))
    except (ValueError, IndexError) as error:
        return unseen(f"{question.op} on the box answers oddly: {error}")


def _from_home(path: str) -> str:
    """``~/x`` and ``x`` are both relative to HOME, where a login's commands start; a leading dash is no option."""
    inner = path.removeprefix("~/") if path != "~" else "."
    return inner if inner.startswith("/") else f"./{inner}"


def _sha256(text: str, _: questions.DigestOf) -> Json:
    before, digest, _dash, after = text.split()
    if before != after:
        raise ValueError("the file changed while it was read")
    return {"exists": True, "bytes": int(after), "sha256": digest}


def _disk(text: str, _: questions.DiskOf) -> Json:
    total, used, free = text.splitlines()[-1].split()[1:4]
    return {"total": int(total) * 1024, "used": int(used) * 1024, "free": int(free) * 1024}


def _tail(text: str, question: questions.TailOf) -> Json:
    size, mtime, end = text.split("\n", 2)
    lines: list[Json] = [*end.removesuffix("\n").split("\n")] if end else []
    return {"exists": True, "bytes": int(size), "mtime": float(mtime), "lines": lines[-question.lines :]}


def _now(text: str, _: questions.Now) -> Json:
    return {"time": float(text)}


_GUARD = (
    'export LC_ALL=C; why=$(stat -L "$1" 2>&1 > /dev/null) || case $why in '
    f'*": No such file or directory") exit {_ABSENT};; *) echo "$why" >&2; exit 1;; esac; '
)
"""Only what the system says is not there is absent: [ -e ] is false for whatever cannot be looked at, too."""

_NEAREST = 'p=$1; while [ ! -e "$p" ]; do p=${p%/*}; p=${p:-/}; done; '
"""The path or its nearest existing parent; it begins with ./ or /, both of which exist."""

TOOLS: Mapping[type[questions.Question[Any]], Tool | None] = {
    questions.DigestOf: (_GUARD + 'wc -c < "$1" && sha256sum < "$1" && wc -c < "$1"', _sha256),
    questions.DiskOf: (_NEAREST + 'df -P -k "$p"', _disk),
    # wc fails where some tails only complain
    questions.TailOf: (_GUARD + 'wc -c < "$1" && stat -L -c %Y "$1" && tail -c "$2" "$1"', _tail),
    questions.Now: ("date +%s", _now),
    **dict.fromkeys(
        (
            questions.CheckpointsIn,
            questions.Command,
            questions.ExcerptOf,
            questions.GgufOf,
            questions.Glob,
            questions.GpuList,
            questions.Grep,
            questions.LinesFrom,
            questions.PackagesOf,
            questions.ProcessesUnder,
            questions.ReadText,
            questions.SessionOf,
            questions.TmuxSessions,
            questions.WeightsOf,
            questions.TreeOf,
        )
    ),
}
"""Every question that can be asked; None where only Python can answer."""
