"""What every provider must do, and must not be made to say by a service that misbehaves.

The same tests run on the Vast.ai adapter over HTTP against the embedded service, where
the service itself misbehaves, on the fault-injecting wrapper around it, and on the provider
of docs/adding-a-provider.md. A new provider is one more ``Bench`` in ``BENCHES``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import pytest

from harness.core.clock import SystemClock
from harness.core.errors import (
    AmbiguousCreate,
    HarnessError,
    HostUnreachable,
    NotProven,
    OfferGone,
    ProviderUnavailable,
)
from harness.core.ids import InstanceId, OfferId, label, new_nonce
from harness.core.ids import job_name as named
from harness.core.ports import (
    Bill,
    CreateRequest,
    DestroyReply,
    Instance,
    InstanceStatus,
    Listing,
    Offer,
    OfferQuery,
    Provider,
)
from harness.emulator.clock import TurnableClock
from harness.emulator.rental import Timing
from harness.emulator.request import VolumeRequest
from harness.emulator.running import Emulator, running
from harness.emulator.scenario import ApiFault, Scenario
from harness.providers import registry
from harness.providers.rate_limits import UNPACED, Patience
from harness.providers.registry import ProviderSettings
from harness.providers.runpod.access import RunPodAccess
from harness.providers.runpod.provider import BILLED_EVERY_S, RunPodProvider
from harness.providers.ssh import provider as ssh_provider
from harness.providers.ssh.provider import SshProvider
from harness.providers.vast.credentials import Credentials
from harness.providers.vast.provider import VastProvider
from harness.release.absence import billing_stopped, prove_absence
from harness.remote import acting
from harness.remote.ssh.own_keys import OwnKeys
from tests.support import toy_cloud
from tests.support.emulator_kit import create_request, scenario
from tests.support.faulty_provider import FaultyProvider
from tests.support.own_box import own_box

QUERY = OfferQuery(gpu_names=("H100",), num_gpus=1, disk_gb=20.0, max_usd_per_hour=100.0)
NEVER = InstanceId(99_999_999)
PUBLIC_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIyB4pVdpIzqKMhBGGSYzqKMhBGGSYzqKMhBGGSYzqKM operator"
IMPATIENT = Patience(connect_s=5.0, reply_s=5.0, create_reply_s=5.0, tries=1)


class Bench(Protocol):
    """A provider under test, and the ways to make its service misbehave."""

    clock: TurnableClock

    @property
    def provider(self) -> Provider:
        """The provider under test."""

    def settle(self) -> None:
        """Wait until the service has done what it was asked for."""

    def lose_the_reply_of_a_create(self) -> None:
        """The next create takes effect, and its reply is lost."""

    def ignore_destroys(self) -> None:
        """Every destroy is answered with success and does nothing."""

    def retire_the_list(self) -> None:
        """Listing is answered with an error from now on."""

    def revoke_the_key(self) -> None:
        """Every request is answered as one with an unknown key."""


class SellsVolumes(Bench, Protocol):
    """One whose service is the embedded one: it sells volumes, too."""

    emulator: Emulator

    def spoil_the_volumes(self) -> None:
        """The list of volumes comes back without its list from now on."""


@dataclass(slots=True)
class VastBench:
    """Vast.ai's adapter; the embedded service misbehaves on the wire."""

    provider: Provider
    clock: TurnableClock
    emulator: Emulator

    def settle(self) -> None:
        self.emulator.settle()

    def lose_the_reply_of_a_create(self) -> None:
        self._arm(ApiFault(route="PUT /api/v0/asks/{id}", do="drop", commit=True))

    def ignore_destroys(self) -> None:
        self._arm(ApiFault(route="DELETE /api/v0/instances/{id}", do="reply", body='{"success": true}', times=0))

    def retire_the_list(self) -> None:
        body = '{"success": false, "error": "deprecated_endpoint", "msg": "gone"}'
        self._arm(ApiFault(route="GET /api/v1/instances", do="reply", status=410, body=body, times=0))

    def spoil_the_volumes(self) -> None:
        self._arm(ApiFault(route="GET /api/v0/volumes", do="edit", unset=("volumes",), times=0))

    def revoke_the_key(self) -> None:
        body = '{"success": false, "error": "auth_error", "msg": "Invalid user key"}'
        self._arm(ApiFault(route="* /*", do="reply", status=404, body=body, times=0))

    def _arm(self, fault: ApiFault) -> None:
        self.emulator.world.faults.add(fault)


