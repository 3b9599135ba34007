"""A machine of one's own: who claims it, who is let in, when it is given back, and what is no answer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.local_sshd import SSHD, LocalSshd
from harness.core.clock import SystemClock
from harness.core.errors import AmbiguousCreate, BadInput, HostUnreachable, OfferGone, ProviderUnavailable, Refused
from harness.core.ids import InstanceId
from harness.core.ports import CreateRequest, DestroyReply, InstanceStatus, OfferQuery
from harness.providers import registry
from harness.providers.registry import ProviderSettings
from harness.providers.ssh.provider import SshProvider
from harness.remote import acting
from harness.remote.session import TrainingSession
from harness.remote.ssh.keys import generate_keypair, public_key
from tests.support.own_box import known_hosts, operator, own_box, ssh_config

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed")

QUERY = OfferQuery(("H100_SXM",), 2, 0.1, 16.0, min_reliability=0.99, min_cuda=12.1, direct_port=True)
PACKAGE = "work/package"
CLAIM = ".gold-standard-harness/claim"
Open = Callable[..., SshProvider]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSshd]:
    with own_box(tmp_path_factory.mktemp("own"), gpus=2) as box:
        yield box


@pytest.fixture
def box(served: LocalSshd) -> Iterator[LocalSshd]:
    yield served
    (served.home / CLAIM).unlink(missing_ok=True)


@pytest.fixture
def opened(box: LocalSshd, tmp_path: Path) -> Iterator[Open]:
    """Opens the provider of one operator more, with these settings."""
    assert box.home.is_dir()
    made: list[SshProvider] = []

    def open_(home: str = "home", **own: object) -> SshProvider:
        settings = ProviderSettings("ssh", tmp_path / home, SystemClock(), {}, {"host": "box", **own})
        provider = registry.open_provider(settings)
        assert isinstance(provider, SshProvider)
        made.append(provider)
        return provider

    yield open_
    for provider in made:
        provider.close()


def claim(provider: SshProvider, label: str = "gsh-night-0badcafe", directory: str = PACKAGE) -> InstanceId:
    return provider.create(provider.search(QUERY)[0].id, CreateRequest("", 1.0, label, directory=directory))


def packaged(box: LocalSshd) -> Path:
    """The folder of a package as an upload leaves it."""
    folder = box.home / PACKAGE
    (folder / ".harness").mkdir(parents=True, exist_ok=True)
    (folder / "model.gguf").write_bytes(b"GGUF")
    return folder


def test_the_machine_is_offered_as_it_is_without_price_or_promise(opened: Open) -> None:
    (offer,) = opened().search(QUERY)
    assert (offer.gpu_name, offer.num_gpus, offer.driver_version) == ("H100_SXM", 2, "570.86.15")
    assert (offer.usd_per_hour, offer.reliability, offer.duration_s, offer.inet_down_mbps) == (0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        (OfferQuery(("H100",), 1, 0.1, 1.0), True),
        (OfferQuery(("CPU",), 1, 0.1, 1.0), True),
        (OfferQuery(("H200",), 1, 0.1, 1.0), False),
        (OfferQuery(("H100_PCIE", "A100"), 1, 0.1, 1.0), True),
        (OfferQuery(("H100",), 3, 0.1, 1.0), False),
        (OfferQuery(("H100",), 1, 1e9, 1.0), False),
    ],
)
def test_it_fits_or_it_does_not(query: OfferQuery, fits: bool, opened: Open) -> None:
    assert bool(opened().search(query)) is fits


def test_two_operators_never_share_it(opened: Open, box: LocalSshd) -> None:
    first, second = opened("one"), opened("two")
    offer = second.search(QUERY)[0].id
    rented = claim(first)
    with pytest.raises(OfferGone, match="claimed by gsh-night-0badcafe"):
        second.create(offer, CreateRequest("", 1.0, "gsh-day-0badcafe"))
    assert [one.label for one in second.instances().instances] == ["gsh-night-0badcafe"]
    assert first.destroy(rented) is DestroyReply.ACCEPTED
    assert claim(second, "gsh-day-0badcafe")
    assert first.destroy(rented) is DestroyReply.NO_SUCH_INSTANCE, "the other one's claim stays"
    assert (box.home / CLAIM).is_symlink()


def test_a_claim_is_made_whole_or_not_at_all(opened: Open, box: LocalSshd) -> None:
    """As many as will at once: one has it, and every other one is told whose it is."""
    providers = [opened(f"home{number}") for number in range(4)]
    offers = [one.search(QUERY)[0].id for one in providers]
    from concurrent.futures import ThreadPoolExecutor

    def take(number: int) -> str:
        try:
            providers[number].create(offers[number], CreateRequest("", 1.0, f"gsh-night-0000000{number}"))
        except OfferGone as error:
            return str(error)
        return "taken"

    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(take, range(4)))
    winner = told.index("taken")
    assert all(f"claimed by gsh-night-0000000{winner}" in one for one in told if one != "taken")
    assert told.count("taken") == 1
    assert "label" in str((box.home / CLAIM).readlink())


def test_a_claim_whose_reply_was_lost_is_found_by_its_label(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the process is killed between the claim and its record: the number is told by the label alone."""
    from harness.providers.ssh import provider as module

    provider, act = opened(), acting.act
    offer = provider.search(QUERY)[0].id

    def lost(*arguments: object, **named: object) -> object:
        act(*arguments, **named)  # type: ignore[arg-type]  # whatever it was called with
        raise HostUnreachable("lost")

    monkeypatch.setattr(module, "act", lost)
    with pytest.raises(ProviderUnavailable):
        provider.account()
    monkeypatch.setattr(module, "act", lambda *a, **n: lost(*a, **n) if a[2] == "claim" else act(*a, **n))
    with pytest.raises(AmbiguousCreate, match="may be claimed as gsh-night-0badcafe"):
        provider.create(offer, CreateRequest("", 1.0, "gsh-night-0badcafe"))
    monkeypatch.setattr(module, "act", act)
    (found,) = opened("again").instances().instances
    assert found.label == "gsh-night-0badcafe"
    shown = opened("third").instance(found.id)
    assert shown is not None
    assert (shown.id, shown.status) == (found.id, InstanceStatus.RUNNING)


