"""The emulated service: offers, instances, keys and money behind one lock; no sockets, no processes.

Changes that time brings happen in ``settle``, which every entry point calls first: the
world is always as old as its clock says.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from harness.core.ids import new_secret
from harness.core.ports import Json
from harness.emulator import market, state
from harness.emulator.aging import AgingRules, age, book, book_volume, stopped
from harness.emulator.clock import TurnableClock
from harness.emulator.faults import FaultBook
from harness.emulator.market import Ask
from harness.emulator.permissions import ApiKey
from harness.emulator.refusal import Refusal, invalid, no_such_instance
from harness.emulator.rental import AttachedKey, RentedInstance, Status
from harness.emulator.request import InstanceRequest, VolumeRequest
from harness.emulator.scenario import CALM, Scenario

MAX_AUDIT = 1000
FIRST_PORT = 20_000
"""Without boxes a world needs no real ports: it counts."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Caller of the API: the account with one of its keys, or one instance with its own."""

    key: ApiKey
    instance_id: int | None = None

    def may_touch(self, instance_id: int) -> bool:
        """True for an instance that is the caller's to act on."""
        return self.instance_id in {None, instance_id}


class World:
    """The service's state and what can be done to it, from any thread. What it refuses it refuses with ``Refusal``."""

    def __init__(
        self,
        state_dir: Path,
        clock: TurnableClock,
        scenario: Scenario = CALM,
        free_port: Callable[[], int] | None = None,
    ) -> None:
        self.state_dir = state_dir
        self.clock = clock
        self.scenario = scenario
        self.timing = scenario.pace
        self.faults = FaultBook((*scenario.api, *scenario.ssh, *scenario.life))
        self.lock = threading.RLock()
        self.disk_used: dict[int, int] = {}
        """Bytes on each box's disk, as they were last measured."""
        self._rules = AgingRules(self.timing, scenario.account.grace_s)
        self._free_port = free_port or count(FIRST_PORT).__next__
        known = state.read(state_dir)
        if known is None:
            own = market.numbered(scenario.offer, 7_200_001, 31_001)
            offered = own if scenario.market == "own" else (*market.DEFAULT_MARKET, *own)
            self.state = state.State(credit_given=scenario.account.credit_usd, asks={ask.id: ask for ask in offered})
        else:
            self.state, written_at = known
            clock.turn(max(0.0, written_at - clock.now()))
            self.faults.recall(self.state.faults)
        self.save()

    # --- looking -----------------------------------------------------------------------------

    def caller(self, key: str | None) -> Caller:
        """Caller to whom a key belongs; refuses none with 403, an unknown one as the scenario says (404 or 401)."""
        if not key:
            raise Refusal(403, "auth_error", "Invalid user key")
        with self.lock:
            callers = [Caller(known) for known in self.state.api_keys().values()]
            callers += [Caller(ApiKey(0, one.api_key), one.id) for one in self.state.rentals.values()]
        for caller in callers:
            if hmac.compare_digest(key.encode(errors="replace"), caller.key.secret.encode()):
                return caller
        raise Refusal(self.scenario.bad_key_status, "auth_error", "Invalid user key")

    def rental(self, instance_id: int, caller: Caller | None = None) -> RentedInstance:
        """One instance that the caller may touch; refuses with no_such_instance."""
        with self.lock:
            self.settle()
            found = self.state.rentals.get(instance_id)
            if found is None or (caller is not None and not caller.may_touch(instance_id)):
                raise no_such_instance(instance_id)
            return found

    def rentals(self) -> dict[int, RentedInstance]:
        """Every instance there is, shown or not."""
        with self.lock:
            self.settle()
            return dict(self.state.rentals)

    def visible(self) -> list[RentedInstance]:
        """The instances that the API shows now, by id."""
        with self.lock:
            now = self.settle()
            rentals = sorted(self.state.rentals.items())
            return [rental for _, rental in rentals if now >= rental.created_at + self.timing.hidden_s]

    def credit(self) -> float:
        """USD left."""
        with self.lock:
            self.settle()
            return self.state.credit()

    def search(self, query: Mapping[str, Json], *, volumes: bool = False) -> list[dict[str, Json]]:
        """Offers as rows, of instances or of volumes."""
        with self.lock:
            return market.search(self.state.asks.values(), query, self.settle(), volumes=volumes)

    # --- instances ---------------------------------------------------------------------------

    def create(self, ask_id: int, request: InstanceRequest) -> RentedInstance:
        """Rent an offer; it leaves the market at once."""
        with self.lock:
            now = self.settle()
            ask = self._rentable(ask_id, request)
            volume = self._volume_for(ask, request.volume_info) if request.volume_info else None
            self.state.asks[ask_id] = replace(ask, rented=True)
            ssh_port, proxy_port = self._two_ports()
            rental = RentedInstance(
                id=self.state.new_id(),
                ask=ask,
                api_key=new_secret(),
                label=request.label,
                image=request.image,
                disk_gb=request.disk,
                runtype=request.runtype,
                onstart=request.onstart,
                env=request.env,
                created_at=now,
                boot_at=now,
                end_at=now + ask.duration_days * market.DAY_S,
                billed_until=now,
                ssh_port=ssh_port,
                proxy_port=proxy_port,
                price_per_hour=ask.dph_base if request.price is None else request.price,
                is_bid=request.price is not None,
                keys=self.state.account_keys,
                volume_id=volume.id if volume else None,
                mount_path=request.volume_info.mount_path if request.volume_info else "",
                template_hash_id=request.template_hash_id,
            )
            return self._put(rental)

    def start(self, instance_id: int) -> None:
        """Start a stopped instance; refuses one whose contract has ended or whose account is empty."""
        with self.lock:
            rental, now = self.rental(instance_id), self.settle()
            if now >= rental.end_at:
                raise Refusal(400, "contract_ended", "The contract has ended; the instance cannot be started.")
            self._needs_credit()
            if rental.status is Status.STOPPED or rental.intended is not Status.RUNNING:
                self._put(_booting(rental, Status.LOADING, now))

    def stop(self, instance_id: int, why: str = "") -> None:
        """Stop it: processes end, the disk stays and is billed."""
        with self.lock:
            rental = stopped(self.rental(instance_id), why)
            self._put(replace(rental, wipes=rental.wipes + (not self.scenario.stop_keeps_disk)))

    def label(self, instance_id: int, label: str) -> None:
        """Rename it."""
        with self.lock:
            self._put(replace(self.rental(instance_id), label=label))

    def reboot(self, instance_id: int, *, wipe: bool = False) -> None:
        """Restart with a new port and host key; ``wipe`` also loses the container's data."""
        with self.lock:
            rental = self.rental(instance_id)
            ssh_port, proxy_port = self._two_ports()
            self._put(
                replace(
                    _booting(rental, Status.REBOOTING, self.settle()),
                    identity=rental.identity + 1,
                    wipes=rental.wipes + wipe,
                    ssh_port=ssh_port,
                    proxy_port=proxy_port,
                )
            )

    def restart_container(self, instance_id: int) -> None:
        """Every process dies and onstart runs again; address, host key and disk stay."""
        with self.lock:
            rental = self.rental(instance_id)
            self._put(replace(rental, boots=rental.boots + 1, running_since=self.clock.now()))

    def become(self, instance_id: int, status: Status, message: str = "") -> None:
        """Force a state in which it stays: exited, offline, unknown, loading for ever."""
        with self.lock:
            rental = self.rental(instance_id)
            since = rental.running_since if status is Status.RUNNING else None
            self._put(replace(rental, status=status, held_at=status, status_msg=message, running_since=since))

    def extend(self, instance_id: int, price: float, end_at: float) -> None:
        """Go on for another price (USD per hour) until another end."""
        with self.lock:
            self._put(replace(self.rental(instance_id), price_per_hour=price, end_at=end_at))

    def bid(self, instance_id: int, price: float) -> None:
        """Change the bid of an interruptible instance."""
        with self.lock:
            rental = self.rental(instance_id)
            if not rental.is_bid:
                raise invalid("only interruptible instances have a bid")
            self._put(replace(rental, price_per_hour=price))

    def destroy(self, instance_id: int) -> None:
        """Delete it and its disk, now or after the scenario's lag; refuses an id that is not there."""
        with self.lock:
            rental, now = self.rental(instance_id), self.settle()
            if rental.gone_at is not None:
                raise no_such_instance(instance_id)
            self._put(replace(rental, gone_at=now + self.timing.destroy_lag_s))
            self.settle()

    # --- keys, volumes, money ----------------------------------------------------------------

    def attach_key(self, instance_id: int, public_key: str) -> AttachedKey:
        """Let a public key log in, after the time such a thing takes."""
        with self.lock:
            rental = self.rental(instance_id)
            key = self.state.new_key(public_key, self.clock.now())
            self._put(replace(rental, keys=(*rental.keys, key)))
            return key

    def detach_key(self, instance_id: int, key_id: int) -> None:
        """Take a key away again."""
        with self.lock:
            rental = self.rental(instance_id)
            kept = tuple(key for key in rental.keys if key.id != key_id)
            if len(kept) == len(rental.keys):
                raise Refusal(404, "no_such_ssh_key", f"SSH key {key_id} is not attached.")
            self._put(replace(rental, keys=kept))

    def add_account_key(self, public_key: str) -> AttachedKey:
        """A key of the account is attached to every instance created from now on."""
        with self.changing():
            key = self.state.new_key(public_key, self.clock.now())
            self.state.account_keys = (*self.state.account_keys, key)
            return key

    def drop_account_key(self, key_id: int) -> None:
        """Forget a key of the account."""
        with self.changing():
            kept = tuple(key for key in self.state.account_keys if key.id != key_id)
            if len(kept) == len(self.state.account_keys):
                raise invalid(f"SSH key {key_id} not found.")
            self.state.account_keys = kept

    def create_volume(self, ask_id: int, size_gb: float, name: str) -> state.RentedVolume:
        """Rent storage on an offer's machine; it is billed until it is deleted, whatever becomes of instances."""
        with self.changing():
            now = self.settle()
            ask = self.state.asks.get(ask_id)
            if ask is None:
                raise Refusal(404, "no_such_ask", f"error 404/3603: no_such_ask {ask_id}")
            price = ask.storage_per_hour(size_gb)
            volume = state.RentedVolume(self.state.new_id(), ask.machine_id, name, size_gb, price, now, now)
            self.state.volumes[volume.id] = volume
            return volume

    def delete_volume(self, volume_id: int) -> None:
        """Delete a volume that no instance uses; its charges end."""
        with self.changing():
            now = self.settle()
            if volume_id not in self.state.volumes:
                raise Refusal(404, "no_such_volume", f"Volume {volume_id} not found.")
            if users := self.state.users_of(volume_id):
                raise invalid(f"Volume {volume_id} is used by instances {users}: destroy them first.")
            book_volume(self.state, volume_id, now)
            del self.state.volumes[volume_id]

    def traffic(self, instance_id: int, *, to_box: int, from_box: int) -> None:
        """Charge bytes that went over the wire, in whatever state the instance is."""
        with self.lock:
            rental = self.state.rentals.get(instance_id)
            if rental is not None:
                now, charges = self.clock.now(), self.state.charges
                charges.traffic(instance_id, "bwd", now, to_box, rental.ask.inet_down_cost)
                charges.traffic(instance_id, "bwu", now, from_box, rental.ask.inet_up_cost)

    def set_credit(self, usd: float) -> None:
        """Make so much credit be left now."""
        with self.changing():
            self.settle()
            self.state.credit_given = usd + self.state.charges.total()
            self.settle()

    def note(self, route: str) -> None:
        """Write a line into the audit log; bounded."""
        with self.lock:
            self.state.audit.append({"created_at": self.clock.now(), "api_route": route, "args": {}})
            del self.state.audit[:-MAX_AUDIT]

    # --- time and memory ---------------------------------------------------------------------

    def settle(self) -> float:
        """Let everything happen that is due; returns the time it is."""
        with self.lock:
            now = self.clock.now()
            if age(self.state, now, self._rules):
                self.save()
            return now

    @contextmanager
    def changing(self) -> Iterator[None]:
        """The lock while the state is changed, which is written down at the end; a refusal writes nothing."""
        with self.lock:
            yield
            self.save()

    def save(self) -> None:
        """Write the state down."""
        with self.lock:
            self.state.faults = self.faults.counts()
            state.write(self.state_dir, self.state, self.clock.now())

    def _put(self, rental: RentedInstance) -> RentedInstance:
        known = self.state.rentals
        if rental.id in known:
            book(self.state, rental.id, self.clock.now())
            rental = replace(rental, billed_until=known[rental.id].billed_until)
        known[rental.id] = rental
        self.save()
        return rental

    def _rentable(self, ask_id: int, request: InstanceRequest) -> Ask:
        ask = self.state.asks.get(ask_id)
        if ask is None:
            raise Refusal(404, "no_such_ask", f"error 404/3603: no_such_ask Instance type by id {ask_id}")
        if ask.rented:
            raise Refusal(410, "no_such_ask", f"error 404/3603: no_such_ask {ask_id} is not available", ask_id=ask_id)
        self._needs_credit()
        if request.price is not None and request.price < ask.min_bid:
            raise Refusal(400, "invalid_price", f"the bid is below the minimum of {ask.min_bid}", ask_id=ask_id)
        if request.disk > ask.disk_space:
            raise invalid(f"disk is larger than the {ask.disk_space:g} GB that the machine has")
        return ask

    def _volume_for(self, ask: Ask, request: VolumeRequest) -> state.RentedVolume:
        """The volume of a new instance; refuses one that lies on another machine."""
        offer = (
            self.state.asks.get(request.volume_id) if request.create_new else self.state.volumes.get(request.volume_id)
        )
        if offer is None:
            raise Refusal(404, "no_such_volume", f"Volume {request.volume_id} not found.")
        if offer.machine_id != ask.machine_id:
            raise invalid(f"volume {request.volume_id} is not on machine {ask.machine_id}")
        if isinstance(offer, state.RentedVolume):
            return offer
        return self.create_volume(request.volume_id, request.size, request.name)

    def _two_ports(self) -> tuple[int, int]:
        known = self.state.rentals.values()
        taken = {port for rental in known for port in (rental.ssh_port, rental.proxy_port)}
        found: list[int] = []
        while len(found) < 2:
            port = self._free_port()
            if port not in taken:
                taken.add(port)
                found.append(port)
        return found[0], found[1]

    def _needs_credit(self) -> None:
        if self.state.credit() <= 0:
            raise Refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")


def _booting(rental: RentedInstance, status: Status, now: float) -> RentedInstance:
    meant = replace(rental, intended=Status.RUNNING)
    if rental.status is Status.OFFLINE:
        return meant  # the host does not hear of it
    return replace(meant, status=status, boot_at=now, held_at=None, running_since=None, status_msg="")
