"""Everything the emulated service knows: offers, instances, keys, money. One lock; no sockets, no processes.

Time-driven changes happen in ``settle``, which every entry point calls first: the
world is always as old as its clock says. Charges are booked up to each change at
the rates of the state before it.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from harness.emulator import market, saved
from harness.emulator.clock import TurnableClock
from harness.emulator.faults import FaultBook
from harness.emulator.ledger import Ledger
from harness.emulator.market import Ask
from harness.emulator.refusal import Refusal, invalid, no_such_instance
from harness.emulator.rental import GPU_BILLED, AttachedKey, Rental, Status, Timing, latest_end, next_change
from harness.emulator.scenario import CALM, LifeEvent, Scenario
from harness.ports import Json

FIRST_INSTANCE_ID = 24_000_001
MIN_DISK_GB = 8.0
MAX_LABEL = 256
MAX_ONSTART = 4096


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the account, or one instance with its own key."""

    instance_id: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a create asks for, read and checked."""

    image: str
    disk_gb: float
    label: str | None
    onstart: str
    env: dict[str, str]
    runtype: str
    bid: float | None
    cancel_unavail: bool


class World:
    """The emulated service's state. Every method may be called from any thread; refusals are ``Refusal``."""

    def __init__(
        self,
        state_dir: Path,
        clock: TurnableClock,
        scenario: Scenario = CALM,
        free_port: Callable[[], int] = lambda: 0,
    ) -> None:
        self.clock = clock
        self.state_dir = state_dir
        self.scenario = scenario
        self.timing = replace(Timing(), **scenario.pace.model_dump(exclude_none=True))
        self.faults = FaultBook((*scenario.api, *scenario.ssh, *scenario.life))
        self.lock = threading.RLock()
        self._free_port = free_port
        self.rentals: dict[int, Rental] = {}
        self.asks: dict[int, Ask] = {ask.id: ask for ask in _market(scenario)}
        self.ledger = Ledger()
        self.key = secrets.token_hex(32)
        self.account_keys: tuple[AttachedKey, ...] = ()
        self.audit: list[dict[str, Json]] = []
        self.credit_given = scenario.account.credit_usd
        self.broke_at: float | None = None
        self._next_id = FIRST_INSTANCE_ID
        self._next_key_id = 1
        self._recall()

    # --- looking -----------------------------------------------------------------------------

    def caller(self, key: str | None) -> Caller:
        """Whose key that is; refuses without one, and refuses an unknown one as the service does."""
        if not key:
            raise Refusal(403, "auth_error", "Invalid user key")
        with self.lock:
            if secrets.compare_digest(key.encode(), self.key.encode()):
                return Caller()
            for rental in self.rentals.values():
                if secrets.compare_digest(key.encode(), rental.api_key.encode()):
                    return Caller(rental.id)
        raise Refusal(self.scenario.bad_key_status, "auth_error", "Invalid user key")

    def rental(self, instance_id: int, caller: Caller = Caller()) -> Rental:
        """One instance that the caller may touch; refuses with no_such_instance."""
        with self.lock:
            self.settle()
            found = self.rentals.get(instance_id)
            if found is None or caller.instance_id not in {None, instance_id}:
                raise no_such_instance(instance_id)
            return found

    def visible(self) -> list[Rental]:
        """The instances that listings show now, by id."""
        with self.lock:
            now = self.settle()
            return [r for _, r in sorted(self.rentals.items()) if now >= r.created_at + self.timing.hidden_s]

    def credit(self) -> float:
        """USD left."""
        with self.lock:
            self.settle()
            return self.credit_given - self.ledger.total()

    def search(self, query: Mapping[str, Json]) -> list[dict[str, Json]]:
        """Offers as rows."""
        with self.lock:
            return market.search(self.asks.values(), query, self.settle())

    # --- changing ----------------------------------------------------------------------------

    def create(self, ask_id: int, wanted: Wanted) -> Rental:
        """Rent an offer; it leaves the market at once."""
        with self.lock:
            now = self.settle()
            ask = self.asks.get(ask_id)
            if ask is None:
                raise Refusal(404, "no_such_ask", f"error 404/3603: no_such_ask Instance type by id {ask_id}")
            if ask.rented:
                raise Refusal(410, "no_such_ask", f"error 404/3603: no_such_ask {ask_id} is not available")
            if self.credit() <= 0:
                raise Refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
            if wanted.bid is not None and wanted.bid < ask.min_bid:
                raise Refusal(400, "invalid_price", f"bid below the minimum of {ask.min_bid}", ask_id=ask_id)
            self.asks[ask_id] = replace(ask, rented=True)
            rental = Rental(
                id=self._next_id,
                ask=ask,
                api_key=secrets.token_hex(32),
                label=wanted.label,
                image=wanted.image,
                disk_gb=wanted.disk_gb,
                runtype=wanted.runtype,
                onstart=wanted.onstart,
                env=dict(wanted.env),
                created_at=now,
                boot_at=now,
                end_at=latest_end(ask, now),
                billed_until=now,
                ssh_port=self._free_port(),
                proxy_port=self._free_port(),
                price_per_hour=ask.dph_base if wanted.bid is None else wanted.bid,
                is_bid=wanted.bid is not None,
                keys=self.account_keys,
            )
            self._next_id += 1
            return self._put(rental)

    def start(self, instance_id: int) -> None:
        """Start a stopped instance; refuses one whose contract has ended or whose account is empty."""
        with self.lock:
            rental, now = self.rental(instance_id), self.settle()
            if now >= rental.end_at:
                raise Refusal(400, "contract_ended", "The contract has ended; the instance cannot be started.")
            if self.credit() <= 0:
                raise Refusal(400, "insufficient_credit", "Your account lacks credit; see the billing page.")
            if rental.intended is Status.RUNNING and rental.status is not Status.STOPPED:
                return
            self._put(replace(rental, status=Status.LOADING, intended=Status.RUNNING, boot_at=now, held_at=None, status_msg=""))

    def stop(self, instance_id: int, why: str = "") -> None:
        """Stop it: processes end, the disk stays and is billed."""
        with self.lock:
            rental = self.rental(instance_id)
            self._put(
                replace(rental, status=Status.STOPPED, intended=Status.STOPPED, running_since=None, status_msg=why)
            )

    def label(self, instance_id: int, label: str) -> None:
        """Rename it."""
        with self.lock:
            self._put(replace(self.rental(instance_id), label=_label(label)))

    def reboot(self, instance_id: int, *, wipe: bool = False, **changes: Any) -> None:
        """Restart with a new port and host key; ``wipe`` also loses the container's data."""
        with self.lock:
            rental, now = self.rental(instance_id), self.settle()
            self._put(
                replace(
                    rental,
                    status=Status.REBOOTING,
                    intended=Status.RUNNING,
                    boot_at=now,
                    held_at=None,
                    running_since=None,
                    identity=rental.identity + 1,
                    wipes=rental.wipes + wipe,
                    ssh_port=self._free_port(),
                    proxy_port=self._free_port(),
                    **changes,
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
            rental = replace(self.rental(instance_id), status=status, held_at=status, status_msg=message)
            self._put(rental if rental.container_up else replace(rental, running_since=None))

    def outbid(self, instance_id: int) -> None:
        """Somebody pays more: stopped, the data is kept."""
        self.stop(instance_id, "outbid: a higher bid took the machine")

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
            self._put(replace(rental, gone_at=now + self.timing.destroy_lag_s, running_since=None))
            self.settle()

    def attach_key(self, instance_id: int, public_key: str) -> AttachedKey:
        """Let a public key log in, after the time such a thing takes."""
        with self.lock:
            rental = self.rental(instance_id)
            key = self._new_key(public_key)
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
        with self.lock:
            key = self._new_key(public_key)
            self.account_keys = (*self.account_keys, key)
            self.save()
            return key

    def drop_account_key(self, key_id: int) -> None:
        """Forget a key of the account."""
        with self.lock:
            if all(key.id != key_id for key in self.account_keys):
                raise Refusal(400, "invalid_args", f"SSH key {key_id} not found.")
            self.account_keys = tuple(key for key in self.account_keys if key.id != key_id)
            self.save()

    def traffic(self, instance_id: int, *, to_box: int, from_box: int) -> None:
        """Book bytes that went over the wire."""
        with self.lock:
            rental = self.rentals.get(instance_id)
            if rental is not None and (to_box or from_box):
                now = self.clock.now()
                self.ledger.traffic(instance_id, "bwd", now, to_box, rental.ask.inet_down_cost)
                self.ledger.traffic(instance_id, "bwu", now, from_box, rental.ask.inet_up_cost)

    def set_credit(self, usd: float) -> None:
        """Make so much credit be left now."""
        with self.lock:
            self.settle()
            self.credit_given = usd + self.ledger.total()
            self.save()

    def note(self, action: str, **details: Json) -> None:
        """Write a line into the audit log; bounded."""
        with self.lock:
            self.audit.append({"created_at": self.clock.now(), "api_route": action, "args": dict(details)})
            del self.audit[:-1000]

    # --- time --------------------------------------------------------------------------------

    def settle(self) -> float:
        """Let everything happen that is due; returns the time it is."""
        with self.lock:
            now = self.clock.now()
            changed = False
            while (due := self._next_due(now)) is not None:
                when, rental, status = due
                self._book(rental.id, when)
                changed = True
                if status is None:
                    self._remove(rental.id)
                else:
                    self._enter(self.rentals[rental.id], status, when)
            for instance_id in list(self.rentals):
                self._book(instance_id, now)
            changed |= self._empty_account(now)
            if changed:
                self.save()
            return now

    def _next_due(self, now: float) -> tuple[float, Rental, Status | None] | None:
        due = [
            (change[0], rental.id, rental, change[1])
            for rental in self.rentals.values()
            if (change := next_change(rental, self.timing)) is not None and change[0] <= now
        ]
        if not due:
            return None
        when, _, rental, status = min(due, key=lambda item: item[:2])
        return when, rental, status

    def _enter(self, rental: Rental, status: Status, when: float) -> None:
        if status is Status.RUNNING:
            rental = replace(rental, status=status, running_since=when, boots=rental.boots + 1, status_msg="")
        elif status is Status.STOPPED:
            rental = replace(
                rental, status=status, intended=status, running_since=None, status_msg="contract ended"
            )
        else:
            rental = replace(rental, status=status)
        self.rentals[rental.id] = rental

    def _book(self, instance_id: int, until: float) -> None:
        rental = self.rentals[instance_id]
        start = rental.billed_until
        if until <= start:
            return
        self.ledger.hours(instance_id, "disk", start, until, rental.ask.storage_per_hour(rental.disk_gb))
        if rental.status in GPU_BILLED:
            self.ledger.hours(instance_id, "gpu", start, until, rental.price_per_hour)
        self.rentals[instance_id] = replace(rental, billed_until=until)

    def _empty_account(self, now: float) -> bool:
        if self.credit_given - self.ledger.total() > 0:
            self.broke_at = None
            return False
        changed = False
        self.broke_at = self.broke_at or now
        if now >= self.broke_at + self.scenario.account.grace_s:
            changed = bool(self.rentals)
            for instance_id in list(self.rentals):
                self._remove(instance_id)
        for rental in list(self.rentals.values()):
            if rental.intended is Status.RUNNING:
                self.rentals[rental.id] = replace(
                    rental, status=Status.STOPPED, intended=Status.STOPPED, running_since=None, status_msg="no credit"
                )
                changed = True
        return changed

    def _remove(self, instance_id: int) -> None:
        rental = self.rentals.pop(instance_id)
        if rental.ask.id in self.asks:
            del self.asks[rental.ask.id]
        again = replace(rental.ask, id=rental.ask.id + 100_000, rented=False)
        self.asks[again.id] = again

    # --- events of the scenario --------------------------------------------------------------

    def happen(self, instance_id: int, event: LifeEvent) -> None:
        """Let an event of the scenario's life befall an instance; those that concern the box's files are not ours."""
        if event.do == "become":
            self.become(instance_id, event.status, event.status_msg)
        elif event.do == "stop":
            self.stop(instance_id, event.status_msg)
        elif event.do == "outbid":
            self.outbid(instance_id)
        elif event.do == "restart":
            self.restart_container(instance_id)
        elif event.do == "reboot":
            self.reboot(instance_id)
        elif event.do == "credit":
            self.set_credit(event.usd)

    # --- memory ------------------------------------------------------------------------------

    def save(self) -> None:
        """Write the state down."""
        with self.lock:
            saved.write(
                self.state_dir,
                {
                    "now": self.clock.now(),
                    "key": self.key,
                    "next_id": self._next_id,
                    "next_key_id": self._next_key_id,
                    "credit_given": self.credit_given,
                    "broke_at": self.broke_at,
                    "asks": [asdict(ask) for ask in self.asks.values()],
                    "rentals": [saved.rental_to_json(rental) for rental in self.rentals.values()],
                    "ledger": [asdict(entry) for entry in self.ledger.entries],
                    "account_keys": [asdict(key) for key in self.account_keys],
                    "audit": self.audit,
                    "faults": self.faults.counts(),
                },
            )

    def _recall(self) -> None:
        data = saved.read(self.state_dir)
        if data is None:
            self.save()
            return
        self.clock.turn(max(0.0, data["now"] - self.clock.now()))
        self.key = data["key"]
        self._next_id = data["next_id"]
        self._next_key_id = data["next_key_id"]
        self.credit_given = data["credit_given"]
        self.broke_at = data["broke_at"]
        self.asks = {ask["id"]: Ask(**ask) for ask in data["asks"]}
        self.rentals = {row["id"]: saved.rental_from_json(row) for row in data["rentals"]}
        self.ledger = Ledger.of(saved.entry_from_json(entry) for entry in data["ledger"])
        self.account_keys = tuple(AttachedKey(**key) for key in data["account_keys"])
        self.audit = data["audit"]
        self.faults.recall(tuple(pair) for pair in data["faults"])

    def _put(self, rental: Rental) -> Rental:
        if rental.id in self.rentals:
            self._book(rental.id, self.clock.now())
            rental = replace(rental, billed_until=self.rentals[rental.id].billed_until)
        self.rentals[rental.id] = rental
        self.save()
        return rental

    def _new_key(self, public_key: str) -> AttachedKey:
        key = AttachedKey(self._next_key_id, public_key, self.clock.now())
        self._next_key_id += 1
        return key


def _market(scenario: Scenario) -> list[Ask]:
    own = [
        Ask(id=7_200_001 + at, machine_id=31_001 + at, **offer.model_dump()) for at, offer in enumerate(scenario.offer)
    ]
    return own if scenario.market == "own" else [*market.DEFAULT_MARKET, *own]


def _label(label: str) -> str:
    if len(label) > MAX_LABEL:
        raise invalid(f"label is longer than {MAX_LABEL} characters")
    return label