@dataclass(slots=True)
class RunPodBench:
    """RunPod's adapter; its embedded counterpart misbehaves on the wire."""

    provider: Provider
    clock: TurnableClock
    emulator: Emulator

    def settle(self) -> None:
        self.emulator.settle()

    def lose_the_reply_of_a_create(self) -> None:
        self._arm(ApiFault(route="POST /v2/pods", do="drop", commit=True))

    def ignore_destroys(self) -> None:
        self._arm(ApiFault(route="DELETE /v2/pods/{id}", do="reply", status=204, times=0))

    def retire_the_list(self) -> None:
        self._arm(ApiFault(route="GET /v2/pods", do="reply", status=410, body=_problem(410, "Gone"), times=0))

    def revoke_the_key(self) -> None:
        self._arm(ApiFault(route="* /*", do="reply", status=401, body=_problem(401, "Unauthorized"), times=0))

    def _arm(self, fault: ApiFault) -> None:
        self.emulator.world.faults.add(fault)


def _problem(status: int, title: str) -> str:
    return json.dumps({"title": title, "status": status, "detail": "no"})


@dataclass(slots=True)
class FaultyBench:
    """The wrapper; it misbehaves in the service's place."""

    provider: FaultyProvider
    clock: TurnableClock
    emulator: Emulator

    def settle(self) -> None:
        self.emulator.settle()

    def lose_the_reply_of_a_create(self) -> None:
        self.provider.break_("create", AmbiguousCreate("lost"), commit=True)

    def ignore_destroys(self) -> None:
        self.provider.break_("destroy", DestroyReply.ACCEPTED, times=0)

    def retire_the_list(self) -> None:
        self.provider.break_("instances", ProviderUnavailable("retired"), times=0)

    def spoil_the_volumes(self) -> None:
        self.provider.break_("volumes", ProviderUnavailable("no list"), times=0)

    def revoke_the_key(self) -> None:
        looks = ("account", "search", "instance", "instances", "charges", "volumes", "bills", "pending_prices")
        for method in (*looks, "create", "start", "stop", "destroy"):
            self.provider.break_(method, ProviderUnavailable("revoked"), times=0)


@dataclass(slots=True)
class ToyBench:
    """The provider of the documentation; its service misbehaves."""

    provider: Provider
    clock: TurnableClock
    service: Any

    def settle(self) -> None:
        """It does everything at once."""

    def lose_the_reply_of_a_create(self) -> None:
        rent = self.service.rent

        def lost(*arguments: object) -> NoReturn:
            rent(*arguments)
            raise ConnectionResetError

        self.service.rent = lost

    def ignore_destroys(self) -> None:
        self.service.delete = self.service.show

    def retire_the_list(self) -> None:
        self.service.list = _refused

    def revoke_the_key(self) -> None:
        for call in ("user", "offers", "rent", "show", "list", "turn", "delete", "spent"):
            setattr(self.service, call, _refused)


