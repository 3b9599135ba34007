"""Preflight's own checks on the facts of its first look, judged in this process before anything is staged.

What it finds holds a job early. It opens no gate: preflight judges all of its checks again, on a look of its own.
"""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Iterator
from importlib import import_module
from types import FunctionType

import pytest

from harness.core.ids import CheckId
from harness.core.lifecycle import Stage
from harness.core.observed import CouldNotLook
from harness.core.verdict import Verdict
from harness.facts.preflight import NOT_YET, PreflightFacts
from harness.gates import plan
from harness.gates.evidence import CheckResult, GateResult
from harness.job.model import Job
from harness.plugin.declaring import PREFIX
from harness.plugin.looking import Evidence
from harness.plugin.verdicts import claim_of, next_step, of_error


def judge_at_once(job: Job, facts: PreflightFacts) -> GateResult:
    """Every built-in check of the job's plan that these facts suffice for; one that needs more is left for later."""
    judged = tuple(filter(None, (_judged(check, job, facts) for check in _checks(job))))
    ids = tuple(result.id for result in judged)
    return GateResult(Stage.PREFLIGHT, plan.digest(Stage.PREFLIGHT, ids), ids, judged)


def _checks(job: Job) -> Iterator[FunctionType]:
    declared = plan.declared(Stage.PREFLIGHT, job)
    for module in pkgutil.iter_modules([str(plan.FOLDER / Stage.PREFLIGHT)]):
        for name, found in vars(import_module(f"harness.checks.preflight.{module.name}")).items():
            if name.removeprefix(PREFIX) in declared and isinstance(found, FunctionType):
                yield found


def _judged(check: Callable[..., None], job: Job, facts: PreflightFacts) -> CheckResult | None:
    evidence = Evidence()
    given = {"preflight": facts, "job": job, "evidence": evidence}
    verdict, message = Verdict.PASS, ""
    try:
        check(**{name: given[name] for name in inspect.signature(check).parameters})
    except Exception as error:  # noqa: BLE001 - a check that raises has judged nothing, as in a gate
        if isinstance(error, CouldNotLook) and str(error).endswith(NOT_YET):
            return None
        verdict, message = of_error(pytest.ExceptionInfo.from_exception(error))
    return CheckResult(
        id=CheckId(check.__name__.removeprefix(PREFIX)),
        stage=Stage.PREFLIGHT,
        claim=claim_of(check),
        verdict=verdict,
        saw=tuple(evidence.sights),
        expected=tuple(evidence.expectations),
        message=message,
        remedy="" if verdict is Verdict.PASS else next_step(job, _mark(check), verdict),
    )


def _mark(check: Callable[..., None]) -> pytest.Mark | None:
    marks: list[pytest.Mark] = getattr(check, "pytestmark", [])
    return next((mark for mark in marks if mark.name == "remedy"), None)
