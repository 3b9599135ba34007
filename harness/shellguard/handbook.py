"""The operating rules, for people and agents to read before they touch an instance: generated, never written by hand.

They are what the command guard holds (``harness.shellguard.rules``) and what each gate demands (the first
line of every check's docstring). Checks are read as text: nothing of them is imported or run.
"""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path

from harness.core import durable
from harness.core.errors import BadInput
from harness.core.lifecycle import ORDER, Stage
from harness.core.text import printable
from harness.shellguard.rules import RULES, Decision, Rule

BEGIN = "<!-- rules:begin -->"
END = "<!-- rules:end -->"

_PREFIX = "check_"
_HELD = {Decision.DENY: "held", Decision.ASK: "asked about"}


@dataclass(frozen=True, slots=True)
class CheckClaim:
    """Claim of one check, in a sentence."""

    stage: Stage
    check: str
    says: str


def built_in_checks() -> Path:
    """The folder of the checks that come with the harness."""
    return Path(str(resources.files("checks")))


def claims(folder: Path) -> tuple[CheckClaim, ...]:
    """The claims of all checks in ``folder``, in the order of the stages. Raises BadInput when one cannot be read."""
    found: list[CheckClaim] = []
    for stage in ORDER:
        for path in sorted((folder / stage).glob("check_*.py")):
            found.extend(CheckClaim(stage, name, says) for name, says in _claims_of(path))
    if not found:
        raise BadInput(f"no checks found in {folder}")
    return tuple(found)


def _claims_of(path: Path) -> list[tuple[str, str]]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"the checks in {path} cannot be read: {error}") from error
    found: list[tuple[str, str]] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith(_PREFIX):
            says = (ast.get_docstring(node) or "").partition("\n")[0].strip()
            if not says:
                raise BadInput(f"{path}:{node.lineno}: {node.name} has no docstring that states its claim")
            found.append((node.name.removeprefix(_PREFIX), printable(says)))
    return found


def as_data(checks: tuple[CheckClaim, ...]) -> dict[str, list[dict[str, str]]]:
    """The rules for machines: ``held`` (the command guard's) and ``gates`` (the checks')."""
    return {"held": [asdict(rule) for rule in RULES], "gates": [asdict(claim) for claim in checks]}


def as_markdown(checks: tuple[CheckClaim, ...]) -> str:
    """The rules for people and agents, as the text between the markers of a document."""
    stages = [stage for stage in ORDER if any(claim.stage is stage for claim in checks)]
    lines = [
        "## What is held before it runs",
        "",
        "`harness guard` reads a command line as the shell would. What is *held* never runs; what is *asked about*",
        "runs when a person agrees.",
        "",
        *(_rule(rule) for rule in RULES),
        "",
        "## What every gate demands",
        "",
        "A stage is entered only when every claim of the stage before it was looked at and holds. What could not be",
        "looked at is UNKNOWN, and UNKNOWN never opens a gate.",
    ]
    for stage in stages:
        lines += ["", f"### {stage}", ""]
        lines += [f"- `{claim.check}`: {claim.says}" for claim in checks if claim.stage is stage]
    return "\n".join(lines) + "\n"


def _rule(rule: Rule) -> str:
    return f"- **{rule.what}** (`{rule.id}`, {_HELD[rule.decision]}): {rule.why}. Instead: {rule.instead}."


def put_into(document: str, rules: str) -> str:
    """The document with the text between its markers replaced. Raises BadInput when it has not exactly one pair."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in after or END in before + after:
        raise BadInput(
            f"the document has not exactly one {BEGIN} with an {END} behind it",
            remedy=f"put the lines {BEGIN} and {END} where the rules belong",
        )
    return f"{before}{BEGIN}\n{rules}{END}{after}"


def write(path: Path, rules: str) -> bool:
    """Bring the rules in a document up to date; False when they already were. Raises BadInput."""
    try:
        document = path.read_text(encoding="utf-8")
        changed = put_into(document, rules)
        if changed == document:
            return False
        durable.write(path, changed.encode())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be brought up to date: {error}") from error
    return True