@dataclass(slots=True)
class OwnBench:
    """A machine of one's own; its connection, or what is sent over it, misbehaves."""

    provider: SshProvider
    clock: TurnableClock
    patch: pytest.MonkeyPatch

    def settle(self) -> None:
        """It does everything at once."""

    def lose_the_reply_of_a_create(self) -> None:
        self._spoil("claim", done=True)

    def ignore_destroys(self) -> None:
        self._spoil("release", done=None)

    def retire_the_list(self) -> None:
        self._spoil("look at", done=False)

    def revoke_the_key(self) -> None:
        self.provider.close()
        self.patch.setattr(self.provider, "_key_file", Path("none"))
        self.patch.setenv("HOME", "/nowhere")
        self.patch.setattr(self.provider, "_own", OwnKeys(Path("/nowhere/.ssh"), Path("/nowhere/key"), "box"))

    def _spoil(self, verb: str, *, done: bool | None) -> None:
        """Whenever it is to do ``verb``: done and no reply, not done and no reply, or (None) a reply and not done."""

        def spoiled(host: Any, modules: Any, asked: str, args: Any, **how: Any) -> Any:
            answer = acting.act(host, modules, asked, args, **how) if asked != verb or done else True
            if asked == verb and done is not None:
                raise HostUnreachable("lost")
            return answer

        self.patch.setattr(ssh_provider, "act", spoiled)


def _refused(*_: object) -> NoReturn:
    raise PermissionError("refused")


def open_vast(emulator: Emulator) -> VastProvider:
    return VastProvider(Credentials(emulator.url, emulator.key), emulator.clock, pace=UNPACED, patience=IMPATIENT)


@contextmanager
def vast(folder: Path) -> Iterator[SellsVolumes]:
    with running(folder) as emulator:
        yield VastBench(open_vast(emulator), emulator.clock, emulator)


def open_runpod(emulator: Emulator) -> RunPodProvider:
    access = RunPodAccess(emulator.url, emulator.key)
    return RunPodProvider(access, emulator.clock, pace=UNPACED, bills_every_s=BILLED_EVERY_S, patience=IMPATIENT)


@contextmanager
def runpod(folder: Path) -> Iterator[Bench]:
    with running(folder) as emulator:
        yield RunPodBench(open_runpod(emulator), emulator.clock, emulator)


@contextmanager
def faulty(folder: Path) -> Iterator[SellsVolumes]:
    with running(folder) as emulator:
        yield FaultyBench(FaultyProvider(open_vast(emulator)), emulator.clock, emulator)


@contextmanager
def toy(folder: Path) -> Iterator[Bench]:
    with toy_cloud.installed(folder):
        clock = TurnableClock()
        provider: Any = registry.open_provider(ProviderSettings("toy", folder, clock, toy_cloud.ENVIRON))
        yield ToyBench(provider, clock, provider.service)


@contextmanager
def own(folder: Path) -> Iterator[Bench]:
    with own_box(folder, gpus=8), pytest.MonkeyPatch.context() as patch:
        clock = TurnableClock()
        settings = ProviderSettings("ssh", folder / "home", clock, {}, {"host": "box"})
        provider: Any = registry.open_provider(settings)
        yield OwnBench(provider, clock, patch)
        provider.close()


SELLS_VOLUMES: dict[str, Callable[[Path], AbstractContextManager[SellsVolumes]]] = {"vast": vast, "faulty": faulty}
MARKETS: dict[str, Callable[[Path], AbstractContextManager[Bench]]] = {**SELLS_VOLUMES, "runpod": runpod, "toy": toy}
"""Those that rent machines out and are paid for it."""
BENCHES: dict[str, Callable[[Path], AbstractContextManager[Bench]]] = {**MARKETS, "own": own}


@pytest.fixture(params=BENCHES)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with BENCHES[request.param](tmp_path / request.param) as opened:
        yield opened


@pytest.fixture(params=MARKETS)
def market(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with MARKETS[request.param](tmp_path / request.param) as opened:
        yield opened


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[OwnBench]:
    with own(tmp_path / "own") as opened:
        assert isinstance(opened, OwnBench)
        yield opened


@pytest.fixture(params=SELLS_VOLUMES)
def selling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SellsVolumes]:
    with SELLS_VOLUMES[request.param](tmp_path / request.param) as opened:
        yield opened