def test_a_claim_that_does_not_read_is_no_free_machine(opened: Open, box: LocalSshd) -> None:
    provider = opened()
    provider.account()
    (box.home / ".gold-standard-harness").mkdir(exist_ok=True)
    (box.home / CLAIM).symlink_to("by hand")
    for ask in (provider.account, provider.instances, lambda: provider.search(QUERY)):
        with pytest.raises(ProviderUnavailable, match="claim"):
            ask()


def test_a_dead_jobs_claim_names_its_way_out(opened: Open, box: LocalSshd) -> None:
    claim(opened("lost"))
    with pytest.raises(OfferGone) as told:
        opened("new").search(QUERY)
    assert "harness abandon JOB" in told.value.remedy
    assert CLAIM in told.value.remedy
    (box.home / CLAIM).unlink()
    assert claim(opened("new"), "gsh-new-0badcafe")


def test_it_is_not_given_back_while_something_of_the_job_runs(opened: Open, box: LocalSshd) -> None:
    provider = opened()
    rented, folder = claim(provider), packaged(box)
    with subprocess.Popen(["sleep", "60"], cwd=folder) as busy:
        with pytest.raises(Refused, match=rf"still runs on box: {busy.pid} sleep 60"):
            provider.destroy(rented)
        busy.kill()
    assert provider.instance(rented) is not None
    assert provider.destroy(rented) is DestroyReply.ACCEPTED
    assert provider.instance(rented) is None
    assert (folder / "model.gguf").exists(), "what the job wrote stays"


def test_a_session_of_the_job_that_works_elsewhere_counts_too(opened: Open, box: LocalSshd) -> None:
    provider = opened()
    rented, folder = claim(provider), packaged(box)
    from harness.remote.host import SshHost

    host = SshHost(box.login(), SystemClock(), patience=5.0)
    session = TrainingSession(host, PACKAGE)
    assert session.start(["sh", "-c", "cd / && exec sleep 60"])
    try:
        with pytest.raises(Refused, match="still runs"):
            provider.destroy(rented)
    finally:
        session.stop(grace=0.1)
        host.close()
    assert provider.destroy(rented) is DestroyReply.ACCEPTED
    assert folder.is_dir()


