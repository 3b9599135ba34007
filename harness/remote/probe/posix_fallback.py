"""The most basic facts of a box that has no Python: one POSIX command a question (GNU or BusyBox tools)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.core.ids import sha256
from harness.core.observed import Observed
from harness.core.ports import Answers, Json, Question, RunResult

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
    before, digest, _, after = text.split()
    if before != after:
        raise ValueError("the file changed while it was read")
    return {"exists": True, "bytes": int(after), "sha256": sha256(digest)}


def _disk(text: str) -> Json:
    total, used, free = text.splitlines()[-1].split()[1:4]
    return {"total": int(total) * 1024, "used": int(used) * 1024, "free": int(free) * 1024}


def _tail(text: str) -> Json:
    size, _, end = text.partition("\n")
    lines: list[Json] = [*end.removesuffix("\n").split("\n")] if end else []
    return {"exists": True, "bytes": int(size), "lines": lines[-20:]}


def _now(text: str) -> Json:
    return {"time": float(text)}


_GUARD = (
    'export LC_ALL=C; why=$(stat -L "$1" 2>&1 > /dev/null) || case $why in '
    f'*": No such file or directory" | *": Not a directory") exit {_ABSENT};; *) echo "$why" >&2; exit 1;; esac; '
)
"""Only what the system says is not there is absent: [ -e ] is false for whatever cannot be looked at, too."""

_COMMANDS: dict[str, tuple[str, Callable[[str], Json]]] = {
    "stat": (_GUARD + 'stat -L -c "%s %Y %F" "$1"', _stat),
    "sha256": (_GUARD + 'wc -c < "$1" && sha256sum < "$1" && wc -c < "$1"', _sha256),
    "disk": ('df -P -k "$1"', _disk),
    "tail": (_GUARD + 'wc -c < "$1" && tail -c 65000 "$1"', _tail),  # wc fails where some tails only complain
    "now": ("date +%s", _now),
}