def rent(bench: Bench) -> InstanceId:
    """An instance that runs."""
    cheapest = bench.provider.search(QUERY)[0]
    rented = bench.provider.create(cheapest.id, request())
    assert type(rented) in {int, str}, "an event that names the instance takes a number or a text"
    bench.clock.turn(120.0)
    bench.settle()
    return rented


def request() -> CreateRequest:
    return CreateRequest("pytorch/pytorch:2.1.0", 20.0, label(named("contract"), new_nonce()), PUBLIC_KEY)


def shown(bench: Bench, instance_id: InstanceId) -> Instance:
    instance = bench.provider.instance(instance_id)
    assert instance is not None
    return instance


def test_it_has_a_name_and_an_account(bench: Bench) -> None:
    assert bench.provider.name
    first, second = bench.provider.account(), bench.provider.account()
    assert first.user_id == second.user_id > 0


def test_a_market_tells_the_credit_of_its_account(market: Bench) -> None:
    assert market.provider.account().credit_usd > 0


def test_a_search_finds_what_fits_the_cheapest_first(bench: Bench) -> None:
    found = bench.provider.search(QUERY)
    assert found
    assert {offer.gpu_name for offer in found} <= set(bench.provider.gpu_names("H100"))
    assert all(offer.gpu_name.startswith("H100") and offer.num_gpus >= 1 for offer in found)
    assert [offer.usd_per_hour for offer in found] == sorted(offer.usd_per_hour for offer in found)


@pytest.mark.parametrize(
    "query",
    [
        OfferQuery(("H100",), 1000, 20.0, 1e6),
        OfferQuery(("Abacus 9000",), 1, 20.0, 100.0),
    ],
)
def test_a_search_for_what_nobody_offers_finds_nothing(query: OfferQuery, bench: Bench) -> None:
    assert bench.provider.search(query) == ()


def test_a_search_below_every_price_finds_nothing(market: Bench) -> None:
    assert market.provider.search(OfferQuery(("H100",), 1, 20.0, 0.01)) == ()


def test_what_was_rented_is_shown_and_listed_with_its_label(bench: Bench) -> None:
    wanted = request()
    cheapest: Offer = bench.provider.search(QUERY)[0]
    rented = bench.provider.create(cheapest.id, wanted)
    instance = shown(bench, rented)
    assert (instance.id, instance.label) == (rented, wanted.label)
    assert (instance.gpu_name, instance.num_gpus) == (cheapest.gpu_name, cheapest.num_gpus)
    assert instance.usd_per_hour == pytest.approx(cheapest.usd_per_hour)
    assert bench.provider.instances() == Listing((shown(bench, rented),))


def test_an_offer_can_be_taken_until_it_is_gone(bench: Bench) -> None:
    """Once where an offer is a machine; where it is a kind of machine, as often as there is one."""
    offer, taken = bench.provider.search(QUERY)[0].id, 0
    with suppress(OfferGone):
        while taken < 100:
            bench.provider.create(offer, request())
            taken += 1
    assert 0 < taken < 100
    with pytest.raises(OfferGone):
        bench.provider.create(OfferId(1), request())
    assert len(bench.provider.instances().instances) == taken


def test_what_was_never_rented_is_neither_shown_nor_listed(bench: Bench) -> None:
    assert bench.provider.instance(NEVER) is None
    assert bench.provider.instances() == Listing(())
    assert bench.provider.destroy(NEVER) is DestroyReply.NO_SUCH_INSTANCE
    for ask in (bench.provider.start, bench.provider.stop, bench.provider.host_keys):
        with pytest.raises(ProviderUnavailable):
            ask(NEVER)
    with pytest.raises(ProviderUnavailable):
        bench.provider.attach_key(NEVER, PUBLIC_KEY)
    assert bench.provider.charges(NEVER) == ()