def test_a_teardown_command_that_fails_keeps_the_machine(opened: Open, box: LocalSshd) -> None:
    words = ["sh", "-c", "echo no license >&2; test -e allowed && touch torn-down"]
    provider = opened(teardown_command=words)
    rented = claim(provider)
    with pytest.raises(Refused, match="ended with 1 on box: no license"):
        provider.destroy(rented)
    assert provider.instance(rented) is not None
    (box.home / "allowed").touch()
    assert provider.destroy(rented) is DestroyReply.ACCEPTED
    assert (box.home / "torn-down").exists()


@pytest.mark.parametrize(
    ("directory", "mark", "deleted"),
    [(PACKAGE, True, True), (PACKAGE, False, False), (".", True, False), ("", True, False), ("..", True, False)],
)
def test_clean_deletes_the_package_and_nothing_else(
    directory: str, mark: bool, deleted: bool, opened: Open, box: LocalSshd
) -> None:
    folder = packaged(box)
    if not mark:
        (folder / ".harness").rmdir()
    (box.home / ".harness").mkdir(exist_ok=True)
    provider = opened(clean=True)
    rented = claim(provider, directory=directory)
    if deleted:
        assert provider.destroy(rented) is DestroyReply.ACCEPTED
    else:
        with pytest.raises((ProviderUnavailable, Refused), match=r"is not deleted|still runs"):
            provider.destroy(rented)
    assert folder.exists() is not deleted
    assert box.home.is_dir()
    assert (provider.instance(rented) is None) is deleted


def test_the_harnesss_key_is_let_in_beside_the_others_and_clean_takes_it_out(
    opened: Open, box: LocalSshd, tmp_path: Path
) -> None:
    provider = opened(clean=True)
    rented = claim(provider, directory=PACKAGE)
    keys = box.home / ".ssh" / "authorized_keys"
    keys.parent.mkdir(exist_ok=True)
    keys.write_text("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIyB4pVdpIzqKMhBGGSYzqKMhBGGSYzqKMhBGGSYzqKM me")
    key = generate_keypair(tmp_path / "home" / "ssh" / "id_ed25519")
    for _ in range(2):
        provider.attach_key(rented, key)
    lines = keys.read_text().splitlines()
    assert [line.split()[2] for line in lines] == ["me", "gold-standard-harness"]
    assert oct(keys.stat().st_mode & 0o777) == "0o600"
    packaged(box)
    provider.destroy(rented)
    assert [line.split()[2] for line in keys.read_text().splitlines()] == ["me"]


@pytest.mark.parametrize(
    ("known", "source"),
    [(True, "known_hosts of this user"), (False, "first use, kept in "), (False, "the job file")],
)
def test_where_the_host_key_is_known_from_is_said(
    known: bool, source: str, box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(operator(tmp_path / "me", (box, "box", ""), known=known)))
    told = {"host": "box", "host_key": [public_key(box.host_key)] if source == "the job file" else []}
    provider = registry.open_provider(ProviderSettings("ssh", tmp_path / "home", SystemClock(), {}, told))
    assert isinstance(provider, SshProvider)
    rented = claim(provider)
    assert provider.host_key_source.startswith(source)
    assert provider.host_keys(rented) == (public_key(box.host_key),)
    provider.close()


