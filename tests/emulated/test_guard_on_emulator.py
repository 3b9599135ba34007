"""The guard with the real client, real SSH and a real box: what is refused stays alive, what goes is proven gone."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import BadInput, HarnessError, NotProven, ProviderUnavailable, Refused
from harness.core.ids import InstanceId, JobName, OfferId, Sha256
from harness.core.lifecycle import Stage
from harness.core.ports import Clock, CreateRequest, Provider
from harness.emulator.running import Emulator, running
from harness.emulator.scenario import ApiFault
from harness.guard import destroy
from harness.job.model import Job
from harness.job.provider import ProviderTable
from harness.ledger.events import (
    ArtifactRecorded,
    Confirmed,
    Destroyed,
    DestroyIntended,
    DestroyRequested,
    Fetched,
    Guarded,
    Opened,
    Released,
    Rented,
    RentIntended,
    Verified,
)
from harness.ledger.kinds import JobEvent
from harness.ledger.sql import open_store
from harness.providers.rate_limits import UNPACED
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from harness.remote.ssh.keys import generate_keypair
from harness.runner import provision, teardown
from harness.wiring import OpenContext
from tests.support.context import Telling
from tests.support.emulator_kit import OFFER, scenario
from tests.support.job_histories import events_of, gate, job, judged

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the embedded boxes need Linux or macOS"),
]
MODEL = b"GGUF" + bytes(range(256)) * 400
LABEL = "gsh-night-0a1b2c3d"
REMOTE = "workspace/vastai_llm_training"


@dataclass(slots=True)
class Scene:
    """A job on the emulator whose file is verified and whose instance may go."""

    emulator: Emulator
    context: OpenContext
    local: Path
    artifact: Path

    @property
    def instance_id(self) -> InstanceId:
        assert self.context.history.rental is not None
        return self.context.history.rental.instance_id

    @property
    def number(self) -> int:
        return int(str(self.instance_id))

    def destroy(self, word: str | None = "the test agrees") -> None:
        teardown.teardown(self.context, Telling(), lambda _id, _file: word)

    def kinds(self) -> list[type[JobEvent]]:
        return [type(event) for event in events_of(self.context.history.records)]

    def is_alive(self) -> bool:
        return self.number in self.emulator.world.rentals()


def _job(tmp_path: Path) -> Job:
    limits = {"absence_window_s": 1.0, "absence_deadline_s": 6.0}
    return job(limits=limits, package={"source": str(tmp_path), "remote_dir": REMOTE})


def _put_on_the_box(box_root: Path) -> Path:
    artifact = box_root / REMOTE / "models" / "output" / "final" / "model.Q8_0.gguf"
    artifact.parent.mkdir(parents=True)
    artifact.write_bytes(MODEL)
    return artifact


def _verified(context: OpenContext, local: Path) -> None:
    """What a run writes between the login and the teardown."""
    for stage in (Stage.PREFLIGHT, Stage.PROVISION, Stage.UPLOAD, Stage.INSTALL, Stage.LAUNCH, Stage.TRAINING):
        context.record(judged(gate(stage, context.job), context.job))
    size, sha256 = len(MODEL), Sha256(hashlib.sha256(MODEL).hexdigest())
    context.record(ArtifactRecorded(f"{REMOTE}/models/output/final/model.Q8_0.gguf", size, sha256))
    context.record(judged(gate(Stage.POSTTRAIN, context.job), context.job))
    context.record(Fetched(str(local), size, sha256, bytes_per_s=None))
    context.record(judged(gate(Stage.POSTDOWNLOAD, context.job), context.job))
    context.record(Verified(str(local), size, sha256))


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with running(tmp_path / "emulator", scenario=scenario()) as emulator:

        def provider(_table: ProviderTable, _home: Path, clock: Clock) -> Provider:
            return VastProvider(Credentials(emulator.url, emulator.key), clock, name="emulated", pace=UNPACED)

        of, clock, home = _job(tmp_path), SystemClock(), tmp_path / "home"
        context = OpenContext(JobName(of.name), home, open_store(home / "state.db", clock), clock, provider)
        context.store.append(context.name, Opened(job=of.model_dump(mode="json"), file="/x"))
        instance_id = context.provider().create(OfferId(OFFER), CreateRequest("pytorch/pytorch", 20.0, LABEL))
        offer: dict[str, Any] = {"usd_per_hour": 16.0}
        owner = context.provider().account().user_id
        context.record(RentIntended(label=LABEL, offer=offer, owner=owner))
        context.record(Rented(instance_id, LABEL, offer, usd_per_hour=16.0, owner=owner))
        emulator.settle()
        provision.provision(context, Telling(), lambda _: None)
        artifact = _put_on_the_box(emulator.world.state_dir / "boxes" / str(instance_id) / "root")
        local = tmp_path / "model.Q8_0.gguf"
        local.write_bytes(MODEL)
        _verified(context, local)
        yield Scene(emulator, context, local, artifact)
        context.forget_connections()


@pytest.mark.parametrize("left", ["none", "another job's new one", "damaged and moved away"])
def test_a_lost_key_locks_nobody_out(scene: Scene, left: str) -> None:
    key = scene.context.home / "ssh" / "id_ed25519"
    scene.context.forget_connections()
    if left == "damaged and moved away":
        key.write_bytes(b"damaged")
        with pytest.raises(BadInput, match="not an SSH private key") as refused:
            scene.destroy()
        assert "may be moved away" in refused.value.remedy
    key.unlink()
    if left == "another job's new one":
        assert generate_keypair(key)
    scene.destroy()
    assert not scene.is_alive()


def test_it_goes_and_is_proven_gone(scene: Scene) -> None:
    scene.destroy()
    assert not scene.is_alive()
    destroyed = scene.context.history.destroyed
    assert destroyed is not None
    assert len(destroyed.absence["looks"]) >= 3
    assert destroyed.billing is not None
    assert len(destroyed.billing["looks"]) >= 2
    kinds = scene.kinds()
    order = [Verified, Released, Confirmed, Guarded, DestroyIntended, DestroyRequested, Destroyed]
    assert [kind for kind in kinds if kind in order] == order


def _runs(scene: Scene) -> None:
    # Until the program has begun there is a shell alone, which runs nothing.
    begun = "until grep -qsx sleep /proc/[0-9]*/comm; do sleep 0.1; done"
    scene.context.host().run(["sh", "-c", f"cd {REMOTE} && (setsid sleep 60 >/dev/null 2>&1 </dev/null &) && {begun}"])


def _reboot(scene: Scene) -> None:
    scene.emulator.world.reboot(scene.number)
    scene.emulator.settle()


BREAKS: dict[str, tuple[Callable[[Scene], object], str]] = {
    "a flipped byte": (lambda s: s.local.write_bytes(MODEL[:-1] + b"?"), "no longer matches its release"),
    "no file": (lambda s: s.local.unlink(), "does not exist"),
    "another label": (lambda s: s.emulator.world.label(s.number, "mine"), "carries the label"),
    "a running process": (_runs, "still runs on the box"),
    "a changed artifact": (lambda s: s.artifact.write_bytes(b"?" + MODEL), "has changed since it was verified"),
    "a rebooted box with new keys": (_reboot, "could not be looked at: .* host key"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_refused_it_stays_alive(scene: Scene, name: str) -> None:
    spoil, why = BREAKS[name]
    scene.context.forget_connections()
    spoil(scene)
    scene.context.forget_connections()
    with pytest.raises(Refused, match=why):
        scene.destroy()
    assert scene.is_alive()
    assert scene.artifact.exists()
    assert DestroyIntended not in scene.kinds()


def test_without_a_word_it_stays_alive(scene: Scene) -> None:
    with pytest.raises(Refused, match="nobody confirmed"):
        scene.destroy(None)
    assert scene.is_alive()


def _fault(scene: Scene, route: str, **fields: Any) -> None:
    scene.emulator.world.faults.add(ApiFault.model_validate({"route": route, **fields}))


AUTH = {"do": "reply", "status": 404, "body": '{"success": false, "error": "auth_error", "msg": "Invalid user key"}'}
ANSWERS: dict[str, dict[str, Any]] = {
    "200 that does nothing": {"do": "reply", "status": 200, "body": '{"success": true}'},
    "404 auth_error": AUTH,
    "410": {"do": "reply", "status": 410, "body": '{"success": false, "error": "deprecated_endpoint"}'},
    "an empty body": {"do": "reply", "status": 200, "body": ""},
    "a dropped connection": {"do": "drop"},
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_no_proof(scene: Scene, name: str) -> None:
    _fault(scene, "DELETE /api/v0/instances/{id}", times=1, **ANSWERS[name])
    with pytest.raises(NotProven) as raised:
        scene.destroy()
    assert raised.value.exit_code == 6
    assert scene.is_alive()
    assert Destroyed not in scene.kinds()
    scene.destroy()
    assert not scene.is_alive()
    assert scene.context.history.destroyed is not None


def test_a_key_that_is_revoked_in_between_proves_nothing(scene: Scene) -> None:
    """After the request every look is answered 404 auth_error: that is not the 404 of an instance that is gone."""

    def confirm(_id: InstanceId, _file: str) -> str:
        _fault(scene, "GET /api/v0/instances/{id}", times=0, **AUTH)
        return "the test agrees"

    with pytest.raises(HarnessError) as raised:
        destroy.destroy(scene.context, confirm, lambda _: None, lambda: teardown._release(scene.context))
    assert isinstance(raised.value, NotProven | ProviderUnavailable)
    assert Destroyed not in scene.kinds()