def test_a_running_instance_can_be_reached_and_trusted(bench: Bench) -> None:
    rented = rent(bench)
    instance = shown(bench, rented)
    assert (instance.status, instance.failure) == (InstanceStatus.RUNNING, None)
    assert instance.endpoints
    bench.provider.attach_key(rented, PUBLIC_KEY)
    bench.provider.attach_key(rented, PUBLIC_KEY)
    real = SystemClock()
    deadline = real.monotonic() + 120
    while not (keys := bench.provider.host_keys(rented)) and real.monotonic() < deadline:
        real.sleep(0.05)  # a start script runs in a process of its own
    assert all(key.split(" ")[0] in {"ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"} for key in keys)
    assert keys
    assert bench.provider.host_keys(rented, newest=True)
    assert bench.provider.host_key_source


def test_vast_is_reached_on_two_ways_and_bills_two_things(selling: SellsVolumes) -> None:
    rented = rent(selling)
    assert {way.route for way in shown(selling, rented).endpoints} == {"direct", "proxy"}
    selling.clock.turn(3600.0)
    assert {charge.kind for charge in selling.provider.charges(rented)} >= {"gpu", "disk"}


def test_a_price_that_waits_for_an_answer_and_an_end_that_came_nearer_are_told(tmp_path: Path) -> None:
    """Auto-extension stops at the old price: what the host asks for holds from the contract's end on."""
    life = [{"do": "end", "days": 0.007}, {"do": "price", "usd": 96.0, "days": 60.0}]
    with running(tmp_path, scenario=scenario(isolation="none", life=life)) as emulator:
        bench = VastBench(open_vast(emulator), emulator.clock, emulator)
        rented, deadline = rent(bench), time.monotonic() + 60
        while not (waiting := bench.provider.pending_prices(rented)):  # one thing after the other befalls it
            assert time.monotonic() < deadline
        (price,) = waiting
        instance, now = shown(bench, rented), bench.provider.account().at
        assert now is not None
        assert instance.ends_at is not None
        assert 0 < instance.ends_at - now < 3600, "days before that"
        assert price.usd_per_hour == pytest.approx(96.0, abs=0.1)
        assert price.since == pytest.approx(instance.ends_at)
        assert price.until == pytest.approx(now + 60 * 86_400, abs=600)
        assert instance.usd_per_hour < 20, "nothing changes before it is accepted"


def test_no_price_waits_where_nobody_asks_for_one(bench: Bench) -> None:
    assert bench.provider.pending_prices(rent(bench)) == ()


def test_a_stopped_instance_is_still_there_and_starts_again(market: Bench) -> None:
    rented = rent(market)
    market.provider.stop(rented)
    market.clock.turn(120.0)
    assert shown(market, rented).status in {InstanceStatus.STOPPED, InstanceStatus.EXITED}
    market.provider.start(rented)
    market.clock.turn(120.0)
    assert shown(market, rented).status is InstanceStatus.RUNNING


def test_a_running_instance_is_billed_for_its_time(market: Bench) -> None:
    rented = rent(market)
    price = shown(market, rented).usd_per_hour
    before = sum(charge.usd for charge in market.provider.charges(rented))
    market.clock.turn(3600.0)
    billed = market.provider.charges(rented)
    assert sum(charge.usd for charge in billed) - before == pytest.approx(price, rel=0.02)
    with pytest.raises(NotProven, match="may still bill"):
        billing_stopped(market.provider, rented, market.clock, deadline_s=300)


