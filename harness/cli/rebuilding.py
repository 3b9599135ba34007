"""``harness adopt`` without a job file: one is written from what instance, box and this machine tell of the job.

The box is a stranger: it could tell of ten rows so that a training on ten rows passes. What it tells stands in the file
as its claim, for a person to compare; where this machine knows better, that stands there, and the difference is said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import typer

from harness.cli.init import Questions, folder_here, quantization_of, shape_of, usual_package
from harness.core import durable
from harness.core.errors import BadInput, Claimed, HarnessError
from harness.core.ids import InstanceId, JobName, job_in_label, job_name
from harness.core.ports import Instance
from harness.core.text import command_line, one_line
from harness.facts import rebuilt
from harness.gates.facts_file import read_facts
from harness.job import profiles, told
from harness.job import rebuilt as rebuilt_file
from harness.job.load import load_job, parse_job
from harness.job.model import Job
from harness.job.writing import Stated, place, stated_file
from harness.ledger.jobs import Ledger
from harness.runner import adoption
from harness.runner.progress import ProgressReporter
from harness.wiring import OpenContext, open_ledger, open_look

_JUDGED: Final = {
    "rows": told.FILES,
    "steps": ("training", "steps"),
    "base model": ("model", "base"),
    "model": ("artifact", "kind"),
    "quantization": ("artifact", "quantization"),
}
"""Fields that the gates judge the most by, in words."""
_OPTION: Final = "what you have typed"


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line; None for what was not typed."""

    provider: str
    name: str | None = None
    package: Path | None = None
    destination: Path | None = None
    model: str | None = None
    quantization: str | None = None
    remote_dir: str | None = None
    defaults: bool = False


def rebuild(instance_id: InstanceId, answers: Options, key: Path | None, reporter: ProgressReporter) -> None:
    """Write the job file of an instance, say what it rests on, and raise Claimed: a person is needed.

    Raises BadInput for an instance that a job here has, for a file that is there, and where nobody can be asked.
    """
    again = f"harness adopt --instance-id {instance_id}"
    draft = _draft(answers)
    with open_ledger() as ledger:
        if (owner := ledger.owner(instance_id, draft.provider)) is not None:
            raise BadInput(
                f"job {owner} has this instance, and knows what its training should be",
                remedy=f"harness status {owner} says how it stands; harness destroy {owner} ends it.",
            )
        with open_look(adoption.adopted_name(draft, instance_id), key) as context:
            shown = _shown(context, draft, instance_id)
            typed = Questions(defaults=True).ask("--name", answers.name, "", "", job_name) if answers.name else None
            name = typed or job_in_label(shown.label)
            path = Path(f"{name or 'adopted'}-{instance_id}.toml")
            if path.exists():
                raise BadInput(
                    f"{path} is there already, and nothing is overwritten",
                    remedy=f"Go on with it ({again} --job-file {path} --check), or move it out of the way.",
                )
            typer.echo(_told_of(shown, name))
            adoption.reach(context, instance_id, reporter, again)
            known = known_here(ledger, context.home, name) if name is not None else None
            found = _look(context, answers, known, Questions(defaults=answers.defaults))
    merged = told.merged(found.accounts)
    for line in _summary(merged, found):
        typer.echo(line)
    around = _around(shown, found.remote_dir, answers, known[0] if known else None)
    text = rebuilt_file.text(merged, name or "adopted", path, around)
    if not durable.create(path, text.encode()):
        raise BadInput(f"{path} is there already, and nothing is overwritten")
    typer.echo(f"wrote {path}")
    raise Claimed(
        f"{path} holds what the box says of itself, and nothing proves that it is what you meant",
        remedy=f"Compare, correct, and see what would hold: {again} --job-file {command_line([str(path)])} --check",
    )


def _draft(answers: Options) -> Job:
    """A job that has a provider, to log in by."""
    stated = (
        Stated("", {"name": "adopted", "profile": profiles.FIRST}, ()),
        Stated("package", {"source": str(usual_package())}, ()),
        Stated("provider", {"kind": answers.provider}, ()),
    )
    return parse_job(stated_file("", stated), Path("--provider"))


def _shown(context: OpenContext, draft: Job, instance_id: InstanceId) -> Instance:
    provider = context.open_provider(draft.provider, context.home, context.clock)
    adoption.adopt(context.store, provider, draft, Path(), instance_id)
    shown = context.provider().instance(instance_id)
    if shown is None:
        raise BadInput(f"the provider shows no instance {instance_id} any more")
    return shown


def known_here(ledger: Ledger, home: Path, name: JobName) -> tuple[Job, str] | None:
    """A job of that name, and where it is known from: the ledger, its evidence, a job file here."""
    try:
        if (begun := ledger.begun(name)) is not None:
            return begun[0], f"the log of job {name}"
    except HarnessError:
        pass  # a folder without its log: what it holds is looked at
    evidence = (home / "jobs" / name / "evidence").glob("*.json")
    for file in sorted(evidence, key=lambda one: one.stat().st_mtime, reverse=True):
        try:
            return read_facts(file).job, f"jobs/{name}/evidence/{file.name}"
        except HarnessError:
            continue
    try:
        return load_job(Path(f"{name}.toml")), f"{name}.toml"
    except HarnessError:
        return None


