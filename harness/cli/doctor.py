"""``harness doctor``: what a job will need of this machine and its providers, seen in seconds; nothing is changed."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from harness.cli.job_argument import job_of
from harness.cli.wording import STYLES
from harness.core import environment
from harness.core.clock import SystemClock
from harness.core.errors import BadInput, GateHeld, GateUnknown, HarnessError, MissingExtra, NoKey
from harness.core.finding import Finding
from harness.core.observed import Observed, unseen
from harness.core.side_by_side import side_by_side
from harness.core.text import human_bytes, one_line
from harness.core.verdict import Verdict, worst
from harness.facts import preflight, runtime, teardown
from harness.facts.preflight import NOT_YET
from harness.facts.reading import attempt
from harness.job.load import load_job
from harness.job.model import Job
from harness.job.provider import ProviderTable
from harness.ledger.bills import Billing
from harness.providers import registry
from harness.runner import switch
from harness.wiring import OpenContext, open_first_look, open_ledger, open_provider, open_wall, own_public_key

_WITHIN_S: Final = 3.0
"""Seconds after which a provider that has not answered is not waited for: the whole look takes less than five."""
_LOGIN_S: Final = 20.0
"""As of ``_WITHIN_S``, for a machine of one's own: a login over SSH takes several round trips."""
_APART_S: Final = 120.0
"""Seconds by which this machine's clock and a provider's may disagree."""
_PACKAGE: Final = "gold-standard-harness"
_PURPOSES: Final = {
    "training": "preparing the built-in package's data, and trying a package here (gates.smoke_run)",
    "runtime": "having the finished model generate here (gates.generate)",
    "notify": "notifications by other targets than a file (HARNESS_NOTIFY, [notify] urls)",
}


def doctor(
    job: Annotated[
        Path | None, typer.Argument(help="A job file, or the name of a job that has begun: judged by a first look.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON, for machines.")] = False,
) -> None:
    """Look, in seconds, at what a job will need of this machine and its providers; nothing is changed."""
    home = environment.home()
    # a machine of one's own is asked with a job, which names it
    kinds = [kind for kind in registry.kinds() if registry.is_billed(kind) and not registry.is_embedded(kind)]
    looks: dict[str, Callable[[], object]] = {kind: partial(_provider, kind, home) for kind in kinds}
    looks["runtime"] = runtime.ready
    with ExitStack() as stack:
        context = None if job is None else stack.enter_context(open_first_look(_meant(job, home), home))
        if context is not None and not registry.is_embedded(context.job.provider.kind):
            looks["account"] = partial(_account, context)
            looks["orphans"] = partial(teardown.orphans, context)
        machine = [_python(), *_state(home), *_own_key(home), _guard(), _wall()]
        seen = _seen(looks, _WITHIN_S if context is None or context.job.is_billed else _LOGIN_S)
        findings = [*machine, *_extras(seen["runtime"]), _emulator()]
        for kind in kinds:
            findings += seen[kind].value or [_unknown(f"account {kind}", seen[kind].problem or "")]
        if context is not None:
            findings += _first_look(context, seen)
    verdict = worst(finding.verdict for finding in findings)
    if as_json:
        told = [asdict(finding) for finding in findings]
        typer.echo(json.dumps({"home": str(home), "verdict": verdict, "findings": told}, indent=1))
    else:
        _show(Console(), findings)
    shut = [finding for finding in findings if finding.verdict is not Verdict.PASS]
    if shut:
        remedy = next((finding.remedy for finding in shut if finding.verdict is verdict and finding.remedy), None)
        told_of = ", ".join(finding.id for finding in shut)
        raise (GateHeld if verdict is Verdict.FAIL else GateUnknown)(f"not as it should be: {told_of}", remedy=remedy)


def _meant(typed: Path, home: Path) -> tuple[Job, Path]:
    """The job that the argument names; a store that is not there is not made for that."""
    return job_of(typed) if environment.has_state(home) else (load_job(typed), typed)


