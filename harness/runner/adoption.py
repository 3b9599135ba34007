"""Takes over an instance that no job here has rented: it is judged, brought home and destroyed like any other.

What came before is not known and is not made up: an adopted job's plan leaves those stages out,
says so, and begins where the finished training is judged against the operator's own job file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from harness.context import RunnerContext
from harness.core.errors import GateUnknown, ProviderUnavailable, Refused
from harness.core.ids import InstanceId, JobName, job_name
from harness.core.lifecycle import Stage
from harness.core.ports import Instance, InstanceStatus, Provider
from harness.core.verdict import Verdict
from harness.gates import judge as gates
from harness.gates.evidence import CheckResult
from harness.job.model import Job
from harness.ledger.events import Adopted, Opened, Pinned, Reopened
from harness.ledger.ownership import place
from harness.ledger.store import EventStore
from harness.runner import postdownload
from harness.runner.progress import ProgressReporter
from harness.runner.run import shut_gate

_ROOM = 40
"""Characters of a job file's name that an adopted job keeps; the instance's number follows."""


def adopted_name(job: Job, instance_id: InstanceId) -> JobName:
    """The name of the job that takes over an instance: never that of a job which may be run from the same file."""
    return job_name(f"{job.name[:_ROOM]}-{instance_id}".lower())


def adopt(store: EventStore, provider: Provider, job: Job, file: Path, instance_id: InstanceId) -> JobName:
    """Begin a job for an instance, from what the provider shows of it now; the name that it goes by.

    ``job`` is what the operator expects of the training. Raises Refused when the provider shows no
    such instance, or it is another account's than the job file names.
    """
    name = adopted_name(job, instance_id)
    instance, owner = provider.instance(instance_id), provider.account().user_id
    if instance is None:
        raise Refused(
            f"the provider shows no instance {instance_id}",
            remedy="harness orphans lists what is alive. The key may belong to another account.",
        )
    if job.provider.user_id not in {None, owner}:
        raise Refused(
            f"the API key is user {owner}'s, the job file is for user {job.provider.user_id}",
            remedy="Use the API key of the account that rented it.",
        )
    taken = job.model_copy(update={"name": name, "adopted": True})
    if not store.records(name):
        store.append(name, Opened(taken.model_dump(mode="json"), str(file)))
    store.append(name, _as_shown(instance, owner))
    return name


def expect(context: RunnerContext, job: Job, file: Path) -> None:
    """Take a job file that was given again; when it expects other things, everything is judged anew."""
    history = context.history
    taken = job.model_copy(update={"name": history.job.name, "adopted": True})
    if taken == history.job:
        return
    if place(taken.provider) != place(history.job.provider):
        raise Refused(f"{file} is for another provider than the one at which the instance was adopted")
    context.record(Opened(taken.model_dump(mode="json"), str(file)))
    for stage in (Stage.POSTDOWNLOAD, Stage.POSTTRAIN):
        if history.passed(stage) and not history.destroy_intended:
            context.record(Reopened(stage, "the job file expects other things"))


def reach(context: RunnerContext, instance_id: InstanceId, reporter: ProgressReporter, again: str) -> None:
    """Log in to the box of an instance, for a look by the command ``again``; nothing is started.

    Raises GateUnknown for one that does not run, HostUnreachable for a box that lets nobody in.
    """
    provider = context.provider()
    shown = provider.instance(instance_id)
    if shown is None or shown.status is not InstanceStatus.RUNNING:
        raise GateUnknown(
            f"instance {instance_id} is {shown.status if shown else 'gone'}: only one that runs can be looked into",
            remedy=f"Start it in the provider's console, which costs as before; then: {again}",
        )
    try:
        keys = provider.host_keys(instance_id)
    except ProviderUnavailable:
        keys = ()
    if keys:
        context.record(Pinned(keys, provider.host_key_source))
    else:
        reporter.note("the provider shows no host key: known_hosts is asked, else the key is believed for this look")
    context.host().run(["true"], timeout=30)


def look(context: RunnerContext, instance_id: InstanceId, reporter: ProgressReporter, again: str) -> None:
    """Judge the finished run as its adoption would, on a context that leaves nothing behind; change nothing there.

    ``again`` is the command that does it, for the remedies. Raises GateHeld or GateUnknown as the gate does.
    """
    reach(context, instance_id, reporter, again)
    postdownload.posttrain(context, reporter)
    result = gates.judge(context.take_facts(Stage.POSTTRAIN).path)
    result = replace(result, results=tuple(_reworded(one, context.job.name, again) for one in result.results))
    reporter.judged(Stage.POSTTRAIN, result)
    if result.verdict is not Verdict.PASS:
        raise shut_gate(Stage.POSTTRAIN, result)


def _reworded(result: CheckResult, name: str, again: str) -> CheckResult:
    """A result whose remedy does not name a job that has not begun."""
    remedy = result.remedy
    for command, instead in (
        (f"harness destroy {name}", again),
        (f"harness ssh {name}", "log in to the box"),
        (f"harness logs {name}", "read training.log there"),
    ):
        remedy = remedy.replace(command, instead)
    return replace(result, remedy=remedy)


def _as_shown(instance: Instance, owner: int) -> Adopted:
    return Adopted(
        instance_id=instance.id,
        label=instance.label or "",
        owner=owner,
        usd_per_hour=instance.usd_per_hour,
        offer={
            "gpu_name": instance.gpu_name,
            "num_gpus": instance.num_gpus,
            "machine_id": instance.machine_id,
            "disk_gb": instance.disk_gb,
            "usd_per_hour": instance.usd_per_hour,
            "disk_usd_per_hour": instance.disk_usd_per_hour,
        },
        status=instance.status.value,
        since=instance.started_at,
    )