def test_a_destroyed_instance_is_proven_gone_and_stops_billing(bench: Bench) -> None:
    rented, owner = rent(bench), bench.provider.account().user_id
    assert bench.provider.destroy(rented) is DestroyReply.ACCEPTED
    proof = prove_absence(bench.provider, rented, bench.clock, deadline_s=600, owner=owner)
    assert proof.looks[-1].at - proof.looks[0].at >= 60
    sells = not isinstance(bench, OwnBench)
    proof_of_end = billing_stopped(bench.provider, rented, bench.clock, deadline_s=600, expect_charges=sells)
    assert (proof_of_end.usd > 0) is sells
    assert bench.provider.destroy(rented) is DestroyReply.NO_SUCH_INSTANCE


def test_a_machine_of_ones_own_is_never_stopped_and_never_billed(machine: OwnBench) -> None:
    rented = rent(machine)
    machine.provider.stop(rented)
    instance = shown(machine, rented)
    assert (instance.status, instance.usd_per_hour, instance.ends_at) == (InstanceStatus.RUNNING, 0.0, None)
    machine.provider.start(rented)
    machine.clock.turn(3600.0)
    assert not (*machine.provider.charges(rented), *machine.provider.bills(), *machine.provider.volumes())


def test_a_machine_that_is_claimed_is_not_offered_and_says_by_whom(machine: OwnBench) -> None:
    rented = rent(machine)
    with pytest.raises(OfferGone, match=rf"claimed by gsh-contract-[0-9a-f]{{8}} \(instance {rented}\)"):
        machine.provider.search(QUERY)


def test_an_instance_that_is_destroyed_late_is_proven_gone_later(tmp_path: Path) -> None:
    with running(tmp_path / "vast", scenario=Scenario(pace=Timing(destroy_lag_s=45.0))) as emulator:
        vast = open_vast(emulator)
        rented = rent(VastBench(vast, emulator.clock, emulator))
        asked_at = emulator.clock.now()
        vast.destroy(rented)
        with pytest.raises(NotProven, match="still shown"):
            prove_absence(vast, rented, emulator.clock, deadline_s=30)
        proof = prove_absence(vast, rented, emulator.clock, deadline_s=600)
        assert proof.looks[0].at - asked_at >= 45


def test_a_bill_that_grows_in_steps_is_looked_at_over_one(tmp_path: Path) -> None:
    with running(tmp_path) as emulator:
        bench = RunPodBench(open_runpod(emulator), emulator.clock, emulator)
        rented = rent(bench)
        bench.provider.destroy(rented)
        proof = billing_stopped(bench.provider, rented, bench.clock, deadline_s=60, window_s=1.0)
        assert proof.looks[-1].at - proof.looks[0].at >= BILLED_EVERY_S


def test_an_instance_beside_it_controls_the_proof(market: Bench) -> None:
    first, second = rent(market), rent(market)
    market.provider.destroy(first)
    proof = prove_absence(market.provider, first, market.clock, deadline_s=600)
    assert {look.control for look in proof.looks} == {second}


def test_a_create_whose_reply_was_lost_is_found_by_its_label(bench: Bench) -> None:
    wanted = request()
    offer = bench.provider.search(QUERY)[0].id
    bench.lose_the_reply_of_a_create()
    with pytest.raises(AmbiguousCreate):
        bench.provider.create(offer, wanted)
    assert [instance.label for instance in bench.provider.instances().instances] == [wanted.label]


def test_a_destroy_that_was_accepted_and_ignored_is_not_proven(bench: Bench) -> None:
    rented = rent(bench)
    bench.ignore_destroys()
    assert bench.provider.destroy(rented) is DestroyReply.ACCEPTED
    with pytest.raises(NotProven, match="still shown"):
        prove_absence(bench.provider, rented, bench.clock, deadline_s=300)
    assert shown(bench, rented).status is InstanceStatus.RUNNING


def test_a_retired_list_is_not_an_empty_one(bench: Bench) -> None:
    rented = rent(bench)
    bench.retire_the_list()
    with pytest.raises(ProviderUnavailable):
        bench.provider.instances()
    with suppress(ProviderUnavailable):  # a machine of one's own is asked for the one as for the other
        bench.provider.destroy(rented)
    with pytest.raises(NotProven):
        prove_absence(bench.provider, rented, bench.clock, deadline_s=300)


