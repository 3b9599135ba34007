"""Evidence: a check's verdict, stored with what it saw and expected. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import TypeAdapter

from harness.core.ids import CheckId
from harness.core.verdict import Verdict, worst

COULD_NOT_LOOK: Final = "could not look: "
"""Beginning of what is said where a look failed; the reason follows."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One named thing that a check looked at, or expected, as bounded printable text."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check's verdict and the evidence for it; ``remedy`` is the next command to type."""

    id: CheckId
    stage: str
    claim: str
    verdict: Verdict
    saw: tuple[Sight, ...] = ()
    expected: tuple[Sight, ...] = ()
    message: str = ""
    remedy: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class GateResult:
    """Decision of a gate: every required check's result, and the plan it was held against.

    ``verdict`` is PASS only when the passed ids are exactly the required ones.
    """

    stage: str
    plan_digest: str
    required: tuple[CheckId, ...]
    results: tuple[CheckResult, ...]
    problems: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def verdict(self) -> Verdict:
        """The worst of all verdicts; a required check without a result, or a problem of the run, is UNKNOWN."""
        verdicts = [result.verdict for result in self.results]
        if self.problems or {result.id for result in self.results} != set(self.required):
            verdicts.append(Verdict.UNKNOWN)
        return worst(verdicts)

    @property
    def missing(self) -> tuple[CheckId, ...]:
        """Required checks that did not report."""
        reported = {result.id for result in self.results}
        return tuple(check for check in self.required if check not in reported)

    def not_passed(self) -> tuple[CheckResult, ...]:
        """The results that keep the gate shut, failures first."""
        shut = [result for result in self.results if result.verdict is not Verdict.PASS]
        return tuple(sorted(shut, key=lambda result: (result.verdict is not Verdict.FAIL, result.id)))


def told_once(results: Iterable[CheckResult]) -> tuple[CheckResult, ...]:
    """Results in which one cause is told once: who could not look because of it names the check that has told it."""
    first: dict[str, CheckId] = {}
    told = []
    for result in results:
        looked_at = result.saw[-1] if result.saw else Sight("", "")
        cause = result.message.removeprefix(COULD_NOT_LOOK).removeprefix(f"{looked_at.name}: ")
        teller = first.setdefault(cause, result.id) if cause else result.id
        if teller != result.id and result.message.startswith(COULD_NOT_LOOK):
            see = f"{COULD_NOT_LOOK}see {teller}"
            saw = tuple(Sight(one.name, see) if cause in one.value else one for one in result.saw)
            told.append(replace(result, saw=saw, message=see, remedy=""))
        else:
            told.append(result)
    return tuple(told)


_RESULT: TypeAdapter[GateResult] = TypeAdapter(GateResult)


def result_from_json(data: Any) -> GateResult:
    """A gate's result out of the event log; raises ValueError when it is not one."""
    return _RESULT.validate_python({name: data[name] for name in GateResult.__slots__ if name in data})
