"""A run's world, as every trial gets it: the provider, the instance that was rented for it, the time that is left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from harness.core import durable
from harness.core.errors import AmbiguousCreate, HostKeyChanged, HostUnreachable, ProviderUnavailable
from harness.core.ids import InstanceId
from harness.core.ports import Account, Charge, Clock, DestroyReply, Instance, InstanceStatus, Offer, Provider
from harness.guard import throwaway as guard
from harness.ledger.throwaway import Throwaway, TrialStep
from harness.providers.assumptions import Box, CannotTry, Subject
from harness.providers.scoped_keys import KeyIssuer, Scope, ScopedKey

T = TypeVar("T")

DISK_GB = 10.0
TRAFFIC_BYTES = 1_000_000_000
"""At most so much is taken to come into the box: a small image, and what its SSH server needs."""

_POLL_S = 2.0

OpenBox = Callable[[Instance, Path, Path], Box]
"""Opens the box of an instance with a private key, and a file for the host key: the first that shows is required."""


class OverBudget(Exception):
    """The time that the budget pays for is used up: nothing more is tried, and the instance goes."""


@dataclass(slots=True)
class RunBench:
    """One run at work. Time is monotonic; ``ends_at`` is when the instance must be asked to go, None where none is."""

    subject: Subject
    clock: Clock
    account: Account
    run: Throwaway
    open_box: OpenBox
    rented: Offer | None = None
    began_at: float = 0.0
    ends_at: float | None = None
    ended_at: float | None = None
    lost_reply: AmbiguousCreate | None = None
    """The create that told no number."""
    ran: bool = False
    let_in: bool = False
    wrote: bool = False
    stopped: bool = False
    known_keys: tuple[str, ...] = ()
    replies: list[DestroyReply | ProviderUnavailable] = field(default_factory=list)
    gone_at: float | None = None
    _volumes: tuple[int, ...] | None = None
    _box: Box | None = None
    _attached: bool = False

    @property
    def provider(self) -> Provider:
        """The provider through the port."""
        return self.subject.provider

    @property
    def offer(self) -> Offer:
        """The offer that was rented."""
        if self.rented is None:
            raise CannotTry("nothing was rented")
        return self.rented

    def number(self) -> InstanceId:
        """The instance's number."""
        if self.run.instance_id is None:
            raise CannotTry("nothing was rented")
        return self.run.instance_id

    def shown(self) -> Instance:
        """The instance, as the provider shows it now."""
        found = self.provider.instance(self.number())
        if found is None:
            raise CannotTry("the provider does not show the instance")
        return found

    def running(self) -> Instance:
        """The same, once it runs."""
        if not self.ran:
            raise CannotTry("the instance did not run")
        found = self.shown()
        if found.status is not InstanceStatus.RUNNING:
            raise CannotTry(f"the instance is {found.status}")
        return found

    def until(self, look: Callable[[], T | None], limit_s: float) -> tuple[T | None, float]:
        """The first answer that is not None, and after how many seconds; None once ``limit_s`` have passed."""
        began = self.clock.monotonic()
        while True:
            self.require_time()
            found, passed = look(), self.clock.monotonic() - began
            if found is not None or passed >= limit_s:
                return found, passed
            self.clock.sleep(min(_POLL_S, limit_s - passed))

    def require_time(self) -> None:
        """Raise OverBudget once the time that the budget pays for is used up."""
        if self.ends_at is not None and self.clock.monotonic() >= self.ends_at:
            raise OverBudget("the budget is used up")

    def rented_for(self) -> float:
        """Seconds since the create."""
        return self.clock.monotonic() - self.began_at

    def existed_for(self) -> float:
        """Seconds from the create until it was proven to be gone."""
        return (self.gone_at or self.clock.monotonic()) - self.began_at

    def volumes_before(self) -> tuple[int, ...]:
        """Every volume of the account before anything was rented."""
        if self._volumes is None:
            if self.rented is not None:
                raise CannotTry("the volumes before it could not be listed")
            self._volumes = tuple(one.id for one in self.provider.volumes())
        return self._volumes

    # --- the box ------------------------------------------------------------------------------

    def read_host_keys(self, *, newest: bool = False) -> tuple[str, ...]:
        """Host keys that the provider shows; none as long as it cannot. Those of the first start are kept."""
        self.running()
        try:
            keys = self.provider.host_keys(self.number(), newest=newest)
        except ProviderUnavailable:
            return ()
        self.known_keys = self.known_keys or keys
        return keys

    def try_login(self, *, attach: bool = True) -> bool | None:
        """True once the box lets this run's key in; None as long as it does not."""
        instance = self.running()
        if attach and not self._attached:
            self.provider.attach_key(instance.id, self._public_key())
            self._attached = True
        self.forget_box()
        self._box = self.open_box(instance, self._key_file, self._pin)
        try:
            self.let_in = self._box.run(["true"]).status == 0
        except HostUnreachable as error:
            if isinstance(error, HostKeyChanged):  # a stranger: waiting does not make it a friend
                raise
            self.let_in = False
        return self.let_in or None

    def box(self) -> Box:
        """The box, logged in to with the key of this run alone."""
        if self._box is None or not self.let_in:
            raise CannotTry("the box did not let us in")
        return self._box

    def shown_host_key(self) -> str:
        """The host key that the box shows, ``type base64``."""
        return " ".join(self.box().host_key().split()[:2])

    def boxes(self, route: str, count: int) -> tuple[Box, ...]:
        """So many logins of their own over one route; raises CannotTry where the instance has no such route."""
        instance = self.running()
        ways = tuple(one for one in instance.endpoints if one.route == route)
        if not ways or not self.let_in:
            raise CannotTry("the box did not let us in" if ways else f"the instance has no {route} address")
        over = replace(instance, endpoints=ways)
        return tuple(self.open_box(over, self._key_file, self._pin) for _ in range(count))

    def forget_box(self) -> None:
        """Close the connection."""
        if self._box is not None:
            self._box.close()
            self._box = None

    def forget_host_key(self) -> None:
        """Accept another host key from here on: the container starts anew."""
        self.forget_box()
        durable.remove(self._pin)

    def forget_key(self) -> None:
        """Delete the key pair of this run: what it opened is gone."""
        for path in (self._key_file, self._key_file.with_suffix(".pub")):
            durable.remove(path)

    @property
    def _key_file(self) -> Path:
        return self.run.folder / "id_ed25519"

    @property
    def _pin(self) -> Path:
        return self.run.folder / "host-key"

    def _public_key(self) -> str:
        from harness.remote.ssh.keys import generate_keypair  # noqa: PLC0415 - loads cryptography

        return generate_keypair(self._key_file)

    # --- scoped keys --------------------------------------------------------------------------

    @contextmanager
    def scoped_key(self, scope: Scope) -> Iterator[tuple[KeyIssuer, ScopedKey]]:
        """A key of a scope while the block runs; it is deleted after it."""
        if self.subject.keys is None:
            raise CannotTry("this provider issues no scoped keys")
        issuer, by = self.subject.keys
        self.run.record(TrialStep.KEYS_INTENDED)
        try:
            yield issuer, issuer.issue(by, scope, f"gsh-{scope}-{self.run.nonce}")
        finally:
            revoke_keys(self.subject, self.run)

    # --- money --------------------------------------------------------------------------------

    def charges(self) -> tuple[Charge, ...]:
        """Charges of the instance so far."""
        return self.provider.charges(self.number())

    def charged(self) -> float:
        """The sum of its charges so far (USD)."""
        listed = self.charges()
        if not listed:
            raise CannotTry("no charge is listed")
        return sum(one.usd for one in listed)

    def prove_unbilled(self) -> float:
        """The sum that it was charged in all (USD), once it grows no more; raises NotProven."""
        return guard.prove_unbilled(self.provider, self.run, self.clock).usd

    @property
    def gone_after_s(self) -> float:
        """Seconds from the first request to the proof that it is gone."""
        return (self.gone_at or 0.0) - (self.ended_at or 0.0)


def revoke_keys(subject: Subject, run: Throwaway) -> None:
    """Delete every scoped key that a run has made, also one whose reply was lost."""
    if not run.keeps_keys or subject.keys is None:
        return
    issuer, by = subject.keys
    names = {f"gsh-{scope}-{run.nonce}" for scope in Scope}
    for number, name in issuer.named(by).items():
        if name in names:
            issuer.revoke(by, number)
    run.record(TrialStep.KEYS_REVOKED)