@pytest.mark.parametrize("stated", ["known_hosts", "job file", "first use"])
def test_a_machine_with_another_key_is_not_asked_and_the_remedy_names_the_record(
    stated: str, box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = generate_keypair(tmp_path / "other").rpartition(" ")[0]
    home = operator(tmp_path / "me", (box, "box", ""), known=False)
    monkeypatch.setenv("HOME", str(home))
    told: dict[str, object] = {"host": "box"}
    match stated:
        case "known_hosts":
            (home / ".ssh" / "known_hosts").write_text(f"[127.0.0.1]:{box.port} {other}\n")
        case "job file":
            told["host_key"] = [other]
        case _:
            (tmp_path / "home" / "hosts").mkdir(parents=True)
            (tmp_path / "home" / "hosts" / "box-").write_text(f"{other}\n")
    provider = registry.open_provider(ProviderSettings("ssh", tmp_path / "home", SystemClock(), {}, told))
    with pytest.raises(ProviderUnavailable, match="shows the host key") as refused:
        provider.account()
    wanted = {"known_hosts": "ssh-keygen -R", "job file": "provider.host_key", "first use": "box-"}[stated]
    assert wanted in refused.value.remedy


def test_a_machine_that_does_not_answer_is_unknown_and_never_gone(
    box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.providers.ssh.provider._PATIENCE_S", 0.1)
    monkeypatch.setenv("HOME", str(operator(tmp_path / "me", (box, "box", ""))))
    told = {"host": "box", "port": 9}
    provider = registry.open_provider(ProviderSettings("ssh", tmp_path / "home", SystemClock(), {}, told))
    for ask in (provider.account, provider.instances, provider.bills, lambda: provider.instance(InstanceId(1))):
        with pytest.raises(ProviderUnavailable, match=r"box could not be asked: .*does not answer") as unseen:
            ask()
        assert "ssh box" in unseen.value.remedy


def test_it_is_reached_through_a_jump_host(box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jump = LocalSshd(tmp_path / "jump")
    jump.start()
    try:
        home = operator(tmp_path / "me", (jump, "gate", ""), (box, "box", "  ProxyJump gate\n"))
        monkeypatch.setenv("HOME", str(home))
        provider = registry.open_provider(
            ProviderSettings("ssh", tmp_path / "home", SystemClock(), {}, {"host": "box"})
        )
        assert isinstance(provider, SshProvider)
        rented = claim(provider)
        shown = provider.instance(rented)
        assert shown is not None
        assert [one.jump for one in shown.endpoints] == ["gate"]
        jump.kill()
        with pytest.raises(ProviderUnavailable):
            provider.account()
        provider.close()
    finally:
        jump.stop()


def test_a_jump_host_that_nobody_knows_is_not_trusted(
    box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jump = LocalSshd(tmp_path / "jump")
    jump.start()
    try:
        home = operator(tmp_path / "me", (jump, "gate", ""), (box, "box", "  ProxyJump gate\n"))
        (home / ".ssh" / "known_hosts").write_text(known_hosts(box))
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.setattr("harness.providers.ssh.provider._PATIENCE_S", 0.1)
        provider = registry.open_provider(
            ProviderSettings("ssh", tmp_path / "home", SystemClock(), {}, {"host": "box"})
        )
        with pytest.raises(ProviderUnavailable, match=r"jump host .* is not in known_hosts"):
            provider.account()
    finally:
        jump.stop()


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, "provider.host: Field required"),
        ({"host": "me@box"}, "provider.host"),
        ({"host": "-oProxyCommand=x"}, "provider.host"),
        ({"host": "box:22"}, "provider.host"),
        ({"host": "box", "port": 0}, "provider.port"),
        ({"host": "box", "user": "-l"}, "provider.user"),
        ({"host": "box", "key": "id_ed25519"}, "write the whole path"),
        ({"host": "box", "host_key": ["SHA256:abc"]}, "provider.host_key"),
    ],
)
def test_settings_that_name_no_machine_are_refused(own: dict[str, object], said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        registry.open_provider(ProviderSettings("ssh", tmp_path, SystemClock(), {}, own))


def test_a_box_without_an_entry_in_the_configuration_is_reached_by_its_address(
    box: LocalSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "me" / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert ssh_config(box)
    told = {"host": "127.0.0.1", "port": box.port, "key": str(box.client_key)}
    provider = registry.open_provider(ProviderSettings("ssh", tmp_path / "home", SystemClock(), {}, told))
    assert isinstance(provider, SshProvider)
    assert provider.account().user_id > 0
    provider.close()
