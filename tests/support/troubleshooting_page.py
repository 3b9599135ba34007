"""``docs/troubleshooting.md`` from ``docs/troubleshooting.toml``: each symptom with what is read and what to type.

``python -m tests.support.troubleshooting_page`` writes the page. Exit codes and remedies are the code's own; it fails
for words that no message of the harness holds, and for an error, a check or a scenario that is not there.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.core import errors
from harness.emulator import scenario
from tests.support import gates_page

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs" / "troubleshooting.toml"
PAGE = ROOT / "docs" / "troubleshooting.md"

_VARIES = "…"
_HEAD = """\
# When something goes wrong

Nothing destroys by accident: read first, then type. Every failure ends with three lines: what was wrong, what to do
next, and the exit code ([all of them](exit-codes.md)). `night` stands for your job's name, `night.toml` for its file.
Two commands are safe at any hour and change nothing:

```bash
harness status
harness orphans
```

A symptom with a scenario can be rehearsed on this machine, without an account.
Built by `python -m tests.support.troubleshooting_page`: codes, words and remedies are those of the code.
"""


def source() -> dict[str, Any]:
    """The symptoms, as they are written down."""
    return tomllib.loads(SOURCE.read_text(encoding="utf-8"))


def page(symptoms: Mapping[str, Any]) -> str:
    """The page in Markdown. Raises ValueError with everything that the harness does not know or say."""
    wrong = list(_wrong(symptoms))
    if wrong:
        raise ValueError("\n".join(wrong))
    lines = [_HEAD]
    for group in symptoms["group"]:
        lines += [f"## {group['name']}\n"]
        for one in group["symptom"]:
            lines += [f"### {one['title']}\n", *_told(one), one["why"], "", "```bash", *one["type"], "```\n"]
            if "scenario" in one:
                lines += [f"Rehearse it: `harness demo --scenario {one['scenario']}`\n"]
    return "\n".join(lines)


def _told(one: Mapping[str, Any]) -> Iterator[str]:
    """What the screen says: the code, the words, the remedy."""
    if "error" in one:
        error = getattr(errors, one["error"])
        yield f"Exit code {error.exit_code} (`{one['error']}`), and"
    elif "check" in one:
        anchor = f"gates.md#{one['check'].split('/')[1]}"
        yield f"Exit code {errors.GateHeld.exit_code}, the check [{one['check']}]({anchor}), and"
    else:
        return
    if says := words(one):
        yield from ("", f"> {gates_page.text(says)}")
    yield ""


def rehearsed(name: str) -> Iterator[tuple[int, re.Pattern[str]]]:
    """What a held job must end with when the scenario is played: the exit code, and words of its last lines."""
    for one in (one for group in source()["group"] for one in group["symptom"] if one.get("scenario") == name):
        code = getattr(errors, one.get("error", "GateHeld")).exit_code
        said = one["check"].split("/")[1] + " (" if "check" in one else words(one).removeprefix("next: ")
        yield code, re.compile(".*".join(map(re.escape, said.split(_VARIES))), re.DOTALL)


def words(one: Mapping[str, Any]) -> str:
    """What a symptom is read by: its own words, else what its check or its error says to do."""
    if "says" in one:
        return str(one["says"])
    if "check" in one:
        return f"next: {gates_page.remedies()[one['check']][1]}"
    return f"next: {getattr(errors, one['error']).default_remedy}" if "error" in one else ""


def _wrong(symptoms: Mapping[str, Any]) -> Iterator[str]:
    for one in (one for group in symptoms["group"] for one in group["symptom"]):
        title = one["title"]
        if "error" in one and not hasattr(errors, one["error"]):
            yield f"{title}: there is no error {one['error']}"
        if "check" in one and one["check"] not in gates_page.remedies():
            yield f"{title}: there is no check {one['check']}"
        if "scenario" in one and one["scenario"] not in scenario.names():
            yield f"{title}: there is no scenario {one['scenario']}"
        if "says" in one and not any(one["says"] in said for said in messages()):
            yield f"{title}: nothing says {one['says']!r}"


@cache
def messages() -> frozenset[str]:
    """Every text of the harness's modules; what is put into one when it is said is "…"."""
    found: set[str] = set()
    for path in (ROOT / "harness").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (str(part.value) if isinstance(part, ast.Constant) else _VARIES for part in node.values)
                found.add(re.sub(f"{_VARIES}+", _VARIES, "".join(parts)))
    return frozenset(found)


def main() -> int:
    """Write the page; returns the exit status."""
    try:
        written = page(source())
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    PAGE.write_text(written, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
