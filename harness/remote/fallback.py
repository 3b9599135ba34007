"""The most basic facts of a box that has no Python: one POSIX command a question (GNU or BusyBox tools)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.observed import Observed
from harness.ports import Answers, Json, Question, RunResult

NO_SUCH_PROGRAM = 127
"""The exit status of a POSIX shell that finds no such command."""

_ABSENT = 44
"""Our own exit status for "there is no such file": no tool below uses it."""

RunOnce = Callable[[Sequence[str], bytes, float, int], RunResult]


def ask(run: RunOnce, questions: Sequence[Question], timeout: float) -> Answers:
    """Answer stat, sha256, disk, tail and now with shell tools; every other question is a problem."""
    return Answers({q.id: _one(run, q, timeout) for q in questions})


def _one(run: RunOnce, question: Question, timeout: float) -> Observed[Json]:
    known = _COMMANDS.get(question.op)
    if known is None:
        return Observed(problem=f"{question.op} needs python3 on the box, and there is none")
    script, parse = known
    path = str(question.args.get("path", "~"))
    ran = run(["sh", "-c", script, "sh", _from_home(path)], b"", timeout, 1 << 16)
    if ran.status == _ABSENT:
        return Observed(value={"exists": False})
    if ran.status != 0:
        return Observed(problem=f"{question.op} on the box: {ran.stderr[-300:].decode('utf-8', 'replace')!r}")
    try:
        return Observed(value=parse(ran.stdout.decode("utf-8", "replace")))
    except (ValueError, IndexError) as error:
        return Observed(problem=f"{question.op} on the box answers oddly: {error}")


def _from_home(path: str) -> str:
    """``~/x`` and ``x`` are both relative to HOME, where a login's commands start; a leading dash is no option."""
    inner = path.removeprefix("~/") if path != "~" else "."
    return inner if inner.startswith("/") else f"./{inner}"


def _stat(text: str) -> Json:
    size, mtime, kind = text.split(" ", 2)
    kinds = {"regular": "file", "directory": "dir"}
    return {"exists": True, "bytes": int(size), "mtime": float(mtime), "kind": kinds.get(kind.split()[0], "other")}


def _sha256(text: str) -> Json:
    size, digest = text.split()[:2]
    return {"exists": True, "bytes": int(size), "sha256": digest}


def _disk(text: str) -> Json:
    total, used, free = text.splitlines()[-1].split()[1:4]
    return {"total": int(total) * 1024, "used": int(used) * 1024, "free": int(free) * 1024}


def _tail(text: str) -> Json:
    return {"exists": True, "lines": [*text.split("\n")]}


def _now(text: str) -> Json:
    return {"time": float(text)}


_GUARD = f'[ -e "$1" ] || exit {_ABSENT}; '
_COMMANDS: dict[str, tuple[str, Callable[[str], Json]]] = {
    "stat": (_GUARD + 'stat -L -c "%s %Y %F" "$1"', _stat),
    "sha256": (_GUARD + 'wc -c < "$1" && sha256sum < "$1"', _sha256),
    "disk": ('df -P -k "$1"', _disk),
    "tail": (_GUARD + 'tail -c 65536 "$1" | tail -n 20', _tail),
    "now": ("date +%s", _now),
}
