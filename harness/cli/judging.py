"""``python -m harness.cli.judging``: the command guard beside the ledger, so that it names the line that is open now.

``--judge`` answers a coding agent's hook, ``--shim ARGUMENTS`` is the shim. The jobs are looked at only when an act on
an instance is held; a ledger that does not read changes the answer's advice, and never the answer.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from harness.core import environment
from harness.core.lifecycle import Stage
from harness.shellguard import rules
from harness.shellguard.__main__ import INNER
from harness.shellguard.__main__ import main as hook
from harness.shellguard.explain import by_rule
from harness.shellguard.seen import Violation

if TYPE_CHECKING:
    from harness.core.ids import InstanceId
    from harness.ledger.history import History

_ENDS_ONE = (rules.DESTROY, rules.RECYCLE, rules.DIRECT, rules.STOP)
_NUMBER = re.compile(r"\d{3,}")


def instead(violation: Violation) -> str:
    """The way that is open: for an act on an instance, the line for the very job that has it."""
    if violation.rule not in _ENDS_ONE:
        return by_rule(violation)
    try:
        if not environment.has_state(environment.home()):
            return by_rule(violation)
        from harness.wiring import open_ledger  # noqa: PLC0415  # loads SQLAlchemy, which few lines need

        with open_ledger() as ledger:
            histories, _ = ledger.read()
        return way_out(violation, histories.values())
    except Exception:  # noqa: BLE001  # the line stays held whatever the ledger does
        return by_rule(violation)


def way_out(violation: Violation, histories: Iterable[History]) -> str:
    """The line for each job whose instance the words name; without a number in them, for every job that has one."""
    numbered = _NUMBER.search(violation.words)
    lines = [
        _line(history)
        for history in histories
        if history.alive is not None and (not numbered or _names(violation.words, history.alive.instance_id))
    ]
    return "; ".join(lines) if lines else by_rule(violation)


def _names(words: str, instance_id: InstanceId) -> bool:
    return re.search(rf"(?<![a-zA-Z0-9]){re.escape(str(instance_id))}(?![a-zA-Z0-9])", words) is not None


def _line(history: History) -> str:
    name, instance = history.job.name, history.alive.instance_id if history.alive else None
    if history.passed(Stage.POSTDOWNLOAD) and history.verified is not None:
        return f"harness destroy {name} (instance {instance}: {history.verified.path} is verified at home)"
    return f"harness run {name} brings the model of instance {instance} home first, then: harness destroy {name}"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--shim"]:
        from harness.shellguard import shim

        sys.exit(shim.main(tuple(sys.argv[2:]), instead))
    sys.exit(hook(inner=INNER in sys.argv[1:], judging="harness.cli.judging", instead=instead))
