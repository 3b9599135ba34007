"""The operating rules, for people and agents to read before they touch an instance: generated, never written by hand.

They are what the command guard holds (``harness.shellguard.rules``) and what each gate demands (the first
line of every check's docstring). Checks are read as text: nothing of them is imported or run.
"""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.core import durable
from harness.core.errors import BadInput
from harness.core.lifecycle import ORDER, Stage
from harness.core.text import printable
from harness.shellguard.rules import RULES, Decision, Rule

BEGIN = "<!-- rules:begin -->"
END = "<!-- rules:end -->"

_PREFIX = "check_"
_SEED = "pytest.mark.seed"
_HELD = {Decision.DENY: "held", Decision.ASK: "asked about"}


@dataclass(frozen=True, slots=True)
class CheckClaim:
    """CheckClaim of one check, in a sentence."""

    stage: Stage
    check: str
    says: str
    seeds: tuple[tuple[str, str], ...] = ()
    """The operating rules that it keeps, as its marks ``seed`` name them: document, rule."""


def claims(folder: Path) -> tuple[CheckClaim, ...]:
    """The claims of all checks in ``folder``, in the order of the stages. Raises BadInput when one cannot be read."""
    found: list[CheckClaim] = []
    for stage in ORDER:
        for path in sorted((folder / stage).glob("check_*.py")):
            found.extend(_claims_of(path, stage))
    if not found:
        raise BadInput(f"no checks found in {folder}")
    return tuple(found)


def _claims_of(path: Path, stage: Stage) -> list[CheckClaim]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, ValueError, SyntaxError) as error:
        raise BadInput(f"the checks in {path} cannot be read: {error}") from error
    found: list[CheckClaim] = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith(_PREFIX):
            says = (ast.get_docstring(node) or "").partition("\n")[0].strip()
            if not says:
                raise BadInput(f"{path}:{node.lineno}: {node.name} has no docstring that states its claim")
            seeds = tuple(_seed(mark, path) for mark in node.decorator_list if ast.unparse(mark).startswith(_SEED))
            found.append(CheckClaim(stage, node.name.removeprefix(_PREFIX), printable(says), seeds))
    return found


def _seed(mark: ast.expr, path: Path) -> tuple[str, str]:
    said = mark.args if isinstance(mark, ast.Call) else []
    match said:
        case [ast.Constant(str(document)), ast.Constant(str(rule))]:
            return document, rule
    raise BadInput(f"{path}:{mark.lineno}: a mark seed names a document and a rule in it")


def as_data(checks: tuple[CheckClaim, ...]) -> dict[str, list[dict[str, Any]]]:
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


READING = (
    "vastai_llm_training/README.md",
    "vastai_llm_training/VASTAI_MAX_SPEED_AGENT.md",
    "vastai_llm_training/GOLD_STANDARD_VERIFICATION.md",
    ".claude/rules/vastai-safety.md",
)
"""The documents that the first user's agents must read before they train, in this order."""

_NEW = f"""\
# Safety rules for rented GPU machines

NEVER DESTROY AN INSTANCE UNTIL THE DOWNLOAD IS VERIFIED LOCALLY. Its disk goes with it, and nothing brings it back.

Read in this order, before any training operation:

{"".join(f"{number}. `{name}`{chr(10)}" for number, name in enumerate(READING, 1))}
`harness run JOBFILE` keeps the order, `harness destroy` is the one way to end an instance, and `harness guard` stands
before every command line (`docs/command-guard.md`). What follows is written by `harness rules --write FILE`.

{BEGIN}
{END}
"""
"""Text of a document of rules that is not there yet."""


def write(path: Path, rules: str) -> bool:
    """Bring the rules in a document up to date, or begin it; False when they already were. Raises BadInput."""
    try:
        document = path.read_text(encoding="utf-8") if path.exists() else _NEW
        changed = put_into(document, rules)
        if changed == document:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.write(path, changed.encode())
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be brought up to date: {error}") from error
    return True
