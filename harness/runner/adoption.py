"""Takes over an instance that no job here has rented: it is judged, brought home and destroyed like any other.

What came before is not known and is not made up: an adopted job's plan leaves those stages out,
says so, and begins where the finished training is judged against the operator's own job file.
"""

from __future__ import annotations

from pathlib import Path

from harness.context import RunnerContext
from harness.core.errors import Refused
from harness.core.ids import InstanceId, JobName, job_name
from harness.core.lifecycle import Stage
from harness.core.ports import Instance, Provider
from harness.job.model import Job
from harness.ledger.events import Adopted, Opened, Reopened
from harness.ledger.ownership import place
from harness.ledger.store import EventStore

_ROOM = 40
"""Characters of a job file's name that an adopted job keeps; the instance's number follows."""


def adopted_name(job: Job, instance_id: InstanceId) -> JobName:
    """The name of the job that takes over an instance: never that of a job which may be run from the same file."""
    return job_name(f"{job.name[:_ROOM]}-{instance_id}")


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
        },
        status=instance.status.value,
        since=instance.started_at,
    )