def _seen(looks: Mapping[str, Callable[[], object]], within_s: float) -> dict[str, Observed[Any]]:
    """Outcome of each look; one that does not end in time is left alone."""
    late: Observed[Any] = unseen(f"no answer within {within_s:g} s")
    each = [partial(attempt, look) for look in looks.values()]
    return dict(zip(looks, side_by_side(each, within_s, late), strict=True))


def _python() -> Finding:
    return Finding(
        "python",
        "Python and this system can run the harness",
        Verdict.PASS,  # or this command would not have started
        f"{platform.python_version()} ({sys.executable}), {platform.system()} {platform.machine()}",
        "3.11 or newer",
    )


def _state(home: Path) -> Iterator[Finding]:
    """The folder of all jobs, and which of them may be billing."""
    free = attempt(lambda: shutil.disk_usage(preflight.writable(home)).free)
    yield Finding.of(
        "state",
        "The folder of the jobs can be written to",
        free.problem is None,
        f"{home}: " + (free.problem or f"{human_bytes(free.get())} free"),
        "a folder that can be written to",
        remedy=f"make it writable, or name another in {environment.HOME_VARIABLE}",
    )
    if not environment.has_state(home):
        yield Finding("jobs", "No job bills that is forgotten", Verdict.PASS, "no job has begun", "known jobs")
        return
    try:
        with open_ledger(home) as ledger:
            rows: list[dict[str, Any]] = ledger.rows(SystemClock().now())
    except HarnessError as error:
        yield Finding("jobs", "The event log reads", Verdict.FAIL, str(error), "a log that reads", error.remedy)
        return
    bills = [_bills(row) for row in rows if row["bills"]["state"] != Billing.NOTHING]
    none = f"{len(rows)} jobs, none of which has an instance"
    yield from bills or [Finding("jobs", "No job bills that is forgotten", Verdict.PASS, none, "known jobs")]


def _bills(row: Mapping[str, Any]) -> Finding:
    """A job of which something bills, or may."""
    name, claim = row["job"], "What may bill is known, and to whom it belongs"
    if row["alive"] is not None and not row.get("unresolved"):
        held = f", held: {row['held']}" if row.get("held") else ""
        seen = f"{row['bills']['told']}{held}; harness status {name}"
        return Finding(f"job {name}", claim, Verdict.PASS, seen, "a known instance")
    told = str(row.get("unreadable") or row["bills"]["told"])
    remedy = str(row.get("remedy") or f"harness orphans {name} shows what bills; harness run {name} goes on with it")
    return Finding(f"job {name}", claim, Verdict.UNKNOWN, told, "a known instance", remedy)


def _own_key(home: Path) -> Iterator[Finding]:
    key = attempt(lambda: own_public_key(home) or "none yet: the first job makes it")
    yield Finding.of(
        "ssh key",
        "The harness's own SSH key opens boxes",
        key.problem is None,
        key.problem or key.get()[:60],
        "a private key without a passphrase",
        remedy="move it away: the harness then makes another, and has it attached",
    )
    ssh = shutil.which("ssh")
    told = ssh or "not on PATH: the harness brings its own, you may want one to look at a box yourself"
    yield Finding("ssh", "OpenSSH is here for your own looks", Verdict.PASS, told, "ssh on PATH")


def _guard() -> Finding:
    from harness.shellguard import shim  # noqa: PLC0415 - few commands need it

    folder, claim = shim.directory(), "The command guard is asked where it is installed"
    installed = folder.is_dir() and any(shim.is_shim(path) for path in folder.iterdir())
    if not installed:
        return Finding("guard", claim, Verdict.PASS, "not installed; harness guard install does", "asked first")
    found = str(folder) in environment.search_path()
    seen = f"{folder} is {'on' if found else 'not on'} this shell's PATH"
    return Finding.of("guard", claim, found, seen, "on PATH", remedy=f"put {folder} first on PATH")