def test_a_volume_bills_on_when_its_instance_is_gone(selling: SellsVolumes) -> None:
    assert selling.provider.volumes() == ()
    world, cheapest = selling.emulator.world, selling.provider.search(QUERY)[0]
    about = VolumeRequest(volume_id=cheapest.id, mount_path="/data", create_new=True, size=730.0, name="data")
    rental = world.create(cheapest.id, create_request(volume_info=about))
    rented = InstanceId(rental.id)
    (volume,) = selling.provider.volumes()
    assert (volume.label, volume.machine_id, volume.size_gb) == ("data", cheapest.machine_id, 730.0)
    assert volume.instances == (rented,)
    assert shown(selling, rented).volumes == (volume.id,)
    assert volume.usd_per_hour is not None
    selling.provider.destroy(rented)
    selling.clock.turn(3600.0)
    assert [one.instances for one in selling.provider.volumes()] == [()]
    bills: dict[tuple[str, object], Bill] = {(bill.kind, bill.id): bill for bill in selling.provider.bills()}
    assert set(bills) == {("instance", rented), ("volume", volume.id)}
    assert bills["volume", volume.id].usd == pytest.approx(volume.usd_per_hour, rel=0.02)
    assert bills["volume", volume.id].until > bills["instance", rented].until
    world.delete_volume(volume.id)
    assert selling.provider.volumes() == ()
    assert {bill.kind for bill in selling.provider.bills()} == {"instance", "volume"}


@pytest.mark.parametrize("break_", ["spoil_the_volumes", "revoke_the_key"])
def test_a_list_of_volumes_that_is_not_there_is_not_an_empty_one(selling: SellsVolumes, break_: str) -> None:
    getattr(selling, break_)()
    with pytest.raises(ProviderUnavailable):
        selling.provider.volumes()


def test_a_revoked_key_sees_nothing_and_says_so(bench: Bench) -> None:
    rented = rent(bench)
    bench.revoke_the_key()
    provider = bench.provider
    for ask in (provider.account, provider.instances, provider.bills, lambda: provider.search(QUERY)):
        with pytest.raises(HarnessError):
            ask()
    for act in (
        provider.instance,
        provider.start,
        provider.stop,
        provider.destroy,
        provider.charges,
        provider.pending_prices,
    ):
        with pytest.raises(ProviderUnavailable):
            act(rented)
    with pytest.raises(NotProven):
        prove_absence(provider, rented, bench.clock, deadline_s=300)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Emulator]:
    with running(tmp_path / "vast", scenario=Scenario(rate_limits=True)) as served:
        yield served


def live(provider: Provider) -> None:
    """A short life, every call twice."""
    for _ in range(2):
        provider.account()
        offer = provider.search(QUERY)[0]
        rented = provider.create(offer.id, request())
        for _ in range(2):
            provider.instance(rented)
            provider.instances()
            provider.charges(rented)
            provider.stop(rented)
            provider.start(rented)
        provider.destroy(rented)


def test_the_adapters_pace_keeps_the_services_limits(limited: Emulator) -> None:
    live(VastProvider(Credentials(limited.url, limited.key), limited.clock, patience=IMPATIENT))


def test_without_that_pace_the_service_does_limit(limited: Emulator) -> None:
    hasty = VastProvider(Credentials(limited.url, limited.key), limited.clock, pace=UNPACED, patience=IMPATIENT)
    with pytest.raises(ProviderUnavailable, match="answered 429"):
        live(hasty)


def test_a_read_that_was_limited_is_made_later(limited: Emulator) -> None:
    patient = VastProvider(Credentials(limited.url, limited.key), limited.clock, pace=UNPACED)
    assert [patient.instance(NEVER) for _ in range(3)] == [None, None, None]
