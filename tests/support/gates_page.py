"""``docs/gates.md``: every check with its claim, its remedy, and the stories behind it.

``python -m tests.support.gates_page`` writes the page: claims and remedies from the checks themselves, read as text;
the first user's rules from the marks that ``harness rules --trace`` prints; what happened to others from
``docs/seeds.toml`` and the emulator's scenarios. It fails for a story without a source, and for a check that is not
there.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from harness.core import shipped
from harness.core.lifecycle import ORDER
from harness.emulator import scenario
from harness.shellguard import handbook, seeds

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "docs" / "seeds.toml"
PAGE = ROOT / "docs" / "gates.md"
CHECKS = "https://github.com/gold-standard-harness/gold-standard-harness/blob/main/checks"

_REPORT = re.compile(r"[\w.-]+/[\w.-]+#\d+")
_HEAD = """\
# What each gate protects from

A stage is over only when every claim below it was looked at and holds. For each check: its claim, the stories behind
it, and what the harness tells you to do when it does not hold. Stories are rules of the
[first user's documents](seeds.md), public reports, and scenarios of the [emulator](emulator.md), which
`harness demo --scenario NAME` plays here. A check that nobody's story stands behind guards the chain between two that
have one.

Built by `python -m tests.support.gates_page` from the checks themselves: a claim here is the first line of the check's
docstring. Which rule of the first user is kept by which check: `harness rules --trace`.
"""
_BEFORE = {
    "preflight": "On your machine, before a cent is spent.",
    "provision": "The rented machine is the one that was rented, and can be reached.",
    "upload": "What will run there is what was judged here.",
    "install": "Everything that the training and the export need works, before they begin.",
    "launch": "The training has begun as it was planned. Stopped here it has cost minutes.",
    "training": "At every look while it trains, and once at its end.",
    "posttrain": "On the box, before the download: the model is finished, whole, and carries the training.",
    "postdownload": "On your disk: the gate behind which the instance may go.",
    "teardown": "The instance goes for this file's sake alone, and is proven to be gone.",
}


def page(source: Mapping[str, Any]) -> str:
    """The page in Markdown. Raises ValueError naming every story that has no source, or no check."""
    claims = handbook.claims(shipped.folder("checks"))
    told = _stories(source, {f"{claim.stage}/{claim.check}" for claim in claims})
    rules = {(rule.document, rule.rule): rule for rule in seeds.RULES}
    said = remedies()
    lines = [_HEAD]
    for stage in ORDER:
        lines += [f"\n## {stage}\n", _BEFORE[stage]]
        for claim in claims:
            if claim.stage is not stage:
                continue
            place = f"{stage}/{claim.check}"
            file, remedy = said[place]
            lines += [f"\n### {claim.check}\n", text(claim.says)]
            behind = [f"{document}, {rule}: *{text(rules[document, rule].words)}*" for document, rule in claim.seeds]
            stories = [f"- {story}" for story in (*behind, *told.get(place, ()))]
            lines += ["", *stories] if stories else []
            lines += ["", f"If not: {text(remedy)}. ([source]({CHECKS}/{file}))"]
    return "\n".join(lines) + "\n"


def _stories(source: Mapping[str, Any], checks: set[str]) -> dict[str, list[str]]:
    """Sentences by check. Raises ValueError with all that is wrong."""
    told: dict[str, list[str]] = {}
    wrong = []
    for one in source["failure"]:
        name = one.get("scenario") or one.get("source", "")
        if "scenario" in one and name in scenario.names():
            story = f"{text(scenario.load(name).about)} (`harness demo --scenario {name}`)"
        elif _REPORT.fullmatch(name) and one.get("says"):
            repository, _, number = name.partition("#")
            story = f"{text(one['says'])} ([{name}](https://github.com/{repository}/issues/{number}))"
        else:
            wrong.append(f"a failure has neither a report with its words nor a scenario: {name!r}")
            continue
        for check in one["by"]:
            told.setdefault(check, []).append(story)
    wrong += [f"{check} is not there" for check in sorted(told.keys() - checks)]
    if wrong:
        raise ValueError("\n".join(wrong))
    return told


@cache
def remedies() -> Mapping[str, tuple[str, str]]:
    """By check: its file below ``checks``, and what its mark ``remedy`` says first."""
    found = {}
    for path in sorted((ROOT / "checks").glob("*/check_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for mark in node.decorator_list:
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.remedy":
                    name = f"{path.parent.name}/{node.name.removeprefix('check_')}"
                    said = str(ast.literal_eval(mark.args[0])).replace("{job}", "JOB")
                    found[name] = f"{path.parent.name}/{path.name}", said
    return found


def text(words: str) -> str:
    """Words in which Markdown sees no mark of its own."""
    return re.sub(r"([*_<|`\[\]])", r"\\\1", words)


def main() -> int:
    """Write the page; returns the exit status."""
    try:
        written = page(tomllib.loads(SOURCE.read_text(encoding="utf-8")))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    PAGE.write_text(written, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