def _wall() -> Finding:
    def is_built() -> bool:
        return open_wall(registry.DEFAULT).store.path.is_file()

    built = attempt(is_built).value
    told = "built: harness guard status tries it" if built else "none; harness guard lock builds one"
    return Finding("wall", "A key that cannot destroy is the everyday one", Verdict.PASS, told, "your choice")


def _extras(loads: Observed[str]) -> Iterator[Finding]:
    """One line an extra, for people: what a job needs of them is judged by the job's first look."""
    purposes: dict[str, str] = {}
    for kind, extras in registry.EXTRAS.items():
        for extra in extras:
            purposes[extra] = f"{purposes[extra]} and {kind!r}" if extra in purposes else f"jobs at {kind!r}"
    for extra, purpose in {**purposes, **_PURPOSES}.items():
        missing, claim = _lacking(extra), f"The extra [{extra}] is whole, or not wanted: it is for {purpose}"
        if missing is None:
            told = "cannot be told: the harness is not installed as a package"
            yield Finding(f"[{extra}]", claim, Verdict.PASS, told, "installed")
        elif missing:
            told = f"for {purpose}; not here: {', '.join(missing)}; pip install '{_PACKAGE}[{extra}]'"
            yield Finding(f"[{extra}]", claim, Verdict.PASS, told, "installed")
        elif extra == "runtime" and loads.problem is not None:
            yield Finding(
                f"[{extra}]", claim, Verdict.UNKNOWN, loads.problem, "it loads", f"pip install '{_PACKAGE}[{extra}]'"
            )
        else:
            yield Finding(f"[{extra}]", claim, Verdict.PASS, f"installed, for {purpose}", "installed")


