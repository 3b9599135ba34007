"""The wall on the embedded Vast.ai: the everyday key is refused whoever asks with it, and reading still works."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from harness.core.clock import SystemClock
from harness.core.errors import HarnessError, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.ports import DestroyReply, OfferQuery
from harness.emulator.running import Emulator, running
from harness.emulator.scenario import ApiFault
from harness.providers.keeping import KeyStore
from harness.providers.rate_limits import UNPACED
from harness.providers.registry import ProviderSettings
from harness.providers.scoped_keys import Act, Scope
from harness.providers.vast import open_provider
from harness.providers.vast.credentials import Credentials, resolve
from harness.providers.vast.keys import VastKeyIssuer
from harness.providers.vast.provider import VastProvider
from harness.providers.wall import Wall, read_record, working_key
from tests.support.emulator_kit import ask, create_request, scenario
from tests.support.official_client import official_client

pytest.importorskip("vastai")


@pytest.fixture
def emulator(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "state", scenario=scenario(isolation="none")) as found:
        yield found


@pytest.fixture
def wall(emulator: Emulator, tmp_path: Path) -> Wall:
    key_file = tmp_path / "config" / "vastai" / "vast_api_key"
    key_file.parent.mkdir(parents=True)
    key_file.write_text(emulator.key)
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    issuer = VastKeyIssuer(emulator.url, environ, tmp_path, SystemClock(), UNPACED)
    return Wall(issuer, KeyStore(tmp_path / "home", "vast"))


def everyday_key(tmp_path: Path) -> str:
    return resolve({"XDG_CONFIG_HOME": str(tmp_path / "config")}, tmp_path).api_key


def test_with_the_everyday_key_every_program_reads_and_none_destroys(
    wall: Wall, emulator: Emulator, tmp_path: Path
) -> None:
    from vastai import VastAI

    rented = emulator.world.create(7_100_001, create_request())
    wall.lock()
    key = everyday_key(tmp_path)
    assert key != emulator.key

    sdk = VastAI(api_key=key, server_url=emulator.url, retry=1)
    assert [row["id"] for row in sdk.show_instances()] == [rented.id]
    for change in (
        lambda: sdk.destroy_instance(id=rented.id),
        lambda: sdk.stop_instance(id=rented.id),
        lambda: sdk.recycle_instance(id=rented.id),
        lambda: sdk.reboot_instance(id=rented.id),
        lambda: sdk.create_api_key("all", {"api": {}}),
        lambda: sdk.delete_api_key(id=1),
        sdk.reset_api_key,
    ):
        with pytest.raises(requests.HTTPError) as refused:
            change()
        assert refused.value.response is not None
        assert refused.value.response.status_code == 403
    with official_client(emulator.url, tmp_path) as client:
        for words in (
            ("show", "instances"),
            ("show", "instance", str(rented.id)),
            ("show", "volumes"),
            ("search", "offers", "gpu_name=H100_NVL"),
            ("show", "invoices-v1", "--charges"),
            ("logs", str(rented.id)),
        ):
            said = client(emulator.url, key, *words)
            assert said.status == 0, said.text
            assert "403" not in said.text, said.text
        for words in (("destroy", "instance"), ("destroy", "instances"), ("stop", "instance"), ("recycle", "instance")):
            client(emulator.url, key, *words, str(rented.id), *(["-y"] if words[0] == "destroy" else []))
        told = client(emulator.url, key, "show", "user").text
        assert emulator.key not in told
    assert [(row.id, row.intended) for row in emulator.world.visible()] == [(rented.id, rented.intended)]


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl on this machine")
def test_curl_is_refused_with_what_lies_in_the_client_s_file(wall: Wall, emulator: Emulator, tmp_path: Path) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    wall.lock()
    header = tmp_path / "header"
    header.write_text(f"Authorization: Bearer {everyday_key(tmp_path)}\n")
    url = f"{emulator.url}/api/v0/instances/{rented.id}/"
    line = ["curl", "-s", "-o", "-", "-w", "%{http_code}", "-X", "DELETE", "-H", f"@{header}", url]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.endswith("403"), done.stdout
    assert list(emulator.world.rentals()) == [rented.id]


def test_the_kept_key_does_all_that_the_harness_does_and_makes_no_keys(
    wall: Wall, emulator: Emulator, tmp_path: Path
) -> None:
    rented = emulator.world.create(7_100_001, create_request())
    wall.lock()
    kept = working_key(wall.store, emulator.url, everyday_key(tmp_path))
    assert kept is not None
    provider = VastProvider(Credentials(emulator.url, kept), SystemClock(), pace=UNPACED)
    assert provider.account().user_id == emulator.world.scenario.account.user_id
    assert provider.instances().ids() == {InstanceId(rented.id)}
    assert provider.search(OfferQuery(gpu_names=("H100",), num_gpus=8, disk_gb=40, max_usd_per_hour=20))
    provider.charges(InstanceId(rented.id))
    provider.volumes()
    provider.bills()
    provider.stop(InstanceId(rented.id))
    provider.start(InstanceId(rented.id))
    body = {"name": "more", "permissions": {"api": {}}}
    assert ask(emulator, "POST", "/api/v0/auth/apikeys/", key=kept, json=body).status_code == 403
    assert provider.destroy(InstanceId(rented.id)) is DestroyReply.ACCEPTED


def test_the_harness_opens_the_provider_with_the_kept_key(
    wall: Wall, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "VAST_URL": emulator.url}
    settings = ProviderSettings("vast", tmp_path / "home", SystemClock(), environ)
    wall.lock()
    assert open_provider(settings).account().user_id == emulator.world.scenario.account.user_id
    wall.store.forget()
    with pytest.raises(ProviderUnavailable, match="403"):
        open_provider(settings).account()


def test_the_refusal_is_a_right_that_is_missing_and_no_missing_instance(wall: Wall, emulator: Emulator) -> None:
    wall.lock()
    record = read_record(wall.store)
    assert record is not None
    (pair,) = record.pairs
    assert pair.everyday is not None
    assert pair.working is not None
    assert not wall.issuer.may(pair.everyday.secret, Act.DESTROY)
    assert wall.issuer.may(pair.working.secret, Act.MANAGE), "a 404 is a yes: the service looked for the instance"
    before = ask(emulator, "DELETE", f"/api/v0/instances/{2**31 - 1}/", key=pair.everyday.secret, json={})
    assert before.status_code == 403
    assert ask(emulator, "DELETE", f"/api/v0/instances/{2**31 - 1}/", json={}).status_code == 404


@pytest.mark.parametrize(
    ("route", "status", "body", "error"),
    [
        ("DELETE /api/v0/instances/{id}", 404, '{"success": false, "error": "not_found"}', "may destroy"),
        ("PUT /api/v0/instances/{id}", 404, '{"success": false, "error": "not_found"}', "may stop"),
        ("DELETE /api/v0/instances/{id}", 200, '{"success": true}', "may destroy"),
        ("DELETE /api/v0/instances/{id}", 503, '{"error": "busy"}', "503"),
        ("DELETE /api/v0/instances/{id}", 410, '{"error": "gone"}', "410"),
    ],
)
def test_anything_but_a_refusal_is_no_wall(
    route: str, status: int, body: str, error: str, request: pytest.FixtureRequest
) -> None:
    wall, emulator, folder = (request.getfixturevalue(name) for name in ("wall", "emulator", "tmp_path"))
    emulator.world.faults.add(ApiFault(route=route, do="reply", status=status, body=body, times=0))
    with pytest.raises(HarnessError, match=error):
        wall.lock()
    assert everyday_key(folder) == emulator.key
    assert not all(place.holds for place in wall.standing()[:3])


def test_a_reply_that_was_lost_leaves_no_key_behind(wall: Wall, emulator: Emulator, tmp_path: Path) -> None:
    emulator.world.faults.add(ApiFault(route="POST /api/v0/auth/apikeys", do="drop", commit=True))
    with pytest.raises(ProviderUnavailable):
        wall.lock()
    assert len(emulator.world.state.scoped_keys) == 1
    assert everyday_key(tmp_path) == emulator.key
    wall.lock()
    record = read_record(wall.store)
    assert record is not None
    assert {key.id for key in record.pairs[0].made()} == set(emulator.world.state.scoped_keys)
    assert sorted(key.name.split("-")[1] for key in emulator.world.state.scoped_keys.values()) == sorted(Scope)


def test_the_real_keyring_package_keeps_it(wall: Wall, tmp_path: Path) -> None:
    keyring = pytest.importorskip("keyring")
    backend = pytest.importorskip("keyring.backend")

    class InMemory(backend.KeyringBackend):  # type: ignore[misc, name-defined]
        priority = 1
        entries: dict[tuple[str, str], str] = {}  # noqa: RUF012 - one for all, as an operating system has it

        def get_password(self, service: str, username: str) -> str | None:
            return self.entries.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            self.entries[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del self.entries[service, username]

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    try:
        wall.lock()
        assert len(InMemory.entries) == 1
        assert "text" not in wall.store.path.read_text()
        assert working_key(wall.store, wall.issuer.server, everyday_key(tmp_path))
        wall.unlock()
        assert not InMemory.entries
    finally:
        keyring.set_keyring(before)