def _look(context: OpenContext, answers: Options, known: tuple[Job, str] | None, questions: Questions) -> rebuilt.Found:
    """All accounts of the job, the surest first; who is at a terminal is asked for what nobody tells."""
    usual, ask = profiles.tables(profiles.FIRST), questions.ask
    host = context.host()
    there = answers.remote_dir or (known[0].package.remote_dir if known else None) or rebuilt.place(host)
    usual_dir = usual["package"]["remote_dir"]
    there = there or ask("--remote-dir", None, "Folder of the package on the box", usual_dir, str)
    better = [told.of_job(*known)] if known else []
    source = known[0].package.source if known else Path(usual_package())
    if answers.package is not None:
        source = ask("--package", answers.package, "", "", folder_here)
    chosen = known is not None or answers.package is not None
    found = rebuilt.look(host, there, source, tuple(better), chosen=chosen)
    said: dict[told.Place, Any] = {}
    fields = told.merged(found.accounts).by
    if answers.model is not None or ("model", "base") not in fields:
        base = ask("--model", answers.model, "Base model", usual["model"]["base"], str)
        shape = usual["model"] if base == usual["model"]["base"] else shape_of(base)
        said |= {("model", name): value for name, value in shape.items()}
    if answers.quantization is not None or ("artifact", "kind") not in fields:
        usually = usual["artifact"]["quantization"]
        typed = ask("--quantization", answers.quantization, "Quantization", usually, quantization_of)
        said |= {("artifact", "quantization"): typed, ("artifact", "kind"): "gguf"}
    return found.after(told.JobAccount(_OPTION, said, known=True))


def _around(shown: Instance, remote_dir: str, answers: Options, known: Job | None) -> list[Stated]:
    """Everything in the file that no account of the job tells: provider, machine, folders here."""
    source = answers.package or (known.package.source if known else Path(usual_package()))
    destination = answers.destination or (known.artifact.destination if known else None)
    gpu, usd = one_line(shown.gpu_name, 200).replace(" ", "_"), shown.usd_per_hour
    stated = [
        Stated("package", {"source": place(source, Path())}, ("The package here, chosen here.",)),
        Stated("package", {"remote_dir": remote_dir}, ("Where it lies on the box.",)),
        Stated("provider", {"kind": answers.provider}, ("Where the instance was found.",)),
        Stated(
            "machine",
            {"gpu": gpu, "gpus": max(shown.num_gpus, 1), "max_usd_per_hour": usd if usd > 0 else 0.01},
            ("As the provider shows the instance.",),
        ),
        Stated("limits", {"budget_usd": known.limits.budget_usd if known else 20.0}, ("An adoption rents nothing.",)),
    ]
    if destination is not None:
        stated.append(Stated("artifact", {"destination": place(destination, Path())}, ("Chosen here.",)))
    return stated


def _told_of(shown: Instance, name: JobName | None) -> str:
    whose = f"this harness's, job {name}" if job_in_label(shown.label) else "not this harness's"
    label = one_line(shown.label or "none", 200)
    return (
        f"instance {shown.id}, by the provider: {shown.status}, {shown.num_gpus}x {one_line(shown.gpu_name, 200)}, "
        f"${shown.usd_per_hour:.2f} an hour, label {label} ({whose})"
    )


def _summary(merged: told.Merged, found: rebuilt.Found) -> Iterator[str]:
    """Lines for a person: what the gates depend on first."""
    yield f"the training in {one_line(found.remote_dir, 200)}; compare with what you meant:"
    for words, at in _JUDGED.items():
        if at in merged.by:
            by = merged.by[at]
            whose = "known, by" if by.known else "CLAIMED by the box, in"
            yield f"  {words}: {told.shown(merged[at])} ({whose} {by.where})"
        else:
            yield f"  {words}: nobody has told: see to it in the file"
    if found.same:
        yield f"  package: the one here is the one there, file for file (SHA-256 {found.package})"
    elif found.other:
        named = one_line(", ".join(found.other[:5]))
        yield f"  package: DIFFERS from the one here in {len(found.other)} files: {named}"
    else:
        yield "  package: not compared; --package FOLDER names the one that was sent"
    yield from (f"  DIFFERS: {one}" for one in merged.differing)
    left_out = dict.fromkeys(field for one in found.accounts for field in one.left_out)
    if left_out:
        yield f"  left out, for it is not what it should be: {', '.join(list(left_out)[:20])}"
    loose = [".".join(at) for at, by in merged.by.items() if at in told.LOOSENING and not by.known]
    if loose:
        yield f"  left to you, for a check is done without by it: {', '.join(loose)} (as comments in the file)"
    yield from (f"  not read: {one}" for one in found.unread)