def _lacking(extra: str) -> tuple[str, ...] | None:
    """Packages of an extra that are not installed, or in a version that it does not take; None when nobody knows."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - comes with pytest

    try:
        told = [Requirement(one) for one in metadata.requires(_PACKAGE) or ()]
    except metadata.PackageNotFoundError:
        return None
    missing = []
    for one in told:
        if one.marker is None or not one.marker.evaluate({"extra": extra}):
            continue
        try:
            version = metadata.version(one.name)
        except metadata.PackageNotFoundError:
            missing.append(one.name)
            continue
        if not one.specifier.contains(version, prereleases=True):
            missing.append(f"{one.name}{one.specifier} ({version} is here)")
    return tuple(missing)


def _emulator() -> Finding:
    claim, expected = "Embedded machines can run here", "Linux or macOS, and the extras of the embedded provider"
    if sys.platform == "win32":
        told = "not on Windows itself: inside WSL"
    elif any(_lacking(extra) for extra in registry.EXTRAS["emulated"]):
        told = "not yet: extras are missing, see above"
    else:
        from harness.emulator.box.container import can_isolate  # noqa: PLC0415 - an extra

        told = "containers" if can_isolate() else "plain processes: this kernel permits no containers"
    return Finding("embedded", claim, Verdict.PASS, told, expected)


def _provider(kind: str, home: Path) -> list[Finding]:
    """The account of a provider that has a key here, its credit, and its clock."""
    name, claim, clock = f"account {kind}", "The API key answers, and there is credit", SystemClock()
    try:
        account = open_provider(ProviderTable(kind=kind), home, clock).account()
    except MissingExtra as error:
        return [Finding(name, claim, Verdict.PASS, f"not asked: {error}: {error.remedy}", "a key that answers")]
    except BadInput as error:
        verdict = Verdict.PASS if isinstance(error, NoKey) else _without_key(kind)
        told = f"{error}; needed to rent there" if verdict is Verdict.PASS else str(error)
        return [Finding(name, claim, verdict, told, "a key that answers", error.remedy)]
    except HarnessError as error:
        return [_unknown(name, str(error), error.remedy)]
    now = clock.now()
    findings = [
        Finding.of(
            name,
            claim,
            account.credit_usd > 0,
            f"account {account.user_id}, {account.credit_usd:.2f} USD of credit",
            "more than 0 USD",
            remedy="add credit in the provider's console",
        )
    ]
    if account.at is not None:
        apart = now - account.at
        seen = f"{abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} the provider's"
        right = abs(apart) <= _APART_S
        remedy = "set this machine's clock (turn on its synchronisation)"
        findings.append(Finding.of("clock", "This machine's clock is right", right, seen, "120 s", remedy=remedy))
    return findings


def _without_key(kind: str) -> Verdict:
    """Verdict on a provider that does not open: PASS where there is simply no key, FAIL for a key that is none."""
    try:
        return Verdict.FAIL if any(place.key for place in open_wall(kind).issuer.places()) else Verdict.PASS
    except BadInput:
        return Verdict.UNKNOWN


def _account(context: OpenContext) -> object:
    return context.provider().account()


def _unknown(name: str, problem: str, remedy: str = "") -> Finding:
    again = remedy or "check the network (and a proxy's variables), then the same command again"
    return Finding(name, "The provider answers", Verdict.UNKNOWN, problem, "an answer", again)


def _first_look(context: OpenContext, seen: Mapping[str, Observed[Any]]) -> Iterator[Finding]:
    """The job's own checks, as its run judges them before anything else; what is still to be made is left to that."""
    from harness.plugin.at_once import judge_at_once  # noqa: PLC0415 - loads pytest

    told = {"account": unseen(NOT_YET), "orphans": unseen(NOT_YET), "runtime": seen["runtime"]}
    told |= {name: seen[name] for name in ("account", "orphans") if name in seen}
    missing = [extra for extra in registry.EXTRAS.get(context.job.provider.kind, ()) if _lacking(extra)]
    if missing:
        lacks = MissingExtra(f"a job at {context.job.provider.kind!r}", ",".join(missing))
        told["account"] = unseen(f"{lacks}: {lacks.remedy}")
    if not context.job.gates.generate:
        told["runtime"] = unseen(NOT_YET)
    key = attempt(lambda: own_public_key(context.home) or "")
    told["public_key"] = unseen(NOT_YET) if key.value == "" else key
    if context.job.limits.stop_unheard_s is not None:
        yield _switch(context)
    for one in judge_at_once(context.job, preflight.first_look(context, **told)).results:
        saw = "; ".join(f"{sight.name} = {sight.value}" for sight in one.saw)
        expected = "; ".join(f"{sight.name} = {sight.value}" for sight in one.expected)
        yield Finding(one.id, one.claim, one.verdict, one.message or saw, expected, one.remedy)


def _switch(context: OpenContext) -> Finding:
    claim, expected = "The box can get a key that does nothing but stop it", "a key that makes others"
    try:
        switch.require_possible(context)
    except BadInput as error:
        return Finding("switch", claim, Verdict.FAIL, str(error), expected, error.remedy)
    except HarnessError as error:
        return Finding("switch", claim, Verdict.UNKNOWN, str(error), expected, error.remedy)
    return Finding("switch", claim, Verdict.PASS, f"{switch.FIELD} = {context.job.limits.stop_unheard_s:g}", expected)


def _show(console: Console, findings: list[Finding]) -> None:
    for finding in findings:
        word, limit = (f"{finding.verdict.upper():<8}", STYLES[finding.verdict]), 700
        if finding.verdict is Verdict.PASS:
            limit = 160
        console.print(Text.assemble(word, f"{finding.id:<26} {one_line(finding.seen, limit)}"), soft_wrap=True)
        if finding.verdict is not Verdict.PASS:
            console.print(Text(f"        expected  {one_line(finding.expected, 700)}", style="dim"), soft_wrap=True)
            console.print(Text(f"        next      {one_line(finding.remedy, 700)}", style="dim"), soft_wrap=True)
